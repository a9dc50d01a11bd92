"""The notebooks of `examples/`: every cell runs, without network; what is stored tells of no machine."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnbench.data.sources.mnist import IDX_FILES

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
# What makes each short: code after its cell of parameters.
SHORT = {
    "own_pictures": "extra = ['training.epochs=1', 'training.examples=100']",
    "study_note": "extra = ['training.epochs=1', 'training.examples=100']",
    "which_model": "extra, pilot, seeds = ['training=smoke'], (0,), (1, 2)",
}
# The kernel is a process of its own, which knows nothing of the fixtures: as `folder` has it.
ISOLATED = """
from pathlib import Path
from cnnbench.data import fetch
fetch.DEBIAN_FOLDER, fetch.can_connect = Path("debian"), lambda host: False
"""
EXECUTE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import execute, nbformat
done = execute.execute(nbformat.read(sys.argv[2], execute.VERSION), Path(), sys.argv[3])
nbformat.write(done, "done.ipynb")
"""
PLACE = re.compile(r"(?<![\w.:])(?:/\w[\w.-]*){2,}|[A-Z]:\\\\|~/")  # an absolute path
EMBEDDED = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")
LARGEST = 300_000  # bytes


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def texts(notebook: Any) -> list[str]:
    """Everything that the cells show, but for pictures."""
    found = []
    for output in (output for cell in code_cells(notebook) for output in cell["outputs"]):
        shown = {"text": output["text"]} if output["output_type"] == "stream" else output["data"]
        found += ["".join(text) for kind, text in shown.items() if kind != "image/png"]
    return [EMBEDDED.sub("", text) for text in found]


def test_every_notebook_is_tested_and_listed_in_the_documentation() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(SHORT)
    pages = (EXAMPLES.parent / "mkdocs.yml").read_text()
    assert all(f"examples/{path.stem}.md" in pages for path in NOTEBOOKS)


def write_data(root: Path, train: int = 200, test: int = 40) -> None:
    """Write Fashion-MNIST and CIFAR-10 as they are handed out, but of few random pictures."""
    rng = np.random.default_rng(0)
    (root / "fashion-mnist").mkdir(parents=True)
    for name, size in zip(IDX_FILES, (train, train, test, test), strict=True):
        shape = (size, 28, 28) if "images" in name else (size,)
        array = (
            rng.integers(0, 256, shape, np.uint8)
            if "images" in name
            else np.arange(size, dtype=np.uint8) % 10
        )
        head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *shape)
        (root / "fashion-mnist" / f"{name}.gz").write_bytes(gzip.compress(head + array.tobytes()))
    (root / "cifar-10-batches-py").mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {
            b"data": rng.integers(0, 256, (test, 3072), np.uint8),
            b"labels": [i % 10 for i in range(test)],
        }
        (root / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(batch, protocol=2))


@pytest.fixture
def run_notebook(folder: Path, run_python: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what executes a notebook, shortened, as on a machine without network, and gives its content."""
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("CNNBENCH_CACHE", str(folder / "cache"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))

    def run(name: str) -> Any:
        path = EXAMPLES / f"{name}.ipynb"
        outcome = run_python(EXECUTE, str(EXAMPLES), str(path), ISOLATED + SHORT[name])
        assert outcome.exit_code == 0, outcome.err
        return json.loads((folder / "done.ipynb").read_text(encoding="utf-8"))

    return run


def test_the_notebook_of_the_study_note_runs_on_its_data(
    folder: Path, run_notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(folder / "data")
    monkeypatch.setenv("CNNBENCH_DATA", str(folder / "data"))
    shown = "".join(texts(run_notebook("study_note")))
    assert "cifar10 is here" in shown
    assert "cnn_cifar10" in shown
    assert "\x1b" not in shown  # progress as plain lines
    assert "True" in shown  # verified


def test_the_notebook_of_the_study_note_runs_without_data(run_notebook: Any) -> None:
    shown = "".join(texts(run_notebook("study_note")))
    assert shown.count("Generated pictures take its place.") == 2
    assert "cnn_synthetic" in shown


def test_the_notebook_of_own_pictures_runs(folder: Path, run_notebook: Any) -> None:
    shown = "".join(texts(run_notebook("own_pictures")))
    assert "broken.png: not an image" in shown
    assert "9_a_9.png" in shown
    assert not (folder / "pics" / "new_pictures").exists()


def test_the_notebook_of_a_comparison_runs(run_notebook: Any) -> None:
    notebook = run_notebook("which_model")
    assert "beside the best" in "".join(texts(notebook))
    assert any(
        "image/png" in output.get("data", {}) for cell in code_cells(notebook) for output in cell["outputs"]
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_is_executed_whole_small_and_of_no_machine(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [output.get("name", output["output_type"]) for cell in cells for output in cell["outputs"]]
    assert "error" not in kinds
    assert "stderr" not in kinds
    assert [found for text in texts(notebook) for found in PLACE.findall(text)] == []
    assert path.stat().st_size < LARGEST
    assert ["parameters"] in [cell["metadata"].get("tags") for cell in cells]


def test_a_path_would_be_noticed() -> None:
    assert all(PLACE.search(text) for text in ("in /srv/me/x", "'C:\\\\a'", "~/.keras", "(/tmp/a)"))
    assert not any(PLACE.search(text) for text in ("outputs/a/b", "</td></tr>", "1/2", "accuracy/val"))
