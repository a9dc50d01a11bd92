"""The plan of a sweep: from its line to all that is stored before anything runs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench import config, runs
from cnnbench.errors import CnnbenchError, nearest
from cnnbench.sweeps.launchers import launcher_settings
from cnnbench.sweeps.schema import Base, Parameter, Plan, Search, StoredSearch
from cnnbench.sweeps.store import Job
from cnnbench.system import require_package

NEEDED = {"gp": "torch", "cmaes": "cmaes"}  # packages of samplers, beyond Optuna
OF_NUMBERS = ("cmaes", "qmc")  # samplers that leave choices to chance


@dataclass(frozen=True)
class Planned:
    """A sweep before it is stored.

    Attributes:
        jobs: composed and checked; none yet where a search proposes them.
        run_dir: the folder that the line asks for.
        launcher: its settings.
        search: the content of a `StoredSearch`; None for a grid.
        resume: the folder of the sweep to go on with.
    """

    jobs: list[Job]
    run_dir: str | None
    launcher: dict[str, Any]
    search: dict[str, Any] | None
    resume: str | None


@dataclass(frozen=True)
class Line:
    """What was typed for a sweep, taken apart.

    Attributes:
        typed: the values of each key of a run's config, as overrides.
        plan: the group `sweep`.
        launcher: its settings.
        search: what Optuna is asked for; None for a grid.
    """

    typed: Mapping[str, Sequence[str]]
    plan: Plan
    launcher: dict[str, Any]
    search: Search | None

    @classmethod
    def read(cls, line: Sequence[str], config_dir: str | None) -> Line:
        """Take the overrides of a sweep apart.

        Raises:
            CnnbenchError: the sweep, its launcher or its search is wrong.
        """
        typed = config.axes(line, config_dir)
        first = config.compose(
            [text for key, (text, *_) in typed.items() if _is_of_the_sweep(key)], config_dir
        )
        plan: Plan = config.validated(Plan, config.as_values(first.sweep), "sweep")
        launcher = launcher_settings(config.as_values(first.hydra.launcher)).model_dump(mode="json")
        kept = {key: values for key, values in typed.items() if not _is_of_the_sweep(key)}
        if len(kept.get("run_dir", ())) > 1:
            raise CnnbenchError(
                "run_dir has several values; all runs of a sweep lie in one", "run_dir=FOLDER"
            )
        intervals = config.intervals(line)
        if plan.search is None and intervals:
            raise CnnbenchError(f"{intervals[0]['key']} has an interval, for a search", "add sweep=search")
        if plan.search is not None and plan.grid:
            raise CnnbenchError("sweep.search and sweep.grid exclude each other", "set one to null or {}")
        search = plan.search and _with_typed_space(plan.search, kept, intervals)
        return cls(kept, plan, launcher, search)

    @property
    def combinations(self) -> list[tuple[str, ...]]:
        """The overrides of each run of a grid, those that will be left out included."""
        grid = {
            key: [config.override(key, value) for value in values] for key, values in self.plan.grid.items()
        }
        new = {key: values for key, values in grid.items() if key not in self.typed}
        return config.combinations({**self.typed, **new}, self.plan.zip)

    def with_folds(self, overrides: tuple[str, ...], config_dir: str | None) -> list[tuple[str, ...]]:
        """Return the overrides of each fold, and of their average, of a combination with folds."""
        training = config.compose(overrides, config_dir).training
        if training.get("folds") is None or training.get("fold") is not None:
            return [overrides]
        if not isinstance(training.folds, int):  # refused where it is checked
            return [overrides]
        return [(*overrides, f"training.fold={fold}") for fold in (*range(training.folds), runs.AVERAGE)]

    def job(self, number: int, overrides: Sequence[str], config_dir: str | None) -> Job | None:
        """Compose and check one run; None where it is left out.

        Raises:
            CnnbenchError: anything in it is wrong.
        """
        composed = config.compose(overrides, config_dir)
        if any(config.is_excluded(one, config.select_keys(composed, one)) for one in self.plan.exclude):
            return None
        return Job.of(number, overrides, config.named_config(composed, composed.hydra.runtime.choices))

    def bases(self, config_dir: str | None) -> list[Base]:
        """Return the configs that the values of a search go into, one for each combination of options."""
        assert self.search is not None
        varied = {one.key for one in self.search.space}
        line = [text for key, (text, *_) in self.typed.items() if key not in varied]
        known = config.compose(line, config_dir).hydra.runtime.choices
        groups = {one.key: _options(one) for one in self.search.space if one.key in known}
        bases = []
        for options in itertools.product(*groups.values()):
            choices = dict(zip(groups, options, strict=True))
            overrides = [*line, *(config.override(key, option) for key, option in choices.items())]
            composed = config.compose(overrides, config_dir)
            made = config.named_config(composed, composed.hydra.runtime.choices)
            bases.append(Base(choices=choices, overrides=overrides, config=made))
        return bases


def plan(line: Sequence[str], config_dir: str | None) -> Planned:
    """Compose and check everything that a line asks for.

    Raises:
        CnnbenchError: anything in it is wrong.
    """
    read = Line.read(line, config_dir)
    if read.search is not None:
        bases = read.bases(config_dir)
        if any(base.config["training"]["folds"] for base in bases):
            raise CnnbenchError(
                "a search has no folds: it would choose by them, and then they measure nothing",
                "search with training.folds=null, then the best with training.folds=5",
            )
        _check_search(read.search, bases)
        first = bases[0].config
        task = first["dataset"].get("task") or "multiclass"  # a wrong guess is told after the first run
        stored = StoredSearch(
            settings=read.search,
            objective=first["objective"] or f"val_{runs.metrics.OBJECTIVE[task]}",
            epochs=first["training"]["epochs"],
            bases=bases,
        )
        return Planned([], first["run_dir"], read.launcher, stored.model_dump(), read.plan.resume)
    with config.files_unchanged():
        jobs = _jobs(read, config_dir)
    if not jobs:
        raise CnnbenchError("sweep.exclude leaves no run", "leave out fewer combinations")
    return Planned(jobs, jobs[0].config["run_dir"], read.launcher, None, read.plan.resume)


def _jobs(read: Line, config_dir: str | None) -> list[Job]:
    jobs: list[Job] = []
    for overrides in (one for each in read.combinations for one in read.with_folds(each, config_dir)):
        try:
            job = read.job(len(jobs), overrides, config_dir)
        except CnnbenchError as error:
            where = f"run {len(jobs)} of the sweep ({' '.join(overrides)})"
            raise CnnbenchError(f"{where}: {error.message}", error.hint) from error
        if job is not None:
            jobs.append(job)
    return jobs


def makes_sweep(overrides: Sequence[str]) -> bool:
    """Tell whether a line asks for several runs without saying -m."""
    keys = {text.partition("=")[0].lstrip("+") for text in overrides}
    is_cross_validation = "training.folds" in keys and "training.fold" not in keys
    return is_cross_validation or any(key == "sweep" or key.startswith("sweep.") for key in keys)


def _is_of_the_sweep(key: str) -> bool:
    return key == "sweep" or key.startswith(("sweep.", "hydra.", "hydra/"))


# -- A search --------------------------------------------------------------------------------------


def _with_typed_space(
    search: Search, typed: Mapping[str, Sequence[str]], intervals: Sequence[Mapping[str, Any]]
) -> Search:
    """Return the search with the lists and intervals that were typed as its space, if there are any."""
    lists = [
        {"key": key, "choices": [config.typed_values([text])[key] for text in values]}
        for key, values in typed.items()
        if len(values) > 1
    ]
    if not lists and not intervals:
        return search
    return Search.model_validate({**search.model_dump(), "space": [*lists, *intervals]})


def _options(one: Parameter) -> list[Any]:
    if one.choices is None:
        raise CnnbenchError(f"{one.key} is a group, not a number", f"give its options: {one.key}=…,…")
    return one.choices


def _check_search(search: Search, bases: Sequence[Base]) -> None:
    """Refuse a search that could not run.

    Raises:
        CnnbenchError: Optuna or the sampler is not installed, no config has a key of the space, a value is
            refused, its limits make no sense, or the sampler would have nothing to vary.
    """
    require_package("a search", "optuna", "search")
    sampler = f"sweep.search.sampler={search.sampler}"
    if needed := NEEDED.get(search.sampler):
        require_package(sampler, needed, "search", needed)
    from cnnbench.sweeps.search import distribution

    if twice := [key for key, count in Counter(one.key for one in search.space).items() if count > 1]:
        raise CnnbenchError(f"sweep.search.space names {twice[0]} twice", "leave one out")
    for values in search.space:
        try:
            distribution(values)
        except ValueError as error:
            raise CnnbenchError(
                f"sweep.search.space: {values.key}: {error}", "change low, high or step"
            ) from error
        having = [base for base in bases if base.varies(values.key)]
        if not having:
            nodes = {group: node for group, node in bases[0].config.items() if isinstance(node, dict)}
            known = [f"{group}.{key}" for group, node in nodes.items() for key in node]
            raise CnnbenchError(
                f"sweep.search.space: there is no key {values.key}", nearest(values.key, known)
            )
        for base in having if values.key not in bases[0].choices else ():
            for value in values.ends:
                config.check_config(config.with_values(base.config, {values.key: value}))
    numbers = [one.key for one in search.space if one.choices is None]
    if search.sampler in OF_NUMBERS and not any(all(base.varies(key) for base in bases) for key in numbers):
        raise CnnbenchError(
            f"{sampler} varies numbers that every run has; here are only choices",
            "sweep.search.sampler=tpe, or a number: KEY=interval(LOW,HIGH)",
        )
