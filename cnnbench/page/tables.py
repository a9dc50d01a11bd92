"""A table of a page as plain values; the template draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is read.
        order: what is sorted by: a number, None for one that is missing and always comes last, or the text.
        link: where it leads, as a relative URL.
    """

    text: str
    order: float | Literal["text"] | None = "text"
    link: str | None = None

    @property
    def key(self) -> str | None:
        """The order as an attribute, with no more digits than anybody compares; None for the text's own."""
        if self.order == "text":
            return None
        return "" if self.order is None else f"{self.order:.7g}"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        cells: one per column.
        group: the number of the group it belongs to, which its point and its curves have too.
        search: what a filter finds beside the text of the cells.
        colour: of its curves.
    """

    cells: Sequence[Cell]
    group: int
    search: str = ""
    colour: str | None = None


@dataclass(frozen=True)
class Column:
    label: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """Columns and rows; `sorted_by` is the column in whose order the rows are given."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    sorted_by: int
