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

NOT_COMPARED = ("name", "seed", "run_dir", "data_dir", "expected")


@dataclass(frozen=True)
class Group:
    """Runs whose configs differ only in the seed.

    Attributes:
        differs: the config keys, dotted, that tell this group from the others.
        overrides: what was typed for the first of its runs, without the seed.
        runs: the finished ones.
        objective: its name.
        values: of the objective, one per run.
        test: mean of every final test metric.
        cost: mean parameters, seconds of training and examples per second.
    """

    differs: Mapping[str, Any]
    overrides: Sequence[str]
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
    objectives: dict[str, list[RunFolder]] = {}
    for run in done:
        objectives.setdefault(run.metrics["objective"], []).append(run)
    groups = [group for members in objectives.values() for group in _rank(members)]
    return Comparison(groups, [run for run in runs if run.status != DONE])


def _rank(runs: Sequence[RunFolder]) -> list[Group]:
    """Groups of runs with one objective, best first."""
    flat = {run.path: _flatten(run.config) for run in runs}
    for config in flat.values():
        for key in [key for key in config if key.partition(".")[0] in NOT_COMPARED]:
            del config[key]
    keys = dict.fromkeys(key for config in flat.values() for key in config)
    differing = [key for key in keys if len({_text(config.get(key)) for config in flat.values()}) > 1]
    shown = [key for key in differing if not _goes_without_saying(key, differing, list(flat.values()))]
    grouped: dict[str, list[RunFolder]] = {}
    for run in runs:
        identity = _text([flat[run.path].get(key) for key in differing])
        grouped.setdefault(identity, []).append(run)
    groups = [
        _group(members, _readable(flat[members[0].path], shown, members[0].metrics["name"]))
        for members in grouped.values()
    ]
    sign = -1 if larger_is_better(runs[0].metrics["objective"]) else 1
    return sorted(groups, key=lambda group: (math.isnan(group.mean), sign * group.mean))


def _group(members: list[RunFolder], differs: dict[str, Any]) -> Group:
    metrics = [run.metrics for run in members]
    costs = [entry["cost"] for entry in metrics]
    return Group(
        differs=differs,
        overrides=[o for o in members[0].overrides if o.partition("=")[0].lstrip("+") not in NOT_COMPARED],
        runs=members,
        objective=metrics[0]["objective"],
        values=[_number(entry["value"]) for entry in metrics],
        test={
            name: statistics.fmean(_number(entry["metrics"]["test"].get(name)) for entry in metrics)
            for name in metrics[0]["metrics"]["test"]
        },
        cost={
            "parameters": statistics.fmean(cost["parameters"] for cost in costs),
            "seconds": statistics.fmean(cost["seconds"]["fit"] for cost in costs),
            "examples_per_second": statistics.fmean(cost["examples_per_second"] for cost in costs),
        },
    )


def _number(value: float | None) -> float:
    """What was NaN or infinite stands as null in the file."""
    return math.nan if value is None else value


def _goes_without_saying(key: str, differing: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a differing key came along with the option that was chosen, whose name is shown anyway."""
    if f"{key}._target_" in differing:  # a number in some configs, an object in others
        return True
    target = f"{key.rpartition('.')[0]}._target_"
    if key == target or target not in differing:
        return False
    values: dict[str, set[str]] = {}
    for config in configs:
        values.setdefault(_text(config.get(target)), set()).add(_text(config.get(key)))
    return all(len(found) == 1 for found in values.values())


def _readable(config: Mapping[str, Any], keys: Sequence[str], name: str) -> dict[str, Any]:
    """The values of `keys`; of an option its name, under the name of its group."""
    shown: dict[str, Any] = {}
    for key in keys:
        group, _, last = key.rpartition(".")
        if last == "_target_":
            target = config.get(key)
            shown[group] = str(target).rpartition(".")[2] if target else config.get(group, "–")
        else:
            shown[key] = config.get(key)
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
