"""From the line of a sweep to all that is stored before anything runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench import config
from cnnbench.errors import CnnbenchError
from cnnbench.grids import combinations, is_excluded, override
from cnnbench.launchers.settings import launcher_settings
from cnnbench.overrides import axes, intervals, typed_values
from cnnbench.plans import Parameter, Plan, Search
from cnnbench.sweeps import Job
from cnnbench.targets import validated


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


def plan(line: Sequence[str], config_dir: str | None) -> Planned:
    """Compose and check everything that a line asks for.

    Raises:
        CnnbenchError: anything in it is wrong.
    """
    typed = axes(line, config_dir)
    for key in typed:
        if key == "hydra/sweeper" or key.startswith("hydra.sweep"):
            raise CnnbenchError(
                f"{key}: the runs of a sweep are listed and stored before the first one starts",
                "run_dir=… chooses the folder, hydra/launcher=… the launcher, sweep=… the values",
            )
    first = config.compose([text for key, (text, *_) in typed.items() if _is_of_the_sweep(key)], config_dir)
    wanted: Plan = validated(Plan, config.as_values(first.sweep), "sweep")
    launcher = launcher_settings(config.as_values(first.hydra.launcher)).model_dump(mode="json")
    kept = {key: values for key, values in typed.items() if not _is_of_the_sweep(key)}
    jobs: list[Job] = []
    search = None
    open_ended = intervals(line)
    if wanted.search is not None:
        if wanted.grid:
            raise CnnbenchError("sweep.search and sweep.grid exclude each other", "set one to null or {}")
        search = _search(wanted.search, kept, open_ended, config_dir)
    elif open_ended:
        raise CnnbenchError(f"{open_ended[0]['key']} has an interval, for a search", "add sweep=search")
    else:
        jobs = _jobs(wanted, kept, config_dir)
    made = jobs[0].config if search is None else search["bases"][0]["config"]
    return Planned(jobs, made["run_dir"], launcher, search, wanted.resume)


def _is_of_the_sweep(key: str) -> bool:
    return key == "sweep" or key.startswith(("sweep.", "hydra.", "hydra/"))


def _jobs(wanted: Plan, typed: Mapping[str, Sequence[str]], config_dir: str | None) -> list[Job]:
    grid = {key: [override(key, value) for value in values] for key, values in wanted.grid.items()}
    axes = {**typed, **{key: values for key, values in grid.items() if key not in typed}}
    jobs: list[Job] = []
    for overrides in combinations(axes, wanted.zip):
        try:
            composed = config.compose(overrides, config_dir)
            if any(is_excluded(one, config.select(composed, one)) for one in wanted.exclude):
                continue
            made = config.named(composed, composed.hydra.runtime.choices)
        except CnnbenchError as error:
            where = f"run {len(jobs)} of the sweep ({' '.join(overrides)})"
            raise CnnbenchError(f"{where}: {error.message}", error.hint) from error
        jobs.append(Job.of(len(jobs), overrides, made))
    if not jobs:
        raise CnnbenchError("sweep.exclude leaves no run", "leave out fewer combinations")
    return jobs


def _search(
    search: Search,
    typed: Mapping[str, Sequence[str]],
    open_ended: Sequence[Mapping[str, Any]],
    config_dir: str | None,
) -> dict[str, Any]:
    """What is stored of a search; lists and intervals that were typed are its space."""
    lists = [
        {"key": key, "choices": [typed_values([text])[key] for text in values]}
        for key, values in typed.items()
        if len(values) > 1
    ]
    if lists or open_ended:
        search = Search.model_validate({**search.model_dump(), "space": [*lists, *open_ended]})
    varied = {one.key for one in search.space}
    line = [text for key, (text, *_) in typed.items() if key not in varied]
    known = config.compose(line, config_dir).hydra.runtime.choices
    groups = [one for one in search.space if one.key in known]
    bases = []
    for chosen in itertools.product(*map(_options, groups)):
        choices = {one.key: option for one, option in zip(groups, chosen, strict=True)}
        overrides = [*line, *(override(key, option) for key, option in choices.items())]
        composed = config.compose(overrides, config_dir)
        made = config.named(composed, composed.hydra.runtime.choices)
        bases.append({"choices": choices, "overrides": overrides, "config": made})
    prepared: dict[str, Any] = studies().prepare(search, bases, config.check_config)
    return prepared


def _options(one: Parameter) -> list[Any]:
    if one.choices is None:
        raise CnnbenchError(f"{one.key} is a group, not a number", f"give its options: {one.key}=…,…")
    return one.choices


def studies() -> Any:
    """The module that needs Optuna."""
    try:
        from cnnbench import searching
    except ModuleNotFoundError as error:
        raise CnnbenchError("a search needs optuna", 'pip install "cnnbench[search]"') from error
    return searching
