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
from cnnbench.sweeps.store import Sweep
from cnnbench.system import THREADS, gpus, require_posix, usable_cores

Code = Callable[[], Path | None]  # returns the copy of the code for a run that starts now; None: installed
POLL_SECONDS = 1.0
RUNS_PER_PROCESS = 25  # TensorFlow keeps about 3 MB of each for as long as its process lives
RESULTS = "CNNBENCH_RESULTS"  # names the file descriptor where a worker writes which runs have ended
PARENT = "CNNBENCH_PARENT"  # names the process that supervises a worker


class Worker:
    """A child process that is told the numbers of its runs on its standard input.

    Args:
        sweep: the folder.
        code: the copy of the code to run; None for the installed one.
        environment: variables that it has beyond ours.
        quiet: keep what it prints from our standard output.
        verb: the command that makes the runs.
    """

    def __init__(
        self,
        sweep: Path,
        code: Path | None,
        environment: Mapping[str, str],
        quiet: bool,
        verb: str = "launch",
    ) -> None:
        reading, writing = os.pipe()
        given = {**os.environ, **environment, RESULTS: str(writing), PARENT: str(os.getpid())}
        paths = [str(code or ""), os.environ.get("PYTHONPATH", "")]
        if any(paths):
            given["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        # A group of its own: each signal reaches it once, from here.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cnnbench", verb, str(sweep)],
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
        """Let it make one run; return why the process died, or None where the run came to an end."""
        assert self.process.stdin is not None
        self.runs += 1
        with suppress(BrokenPipeError):  # it is dead already, which the next line finds
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
        # Not just a read: a cluster stops us by an exception that nothing but Python code lets in.
        while not select.select([self.results], [], [], POLL_SECONDS)[0]:
            pass
        return None if self.results.readline() else describe_exit(self.process.wait())

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
        """Send a signal to it and its children."""
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(self.process.pid, signal_number)


class LocalLauncher:
    """Workers, each with a share of the cores and, where there are GPUs, one of them.

    Args:
        code: gives the copy of the code for each run.
        width: the number of runs at once.
        runs_per_process: a worker makes room for a new one after so many.
        sweep, quiet, verb: as of `Worker`.
    """

    def __init__(
        self,
        sweep: Path,
        code: Code,
        width: int,
        runs_per_process: int,
        quiet: bool = False,
        verb: str = "launch",
    ) -> None:
        require_posix("a sweep")
        self.sweep, self.code, self.width, self.runs_per_process = sweep, code, width, runs_per_process
        self.quiet, self.verb = quiet, verb
        self._workers: dict[int, Worker] = {}
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(width):
            self._slots.put(slot)
        self._threads = ThreadPoolExecutor(width, thread_name_prefix="launcher")

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
        if worker is not None:
            # The files of another copy of the code may have gone meanwhile.
            if worker.runs < self.runs_per_process and worker.is_alive and worker.code == code:
                return worker
            worker.close()
        given = environment(slot, self.width)
        self._workers[slot] = Worker(self.sweep, code, given, self.quiet, self.verb)
        return self._workers[slot]

    def stop(self, signal_number: int) -> None:
        for worker in list(self._workers.values()):
            worker.stop(signal_number)

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers.values():
            worker.close()


def run_once(sweep: Path, code: Path | None, number: int, threads: int) -> str | None:
    """Make one run in a process of its own, with so many threads; return as `Worker.run` does.

    A machine that does not see the copy of the code whole takes the installed code.
    """
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
    """Return a share of the machine for one of `width` workers; nothing where there is only one."""
    if width == 1:
        return {}
    share = {THREADS: str(max(1, usable_cores() // width))}
    if found := gpus():
        share["CUDA_VISIBLE_DEVICES"] = found[slot % len(found)]
    return share


def describe_exit(code: int) -> str:
    """Say how a process ended without a word, from its exit code."""
    if code >= 0:
        return "its process ended without a word"
    how = f"its process was killed by {signal.Signals(-code).name}"
    if -code == signal.SIGKILL:
        how += ", which is what a machine out of memory does"
    return how


# -- In the child ----------------------------------------------------------------------------------


def serve(folder: Path, make: Callable[[Sweep, int], object]) -> None:
    """Make runs of the stored sweep in a folder, as the child of a launcher.

    Their numbers come on standard input, and go back when the runs have ended. When the process that
    launched this one dies, it stops as at SIGTERM, with everything saved. `make` must not raise.
    """
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    sweep = Sweep.open(folder)
    with os.fdopen(int(os.environ.pop(RESULTS)), "w") as results:
        for line in sys.stdin:
            if int(line) >= len(sweep.jobs):  # a search has added it since
                sweep = Sweep.open(folder)
            make(sweep, int(line))
            results.write(line)
            results.flush()


def _stop_with_parent() -> None:
    while os.getppid() == int(os.environ[PARENT]):
        time.sleep(POLL_SECONDS)
    os.killpg(0, signal.SIGTERM)


def is_supervised() -> bool:
    """Tell whether a launcher looks after this process."""
    return PARENT in os.environ
