"""The pictures that every run leaves, and the same taken up again from its folder."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.data import Dataset
from cnnbench.reporting.figures.canvas import new_figure, to_png
from cnnbench.reporting.figures.charts import confusion_matrix, learning_curves, residuals
from cnnbench.reporting.figures.images import augmentation_grid, largest_errors, sample_grid, worst_mistakes
from cnnbench.runs import RunFolder, metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID = 9  # pictures before and after augmentation
PNG = b"\x89PNG\r\n\x1a\n"
Drawings = dict[str, Callable[[], "Figure"]]


def figures_of_run(
    dataset: Dataset,
    history: Sequence[Mapping[str, Any]],
    best_epoch: int,
    outputs: np.ndarray,
    augment: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Draw one picture after the other.

    Args:
        dataset: of the run.
        history: one entry per epoch; none of an average of folds.
        best_epoch: from 1.
        outputs: of the best checkpoint for the test split: probabilities ``(n, classes)`` or ``(n, 1)``,
            or values ``(n, 1)``.
        augment: from images and labels to augmented images; None where the run has no augmentation.

    Yields:
        name without suffix, and the PNG.
    """
    train, test, names = dataset.train, dataset.test, dataset.class_names
    drawings: Drawings = {
        "samples": partial(sample_grid, train.x, train.y, names, f"{dataset.name}: training split"),
        **({"learning_curves": partial(learning_curves, history, best_epoch)} if history else {}),
    }
    if augment is not None:
        before = train.x[:GRID]
        title = f"{dataset.name}: before and after augmentation"
        drawings["augmentation"] = partial(augmentation_grid, before, augment(before, train.y[:GRID]), title)
    drawings |= _of_predictions(dataset.task, test.y, outputs, names)
    if dataset.task == "regression":
        drawings["worst_mistakes"] = partial(largest_errors, test.x, test.y, outputs.reshape(-1))
    else:
        drawings["worst_mistakes"] = partial(worst_mistakes, test.x, test.y, outputs, names)
    for name, draw in drawings.items():
        yield name, to_png(draw())


def run_figures(folder: RunFolder) -> dict[str, Figure]:
    """Return the pictures of a finished run by name, without its data set and without TensorFlow.

    ``learning_curves`` and ``confusion_matrix`` or ``residuals`` are drawn anew from the stored history and
    predictions. ``samples``, ``augmentation`` and ``worst_mistakes`` show examples of the data set: they are
    read back from their PNG, and left out where the folder lacks it.

    Raises:
        CnnbenchError: a file of the run is damaged.
    """
    result, stored = folder.metrics, folder.predictions
    drawings: Drawings = {}
    if history := folder.history:  # the average of folds has none
        drawings["learning_curves"] = partial(learning_curves, history, result.get("best_epoch"))
    if stored:
        names = result.get("class_names") or ()
        drawings |= _of_predictions(result["task"], stored["y_true"], stored["outputs"], names)
    figures = {name: draw() for name, draw in drawings.items()}
    for name, path in folder.figures.items():
        if name not in figures and (png := read_png(path)):
            figures[name] = _shown(png)
    return figures


def read_png(path: Path) -> bytes:
    """Return a picture's bytes; none where the file merely bears the name."""
    content = path.read_bytes()
    return content if content.startswith(PNG) else b""


def _of_predictions(
    task: str, y_true: np.ndarray, outputs: np.ndarray, class_names: Sequence[str]
) -> Drawings:
    if task == "regression":
        return {"residuals": partial(residuals, y_true, outputs)}
    predicted = metrics.predicted_classes(outputs)
    return {"confusion_matrix": partial(confusion_matrix, y_true, predicted, class_names)}


def _shown(png: bytes) -> Figure:
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    figure = new_figure(pixels.shape[1], pixels.shape[0], layout=None)
    figure.figimage(pixels)
    return figure
