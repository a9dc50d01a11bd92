"""The interactive charts of a page, as JSON that Bokeh's JavaScript draws.

The page's CSS (`--bk-…`) has the colours of axes and letters, so that they follow its theme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnnbench.analysis import is_number, pareto_front
from cnnbench.reporting.text import count_of, number
from cnnbench.runs import larger_is_better

if TYPE_CHECKING:
    from bokeh.models.renderers import GlyphRenderer
    from bokeh.models.tools import HoverTool
    from bokeh.plotting import figure

# Okabe and Ito's hues at a lightness that is read on white and on black: 3:1 at least to either.
PALETTE = ("#2f7fd0", "#d9670b", "#12926b", "#b45bb0", "#a8820a", "#cf4d5f", "#1c96ab")
OTHERS = "#858a92"
MOST_POINTS = 100  # of one curve
MOST_CURVES = 500  # that a page has, and of them
SHOWN = 50  # that are drawn at first
FONT = "system-ui, sans-serif"
# Of the page's style only the variables reach a tooltip.
TIP = """
:host {
  border-color: var(--line) !important; border-radius: 6px; padding: 8px 12px !important;
  background: var(--paper) !important; color: var(--ink) !important;
  font: 13px/1.5 system-ui, sans-serif !important;
}
:host .bk-arrow, :host .bk-arrow-inner { display: none; }
b { color: var(--soft); font-weight: 500; }
"""


def colour(rank: int) -> str:
    """Return the colour of the group with that rank, from 0; from the eighth on groups share one."""
    return PALETTE[rank] if rank < len(PALETTE) else OTHERS


@dataclass(frozen=True)
class Mark:
    """An entry of a legend; its shape is a solid or dashed line, or a dot."""

    label: str
    colour: str
    shape: str = "dot"


@dataclass(frozen=True)
class Curve:
    """The learning curve of one run.

    Attributes:
        name: of its configuration.
        seed: of the run.
        group: the number of its group.
        colour: of its group.
        history: one entry per epoch.
    """

    name: str
    seed: str
    group: int
    colour: str
    history: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Point:
    """A group's quality and its costs, each by the name of its axis."""

    name: str
    group: int
    colour: str
    quality: float
    low: float
    high: float
    costs: Mapping[str, float]


def history_marks(history: Sequence[Mapping[str, Any]]) -> list[Mark]:
    """Return the legend of `run_history`."""
    shapes = ("dot", "dot") if len(history) == 1 else ("dashed", "solid")
    return [Mark(*one) for one in zip(("training", "validation"), PALETTE, shapes, strict=False)]


