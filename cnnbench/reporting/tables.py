"""Comparisons of many runs, and of two: tables and sentences for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal, cast

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cnnbench import analysis
from cnnbench.reporting.columns import COSTS, Column, probability, ranking_columns
from cnnbench.reporting.output import natural_width, say, stdout
from cnnbench.reporting.text import between, fixed, number
from cnnbench.runs import OBJECTIVE, PRUNED, in_words
from cnnbench.system import plain

MOST_ROWS, MOST_OUTPUTS, MOST_GROUPS = 40, 20, 6
WIDE = 200  # characters that have room for every column
LONGEST_KEY, SHORTEST_TEXT = 32, 18  # characters of a text in one line, and where there is no room for that
INTERVAL, VERDICT = "95 % interval", "beside the best"
ON_FRONT = "◆"
MOST_INDICES = 20
KINDS: dict[type, Literal["flips", "errors"] | None] = {
    analysis.Flips: "flips",
    analysis.Errors: "errors",
    type(None): None,
}


def show_comparison(
    comparison: analysis.Comparison, most: int = MOST_ROWS, with_classes: bool = False
) -> None:
    """Print the tables, the runs without figures, and last the answer."""
    console = stdout()
    for table in ranking_tables(comparison, console.width, most):
        console.print(table)
    for ranking in comparison.rankings if with_classes else ():
        console.print(classes_table(ranking))
    say(console, *apart_lines(comparison), style="red")
    say(console, *answers(comparison))
    for ranking in comparison.rankings:
        say(console, *test_in_words(ranking))


def test_in_words(ranking: analysis.Ranking) -> list[str]:
    """Say whether the test examples tell the second of a ranking from the first, where that can be said."""
    found = ranking.paired
    if isinstance(found, str):
        return [f"test examples not compared: {found}"]
    return [] if found is None else [told_apart(found)]


def told_apart(found: analysis.Paired) -> str:
    """Say whether the test examples tell two accuracies apart, and how many would."""
    first, second = number(found.first), number(found.second)
    change = f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f} at 95 %)"
    if found.is_told:
        return f"the {found.examples:,} test examples tell {first} from {second}: {change}"
    if found.needed is None:
        return f"on the {found.examples:,} test examples both have {first}: {change}"
    return (
        f"the {found.examples:,} test examples cannot tell {first} from {second}: {change}; "
        f"about {found.needed:,} would"
    )


def classes_table(ranking: analysis.Ranking, most: int = MOST_GROUPS) -> Table:
    """Lay the F1 of each class or label on the test split, or the error of each target, by group."""
    groups = list(ranking.by_rank)[:most]
    found = [group.by_output for group in groups]
    metric = "f1" if any("f1" in one for each in found for one in each.values()) else "rmse"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left")
    table.add_column(f"test {'F1' if metric == 'f1' else 'RMSE'} by rank", overflow="fold")
    for group in groups:
        table.add_column(str(group.rank), justify="right", no_wrap=True)
    names = list(dict.fromkeys(name for each in found for name in each))
    for name in names[:MOST_OUTPUTS]:
        table.add_row(escape(name), *(number(each.get(name, {}).get(metric)) for each in found))
    left_out = max(len(names) - MOST_OUTPUTS, 0), max(len(ranking.groups) - most, 0)
    if any(left_out):
        table.caption = f"{left_out[0]} more rows and {left_out[1]} more groups: --json has all"
    return table


def ranking_tables(comparison: analysis.Comparison, width: int = WIDE, most: int = MOST_ROWS) -> list[Table]:
    """Lay one table for each objective and data set, since they do not compare.

    Args:
        comparison: what is shown.
        width: of the terminal, in characters; what there is no room for is named below the table.
        most: rows of a table; the others are counted below it.
    """
    return [_ranking(ranking, comparison.cost, width, most) for ranking in comparison.rankings]


def _ranking(ranking: analysis.Ranking, cost: str, width: int, most: int) -> Table:
    """Lay the table of the columns that there is room for, so that no number is cut or broken."""
    groups, left_out = ranking.groups[:most], []
    columns = ranking_columns(groups)
    keys = {"overrides", *(key for group in groups for key in group.differs)}
    while natural_width(table := _laid(columns, groups, keys)) > width:
        worth = {column.heading: _worth(column, cost) for column in columns if column.heading not in keys}
        spare = {heading: value for heading, value in worth.items() if value is not None}
        if not spare:
            table = _laid(columns, groups, keys, is_narrow=True)
            break
        left_out.append(min(spare, key=spare.__getitem__))
        columns = [column for column in columns if column.heading != left_out[-1]]
    notes = _notes(ranking, cost, most)
    if left_out:
        notes.append(f"no room for {', '.join(reversed(left_out))}: --csv FILE and --html FILE have all")
    table.caption = escape("\n".join(notes))
    table.title = escape("\n".join(filter(None, (f"ranking by {ranking.title}", ranking.order_note))))
    return table


def _laid(
    columns: Sequence[Column], groups: Sequence[analysis.Group], keys: Set[str], is_narrow: bool = False
) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left", title_justify="left")
    texts = {column.heading: [column.text(group) for group in groups] for column in columns}
    for column in columns:
        is_text = column.heading in keys or (is_narrow and column.heading == VERDICT)
        table.add_column(
            escape(column.heading.replace("test ", "test\n")),
            justify="left" if column.is_text else "right",
            no_wrap=not is_text,
            max_width=(SHORTEST_TEXT if is_narrow else LONGEST_KEY) if is_text else None,
            overflow="fold",
        )
    for group, *cells in zip(groups, *texts.values(), strict=True):
        rank, *others = map(escape, cells)
        table.add_row(f"{ON_FRONT if group.on_front else ''} {rank}", *others)
    return table


def _worth(column: Column, cost: str) -> int | None:
    """Return how late a column goes where there is no room for all; None where it never goes."""
    order = [*reversed([known.heading for known in COSTS.values()]), INTERVAL, "test", "runs"]
    heading = "test" if column.heading.startswith("test ") else column.heading
    if heading == COSTS[cost].heading:
        return len(order)
    return order.index(heading) if heading in order else None


def _notes(ranking: analysis.Ranking, cost: str, most: int) -> list[str]:
    notes = [f"{ON_FRONT} no other is both better and {COSTS[cost].cheaper}", *ranking.test_notes]
    if ranking.has_several_fixes:
        notes.append(
            "dataset.fixes differ, and so the validation splits: the figures of the test split decide"
        )
    if len(ranking.groups) > most:
        notes.append(f"{len(ranking.groups) - most} more groups: --top, --filter or --csv shows them")
    return notes


def apart_lines(comparison: analysis.Comparison) -> list[str]:
    """Return a line for each run without figures or changed under way, and one for all stopped early."""
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
    """Return each ranking in one sentence: the best, by how much, and what does as well for less."""
    sentences = [_answer(ranking, comparison.cost) for ranking in comparison.rankings]
    if len(sentences) > 1:
        sentences.append("objectives and data sets are ranked apart: their figures do not compare")
    return sentences


def _answer(ranking: analysis.Ranking, cost: str) -> str:
    best, *others = ranking.by_rank
    data = f" on {ranking.dataset}" if ranking.dataset else ""
    if not math.isfinite(best.mean):
        return f"no run has a finite {ranking.objective}{data}"
    spread = f" ± {best.deviation:.2g} over {best.repeats}" if len(best.sample) > 1 else " from one seed"
    if best.overlap and best.half_width > 0:
        spread = f" ± {best.half_width:.2g} (95 %) over {best.repeats}"
    figure = f"{best.objective_in_words} {number(best.mean)}{spread}{data}"
    first = f"{first_in_words(ranking)}{' with' if others else ':'} {figure}"
    return "; ".join([first, *others_in_words(ranking, cost)])


def first_in_words(ranking: analysis.Ranking) -> str:
    """Say what the first of a ranking is: it is best only where it was shown to be better than all others."""
    best, *others = ranking.by_rank
    if not others:
        return best.label
    if ranking.is_settled:
        return f"{best.label} is best"
    is_any_worse = any(group.verdict.worse for group in others)
    return f"{'no single best' if is_any_worse else 'no difference shown'}: {best.label} leads"


def others_in_words(ranking: analysis.Ranking, cost: str) -> list[str]:
    """Say what the others of a ranking are beside the first, and what does as well for less `cost`."""
    best, *others = ranking.by_rank
    alike = [group for group in others if group.verdict.indistinguishable]
    untested = [group for group in others if not group.verdict.indistinguishable and not group.verdict.worse]
    worse = len(others) - len(alike) - len(untested)
    parts = []
    if worse and worse == len(others):
        parts.append("the other is worse" if worse == 1 else f"all {worse} others are worse")
    if alike:
        cheapest = min(alike, key=lambda group: (math.isnan(group.cost[cost]), group.cost[cost]))
        text = f"{cheapest.label} is not distinguishable ({probability(cheapest.verdict.p)})"
        times = best.cost[cost] / cheapest.cost[cost] if cheapest.cost[cost] > 0 else math.nan
        if times >= 1.1:
            text += f" and {times:.2g} × {COSTS[cost].less}"
        parts.append(text)
        if len(alike) > 1:
            parts.append(f"nor {'is 1 more' if len(alike) == 2 else f'are {len(alike) - 1} more'}")
    if untested:
        parts.append(f"{len(untested)} not tested ({untested[0].verdict.reason}): more seeds would tell")
    if 0 < worse < len(others):
        parts.append(f"{worse} {'is' if worse == 1 else 'are'} worse")
    return parts


# -- For other programs ----------------------------------------------------------------------------


def comparison_as_csv(comparison: analysis.Comparison) -> str:
    """Return one row for each group; a cell is empty where a figure is not known."""
    rows = analysis.comparison_rows(comparison)
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(plain(row) for row in rows)
    return text.getvalue()


def comparison_as_json(comparison: analysis.Comparison) -> analysis.ComparisonContent:
    """Return everything, with the values of every run, ready for JSON: None where a figure is not finite."""
    content: analysis.ComparisonContent = {
        "cost": comparison.cost,
        "rankings": [
            {
                "objective": ranking.objective,
                "dataset": ranking.dataset,
                "test": ranking.test,
                "paired": None if isinstance(ranking.paired, str) else ranking.paired,
                "groups": [_group(group) for group in ranking.groups],
            }
            for ranking in comparison.rankings
        ],
        "apart": [
            {"path": str(record.folder.path), "status": record.status, "reason": record.reason}
            for record in comparison.apart
        ],
    }
    return cast("analysis.ComparisonContent", plain(content))


def _group(group: analysis.Group) -> analysis.GroupRow:
    return {
        "rank": group.rank,
        "differs": group.differs,
        "mean": group.mean,
        "deviation": group.deviation,
        "half_width_95": group.half_width,
        "interval_95": group.interval,
        "verdict": analysis.verdict_row(group.verdict),
        "on_front": group.on_front,
        "test": group.test,
        "by_output": group.by_output,
        "cost": group.cost,
        "runs": [
            {
                "path": str(record.folder.path),
                "seed": record.seed,
                "value": record.value,
                "test": record.test,
                "intervals": record.metrics.get("intervals", {}).get("test", {}),
                "cost": record.cost,
            }
            for record in group.records
        ],
    }


# -- One run ---------------------------------------------------------------------------------------


def members_rows(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows that show an average beside each of its members, all on one test split.

    Args:
        metrics: the content of `metrics.json`; of a run that is no average there are no rows.
    """
    members = metrics.get("members", [])
    if not members:
        return [], []
    name = OBJECTIVE[metrics["task"]]
    names = [Path(row["run"]).name for row in members]
    if len({*names}) < len(names):  # of several sweeps
        names = ["/".join(Path(row["run"]).parts[-2:]) for row in members]
    own = {"metrics": metrics["metrics"]["test"], "intervals": metrics.get("intervals", {}).get("test", {})}
    mean = {
        key: statistics.fmean(analysis.number(row["metrics"].get(key)) for row in members)
        for key in ("loss", name)
    }
    shown = [
        *zip(names, members, strict=True),
        ("mean of the members", {"metrics": mean}),
        ("the average", own),
    ]
    rows = [
        [
            label,
            fixed(row["metrics"].get("loss")),
            fixed(row["metrics"].get(name)),
            between(row.get("intervals", {}).get(name)),
        ]
        for label, row in shown
    ]
    columns = ["", "test loss", f"test {in_words(name, None)}", "at 95 %"]
    if len({repr(row.get("loss")) for row in members}) > 1:  # a mean of different losses says nothing
        columns, *rows = ([one for index, one in enumerate(row) if index != 1] for row in [columns, *rows])
    return columns, rows


