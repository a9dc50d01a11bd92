"""From values to one HTML page, and the tables of such values.

Everything that comes from a run is escaped by Jinja, or lies in base64. Beyond that the page's Content
Security Policy allows no request at all, and of scripts only the two that are named by their hashes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent


def render(template: str, charts: Mapping[str, Any], **content: Any) -> str:
    """The page.

    Args:
        template: a file of this folder.
        charts: by the id of the element that each is drawn in.
        content: what the template reads.
    """
    library, library_hash = _library()
    script = _text("page.js")
    return (
        _environment()
        .get_template(template)
        .render(
            style=_text("page.css"),
            script=script,
            library=library,
            charts=_packed(json.dumps(charts, allow_nan=False).encode()),
            scripts_allowed=f"'{library_hash}' '{_hash(script.encode())}'",
            **content,
        )
    )


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _library() -> tuple[str, str]:
    """BokehJS, packed, and its hash: a fifth of a page that held it as it is."""
    from bokeh.resources import Resources

    script = Resources(mode="inline", components=["bokeh"]).js_raw[0].encode()
    return _packed(script), _hash(script)


def _packed(content: bytes) -> str:
    """Gzip in base64, equal for equal content."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _hash(script: bytes) -> str:
    """As a Content Security Policy names a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}"


# -- Tables ----------------------------------------------------------------------------------------


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
