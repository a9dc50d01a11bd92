"""The pictures that every run leaves, and the same taken up again from its folder."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.data import Dataset
from cnnbench.reporting.figures.calibration import reliability_diagram
from cnnbench.reporting.figures.canvas import new_figure, to_png
from cnnbench.reporting.figures.charts import confusion_matrix, learning_curves, residuals
from cnnbench.reporting.figures.curves import threshold_curves
from cnnbench.reporting.figures.images import (
    augmentation_grid,
    largest_errors,
    sample_grid,
    worst_mistakes,
    wrong_labels,
)
from cnnbench.reporting.figures.outputs import label_bars, target_scatters
from cnnbench.runs import Decision, RunFolder, metrics, positive_class

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
    decision: Decision | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Draw one picture after the other.

    Args:
        dataset: of the run.
        history: one entry per epoch; none of an average of folds.
        best_epoch: from 1.
        outputs: of the best checkpoint for the test split: probabilities ``(n, classes)`` or ``(n, 1)``,
            or values ``(n, targets)``.
        augment: from images and labels to augmented images; None where the run has no augmentation.
        decision: how outputs become answers; None: by 0.5, or the most probable class.

    Yields:
        name without suffix, and the PNG.
    """
    train, test, names, targets = dataset.train, dataset.test, dataset.class_names, dataset.targets
    columns, title = dataset.columns, f"{dataset.name}: training split"
    positive = names[1] if dataset.task == "binary" else None
    drawings: Drawings = {
        "samples": partial(sample_grid, train.x, train.y, names, title, columns, targets),
        **({"learning_curves": partial(learning_curves, history, best_epoch, positive)} if history else {}),
    }
    if augment is not None:
        before = train.x[:GRID]
        title = f"{dataset.name}: before and after augmentation"
        drawings["augmentation"] = partial(augmentation_grid, before, augment(before, train.y[:GRID]), title)
    decision = decision or Decision(dataset.task, tuple(names or targets))
    drawings |= _of_predictions(decision, test.y, outputs)
    if dataset.task == "regression":
        shaped = outputs.reshape(test.y.shape)
        drawings["worst_mistakes"] = partial(
            largest_errors, test.x, test.y, shaped, columns, targets, test.names
        )
    else:
        mistakes = wrong_labels if dataset.task == "multilabel" else worst_mistakes
        drawings["worst_mistakes"] = partial(
            mistakes, test.x, test.y, outputs, names, columns, test.names, decision.thresholds
        )
    for name, draw in drawings.items():
        yield name, to_png(draw())


def run_figures(folder: RunFolder) -> dict[str, Figure]:
    """Return the pictures of a finished run by name, without its data set and without TensorFlow.

    ``learning_curves``, ``confusion_matrix``, ``labels`` or ``residuals``, ``calibration`` and ``curves`` are
    drawn anew from the stored history and predictions. ``samples``, ``augmentation`` and ``worst_mistakes``
    show examples of the data set: they are read back from their PNG, and left out where the folder lacks it.

    Raises:
        CnnbenchError: a file of the run is damaged.
    """
    result, stored = folder.metrics, folder.predictions
    drawings: Drawings = {}
    if history := folder.history:  # the average of folds has none
        drawings["learning_curves"] = partial(
            learning_curves, history, result.get("best_epoch"), positive_class(result)
        )
    if stored:
        drawings |= _of_predictions(Decision.of_result(result), stored["y_true"], stored["outputs"])
    figures = {name: draw() for name, draw in drawings.items()}
    for name, path in folder.figures.items():
        if name not in figures and (png := read_png(path)):
            figures[name] = _shown(png)
    return figures


def read_png(path: Path) -> bytes:
    """Return a picture's bytes; none where the file merely bears the name."""
    content = path.read_bytes()
    return content if content.startswith(PNG) else b""


def _of_predictions(decision: Decision, y_true: np.ndarray, outputs: np.ndarray) -> Drawings:
    names, thresholds = decision.names, decision.thresholds
    if decision.task == "regression":
        if y_true.ndim > 1:
            return {"residuals": partial(target_scatters, y_true, outputs, names)}
        return {"residuals": partial(residuals, y_true, outputs)}
    drawings: Drawings = {
        "calibration": partial(reliability_diagram, y_true, outputs, decision),
        "curves": partial(threshold_curves, decision.task, y_true, outputs, names, thresholds),
    }
    if decision.task == "multilabel":
        figures = metrics.by_output(decision.task, y_true, outputs, names, thresholds)
        above = "above 0.5" if thresholds is None else "above the label's own threshold"
        return {"labels": partial(label_bars, figures, len(y_true), above), **drawings}
    predicted = decision.classes(outputs)
    return {"confusion_matrix": partial(confusion_matrix, y_true, predicted, names), **drawings}


def _shown(png: bytes) -> Figure:
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    figure = new_figure(pixels.shape[1], pixels.shape[0], layout=None)
    figure.figimage(pixels)
    return figure
