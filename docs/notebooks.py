"""The notebooks of `examples/` as pages, with the outputs that are stored in them; nothing is executed.

Written here, since mkdocs-jupyter gives every page half a megabyte of styles, and scripts from elsewhere.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbformat import NotebookNode

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, and the notebook itself, to be downloaded."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        notebook = nbformat.read(path, nbformat.NO_CONVERT)
        files.append(File.generated(config, f"examples/{path.stem}.md", content=page(notebook, path.name)))
        files.append(File.generated(config, f"examples/{path.name}", abs_src_path=str(path)))
    return files


def page(notebook: NotebookNode, name: str) -> str:
    """Return the Markdown of a notebook; HTML that a cell shows stays as it is."""
    blocks = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            blocks.append(cell.source)
        else:
            blocks += [_fenced(cell.source, "python"), *map(_shown, _joined(cell.outputs))]
    note = f"This page is a notebook: [download it]({name}), and run it on your own machine."
    return "\n\n".join([blocks[0], f"*{note}*", *blocks[1:]]) + "\n"


def _joined(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
    """Yield outputs, with what was printed piece by piece as one."""
    printed = [one.text for one in outputs if one.output_type == "stream"]
    if printed:
        yield nbformat.v4.new_output("stream", text="".join(printed))
    yield from (one for one in outputs if one.output_type != "stream")


def _shown(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return _fenced(output.text, "text")
    if "text/html" in output.data:  # a blank line would end it, for Markdown
        lines = [line.strip() for line in output.data["text/html"].splitlines()]
        return f'<div class="shown">{"".join(f"{line} " for line in lines if line)}</div>'
    if "image/png" in output.data:
        png = output.data["image/png"].replace("\n", "")
        alt = html.escape(output.data.get("text/plain", ""))
        return f'<div class="shown"><img src="data:image/png;base64,{png}" alt="{alt}"></div>'
    return _fenced(output.data["text/plain"], "text")


def _fenced(text: str, language: str) -> str:
    return f"~~~~{language}\n{text.rstrip()}\n~~~~"
