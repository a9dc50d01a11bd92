"""The comparison of runs: selected, grouped by configuration without the seed, ranked by the objective."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml

from cnnbench.analysis.paired import Paired, paired_runs
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
from cnnbench.runs import (
    AVERAGE,
    DONE,
    OBJECTIVE,
    PRUNED,
    UNREADABLE,
    RunFolder,
    flatten,
    in_words,
    is_share,
    larger_is_better,
    positive_class,
    text_of,
)
from cnnbench.system import load_yaml

if TYPE_CHECKING:
    from cnnbench.analysis.schema import VerdictRow

NOT_COMPARED = ("name", "seed", "expected")  # places are not compared either
# Nor is what a loss is for, which changes no run, and which of the folds of a cross-validation one is.
FOLD = "training.fold"
TOLD = ("loss.tasks", FOLD)
UNJUDGED = Verdict(math.nan)


@dataclass(frozen=True)
class Group:
    """Runs whose configs differ only in seed and fold.

    Attributes:
        differs: the config keys, dotted, that tell this group from the others, with their values.
        runs: the folders of its finished runs.
        objective: name of the metric by which it is ranked.
        values: the objective of each run.
        test: mean of every final test metric.
        cost: means by the names of `COSTS`; NaN where no run has recorded it.
        records: what was read of each run.
        rank: from 1, by the objective.
        average: the run that is the average of its folds, where there is one.
        verdict: the group beside the best of its ranking.
        on_front: true where no other group of its ranking is better and costs no more.
    """

    differs: Mapping[str, Any]
    runs: Sequence[RunFolder]
    objective: str
    values: Sequence[float]
    test: Mapping[str, float]
    cost: Mapping[str, float]
    records: Sequence[Record] = ()
    rank: int = 0
    average: Record | None = None
    verdict: Verdict = UNJUDGED
    on_front: bool = False

    @property
    def overrides(self) -> list[str]:
        """The command line of its first run, without seed and places."""
        try:
            typed = self.runs[0].overrides
        except CnnbenchError as error:
            return [f"({error.message})"]
        return [
            text
            for text in typed
            if text.partition("=")[0].lstrip("+") not in (*NOT_COMPARED, FOLD, "run_dir", "data_dir")
        ]

    @property
    def by_seed(self) -> dict[int, float]:
        """The value of each seed; its mean where the seed was run twice, which is no new evidence."""
        values: dict[int, list[float]] = {}
        for record, value in zip(self.records, self.values, strict=True):
            values.setdefault(record.seed, []).append(value)
        return {seed: statistics.fmean(members) for seed, members in values.items()}

    @property
    def sample(self) -> Mapping[Hashable, float]:
        """The values that are compared: of each seed, or of each fold of each seed."""
        if not self.overlap:
            return {seed: value for seed, value in self.by_seed.items()}  # noqa: C416  keys of another type
        pairs = zip(self.records, self.values, strict=True)
        return {(record.seed, record.fold): value for record, value in pairs}

    @property
    def overlap(self) -> float:
        """Of folds, how many examples one holds out for each of the others; 0 without folds."""
        return statistics.fmean([record.overlap for record in self.records] or [0.0])

    @property
    def repeats(self) -> str:
        """What its values are over, as in `5 folds` or `3 seeds`."""
        kind = "fold" if self.overlap else "seed"
        return f"{len(self.sample)} {kind}{'' if len(self.sample) == 1 else 's'}"

    @property
    def mean(self) -> float:
        return statistics.fmean(self.by_seed.values())

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds, or folds; NaN for one."""
        values = self.sample.values()
        return statistics.stdev(values) if len(values) > 1 else math.nan

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval of the mean over seeds, or folds; NaN for one."""
        return half_width(list(self.sample.values()), self.overlap)

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval of the mean over seeds, or folds; NaN for one.

        Of a share, such as an accuracy, they lie between 0 and 1: Student's interval is taken of its logit,
        with the spread that the delta method gives that.
        """
        mean, half = self.mean, self.half_width
        if not (is_share(self.objective) and 0 < mean < 1) or math.isnan(half):
            return mean - half, mean + half
        from scipy.special import expit, logit

        centre, reach = logit(mean), half / (mean * (1 - mean))
        return float(expit(centre - reach)), float(expit(centre + reach))

    @property
    def best_run(self) -> Record:
        """Its run with the best value of the objective; of folds the average of their models."""
        if self.average is not None:
            return self.average
        up = larger_is_better(self.objective)
        pairs = zip(self.values, self.records, strict=True)
        return min(pairs, key=lambda pair: -pair[0] if up else pair[0])[1]

    @property
    def by_output(self) -> dict[str, dict[str, float]]:
        """Means of the figures of each class, label or target on the test split."""
        found = [
            record.metrics.get("by_output", {}).get("test", {})
            for record in (self.records if self.average is None else [self.average])
        ]
        if not found or not all(found):
            return {}
        names = [name for name in found[0] if all(name in one for one in found)]
        return {name: _means([dict(one[name]) for one in found]) for name in names}

    @property
    def test_metric(self) -> str:
        """Name of the test metric that tables show."""
        return next((name for name in OBJECTIVE.values() if name in self.test), "rmse")

    @property
    def objective_in_words(self) -> str:
        """The objective; of a binary task with the class that it is of, as `val_precision of dogs`."""
        return in_words(self.objective, positive_class(self.records[0].metrics) if self.records else None)

    @property
    def label(self) -> str:
        """The keys and values that tell it from the others, in one line."""
        return " ".join(f"{key}={short(value)}" for key, value in self.differs.items())


