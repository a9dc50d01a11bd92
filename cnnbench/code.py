"""Which code a run is made with, and a copy of it that later edits do not reach."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cnnbench.options import CONF_DIR

PACKAGE = Path(__file__).parent


def fingerprint(plugins: Sequence[str] = ()) -> str:
    """One text for the package, its configs and the user's own files."""
    digest = hashlib.sha256()
    for name, path in _sources(plugins):
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def stored(code: str, cache: Path) -> Path | None:
    """The copy of that code; None where this user has none."""
    copy = cache / "code" / code
    return copy if copy.is_dir() else None


def store(plugins: Sequence[str], cache: Path) -> Path:
    """Copy the code once, to be put first on PYTHONPATH.

    It lies in the user's own cache and not in the sweep's folder: what comes with a folder from somebody
    else must not be run.
    """
    code = fingerprint(plugins)
    found = stored(code, cache)
    if found is not None:
        return found
    target = cache / "code" / code
    temporary = target.with_name(f".{code}.{os.getpid()}.tmp")
    try:
        for name, path in _sources(plugins):
            copy = temporary / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _sources(plugins: Sequence[str]) -> list[tuple[str, Path]]:
    files = [(f"cnnbench/{path.relative_to(PACKAGE)}", path) for path in PACKAGE.rglob("*.py")]
    files += [(f"cnnbench/conf/{path.relative_to(CONF_DIR)}", path) for path in CONF_DIR.rglob("*.yaml")]
    # A plugin is imported by its name, so a copy that comes first on the path hides the original.
    files += [(Path(plugin).name, Path(plugin)) for plugin in plugins if plugin.endswith(".py")]
    return sorted(files)
