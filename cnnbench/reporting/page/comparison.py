"""The page of a comparison: its figures, tables and charts as values for the template."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from cnnbench.analysis import Comparison, Group, Ranking, Record, is_number
from cnnbench.analysis import number as recorded
from cnnbench.errors import CnnbenchError
from cnnbench.reporting.page.charts import SHOWN, Curve, Point, colour, learning_curves, quality_against_cost
from cnnbench.reporting.page.render import Cell, Column, Row, Table, render
from cnnbench.reporting.tables import MOST_COLUMNS, verdict
from cnnbench.reporting.text import count, duration, fixed, number
from cnnbench.runs import UNREADABLE, RunFolder, larger_is_better

NOT_CURVES = ("epoch", "seconds", "examples_per_second")


def comparison_page(comparison: Comparison, title: str, place: Path, command: str | None = None) -> str:
    """The page of a comparison.

    Args:
        comparison: of some runs.
        title: what was compared.
        place: the folder that the page will lie in; its links to the runs are relative to it.
        command: the line that makes these runs again, where there is one.
    """
    charts: dict[str, Any] = {}
    rankings = []
    for position, ranking in enumerate(comparison.rankings):
        rankings.append(_ranking(f"r{position}", ranking, place, charts))
    return render(
        "comparison.html.j2",
        charts,
        title=title,
        headline=_headline(comparison),
        subtitle=_subtitle(comparison),
        command=command,
        rankings=rankings,
        others=_others(comparison, place),
    )


def _headline(comparison: Comparison) -> dict[str, str]:
    if not comparison.groups:
        return {}
    best = comparison.groups[0]
    test = best.test_metric
    spent = sum(record.cost["seconds"] for group in comparison.groups for record in group.records)
    return {
        f"best {best.objective.replace('_', ' ')}": mean_text(best),
        f"its test {test}": fixed(best.test.get(test, math.nan)),
        "its parameters": count(best.cost["parameters"]),
        "its training": duration(best.cost["seconds"]),
        "training in all": duration(spent),
    }


def _subtitle(comparison: Comparison) -> str:
    done = sum(len(group.runs) for group in comparison.groups)
    parts = [f"{done:,} runs in {len(comparison.groups):,} configurations"]
    if comparison.apart:
        parts.append(f"{len(comparison.apart):,} without a result")
    return " · ".join(parts)


def _ranking(name: str, ranking: Ranking, place: Path, charts: dict[str, Any]) -> dict[str, Any]:
    """What the template shows of groups that compare; their charts are added to `charts`."""
    groups = sorted(ranking.groups, key=lambda group: group.rank)
    objective = ranking.objective
    better = larger_is_better(objective)
    costs = [key for key in groups[0].cost if key in COSTS and COSTS[key].is_axis]
    curves = [curve for rank, group in enumerate(groups) for curve in curves_of(rank, group)]
    keys = dict.fromkeys(key for curve in curves for row in curve.history for key in row)
    metrics = [key for key in keys if key not in NOT_CURVES] or [objective]
    metrics.sort(key=lambda key: key != objective)  # what is ranked by is seen first
    charts[f"{name}-curves"] = learning_curves(curves, metrics)
    points = [point_of(rank, group, costs) for rank, group in enumerate(groups)]
    labels = [COSTS[key].label for key in costs]
    if len(points) > 1:
        charts[f"{name}-cost"] = quality_against_cost(points, labels, objective, better)
    return {
        "id": name,
        "objective": objective,
        "title": f"{objective} on {ranking.dataset}" if ranking.dataset else objective,
        "test": f"{ranking.test}, 5 % for all pairs together" if ranking.test else "",
        "direction": "more is better" if better else "less is better",
        "groups": _group_table(groups),
        "runs": _run_table(groups, place),
        "costs": labels,
        "metrics": metrics,
        "curves": len(curves),
        "shown": SHOWN,
        "differences": _differences(groups),
        "best": name_of(groups[0]),
        "config": yaml.safe_dump(dict(groups[0].records[0].config), sort_keys=False, allow_unicode=True),
    }


def _group_table(groups: Sequence[Group]) -> Table:
    objective, test = groups[0].objective, groups[0].test_metric
    keys = list(dict.fromkeys(key for group in groups for key in group.differs))
    typed = len(keys) > MOST_COLUMNS  # too many to read side by side: what was typed says it shorter
    costs = [key for key in groups[0].cost if key in COSTS]
    columns = [
        Column("#", numeric=True),
        *([Column("configuration")] if typed else [Column(key) for key in keys]),
        Column("runs", numeric=True),
        Column(objective, numeric=True),
        Column("95 % interval", numeric=True),
        Column("beside the best"),
        Column(f"test {test}", numeric=True),
        *(Column(COSTS[key].label.partition(",")[0], numeric=True) for key in costs),
    ]
    rows = [
        Row(
            [
                Cell(str(rank + 1), rank),
                *(
                    [Cell(" ".join(group.overrides) or name_of(group))]
                    if typed
                    else [_value(group.differs.get(key)) for key in keys]
                ),
                Cell(str(len(group.runs)), len(group.runs)),
                Cell(mean_text(group), order_of(group.mean)),
                Cell(interval_text(group), order_of(group.mean - group.half_width)),
                Cell(verdict(group)),
                Cell(fixed(group.test.get(test, math.nan)), order_of(group.test.get(test, math.nan))),
                *(Cell(COSTS[key].text(group.cost[key]), order_of(group.cost[key])) for key in costs),
            ],
            group=rank,
            search=name_of(group),
            colour=colour(rank),
        )
        for rank, group in enumerate(groups)
    ]
    return Table(f"configurations by {objective}", columns, rows, sorted_by=0)


def _run_table(groups: Sequence[Group], place: Path) -> Table:
    objective, test = groups[0].objective, groups[0].test_metric
    labels = ("run", "#", "seed", objective, f"test {test}", "best epoch", "training")
    columns = [Column(label, numeric=label != "run") for label in labels]
    rows = []
    for rank, group in enumerate(groups):
        for record, value in zip(group.records, group.values, strict=True):
            run, figure, seconds = record.folder, record.test.get(test), record.cost["seconds"]
            cells = [
                Cell(run.path.name, link=_link(run, place)),
                Cell(str(rank + 1), rank),
                _whole(record.seed),
                Cell(fixed(value), order_of(value)),
                Cell("–" if figure is None else fixed(figure), None if figure is None else order_of(figure)),
                _whole(record.best_epoch),
                Cell(duration(seconds), order_of(seconds)),
            ]
            rows.append(Row(cells, rank, f"{name_of(group)} seed={record.seed}"))
    return Table(f"runs by {objective}", columns, rows, sorted_by=1)


def _others(comparison: Comparison, place: Path) -> list[dict[str, str]]:
    """The runs that give no figures, or no curve, and why."""
    rows = [_other(record, record.status, record.reason, place) for record in comparison.apart]
    for record in (record for group in comparison.groups for record in group.records):
        try:
            _history(record)
        except CnnbenchError as error:
            rows.append(_other(record, UNREADABLE, f"it has no curve: {error.message}", place))
    return rows


def _other(record: Record, status: str, reason: str, place: Path) -> dict[str, str]:
    try:
        overrides = "" if status == UNREADABLE else " ".join(record.folder.overrides)
    except CnnbenchError as error:
        overrides = f"({error.message})"
    name, link = record.folder.path.name, _link(record.folder, place)
    return {"name": name, "link": link, "status": status, "reason": reason, "overrides": overrides}


def _history(record: Record) -> list[dict[str, Any]]:
    """The rows of a run; a CnnbenchError where they are no figures."""
    try:
        rows = [{key: recorded(value) for key, value in row.items()} for row in record.folder.history]
        _ = [row["epoch"] for row in rows]
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise CnnbenchError(f"its history holds no figures: {error!r}") from error
    return rows


def _differences(groups: Sequence[Group]) -> dict[str, dict[str, int]]:
    """For each key that differs its values, with the number of configurations that have them."""
    found: dict[str, dict[str, int]] = {}
    for group in groups:
        for key, value in group.differs.items():
            values = found.setdefault(key, {})
            values[str(value)] = values.get(str(value), 0) + 1
    return found


def _link(run: RunFolder, place: Path) -> str:
    """To its page, or its folder. Quoted, a folder cannot pass for another scheme than a file's."""
    target = run.report if run.report.is_file() else run.path
    return quote(Path(os.path.relpath(target.resolve(), place.resolve())).as_posix())


