"""One group of a comparison, as its page names, writes and draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cnnbench.comparison.compare import Group
from cnnbench.page.charts import Curve, Point, colour
from cnnbench.page.costs import COSTS
from cnnbench.report import fixed


def curves_of(rank: int, group: Group) -> list[Curve]:
    return [
        Curve(name_of(group), str(record.seed), rank, colour(rank), record.folder.history)
        for record in group.records
    ]


def point_of(rank: int, group: Group, costs: Sequence[str]) -> Point:
    spread = 0.0 if math.isnan(group.deviation) else group.deviation
    low, high = group.mean - spread, group.mean + spread
    spent = {COSTS[key].label: group.cost[key] for key in costs}
    return Point(name_of(group), rank, colour(rank), group.mean, low, high, spent)


def name_of(group: Group) -> str:
    return group.label


def mean_text(group: Group) -> str:
    return fixed(group.mean) + (f" ± {fixed(group.deviation)}" if len(group.values) > 1 else "")


def interval_text(group: Group) -> str:
    if math.isnan(group.half_width):
        return "–"
    return f"{fixed(group.mean - group.half_width)} – {fixed(group.mean + group.half_width)}"


def order(value: float) -> float | None:
    return None if math.isnan(value) else value
