"""The test examples that a model got most wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.datasets.core import Examples
from cnnbench.figures.canvas import GREEN, INK, ORANGE, note_figure
from cnnbench.figures.pictures import picture_grid
from cnnbench.figures.tables import rows_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def worst_mistakes(
    images: Examples,
    y_true: np.ndarray,
    outputs: np.ndarray,
    class_names: Sequence[str],
    feature_names: Sequence[str] = (),
) -> Figure:
    """Show the examples that the model got wrong with the highest probability, the surest first.

    Args:
        images: ``(n, height, width, channels)``, or ``(n, columns)`` features, shown as a table.
        y_true: ``(n,)`` class indices.
        outputs: probabilities ``(n, classes)``, or ``(n,)`` or ``(n, 1)``: the probability of class 1.
        class_names: by class index.
        feature_names: by column, for features.
    """
    title = "Surest mistakes"
    y_true = np.asarray(y_true).reshape(-1).astype(np.int64)
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        positive = outputs.reshape(-1).astype(np.float64)
        outputs = np.stack([1 - positive, positive], axis=1)
    usable = np.isfinite(outputs).all(axis=1)
    if not usable.any():
        return note_figure("No finite output: the model gives NaN or infinity for every example.", title)
    predicted = np.argmax(outputs, axis=1)  # 0.5 counts as class 0, as in Keras's BinaryAccuracy
    wrong = np.flatnonzero(usable & (predicted != y_true))
    if not len(wrong):
        return note_figure(f"No mistakes: all {int(usable.sum())} examples are classified correctly.", title)
    sureness = outputs[wrong, predicted[wrong]]
    worst = wrong[np.argsort(-sureness, kind="stable")][:20]
    title = f"Surest mistakes ({len(worst)} of {len(wrong)}; {len(y_true)} examples)"
    names = [(class_names[int(y_true[i])], class_names[int(predicted[i])]) for i in worst]
    sure = [_percent(float(outputs[i, predicted[i]])) for i in worst]
    if images.ndim == 2:
        cells = [(true, said, percent) for (true, said), percent in zip(names, sure, strict=True)]
        return rows_table(images[:], worst, ("true", "predicted", "probability"), cells, title, feature_names)
    captions = [
        [(true, GREEN), (f"→ {said}", ORANGE), (percent, INK)]
        for (true, said), percent in zip(names, sure, strict=True)
    ]
    return picture_grid(images[worst], captions, 5, f"{title}: true → predicted")


def _percent(share: float) -> str:
    """Write 99.97 % as such: rounded to 100 % it would look like certainty."""
    if share >= 1:
        return "100 %"
    return f"{100 * share:.1f} %" if share < 0.9995 else f"{math.floor(100_000 * share) / 1000:.3f} %"


def largest_errors(
    features: Examples, y_true: np.ndarray, y_pred: np.ndarray, feature_names: Sequence[str] = ()
) -> Figure:
    """Show the rows that a regression missed by most: their features, and by how much.

    Args:
        features: ``(n, columns)``; or images ``(n, height, width, channels)``, shown as such.
        y_true: ``(n,)`` or ``(n, 1)`` values.
        y_pred: the same shape; rows with predictions that are not finite are left out.
        feature_names: by column; empty: "feature 1", …
    """
    title = "Largest errors"
    truth, said = (np.asarray(values, np.float64).reshape(-1) for values in (y_true, y_pred))
    errors = said - truth
    usable = np.flatnonzero(np.isfinite(errors))
    if not len(usable):
        return note_figure("No finite prediction: the model gives NaN or infinity for every example.", title)
    worst = usable[np.argsort(-np.abs(errors[usable]), kind="stable")][:15]
    cells = [(f"{truth[i]:.4g}", f"{said[i]:.4g}", f"{errors[i]:+.4g}") for i in worst]
    title = f"Largest errors ({len(worst)} of {len(usable)} examples)"
    if features.ndim > 2:
        captions = [
            [(f"true {true}", GREEN), (f"→ {guess}", ORANGE), (f"error {error}", INK)]
            for true, guess, error in cells
        ]
        return picture_grid(features[worst], captions, 5, title)
    bars = errors[worst]
    return rows_table(features[:], worst, ("true", "predicted", "error"), cells, title, feature_names, bars)
