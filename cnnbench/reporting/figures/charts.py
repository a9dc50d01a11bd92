"""The charts of a run: learning curves, confusion matrix, residuals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.cells import cell_len

from cnnbench.reporting.figures.canvas import (
    BLUE,
    CAPTION,
    DPI,
    GREEN,
    GREY,
    INK,
    LABEL,
    ORANGE,
    TITLE,
    histogram_range,
    new_figure,
    note_figure,
    tidy,
)
from cnnbench.reporting.figures.lettering import lettering_for
from cnnbench.runs import in_words

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cnnbench.analysis import Group

NO_PREDICTION = "No finite prediction: the model gives NaN or infinity for every example."
_MOST_PANELS = 12
_BROKEN = "not a finite number"
_COST_ENDINGS = ("epoch", "seconds", "time", "_per_second", "_bytes")  # costs, not qualities
_MOST_NUMBERED = 25  # classes; beyond, numbers in the cells are too small to read
_MOST_LABELLED = 100


def learning_curves(
    history: Sequence[Mapping[str, float | None]], best_epoch: int | None, positive: str | None = None
) -> Figure:
    """Draw one panel for the loss, one for each metric, and one for the learning rate.

    Args:
        history: one mapping per epoch, in order: ``loss``, ``val_loss``, ``learning_rate``, …; a key may be
            missing in some epochs. A value that is NaN, infinite or None is marked by a cross at the bottom.
        best_epoch: counted from 1, or None.
        positive: the class that precision and recall of a binary task are of.
    """
    names = _panel_names(history)
    if not names:
        return note_figure("No epoch was finished, so there is nothing to draw.", "Learning curves")
    shown = names[:_MOST_PANELS]
    columns = min(len(shown), 3 if len(shown) != 4 else 2)
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(max(520, columns * 400), rows * 290 + 50)
    epochs = np.arange(1, len(history) + 1)
    lettering = lettering_for([*names, positive or ""])
    for index, name in enumerate(shown):
        axes = figure.add_subplot(rows, columns, index + 1)
        tidy(axes)
        heading = lettering.clean(in_words(name, positive))
        axes.set_title(heading, fontsize=LABEL, color=INK, **lettering.style)
        axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
        axes.set_axisbelow(True)
        _draw_panel(axes, history, name, epochs)
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.set_xticks(_epoch_ticks(len(epochs)))
        if index >= len(shown) - columns:
            axes.set_xlabel("epoch", fontsize=CAPTION)
        if best_epoch is not None and 1 <= best_epoch <= len(epochs):
            label = f"best epoch ({best_epoch})"
            axes.axvline(best_epoch, color=GREEN, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1, label=label)
    _legend_above(figure)
    if len(names) > len(shown):
        note = f"{len(names) - len(shown)} further metrics are not drawn"
        figure.supxlabel(note, fontsize=CAPTION, color=GREY)
    return figure


def _panel_names(history: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Return loss first, then the metrics in the order in which they appear, then learning_rate."""
    keys = dict.fromkeys(key.removeprefix("val_") for record in history for key in record)
    metrics = [k for k in keys if k not in ("loss", "learning_rate") and not k.endswith(_COST_ENDINGS)]
    return [key for key in ("loss", *metrics, "learning_rate") if key in keys]


def _legend_above(figure: Figure) -> None:
    """Explain each kind of line once, for all panels."""
    legend: dict[str, Artist] = {}
    for axes in figure.axes:
        for artist, label in zip(*axes.get_legend_handles_labels(), strict=True):
            legend.setdefault(label, artist)
    labels = sorted(legend, key=lambda label: label == _BROKEN)  # last: it belongs to every line
    handles = [legend[label] for label in labels]
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=max(1, len(labels)),
        fontsize=CAPTION,
        frameon=False,
    )