@dataclass(frozen=True)
class Ranking:
    """Groups of one objective on one data set, whose values compare.

    Attributes:
        objective: name of the metric.
        dataset: the data set in words; empty where the configs do not say.
        groups: the best first, or in the order of `sorted_by`.
        test: name of the statistical test; empty where none was possible.
        sorted_by: the column by which the groups are ordered instead of the objective; empty for none.
    """

    objective: str
    dataset: str
    groups: Sequence[Group]
    test: str
    sorted_by: str = ""

    @property
    def title(self) -> str:
        """The objective, and on which data."""
        objective = self.groups[0].objective_in_words
        return f"{objective} on {self.dataset}" if self.dataset else objective

    @property
    def order_note(self) -> str:
        """What the order is by, and what the tests are of; empty where both are by the objective."""
        if not self.sorted_by:
            return ""
        return f"sorted by {self.sorted_by}; tests and p are of {self.objective}"

    @property
    def test_notes(self) -> list[str]:
        """The test and its error rate, and what `worse by 0.3 ± 0.1` means; empty where there was none."""
        tests = [f"{self.test}, 5 % for all pairs together"] if self.test else []
        is_any_worse = any(group.verdict.worse for group in self.groups)
        return tests + (["worse by: difference ± half of its 95 % interval"] if is_any_worse else [])

    @property
    def has_several_fixes(self) -> bool:
        """Whether its runs have different `dataset.fixes`, and are ranked by a split that depends on them."""
        records = [record for group in self.groups for record in group.records]
        nodes = [record.compared.get("dataset") for record in records]
        fixes = {text_of(node.get("fixes")) for node in nodes if isinstance(node, Mapping)}
        return len(fixes) > 1 and not (self.sorted_by or self.objective).startswith("test_")

    @property
    def is_settled(self) -> bool:
        """Whether the first is better than all the others."""
        return all(group.verdict.worse for group in self.by_rank[1:])

    @property
    def by_rank(self) -> list[Group]:
        """The groups with the best first, however they are ordered now."""
        return sorted(self.groups, key=lambda group: group.rank)

    @cached_property
    def paired(self) -> Paired | str | None:
        """The second beside the first on the same test examples; a text where a file of them is damaged.

        None where there is no second, examples are not right or wrong, or the runs have not the same ones.
        """
        first, *others = self.by_rank
        if not others or first.overlap or others[0].overlap:
            return None
        try:
            return paired_runs(first.runs, others[0].runs)
        except CnnbenchError as error:
            return error.message


