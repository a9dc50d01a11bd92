"""The page of a comparison: key figures, tables and charts as values for its template."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from cnnbench.analysis import Comparison, Group, Ranking, Record, is_number, pareto_front
from cnnbench.analysis import number as recorded
from cnnbench.errors import CnnbenchError
from cnnbench.reporting.columns import COSTS, Column, interval_text, mean_text, ranking_columns
from cnnbench.reporting.page.charts import (
    MOST_CURVES,
    OTHERS,
    PALETTE,
    SHOWN,
    Curve,
    Mark,
    Point,
    colour,
    learning_curves,
    quality_against_cost,
)
from cnnbench.reporting.page.render import Answer, Cell, Heading, Row, Table, render
from cnnbench.reporting.steps import after_comparison
from cnnbench.reporting.tables import first_in_words, others_in_words, test_in_words
from cnnbench.reporting.text import count, count_of, duration, fixed, number
from cnnbench.runs import UNREADABLE, RunFolder, larger_is_better

MOST_VALUES = 12  # that are listed in one line
NOT_CURVES = ("epoch", "seconds", "examples_per_second")


def comparison_page(
    comparison: Comparison,
    title: str,
    place: Path,
    command: str | None = None,
    refresh: int | None = None,
) -> str:
    """Return the HTML page of a comparison.

    Args:
        comparison: of some runs.
        title: what was compared.
        place: the folder of the page, to which its links to the runs are relative.
        command: the command line that makes these runs again, where there is one.
        refresh: seconds until a browser shows it anew; None where it is the last.
    """
    charts: dict[str, Any] = {}
    tables: dict[str, Table] = {}
    others = [_other(record, record.status, record.reason, place) for record in comparison.apart]
    rankings = []
    for position, ranking in enumerate(comparison.rankings):
        name = f"r{position}"
        groups = ranking.by_rank
        tables |= {f"{name}-groups": _group_table(groups), f"{name}-runs": _run_table(groups, place)}
        curves, damaged = curves_of(groups)
        rankings.append(_ranking(name, ranking, curves, charts))
        others += [_other(record, UNREADABLE, f"it has no curve: {why}", place) for record, why in damaged]
    return render(
        "comparison.html.j2",
        charts,
        tables,
        refresh=refresh,
        title=title,
        subtitle=subtitle(comparison),
        answers={ranking.title: _answers(ranking, comparison.cost) for ranking in comparison.rankings},
        steps=after_comparison(comparison, command),
        command=command,
        rankings=rankings,
        others=others,
    )


def _answers(ranking: Ranking, cost: str) -> list[Answer]:
    """Answer how good the first of a ranking is, how sure that is, and at what cost."""
    groups = ranking.by_rank
    best, test = groups[0], groups[0].test_metric
    word = "best" if ranking.is_settled else "leading"
    interval = interval_text(best)
    spent = sum(record.cost["seconds"] for group in groups for record in group.records)
    runs = count_of(sum(len(group.runs) for group in groups), "run")
    return [
        Answer(
            "How good",
            {
                f"{word} {best.objective_in_words.replace('_', ' ')}": mean_text(best),
                f"its test {test}": fixed(best.test.get(test, math.nan)),
            },
            first_in_words(ranking),
        ),
        Answer(
            "How sure",
            {"seed, which gives no interval": "1"}
            if interval == "–"
            else {f"95 % interval, {best.repeats}": interval},
            "; ".join([*others_in_words(ranking, cost), *test_in_words(ranking)]),
        ),
        Answer(
            "At what cost",
            {
                "its training": duration(best.cost["seconds"]),
                "its parameters": count(best.cost["parameters"]),
            },
            f"{duration(spent)} of training in {runs}",
        ),
    ]


def headline(comparison: Comparison) -> dict[str, str]:
    if not comparison.groups:
        return {}
    best = comparison.groups[0]
    test = best.test_metric
    spent = sum(record.cost["seconds"] for group in comparison.groups for record in group.records)
    word = "best" if comparison.rankings[0].is_settled else "leading"
    return {
        f"{word} {best.objective_in_words.replace('_', ' ')}": mean_text(best),
        f"its test {test}": fixed(best.test.get(test, math.nan)),
        "its parameters": count(best.cost["parameters"]),
        "its training": duration(best.cost["seconds"]),
        "training in all": duration(spent),
    }


def subtitle(comparison: Comparison) -> str:
    done = sum(len(group.runs) for group in comparison.groups)
    runs = f"{done:,} run{'' if done == 1 else 's'}"
    parts = [
        f"{runs} in {len(comparison.groups):,} configuration{'' if len(comparison.groups) == 1 else 's'}"
    ]
    if comparison.apart:
        parts.append(f"{len(comparison.apart):,} without a result")
    return " · ".join(parts)


def _ranking(name: str, ranking: Ranking, curves: Sequence[Curve], charts: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of the template for one ranking, and add its charts to `charts`."""
    groups = ranking.by_rank
    objective = ranking.objective
    better = larger_is_better(objective)
    costs = [key for key in groups[0].cost if key in COSTS and COSTS[key].less]
    keys = dict.fromkeys(key for curve in curves for row in curve.history for key in row)
    metrics = [key for key in keys if key not in NOT_CURVES] or [objective]
    metrics.sort(key=lambda key: key != objective)  # the objective is shown first
    charts[f"{name}-curves"] = learning_curves(curves, metrics)
    points = [point_of(rank, group, costs) for rank, group in enumerate(groups)]
    labels = [COSTS[key].label for key in costs]
    if len(points) > 1:
        charts[f"{name}-cost"] = quality_against_cost(points, labels, objective, better)
    return {
        "id": name,
        "objective": objective,
        "title": ranking.title,
        "tests": ranking.test_notes,
        "direction": "more is better" if better else "less is better",
        "configurations": len(groups),
        "runs": sum(len(group.runs) for group in groups),
        "costs": labels,
        "metrics": metrics,
        "curves": len(curves),
        "shown": SHOWN,
        "marks": _legend(groups),
        "curves_in_words": _curves_in_words(curves, metrics[0]),
        "cost_in_words": _cost_in_words(points, labels[0], objective, better),
        "differences": _differences(groups),
        "best": groups[0].label,
        "config": yaml.safe_dump(dict(groups[0].records[0].config), sort_keys=False, allow_unicode=True),
    }


