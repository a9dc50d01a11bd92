"""The columns of a ranking, described once for the terminal, for pages and for notebooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench import analysis
from cnnbench.reporting.text import count, duration, fixed, memory, milliseconds, number

MOST_COLUMNS = 4  # of config keys in a ranking


@dataclass(frozen=True)
class Cost:
    """How one of `analysis.COSTS` is shown.

    Attributes:
        heading: of a column.
        label: of an axis, with its unit.
        text: writes a value.
        less: how many times less a group costs, as in `2 × smaller`; empty where more is better.
        cheaper: what a group is that costs less.
    """

    heading: str
    label: str
    text: Callable[[float], str]
    less: str = ""
    cheaper: str = ""


COSTS = {
    "parameters": Cost("parameters", "parameters", count, "smaller", "smaller"),
    "flops": Cost("FLOPs", "FLOPs per example", count, "fewer FLOPs", "cheaper in FLOPs"),
    "seconds": Cost("training", "training, seconds", duration, "faster to train", "cheaper to train"),
    "examples_per_second": Cost("examples/s", "examples per second", number),
    "latency": Cost(
        "latency",
        "latency of one example, seconds",
        milliseconds,
        "faster for one example",
        "faster for one example",
    ),
    "memory": Cost("memory", "peak memory, bytes", memory, "less memory", "cheaper in memory"),
}


@dataclass(frozen=True)
class Column:
    """A column of a ranking.

    Attributes:
        heading: its name.
        text: writes the cell of a group.
        value: what a page sorts by: a number, or the text itself.
        is_text: true where the column is no number.
    """

    heading: str
    text: Callable[[analysis.Group], str]
    value: Callable[[analysis.Group], Any]
    is_text: bool = False


def ranking_columns(groups: Sequence[analysis.Group], costs: Sequence[str] = tuple(COSTS)) -> list[Column]:
    """Describe the columns of groups that compare, with those costs of `COSTS`."""
    test = groups[0].test_metric

    def said(group: analysis.Group) -> str:
        return verdict(group, groups)

    return [
        Column("#", lambda group: str(group.rank), lambda group: group.rank),
        *_config_columns(groups),
        Column("runs", lambda group: str(len(group.runs)), lambda group: len(group.runs)),
        Column(groups[0].objective_in_words, mean_text, lambda group: group.mean),
        Column("95 % interval", interval_text, lambda group: group.interval[0]),
        Column("beside the best", said, said, is_text=True),
        Column(
            f"test {test}",
            lambda group: fixed(group.test.get(test, math.nan)),
            lambda group: group.test.get(test, math.nan),
        ),
        *map(_cost_column, costs),
    ]


def _config_columns(groups: Sequence[analysis.Group]) -> list[Column]:
    keys = list(dict.fromkeys(key for group in groups for key in group.differs))
    if len(keys) > MOST_COLUMNS:  # too many to read side by side: the command line is shorter
        return [Column("overrides", overrides_text, overrides_text, is_text=True)]
    return [_config_column(key) for key in keys]


def _config_column(key: str) -> Column:
    return Column(
        key,
        lambda group: analysis.short(group.differs.get(key, "")),
        lambda group: group.differs.get(key),
        is_text=True,
    )


def _cost_column(name: str) -> Column:
    cost = COSTS[name]
    return Column(cost.heading, lambda group: cost.text(group.cost[name]), lambda group: group.cost[name])


def overrides_text(group: analysis.Group) -> str:
    """Return the command line of a group, one override on each line."""
    return "\n".join(group.overrides) or group.label


def mean_text(group: analysis.Group) -> str:
    """Return the mean of the objective and its deviation over the seeds."""
    spread = f" ± {group.deviation:.2g}" if math.isfinite(group.deviation) else ""
    return f"{fixed(group.mean)}{spread}"


def interval_text(group: analysis.Group) -> str:
    """Return the ends of the 95 % interval of the mean."""
    low, high = group.interval
    return f"{fixed(low)} – {fixed(high)}" if math.isfinite(low) else "–"


def verdict(group: analysis.Group, groups: Sequence[analysis.Group]) -> str:
    """Return in words what a group is beside the best of its ranking.

    The first is the best only where all the others are worse.
    """
    found = group.verdict
    if group.rank == 1 and math.isfinite(group.mean):
        others = [other for other in groups if other is not group]
        if not others:
            return "the only one"
        return "best" if all(other.verdict.worse for other in others) else "first"
    if found.worse:
        return f"worse by {found.difference:.2g} ± {found.margin:.2g}"
    if found.indistinguishable:
        return f"not distinguishable ({probability(found.p)})"
    return found.reason


def probability(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