def members_table(metrics: Mapping[str, Any]) -> Table:
    """Return a table of an average beside each of its members."""
    columns, rows = members_rows(metrics)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=index > 0, overflow="fold")
    for index, row in enumerate(rows):
        table.add_row(*map(escape, row), end_section=index == len(rows) - 3)
    return table


def output_table(figures: Mapping[str, Mapping[str, float]], title: str, most: int = MOST_OUTPUTS) -> Table:
    """Lay the figures of each label or target, a line for each; of many labels the worst.

    Args:
        figures: by name, as `runs.metrics.by_output` gives them.
        title: the heading.
        most: lines.
    """
    names = list(figures)
    caption = None
    if len(names) > most:
        key = "average_precision" if any("average_precision" in one for one in figures.values()) else "r2"
        names.sort(key=lambda name: figures[name].get(key, -math.inf))
        caption = f"the {most} with the lowest {key} of {len(names)}; metrics.json has all"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left", caption=caption)
    table.add_column("", overflow="fold")
    metrics = list(dict.fromkeys(metric for one in figures.values() for metric in one))
    for metric in metrics:
        table.add_column(metric.replace("_", "\n"), justify="right", no_wrap=True)
    for name in names[:most]:
        table.add_row(escape(name), *(number(figures[name].get(metric)) for metric in metrics))
    return table


