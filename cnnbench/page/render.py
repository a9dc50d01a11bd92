"""Templates, style, script and charts to one file of HTML.

Everything that comes from a run is escaped by Jinja, or lies in base64. Beyond that the page's Content
Security Policy allows no request at all, and of scripts only the two that are named by their hashes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
