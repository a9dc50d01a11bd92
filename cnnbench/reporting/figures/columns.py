"""The pictures of data in columns: histograms of features, and a table of the rows that went wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.reporting.figures.canvas import (
    BLUE,
    CAPTION,
    GREY,
    INK,
    LABEL,
    ORANGE,
    TITLE,
    histogram_range,
    new_figure,
    tidy,
)
from cnnbench.reporting.figures.lettering import lettering_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_HISTOGRAMS, _MOST_COLUMNS, _MOST_TARGETS = 11, 10, 4


def feature_histograms(
    features: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    title: str,
    feature_names: Sequence[str] = (),
    target_names: Sequence[str] = (),
) -> Figure:
    """Draw a histogram of each of the first features, and of the targets; of labels, how many have each.

    Args:
        features: ``(n, columns)``.
        labels: ``(n,)`` class indices, ``(n, labels)`` 0 or 1, or the targets of a regression.
        class_names: by class or label; empty for regression.
        title: the heading.
        feature_names: by column; empty: "feature 1", …
        target_names: of a regression with several targets.
    """
    targets = ["labels"] if class_names else [*target_names][:_MOST_TARGETS]
    targets = ["target"] if labels.ndim == 1 else targets
    names = _names(features, feature_names)[: _MOST_HISTOGRAMS + 1 - len(targets)]
    columns = min(4, len(names) + len(targets))
    rows = math.ceil((len(names) + len(targets)) / columns)
    figure = new_figure(max(480, columns * 265), rows * 190 + 70)
    lettering = lettering_for([title, *names, *class_names, *targets])
    for index, heading in enumerate([*names, *targets]):
        axes = figure.add_subplot(rows, columns, index + 1)
        tidy(axes)
        is_target = index >= len(names)
        axes.set_title(lettering.clean(heading, 26), fontsize=LABEL, color=INK, **lettering.style)
        axes.set_yticks([])
        if is_target and class_names:
            counts = labels.sum(axis=0) if labels.ndim > 1 else np.bincount(labels.astype(np.int64))
            counts = np.pad(counts, (0, len(class_names) - len(counts)))
            axes.bar(range(len(counts)), counts, color=ORANGE)
            if len(counts) <= 4:
                shown = [lettering.clean(name, 36 // len(counts)) for name in class_names]
                axes.set_xticks(range(len(counts)), shown, **lettering.style)
            else:
                axes.set_xlabel("label" if labels.ndim > 1 else "class index", fontsize=CAPTION)
        else:
            of_targets = labels.reshape(len(labels), -1)
            values = of_targets[:, index - len(names)] if is_target else features[:, index]
            middle = _without_tails(values)
            axes.hist(middle, bins=30, range=histogram_range(middle), color=ORANGE if is_target else BLUE)
            axes.locator_params(axis="x", nbins=5)
    lettered = lettering.clean(title, 90)
    figure.suptitle(lettered, fontsize=TITLE, color=INK, **lettering.style)
    notes = ["values beyond the outermost 0.5 % are in the end bars"]
    if features.shape[1] > len(names):
        notes.insert(0, f"the first {len(names)} of {features.shape[1]} features")
    figure.supxlabel("; ".join(notes), fontsize=CAPTION, color=GREY)
    return figure


def rows_table(
    features: np.ndarray,
    rows: np.ndarray,
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
    title: str,
    feature_names: Sequence[str],
    bars: np.ndarray | None = None,
) -> Figure:
    """Draw a table of some rows, each feature coloured by how unusual its value is among all rows.

    Args:
        features: ``(n, columns)``, of all examples; the first ten columns are shown.
        rows: the indices of those to show, in order.
        headings: of the columns before the features, besides the row's own index.
        cells: for each shown row, one text per heading.
        title: the heading.
        feature_names: by column; may be empty.
        bars: for each shown row, a length drawn at its left; None for no bars.
    """
    names = _names(features, feature_names)[:_MOST_COLUMNS]
    lettering = lettering_for([title, *names, *(text for line in cells for text in line)])
    style = lettering.style
    shown = features[:, : len(names)].astype(np.float64)
    low, middle, high = np.percentile(shown, (25, 50, 75), axis=0)
    unusual = (shown[rows] - middle) / np.where(high > low, high - low, 1.0)
    count, width = len(headings), len(headings) + len(names)

    sides = 0 if bars is None else 1
    figure = new_figure(min(1600, max(560, 190 * sides + 112 * width + 90)), 30 * len(rows) + 150)
    panels = figure.subplots(1, 1 + sides, squeeze=False, sharey=True, width_ratios=[1] * sides + [5])[0]
    axes = panels[-1]
    edges = np.arange(count, width + 1) - 0.5, np.arange(len(rows) + 1) - 0.5
    axes.pcolormesh(*edges, unusual, cmap="PuOr_r", vmin=-5, vmax=5, edgecolors="white", linewidth=1.5)
    for line, row in enumerate(rows):
        texts = [
            *(lettering.clean(text, 14) for text in cells[line]),
            *(f"{value:.4g}" for value in shown[row]),
        ]
        for column, text in enumerate(texts):
            dark = column >= count and abs(unusual[line, column - count]) > 3.4
            colour = "white" if dark else INK
            place = {"ha": "center", "va": "center", "in_layout": False}
            axes.text(column, line, text, fontsize=CAPTION, color=colour, **place, **style)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.xaxis.tick_top()
    columns = [*headings, *(lettering.clean(name, 14) for name in names)]
    axes.set_xticks(range(width), columns, fontsize=CAPTION, **style)
    axes.set_yticks(range(len(rows)), [f"row {row}" for row in rows], fontsize=CAPTION)
    axes.tick_params(length=0, labelleft=True)
    axes.spines[:].set_visible(False)
    note = "colour: the feature's distance from its median over all rows, up to 5 interquartile ranges"
    if features.shape[1] > len(names):
        note = f"the first {len(names)} of {features.shape[1]} features; {note}"
    axes.set_xlabel(note, fontsize=CAPTION, color=GREY, labelpad=8)
    if bars is not None:
        _draw_bars(panels[0], bars)
    figure.suptitle(lettering.clean(title, 90), fontsize=TITLE, color=INK, **style)
    return figure


def _draw_bars(axes: Axes, lengths: np.ndarray) -> None:
    tidy(axes)
    axes.barh(range(len(lengths)), lengths, color=np.where(lengths < 0, BLUE, ORANGE).tolist(), height=0.7)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("predicted − true", fontsize=CAPTION)


def _names(features: np.ndarray, feature_names: Sequence[str]) -> list[str]:
    if len(feature_names) == features.shape[1]:
        return list(feature_names)
    return [f"feature {index + 1}" for index in range(features.shape[1])]


def _without_tails(values: np.ndarray) -> np.ndarray:
    """Clip to the middle 99 %: a house with a thousand rooms would leave one bar for all others."""
    finite: np.ndarray = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return finite
    low, high = np.percentile(finite, (0.5, 99.5))
    return finite.clip(low, high)
