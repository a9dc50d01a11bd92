"""ROC and precision-recall curves: what every other threshold would give."""

from __future__ import annotations

from collections.abc import Sequence
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
    new_figure,
    note_figure,
    tidy,
)
from cnnbench.reporting.figures.lettering import lettering_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CURVES = 10
HALF = 0.5  # the threshold where none was chosen
# Of Okabe and Ito; black last, as the text has it.
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C564B", GREY, INK)
HEADING = "ROC and precision-recall curves"


def threshold_curves(
    task: str,
    y_true: np.ndarray,
    outputs: np.ndarray,
    names: Sequence[str],
    thresholds: Sequence[float] | None = None,
) -> Figure:
    """Draw both curves of a binary task, of each class against the rest, or of each label.

    Args:
        task: of the data set; no regression.
        y_true: ``(n,)`` class indices, or ``(n, labels)`` 0 or 1.
        outputs: probabilities ``(n, 1)`` of class 1, ``(n, classes)`` or ``(n, labels)``.
        names: of the classes or labels; of many, those are drawn whose area under the ROC curve is smallest.
        thresholds: a binary task's one, or each label's, which has a dot; None: 0.5. Classes have none.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if not np.isfinite(outputs).all():
        return note_figure("No curves: the model gives NaN or infinity for some examples.", HEADING)
    each = _one_against_rest(task, y_true, outputs, names)
    known = {name: pair for name, pair in each.items() if 0 < pair[0].sum() < len(pair[0])}
    if not known:
        return note_figure("No curves: every example is of one class.", HEADING)
    areas = {name: float(roc_auc_score(*pair)) for name, pair in known.items()}
    shown = list(known)
    if len(shown) > MOST_CURVES:
        shown = sorted(shown, key=areas.__getitem__)[:MOST_CURVES]
    lettering = lettering_for(shown)
    figure = new_figure(920, 470)
    roc, precise = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    _draw_ground(roc, "ROC", "share of the others taken for it", "recall")
    _draw_ground(precise, "precision and recall", "recall", "precision")
    roc.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    for index, name in enumerate(shown):
        truth, scores = known[name]
        colour = COLOURS[index % len(COLOURS)]
        said = lettering.clean(name, 22)
        labels = f"{said} {areas[name]:.3f}", f"{said} {average_precision_score(truth, scores):.3f}"
        _draw_curves((roc, precise), truth, scores, colour, labels)
        if task != "multiclass":
            threshold = thresholds[list(each).index(name)] if thresholds else HALF
            _draw_point((roc, precise), truth, scores > threshold, colour)
    if len(shown) == 1:
        share = float(known[shown[0]][0].mean())
        precise.axhline(share, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    legends = (
        roc.legend(loc="lower right", fontsize=CAPTION, title="area"),
        precise.legend(loc="lower left", fontsize=CAPTION, title="average precision"),
    )
    for legend in legends:
        legend.get_title().set_fontsize(CAPTION)
        legend.get_frame().set(alpha=0.8, linewidth=0)
        for text in legend.get_texts():
            text.set(**lettering.style)
    what = {"binary": "", "multiclass": ", each class against the rest"}.get(task, ", each label")
    more = f", the worst {MOST_CURVES} of {len(known)}" if len(known) > len(shown) else ""
    figure.suptitle(f"{HEADING} of {len(y_true):,} examples{what}{more}", fontsize=TITLE, color=INK)
    notes = [*(["a dot: as it is decided"] if task != "multiclass" else []), "dashed: by chance"]
    figure.supxlabel("; ".join(notes), fontsize=CAPTION, color=GREY)
    return figure


def _one_against_rest(
    task: str, y_true: np.ndarray, outputs: np.ndarray, names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return truth and scores ``(n,)`` by name; of two classes those of the second."""
    if task == "binary":
        return {str(names[1]) if len(names) > 1 else "1": (y_true.reshape(-1) == 1, outputs.reshape(-1))}
    columns = range(outputs.shape[1])
    called = [str(names[index]) if index < len(names) else str(index) for index in columns]
    if task == "multilabel":
        return {called[index]: (y_true[:, index] > HALF, outputs[:, index]) for index in columns}
    return {called[index]: (y_true == index, outputs[:, index]) for index in columns}


def _draw_ground(axes: Axes, title: str, below: str, beside: str) -> None:
    tidy(axes)
    axes.grid(color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_box_aspect(0.85)
    axes.set_title(title, fontsize=LABEL, color=INK)
    axes.set_xlabel(below, fontsize=CAPTION)
    axes.set_ylabel(beside, fontsize=CAPTION)


def _draw_curves(
    both: tuple[Axes, Axes], truth: np.ndarray, scores: np.ndarray, colour: str, labels: tuple[str, str]
) -> None:
    from sklearn.metrics import precision_recall_curve, roc_curve

    false, true, _ = roc_curve(truth, scores)
    precision, recall, _ = precision_recall_curve(truth, scores)
    both[0].plot(false, true, color=colour, linewidth=1.5, label=labels[0])
    both[1].plot(recall, precision, color=colour, linewidth=1.5, label=labels[1], drawstyle="steps-post")


def _draw_point(both: tuple[Axes, Axes], truth: np.ndarray, said: np.ndarray, colour: str) -> None:
    """Mark where the threshold lies; there is no precision where nothing is taken for it."""
    hits = float((truth & said).sum())
    recall, false = hits / truth.sum(), float((said & ~truth).sum()) / (~truth).sum()
    style: dict[str, Any] = {"marker": "o", "color": colour, "markeredgecolor": "white", "clip_on": False}
    both[0].plot([false], [recall], zorder=3, **style)
    if said.any():
        both[1].plot([recall], [hits / said.sum()], zorder=3, **style)
