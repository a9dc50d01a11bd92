"""One group of a comparison, as its page names, writes and draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from cnnbench.compare import Group
from cnnbench.page.charts import Curve, Point, colour
from cnnbench.page.costs import COSTS
from cnnbench.report import fixed


def curves_of(rank: int, group: Group) -> list[Curve]:
    return [
        Curve(name_of(group), str(run.metrics.get("seed", "–")), rank, colour(rank), run.history)
        for run in group.runs
    ]


def point_of(rank: int, group: Group, costs: Sequence[str]) -> Point:
    spread = 0.0 if math.isnan(group.deviation) else group.deviation
    low, high = group.mean - spread, group.mean + spread
    spent = {COSTS[key].label: group.cost[key] for key in costs}
    return Point(name_of(group), rank, colour(rank), group.mean, low, high, spent)


def name_of(group: Group) -> str:
    return " ".join(f"{key}={value}" for key, value in group.differs.items())


def test_metric(group: Group) -> str:
    return "accuracy" if "accuracy" in group.test else "rmse"


def mean_text(group: Group) -> str:
    return fixed(group.mean) + (f" ± {fixed(group.deviation)}" if len(group.values) > 1 else "")


def interval(group: Group) -> tuple[float, float]:
    """Of the mean, by Student's t over the seeds; NaN for one run."""
    if len(group.values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.975, len(group.values) - 1) * group.deviation / math.sqrt(len(group.values))
    return group.mean - half, group.mean + half


def interval_text(group: Group) -> str:
    low, high = interval(group)
    return "–" if math.isnan(low) else f"{fixed(low)} – {fixed(high)}"


def order(value: float) -> float | None:
    return None if math.isnan(value) else value
