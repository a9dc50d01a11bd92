"""A search by Optuna: which values a run gets, and whether it is worth going on with."""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from cnnbench import analysis
from cnnbench.config import has_key, override, value_of, with_values
from cnnbench.errors import CnnbenchError, PrunedRunError, nearest
from cnnbench.runs import DONE, FAILED, PRUNED, Observer, Summary, metrics
from cnnbench.sweeps.schema import Parameter, Search
from cnnbench.sweeps.store import Job, Sweep
from cnnbench.system import require_package

Check = Callable[[Mapping[str, Any]], object]
log = logging.getLogger("cnnbench")
NEEDED = {"gp": "torch", "cmaes": "cmaes"}  # by samplers, beyond Optuna
OF_NUMBERS = ("cmaes", "qmc")  # samplers that leave choices to chance

optuna.logging.set_verbosity(optuna.logging.WARNING)


def prepare(search: Search, bases: Sequence[Mapping[str, Any]], check: Check) -> dict[str, Any]:
    """What is stored of a search, so that it can go on whatever becomes of the YAML.

    Args:
        search: what was asked for.
        bases: for each combination of options of groups in the space, `choices`, `overrides` and `config`.
        check: raises a CnnbenchError for a config that cannot be run.

    Raises:
        CnnbenchError: no config has a key of the space, one of its values is refused, or the sampler cannot
            do its work.
    """
    if search.sampler in NEEDED:
        needed = NEEDED[search.sampler]
        require_package(f"sweep.search.sampler={search.sampler}", needed, "search", needed)
    for values in search.space:
        key = values.key
        having = [base for base in bases if key in base["choices"] or has_key(base["config"], key)]
        if not having:
            raise CnnbenchError(f"sweep.search.space: there is no key {key}", nearest(key, _keys(bases[0])))
        for base in having if key not in bases[0]["choices"] else ():
            for value in values.ends:
                check(with_values(base["config"], {key: value}))
    if search.sampler in OF_NUMBERS and not any(_is_number_of_all(one, bases) for one in search.space):
        raise CnnbenchError(
            f"sweep.search.sampler={search.sampler} varies numbers that every run has; here are only choices",
            "sweep.search.sampler=tpe, or a number: KEY=interval(LOW,HIGH)",
        )
    config = bases[0]["config"]
    task = config["dataset"].get("task", "multiclass")  # what does not say is classes; else see `ended`
    objective = config["objective"] or f"val_{metrics.OBJECTIVE[task]}"
    return {
        "settings": search.model_dump(mode="json"),
        "objective": objective,
        "epochs": config["training"]["epochs"],
        "bases": list(bases),
    }


def _is_number_of_all(values: Parameter, bases: Sequence[Mapping[str, Any]]) -> bool:
    return values.choices is None and all(has_key(base["config"], values.key) for base in bases)


