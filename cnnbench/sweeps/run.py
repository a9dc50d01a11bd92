"""The runs of a stored sweep, made by a launcher until none is left, whatever some do to their processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from cnnbench import analysis, config, reporting, runs, system
from cnnbench.errors import EXIT_DONE, EXIT_FAILED
from cnnbench.sweeps.launchers import Launcher, launcher_settings
from cnnbench.sweeps.plan import studies
from cnnbench.sweeps.store import WAITING, Sweep


def run_sweep(sweep: Sweep, copy: config.code.Copy) -> int:
    """Run what is left of it, and rank all.

    Args:
        sweep: stored.
        copy: of the code that it began with.

    Returns:
        the exit code.
    """
    launcher = launcher_settings(sweep.launcher).open(sweep, Code(copy).path)
    study = studies().Study(sweep, _check) if sweep.search else None

    def ended(number: int, how: str | None) -> None:
        if how is not None:
            reporting.stderr().print(f"run {number}: {how}", markup=False, style="red")
        elif launcher.width > 1:
            _tell(sweep, number)
        if study is not None:
            study.ended(number)

    shown = _shown(sweep.path)
    try:
        with reporting.resumable(shown):
            supervise(sweep, launcher, study.numbers() if study else iter(sweep.left()), ended)
    finally:
        launcher.close()
    reporting.show_comparison(analysis.compare(runs.find_runs([shown])))
    reporting.stdout().print(f"results: {shown}", markup=False, highlight=False, soft_wrap=True)
    return EXIT_FAILED if sweep.left() else EXIT_DONE


class Code:
    """Where the code of each run is; says once that it is another than the sweep began with.

    Args:
        copy: of the code that it began with.
    """

    def __init__(self, copy: config.code.Copy) -> None:
        self._copy = copy
        self._told = False
        self._lock = threading.Lock()  # runs start side by side

    def path(self) -> Path | None:
        """Return the copy for a run that starts now; None for the installed code."""
        with self._lock:
            path = self._copy.path()
            if path is None and not self._told and self._copy.has_changed():
                self._told = True
                reporting.stderr().print(
                    "the code has changed since the sweep began, and no copy is left: "
                    "the runs that wait get the code that is here now",
                    style="yellow",
                    soft_wrap=True,
                )
            return path


def _check(made: Mapping[str, Any]) -> None:
    """Of a config that a search has put together."""
    config.check_config(made)
    config.remember(made)


def _tell(sweep: Sweep, number: int) -> None:
    """One line for a run that could not speak for itself, since several are under way."""
    (record,) = analysis.read_records([sweep.run_folder(number)])
    result = f"{record.objective} {record.value:.4g}" if record.status == runs.DONE else record.reason
    text = f"run {number} {record.status}: {sweep.varied(number)}  {result}"
    reporting.stdout().print(text, markup=False, highlight=False, soft_wrap=True)


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


# -- Until no run is left --------------------------------------------------------------------------


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
                if how is not None and not received and sweep.status(number) in (runs.UNFINISHED, WAITING):
                    _record_killed(sweep, number, how)
                ended(number, how)
    if received:
        raise system.InterruptedRunError(received[0])


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

    before = {number: signal.signal(number, forward) for number in system.SIGNALS}
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
        {"status": runs.FAILED, "stage": "killed", "cause": how, "overrides": job.overrides},
    )