# -- Two runs --------------------------------------------------------------------------------------


def difference_tables(found: analysis.Difference) -> list[Table]:
    """Lay one table for each kind of difference that there is, and one for the test examples by class."""
    shown = []
    for title, pairs in (("config", found.config), ("environment and code", found.environment)):
        if pairs:
            shown.append(_table(title, ("key", "first", "second"), _texts(pairs)))
    columns = ("", "first", "second", "difference")
    if found.metrics:
        with_intervals = ("", "first", "at 95 %", "second", "at 95 %", "difference")
        rows = _numbers(found.metrics, found.positive)
        if found.intervals:
            rows = [
                (name, first, *_ends(found, key, 0), second, *_ends(found, key, 1), difference)
                for key, (name, first, second, difference) in zip(found.metrics, rows, strict=True)
            ]
        shown.append(_table("metrics", with_intervals if found.intervals else columns, rows))
    if found.cost:
        shown.append(_table("cost", columns, _numbers(found.cost, found.positive)))
    if isinstance(found.predictions, analysis.Flips):
        kind = "label" if found.of_labels else "class"
        heads = [kind, "examples", "first right", "second right", "change"]
        counts: list[tuple[str, ...]] = [
            (name, str(size), str(first), str(second), f"{second - first:+d}")
            for name, size, first, second in found.predictions.classes
        ]
        if found.by_output:
            heads += ["first F1", "second F1"]
            counts = [(*row, *_of_output(found, row[0], "f1")) for row in counts]
        shown.append(_table(f"test examples by {kind}", heads, counts))
    elif found.by_output:
        rmse = [(name, *_of_output(found, name, "rmse")) for name in found.by_output]
        shown.append(_table("RMSE of each target on the test split", ("", "first", "second"), rmse))
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


