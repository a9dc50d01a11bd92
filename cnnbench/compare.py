"""Many runs to statistics: grouped by configuration without the seed, ranked by the objective."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.metrics import larger_is_better
from cnnbench.results import DONE, RunFolder

NOT_COMPARED = ("seed", "run_dir", "data_dir", "expected")


@dataclass(frozen=True)
class Group:
    """Runs whose configs differ only in the seed.

    Attributes:
        differs: the config keys, dotted, that tell this group from the others.
        runs: the finished ones.
        objective: its name.
        values: of the objective, one per run.
        test: mean of every final test metric.
        cost: mean parameters, seconds of training and examples per second.
    """

    differs: Mapping[str, Any]
    runs: Sequence[RunFolder]
    objective: str
    values: Sequence[float]
    test: Mapping[str, float]
    cost: Mapping[str, float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds; NaN for one run."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan


@dataclass(frozen=True)
class Comparison:
    """The groups, best first, and the runs that give no figures."""

    groups: Sequence[Group]
    others: Sequence[RunFolder]


def compare(runs: Sequence[RunFolder]) -> Comparison:
    """Rank finished runs; those that failed, were interrupted or are not finished are kept apart."""
    done = [run for run in runs if run.status == DONE]
    flat = {run.path: _flatten(run.config) for run in done}
    for config in flat.values():
        for key in [key for key in config if key.partition(".")[0] in NOT_COMPARED]:
            del config[key]
    keys = dict.fromkeys(key for config in flat.values() for key in config)
    differing = [key for key in keys if len({_text(config.get(key)) for config in flat.values()}) > 1]
    grouped: dict[str, list[RunFolder]] = {}
    for run in done:
        identity = _text([flat[run.path].get(key) for key in differing])
        grouped.setdefault(identity, []).append(run)
    groups = [
        _group(members, {k: flat[members[0].path].get(k) for k in differing}) for members in grouped.values()
    ]
    groups.sort(key=lambda group: -group.mean if larger_is_better(group.objective) else group.mean)
    return Comparison(groups, [run for run in runs if run.status != DONE])


def _group(members: list[RunFolder], differs: dict[str, Any]) -> Group:
    metrics = [run.metrics for run in members]
    objective = metrics[0]["objective"]
    costs = [entry["cost"] for entry in metrics]
    return Group(
        differs=_readable(differs, metrics[0]["name"]),
        runs=members,
        objective=objective,
        values=[entry["value"] for entry in metrics],
        test={
            name: statistics.fmean(entry["metrics"]["test"][name] for entry in metrics)
            for name in metrics[0]["metrics"]["test"]
        },
        cost={
            "parameters": statistics.fmean(cost["parameters"] for cost in costs),
            "seconds": statistics.fmean(cost["seconds"]["fit"] for cost in costs),
            "examples_per_second": statistics.fmean(cost["examples_per_second"] for cost in costs),
        },
    )


def _readable(differs: dict[str, Any], name: str) -> dict[str, Any]:
    """Where another option was chosen, its name says it: not every key that came with it."""
    shown: dict[str, Any] = {}
    for key, value in differs.items():
        group = key.rpartition(".")[0]
        if f"{group}._target_" in differs:
            if key.endswith("._target_"):
                shown[group] = str(value).rpartition(".")[2]
        else:
            shown[key] = value
    return shown or {"run": name}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
