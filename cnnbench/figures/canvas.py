"""What all pictures share: sizes in pixels, colours, a board to put small images on, and PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.figures.lettering import Lettering, shorten, width

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
MAX_PIXELS = 1600

# Okabe and Ito's colours: told apart with every common kind of colour blindness.
BLUE, ORANGE, GREEN, INK, GREY = "#0072B2", "#D55E00", "#00795A", "#222222", "#8A8A8A"

CAPTION, LABEL, TITLE = 8.0, 9.0, 11.0  # font sizes in points


def new_figure(width_px: float, height_px: float, *, constrained: bool = True) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A hundredth of a pixel more, so that no rounding cuts the last row off.
    size = ((width_px + 0.01) / DPI, (height_px + 0.01) / DPI)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """Render as PNG at 110 dots per inch; equal figures give equal bytes (no dates, no versions inside)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=6, dpi=(DPI, DPI))
    return buffer.getvalue()


def boxed(figure: Figure, left: float, top: float, width_px: float, height_px: float) -> Axes:
    """Add axes whose frame has its place in pixels, from the upper left.

    The layout engine would draw every text twice to find the room; a run has pictures of its own, and a
    sweep has hundreds.
    """
    wide, high = (float(extent) * DPI for extent in figure.get_size_inches())
    return figure.add_axes((left / wide, 1 - (top + height_px) / high, width_px / wide, height_px / high))


def widest(texts: Iterable[str], size: float, lettering: Lettering) -> float:
    """Pixels that the widest of some texts takes; 0 without one."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=list(lettering.families), size=size)
    renderer = RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]
    sizes = (renderer.get_text_width_height_descent(text, font, False) for text in texts)  # type: ignore[no-untyped-call]
    return max((size[0] for size in sizes), default=0.0)


def tidy(axes: Axes) -> None:
    """Take away the frame's upper and right side, and set the small sizes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=CAPTION, color=GREY, labelcolor=INK)


def histogram_range(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of a histogram, wide enough for numpy to cut into bins even if all values are equal."""
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    space = 1e-6 * max(abs(low), abs(high), 1e-6)
    return (low, high) if high - low > space else (low - space, high + space)


def note_figure(text: str, title: str) -> Figure:
    """Return a figure that says in words why there is nothing to see."""
    board = Board(640, 200, title, Lettering(("DejaVu Sans",), frozenset()))
    board.write(text, 320, 105, 600, size=LABEL, colour=INK)
    return board.figure()


class Board:
    """A white sheet, measured in pixels from the upper left, for small images and captions.

    One image for all tiles: a grid of 25 matplotlib axes takes ten times as long.
    """

    def __init__(self, width_px: int, height_px: int, title: str, lettering: Lettering) -> None:
        self._pixels = np.full((height_px, width_px, 3), 255, np.uint8)
        self._lettering = lettering
        self._figure = new_figure(width_px, height_px, constrained=False)
        self._axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._axes.set_axis_off()
        self._axes.set(xlim=(0, width_px), ylim=(height_px, 0))
        self.write(title, width_px / 2, 22, width_px - 24, size=TITLE, colour=INK)

    def paste(self, tile: np.ndarray, x: int, y: int, box: tuple[int, int]) -> None:
        """Put a tile (height, width, 3) uint8 into the middle of a box (height, width) at (x, y)."""
        rows, columns = tile.shape[:2]
        top, left = y + (box[0] - rows) // 2, x + (box[1] - columns) // 2
        # A grey line around it: white digits' borders and white backgrounds would melt into the sheet.
        self._pixels[top - 1 : top + rows + 1, left - 1 : left + columns + 1] = 200
        self._pixels[top : top + rows, left : left + columns] = tile

    def write(
        self, text: str, x: float, y: float, width_px: float, *, size: float = CAPTION, colour: str = INK
    ) -> None:
        """Write one line centred at (x, y), shortened until it is at most ``width_px`` wide."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = self._figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        artist = self._axes.text(
            x,
            y,
            self._lettering.clean(text, columns=200),
            ha="center",
            va="center",
            fontsize=size,
            color=colour,
            **self._lettering.style,
        )
        drawn = artist.get_text()
        if drawn.isascii() and len(drawn) * size * DPI / 72 <= width_px:
            return  # no letter is wider than high, and measuring costs as much as drawing
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
        while (wide := artist.get_window_extent(renderer).width) > width_px:
            drawn = artist.get_text()
            artist.set_text(
                shorten(drawn, max(1, min(width(drawn) - 1, int(width(drawn) * width_px / wide))))
            )
            if artist.get_text() == "…":
                break

    def figure(self) -> Figure:
        self._figure.add_artist(_pasted(self._pixels))
        return self._figure


def _pasted(pixels: np.ndarray) -> Artist:
    """A whole sheet, pixel by pixel below everything else; `imshow` would take 40 ms to resample it."""
    from matplotlib.artist import Artist

    opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    rows_up = np.concatenate([pixels, opaque], axis=2)[::-1]

    class Sheet(Artist):
        def draw(self, renderer: Any) -> None:
            context = renderer.new_gc()
            renderer.draw_image(context, 0, 0, rows_up)
            context.restore()

    sheet = Sheet()
    sheet.set_zorder(-1)
    return sheet
