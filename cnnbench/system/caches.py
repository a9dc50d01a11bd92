"""Caches of this user: where they lie, how large they may grow, and what goes first."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cnnbench.errors import CnnbenchError
from cnnbench.system.files import cache_folder, default_cache_dir, go_without_cache, read_json, write_json
from cnnbench.system.locks import claim, locked, share

log = logging.getLogger("cnnbench")
LIMIT = "CNNBENCH_CACHE_LIMIT"  # of the decoded pictures, e.g. 50GB
LIMITS = {  # bytes of each cache
    "images": 20 * 10**9,
    "features": 10 * 10**9,
    "code": 10**9,
    "precision": 10**6,
    "xla": 2 * 10**9,
}
# The whole names of what cnnbench puts there. Anything else is somebody's own: a folder `images` in
# CNNBENCH_CACHE or `dataset.cache_dir` may hold pictures. Of folders only copies of code are ours.
STEM = r"[A-Za-z0-9_-]{1,40}-[0-9a-f]{20}"
NAMES = {
    "images": rf"({STEM})\.(npy|json|lock(\.\w+)*|\d+-[0-9a-f]{{8}}\.tmp)",
    "features": rf"\.?({STEM}\.[0-9a-f]{{16}})(\.\d+-[0-9a-f]{{8}}\.tmp)?\.npz",
    "code": r"\.?([0-9a-f]{16})(\.used|\.\d+-[\w.-]+\.tmp)?",
    "xla": r"(xla_compile_cache__[\w-]+)\.pb.*",
    "precision": r"\.?(precision|compilation)(\.json)?\.(json|lock(\.\w+)*|\d+-[\w.-]+\.tmp\.json)",
}
REMEMBERED = 5000  # values of a name
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_in_use: dict[Path, IO[bytes]] = {}  # open as long as this process lives


@dataclass(frozen=True)
class Cache:
    """One folder of the cache.

    Attributes:
        name: what it holds: `images` (decoded pictures), `features` (of frozen backbones), `code` (of
            sweeps), `precision` (remembered times), `xla` (programs for a GPU).
        folder: where it is.
        bytes: its size.
        limit: the most bytes that it keeps; what is in use stays beyond that.
        entries: how many things it holds, each with a few files.
    """

    name: str
    folder: Path
    bytes: int
    limit: int
    entries: int


def list_caches() -> list[Cache]:
    """List the caches of this user that exist.

    Raises:
        CnnbenchError: CNNBENCH_CACHE_LIMIT is no size, or a folder cannot be read.
    """
    return [
        Cache(name, folder, sum(entry.bytes for entry in entries), _limit(name), len(entries))
        for name, folder in _folders().items()
        if (entries := [entry for entry in _entries(folder, name) if entry.bytes])
    ]


def clear_caches(names: Collection[str] = tuple(LIMITS)) -> int:
    """Delete all that no living process uses in the caches of these names; return how many bytes went."""
    return sum(
        entry.bytes
        for name, folder in _folders().items()
        if name in names
        for entry in _entries(folder, name)
        if _delete(entry)
    )


def make_room(folder: Path, needed: int) -> None:
    """Delete what was used least recently until `needed` bytes more are within the limit of a cache.

    What a living process uses stays, so the cache may be larger for a while.

    Raises:
        CnnbenchError: CNNBENCH_CACHE_LIMIT is no size.
    """
    entries, limit = _entries(folder), _limit(folder.name)
    excess = sum(entry.bytes for entry in entries) + needed - limit
    for entry in sorted(entries, key=lambda entry: entry.used):
        if excess <= 0:
            return
        if entry.bytes and _delete(entry):
            excess -= entry.bytes
            log.info("%s: deleted %s, for it is full (%s=… allows more)", folder, entry.name, LIMIT)


def mark_used(path: Path) -> None:
    """Keep a folder or file of a cache from being deleted while this process lives.

    Raises:
        OSError: no file can be made beside it, or it is about to be deleted.
    """
    marker = path.with_name(f"{path.name}.used")
    if marker not in _in_use or not marker.exists():  # the user may have deleted the cache
        if marker in _in_use:
            _in_use.pop(marker).close()
        file = marker.open("ab")
        share(file)
        _in_use[marker] = file
    os.utime(marker)


# -- Remembered times --------------------------------------------------------------------------------


def recall(name: str, key: str) -> Any:
    """Return what `remember` has kept; None where that is nothing, or damaged."""
    folder = cache_folder()
    return None if folder is None else _remembered(folder / f"{name}.json").get(key)


def remember(name: str, key: str, value: Any) -> None:
    """Keep a value for the runs and processes that come after; nothing happens without a cache."""
    if (folder := cache_folder()) is None:
        return
    path = folder / f"{name}.json"
    try:
        with locked(path.with_suffix(".json.lock")):
            known = _remembered(path)
            known.pop(key, None)
            write_json(path, dict([*known.items(), (key, value)][-REMEMBERED:]))
    except OSError as error:
        go_without_cache(error)


def _remembered(path: Path) -> dict[str, Any]:
    try:
        known = read_json(path)
    except CnnbenchError:  # damaged: made anew
        return {}
    return known if isinstance(known, dict) else {}


# -- Entries ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """The files and folders of a cache that belong together."""

    name: str
    paths: tuple[Path, ...]
    bytes: int
    used: float  # seconds since 1970


def _folders() -> dict[str, Path]:
    try:
        top = default_cache_dir()
    except CnnbenchError:  # a user without a home keeps nothing
        return {}
    return {name: top if name == "precision" else top / name for name in LIMITS}


def _entries(folder: Path, name: str = "") -> list[_Entry]:
    """Group what cnnbench has put into a folder; the timings are files beside the other caches."""
    grouped: dict[str, list[Path]] = {}
    name = name or folder.name
    try:
        for path in folder.iterdir() if folder.is_dir() else ():
            ours = re.fullmatch(NAMES[name], path.name)
            if ours and not path.is_symlink() and (name == "code" or path.is_file()):
                grouped.setdefault(ours[1], []).append(path)
    except OSError as error:
        raise CnnbenchError(f"cannot read {folder}: {error.strerror}", "set CNNBENCH_CACHE=FOLDER") from error
    return [_entry(entry, paths) for entry, paths in sorted(grouped.items())]


def _entry(name: str, paths: list[Path]) -> _Entry:
    size, used = 0, 0.0
    for inner in (inner for path in paths for inner in (path, *path.rglob("*"))):
        with suppress(FileNotFoundError):  # another process has deleted it
            status = inner.lstat()
            size += 0 if inner.is_dir() else status.st_size
            used = max(used, status.st_mtime)
    return _Entry(name, tuple(sorted(paths, key=Path.is_dir)), size, used)


def _delete(entry: _Entry) -> bool:
    """Delete an entry whole, files before folders; leave it and return False where a process uses it."""
    with ExitStack() as stack:
        try:
            for path in entry.paths:
                if path.is_file() and not claim(stack.enter_context(path.open("r+b"))):
                    return False
            if os.name == "nt":
                stack.close()  # Windows deletes no file that is open, here or elsewhere
            for path in entry.paths:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        except FileNotFoundError:  # another process is deleting it
            return False
        except OSError as error:
            log.info("cannot delete %s: %s", entry.name, error)
            return False
    return True


# -- Limits ------------------------------------------------------------------------------------------


def _limit(name: str) -> int:
    """Return the most bytes that a cache keeps; that of the pictures may be set."""
    given = os.environ.get(LIMIT, "") if name == "images" else ""
    if not given:
        return LIMITS[name]
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?B|)", given.strip().upper())
    if found is None:
        raise CnnbenchError(f"{LIMIT}={given} is no size", f"for example {LIMIT}=50GB")
    return int(float(found[1]) * UNITS[found[2]])
