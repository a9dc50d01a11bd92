"""What all pictures share: sizes in pixels, colours, letters, a board to put small images on, and PNG bytes.

Class names come from folder names, so they may be Korean, contain ``$`` or ``_``, be very long, or hold
bytes that are no text at all: a font is found that has the characters, and there are no surprises where
none has.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

DPI = 110
MAX_PIXELS = 1600
# Okabe and Ito's colours: told apart with every common kind of colour blindness.
BLUE, ORANGE, GREEN, INK, GREY = "#0072B2", "#D55E00", "#00795A", "#222222", "#8A8A8A"
CAPTION, LABEL, TITLE = 8.0, 9.0, 11.0  # font sizes in points
log = logging.getLogger("cnnbench")
BASE_FAMILY = "DejaVu Sans"  # travels inside matplotlib, so it is always there
# Tried first: they look right beside DejaVu Sans, and most machines have one of them.
_PREFERRED = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "NanumBarunGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Arial Unicode MS",
    "Noto Sans",
)
# These claim characters that they then draw as boxes, as blanks, or not at all in one colour.
_NEVER = ("last resort", "lastresort", "adobe blank", "color emoji", "colour emoji", "nonunicode")
_warned: set[str] = set()
_lock = threading.Lock()


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


# -- Letters ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lettering:
    """How the texts of one figure are drawn.

    Attributes:
        families: font families in order of fallback; every one of them is installed.
        missing: the characters that no installed font has; drawn as ``?``.
    """

    families: tuple[str, ...]
    missing: frozenset[str]

    @property
    def style(self) -> dict[str, Any]:
        """Keyword arguments for every matplotlib text that comes from outside."""
        return {"fontfamily": list(self.families), "parse_math": False}

    def clean(self, text: str, columns: int = 40) -> str:
        """Return the text in drawable characters, at most so many columns wide (a Korean letter is two)."""
        drawable = "".join("?" if character in self.missing else character for character in plain(text))
        return shorten(drawable, columns)


def lettering_for(texts: Iterable[str]) -> Lettering:
    """Find the fonts for these texts, and warn once per process about each character that has none."""
    wanted = frozenset(character for text in texts for character in plain(text)) - _base_characters()
    families, missing = _search(wanted)
    with _lock:
        news = sorted(missing - _warned)
        _warned.update(news)
    if news:
        names = ", ".join(_name(character) for character in news[:12]) + (", …" if len(news) > 12 else "")
        log.warning(
            "No installed font has %s; pictures show '?' instead. Install a font that has them "
            "(for Korean on Debian or Ubuntu: fonts-nanum).",
            names,
        )
    return Lettering((BASE_FAMILY, *families), missing)


def plain(text: str) -> str:
    """Return one line of composed characters without control and invisible formatting characters.

    Folder names from macOS come decomposed (a Korean syllable as its single letters); fonts want them
    composed.
    """
    composed = unicodedata.normalize("NFC", " ".join(text.split()))
    return "".join(c for c in composed if unicodedata.category(c) not in ("Cc", "Cf") and not _is_selector(c))


def shorten(text: str, columns: int) -> str:
    """Cut to so many columns, the last of which is then ``…``; wide characters count as two."""
    if width(text) <= columns:
        return text
    kept = text
    while kept and width(kept) > columns - 1:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def width(text: str) -> int:
    """Count the columns that a terminal would use, which is close to the width in most fonts."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _is_selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f"


def _name(character: str) -> str:
    # A lone surrogate (an undecodable byte of a file name) cannot be written to a log file as it is.
    shown = "" if "\ud800" <= character <= "\udfff" else f"{character} "
    return f"{shown}(U+{ord(character):04X})"


@cache
def _base_characters() -> frozenset[str]:
    from matplotlib import font_manager

    path = font_manager.fontManager.findfont(font_manager.FontProperties(family=BASE_FAMILY))
    return frozenset(map(chr, _open(path).get_charmap()))


@lru_cache(maxsize=256)
def _search(wanted: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the fewest families that we find for the characters, and the characters left over."""
    if not wanted:
        return (), frozenset()
    coverage: dict[str, frozenset[str]] = {}
    for family in _families_with_any(wanted, coverage):
        if coverage[family] == wanted:
            return (family,), frozenset()
    chosen: list[str] = []
    missing = wanted
    while missing and coverage:
        best = max(coverage, key=lambda family: len(coverage[family] & missing))
        if not coverage[best] & missing:
            break
        chosen.append(best)
        missing -= coverage[best]
    return tuple(chosen), missing


def _families_with_any(wanted: frozenset[str], coverage: dict[str, frozenset[str]]) -> Iterator[str]:
    """Yield the families that have some of the characters, best-looking first; fill in which they have."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    _add_new_fonts()
    entries = [
        e for e in manager.ttflist if e.style == "normal" and str(e.weight) in ("400", "normal", "regular")
    ]
    order = {name: rank for rank, name in enumerate(_PREFERRED)}
    entries.sort(key=lambda e: (order.get(e.name, len(order)), "Sans" not in e.name, e.name))
    for entry in entries:
        if entry.name in coverage or any(word in entry.name.lower() for word in _NEVER):
            continue
        if not _covered(entry.fname, wanted):
            continue
        # What matplotlib picks for the family name may be another file of that family.
        path = manager.findfont(font_manager.FontProperties(family=entry.name), fallback_to_default=False)
        covered = _covered(path, wanted)
        if covered:
            coverage[entry.name] = covered
            yield entry.name


def _covered(path: str, wanted: frozenset[str]) -> frozenset[str]:
    """Return which of the characters the font file can really draw."""
    try:
        font = _open(path)
        font.set_size(12, 72)  # refused by fonts made of bitmaps
        present = [c for c in wanted if font.get_char_index(ord(c))]
        for character in present:
            font.load_char(ord(character))
    except (OSError, RuntimeError, ValueError) as error:
        log.debug("font %s is left out: %s", path, error)
        return frozenset()
    return frozenset(present)


def _open(path: str) -> FT2Font:
    from matplotlib.ft2font import FT2Font

    face = getattr(path, "face_index", 0)  # matplotlib 3.11 on: one file may hold several fonts
    return FT2Font(os.fspath(path), face_index=face) if face else FT2Font(os.fspath(path))


@cache
def _add_new_fonts() -> None:
    """Tell matplotlib of fonts installed after it wrote its cache of fonts.

    Without this, who installs the font that our warning asks for sees ``?`` for ever after.
    """
    from matplotlib import font_manager

    manager = font_manager.fontManager
    known = {os.path.realpath(entry.fname) for entry in manager.ttflist}
    for path in sorted(font_manager.findSystemFonts()):
        if os.path.realpath(path) in known:
            continue
        try:
            manager.addfont(path)
        except (OSError, RuntimeError, ValueError, NotImplementedError) as error:
            log.debug("font %s is left out: %s", path, error)