def _whole(value: int | None) -> Cell:
    return Cell("–", None) if value is None else Cell(str(value), value)


def _value(value: Any) -> Cell:
    return Cell(str(value), value if is_number(value) else "text")


# -- Groups ----------------------------------------------------------------------------------------


def curves_of(rank: int, group: Group) -> list[Curve]:
    """The learning curve of each run; one whose history cannot be read is among the others."""
    found = []
    for record in group.records:
        try:
            rows = _history(record)
        except CnnbenchError:
            continue
        found.append(Curve(name_of(group), str(record.seed), rank, colour(rank), rows))
    return found


def point_of(rank: int, group: Group, costs: Sequence[str]) -> Point:
    spread = 0.0 if math.isnan(group.deviation) else group.deviation
    low, high = group.mean - spread, group.mean + spread
    spent = {COSTS[key].label: group.cost[key] for key in costs}
    return Point(name_of(group), rank, colour(rank), group.mean, low, high, spent)


def name_of(group: Group) -> str:
    return group.label


def mean_text(group: Group) -> str:
    return fixed(group.mean) + (f" ± {fixed(group.deviation)}" if len(group.by_seed) > 1 else "")


def interval_text(group: Group) -> str:
    if math.isnan(group.half_width):
        return "–"
    return f"{fixed(group.mean - group.half_width)} – {fixed(group.mean + group.half_width)}"


def order_of(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(frozen=True)
class Cost:
    """One of them.

    Attributes:
        label: its name, with its unit.
        text: writes a value.
        is_axis: less of it is better, so that a front of quality against it makes sense.
    """

    label: str
    text: Callable[[float], str]
    is_axis: bool = True


def _milliseconds(seconds: float) -> str:
    return f"{number(1000 * seconds)} ms" if math.isfinite(seconds) else "–"


def _bytes(size: float) -> str:
    return count(size, "B")


COSTS = {
    "seconds": Cost("training, seconds", duration),
    "parameters": Cost("parameters", count),
    "flops": Cost("FLOPs per example", count),
    "latency": Cost("latency of one example, seconds", _milliseconds),
    "memory": Cost("peak memory, bytes", _bytes),
    "examples_per_second": Cost("examples per second", number, is_axis=False),
}