def _draw_panel(
    axes: Axes, history: Sequence[Mapping[str, float | None]], name: str, epochs: np.ndarray
) -> None:
    drawn: list[np.ndarray] = []
    is_rate = name == "learning_rate"
    for key, label, colour in ((name, "train", BLUE), (f"val_{name}", "validation", ORANGE)):
        recorded = np.array([key in record for record in history])
        if not recorded.any():
            continue
        found = (record.get(key) for record in history)
        values = np.array([math.nan if value is None else value for value in found], np.float64)
        finite = np.isfinite(values)
        axes.plot(
            epochs,
            np.where(finite, values, np.nan),
            color=INK if is_rate else colour,
            linewidth=1.6,
            # A point between two gaps has no line to be seen by.
            marker="o" if len(epochs) <= 20 or not finite.all() else None,
            markersize=3.2,
            label=None if is_rate else label,
        )
        drawn.append(values[finite])
        if (broken := recorded & ~finite).any():
            axes.plot(
                epochs[broken],
                np.full(int(broken.sum()), 0.02),
                "x",
                color=colour,
                markersize=5,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                label=_BROKEN,
            )
    values = np.concatenate(drawn) if drawn else np.empty(0)
    if not values.size:
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=GREY, fontsize=LABEL
        )
    elif values.min() > 0 and values.max() / values.min() >= (10 if is_rate else 100):
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
    """Return 1 and at most seven round numbers after it."""
    from matplotlib.ticker import MaxNLocator

    return [
        1,
        *(int(tick) for tick in MaxNLocator(7, integer=True).tick_values(0, epochs) if 1 < tick <= epochs),
    ]


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
    every = math.ceil(classes / _MOST_LABELLED)
    labels = [lettering.clean(name, columns=22) for name in names[::every]]
    side = max(240.0, min(72.0 * classes, 1040.0))
    cell = side / classes
    size = CAPTION if cell >= 16 else 6.0
    longest = 0.95 * size * max(map(cell_len, labels))  # about so many pixels
    level = longest <= 0.95 * cell * every
    below = 16.0 if level else 0.75 * longest if classes <= 12 else longest
    figure = new_figure(max(480.0, side + longest + 160), side + below + 90)
    axes = figure.add_subplot()
    # The square root: in proportion, confusions of a few per cent would look like none.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, shrink=0.75, format=lambda share, _: f"{100 * share:.0f} %")
    bar.set_ticks([0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.set_label("share of the true class", fontsize=CAPTION)
    bar.ax.tick_params(labelsize=CAPTION)
    bar.outline.set_visible(False)
    if classes <= _MOST_NUMBERED:
        _number_cells(axes, counts, shares, cell)
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    turned = {} if level else slanted if classes <= 12 else {"rotation": 90}
    axes.set_xticks(range(0, classes, every), labels, fontsize=size, **turned, **lettering.style)
    axes.set_yticks(range(0, classes, every), labels, fontsize=size, **lettering.style)
    axes.tick_params(length=0)
    axes.spines[:].set_color(GREY)
    axes.set_xlabel("predicted", fontsize=LABEL)
    axes.set_ylabel("true", fontsize=LABEL)
    accuracy = 100 * counts.trace() / max(1, counts.sum())
    axes.set_title(f"Confusion matrix: {accuracy:.2f} % of {counts.sum()} right", fontsize=TITLE, color=INK)
    return figure


def _number_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray, cell: float) -> None:
    digits = len(str(int(counts.max())))
    size = max(5.0, min(9.0, cell * 72 / DPI / (0.72 * max(2, digits))))
    with_percent = cell >= 60 and len(counts) <= 10
    for row, column in np.argwhere(counts):  # an empty cell says it, and the others are found at a glance
        count, share = counts[row, column], shares[row, column]
        text = f"{count}\n{100 * share:.1f} %" if with_percent else str(count)
        colour = "white" if share > 0.3 else INK
        # Inside a cell, so the layout need not measure it: for 100 cells that costs as much as drawing.
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour, in_layout=False)


