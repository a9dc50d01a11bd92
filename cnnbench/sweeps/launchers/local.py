"""Processes on this machine that make runs of a stored sweep, one at a time each."""

from __future__ import annotations

import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from cnnbench import config
from cnnbench.system import THREADS, gpus, require_posix, usable_cores

Code = Callable[[], Path | None]
POLL_SECONDS = 1.0
RUNS_PER_PROCESS = 25  # TensorFlow keeps about 3 MB of each for as long as its process lives
RESULTS = "CNNBENCH_RESULTS"  # where a worker writes which runs have ended: a file descriptor
PARENT = "CNNBENCH_PARENT"


class Worker:
    """A child process that is told the numbers of its runs on its standard input.

    Args:
        sweep: the folder.
        code: the copy of the code to run; None for the installed one.
        environment: what it has beyond ours.
        quiet: whether others write to the same terminal, so that it must not.
    """

    def __init__(self, sweep: Path, code: Path | None, environment: Mapping[str, str], quiet: bool) -> None:
        reading, writing = os.pipe()
        given = {**os.environ, **environment, RESULTS: str(writing), PARENT: str(os.getpid())}
        paths = [*([str(code)] if code is not None else []), *filter(None, [os.environ.get("PYTHONPATH")])]
        if paths:
            given["PYTHONPATH"] = os.pathsep.join(paths)
        # A group of its own: each signal reaches it once, from here.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cnnbench", "launch", str(sweep)],
            env=given,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL if quiet else None,
            pass_fds=[writing],
            process_group=0,
            text=True,
        )
        os.close(writing)
        self.results = os.fdopen(reading)
        self.runs, self.code = 0, code

    def run(self, number: int) -> str | None:
        """Let it make one run; why it died, or None where the run came to an end."""
        assert self.process.stdin is not None
        self.runs += 1
        with suppress(BrokenPipeError):  # it is dead already, which the next line finds
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
        # Not just a read: a cluster stops us by an exception that nothing but Python code lets in.
        while not select.select([self.results], [], [], POLL_SECONDS)[0]:
            pass
        if self.results.readline():
            return None
        return describe_exit(self.process.wait())

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        """Let it end after the run under way, and wait for it."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.results.close()

    def stop(self, signal_number: int) -> None:
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(self.process.pid, signal_number)


class LocalLauncher:
    """Some workers, each with a share of the cores and, where there are GPUs, one of them.

    Args:
        sweep: the folder.
        code: gives the copy of the code for a run that starts now; None for the installed one.
        width: how many at once.
        runs_per_process: after so many a worker makes room for a new one.
    """

    def __init__(self, sweep: Path, code: Code, width: int, runs_per_process: int) -> None:
        require_posix("a sweep")
        self.sweep, self.code, self.width, self.runs_per_process = sweep, code, width, runs_per_process
        self._workers: dict[int, Worker] = {}
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(width):
            self._slots.put(slot)
        self._environments = [environment(slot, width) for slot in range(width)]
        self._threads = ThreadPoolExecutor(width, thread_name_prefix="launcher")
        self._stopped = False

    def submit(self, number: int) -> Future[str | None]:
        return self._threads.submit(self._run, number)

    def _run(self, number: int) -> str | None:
        slot = self._slots.get()
        try:
            return self._worker(slot).run(number)
        finally:
            self._slots.put(slot)

    def _worker(self, slot: int) -> Worker:
        worker, code = self._workers.get(slot), self.code()
        is_fit = worker is not None and worker.runs < self.runs_per_process and worker.is_alive
        if worker is not None and is_fit and worker.code == code:  # whose files may have gone meanwhile
            return worker
        if worker is not None:
            worker.close()
        self._workers[slot] = Worker(self.sweep, code, self._environments[slot], quiet=self.width > 1)
        return self._workers[slot]

    def stop(self, signal_number: int) -> None:
        for worker in list(self._workers.values()):
            worker.stop(signal_number)

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers.values():
            worker.close()


def run_once(sweep: Path, code: Path | None, number: int, threads: int) -> str | None:
    """One run in a process of its own, on whatever machine this is called.

    Returns:
        why that process died; None where the run came to an end.
    """
    # A machine that does not see the copy, or a cache that was deleted while the run waited.
    copy = code if code is not None and config.code.is_whole(code) else None
    worker = Worker(sweep, copy, {THREADS: str(threads)}, quiet=True)
    try:
        return worker.run(number)
    except BaseException:  # whoever stops us (Ctrl-C from a cluster) stops the run, which saves
        worker.stop(signal.SIGTERM)
        raise
    finally:
        worker.close()


def environment(slot: int, width: int) -> dict[str, str]:
    """A share of the machine for one of `width` workers; nothing is said where there is only one."""
    if width == 1:
        return {}
    share = {THREADS: str(max(1, usable_cores() // width))}
    if found := gpus():
        share["CUDA_VISIBLE_DEVICES"] = found[slot % len(found)]
    return share


def describe_exit(code: int) -> str:
    """How a process ended without a word."""
    if code >= 0:
        return "its process ended without a word"
    how = f"its process was killed by {signal.Signals(-code).name}"
    if -code == signal.SIGKILL:
        how += ", which is what a machine out of memory does"
    return how


def stop_with_parent() -> None:
    """In the child: stop as at SIGTERM, with everything saved, when the process that launched it dies."""
    parent = int(os.environ[PARENT])

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.killpg(0, signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()
