"""The curve of a range test of the learning rate, as a picture and small on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.reporting.figures.canvas import BLUE, CAPTION, GREEN, GREY, LABEL, TITLE, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, COLUMNS = 9, 62
ABOVE = 1.3  # times the losses of the first steps: what is higher lies at the upper edge


def range_test_figure(
    rates: Sequence[float], losses: Sequence[float], marks: dict[str, float | None], title: str
) -> Figure:
    """Draw the loss by the learning rate.

    Args:
        rates: of each step, rising.
        losses: smoothed; those that are not finite are left out.
        marks: learning rates to mark, by their names; None for one that there is not. The first stands out.
        title: of the picture.
    """
    figure = new_figure(720, 400)
    axes = figure.add_subplot()
    tidy(axes)
    axes.set_title(title, fontsize=TITLE)
    axes.set_xscale("log")
    axes.plot(
        rates, [loss if math.isfinite(loss) else math.nan for loss in losses], color=BLUE, linewidth=1.6
    )
    for place, (name, rate) in enumerate(marks.items()):
        if rate is not None:
            colour, width, line = (GREY, 1.0, ("--", ":", "-.")[place % 3]) if place else (GREEN, 1.8, "-")
            axes.axvline(rate, label=f"{name} {rate:.2g}", color=colour, linewidth=width, linestyle=line)
    low, high = _limits(losses)
    axes.set_ylim(low - 0.05 * (high - low), high)
    axes.set_xlabel("learning rate", fontsize=LABEL)
    axes.set_ylabel("loss, smoothed", fontsize=LABEL)
    if axes.get_legend_handles_labels()[0]:  # no rate may be worth a mark
        axes.legend(fontsize=CAPTION, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def range_test_lines(rates: Sequence[float], losses: Sequence[float], suggestion: float | None) -> list[str]:
    """Draw the same in lines of at most 72 characters.

    Args:
        rates: of each step, rising by equal factors.
        losses: smoothed.
        suggestion: is marked below; None for none.
    """
    low, high = _limits(losses)
    width = min(COLUMNS, len(rates))
    columns = np.minimum(np.arange(len(rates)) * width // len(rates), width - 1)
    rows = []
    for column in range(width):
        here = [
            loss for loss, at in zip(losses, columns, strict=True) if at == column and math.isfinite(loss)
        ]
        share = (np.mean(here) - low) / (high - low) if here else 1.0
        rows.append(ROWS - 1 - round((ROWS - 1) * min(max(share, 0.0), 1.0)))
    lines = []
    for row in range(ROWS):
        label = {0: f"{high:.3g}", ROWS - 1: f"{low:.3g}"}.get(row, "")
        lines.append(f"{label:>7} |{''.join('*' if at == row else ' ' for at in rows)}".rstrip())
    lines.append(f"{'':>7} +{'-' * width}")

    def place(rate: float) -> int:
        share = math.log(rate / rates[0]) / math.log(rates[-1] / rates[0])
        return min(max(round(share * (width - 1)), 0), width - 1)

    ticks = [10.0**power for power in range(math.ceil(_power(rates[0])), math.floor(_power(rates[-1])) + 1)]
    lines.append(_with_labels({place(tick): f"{tick:g}" for tick in ticks}, width))
    if suggestion is not None and rates[0] <= suggestion <= rates[-1]:
        lines.append(f"{'':>9}{' ' * place(suggestion)}^ {suggestion:g}")
    return lines


def _power(rate: float) -> float:
    return round(math.log10(rate), 6)


def _with_labels(labels: dict[int, str], width: int) -> str:
    line = ""
    for place, text in sorted(labels.items()):
        if place >= len(line) + bool(line) and place + len(text) <= width + 4:
            line = f"{line:<{place}}{text}"
    return f"{'':>9}{line}"


def _limits(losses: Sequence[float]) -> tuple[float, float]:
    finite = [loss for loss in losses if math.isfinite(loss)] or [0.0]
    low, first = min(finite), float(np.mean(finite[:10]))
    high = min(max(finite), low + ABOVE * (first - low)) if first > low else max(finite)
    return low, high if high > low else low + 1.0
