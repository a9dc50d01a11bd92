"""Locks: one process at a time, by `flock`, or by files that name their holder where there is no `flock`."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger("cnnbench")
POLL_SECONDS = 0.2
# The answers of file systems without `flock`, such as NFS without its lock service.
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_warned: set[str] = set()  # once a process


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` inside the block; wait for another process that has it.

    The system releases a `flock` when its holder dies. Without `flock`, a file beside `path` names the
    holder; the next process of this machine removes it when the holder is dead.

    Raises:
        OSError: the lock file cannot be made.
    """
    lock = _acquire(path)
    if lock is None:
        log.info("waiting for another process that holds %s", path, extra={"notice": True})
        lock = _acquire(path, blocking=True)
    assert lock is not None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Lock a file for as long as the block, or the process, lives; give False where another holds it."""
    path.touch()
    lock = _acquire(path)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


def is_held(path: Path) -> bool:
    """Tell whether another process, or another part of this one, holds `path`.

    The question is a shared lock: two processes that ask at once do not see each other, and the file may
    be read-only.
    """
    if not path.is_file():
        return False
    if fcntl is None:
        return _is_held_by_name(path)
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        _require_unsupported(error, path)
        return _is_held_by_name(path)
    return False


def _acquire(path: Path, blocking: bool = False) -> BaseFileLock | None:
    """Return the lock, acquired; None where another has it and `blocking` is false."""
    if fcntl is None:  # the locks of Windows keep everybody from writing to the file
        return _try(_beside(path), blocking)
    try:
        return _try(FileLock(path, fallback_to_soft=False), blocking)
    except OSError as error:
        _require_unsupported(error, path)
        return _try(_beside(path), blocking)


def _try(lock: BaseFileLock, blocking: bool) -> BaseFileLock | None:
    try:
        lock.acquire(blocking=blocking, poll_interval=POLL_SECONDS)
    except Timeout:
        return None
    return lock


# -- Files in use ----------------------------------------------------------------------------------


def share(file: IO[Any]) -> None:
    """Mark an open file as in use, for as long as it or a map of it is open; do nothing without `flock`.

    Raises:
        BlockingIOError: another process is about to delete the file.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise


def claim(file: IO[Any]) -> bool:
    """Lock an open file in order to delete it; False where it is in use, or nobody can tell.

    Windows deletes no open file, so there the answer is True.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in UNSUPPORTED or isinstance(error, BlockingIOError):
            return False
        raise
    return True


# -- Where there is no flock -----------------------------------------------------------------------


def _beside(path: Path) -> SoftFileLock:
    return SoftFileLock(path.with_name(f"{path.name}.holder"))


def _is_held_by_name(path: Path) -> bool:
    lock = _beside(path)
    if not Path(lock.lock_file).exists():
        return False
    try:
        taken = _try(lock, blocking=False)  # removes the file of a holder that is dead
    except OSError:  # in a folder that is read-only
        return True
    if taken is not None:
        taken.release()
    return taken is None


def _require_unsupported(error: OSError, path: Path) -> None:
    """Warn once that there are no locks here; raise any other error."""
    if error.errno not in UNSUPPORTED:
        raise error
    if "flock" not in _warned:
        _warned.add("flock")
        log.warning(
            "the file system of %s has no locks (%s): files *.holder take their place; one that a process on "
            "another machine has left when it died is to be deleted by hand",
            path.parent,
            error.strerror,
        )
