"""A search by Optuna: it proposes the values of each run, and stops runs that are not worth going on with."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from cnnbench import analysis
from cnnbench.config import override, with_values
from cnnbench.errors import CnnbenchError, PrunedRunError
from cnnbench.runs import DONE, FAILED, PRUNED, Observer, Summary, metrics
from cnnbench.sweeps.schema import Parameter, Search
from cnnbench.sweeps.store import Job, Sweep

log = logging.getLogger("cnnbench")
JOURNAL = "study.jsonl"
# What a run does when it has stopped training; before any is done, that part of all the time is kept for it.
FINISHING, UNKNOWN = ("evaluate", "figures", "report"), 0.05
clock: Callable[[], float] = time.time

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """The runs of a search: proposes them and learns from them.

    Optuna's storage is a file in the folder of the sweep, so that each run, on whatever machine that sees it,
    can report its epochs and ask whether to go on, and so that the study itself can be gone on with.

    Args:
        sweep: stored; runs that are proposed are added to it.
        check: raises a CnnbenchError for a config that cannot be run.
    """

    def __init__(self, sweep: Sweep, check: Callable[[Mapping[str, Any]], object]) -> None:
        self.sweep, self.check = sweep, check
        self.stored = sweep.stored_search
        self.study = _open_whole(sweep)
        self._keep_time(begins=True)

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the runs that are left, and then of new ones."""
        for job in self.sweep.jobs:
            self.ended(job.number)
        yield from self.sweep.left()
        while (begun := len(self.sweep.jobs)) < (trials := self.stored.settings.trials):
            if not self._has_time():
                text = "sweep.search.minutes=%g: no time for another run after %s of at most %s"
                log.info(text, self.stored.settings.minutes, begun, trials, extra={"notice": True})
                return
            job = self._propose()
            self.sweep.jobs.append(job)
            self._keep_time()
            self.sweep.write()
            yield job.number

    def _keep_time(self, begins: bool = False) -> None:
        """Note how long the search has taken, and when runs are to stop so that it ends in time."""
        minutes, timing = self.stored.settings.minutes, self.sweep.timing
        if minutes is None:
            return
        if begins:  # what was spent before counts, the pause since does not
            timing["ends_at"] = clock() + 60 * minutes - timing.get("seconds", 0.0)
        timing["seconds"] = clock() - timing["ends_at"] + 60 * minutes
        finishing = [sum(one.get(part, 0.0) for part in FINISHING) for one in self._seconds_of_runs()]
        timing["stop_at"] = timing["ends_at"] - (median(finishing) if finishing else UNKNOWN * 60 * minutes)

    def _has_time(self) -> bool:
        """Tell whether another run would end before the search, if it takes as long as those before."""
        if self.stored.settings.minutes is None:
            return True
        # Of a process that makes several runs, the first alone imports.
        runs = [sum(one.values()) - one.get("import", 0.0) for one in self._seconds_of_runs()]
        return clock() + (median(runs) if runs else 0.0) < self.sweep.timing["ends_at"]

    def _seconds_of_runs(self) -> list[dict[str, float]]:
        """Return the seconds of each run that is done, by its parts."""
        done = [self.sweep.run_folder(job.number) for job in self.sweep.jobs]
        costs = [folder.metrics.get("cost", {}) for folder in done if folder.status == DONE]
        return [cost["seconds"] for cost in costs if cost.get("seconds")]

    def _propose(self) -> Job:
        # Each proposal has a sampler of its own, whose seed follows from the number of trials: a search that
        # goes on proposes what it would have proposed without a break, and never the same once more.
        trials = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = _sampler(self.stored.settings, trials)
        trial = self.study.ask()

        def suggested(parameters: Iterable[Parameter]) -> dict[str, Any]:
            return {one.key: _suggest(trial, one) for one in parameters}

        groups, space = self.stored.bases[0].choices, self.stored.settings.space
        chosen = suggested(one for one in space if one.key in groups)
        base = next(base for base in self.stored.bases if base.choices == chosen)
        values = suggested(one for one in space if one.key not in groups and base.varies(one.key))
        config = with_values(base.config, values)
        self.check(config)
        overrides = [*base.overrides, *(override(key, value) for key, value in values.items())]
        job = Job.of(len(self.sweep.jobs), overrides, config, trial.number)
        self.sweep.params[job.folder] = trial.params
        return job

    def ended(self, number: int) -> None:
        """Tell Optuna what became of a run; of one that will go on, nothing.

        Raises:
            CnnbenchError: the run has another objective than the search.
        """
        status, trial = self.sweep.status(number), self.sweep.jobs[number].trial
        value, state = None, {PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}.get(status)
        if status == DONE:
            result = self.sweep.run_folder(number).metrics
            found, wanted = result.get("objective"), self.stored.objective
            if found != wanted:
                raise CnnbenchError(
                    f"the search is for {wanted}, but this data set has {found}", f"say it: objective={found}"
                )
            value = _figure(result.get("value"))
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
        if state is not None:
            self.study.tell(trial, value, state=state, skip_if_finished=True)
        if self.stored.settings.minutes is not None:
            self._keep_time()
            self.sweep.write()


