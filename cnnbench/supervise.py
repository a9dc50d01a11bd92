"""Running a stored sweep in a process of its own, so that what kills that process ends one run only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from cnnbench.errors import CnnbenchError
from cnnbench.results import FAILED
from cnnbench.signals import SIGNALS, InterruptedRunError
from cnnbench.sweeps import Sweep

POLL_SECONDS = 1.0
# TensorFlow keeps about 3 MB of each run for as long as its process lives.
RUNS_PER_PROCESS = 25
SESSION = "CNNBENCH_SESSION"
PARENT = "CNNBENCH_PARENT"


def supervise(sweep: Sweep, code: Path | None, warn: Callable[[str], None]) -> None:
    """Run every job that is not done, whatever some of them do to their process.

    Args:
        sweep: stored.
        code: the copy of the code to run; None for the installed one.
        warn: is told what was killed.

    Raises:
        InterruptedRunError: somebody stopped it.
        CnnbenchError: the launcher starts no job at all.
    """
    session = uuid.uuid4().hex
    waiting = sweep.left()
    one_by_one = not any(text.lstrip("+").startswith("hydra/launcher") for text in sweep.settings)
    while waiting:
        part = waiting[:RUNS_PER_PROCESS] if one_by_one else waiting
        before = len(sweep.started(session))
        result = _launch(sweep, part, session, code)
        suspects = sweep.suspects(session)
        if not suspects and len(sweep.started(session)) == before:
            raise CnnbenchError(
                f"the launcher started no run (exit code {result})", f"to go on: cnnbench resume {sweep.path}"
            )
        # With several at once nobody can tell which one did it: each is tried alone.
        for number in suspects if len(suspects) > 1 else ():
            result = _launch(sweep, [number], session, code)
            if number in sweep.suspects(session):
                _record_killed(sweep, number, result, warn)
        if len(suspects) == 1:
            _record_killed(sweep, suspects[0], result, warn)
        begun = set(sweep.started(session))
        waiting = [number for number in waiting if number not in begun]


def _launch(sweep: Sweep, numbers: Sequence[int], session: str, code: Path | None) -> int:
    """One child process for some jobs; its exit code, negative for a signal."""
    environment = {**os.environ, SESSION: session, PARENT: str(os.getpid())}
    paths = [str(code)] if code is not None else []
    if before := os.environ.get("PYTHONPATH"):
        paths.append(before)
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-P", "-m", "cnnbench", "launch", str(sweep.path)]
    command += [",".join(map(str, numbers)), *sweep.settings]
    # A group of its own: each signal reaches it once, from here.
    child = subprocess.Popen(command, env=environment, process_group=0)
    with _forwarded(child) as received:
        result = child.wait()
    if received:
        raise InterruptedRunError(received[0])
    return result


@contextmanager
def _forwarded(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(child.pid, number)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_with_parent() -> None:
    """In the child: stop as at SIGTERM, with everything saved, when the process that supervises dies."""
    parent = int(os.environ[PARENT])

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.killpg(0, signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()


def how_killed(result: int) -> str:
    """In words, from the exit code of a process that ended before its work did."""
    if result >= 0:
        return "its process ended without a word"
    how = f"its process was killed by {signal.Signals(-result).name}"
    if -result == signal.SIGKILL:
        how += ", which is what a machine out of memory does"
    return how


def _record_killed(sweep: Sweep, number: int, result: int, warn: Callable[[str], None]) -> None:
    how = how_killed(result)
    folder = sweep.run_folder(number)
    folder.path.mkdir(exist_ok=True)
    job = sweep.jobs[number]
    folder.write_end(
        job.config["name"],
        job.config["seed"],
        {"status": FAILED, "stage": "killed", "cause": how, "overrides": job.overrides},
    )
    warn(f"run {number}: {how}")
