"""Running a stored sweep by a launcher, whatever some of its runs do to their processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from types import FrameType

from cnnbench.launchers.settings import Launcher
from cnnbench.run_files import FAILED, UNFINISHED
from cnnbench.signals import SIGNALS, InterruptedRunError
from cnnbench.sweeps import WAITING, Sweep


def supervise(
    sweep: Sweep,
    launcher: Launcher,
    numbers: Iterator[int],
    ended: Callable[[int, str | None], None],
) -> None:
    """Make runs until there are no more.

    Args:
        sweep: stored.
        launcher: makes them.
        numbers: of the runs; asked for the next one when there is room, so that a search can propose it then.
        ended: is told each that has ended, and why its process died if it did.

    Raises:
        InterruptedRunError: somebody stopped it; every run under way has saved and ended.
    """
    running: dict[Future[str | None], int] = {}
    with _forwarded(launcher) as received:
        while True:
            while not received and len(running) < launcher.width:
                number = next(numbers, None)
                if number is None:
                    break
                running[launcher.submit(number)] = number
            if not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                number = running.pop(future)
                how = _how_it_ended(future)
                # One that is at work still is only out of reach: it says itself what became of it.
                if how is not None and not received and sweep.status(number) in (UNFINISHED, WAITING):
                    _record_killed(sweep, number, how)
                ended(number, how)
    if received:
        raise InterruptedRunError(received[0])


def _how_it_ended(future: Future[str | None]) -> str | None:
    try:
        return future.result()
    except CancelledError:
        return "it was cancelled"
    except Exception as error:  # noqa: BLE001  of the launcher's: a worker killed, a job cut off by its time
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else 'without a word'}"


@contextmanager
def _forwarded(launcher: Launcher) -> Iterator[list[int]]:
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        launcher.stop(number)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _record_killed(sweep: Sweep, number: int, how: str) -> None:
    folder = sweep.run_folder(number)
    folder.path.mkdir(exist_ok=True)
    job = sweep.jobs[number]
    folder.write_end(
        job.config["name"],
        job.config["seed"],
        {"status": FAILED, "stage": "killed", "cause": how, "overrides": job.overrides},
    )