class Reporter(Observer):
    """Tells the study how a run goes, and ends the run where the study says so."""

    def __init__(self, sweep: Sweep, job: Job) -> None:
        self.objective = sweep.stored_search.objective
        self.epochs = 0
        study = _open(sweep)
        found = next(trial for trial in study.get_trials(deepcopy=False) if trial.number == job.trial)
        self.trial = optuna.trial.Trial(study, found._trial_id)
        self.known = set(found.intermediate_values)  # of a run that is gone on with

    def started(self, summary: Summary) -> None:
        self.epochs = summary.epochs

    def epoch_ended(self, entry: Mapping[str, float]) -> None:
        epoch, value = int(entry["epoch"]), entry.get(self.objective)
        if value is None or epoch in self.known:
            return
        self.trial.report(value, epoch)
        if epoch < self.epochs and self.trial.should_prune():
            raise PrunedRunError(f"{self.objective} {value:.4g} after epoch {epoch} of {self.epochs}")


def _figure(value: Any) -> float | None:
    """Return a recorded figure; None where it is none, which a row of the comparison says."""
    try:
        figure = analysis.number(value)
    except (ArithmeticError, TypeError, ValueError):
        return None
    return None if math.isnan(figure) else figure


# -- Optuna's parts --------------------------------------------------------------------------------