def history_in_words(history: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Say what `run_history` draws."""
    parts = []
    for name, split in ((metric, "training"), (f"val_{metric}", "validation")):
        rows = [row for row in history if is_number(row.get(name)) and math.isfinite(row[name])]
        if rows:
            best = (max if larger_is_better(name) else min)(rows, key=itemgetter(name))
            ends = f"from {number(rows[0][name])} to {number(rows[-1][name])}"
            parts.append(f"{split} {ends}, best {number(best[name])} in epoch {best['epoch']}")
    return f"{metric} over {count_of(len(history), 'epoch')}: {'; '.join(parts)}"


def run_history(history: Sequence[Mapping[str, Any]], metric: str, best_epoch: int | None) -> dict[str, Any]:
    """Draw a metric on the training and the validation split over the epochs; one epoch as points."""
    from bokeh.models import ColumnDataSource
    from bokeh.models.annotations import Span

    rows = _thinned(history)
    names = [name for name in (metric, f"val_{metric}") if any(name in row for row in rows)]
    columns = {f"y_{n}": _values(rows, name) for n, name in enumerate(names)}
    source = ColumnDataSource({"epoch": [row["epoch"] for row in rows], **columns})
    plot = over_epochs(280, metric)
    if best_epoch is not None:
        plot.add_layout(Span(location=best_epoch, dimension="height", line_dash="dotted", line_width=1.5))
    drawn = []
    for column, name in zip(columns, names, strict=True):
        dash, hue = ("solid", PALETTE[1]) if name.startswith("val_") else ("dashed", PALETTE[0])
        if len(rows) == 1:
            plot.scatter("epoch", column, source=source, color=hue, size=8)
        drawn.append(plot.line("epoch", column, source=source, color=hue, line_width=2, line_dash=dash))
    drawn[-1].name = "marks"
    tips = {"epoch": "@epoch", **{name: f"@y_{n}{{0.0000}}" for n, name in enumerate(names)}}
    plot.add_tools(hover(tips, drawn[-1], mode="vline"))
    return as_json(plot)


def learning_curves(curves: Sequence[Curve], metrics: Sequence[str]) -> dict[str, Any]:
    """Draw one line per run, with a dot where it ends; one epoch is the dot alone.

    The page chooses the metric (`y_0`, `y_1`, …; at the end `end_0`, …) and the runs.
    """
    from bokeh.models import CDSView, ColumnDataSource, IndexFilter

    thinned = [_thinned(curve.history) for curve in curves]
    values = [[_values(rows, name) for rows in thinned] for name in metrics]
    source = ColumnDataSource(
        {
            "epoch": [np.array([row["epoch"] for row in rows], np.float32) for rows in thinned],
            "last": [rows[-1]["epoch"] if rows else math.nan for rows in thinned],
            **{f"y_{n}": column for n, column in enumerate(values)},
            **{
                f"end_{n}": np.array([curve[-1] if len(curve) else math.nan for curve in column])
                for n, column in enumerate(values)
            },
            "name": [curve.name for curve in curves],
            "seed": [curve.seed for curve in curves],
            "group": [curve.group for curve in curves],
            "colour": [curve.colour for curve in curves],
        }
    )
    plot = over_epochs(380, metrics[0])
    states: Any = {
        "hover_line_color": "colour",
        "hover_line_alpha": 1.0,
        "hover_line_width": 3.5,
        "selection_line_alpha": 1.0,
        "selection_line_width": 3,
        "nonselection_line_alpha": 0.3,
    }
    view = CDSView(filter=IndexFilter(indices=list(range(min(SHOWN, len(curves))))))
    plot.scatter(
        "last", "end_0", source=source, view=view, size=6, color="colour", nonselection_fill_alpha=0.3
    )
    lines = plot.multi_line(
        "epoch",
        "y_0",
        source=source,
        view=view,
        line_color="colour",
        line_width=1.7,
        line_alpha=0.8,
        name="marks",
        **states,
    )
    plot.add_tools(
        hover({"": "@name", "seed": "@seed", "epoch": "$snap_x{0}", "value": "$snap_y{0.0000}"}, lines)
    )
    return as_json(plot)


def quality_against_cost(
    points: Sequence[Point], costs: Sequence[str], objective: str, larger_is_better: bool
) -> dict[str, Any]:
    """Draw one point per group with its deviation, and the Pareto front; `x_0`, … are its costs."""
    from bokeh.models import CDSView, ColumnDataSource, IndexFilter, NumeralTickFormatter

    quality = np.array([point.quality for point in points])
    columns: dict[str, Any] = {
        "name": [point.name for point in points],
        "group": [point.group for point in points],
        "colour": [point.colour for point in points],
        "y": quality,
        "low": [point.low for point in points],
        "high": [point.high for point in points],
    }
    fronts: dict[str, Any] = {}
    for n, cost in enumerate(costs):
        spent = np.array([point.costs[cost] for point in points])
        front = pareto_front(spent.tolist(), (quality if larger_is_better else -quality).tolist())
        filled = np.full(len(points), 0.15)
        filled[front] = 1.0
        columns |= {f"x_{n}": spent, f"fill_{n}": filled}
        # Columns of one source are equally long: NaN, which is not drawn, stands for points off the front.
        rest = np.full(len(points) - len(front), math.nan)
        fronts[f"x_{n}"] = np.concatenate([spent[front], rest])
        fronts[f"y_{n}"] = np.concatenate([quality[front], rest])
    source = ColumnDataSource(columns)
    view = CDSView(filter=IndexFilter(indices=list(range(len(points)))))
    plot = new_plot(380, costs[0], objective, x_axis_type="log")
    plot.xaxis.formatter = NumeralTickFormatter(format="0.[00]a")
    plot.step("x_0", "y_0", source=ColumnDataSource(fronts), mode="after", line_dash="dotted", color=OTHERS)
    plot.segment("x_0", "low", "x_0", "high", source=source, view=view, color="colour")
    marks = plot.scatter(
        "x_0",
        "y",
        source=source,
        view=view,
        size=12,
        line_width=2,
        line_color="colour",
        fill_color="colour",
        fill_alpha="fill_0",
        hover_fill_alpha=0.6,
        nonselection_line_alpha=0.2,
        nonselection_fill_alpha=0.05,
        name="marks",
    )
    plot.add_tools(hover({"": "@name", objective: "@y{0.0000}", "cost": "$snap_x{0,0.[000]}"}, marks))
    return as_json(plot)


def _thinned(history: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return at most so many epochs as are drawn, the last among them."""
    step = math.ceil(len(history) / MOST_POINTS) or 1
    return list(history[::-1][::step])[::-1]


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Return a metric; NaN where an epoch has none, or one that was not finite."""
    with np.errstate(over="ignore"):  # a loss that has diverged is drawn as infinite
        return np.array([math.nan if row.get(name) is None else row[name] for row in rows], np.float32)


# -- Plots -----------------------------------------------------------------------------------------


def hover(
    fields: Mapping[str, str], renderer: GlyphRenderer[Any], mode: Literal["mouse", "vline"] = "mouse"
) -> HoverTool:
    """Return a tooltip of labels and values; Bokeh escapes the values."""
    from bokeh.models.tools import HoverTool

    rows = "".join(f"<div><b>{escape(label)}</b> {value}</div>" for label, value in fields.items())
    tips = f"{rows}<style>{TIP}</style>"
    return HoverTool(
        tooltips=tips, renderers=[renderer], mode=mode, point_policy="snap_to_data", visible=False
    )


def over_epochs(height: int, y_label: str) -> figure:
    from bokeh.models import BasicTicker

    plot = new_plot(height, "epoch", y_label)
    plot.xaxis.ticker = BasicTicker(min_interval=1)  # there is no half epoch
    return plot


def new_plot(height: int, x_label: str, y_label: str, **options: Any) -> figure:
    from bokeh.models import NoOverlap
    from bokeh.plotting import figure

    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        tools="box_zoom,zoom_in,zoom_out,reset,save",
        active_drag=None,  # or a finger on the chart would not scroll the page
        x_axis_label=x_label,
        y_axis_label=y_label,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        **options,
    )
    plot.toolbar.logo = None
    plot.xgrid.visible = False
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.update(
            axis_label_text_font=FONT,
            axis_label_text_font_size="12px",
            axis_label_text_font_style="normal",
            major_label_text_font=FONT,
            major_label_text_font_size="12px",
            major_label_policy=NoOverlap(),
            minor_tick_line_color=None,
            major_tick_in=0,
        )
    return plot


def as_json(plot: figure) -> dict[str, Any]:
    from bokeh.embed import json_item

    return dict(json_item(plot))
