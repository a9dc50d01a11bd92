"""From the line of a sweep to all that is stored before anything runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench import config
from cnnbench.errors import CnnbenchError
from cnnbench.sweeps.launchers import launcher_settings
from cnnbench.sweeps.schema import Parameter, Plan, Search
from cnnbench.sweeps.store import Job
from cnnbench.system import require_package


@dataclass(frozen=True)
class Planned:
    """A sweep before it is stored.

    Attributes:
        jobs: composed and checked; none yet where a search proposes them.
        run_dir: the folder that the line asks for.
        launcher: its settings.
        search: what is stored of a search.
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
        """From the overrides of a line; a CnnbenchError for what is wrong with them as a sweep."""
        typed = config.axes(line, config_dir)
        first = config.compose(
            [text for key, (text, *_) in typed.items() if _is_of_the_sweep(key)], config_dir
        )
        plan: Plan = config.validated(Plan, config.as_values(first.sweep), "sweep")
        launcher = launcher_settings(config.as_values(first.hydra.launcher)).model_dump(mode="json")
        kept = {key: values for key, values in typed.items() if not _is_of_the_sweep(key)}
        found = config.intervals(line)
        if plan.search is None and found:
            raise CnnbenchError(f"{found[0]['key']} has an interval, for a search", "add sweep=search")
        if plan.search is not None and plan.grid:
            raise CnnbenchError("sweep.search and sweep.grid exclude each other", "set one to null or {}")
        search = plan.search and _with_space(plan.search, kept, found)
        return cls(kept, plan, launcher, search)

    @property
    def combinations(self) -> list[tuple[str, ...]]:
        """The overrides of each run of a grid, those that will be left out included."""
        grid = {
            key: [config.override(key, value) for value in values] for key, values in self.plan.grid.items()
        }
        new = {key: values for key, values in grid.items() if key not in self.typed}
        return config.combinations({**self.typed, **new}, self.plan.zip)

    def job(self, number: int, overrides: Sequence[str], config_dir: str | None) -> Job | None:
        """One run, composed and checked; None where it is left out.

        Raises:
            CnnbenchError: anything in it is wrong.
        """
        composed = config.compose(overrides, config_dir)
        if any(config.is_excluded(one, config.select_keys(composed, one)) for one in self.plan.exclude):
            return None
        return Job.of(number, overrides, config.named_config(composed, composed.hydra.runtime.choices))

    def bases(self, config_dir: str | None) -> list[dict[str, Any]]:
        """The configs that the values of a search go into: one for each combination of options of groups."""
        assert self.search is not None
        varied = {one.key for one in self.search.space}
        line = [text for key, (text, *_) in self.typed.items() if key not in varied]
        known = config.compose(line, config_dir).hydra.runtime.choices
        groups = [one for one in self.search.space if one.key in known]
        found = []
        for chosen in itertools.product(*map(_options, groups)):
            choices = {one.key: option for one, option in zip(groups, chosen, strict=True)}
            overrides = [*line, *(config.override(key, option) for key, option in choices.items())]
            composed = config.compose(overrides, config_dir)
            made = config.named_config(composed, composed.hydra.runtime.choices)
            found.append({"choices": choices, "overrides": overrides, "config": made})
        return found


def plan(line: Sequence[str], config_dir: str | None) -> Planned:
    """Compose and check everything that a line asks for.

    Raises:
        CnnbenchError: anything in it is wrong.
    """
    read = Line.read(line, config_dir)
    if read.search is not None:
        bases = read.bases(config_dir)
        search: dict[str, Any] = studies().prepare(read.search, bases, config.check_config)
        return Planned([], bases[0]["config"]["run_dir"], read.launcher, search, read.plan.resume)
    jobs: list[Job] = []
    for overrides in read.combinations:
        try:
            job = read.job(len(jobs), overrides, config_dir)
        except CnnbenchError as error:
            where = f"run {len(jobs)} of the sweep ({' '.join(overrides)})"
            raise CnnbenchError(f"{where}: {error.message}", error.hint) from error
        if job is not None:
            jobs.append(job)
    if not jobs:
        raise CnnbenchError("sweep.exclude leaves no run", "leave out fewer combinations")
    return Planned(jobs, jobs[0].config["run_dir"], read.launcher, None, read.plan.resume)


def _is_of_the_sweep(key: str) -> bool:
    return key == "sweep" or key.startswith(("sweep.", "hydra.", "hydra/"))


def _with_space(
    search: Search, typed: Mapping[str, Sequence[str]], found: Sequence[Mapping[str, Any]]
) -> Search:
    """Lists and intervals that were typed are the space of a search."""
    lists = [
        {"key": key, "choices": [config.typed_values([text])[key] for text in values]}
        for key, values in typed.items()
        if len(values) > 1
    ]
    if not lists and not found:
        return search
    return Search.model_validate({**search.model_dump(), "space": [*lists, *found]})


def _options(one: Parameter) -> list[Any]:
    if one.choices is None:
        raise CnnbenchError(f"{one.key} is a group, not a number", f"give its options: {one.key}=…,…")
    return one.choices


def studies() -> Any:
    """The module that needs Optuna."""
    require_package("a search", "optuna", "search")
    from cnnbench.sweeps import search

    return search


def makes_sweep(overrides: Sequence[str]) -> bool:
    """Whether a line asks for several runs without saying -m."""
    return any(text.startswith(("sweep=", "sweep.")) for text in overrides)