class Study:
    """The runs of a search: proposes them and learns from them.

    Optuna's storage is a file in the folder of the sweep, so that each run, on whatever machine that sees it,
    can say how it goes and ask whether to go on, and so that the study itself can be gone on with.
    """

    def __init__(self, sweep: Sweep, check: Check) -> None:
        assert sweep.search is not None
        self.sweep, self.check = sweep, check
        self.search = Search.model_validate(sweep.search["settings"])
        self.bases = sweep.search["bases"]
        self.study = _open(sweep, mend=True)
        self._restore()

    def numbers(self) -> Iterator[int]:
        """Of the runs that are left, and then of new ones."""
        for job in list(self.sweep.jobs):
            self.ended(job.number)
        yield from self.sweep.left()
        while len(self.sweep.jobs) < self.search.trials:
            job = self._propose()
            self.sweep.jobs.append(job)
            self.sweep.write()
            yield job.number

    def _propose(self) -> Job:
        # Each proposal has a sampler of its own, whose seed follows from the number of trials: a search that
        # goes on proposes what it would have proposed without a break, and never the same once more.
        self.study.sampler = _sampler(self.search, len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask()
        groups = self.bases[0]["choices"]
        chosen = {one.key: _suggest(trial, one) for one in self.search.space if one.key in groups}
        base = next(base for base in self.bases if base["choices"] == chosen)
        values = {
            one.key: _suggest(trial, one)
            for one in self.search.space
            if one.key not in groups
            and has_key(base["config"], one.key)  # some keys belong to one model only
        }
        config = with_values(base["config"], values)
        self.check(config)
        overrides = [*base["overrides"], *(override(key, value) for key, value in values.items())]
        return Job.of(len(self.sweep.jobs), overrides, config, trial.number)

    def ended(self, number: int) -> None:
        """Tell Optuna what became of a run; of one that will go on, nothing."""
        job = self.sweep.jobs[number]
        status = self.sweep.status(number)
        assert job.trial is not None
        if status == DONE:
            result = self.sweep.run_folder(number).metrics
            wanted = self.sweep.search and self.sweep.search["objective"]
            if result.get("objective") != wanted:
                raise CnnbenchError(
                    f"the search is for {wanted}, but this data set has {result.get('objective')}",
                    f"say it: objective={result.get('objective')}",
                )
            try:
                value = analysis.number(result.get("value"))
            except (ArithmeticError, TypeError, ValueError):  # garbled: a row of the comparison says so
                value = math.nan
            if math.isnan(value):
                self.study.tell(job.trial, state=TrialState.FAIL, skip_if_finished=True)
            else:
                self.study.tell(job.trial, value, skip_if_finished=True)
        elif status in (PRUNED, FAILED):
            state = TrialState.PRUNED if status == PRUNED else TrialState.FAIL
            self.study.tell(job.trial, state=state, skip_if_finished=True)

    # -- after damage ------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Give the study what its file has lost: the trials of stored jobs, with what they have reported."""
        trials = {trial.number: trial for trial in self.study.get_trials(deepcopy=False)}
        lost = [job for job in self.sweep.jobs if not self._has(trials.get(job.trial or 0), job)]
        for job in lost:
            self.study.add_trial(self._trial_of(job))
            number = self.study.get_trials(deepcopy=False)[-1].number
            self.sweep.jobs[job.number] = replace(job, trial=number)
        if lost:
            log.warning(
                "the study had lost %d of %d runs: they are added again", len(lost), len(self.sweep.jobs)
            )
            self.sweep.write()
        taken = {job.trial for job in self.sweep.jobs}
        for trial in trials.values():  # proposed just before the process died: nobody will run it
            if trial.number not in taken and not trial.state.is_finished():
                self.study.tell(trial.number, state=TrialState.FAIL)

    def _has(self, trial: FrozenTrial | None, job: Job) -> bool:
        """Whether a trial is that of the job; its values may be cut off, or another's."""
        params = self._params(job)
        return (
            trial is not None
            and trial.params.keys() == params.keys()
            and all(math.isclose(trial.params[key], value, rel_tol=1e-5) for key, value in params.items())
        )

    def _params(self, job: Job) -> dict[str, float]:
        """The values that were proposed for a job, as Optuna keeps them."""
        base = next(
            base for base in self.bases if job.overrides[: len(base["overrides"])] == list(base["overrides"])
        )
        values = {
            one.key: base["choices"][one.key] if one.key in base["choices"] else value_of(job.config, one.key)
            for one in self.search.space
            if one.key in base["choices"] or has_key(base["config"], one.key)
        }
        return {one.key: _kept(one, values[one.key]) for one in self.search.space if one.key in values}

    def _trial_of(self, job: Job) -> FrozenTrial:
        """The job's trial as one that is under way; `ended` says what became of it."""
        assert self.sweep.search is not None
        objective, params = self.sweep.search["objective"], self._params(job)
        try:
            rows = self.sweep.run_folder(job.number).history
        except CnnbenchError:  # lost, too: the pruner knows less, and the run itself says it
            rows = []
        return optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions={one.key: _distribution(one) for one in self.search.space if one.key in params},
            intermediate_values={
                int(row["epoch"]): row[objective] for row in rows if row.get(objective) is not None
            },
        )


class Reporter(Observer):
    """Tells the study how a run goes, and ends it where the study says so."""

    def __init__(self, sweep: Sweep, job: Job) -> None:
        assert sweep.search is not None
        self.objective = sweep.search["objective"]
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


def _open(sweep: Sweep, mend: bool = False) -> optuna.Study:
    assert sweep.search is not None
    search = Search.model_validate(sweep.search["settings"])
    larger = metrics.larger_is_better(sweep.search["objective"])

    def open_study(storage: optuna.storages.BaseStorage) -> optuna.Study:
        study = optuna.create_study(
            storage=storage,
            study_name="sweep",
            direction="maximize" if larger else "minimize",
            pruner=_pruner(search, sweep.search["epochs"]) if sweep.search else None,
            load_if_exists=True,
        )
        study.get_trials(deepcopy=False)
        return study

    return _open_journal(sweep.path / "study.jsonl", open_study, mend)


def _sampler(search: Search, trials: int) -> optuna.samplers.BaseSampler:
    """The sampler of the proposal after so many trials."""
    seed = (
        search.seed
        if trials == 0
        else int(np.random.SeedSequence([search.seed, trials]).generate_state(1)[0])
    )
    by_chance = optuna.samplers.RandomSampler(seed=seed)  # what the sampler itself does not vary
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if search.sampler == "random":
            return by_chance
        if search.sampler == "qmc":  # one sequence for all, its place is in the study
            return optuna.samplers.QMCSampler(
                seed=search.seed, independent_sampler=by_chance, warn_independent_sampling=False
            )
        if search.sampler == "gp":
            return optuna.samplers.GPSampler(
                seed=seed, independent_sampler=by_chance, warn_independent_sampling=False
            )
        if search.sampler == "cmaes":
            return optuna.samplers.CmaEsSampler(
                seed=seed, independent_sampler=by_chance, warn_independent_sampling=False
            )
        return optuna.samplers.TPESampler(seed=seed)


