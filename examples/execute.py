"""Execute the notebooks beside this file, and keep what they show: `make notebooks`, a quarter of an hour.

They run in a temporary folder, so that what is stored names no folder of this machine.
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

HERE = Path(__file__).parent
VERSION = 4  # of the file format
COLOURS = 128  # of a picture that is stored
UNSTORED = ("execution", "collapsed", "scrolled")  # times and states of a screen


def execute(notebook: NotebookNode, folder: Path, parameters: str = "") -> NotebookNode:
    """Run every cell in a kernel of its own, and return the notebook with what they show.

    Args:
        notebook: is changed.
        folder: where it runs.
        parameters: code that runs after the cell tagged `parameters`; papermill does the same.

    Raises:
        CellExecutionError: a cell has failed.
    """
    if parameters:
        tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
        after = next(number for number, tag in enumerate(tags, 1) if "parameters" in tag)
        notebook.cells.insert(after, nbformat.v4.new_code_cell(parameters))
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        for name in UNSTORED:
            cell.metadata.pop(name, None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    return notebook


def smaller(png: str) -> str:
    """Return a PNG in base64 with so few colours that it has a third of its size."""
    packed = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(COLOURS).save(
        packed, "PNG", optimize=True
    )
    return base64.b64encode(packed.getvalue()).decode()


def main() -> None:
    """Execute the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(HERE.glob("*.ipynb")))
    for path in parser.parse_args().notebooks:
        with tempfile.TemporaryDirectory() as folder:
            done = execute(nbformat.read(path, VERSION), Path(folder))
        part = path.with_suffix(".part")
        nbformat.write(done, part)
        part.replace(path)


if __name__ == "__main__":
    main()
