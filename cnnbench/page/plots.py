"""What all charts share: an empty plot, what it says under the pointer, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from bokeh.models.renderers import GlyphRenderer
    from bokeh.models.tools import HoverTool
    from bokeh.plotting import figure

FONT = "system-ui, sans-serif"
# A tooltip is drawn where the page's own style does not reach, but for its variables.
TIP = """
:host {
  border-color: var(--line) !important; border-radius: 6px; padding: 8px 12px !important;
  background: var(--paper) !important; color: var(--ink) !important;
  font: 13px/1.5 system-ui, sans-serif !important;
}
:host .bk-arrow, :host .bk-arrow-inner { display: none; }
b { color: var(--soft); font-weight: 500; }
"""


def hover(
    fields: Mapping[str, str], renderer: GlyphRenderer[Any], mode: Literal["mouse", "vline"] = "mouse"
) -> HoverTool:
    """What is said of the mark under the pointer: labels, and what Bokeh puts in their place, escaped."""
    from bokeh.models.tools import HoverTool

    rows = "".join(f"<div><b>{escape(label)}</b> {value}</div>" for label, value in fields.items())
    tips = f"{rows}<style>{TIP}</style>"
    return HoverTool(tooltips=tips, renderers=[renderer], mode=mode, point_policy="snap_to_data")


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
        tools="box_zoom,reset,save",
        active_drag=None,  # or a finger on the chart would not scroll the page
        x_axis_label=x_label,
        y_axis_label=y_label,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        **options,
    )
    plot.toolbar.update(logo=None, autohide=True)
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