def _pruner(search: Search, epochs: int) -> optuna.pruners.BasePruner:
    if search.pruner == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(search.min_epochs, search.reduction_factor)
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(search.min_epochs, max(epochs, 1), search.reduction_factor)
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(n_warmup_steps=search.min_epochs)
    return optuna.pruners.NopPruner()


def _suggest(trial: optuna.Trial, values: Parameter) -> Any:
    key = values.key
    if values.choices is not None:
        # Optuna keeps numbers and texts only: what is chosen is the place in the list.
        return values.choices[trial.suggest_categorical(key, list(range(len(values.choices))))]
    assert values.low is not None
    assert values.high is not None
    if isinstance(values.low, int) and isinstance(values.high, int):
        step = int(values.step) if values.step else 1
        return trial.suggest_int(key, values.low, values.high, log=values.log, step=step)
    value = trial.suggest_float(key, values.low, values.high, log=values.log, step=values.step)
    return float(f"{value:.6g}")  # as a person would write it, without 0.30000000000000004


def _distribution(values: Parameter) -> optuna.distributions.BaseDistribution:
    """What `_suggest` chooses from, as Optuna keeps it."""
    if values.choices is not None:
        return CategoricalDistribution(list(range(len(values.choices))))
    assert values.low is not None
    assert values.high is not None
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, values.log, int(values.step) if values.step else 1)
    return FloatDistribution(values.low, values.high, values.log, values.step)


def _kept(values: Parameter, chosen: Any) -> float:
    """A value as Optuna keeps it: of choices its place; a number was rounded, maybe off its step or range."""
    if values.choices is not None:
        return float(values.choices.index(chosen))
    assert values.low is not None
    assert values.high is not None
    if isinstance(values.low, int) and isinstance(values.high, int):
        return float(chosen)
    if values.step:
        return float(values.low + round((chosen - values.low) / values.step) * values.step)
    return float(min(max(chosen, values.low), values.high))


def _keys(base: Mapping[str, Any]) -> list[str]:
    return [
        f"{group}.{key}" for group, node in base["config"].items() if isinstance(node, dict) for key in node
    ]


# -- The file of the study, cut back to what is whole of it after a crash -----------------------------


def _open_journal(
    path: Path, open_study: Callable[[optuna.storages.BaseStorage], optuna.Study], mend: bool
) -> optuna.Study:
    """Open the study that is kept in a file, new where there is none.

    Args:
        path: the file.
        open_study: makes a study of a storage.
        mend: first cut off what is not whole. What then still makes no study is set aside.
    """
    journal = _Journal(path)
    if not mend:
        return open_study(JournalStorage(journal))
    journal.cut(only_end=False)
    try:
        return open_study(JournalStorage(journal))
    except Exception as error:  # noqa: BLE001  whatever Optuna makes of lines that do not belong together
        aside = path.with_name(f"{path.stem}.damaged{path.suffix}")
        log.warning("%s is damaged (%r): it is set aside as %s", path, error, aside.name)
        path.replace(aside)
        return open_study(JournalStorage(_Journal(path)))


class _Journal(JournalFileBackend):  # type: ignore[misc]  # Optuna is Any here
    """Never appends to half a line, which a process that was killed may have left."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, JournalFileSymlinkLock(str(path))
        super().__init__(str(path), self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.cut(only_end=True)
        super().append_logs(logs)

    def cut(self, only_end: bool) -> None:
        """Cut off a last line without an end; or all from the first line on that is not whole."""
        self.lock.acquire()
        try:
            with self.path.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if only_end and (size == 0 or _last_byte(file) == b"\n"):
                    return
                file.seek(0)
                kept = _whole(file.read(), only_end)
                if kept < size:
                    log.warning(
                        "%s: the last %d of %d bytes are damaged and cut off", self.path, size - kept, size
                    )
                    file.truncate(kept)
                    os.fsync(file.fileno())
        finally:
            self.lock.release()


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    last: bytes = file.read(1)
    return last


def _whole(content: bytes, only_end: bool) -> int:
    """The number of bytes up to the end of the last whole line."""
    end = content.rfind(b"\n") + 1
    if only_end:
        return end
    kept = 0
    for line in content[:end].split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not (isinstance(entry, dict) and isinstance(entry.get("op_code"), int)):
            break
        kept += len(line) + 1
    return kept
