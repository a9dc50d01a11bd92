"""How the training went, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.figures.canvas import (
    BLUE,
    CAPTION,
    GREEN,
    GREY,
    INK,
    LABEL,
    ORANGE,
    boxed,
    new_figure,
    note_figure,
    tidy,
)
from cnnbench.figures.lettering import lettering_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_MOST_PANELS = 12
_BROKEN = "not a finite number"
_COST_ENDINGS = ("epoch", "seconds", "time", "_per_second", "_bytes")  # what it cost is no quality


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
