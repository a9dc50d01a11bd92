"""The templates of pages, filled with values, and the tables that they show.

Jinja escapes everything that comes from a run, or it lies in base64. The Content Security Policy of a page
allows no request, and only the two scripts that it names by their hashes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnnbench.reporting.output import encodable

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
COLOURS = 64  # of a chart in a notebook
MOST_ROWS = 100  # of a table at first


def render(
    template: str, charts: Mapping[str, Any], tables: Mapping[str, Table] | None = None, **content: Any
) -> str:
    """Return a page.

    Args:
        template: a file of `TEMPLATES`.
        charts: by the id of the element that each is drawn in.
        tables: by their ids; what is beyond their first rows is packed, until somebody asks for it.
        content: the variables of the template.
    """
    library, library_hash = _library()
    parts: Any = _environment().get_template("macros.html.j2").module
    rest = {id: str(parts.rows(table, table.rest)) for id, table in (tables or {}).items() if table.rest}
    script = _text("page.js")
    page = (
        _environment()
        .get_template(template)
        .render(
            style=_text("page.css"),
            script=script,
            library=library,
            charts=_packed(json.dumps(charts, allow_nan=False).encode()),
            rows=_packed(json.dumps(rest).encode()) if rest else None,
            tables=tables,
            scripts_allowed=f"'{library_hash}' '{_hash(script.encode())}'",
            **content,
        )
    )
    return encodable(page, "utf-8")  # a damaged config may hold half of a character


def render_part(template: str, **content: Any) -> str:
    """Return a part of a page, without scripts, for a notebook."""
    part = _environment().get_template(template).render(style=_text("part.css"), **content)
    return encodable(part, "utf-8")


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def small_data_uri(png: bytes) -> str:
    """Return a chart in so few colours that it has a third of its size: notebooks keep what they show."""
    from PIL import Image

    packed = io.BytesIO()
    try:
        Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS).save(packed, "PNG", optimize=True)
    except (OSError, SyntaxError, ValueError):  # damaged: the browser may still show a part of it
        return data_uri(png)
    return data_uri(packed.getvalue())


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _library() -> tuple[str, str]:
    """Return BokehJS, packed to a fifth of its size, and its hash."""
    from bokeh.resources import Resources

    script = Resources(mode="inline", components=["bokeh"]).js_raw[0].encode()
    return _packed(script), _hash(script)


def _packed(content: bytes) -> str:
    """Compress by gzip and write in base64; equal content gives equal text."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _hash(script: bytes) -> str:
    """Return the name of a script in a Content Security Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}"


# -- Answers and tables ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """One of the questions that the first screen answers.

    Attributes:
        question: in a word or two.
        figures: texts by their labels, the first one large.
        note: a sentence beside them.
    """

    question: str
    figures: Mapping[str, str]
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what is read.
        order: the number to sort by; None for a missing one, which comes last; "text" to sort by the text.
        link: a relative URL.
    """

    text: str
    order: float | Literal["text"] | None = "text"
    link: str | None = None

    @property
    def key(self) -> str | None:
        """The order as an attribute of seven digits; None where the text is sorted."""
        if self.order == "text":
            return None
        return "" if self.order is None else f"{self.order:.7g}"


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        cells: one per column.
        group: the number of its group, which is that of the group's point and curves too.
        search: text that the filter finds beside that of the cells.
        colour: of its curves.
    """

    cells: Sequence[Cell]
    group: int
    search: str = ""
    colour: str | None = None


@dataclass(frozen=True)
class Heading:
    label: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table that is sorted by its column number `sorted_by`.

    Attributes:
        is_selectable: whether the first cell of a row highlights its group.
    """

    caption: str
    columns: Sequence[Heading]
    rows: Sequence[Row]
    sorted_by: int
    is_selectable: bool = False

    @property
    def first(self) -> Sequence[Row]:
        """The rows that are seen at once."""
        return self.rows[:MOST_ROWS]

    @property
    def rest(self) -> Sequence[Row]:
        return self.rows[MOST_ROWS:]
