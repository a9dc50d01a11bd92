"""Two runs side by side as they are read in the terminal, and for other programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cnnbench.comparison.differences import Difference, Errors, Flips, Pairs
from cnnbench.comparison.significance import LEVEL
from cnnbench.comparison.tables import probability
from cnnbench.files import plain
from cnnbench.report import number

MOST_INDICES = 20
KINDS = {Flips: "flips", Errors: "errors", type(None): None}


def tables(found: Difference) -> list[Table]:
    """One for each kind of difference that there is, each class among them."""
    shown = []
    for title, pairs in (("config", found.config), ("environment and code", found.environment)):
        if pairs:
            shown.append(_table(title, ("key", "first", "second"), _texts(pairs)))
    columns = ("", "first", "second", "difference")
    for title, pairs in (("metrics", found.metrics), ("cost", found.cost)):
        if pairs:
            shown.append(_table(title, columns, _numbers(pairs)))
    if isinstance(found.predictions, Flips):
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


def _texts(pairs: Pairs) -> list[tuple[str, str, str]]:
    return [(key, _text(first), _text(second)) for key, (first, second) in pairs.items()]


def _text(value: Any) -> str:
    return "–" if value is None else str(value)


def _numbers(pairs: Pairs) -> list[tuple[str, str, str, str]]:
    return [
        (key, number(first), number(second), _signed(second - first))
        for key, (first, second) in pairs.items()
    ]


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.4g}"


def sentences(found: Difference) -> list[str]:
    """What became of the test examples."""
    outcome = found.predictions
    if outcome is None:
        return [found.reason]
    if isinstance(outcome, Errors):
        return [
            f"absolute error, second minus first: {outcome.change:+.4g} ± {outcome.half_width:.2g} (95 %); "
            f"nearer on {outcome.smaller:,} test examples, farther off on {outcome.larger:,}; "
            f"Wilcoxon's test: {probability(outcome.p)}"
        ]
    return [
        f"wrong to right: {_indices(outcome.gained)}",
        f"right to wrong: {_indices(outcome.lost)}",
        f"McNemar's test: {probability(outcome.p)}"
        f"{'; the difference may be chance' if outcome.p > LEVEL else ''}",
    ]


def _indices(indices: Sequence[int]) -> str:
    listed = ", ".join(map(str, indices[:MOST_INDICES]))
    more = ", …" if len(indices) > MOST_INDICES else ""
    return f"{len(indices)} test examples" + (f" ({listed}{more})" if indices else "")


def as_json(found: Difference) -> str:
    """All of it; what is not finite is null, and of a pair the first run comes first."""
    content: dict[str, Any] = {**asdict(found), "kind": KINDS[type(found.predictions)]}
    return json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n"
