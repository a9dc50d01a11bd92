"""Comparisons of many runs, and of two, as tables and sentences for people, and as files for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cnnbench import analysis
from cnnbench.reporting.text import count, duration, fixed, number
from cnnbench.runs import PRUNED
from cnnbench.system import plain

MOST_ROWS = 40
MOST_COLUMNS = 4  # of config keys in a ranking
WIDE, NARROW = 165, 125  # characters from which on all of the cost is shown, and up to which only one
ON_FRONT = "◆"
MOST_INDICES = 20
KINDS = {analysis.Flips: "flips", analysis.Errors: "errors", type(None): None}


def memory_text(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if math.isfinite(size) else "–"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2g} ms" if math.isfinite(seconds) else "–"


def _known(text: Callable[[float], str]) -> Callable[[float], str]:
    return lambda value: text(value) if math.isfinite(value) else "–"


# The heading of each cost, how it is written, and how somewhat that costs less is called.
COST_COLUMNS: dict[str, tuple[str, Callable[[float], str], str]] = {
    "parameters": ("parameters", _known(count), "smaller"),
    "flops": ("FLOPs", _known(count), "fewer FLOPs"),
    "seconds": ("training", _known(duration), "faster to train"),
    "examples_per_second": ("examples/s", number, ""),
    "latency": ("latency", _milliseconds, "faster for one example"),
    "memory": ("memory", memory_text, "less memory"),
}

ALWAYS = ("parameters", "seconds", "examples_per_second")


def ranking_tables(comparison: analysis.Comparison, width: int = WIDE, most: int = MOST_ROWS) -> list[Table]:
    """The groups of a comparison, one table for each objective and data set, since they do not compare.

    Args:
        comparison: what is shown.
        width: of the terminal, in characters.
        most: rows of a table; the others are counted below it.
    """
    wanted = (comparison.cost,) if width < NARROW else (*ALWAYS, comparison.cost)
    costs = [name for name in COST_COLUMNS if width >= WIDE or name in wanted]
    return [_ranking(ranking, comparison.cost, costs, most) for ranking in comparison.rankings]


def _ranking(ranking: analysis.Ranking, cost: str, costs: Sequence[str], most: int) -> Table:
    groups, objective = ranking.groups[:most], ranking.objective
    data = f" on {ranking.dataset}" if ranking.dataset else ""
    table = Table(title=escape(f"ranking by {objective}{data}"), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.caption = escape("\n".join(_notes(ranking, cost, most)))
    keys = list(dict.fromkeys(key for group in groups for key in group.differs))
    if len(keys) > MOST_COLUMNS:  # too many to read side by side: what was typed says it shorter
        keys = ["overrides"]
    test = groups[0].test_metric
    headings = [COST_COLUMNS[name][0] for name in costs]
    roomy = len(costs) > 1
    more = ["95 % interval"] if roomy else [], [f"test\n{test}"] if roomy else []
    names = ["#", *keys, "runs", objective, *more[0], "beside the best", *more[1], *headings]
    for key in names:
        is_text = key in keys or key == "beside the best"
        table.add_column(
            escape(key),
            justify="left" if is_text else "right",
            no_wrap=key not in keys,
            min_width=12 if key in keys else None,
            overflow="fold" if key in keys else "ellipsis",
        )
    for group in groups:
        spread = f" ± {group.deviation:.2g}" if math.isfinite(group.deviation) else ""
        table.add_row(
            f"{ON_FRONT if group.on_front else ''} {group.rank}",
            *(escape(_cell(group, key)) for key in keys),
            str(len(group.runs)),
            f"{fixed(group.mean)}{spread}",
            *([_interval(group)] if roomy else []),
            escape(verdict(group)),
            *([fixed(group.test.get(test, math.nan))] if roomy else []),
            *(COST_COLUMNS[name][1](group.cost[name]) for name in costs),
        )
    return table


def _notes(ranking: analysis.Ranking, cost: str, most: int) -> list[str]:
    notes = [f"{ON_FRONT} none is better and costs less ({COST_COLUMNS[cost][0]})"]
    if ranking.test:
        notes.append(f"{ranking.test}, 5 % for all pairs together")
    if len(ranking.groups) > most:
        notes.append(f"{len(ranking.groups) - most} more groups: --top, --filter or --csv shows them")
    return notes


def _cell(group: analysis.Group, key: str) -> str:
    return "\n".join(group.overrides) if key == "overrides" else analysis.short(group.differs.get(key, ""))


def _interval(group: analysis.Group) -> str:
    if not math.isfinite(group.half_width):
        return "–"
    return f"{group.mean - group.half_width:.4f} … {group.mean + group.half_width:.4f}"


def verdict(group: analysis.Group) -> str:
    """What a group is beside the best, in words."""
    found = group.verdict
    if group.rank == 1 and math.isfinite(group.mean):
        return "best"
    if found.worse:
        return f"worse by {found.difference:.2g} ± {found.margin:.2g}"
    if found.indistinguishable:
        return f"not distinguishable ({probability(found.p)})"
    return found.reason


def probability(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def apart_lines(comparison: analysis.Comparison) -> list[str]:
    """One line for each run that gives no figures or was changed under way; one for all stopped early."""
    pruned = [record for record in comparison.apart if record.status == PRUNED]
    others = [record for record in comparison.apart if record.status != PRUNED]
    done = sum(len(group.runs) for group in comparison.groups)
    lines = [f"{record.status}: {record.folder.path}  {record.reason}" for record in others]
    for record in (record for group in comparison.groups for record in group.records):
        changes = record.metrics.get("changes")
        if isinstance(changes, list) and changes:
            lines.append(f"{record.folder.path} went on with changes: {'; '.join(map(str, changes))}")
    if pruned:
        lines.append(f"stopped early by the search: {len(pruned)} of {len(pruned) + done} runs")
    return lines


def answers(comparison: analysis.Comparison) -> list[str]:
    """Each ranking in one sentence: what is best, by how much, and what does as well for less."""
    sentences = [_answer(ranking, comparison.cost) for ranking in comparison.rankings]
    if len(sentences) > 1:
        sentences.append("objectives and data sets are ranked apart: their figures do not compare")
    return sentences


def _answer(ranking: analysis.Ranking, cost: str) -> str:
    groups = sorted(ranking.groups, key=lambda group: group.rank)
    best, others = groups[0], groups[1:]
    data = f" on {ranking.dataset}" if ranking.dataset else ""
    if not math.isfinite(best.mean):
        return f"no run has a finite {ranking.objective}{data}"
    seeds = len(best.by_seed)
    spread = f" ± {best.deviation:.2g} over {seeds} seeds" if seeds > 1 else " with one seed"
    first = (
        f"{best.label}{' is best' if others else ''}: {ranking.objective} {number(best.mean)}{spread}{data}"
    )
    return "; ".join([first, *_rest(best, others, cost)])


def _rest(best: analysis.Group, others: Sequence[analysis.Group], cost: str) -> list[str]:
    alike = [group for group in others if group.verdict.indistinguishable]
    untested = [group for group in others if not group.verdict.indistinguishable and not group.verdict.worse]
    parts = []
    if others and not alike and not untested:
        parts.append("the other is worse" if len(others) == 1 else f"all {len(others)} others are worse")
    if alike:
        cheapest = min(alike, key=lambda group: (math.isnan(group.cost[cost]), group.cost[cost]))
        text = f"{cheapest.label} is not distinguishable ({probability(cheapest.verdict.p)})"
        times = best.cost[cost] / cheapest.cost[cost] if cheapest.cost[cost] > 0 else math.nan
        if times >= 1.1:
            text += f" and {times:.2g} × {COST_COLUMNS[cost][2]}"
        parts.append(text)
        if len(alike) > 1:
            parts.append(f"nor {'is 1 more' if len(alike) == 2 else f'are {len(alike) - 1} more'}")
    if untested:
        parts.append(f"{len(untested)} not tested ({untested[0].verdict.reason}): more seeds would tell")
    return parts


# -- For other programs ----------------------------------------------------------------------------


def comparison_as_csv(comparison: analysis.Comparison) -> str:
    """One row for each group; what is not known is empty."""
    rows = [
        {"objective": ranking.objective, "dataset": ranking.dataset, **_row(group)}
        for ranking in comparison.rankings
        for group in ranking.groups
    ]
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(row) for row in rows)
    return text.getvalue()


def _row(group: analysis.Group) -> dict[str, Any]:
    return {
        "rank": group.rank,
        **group.differs,
        "runs": len(group.runs),
        "mean": group.mean,
        "deviation": group.deviation,
        "half_width_95": group.half_width,
        **_verdict(group),
        "on_front": group.on_front,
        **{f"test_{name}": value for name, value in group.test.items()},
        **{name: group.cost[name] for name in analysis.COSTS},
    }


def _verdict(group: analysis.Group) -> dict[str, Any]:
    verdict = group.verdict
    return {
        "worse_by": verdict.difference,
        "margin": verdict.margin,
        "p": verdict.p,
        "worse": verdict.worse,
        "indistinguishable": verdict.indistinguishable,
        "not_tested": verdict.reason,
    }


def comparison_as_json(comparison: analysis.Comparison) -> str:
    """Everything, with the values of every run; what is not finite is null."""
    content = {
        "cost": comparison.cost,
        "rankings": [
            {
                "objective": ranking.objective,
                "dataset": ranking.dataset,
                "test": ranking.test,
                "groups": [_group(group) for group in ranking.groups],
            }
            for ranking in comparison.rankings
        ],
        "apart": [_apart(record) for record in comparison.apart],
    }
    return json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n"


def _group(group: analysis.Group) -> dict[str, Any]:
    return {
        "rank": group.rank,
        "differs": group.differs,
        "mean": group.mean,
        "deviation": group.deviation,
        "half_width_95": group.half_width,
        "verdict": _verdict(group),
        "on_front": group.on_front,
        "test": group.test,
        "cost": group.cost,
        "runs": [_run(record) for record in group.records],
    }


def _run(record: analysis.Record) -> dict[str, Any]:
    return {
        "path": str(record.folder.path),
        "seed": record.seed,
        "value": record.value,
        "test": record.test,
        "cost": record.cost,
    }


def _apart(record: analysis.Record) -> dict[str, Any]:
    return {"path": str(record.folder.path), "status": record.status, "reason": record.reason}


# -- Two runs --------------------------------------------------------------------------------------


def difference_tables(found: analysis.Difference) -> list[Table]:
    """One for each kind of difference that there is, each class among them."""
    shown = []
    for title, pairs in (("config", found.config), ("environment and code", found.environment)):
        if pairs:
            shown.append(_table(title, ("key", "first", "second"), _texts(pairs)))
    columns = ("", "first", "second", "difference")
    for title, pairs in (("metrics", found.metrics), ("cost", found.cost)):
        if pairs:
            shown.append(_table(title, columns, _numbers(pairs)))
    if isinstance(found.predictions, analysis.Flips):
        rows = [
            (name, str(size), str(first), str(second), f"{second - first:+d}")
            for name, size, first, second in found.predictions.classes
        ]
        heads = ("class", "examples", "first right", "second right", "change")
        shown.append(_table("test examples by class", heads, rows))
    return shown


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="right" if index and len(columns) > 3 else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _texts(pairs: analysis.Pairs) -> list[tuple[str, str, str]]:
    return [(key, _text(first), _text(second)) for key, (first, second) in pairs.items()]


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def _numbers(pairs: analysis.Pairs) -> list[tuple[str, str, str, str]]:
    return [
        (key, number(first), number(second), _signed(second - first))
        for key, (first, second) in pairs.items()
    ]


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.4g}"


def difference_sentences(found: analysis.Difference) -> list[str]:
    """What became of the test examples."""
    outcome = found.predictions
    if outcome is None:
        return [found.reason]
    if isinstance(outcome, analysis.Errors):
        return [
            f"absolute error, second minus first: {outcome.change:+.4g} ± {outcome.half_width:.2g} (95 %); "
            f"nearer on {outcome.smaller:,} test examples, farther off on {outcome.larger:,}; "
            f"Wilcoxon's test: {probability(outcome.p)}"
        ]
    return [
        f"wrong to right: {_indices(outcome.gained)}",
        f"right to wrong: {_indices(outcome.lost)}",
        f"McNemar's test: {probability(outcome.p)}"
        f"{'; the difference may be chance' if outcome.p > analysis.LEVEL else ''}",
    ]


def _indices(indices: Sequence[int]) -> str:
    listed = ", ".join(map(str, indices[:MOST_INDICES]))
    more = ", …" if len(indices) > MOST_INDICES else ""
    return f"{len(indices)} test examples" + (f" ({listed}{more})" if indices else "")


def difference_as_json(found: analysis.Difference) -> str:
    """All of it; what is not finite is null, and of a pair the first run comes first."""
    content: dict[str, Any] = {**asdict(found), "kind": KINDS[type(found.predictions)]}
    return json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n"
