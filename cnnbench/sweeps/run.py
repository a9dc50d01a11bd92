"""A sweep that is begun, or taken up again, and run until nothing is left, whatever ends its processes."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from cnnbench import config, runs, system
from cnnbench.sweeps.launchers import Launcher, launcher_settings
from cnnbench.sweeps.observer import SweepObserver
from cnnbench.sweeps.plan import plan
from cnnbench.sweeps.store import WAITING, Job, Sweep

log = logging.getLogger("cnnbench")


def start_sweep(
    line: Sequence[str], config_dir: str | None = None, observer: SweepObserver | None = None
) -> Sweep:
    """Compose, check, store and make every run of a sweep; or go on with the sweep of `sweep.resume`.

    Args:
        line: overrides, e.g. `["model=mlp,cnn", "seed=0,1,2"]`.
        config_dir: a folder with the user's own options.
        observer: is told how it goes.

    Returns:
        the sweep; its statuses and its exit code say how it ended, `stopped_by` whether by a signal.

    Raises:
        CnnbenchError: anything in the line is wrong; nothing has been run.
    """
    planned = plan(line, config_dir)
    if planned.resume is not None:
        sweep = Sweep.open(Path(planned.resume))
        sweep.refuse_other_plan(planned.jobs, planned.search)
        return resume_sweep(sweep, observer=observer)

    plugins = _plugins(planned.jobs, planned.search)
    copy = config.code.Copy(config.code.fingerprint(plugins), plugins)
    copy.path()  # made now, whatever becomes of the code before the first run
    folder = runs.new_sweep_folder(planned.run_dir).resolve()
    sweep = Sweep(folder, list(line), planned.launcher, copy.code, planned.jobs, planned.search)
    config.remember(_settings(sweep))
    sweep.write()
    return run_sweep(sweep, copy, observer)


def resume_sweep(sweep: Sweep, trusted: bool = False, observer: SweepObserver | None = None) -> Sweep:
    """Run what is not done in a sweep, half trained runs from where they were.

    Args:
        sweep: stored.
        trusted: run the code and the commands that it names, whoever made it.
        observer: is told how it goes.

    Returns:
        as of `start_sweep`.

    Raises:
        CnnbenchError: the sweep was not made by this user on this machine, and would run code.
    """
    sweep = replace(sweep, path=sweep.path.resolve())
    config.refuse_links(sweep.path)
    system.remove_abandoned(sweep.path)
    if not trusted:
        for typed in (_settings(sweep), *_configs(sweep.jobs, sweep.search)):
            config.require_own(typed, sweep.path)
            config.require_own_cache(typed, sweep.path)
    observer = observer or SweepObserver()
    observer.resumed(sweep)
    return run_sweep(sweep, config.code.Copy(sweep.code, _plugins(sweep.jobs, sweep.search)), observer)


def run_sweep(sweep: Sweep, copy: config.code.Copy, observer: SweepObserver | None = None) -> Sweep:
    """Run what is left of a stored sweep, with the copy of the code that it began with."""
    observer = observer or SweepObserver()
    launcher = launcher_settings(sweep.launcher).open(sweep, Code(copy).path, not observer.shows_runs)
    observer.begun(sweep, launcher.width)
    study: Any = None
    if sweep.search is not None:
        from cnnbench.sweeps.search import Study

        study = Study(sweep, _check)

    def ended(number: int, cause: str | None) -> None:
        if cause is not None:
            observer.run_died(sweep, number, cause)
        else:
            observer.run_ended(sweep, number)
        if study is not None:
            study.ended(number)

    folds = (number for number in sweep.left() if not sweep.jobs[number].is_average)
    try:
        stopped_by = supervise(sweep, launcher, study.numbers() if study else folds, ended)
        if stopped_by is None and study is None:
            stopped_by = supervise(sweep, launcher, iter(sweep.averages()), ended)
    finally:
        launcher.close()
    return replace(sweep, stopped_by=stopped_by)


# -- Code and trust --------------------------------------------------------------------------------


class Code:
    """The code of each run that starts; warns once that it is another than the sweep began with.

    Args:
        copy: of the code that the sweep began with.
    """

    def __init__(self, copy: config.code.Copy) -> None:
        self._copy = copy
        self._warned = False
        self._lock = threading.Lock()  # runs start side by side

    def path(self) -> Path | None:
        """Return the copy for a run that starts now; None for the installed code."""
        with self._lock:
            path = self._copy.path()
            if path is None and not self._warned and self._copy.has_changed():
                self._warned = True
                log.warning(
                    "the code has changed since the sweep began, and no copy is left: "
                    "the runs that wait get the code that is here now"
                )
            return path


def _check(made: Mapping[str, Any]) -> None:
    """Check a config that a search has put together, and note that this user has made it."""
    config.check_config(made)
    config.remember(made)


def _settings(sweep: Sweep) -> dict[str, Any]:
    """Return what a cluster is asked to run: maybe commands, so named and treated like plugins."""
    is_elsewhere = sweep.launcher.get("name") not in ("basic", "joblib")
    made = sweep.search["bases"] if sweep.search else [job.config for job in sweep.jobs]
    return {"plugins": sweep.launcher if is_elsewhere else {}, "made": made}


def _configs(jobs: Sequence[Job], search: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return all configs that runs are, or will be, made from."""
    return [job.config for job in jobs] + [base["config"] for base in (search or {}).get("bases", [])]


def _plugins(jobs: Sequence[Job], search: Mapping[str, Any] | None) -> list[str]:
    return sorted({plugin for one in _configs(jobs, search) for plugin in one.get("plugins", [])})


# -- Until no run is left --------------------------------------------------------------------------


def supervise(
    sweep: Sweep,
    launcher: Launcher,
    numbers: Iterator[int],
    ended: Callable[[int, str | None], None],
) -> int | None:
    """Make runs until there are no more, or until a signal; then every run under way saves and ends.

    Args:
        sweep: stored.
        launcher: makes the runs.
        numbers: gives the next run when there is room for it, so that a search can propose it then.
        ended: is told each run that has ended, and why its process died if it did.

    Returns:
        the number of the signal; None where all runs have been made.
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
                cause = _cause_of_death(future)
                # One that is at work still is only out of reach: it says itself what became of it.
                if cause is not None and not received and sweep.status(number) in (runs.UNFINISHED, WAITING):
                    _record_killed(sweep, number, cause)
                ended(number, cause)
    return received[0] if received else None


def _cause_of_death(future: Future[str | None]) -> str | None:
    try:
        return future.result()
    except CancelledError:
        return "it was cancelled"
    except Exception as error:  # noqa: BLE001  of the launcher's: a worker killed, a job cut off by its time
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else 'without a word'}"


@contextmanager
def _forwarded(launcher: Launcher) -> Iterator[list[int]]:
    """Hand signals to the runs under way and list them; only the main thread of a process gets any."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        launcher.stop(number)

    before = {number: signal.signal(number, forward) for number in system.SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _record_killed(sweep: Sweep, number: int, cause: str) -> None:
    folder = sweep.run_folder(number)
    folder.path.mkdir(exist_ok=True)
    job = sweep.jobs[number]
    failure = {"status": runs.FAILED, "stage": "killed", "cause": cause, "overrides": job.overrides}
    folder.write_end(job.config["name"], job.config["seed"], failure)
