"""A search by Optuna: which values a run gets, and whether it is worth going on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from cnnbench.config import has_key, override, with_values
from cnnbench.errors import CnnbenchError, PrunedRunError, nearest
from cnnbench.runs import DONE, FAILED, PRUNED, Observer, Summary, metrics
from cnnbench.sweeps.schema import Parameter, Search
from cnnbench.sweeps.store import Job, Sweep

Check = Callable[[Mapping[str, Any]], object]

optuna.logging.set_verbosity(optuna.logging.WARNING)


def prepare(search: Search, bases: Sequence[Mapping[str, Any]], check: Check) -> dict[str, Any]:
    """What is stored of a search, so that it can go on whatever becomes of the YAML.

    Args:
        search: what was asked for.
        bases: for each combination of options of groups in the space, `choices`, `overrides` and `config`.
        check: raises a CnnbenchError for a config that cannot be run.

    Raises:
        CnnbenchError: no config has a key of the space, or one of its values is refused.
    """
    for values in search.space:
        key = values.key
        having = [base for base in bases if key in base["choices"] or has_key(base["config"], key)]
        if not having:
            raise CnnbenchError(f"sweep.search.space: there is no key {key}", nearest(key, _keys(bases[0])))
        for base in having if key not in bases[0]["choices"] else ():
            for value in values.ends:
                check(with_values(base["config"], {key: value}))
    config = bases[0]["config"]
    task = config["dataset"].get("task", "multiclass")  # what does not say is classes; else see `ended`
    objective = config["objective"] or f"val_{metrics.OBJECTIVE[task]}"
    return {
        "settings": search.model_dump(mode="json"),
        "objective": objective,
        "epochs": config["training"]["epochs"],
        "bases": list(bases),
    }


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
        self.study = _open(sweep)

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
            value, wanted = result["value"], self.sweep.search and self.sweep.search["objective"]
            if result["objective"] != wanted:
                raise CnnbenchError(
                    f"the search is for {wanted}, but this data set has {result['objective']}",
                    f"say it: objective={result['objective']}",
                )
            if value is None:  # was NaN
                self.study.tell(job.trial, state=TrialState.FAIL, skip_if_finished=True)
            else:
                self.study.tell(job.trial, value, skip_if_finished=True)
        elif status in (PRUNED, FAILED):
            state = TrialState.PRUNED if status == PRUNED else TrialState.FAIL
            self.study.tell(job.trial, state=state, skip_if_finished=True)


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


def _open(sweep: Sweep) -> optuna.Study:
    assert sweep.search is not None
    search = Search.model_validate(sweep.search["settings"])
    larger = metrics.larger_is_better(sweep.search["objective"])
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(sweep.path / "study.jsonl"))),
        study_name="sweep",
        direction="maximize" if larger else "minimize",
        sampler=_sampler(search),
        pruner=_pruner(search, sweep.search["epochs"]),
        load_if_exists=True,
    )


def _sampler(search: Search) -> optuna.samplers.BaseSampler:
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=search.seed)
    if search.sampler == "qmc":
        return optuna.samplers.QMCSampler(seed=search.seed, warn_independent_sampling=False)
    return optuna.samplers.TPESampler(seed=search.seed)


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


def _keys(base: Mapping[str, Any]) -> list[str]:
    return [
        f"{group}.{key}" for group, node in base["config"].items() if isinstance(node, dict) for key in node
    ]