@dataclass(frozen=True)
class Comparison:
    """The rankings of some runs, and the runs without figures.

    Attributes:
        rankings: one for each objective and data set.
        apart: runs that failed, were interrupted, are not finished, or cannot be read.
        cost: name in `COSTS`, by which the front of quality against cost was found.
    """

    rankings: Sequence[Ranking]
    apart: Sequence[Record]
    cost: str = "seconds"

    @property
    def groups(self) -> list[Group]:
        """The groups of all rankings, the best of each first."""
        return [group for ranking in self.rankings for group in ranking.groups]


def compare(runs: Sequence[RunFolder], cost: str = "seconds") -> Comparison:
    """Rank finished runs, and keep the others apart.

    Args:
        runs: folders of runs, finished or not.
        cost: name in `COSTS`, for the front of quality against cost.
    """
    return compare_records(read_records(runs), cost)


def compare_records(records: Sequence[Record], cost: str = "seconds") -> Comparison:
    """Compare runs that were read already."""
    comparable: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.status == DONE:
            key = (record.objective, record.dataset, record.data)
            comparable.setdefault(key, []).append(record)
    names = dataset_names([members[0].config.get("dataset") for members in comparable.values()])
    names = [
        f"{name}, data {data[:8]}" if names.count(name) > 1 and data else name
        for name, (_, _, data) in zip(names, comparable, strict=True)
    ]
    # A run that a search has stopped early has no figures, but its config tells the best apart.
    stopped = [record for record in records if record.status == PRUNED]
    rankings = []
    for ((_, data, _), members), name in zip(comparable.items(), names, strict=True):
        beside = [record for record in stopped if record.dataset == data]
        rankings.append(_rank(members, beside, name, cost))
    return Comparison(rankings, [record for record in records if record.status != DONE], cost)


def _rank(records: Sequence[Record], beside: Sequence[Record], dataset: str, cost: str) -> Ranking:
    """Group and rank records of one objective and data set; configs of `beside` only tell groups apart."""
    flat = {
        record.folder.path: {
            key: value
            for key, value in flatten(record.compared).items()
            if key.partition(".")[0] not in NOT_COMPARED and key not in TOLD
        }
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
    judgement = judge([group.sample for group in groups], up, overlap=max(group.overlap for group in groups))
    qualities = [group.mean if up else -group.mean for group in groups]
    front = pareto_front([group.cost[cost] for group in groups], qualities)
    judged = [
        replace(group, verdict=verdict, on_front=index in front)
        for index, (group, verdict) in enumerate(zip(groups, judgement.verdicts, strict=True))
    ]
    ranked = sorted(judged, key=lambda group: (math.isnan(group.mean), -group.mean if up else group.mean))
    numbered = [replace(group, rank=rank) for rank, group in enumerate(ranked, start=1)]
    return Ranking(objective, dataset, numbered, judgement.test)


def _group(members: list[Record], differs: dict[str, Any]) -> Group:
    averages = [record for record in members if record.fold == AVERAGE]
    folds = [record for record in members if record.fold != AVERAGE]
    average = averages[-1] if averages and folds else None
    members = folds or averages
    test = _means([record.test for record in members])
    if members[0].overlap:  # of folds it is no test split, but that of their average is
        test = average.test if average else dict.fromkeys(test, math.nan)
    return Group(
        average=average,
        differs=differs,
        runs=[record.folder for record in members],
        objective=members[0].objective,
        values=[record.value for record in members],
        test=test,
        cost=_means([record.cost for record in members]),
        records=members,
    )


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(entry.get(name, math.nan) for entry in figures) for name in figures[0]}


