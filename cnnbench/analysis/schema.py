"""Comparisons of many runs and of two, as programs get them; NaN and infinity are null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from typing_extensions import TypedDict

from cnnbench.analysis.diff import Errors, Flips, Pairs
from cnnbench.analysis.paired import Paired
from cnnbench.runs import IntervalRow


class VerdictRow(TypedDict):
    """A group beside the best of its ranking.

    Attributes:
        worse_by: by how much its mean is worse.
        margin: half the width of the 95 % interval of that difference, for all pairs of the ranking together.
        p: adjusted for all pairs of the ranking.
        worse: whether it certainly is.
        indistinguishable: whether the difference may be chance.
        not_tested: why there was no test; empty where there was one.
    """

    worse_by: float
    margin: float
    p: float
    worse: bool
    indistinguishable: bool
    not_tested: str


class RunRow(TypedDict):
    """One run of a group.

    Attributes:
        path: of its folder.
        seed: of the run.
        value: of the objective.
        test: the final metrics of the test split.
        intervals: of these at 95 %, were as many other examples drawn; of those that have one.
        cost: parameters, flops, seconds, examples_per_second, latency (seconds), memory (bytes).
    """

    path: str
    seed: int | None
    value: float
    test: Mapping[str, float]
    intervals: Mapping[str, IntervalRow]
    cost: Mapping[str, float]


class GroupRow(TypedDict):
    """Runs whose configs differ only in the seed.

    Attributes:
        rank: from 1, by the objective.
        differs: the config keys, dotted, that tell this group from the others, with their values.
        mean: of the objective over the runs.
        deviation: the standard deviation over the runs.
        half_width_95: of the interval of the mean, where it is symmetric.
        interval_95: lowest and highest; of a share it lies between 0 and 1.
        verdict: beside the best.
        on_front: whether no other group is better and costs no more.
        test: means of the final metrics of the test split.
        by_output: means of the figures of each class, label or target on the test split, by name.
        cost: means, by name.
        runs: each of them.
    """

    rank: int
    differs: Mapping[str, Any]
    mean: float
    deviation: float
    half_width_95: float
    interval_95: tuple[float, float]
    verdict: VerdictRow
    on_front: bool
    test: Mapping[str, float]
    by_output: Mapping[str, Mapping[str, float]]
    cost: Mapping[str, float]
    runs: list[RunRow]


class RankingRow(TypedDict):
    """Groups of one objective on one data set, whose values compare.

    Attributes:
        objective: name of the metric.
        dataset: in words; empty where the configs do not say.
        test: name of the statistical test; empty where none was possible.
        paired: the accuracy of the second beside that of the first on the same test examples; null of another
            task, or where the examples differ.
        groups: in the order asked for, the best first by default.
    """

    objective: str
    dataset: str
    test: str
    paired: Paired | None
    groups: list[GroupRow]


class ApartRow(TypedDict):
    """A run without figures.

    Attributes:
        path: of its folder.
        status: what became of it.
        reason: in one line.
    """

    path: str
    status: str
    reason: str


class ComparisonContent(TypedDict):
    """Runs compared.

    Attributes:
        cost: by which the front of quality against cost was found.
        rankings: one for each objective and data set.
        apart: runs that failed, were interrupted, are not finished, or cannot be read.
    """

    cost: str
    rankings: list[RankingRow]
    apart: list[ApartRow]


class DifferenceContent(TypedDict):
    """What differs between two runs; of a pair the first run comes first.

    Attributes:
        config: keys that differ, dotted; null where a run lacks one.
        metrics: by `split_name`; null where a run lacks one.
        cost: as recorded, in the units of `metrics.json`.
        environment: versions, device, code and data that differ.
        predictions: on the test split; null where they do not compare.
        reason: why they do not.
        kind: of `predictions`: classes that flipped, or errors of a regression.
        intervals: of the metrics at 95 %, by `split_name`; null where a run has none.
        by_output: of each class, label or target the figures on the test split, by name.
        paired: both accuracies on the same test examples; null of another task, or other examples.
    """

    config: Pairs
    metrics: Pairs
    cost: Pairs
    environment: Pairs
    predictions: Flips | Errors | None
    reason: str
    kind: Literal["flips", "errors"] | None
    intervals: Pairs
    by_output: Mapping[str, Pairs]
    paired: Paired | None
