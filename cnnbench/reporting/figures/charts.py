"""Charts of a run: learning curves, confusion matrix, residuals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.reporting.figures.canvas import (
    BLUE,
    CAPTION,
    GREEN,
    GREY,
    INK,
    LABEL,
    ORANGE,
    TITLE,
    boxed,
    histogram_range,
    lettering_for,
    new_figure,
    note_figure,
    tidy,
    widest,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_MOST_PANELS = 12
_BROKEN = "not a finite number"
_COST_ENDINGS = ("epoch", "seconds", "time", "_per_second", "_bytes")  # what it cost is no quality
_MOST_NUMBERED = 25  # classes; beyond, numbers in the cells are too small to read
_MOST_LABELLED = 100


def learning_curves(history: Sequence[Mapping[str, float | None]], best_epoch: int | None) -> Figure:
    """Draw one panel for the loss, one per further metric, and one for the learning rate.

    Args:
        history: one mapping per epoch, in order: ``loss``, ``val_loss``, ``learning_rate``, …; a key may be
            missing in some epochs, and a value may be NaN, infinite or None: a cross at the bottom
            marks those.
        best_epoch: counted from 1, or None.
    """
    names = _panel_names(history)
    if not names:
        return note_figure("No epoch was finished, so there is nothing to draw.", "Learning curves")
    shown = names[:_MOST_PANELS]
    columns = min(len(shown), 3 if len(shown) != 4 else 2)
    rows = math.ceil(len(shown) / columns)
    wide, high = max(520, columns * 400), rows * 290 + 50
    figure = new_figure(wide, high, constrained=False)
    epochs = np.arange(1, len(history) + 1)
    legend: dict[str, Line2D] = {}
    lettering = lettering_for(names)
    for index, name in enumerate(shown):
        row, column = divmod(index, columns)
        cell = wide / columns
        axes = boxed(figure, column * cell + 68, 290 * row + 62, cell - 84, 225)
        tidy(axes)
        axes.set_title(lettering.clean(name), fontsize=LABEL, color=INK, y=1.0, **lettering.style)
        axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
        axes.set_axisbelow(True)
        _draw_panel(axes, history, name, epochs, legend)
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.set_xticks(_epoch_ticks(len(epochs)))
        if index >= len(shown) - columns:
            axes.set_xlabel("epoch", fontsize=CAPTION)
            axes.xaxis.set_label_coords(0.5, -30 / 225)
        if best_epoch is not None and 1 <= best_epoch <= len(epochs):
            line = axes.axvline(best_epoch, color=GREEN, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1)
            legend[f"best epoch ({best_epoch})"] = line
    labels = sorted(legend, key=lambda label: label == _BROKEN)  # last: it belongs to every line
    figure.legend(
        [legend[label] for label in labels],
        labels,
        loc="upper center",
        ncols=max(1, len(legend)),
        fontsize=CAPTION,
        frameon=False,
    )
    if len(names) > len(shown):
        figure.supxlabel(
            f"{len(names) - len(shown)} further metrics are not drawn", fontsize=CAPTION, color=GREY
        )
    return figure


def _panel_names(history: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Return loss first, then the metrics in the order in which they appear, then learning_rate."""
    keys = dict.fromkeys(key.removeprefix("val_") for record in history for key in record)
    metrics = [k for k in keys if k not in ("loss", "learning_rate") and not k.endswith(_COST_ENDINGS)]
    return [
        *(["loss"] if "loss" in keys else []),
        *metrics,
        *(["learning_rate"] if "learning_rate" in keys else []),
    ]


def _series(history: Sequence[Mapping[str, float | None]], key: str) -> np.ndarray:
    values = (record.get(key) for record in history)
    return np.array([math.nan if value is None else float(value) for value in values], np.float64)


def _draw_panel(
    axes: Axes,
    history: Sequence[Mapping[str, float | None]],
    name: str,
    epochs: np.ndarray,
    legend: dict[str, Line2D],
) -> None:
    drawn: list[np.ndarray] = []
    for key, label, colour in ((name, "train", BLUE), (f"val_{name}", "validation", ORANGE)):
        if not any(key in record for record in history):
            continue
        values = _series(history, key)
        finite = np.isfinite(values)
        is_rate = name == "learning_rate"
        (line,) = axes.plot(
            epochs,
            np.where(finite, values, np.nan),
            color=INK if is_rate else colour,
            linewidth=1.6,
            # A point between two gaps has no line to be seen by.
            marker="o" if len(epochs) <= 20 or not finite.all() else None,
            markersize=3.2,
        )
        if not is_rate:
            legend.setdefault(label, line)
        drawn.append(values[finite])
        recorded = np.array([key in record for record in history])
        if (broken := recorded & ~finite).any():
            (cross,) = axes.plot(
                epochs[broken],
                np.full(int(broken.sum()), 0.02),
                linestyle="none",
                marker="x",
                color=colour,
                markersize=5,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
            legend.setdefault(_BROKEN, cross)
    values = np.concatenate(drawn) if drawn else np.empty(0)
    if not values.size:
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=GREY, fontsize=LABEL
        )
    elif values.min() > 0 and values.max() / values.min() >= (10 if name == "learning_rate" else 100):
        _use_log_scale(axes)


def _use_log_scale(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # Over less than two decades the powers of ten alone leave an axis with one label, or with none.
    subs = (1.0, 2.0, 5.0) if high / low < 1000 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _epoch_ticks(epochs: int) -> list[int]:
    """Return 1 and about six round numbers after it."""
    magnitude = 10 ** max(0, math.floor(math.log10(max(1, epochs / 7))))
    step = next(s for s in (magnitude, 2 * magnitude, 5 * magnitude, 10 * magnitude) if epochs / s <= 7)
    if step <= 2:
        return list(range(1, epochs + 1, step))
    return [1, *range(step, epochs + 1, step)]


# -- Of the test split -----------------------------------------------------------------------------


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