def pareto_front(cost: Sequence[float], quality: Sequence[float]) -> list[int]:
    """Return the points that no other beats in one without losing in the other, the cheapest first.

    Args:
        cost: of each point; less is better.
        quality: of each point; more is better. A point with a figure that is not finite is not on it.
    """
    points = list(zip(cost, quality, strict=True))
    finite = [index for index, point in enumerate(points) if all(map(math.isfinite, point))]
    front: list[int] = []
    for index in sorted(finite, key=lambda index: (points[index][0], -points[index][1])):
        last = points[front[-1]] if front else None
        if last is None or points[index][1] > last[1] or points[index] == last:
            front.append(index)
    return front


# -- Selection and order ---------------------------------------------------------------------------


def select_records(records: Sequence[Record], filters: Sequence[str]) -> list[Record]:
    """Return the runs whose configs have the wanted values, and those that cannot be read.

    Args:
        records: of all runs.
        filters: `key=value` or `key=value,value`; the value of a config group is its option: `model=cnn`.

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
    """Return the value of a key in a flat config; that of a config group is the name of its option."""
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
    """Sort the groups by a column of `group_row`: the better, the cheaper or the smaller first.

    Raises:
        CnnbenchError: there is no such column.
    """
    return replace(comparison, rankings=[_order(ranking, key) for ranking in comparison.rankings])


def _order(ranking: Ranking, key: str) -> Ranking:
    rows = [{**group_row(group), group.objective: group.mean} for group in ranking.groups]
    known = dict.fromkeys(name for row in rows for name in row)
    if key not in known:
        raise CnnbenchError(f"there is no column {key}", nearest(key, known))
    is_score = key in (ranking.objective, "mean") or key.startswith("test_")
    down = key == "examples_per_second" or (
        is_score and larger_is_better(ranking.objective if key == "mean" else key)
    )

    def place(index: int) -> tuple[int, float, str]:
        value = rows[index].get(key)
        if not is_number(value):
            return (1, 0.0, str(value))
        return (2, 0.0, "") if math.isnan(value) else (0, -value if down else value, "")

    groups = [ranking.groups[index] for index in sorted(range(len(rows)), key=place)]
    is_by_rank = key in ("rank", "mean", ranking.objective)
    return replace(ranking, groups=groups, sorted_by="" if is_by_rank else key)


# -- Rows for tables and files -----------------------------------------------------------------------


def comparison_rows(comparison: Comparison) -> list[dict[str, object]]:
    """Return one flat mapping for each group, for a data frame or a CSV file.

    It has the objective, the data set, what `group_row` has, and NaN for what is not known. Config keys are
    dotted, and a group has only those by which its ranking is told apart.
    """
    return [
        {"objective": ranking.objective, "dataset": ranking.dataset, **group_row(group)}
        for ranking in comparison.rankings
        for group in ranking.groups
    ]


def group_row(group: Group) -> dict[str, Any]:
    """Return the figures of a group: rank, config, mean, verdict, test metrics (`test_…`) and costs."""
    return {
        "rank": group.rank,
        **group.differs,
        "runs": len(group.runs),
        "mean": group.mean,
        "deviation": group.deviation,
        "half_width_95": group.half_width,
        "low_95": group.interval[0],
        "high_95": group.interval[1],
        **verdict_row(group.verdict),
        "on_front": group.on_front,
        **{f"test_{name}": value for name, value in group.test.items()},
        **{name: group.cost[name] for name in COSTS},
    }


def verdict_row(verdict: Verdict) -> VerdictRow:
    """Return a verdict under the names that files have for it."""
    return {
        "worse_by": verdict.difference,
        "margin": verdict.margin,
        "p": verdict.p,
        "worse": verdict.worse,
        "indistinguishable": verdict.indistinguishable,
        "not_tested": verdict.reason,
    }