def _legend(groups: Sequence[Group]) -> list[Mark]:
    named = [Mark(group.label, colour(rank)) for rank, group in enumerate(groups[: len(PALETTE)])]
    more = len(groups) - len(named)
    return named + ([Mark(f"{more:,} more", OTHERS)] if more else [])


def _curves_in_words(curves: Sequence[Curve], metric: str) -> str:
    ends: dict[str, list[float]] = {}
    for curve in curves:
        if curve.group < len(PALETTE) and curve.history and is_number(curve.history[-1].get(metric)):
            ends.setdefault(curve.name, []).append(curve.history[-1][metric])
    said = [f"{name} at {number(min(ends[name]))} to {number(max(ends[name]))}" for name in ends]
    text = f"one line a run, of {metric} unless another metric is chosen"
    return f"{text}; in the last epoch {'; '.join(said)}" if said else text


def _cost_in_words(points: Sequence[Point], cost: str, objective: str, better: bool) -> str:
    spent = [point.costs[cost] for point in points]
    quality = [point.quality if better else -point.quality for point in points]
    front = [points[index] for index in pareto_front(spent, quality)][:MOST_VALUES]
    said = [f"{point.name} {fixed(point.quality)} at {number(point.costs[cost])}" for point in front]
    return f"{objective} against {cost}, unless another cost is chosen; on the front {'; '.join(said)}"