def _numbers(pairs: analysis.Pairs, positive: str | None) -> list[tuple[str, ...]]:
    return [
        (in_words(key, positive), number(first), number(second), _signed(second - first))
        for key, (first, second) in pairs.items()
    ]


def _ends(found: analysis.Difference, key: str, run: int) -> list[str]:
    return [between(found.intervals.get(key, (None, None))[run])]


def _of_output(found: analysis.Difference, name: str, metric: str) -> tuple[str, ...]:
    """Return a figure of a class, label or target of both runs."""
    return tuple(map(number, found.by_output.get(name, {}).get(metric, (None, None))))


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.4g}"


def difference_sentences(found: analysis.Difference) -> list[str]:
    """Say what became of the test examples."""
    outcome = found.predictions
    if outcome is None:
        return [found.reason]
    if isinstance(outcome, analysis.Errors):
        unit = f", in deviations, mean of {found.targets} targets" if found.targets > 1 else ""
        change = f"{outcome.change:+.4g} ± {outcome.half_width:.2g} (95 %)"
        return [
            f"absolute error{unit}, second minus first: {change}; "
            f"nearer on {outcome.smaller:,} test examples, farther off on {outcome.larger:,}; "
            f"Wilcoxon's test: {probability(outcome.p)}"
        ]
    return [
        f"wrong to right: {_indices(outcome.gained)}",
        f"right to wrong: {_indices(outcome.lost)}",
        f"McNemar's test: {probability(outcome.p)}"
        f"{'; the difference may be chance' if outcome.p > analysis.LEVEL else ''}",
        *([told_apart(found.paired)] if found.paired else []),
    ]


def _indices(indices: Sequence[int]) -> str:
    listed = ", ".join(map(str, indices[:MOST_INDICES]))
    more = ", …" if len(indices) > MOST_INDICES else ""
    return f"{len(indices)} test examples" + (f" ({listed}{more})" if indices else "")


def difference_as_json(found: analysis.Difference) -> analysis.DifferenceContent:
    """Return all of it, ready for JSON: of a pair the first run comes first, None where it is not finite."""
    content: analysis.DifferenceContent = {
        "config": found.config,
        "metrics": found.metrics,
        "cost": found.cost,
        "environment": found.environment,
        "predictions": found.predictions,
        "reason": found.reason,
        "kind": KINDS[type(found.predictions)],
        "intervals": found.intervals,
        "by_output": found.by_output,
        "paired": found.paired,
    }
    return cast("analysis.DifferenceContent", plain(content))
