"""Many runs to statistics: selected, grouped by configuration without the seed, ranked by the objective."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from cnnbench.analysis.records import (
    COSTS,
    Record,
    dataset_names,
    differing_keys,
    is_number,
    read_records,
    readable,
    short,
    told_apart_by,
)
from cnnbench.analysis.significance import Verdict, half_width, judge
from cnnbench.errors import CnnbenchError, nearest
from cnnbench.runs import DONE, PRUNED, UNREADABLE, RunFolder, flatten, larger_is_better, text_of
from cnnbench.system import load_yaml

NOT_COMPARED = ("name", "seed", "expected")  # nor are places
UNJUDGED = Verdict(math.nan)


@dataclass(frozen=True)
class Group:
    """Runs whose configs differ only in the seed.

    Attributes:
        differs: the config keys, dotted, that tell this group from the others.
        runs: the finished ones.
        objective: its name.
        values: of the objective, one per run.
        test: mean of every final test metric.
        cost: means by the names of `COSTS`; NaN what no run has recorded.
        records: what was read of each run.
        rank: from 1 on, by the objective.
        verdict: beside the best of its ranking.
        on_front: whether no other group of its ranking is better and costs no more.
    """

    differs: Mapping[str, Any]
    runs: Sequence[RunFolder]
    objective: str
    values: Sequence[float]
    test: Mapping[str, float]
    cost: Mapping[str, float]
    records: Sequence[Record] = ()
    rank: int = 0
    verdict: Verdict = UNJUDGED
    on_front: bool = False

    @property
    def overrides(self) -> list[str]:
        """What was typed for the first of its runs, without the seed."""
        try:
            typed = self.runs[0].overrides
        except CnnbenchError as error:
            return [f"({error.message})"]
        return [
            text
            for text in typed
            if text.partition("=")[0].lstrip("+") not in (*NOT_COMPARED, "run_dir", "data_dir")
        ]

    @property
    def by_seed(self) -> dict[int, float]:
        """The value of each seed, the mean where it was run more than once: that is no new evidence."""
        values: dict[int, list[float]] = {}
        for record, value in zip(self.records, self.values, strict=True):
            values.setdefault(record.seed, []).append(value)
        return {seed: statistics.fmean(members) for seed, members in values.items()}

    @property
    def mean(self) -> float:
        return statistics.fmean(self.by_seed.values())

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds; NaN for one."""
        values = self.by_seed.values()
        return statistics.stdev(values) if len(values) > 1 else math.nan

    @property
    def half_width(self) -> float:
        """Of the 95 % interval of the mean over seeds; NaN for one."""
        return half_width(list(self.by_seed.values()))

    @property
    def test_metric(self) -> str:
        """The one of its test metrics that is shown."""
        return "accuracy" if "accuracy" in self.test else "rmse"

    @property
    def label(self) -> str:
        """What tells it from the others, in one line."""
        return " ".join(f"{key}={short(value)}" for key, value in self.differs.items())


@dataclass(frozen=True)
class Ranking:
    """Groups whose values compare: of one objective, on one data set.

    Attributes:
        objective: the name of the metric.
        dataset: which data, in words; empty where configs do not say.
        groups: the best first.
        test: by which test they were compared; empty where that was not possible.
    """

    objective: str
    dataset: str
    groups: Sequence[Group]
    test: str


@dataclass(frozen=True)
class Comparison:
    """The rankings, and the runs that give no figures.

    Attributes:
        rankings: of groups whose values compare.
        apart: runs that failed, were interrupted, go on, or cannot be read.
        cost: by which the front of quality against cost was found.
    """

    rankings: Sequence[Ranking]
    apart: Sequence[Record]
    cost: str = "seconds"

    @property
    def groups(self) -> list[Group]:
        """Of all rankings, the best of each first."""
        return [group for ranking in self.rankings for group in ranking.groups]


def compare(runs: Sequence[RunFolder], cost: str = "seconds") -> Comparison:
    """Rank finished runs; those that failed, were interrupted or are not finished are kept apart."""
    return compare_records(read_records(runs), cost)


def compare_records(records: Sequence[Record], cost: str = "seconds") -> Comparison:
    """As `compare`, of runs that were read already."""
    comparable: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.status == DONE:
            key = (record.objective, text_of(record.compared.get("dataset")), record.data)
            comparable.setdefault(key, []).append(record)
    names = dataset_names([members[0].config.get("dataset") for members in comparable.values()])
    names = [
        f"{name}, data {data[:8]}" if names.count(name) > 1 and data else name
        for name, (_, _, data) in zip(names, comparable, strict=True)
    ]
    # What a search has stopped early tells the best apart, too, though it has no figures.
    stopped = [record for record in records if record.status == PRUNED]
    rankings = []
    for ((_, data, _), members), name in zip(comparable.items(), names, strict=True):
        beside = [record for record in stopped if text_of(record.compared.get("dataset")) == data]
        rankings.append(_rank(members, beside, name, cost))
    return Comparison(rankings, [record for record in records if record.status != DONE], cost)