def _group_table(groups: Sequence[Group]) -> Table:
    columns = ranking_columns(groups)
    rows = [
        Row([_cell(column, group) for column in columns], rank, group.label, colour(rank))
        for rank, group in enumerate(groups)
    ]
    headings = [Heading(column.heading, numeric=not column.is_text) for column in columns]
    return Table("configurations", headings, rows, sorted_by=0, is_selectable=True)


def _cell(column: Column, group: Group) -> Cell:
    value = column.value(group)
    return Cell(column.text(group), order_of(value) if is_number(value) else "text")


def _run_table(groups: Sequence[Group], place: Path) -> Table:
    test = groups[0].test_metric
    labels = ("run", "#", "seed", groups[0].objective_in_words, f"test {test}", "best epoch", "training")
    headings = [Heading(label, numeric=label != "run") for label in labels]
    rows = []
    for rank, group in enumerate(groups):
        for record, value in zip(group.records, group.values, strict=True):
            run, figure, seconds = record.folder, record.test.get(test, math.nan), record.cost["seconds"]
            epoch = record.best_epoch
            cells = [
                Cell(run.path.name, link=_link(run, place)),
                Cell(str(rank + 1), rank),
                Cell(str(record.seed), record.seed),
                Cell(fixed(value), order_of(value)),
                Cell(fixed(figure), order_of(figure)),
                Cell("–" if epoch is None else str(epoch), epoch),
                Cell(duration(seconds), order_of(seconds)),
            ]
            rows.append(Row(cells, rank, f"{group.label} seed={record.seed}"))
    return Table("runs", headings, rows, sorted_by=1)


def _other(record: Record, status: str, reason: str, place: Path) -> dict[str, str]:
    try:
        overrides = "" if status == UNREADABLE else " ".join(record.folder.overrides)
    except CnnbenchError as error:
        overrides = f"({error.message})"
    name, link = record.folder.path.name, _link(record.folder, place)
    return {"name": name, "link": link, "status": status, "reason": reason, "overrides": overrides}


def _history(record: Record) -> list[dict[str, Any]]:
    """Return the rows of a run's history; raise CnnbenchError where they are no figures."""
    try:
        rows = [{key: recorded(value) for key, value in row.items()} for row in record.folder.history]
        _ = [row["epoch"] for row in rows]
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise CnnbenchError(f"its history holds no figures: {error!r}") from error
    return rows


def _differences(groups: Sequence[Group]) -> dict[str, dict[str, int]]:
    """Count for each key that differs how many configurations have each of its values."""
    found: dict[str, dict[str, int]] = {}
    for group in groups:
        for key, value in group.differs.items():
            values = found.setdefault(key, {})
            values[str(value)] = values.get(str(value), 0) + 1
    return found


def _link(run: RunFolder, place: Path) -> str:
    """Return a link to its page, or else to its folder; quoted, so that no name is read as a scheme."""
    target = run.report if run.report.is_file() else run.path
    return quote(Path(os.path.relpath(target.resolve(), place.resolve())).as_posix())


# -- Groups ----------------------------------------------------------------------------------------


def curves_of(groups: Sequence[Group]) -> tuple[list[Curve], list[tuple[Record, str]]]:
    """Return the learning curves of the best runs, and those that cannot be read, each with the reason."""
    curves: list[Curve] = []
    damaged: list[tuple[Record, str]] = []
    for rank, group in enumerate(groups):
        for record in group.records:
            if len(curves) == MOST_CURVES:
                return curves, damaged
            try:
                curves.append(Curve(group.label, str(record.seed), rank, colour(rank), _history(record)))
            except CnnbenchError as error:
                damaged.append((record, error.message))
    return curves, damaged


def point_of(rank: int, group: Group, costs: Sequence[str]) -> Point:
    spread = 0.0 if math.isnan(group.deviation) else group.deviation
    low, high = group.mean - spread, group.mean + spread
    spent = {COSTS[key].label: group.cost[key] for key in costs}
    return Point(group.label, rank, colour(rank), group.mean, low, high, spent)


def order_of(value: float) -> float | None:
    return None if math.isnan(value) else value
