"""The pictures of models with several outputs: the figures of each label, a scatter for each target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
    new_figure,
    note_figure,
    tidy,
)
from cnnbench.reporting.figures.lettering import lettering_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LABELS, MOST_TARGETS = 40, 12
NO_PREDICTION = "No finite prediction: the model gives NaN or infinity for every example."
MARKS = {"precision": ("^", ORANGE), "recall": ("o", GREEN), "f1": ("|", INK)}


def label_bars(figures: Mapping[str, Mapping[str, float]], examples: int, above: str = "above 0.5") -> Figure:
    """Draw the average precision of each label as a bar, the best first, with precision, recall and F1 on it.

    Args:
        figures: by label, as `runs.metrics.by_output` gives them.
        examples: of the split.
        above: the probability from which a label is given, in words.
    """
    order = sorted(figures, key=lambda name: -figures[name].get("average_precision", -1.0))
    half = MOST_LABELS // 2
    shown = order if len(order) <= MOST_LABELS else [*order[:half], *order[-half:]]
    known = [figures[name]["average_precision"] for name in order if "average_precision" in figures[name]]
    lettering = lettering_for(order)
    figure = new_figure(760, 24 * len(shown) + 150)
    axes = figure.add_subplot()
    tidy(axes)
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    rows = np.arange(len(shown))
    bars = [figures[name].get("average_precision", 0.0) for name in shown]
    axes.barh(rows, bars, height=0.62, color=BLUE, alpha=0.35, label="average precision")
    for metric, (marker, colour) in MARKS.items():
        values = [figures[name][metric] for name in shown]
        is_line = marker == "|"
        axes.plot(
            values,
            rows,
            marker,
            color=colour,
            markersize=12 if is_line else 5.5,
            markeredgewidth=1.6 if is_line else 0,
            label=metric.replace("f1", "F1"),
            clip_on=False,
        )
    names = [f"{lettering.clean(name, 28)} ({int(figures[name]['support']):,})" for name in shown]
    axes.set_yticks(rows, names, **lettering.style)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1.0), ylim=(len(shown) - 0.4, -0.6))
    figure.legend(loc="outside upper center", ncols=4, fontsize=CAPTION, frameon=False)
    mean = f"mean average precision {np.mean(known):.4f}" if known else "no label has an example"
    axes.set_title(f"Each label of {examples:,} examples: {mean}", fontsize=TITLE, color=INK)
    notes = [f"in brackets: how many examples have the label; precision, recall and F1: given from {above}"]
    if len(shown) < len(order):
        notes.append(f"the best and the worst {half} of {len(order)} labels")
    axes.set_xlabel("\n".join(notes), fontsize=CAPTION, color=GREY)
    return figure


def target_scatters(y_true: np.ndarray, y_pred: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw predicted against true values with the diagonal, a panel for each target.

    Args:
        y_true: ``(n, targets)`` values.
        y_pred: the same shape; examples with a prediction that is not finite are left out and counted.
        names: of the targets.
    """
    finite = (np.isfinite(y_true) & np.isfinite(y_pred)).all(axis=1)
    if not finite.any():
        return note_figure(NO_PREDICTION, "Predictions")
    truth, said = (values[finite].astype(np.float64) for values in (y_true, y_pred))
    shown = min(MOST_TARGETS, len(names))
    columns = min(3, shown)
    rows = math.ceil(shown / columns)
    figure = new_figure(max(480, columns * 340), rows * 350 + 60)
    lettering = lettering_for(names)
    for index in range(shown):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw_scatter(axes, truth[:, index], said[:, index])
        errors = said[:, index] - truth[:, index]
        rmse, mae = np.sqrt(np.square(errors).mean()), np.abs(errors).mean()
        heading = f"{lettering.clean(names[index], 26)}\nMAE {mae:.4g}   RMSE {rmse:.4g}"
        axes.set_title(heading, fontsize=LABEL, color=INK, **lettering.style)
    left_out = int((~finite).sum())
    rest = f", {left_out} without a finite prediction left out" if left_out else ""
    more = f", the first {shown} of {len(names)} targets" if shown < len(names) else ""
    figure.suptitle(f"Predictions of {len(truth):,} examples{rest}{more}", fontsize=TITLE, color=INK)
    return figure


def _draw_scatter(axes: Axes, truth: np.ndarray, said: np.ndarray) -> None:
    tidy(axes)
    opacity = float(np.clip(300 / len(truth), 0.08, 0.7))
    axes.plot(truth, said, "o", markersize=3.5, markeredgewidth=0, color=BLUE, alpha=opacity)
    low, high = min(truth.min(), said.min()), max(truth.max(), said.max())
    space = 0.03 * (high - low) or 1.0
    ends = (low - space, high + space)
    axes.plot(ends, ends, color=ORANGE, linewidth=1.3)
    axes.set(xlim=ends, ylim=ends)
    axes.set_box_aspect(1)
    axes.locator_params(nbins=6)
    axes.set_xlabel("true", fontsize=CAPTION)
    axes.set_ylabel("predicted", fontsize=CAPTION)