def _rank(records: Sequence[Record], beside: Sequence[Record], dataset: str, cost: str) -> Ranking:
    """Groups of records with one objective and one data set, best first; `beside` have no rank."""
    flat = {
        record.folder.path: flatten({k: v for k, v in record.compared.items() if k not in NOT_COMPARED})
        for record in (*records, *beside)
    }
    texts = {path: {key: text_of(value) for key, value in config.items()} for path, config in flat.items()}
    differing = differing_keys(list(texts.values()))
    shown = told_apart_by(differing, list(texts.values()))
    grouped: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        config = texts[record.folder.path]
        grouped.setdefault(tuple(config.get(key, "null") for key in differing), []).append(record)
    groups = [
        _group(members, readable(flat[members[0].folder.path], shown, members[0].metrics["name"]))
        for members in grouped.values()
    ]
    objective = records[0].objective
    up = larger_is_better(objective)
    judgement = judge([group.by_seed for group in groups], up)
    front = _front([(group.mean if up else -group.mean, group.cost[cost]) for group in groups])
    judged = [
        replace(group, verdict=verdict, on_front=on_front)
        for group, verdict, on_front in zip(groups, judgement.verdicts, front, strict=True)
    ]
    ranked = sorted(judged, key=lambda group: (math.isnan(group.mean), -group.mean if up else group.mean))
    numbered = [replace(group, rank=rank) for rank, group in enumerate(ranked, start=1)]
    return Ranking(objective, dataset, numbered, judgement.test)


def _group(members: list[Record], differs: dict[str, Any]) -> Group:
    return Group(
        differs=differs,
        runs=[record.folder for record in members],
        objective=members[0].objective,
        values=[record.value for record in members],
        test=_means([record.test for record in members]),
        cost=_means([record.cost for record in members]),
        records=members,
    )


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(entry.get(name, math.nan) for entry in figures) for name in figures[0]}


def _front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of (quality, cost) no other point beats in one without losing in the other."""
    found = [False] * len(points)
    best = (-math.inf, math.inf)
    order = sorted(range(len(points)), key=lambda index: (points[index][1], -points[index][0]))
    for index in order:
        quality, cost = points[index]
        if math.isfinite(quality) and math.isfinite(cost) and (quality > best[0] or points[index] == best):
            found[index], best = True, points[index]
    return found


# -- Selection and order ---------------------------------------------------------------------------


def select_records(records: Sequence[Record], filters: Sequence[str]) -> list[Record]:
    """The runs whose configs have the wanted values; what cannot be read stays, to be told.

    Args:
        records: of all runs.
        filters: `key=value` or `key=value,value`; of a group its option: `model=cnn`.

    Raises:
        CnnbenchError: no run has such a key, or such a value.
    """
    kept = list(records)
    flat = {record.folder.path: flatten(record.config) for record in records}
    for text in filters:
        key, equals, wanted = text.partition("=")
        if not equals:
            raise CnnbenchError(f"cannot read the filter {text!r}", "write --filter key=value,value")
        found = {path: _value(config, key) for path, config in flat.items()}
        if all(value is None for value in found.values()):
            known = {_shown(key) for config in flat.values() for key in config}
            raise CnnbenchError(f"no run has the config key {key}", nearest(key, known))
        values = re.split(r",(?![^\[]*\])", wanted)
        kept = [
            record
            for record in kept
            if record.status == UNREADABLE or any(_same(found[record.folder.path], value) for value in values)
        ]
        if all(record.status == UNREADABLE for record in kept):
            present = sorted({str(value[0]) for value in found.values() if value is not None})
            raise CnnbenchError(f"no run has {text}", f"{key} is one of: {', '.join(present)}")
    return kept


def _value(config: Mapping[str, Any], key: str) -> tuple[Any] | None:
    """The value of a key in a flat config; of a group the name of its option."""
    if key in config:
        return (config[key],)
    target = config.get(f"{key}._target_")
    return (str(target).rpartition(".")[2],) if target else None


def _shown(key: str) -> str:
    return key.removesuffix("._target_")


def _same(found: tuple[Any] | None, wanted: str) -> bool:
    if found is None:
        return False
    value = found[0]
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    try:
        return str(value) == wanted or bool(value == load_yaml(wanted))
    except yaml.YAMLError:
        return False


def order_groups(comparison: Comparison, key: str) -> Comparison:
    """The same, its groups by a column: the better, the cheaper or the smaller first.

    Raises:
        CnnbenchError: there is no such column.
    """
    return replace(comparison, rankings=[_order(ranking, key) for ranking in comparison.rankings])


def _order(ranking: Ranking, key: str) -> Ranking:
    columns = [columns_of(group) for group in ranking.groups]
    known = dict.fromkeys(name for column in columns for name in column)
    if key not in known:
        raise CnnbenchError(f"there is no column {key}", nearest(key, known))
    is_score = key == ranking.objective or key.startswith("test_")
    down = key == "examples_per_second" or (is_score and larger_is_better(key))

    def place(index: int) -> tuple[int, float, str]:
        value = columns[index].get(key)
        if not is_number(value):
            return (1, 0.0, str(value))
        return (2, 0.0, "") if math.isnan(value) else (0, -value if down else value, "")

    places = sorted(range(len(columns)), key=place)
    return replace(ranking, groups=[ranking.groups[index] for index in places])


def columns_of(group: Group) -> dict[str, Any]:
    """Everything of a group that it can be sorted by, by its name."""
    return {
        "rank": group.rank,
        **group.differs,
        "runs": len(group.runs),
        group.objective: group.mean,
        **{f"test_{name}": value for name, value in group.test.items()},
        **{name: group.cost[name] for name in COSTS},
    }
