"""A comparison of many runs as it is read in the terminal: tables, and its answer in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cnnbench.comparison.compare import Comparison, Group, Ranking
from cnnbench.comparison.differing import short
from cnnbench.report import count, duration, fixed, number
from cnnbench.run_files import PRUNED

MOST_ROWS = 40
MOST_COLUMNS = 4  # of config keys in a ranking
WIDE, NARROW = 165, 125  # characters from which on all of the cost is shown, and up to which only one
ON_FRONT = "◆"


def memory(size: float) -> str:
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
    "memory": ("memory", memory, "less memory"),
}
ALWAYS = ("parameters", "seconds", "examples_per_second")


def rankings(comparison: Comparison, width: int = WIDE, most: int = MOST_ROWS) -> list[Table]:
    """The groups of a comparison, one table for each objective and data set, since they do not compare.

    Args:
        comparison: what is shown.
        width: of the terminal, in characters.
        most: rows of a table; the others are counted below it.
    """
    wanted = (comparison.cost,) if width < NARROW else (*ALWAYS, comparison.cost)
    costs = [name for name in COST_COLUMNS if width >= WIDE or name in wanted]
    return [_ranking(ranking, comparison.cost, costs, most) for ranking in comparison.rankings]


def _ranking(ranking: Ranking, cost: str, costs: Sequence[str], most: int) -> Table:
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


def _notes(ranking: Ranking, cost: str, most: int) -> list[str]:
    notes = [f"{ON_FRONT} none is better and costs less ({COST_COLUMNS[cost][0]})"]
    if ranking.test:
        notes.append(f"{ranking.test}, 5 % for all pairs together")
    if len(ranking.groups) > most:
        notes.append(f"{len(ranking.groups) - most} more groups: --top, --filter or --csv shows them")
    return notes


def _cell(group: Group, key: str) -> str:
    return "\n".join(group.overrides) if key == "overrides" else short(group.differs.get(key, ""))


def _interval(group: Group) -> str:
    if not math.isfinite(group.half_width):
        return "–"
    return f"{group.mean - group.half_width:.4f} … {group.mean + group.half_width:.4f}"


def verdict(group: Group) -> str:
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


def apart(comparison: Comparison) -> list[str]:
    """One line for each run that gives no figures; one for all that a search has stopped early."""
    pruned = [record for record in comparison.apart if record.status == PRUNED]
    others = [record for record in comparison.apart if record.status != PRUNED]
    done = sum(len(group.runs) for group in comparison.groups)
    lines = [f"{record.status}: {record.folder.path}  {record.reason}" for record in others]
    if pruned:
        lines.append(f"stopped early by the search: {len(pruned)} of {len(pruned) + done} runs")
    return lines


def answers(comparison: Comparison) -> list[str]:
    """Each ranking in one sentence: what is best, by how much, and what does as well for less."""
    sentences = [_answer(ranking, comparison.cost) for ranking in comparison.rankings]
    if len(sentences) > 1:
        sentences.append("objectives and data sets are ranked apart: their figures do not compare")
    return sentences


def _answer(ranking: Ranking, cost: str) -> str:
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


def _rest(best: Group, others: Sequence[Group], cost: str) -> list[str]:
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
