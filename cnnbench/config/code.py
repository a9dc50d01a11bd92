"""The code of a sweep: its fingerprint, and a copy that later edits do not reach."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench.config.groups import CONF_DIR
from cnnbench.errors import CnnbenchError
from cnnbench.system import cache_folder, go_without_cache, locked, make_room, mark_used, temporary_beside

log = logging.getLogger("cnnbench")
BYTECODE = "__pycache__"
PACKAGE = Path(__file__).parents[1]
CODE = (".py", ".pyi", ".j2", ".css", ".js")


def fingerprint(plugins: Sequence[str] = ()) -> str:
    """Return one digest of the package, its YAML files and the user's own modules."""
    return _digest(_sources(plugins))


def _digest(sources: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, path in sources:
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def is_whole(copy: Path) -> bool:
    """Tell whether a copy has the files that it was made with, unchanged, and no others."""
    try:
        return copy.is_dir() and _digest(_copied(copy)) == copy.name
    except OSError:  # gone while we looked, or unreadable
        return False


def _copied(copy: Path) -> list[tuple[str, Path]]:
    """Return the files of a copy, without the bytecode that Python adds."""
    files = [path for path in copy.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted((str(path.relative_to(copy)), path) for path in files if BYTECODE not in path.parts)


def stored(code: str, cache: Path) -> Path | None:
    """Return the copy of the code with a fingerprint; None where this user has none that is whole.

    Args:
        code: the fingerprint. It may come from a stranger's sweep, so a path, say, is refused.
        cache: the folder of caches. It may be shared, so a copy that somebody else could change is not used.
    """
    copy = cache / "code" / code
    if not re.fullmatch(r"[0-9a-f]{16}", code) or not copy.is_dir():
        return None
    return copy if all(_is_mine(folder) for folder in (copy.parent, copy)) and is_whole(copy) else None


def _is_mine(folder: Path) -> bool:
    status = folder.stat()
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & stat.S_IWOTH)


def store(plugins: Sequence[str], cache: Path) -> Path:
    """Copy the code once, to be put first on PYTHONPATH; a copy that is damaged is made anew.

    The copy lies in the user's own cache. One in the sweep's folder could come from a stranger.

    Raises:
        CnnbenchError: there is a copy that somebody else could change.
        OSError: the cache cannot be written.
    """
    code = fingerprint(plugins)
    target = cache / "code" / code
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(cache / "code.lock"):
        found = stored(code, cache)
        if found is not None:
            return found
        if not all(_is_mine(folder) for folder in (target.parent, target) if folder.exists()):
            raise CnnbenchError(
                f"cannot keep the code in {target}: somebody else could change it",
                "set CNNBENCH_CACHE to a folder that only you can write",
            )
        make_room(target.parent, 0)
        temporary = temporary_beside(target)
        try:
            for name, path in _sources(plugins):
                copy = temporary / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            if target.exists():
                log.warning("%s is damaged: it is made anew", target)
                shutil.rmtree(target)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


@dataclass(frozen=True)
class Copy:
    """The code with which a sweep began.

    Attributes:
        code: its fingerprint.
        plugins: the user's own modules.
    """

    code: str
    plugins: Sequence[str]

    def path(self) -> Path | None:
        """Return the copy, made anew where it is gone or damaged and the code here is still the same.

        Returns:
            None where the installed code is to be used: there is no cache, or no copy can be made.
        """
        folder = cache_folder()
        if folder is None:
            return None
        try:
            found = stored(self.code, folder)
            if found is None and not self.has_changed():
                found = store(self.plugins, folder)
            if found is not None:
                mark_used(found)
        except (OSError, CnnbenchError) as error:  # the installed code is the same, or the user is told
            go_without_cache(error)
            return None
        return found

    def has_changed(self) -> bool:
        """Tell whether the installed code is another now."""
        try:
            return self.code != fingerprint(self.plugins)
        except OSError:  # a plugin is gone
            return True


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
