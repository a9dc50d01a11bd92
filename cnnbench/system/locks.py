"""One process at a time, with the standard library only."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
log = logging.getLogger("cnnbench")
POLL_SECONDS = 0.2
ALIVE_SECONDS = 5.0  # how often the holder of a lock file shows that it lives
STALE_SECONDS = 60.0  # after which nobody believes it

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock `path` inside; wait for another process that has it.

    With `flock` the system gives it back when its holder dies, whatever the reason; the file stays. Where
    there is none, the existence of the file is the lock, and a dead holder's is taken over after a minute;
    if two take it over in the same moment both go on, so what is done inside must bear that.

    Raises:
        OSError: the file cannot be made.
    """
    if fcntl is None:
        with _existing(path):
            yield
        return
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _tell(path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Lock a file for as long as the block, or the process, lives; whether nobody else has it.

    Without `flock` (Windows) nobody ever has it.
    """
    with path.open("a") as file:
        if fcntl is None:
            yield True
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def is_held(path: Path) -> bool:
    """Whether another process, or another part of this one, holds `path`."""
    if fcntl is None or not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _tell(path: Path) -> None:
    log.info("waiting for another process that holds %s", path, extra={"notice": True})


@contextmanager
def _existing(path: Path) -> Iterator[None]:
    if path.exists():
        _tell(path)
    while True:
        try:
            path.touch(exist_ok=False)
            break
        except FileExistsError:
            _remove_if_stale(path)
            time.sleep(POLL_SECONDS)
    ended = threading.Event()

    def show_life() -> None:
        while not ended.wait(ALIVE_SECONDS):
            path.touch()

    living = threading.Thread(target=show_life, daemon=True)
    living.start()
    try:
        yield
    finally:
        ended.set()
        living.join()
        path.unlink(missing_ok=True)


def _remove_if_stale(path: Path) -> None:
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:  # given back just now
        return
    if age > STALE_SECONDS:
        path.unlink(missing_ok=True)
