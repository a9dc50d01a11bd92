"""The ground of all pictures: figures in pixels, colours, a board for small images, and PNG bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import numpy as np
from rich.cells import cell_len

from cnnbench.reporting.figures.lettering import Lettering, lettering_for, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
# Colours of Okabe and Ito, which all common kinds of colour blindness tell apart.
BLUE, ORANGE, GREEN, INK, GREY = "#0072B2", "#D55E00", "#00795A", "#222222", "#8A8A8A"
CAPTION, LABEL, TITLE = 8.0, 9.0, 11.0  # font sizes in points


def new_figure(
    width_px: float, height_px: float, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """Return a white figure of that size that pyplot does not know, so that nobody has to close it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from cnnbench.reporting.figures.shown import ShownFigure

    # A hundredth of a pixel more, so that no rounding cuts the last row off.
    size = ((width_px + 0.01) / DPI, (height_px + 0.01) / DPI)
    figure = ShownFigure(figsize=size, dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """Render as PNG at 110 dots per inch; equal figures give equal bytes (no dates, no versions inside)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # `savefig` would lay the figure out twice
    buffer = io.BytesIO()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    Image.fromarray(pixels).save(buffer, "PNG", dpi=(DPI, DPI))
    return buffer.getvalue()


def tidy(axes: Axes) -> None:
    """Take away the frame's upper and right side, and set the small sizes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=CAPTION, color=GREY, labelcolor=INK)


def histogram_range(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of a histogram, apart even where all values are equal."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    space = 1e-6 * max(abs(low), abs(high), 1e-6)
    return (low, high) if high - low > space else (low - space, high + space)


def note_figure(text: str, title: str) -> Figure:
    """Return a figure that says in words why there is nothing to see."""
    board = Board(640, 200, title, lettering_for(()))
    board.write(text, 320, 105, 600, size=LABEL)
    return board.figure()


class Board:
    """A white sheet for small images and captions, measured in pixels from the upper left.

    All images are one image for matplotlib: a grid of 25 axes takes ten times as long.
    """

    def __init__(self, width_px: int, height_px: int, title: str, lettering: Lettering) -> None:
        self._pixels = np.full((height_px, width_px, 3), 255, np.uint8)
        self._lettering = lettering
        self._figure = new_figure(width_px, height_px, layout=None)
        self._axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._axes.set_axis_off()
        self._axes.set(xlim=(0, width_px), ylim=(height_px, 0))
        self.write(title, width_px / 2, 22, width_px - 24, size=TITLE)

    def paste(self, tile: np.ndarray, x: int, y: int, box: tuple[int, int]) -> None:
        """Put a tile (height, width, 3) uint8 into the middle of a box (height, width) at (x, y)."""
        rows, columns = tile.shape[:2]
        top, left = y + (box[0] - rows) // 2, x + (box[1] - columns) // 2
        # A grey line around it: a white border or background would melt into the sheet.
        self._pixels[top - 1 : top + rows + 1, left - 1 : left + columns + 1] = 200
        self._pixels[top : top + rows, left : left + columns] = tile

    def write(
        self, text: str, x: float, y: float, width_px: float, *, size: float = CAPTION, colour: str = INK
    ) -> None:
        """Write one line centred at (x, y), shortened until it is at most ``width_px`` wide."""
        drawn = self._lettering.clean(text, columns=200)
        style = {"ha": "center", "va": "center", "fontsize": size, "color": colour, **self._lettering.style}
        artist = self._axes.text(x, y, drawn, **style)
        if drawn.isascii() and len(drawn) * size * DPI / 72 <= width_px:
            return  # no letter is wider than high, and measuring costs as much as drawing
        while (wide := artist.get_window_extent().width) > width_px and drawn != "…":
            columns = cell_len(drawn)
            drawn = shorten(drawn, max(1, min(columns - 1, int(columns * width_px / wide))))
            artist.set_text(drawn)

    def figure(self) -> Figure:
        self._figure.figimage(self._pixels, zorder=-1)
        return self._figure
