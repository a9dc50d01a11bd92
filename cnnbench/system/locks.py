"""One process at a time: by `flock`, or by a file that names its holder where a file system has no locks."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger("cnnbench")
POLL_SECONDS = 0.2
# What file systems without `flock` answer, as NFS without its lock service, or Lustre mounted without it.
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_warned: set[str] = set()  # once a process


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock `path` inside; wait for another process that has it.

    With `flock` the system gives it back when its holder dies, whatever the reason; the file stays. Without
    it, a file beside `path` names the holder, and goes when another process of this machine finds it dead.

    Raises:
        OSError: the file cannot be made.
    """
    lock = _acquired(path)
    if lock is None:
        log.info("waiting for another process that holds %s", path, extra={"notice": True})
        lock = _acquired(path, blocking=True)
    assert lock is not None
    try:
        yield
    finally:
        lock.release()


def _acquired(path: Path, blocking: bool = False) -> BaseFileLock | None:
    """The lock, acquired; None where another has it and we do not wait."""
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


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Lock a file for as long as the block, or the process, lives; whether nobody else has it."""
    path.touch()
    lock = _acquired(path)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


def is_held(path: Path) -> bool:
    """Whether another process, or another part of this one, holds `path`.

    A shared lock answers that: two that ask at once must not take each other for the holder, and the file
    may be one that we can only read.
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


# -- Where there is no flock -----------------------------------------------------------------------


def _beside(path: Path) -> SoftFileLock:
    return SoftFileLock(path.with_name(f"{path.name}.holder"))


def _is_held_by_name(path: Path) -> bool:
    lock = _beside(path)
    if not Path(lock.lock_file).exists():
        return False
    try:
        taken = _try(lock, blocking=False)  # which removes the file of a holder that is dead
    except OSError:  # in a folder that we can only read
        return True
    if taken is not None:
        taken.release()
    return taken is None


def _require_unsupported(error: OSError, path: Path) -> None:
    """Say once that there are no locks here; raise anything else."""
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
