"""The pictures that every run leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.data import Dataset
from cnnbench.reporting.figures.canvas import to_png
from cnnbench.reporting.figures.charts import confusion_matrix, learning_curves, residuals
from cnnbench.reporting.figures.images import augmentation_grid, largest_errors, sample_grid, worst_mistakes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID = 9  # pictures before and after augmentation


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
        history: one entry per epoch.
        best_epoch: from 1.
        outputs: of the best checkpoint for the test split: probabilities ``(n, classes)`` or ``(n, 1)``,
            or values ``(n, 1)``.
        augment: from images and labels to augmented images; None where the run has no augmentation.

    Yields:
        name without suffix, and the PNG.
    """
    train, test, names = dataset.train, dataset.test, dataset.class_names
    title = f"{dataset.name}: training split"
    drawings: dict[str, Callable[[], Figure]] = {
        "samples": partial(sample_grid, train.x, train.y, names, title),
        "learning_curves": partial(learning_curves, history, best_epoch),
    }
    if augment is not None:
        before = train.x[:GRID]
        after = augment(before, train.y[:GRID])
        title = f"{dataset.name}: before and after augmentation"
        drawings["augmentation"] = partial(augmentation_grid, before, after, title)
    if dataset.task == "regression":
        values = outputs.reshape(-1)
        drawings["residuals"] = partial(residuals, test.y, values)
        drawings["worst_mistakes"] = partial(largest_errors, test.x, test.y, values)
    else:
        predicted = outputs.argmax(axis=1) if dataset.task == "multiclass" else outputs.reshape(-1) > 0.5
        drawings["confusion_matrix"] = partial(confusion_matrix, test.y, predicted.astype(int), names)
        drawings["worst_mistakes"] = partial(worst_mistakes, test.x, test.y, outputs, names)
    for name, draw in drawings.items():
        yield name, to_png(draw())
