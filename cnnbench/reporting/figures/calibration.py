"""The reliability diagram: how often probabilities come true."""

from __future__ import annotations

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
    new_figure,
    note_figure,
    tidy,
)
from cnnbench.reporting.figures.lettering import lettering_for
from cnnbench.reporting.text import calibration_in_words, count_of
from cnnbench.runs import Decision, Reliability, reliability, untempered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_PREDICTION = "No finite prediction: the model gives NaN or infinity."


def reliability_diagram(y_true: np.ndarray, outputs: np.ndarray, decision: Decision) -> Figure:
    """Draw the share that came true against the probability that was said, and how often each was said.

    Args:
        y_true: ``(n,)`` class indices, or ``(n, labels)`` 0 or 1.
        outputs: probabilities, as of `runs.metrics.compute`.
        decision: with the temperature, if the outputs have one: points in grey are without it.
    """
    found = reliability(decision.task, y_true, outputs)
    if found is None:
        return note_figure(NO_PREDICTION, "Calibration")
    figure = new_figure(560, 640)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (4, 1)})
    upper.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle="--", label="as often as said")
    if decision.temperature is not None:
        before = reliability(decision.task, y_true, untempered(decision.task, outputs, decision.temperature))
        if before is not None:
            label = f"before the temperature of {decision.temperature:.3g}: ECE {before.ece:.3f}"
            upper.plot(before.said, before.came, "x", color=GREY, markersize=6, label=label)
    _draw_points(upper, found)
    edges = np.linspace(0, 1, 16)
    lower.hist(found.said, edges, weights=found.count, color=BLUE, alpha=0.35, rwidth=0.92)
    lower.set_ylabel("how many", fontsize=CAPTION)
    for axes in (upper, lower):
        tidy(axes)
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    upper.set_ylabel("share that came true", fontsize=LABEL)
    upper.legend(loc="best", fontsize=CAPTION, frameon=False)
    lettering = lettering_for(decision.names)
    event = {
        "binary": lettering.clean(decision.names[-1], 30),
        "multiclass": "the answer",
        "multilabel": "a label",
    }[decision.task]
    told = "\n".join(calibration_in_words(found.row()))
    lower.set_xlabel(f"probability of {event}\n{told}", fontsize=CAPTION, color=INK, **lettering.style)
    title = f"Calibration on {count_of(len(y_true), 'test example')}"
    figure.suptitle(title, fontsize=TITLE, color=INK)
    return figure


def _draw_points(axes: Axes, found: Reliability) -> None:
    """Draw each bin with the interval of its share, by Wilson."""
    from scipy import stats

    ends = [
        stats.binomtest(round(share * count), int(count)).proportion_ci(0.95, "wilson")
        for share, count in zip(found.came, found.count, strict=True)
    ]
    low, high = (np.array([getattr(one, side) for one in ends]) for side in ("low", "high"))
    axes.vlines(found.said, low, high, color=BLUE, linewidth=1.4, alpha=0.7)
    sizes = 14 + 160 * found.count / found.count.sum()
    label = f"what came, at 95 %: ECE {found.ece:.3f}"
    axes.scatter(found.said, found.came, s=sizes, color=ORANGE, zorder=3, label=label)
