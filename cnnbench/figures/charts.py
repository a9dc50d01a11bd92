"""True against predicted: the confusion matrix, and the residuals of a regression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.figures.canvas import (
    BLUE,
    CAPTION,
    GREY,
    INK,
    LABEL,
    ORANGE,
    TITLE,
    boxed,
    histogram_range,
    new_figure,
    note_figure,
    tidy,
    widest,
)
from cnnbench.figures.lettering import lettering_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NUMBERED = 25  # classes; beyond, numbers in the cells are too small to read
_MOST_LABELLED = 100


def confusion_matrix(y_true: np.ndarray, y_pred: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draw how often each true class (row) was taken for each class (column).

    Args:
        y_true: ``(n,)`` class indices.
        y_pred: ``(n,)`` class indices, not probabilities.
        class_names: by class index; empty: the indices are the names.
    """
    from matplotlib.colors import PowerNorm

    truth, said = np.asarray(y_true, np.int64).reshape(-1), np.asarray(y_pred, np.int64).reshape(-1)
    classes = len(class_names) or int(max(truth.max(initial=0), said.max(initial=0))) + 1
    names = list(class_names) or [str(index) for index in range(classes)]
    counts = np.bincount(truth * classes + said, minlength=classes * classes).reshape(classes, classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    lettering = lettering_for(names)
    labels = [lettering.clean(name, columns=22) for name in names]
    side = max(240.0, min(72.0 * classes, 1040.0))
    cell = side / classes
    every = math.ceil(classes / _MOST_LABELLED)
    ticks = list(range(0, classes, every))
    size = CAPTION if cell >= 16 else 6.0
    longest = widest(labels, size, lettering)
    turned: dict[str, Any] = {}
    below = 16.0
    if longest > 0.95 * cell * every:
        slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        turned = slanted if classes <= 12 else {"rotation": 90}
        below = longest + 4 if classes > 12 else 0.71 * longest + 14
    left, top, right = longest + 38, 38.0, 118.0
    spare = max(0.0, 480 - (left + side + right)) / 2  # never so narrow that the title is cut
    figure = new_figure(left + side + right + 2 * spare, top + side + below + 32, constrained=False)
    axes = boxed(figure, left + spare, top, side, side)
    # The square root: in proportion, confusions of a few per cent would look like none.
    image = axes.imshow(
        shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest", aspect="auto"
    )
    bar = figure.colorbar(
        image,
        cax=boxed(figure, left + spare + side + 16, top + 0.125 * side, 20, 0.75 * side),
        format=lambda v, _: f"{100 * v:.0f} %",
    )
    bar.set_ticks([0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.set_label("share of the true class", fontsize=CAPTION)
    bar.ax.tick_params(labelsize=CAPTION)
    bar.outline.set_visible(False)
    if classes <= _MOST_NUMBERED:
        _number_cells(axes, counts, shares, cell)

    shown = [labels[tick] for tick in ticks]
    axes.set_xticks(ticks, shown, fontsize=size, **turned, **lettering.style)
    axes.set_yticks(ticks, shown, fontsize=size, **lettering.style)
    axes.tick_params(length=0)
    axes.spines[:].set_color(GREY)
    axes.set_xlabel("predicted", fontsize=LABEL, va="center")
    axes.xaxis.set_label_coords(0.5, -(below + 18) / side)
    axes.set_ylabel("true", fontsize=LABEL, va="center")
    axes.yaxis.set_label_coords(-(longest + 22) / side, 0.5)
    accuracy = 100 * counts.trace() / max(1, counts.sum())
    heading = f"Confusion matrix: {accuracy:.2f} % of {counts.sum()} right"
    axes.set_title(heading, fontsize=TITLE, color=INK, pad=10, y=1.0)
    return figure


def _number_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray, cell: float) -> None:
    digits = len(str(int(counts.max())))
    size = max(5.0, min(9.0, cell * 72 / 110 / (0.72 * max(2, digits))))
    with_percent = cell >= 60 and len(counts) <= 10
    for row, column in np.ndindex(*counts.shape):
        count, share = int(counts[row, column]), float(shares[row, column])
        if not count:
            continue  # an empty cell says it, and the others are found at a glance
        text = f"{count}\n{100 * share:.1f} %" if with_percent else str(count)
        colour = "white" if share > 0.3 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


def residuals(y_true: np.ndarray, y_pred: np.ndarray) -> Figure:
    """Draw predicted against true values with the diagonal, and the histogram of predicted − true.

    Args:
        y_true: ``(n,)`` or ``(n, 1)`` values.
        y_pred: the same shape; predictions that are not finite are left out and counted in the title.
    """
    truth, said = (np.asarray(values, np.float64).reshape(-1) for values in (y_true, y_pred))
    finite = np.isfinite(truth) & np.isfinite(said)
    if not finite.any():
        return note_figure(
            "No finite prediction: the model gives NaN or infinity for every example.", "Residuals"
        )
    left_out = int((~finite).sum())
    truth, said = truth[finite], said[finite]
    errors = said - truth
    figure = new_figure(1000, 470)
    against, histogram = figure.subplots(1, 2)
    for axes in (against, histogram):
        tidy(axes)
    # The more points, the paler: otherwise thousands make one blot.
    opacity = float(np.clip(300 / len(truth), 0.08, 0.7))
    against.plot(
        truth,
        said,
        linestyle="none",
        marker="o",
        markersize=3.5,
        markeredgewidth=0,
        color=BLUE,
        alpha=opacity,
    )
    low, high = min(truth.min(), said.min()), max(truth.max(), said.max())
    space = 0.03 * (high - low) or 1.0
    ends = (low - space, high + space)
    against.plot(ends, ends, color=ORANGE, linewidth=1.3, label="predicted = true")
    against.set(xlim=ends, ylim=ends)
    against.set_box_aspect(1)
    against.set_xlabel("true", fontsize=LABEL)
    against.set_ylabel("predicted", fontsize=LABEL)
    against.legend(loc="upper left", fontsize=CAPTION, frameon=False)
    histogram.hist(
        errors,
        bins=min(50, max(8, int(np.sqrt(len(errors))))),
        range=histogram_range(errors),
        color=BLUE,
        edgecolor="white",
        linewidth=0.4,
    )
    histogram.axvline(0, color=ORANGE, linewidth=1.3)
    histogram.set_xlabel("predicted − true", fontsize=LABEL)
    histogram.set_ylabel("examples", fontsize=LABEL)
    mean_absolute, root_mean_square = np.abs(errors).mean(), np.sqrt(np.square(errors).mean())
    histogram.set_title(
        f"mean {errors.mean():.4g}   MAE {mean_absolute:.4g}   RMSE {root_mean_square:.4g}",
        fontsize=LABEL,
        color=INK,
    )
    rest = f", {left_out} without a finite prediction left out" if left_out else ""
    figure.suptitle(f"Residuals of {len(errors)} examples{rest}", fontsize=TITLE, color=INK)
    return figure
