"""A small process beside a single run, which writes down that the run has died where it could not itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cnnbench import reporting, runs, sweeps
from cnnbench.errors import FolderRefusedError

ENDED = b"."  # the run has ended in words, whatever they are
LOOKS, SECONDS = 500, 0.02  # until the system has taken the folder's lock back from a process that died


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Let another process look on while the run in `path` is made, where nobody supervises it yet.

    The run stays what was started: its number, signals, exit code and terminal are those of the command.
    The other one is forked before TensorFlow is there, waits at a pipe, and is gone before the command is;
    only when the command dies without a word it lives on, for a moment.
    """
    if not _is_needed():
        yield
        return
    reading, writing = os.pipe()
    watcher = os.fork()
    if watcher == 0:
        _watch(runs.RunFolder(path.absolute()), reading)
    os.close(reading)
    try:
        yield
    finally:
        with suppress(BrokenPipeError):  # somebody has killed it
            os.write(writing, ENDED)
        os.close(writing)
        with suppress(ChildProcessError):
            os.waitpid(watcher, 0)


def _is_needed() -> bool:
    is_alone = "tensorflow" not in sys.modules and threading.active_count() == 1  # else a fork is no copy
    return hasattr(os, "fork") and is_alone and not sweeps.is_supervised()


def _watch(folder: runs.RunFolder, reading: int) -> None:
    """Wait, and never return."""
    try:
        os.setsid()  # Ctrl-C is for the run
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1):
            os.dup2(null, standard)
        os.closerange(3, reading)
        os.closerange(reading + 1, reading + 1024)  # whoever waits at the other end of one waits for the run
        if os.read(reading, 1) != ENDED:
            _record(folder)
    except BaseException:  # noqa: BLE001  it must not go on as a second run
        traceback.print_exc()
    finally:
        os._exit(0)


def _record(folder: runs.RunFolder) -> None:
    for _ in range(LOOKS):
        if folder.status != runs.RUNNING:
            break
        time.sleep(SECONDS)
    try:
        with folder.held():
            if not folder.has_run or folder.ended:
                return
            cause = folder.last_words
            config = folder.config
            failure = {"status": runs.FAILED, "stage": "killed", "type": None, "cause": cause}
            last = folder.history[-1:]
            told = {
                "last_metrics": last[0] if last else {},
                "command": " ".join(["cnnbench", *folder.overrides]),
            }
            folder.write_end(str(config.get("name")), int(config.get("seed", 0)), {**failure, **told})
    except FolderRefusedError:  # somebody goes on with it already
        return
    reporting.stderr().print(f"failed: {cause}", markup=False, style="red")
    reporting.stderr().print(
        f"hint: failure.json and cnnbench.log in {folder.path} have what is known; "
        f"to go on: cnnbench resume {folder.path}",
        markup=False,
    )