def residuals(y_true: np.ndarray, y_pred: np.ndarray) -> Figure:
    """Draw predicted against true values with the diagonal, and the histogram of predicted − true.

    Args:
        y_true: ``(n,)`` or ``(n, 1)`` values.
        y_pred: the same shape; predictions that are not finite are left out and counted in the title.
    """
    truth, said = (np.asarray(values, np.float64).reshape(-1) for values in (y_true, y_pred))
    finite = np.isfinite(truth) & np.isfinite(said)
    if not finite.any():
        return note_figure(NO_PREDICTION, "Residuals")
    left_out = int((~finite).sum())
    truth, said = truth[finite], said[finite]
    errors = said - truth
    figure = new_figure(1000, 470)
    against, histogram = figure.subplots(1, 2)
    for axes in (against, histogram):
        tidy(axes)
    # The more points, the paler: thousands would make one blot.
    opacity = float(np.clip(300 / len(truth), 0.08, 0.7))
    against.plot(truth, said, "o", markersize=3.5, markeredgewidth=0, color=BLUE, alpha=opacity)
    low, high = min(truth.min(), said.min()), max(truth.max(), said.max())
    space = 0.03 * (high - low) or 1.0
    ends = (low - space, high + space)
    against.plot(ends, ends, color=ORANGE, linewidth=1.3, label="predicted = true")
    against.set(xlim=ends, ylim=ends)
    against.set_box_aspect(1)
    against.set_xlabel("true", fontsize=LABEL)
    against.set_ylabel("predicted", fontsize=LABEL)
    against.legend(loc="upper left", fontsize=CAPTION, frameon=False)
    bins = min(50, max(8, int(np.sqrt(len(errors)))))
    bounds = histogram_range(errors)
    histogram.hist(errors, bins, range=bounds, color=BLUE, edgecolor="white", linewidth=0.4)
    histogram.axvline(0, color=ORANGE, linewidth=1.3)
    histogram.set_xlabel("predicted − true", fontsize=LABEL)
    histogram.set_ylabel("examples", fontsize=LABEL)
    mean, mae, rmse = errors.mean(), np.abs(errors).mean(), np.sqrt(np.square(errors).mean())
    heading = f"mean {mean:.4g}   MAE {mae:.4g}   RMSE {rmse:.4g}"
    histogram.set_title(heading, fontsize=LABEL, color=INK)
    rest = f", {left_out} without a finite prediction left out" if left_out else ""
    figure.suptitle(f"Residuals of {len(errors)} examples{rest}", fontsize=TITLE, color=INK)
    return figure


# -- Of a comparison -------------------------------------------------------------------------------


def quality_against_cost(groups: Sequence[Group], cost: str, label: str) -> Figure:
    """Draw each group by its mean, deviation and cost, numbered by rank; filled points are on the front.

    Args:
        groups: of one ranking.
        cost: its name in `analysis.COSTS`.
        label: of its axis.
    """
    figure = new_figure(640, 360)
    axes = figure.add_subplot()
    tidy(axes)
    drawn = [group for group in groups if math.isfinite(group.mean) and math.isfinite(group.cost[cost])]
    for group in drawn:
        spread = group.deviation if math.isfinite(group.deviation) else 0.0
        face = BLUE if group.on_front else "white"
        axes.errorbar(group.cost[cost], group.mean, spread, fmt="o", color=BLUE, markerfacecolor=face)
        place = (group.cost[cost], group.mean)
        axes.annotate(str(group.rank), place, (6, 4), textcoords="offset points", fontsize=CAPTION)
    costs = [group.cost[cost] for group in drawn]
    if costs and min(costs) > 0 and max(costs) >= 10 * min(costs):
        axes.set_xscale("log")
    axes.set_xlabel(label, fontsize=LABEL)
    axes.set_ylabel(groups[0].objective, fontsize=LABEL)
    return figure
