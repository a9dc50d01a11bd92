"""Which code a run is made with, and a copy of it that later edits do not reach."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from cnnbench.config.groups import CONF_DIR
from cnnbench.errors import CnnbenchError

PACKAGE = Path(__file__).parents[1]
CODE = (".py", ".pyi", ".j2", ".css", ".js")


def fingerprint(plugins: Sequence[str] = ()) -> str:
    """One text for the package, its configs and the user's own files."""
    digest = hashlib.sha256()
    for name, path in _sources(plugins):
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def stored(code: str, cache: Path) -> Path | None:
    """The copy of that code; None where this user has none.

    Args:
        code: a fingerprint, maybe from somebody else's sweep: anything but a name could lead elsewhere.
        cache: may be shared; a copy that somebody else could change is not run.
    """
    copy = cache / "code" / code
    if not re.fullmatch(r"[0-9a-f]{16}", code) or not copy.is_dir():
        return None
    return copy if all(_is_mine(folder) for folder in (copy.parent, copy)) else None


def _is_mine(folder: Path) -> bool:
    status = folder.stat()
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & stat.S_IWOTH)


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
        except OSError as error:
            if stored(code, cache) is None:  # else another process was faster, with the same
                raise CnnbenchError(
                    f"cannot keep the code in {target}: {error.strerror}",
                    "set CNNBENCH_CACHE to a folder that only you can write",
                ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _sources(plugins: Sequence[str]) -> list[tuple[str, Path]]:
    files = [
        (f"cnnbench/{path.relative_to(PACKAGE)}", path)
        for path in PACKAGE.rglob("*")
        if path.suffix in CODE and path.is_file()
    ]
    files += [(f"cnnbench/conf/{path.relative_to(CONF_DIR)}", path) for path in CONF_DIR.rglob("*.yaml")]
    # A plugin is imported by its name, so a copy that comes first on the path hides the original.
    files += [(Path(plugin).name, Path(plugin)) for plugin in plugins if plugin.endswith(".py")]
    return sorted(files)