def _sampler(search: Search, trials: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of the proposal that follows so many trials."""
    seed = int(np.random.SeedSequence([search.seed, trials]).generate_state(1)[0]) if trials else search.seed
    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    by_chance = optuna.samplers.RandomSampler(seed=seed)
    if search.sampler == "random":
        return by_chance
    kinds = {
        "qmc": optuna.samplers.QMCSampler,
        "gp": optuna.samplers.GPSampler,
        "cmaes": optuna.samplers.CmaEsSampler,
    }
    if search.sampler == "qmc":
        seed = search.seed  # one sequence for all trials, its place is in the study
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # What these do not vary themselves is left to chance.
        return kinds[search.sampler](
            seed=seed, independent_sampler=by_chance, warn_independent_sampling=False
        )


def _pruner(search: Search, epochs: int) -> optuna.pruners.BasePruner:
    if search.pruner == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(search.min_epochs, search.reduction_factor)
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(search.min_epochs, max(epochs, 1), search.reduction_factor)
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(n_warmup_steps=search.min_epochs)
    return optuna.pruners.NopPruner()


def distribution(values: Parameter) -> optuna.distributions.BaseDistribution:
    """Return what Optuna chooses from.

    Raises:
        ValueError: the limits or the step make no sense, as Optuna says it.
    """
    if values.choices is not None:  # Optuna keeps numbers and texts only: it chooses the place in the list
        return CategoricalDistribution(list(range(len(values.choices))))
    assert values.low is not None
    assert values.high is not None
    if isinstance(values.low, int) and isinstance(values.high, int):
        step = 1 if values.step is None else values.step
        return IntDistribution(values.low, values.high, values.log, step)
    return FloatDistribution(values.low, values.high, values.log, values.step)


def _suggest(trial: optuna.Trial, values: Parameter) -> Any:
    kept = distribution(values)
    if isinstance(kept, CategoricalDistribution):
        assert values.choices is not None
        return values.choices[trial.suggest_categorical(values.key, kept.choices)]
    if isinstance(kept, IntDistribution):
        return trial.suggest_int(values.key, kept.low, kept.high, step=kept.step, log=kept.log)
    value = trial.suggest_float(values.key, kept.low, kept.high, step=kept.step, log=kept.log)
    return float(f"{value:.6g}")  # as a person would write it, without 0.30000000000000004


# -- The file of the study, and what a crash leaves of it --------------------------------------------


def _open(sweep: Sweep) -> optuna.Study:
    """Open the study that is kept in the sweep's folder, new where there is none."""
    stored = sweep.stored_search
    larger = metrics.larger_is_better(stored.objective)
    return optuna.create_study(
        storage=JournalStorage(_Journal(sweep.path / JOURNAL)),
        study_name="sweep",
        direction="maximize" if larger else "minimize",
        pruner=_pruner(stored.settings, stored.epochs),
        load_if_exists=True,
    )


def _open_whole(sweep: Sweep) -> optuna.Study:
    """Open the study; made anew from the runs where its file has lost any of them."""
    reason = "it lacks runs, or has other values of them"
    try:
        study = _open(sweep)
        trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
        is_whole = all(_is_of(trials.get(job.trial or 0), sweep, job) for job in sweep.jobs)
    except (CnnbenchError, OSError):  # an unreadable file, or a full disk, is no damage
        raise
    except Exception as error:  # noqa: BLE001  whatever Optuna makes of lines that do not belong together
        is_whole, reason = False, repr(error)
    if not is_whole:
        return _made_anew(sweep, reason)
    taken = {job.trial for job in sweep.jobs}
    for trial in trials.values():  # proposed just before the process died: nobody will run it
        if trial.number not in taken and not trial.state.is_finished():
            study.tell(trial.number, state=TrialState.FAIL)
    return study


def _is_of(trial: FrozenTrial | None, sweep: Sweep, job: Job) -> bool:
    """Tell whether a trial has the values of the job; an earlier version has not stored them apart."""
    return trial is not None and trial.params == sweep.params.get(job.folder, trial.params)


def _made_anew(sweep: Sweep, reason: str) -> optuna.Study:
    """Set the file of the study aside, and make another of what is known of the runs."""
    path = sweep.path / JOURNAL
    aside = path.with_name(f"{path.stem}.damaged{path.suffix}")
    log.warning(
        "%s is damaged (%s): it is set aside as %s and made anew from the %d runs",
        path, reason, aside.name, len(sweep.jobs),
    )  # fmt: skip
    path.replace(aside)
    study = _open(sweep)
    jobs = {job.trial or 0: job for job in sweep.jobs}
    for number in range(max(jobs, default=-1) + 1):
        lost = optuna.trial.create_trial(state=TrialState.FAIL)  # proposed, and never run
        study.add_trial(_trial_of(sweep, jobs[number]) if number in jobs else lost)
    return study


def _trial_of(sweep: Sweep, job: Job) -> FrozenTrial:
    """Return the job's trial as one that is under way; `Study.ended` says what became of it."""
    stored, params = sweep.stored_search, sweep.params.get(job.folder, {})
    try:
        rows = sweep.run_folder(job.number).history
    except CnnbenchError:  # lost, too: the pruner knows less, and the run itself says it
        rows = []
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=params,
        distributions={one.key: distribution(one) for one in stored.settings.space if one.key in params},
        intermediate_values={
            int(row["epoch"]): row[stored.objective] for row in rows if row.get(stored.objective) is not None
        },
    )


class _Journal(JournalFileBackend):  # type: ignore[misc]  # Optuna is Any here
    """Optuna's file, which never appends to half a line, as a process that was killed may have left."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, JournalFileSymlinkLock(str(path))
        super().__init__(str(path), self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lock.acquire()
        try:
            self._cut()
        finally:
            self.lock.release()
        super().append_logs(logs)

    def _cut(self) -> None:
        """Cut off a last line without an end."""
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            if file.read() in (b"", b"\n"):
                return
            file.seek(0)
            kept = file.read().rfind(b"\n") + 1
            log.warning("%s: the last %d of %d bytes are damaged and cut off", self.path, size - kept, size)
            file.truncate(kept)
            os.fsync(file.fileno())
