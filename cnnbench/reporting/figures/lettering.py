"""Texts in pictures: cleaned, shortened, and drawn in installed fonts that have their characters.

Class names come from folder names: they may be Korean, long, contain ``$``, or hold bytes that are no text.
"""

from __future__ import annotations

import logging
import os
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from rich.cells import cell_len, set_cell_size

log = logging.getLogger("cnnbench")
BASE_FAMILY = "DejaVu Sans"  # comes with matplotlib
# These look right beside DejaVu Sans, and most machines have one of them.
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
# These claim characters that they then draw as boxes or blanks, or cannot draw in one colour.
_NEVER = ("last resort", "lastresort", "adobe blank", "color emoji", "colour emoji", "nonunicode")
_warned: set[str] = set()
_lock = threading.Lock()


@dataclass(frozen=True)
class Lettering:
    """How the texts of one figure are drawn.

    Attributes:
        families: installed font families, in matplotlib's order of fallback.
        missing: the characters that no installed font has; they are drawn as ``?``.
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
    """Find fonts for these texts; warn once a process about each character that no font has."""
    families, missing = fonts_for(frozenset(character for text in texts for character in plain(text)))
    with _lock:
        news = sorted(missing - _warned)
        _warned.update(news)
    if news:
        names = ", ".join(map(_name, news[:12])) + (", …" if len(news) > 12 else "")
        log.warning(
            "No installed font has %s; pictures show '?' instead. Install a font that has them "
            "(for Korean on Debian or Ubuntu: fonts-nanum).",
            names,
        )
    return Lettering(families, missing)


def plain(text: str) -> str:
    """Return one line of composed characters without control and invisible formatting characters.

    macOS gives folder names decomposed (a Korean syllable as its letters); fonts have them composed.
    """
    composed = unicodedata.normalize("NFC", " ".join(text.split()))
    return "".join(
        character
        for character in composed
        if unicodedata.category(character) not in ("Cc", "Cf") and not "\ufe00" <= character <= "\ufe0f"
    )


def shorten(text: str, columns: int) -> str:
    """Cut to so many columns of a terminal, the last of which is then ``…``."""
    if cell_len(text) <= columns:
        return text
    return set_cell_size(text, columns - 1).rstrip() + "…"


def _name(character: str) -> str:
    # A lone surrogate (an undecodable byte of a file name) cannot be written to a log file as it is.
    shown = "" if "\ud800" <= character <= "\udfff" else f"{character} "
    return f"{shown}(U+{ord(character):04X})"


# -- Fonts -----------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def fonts_for(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return families that together have the characters, and the characters that no font has."""
    families = [BASE_FAMILY]
    missing = characters - _drawable(BASE_FAMILY, characters)
    for family in _other_families(missing) if missing else ():
        families.append(family)
        missing -= _drawable(family, missing)
        if not missing:
            break
    return tuple(families), missing


def _other_families(wanted: frozenset[str]) -> Iterator[str]:
    """Yield the families that have some of the characters, the best-looking first."""
    from matplotlib.font_manager import fontManager

    _add_new_fonts()
    rank = {name: place for place, name in enumerate(_PREFERRED)}
    entries = [
        entry
        for entry in fontManager.ttflist
        if entry.style == "normal" and str(entry.weight) in ("400", "normal", "regular")
    ]
    entries.sort(key=lambda entry: (rank.get(entry.name, len(rank)), "Sans" not in entry.name, entry.name))
    for name, path in {entry.name: entry.fname for entry in entries}.items():
        if any(word in name.lower() for word in _NEVER) or not drawable_by(path, wanted):
            continue
        if _drawable(name, wanted):  # matplotlib may choose another file of that family
            yield name


def _drawable(family: str, wanted: frozenset[str]) -> frozenset[str]:
    from matplotlib.font_manager import FontProperties, fontManager

    path = fontManager.findfont(FontProperties(family=family), fallback_to_default=False)
    return drawable_by(path, wanted)


def drawable_by(path: Any, wanted: frozenset[str]) -> frozenset[str]:
    """Return the characters that a font file can draw; none for a font of bitmaps or a damaged one."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
        font.set_size(12, 72)
        present = frozenset(character for character in wanted if font.get_char_index(ord(character)))
        for character in present:
            font.load_char(ord(character))
    except (OSError, RuntimeError, ValueError) as error:
        log.debug("font %s is left out: %s", path, error)
        return frozenset()
    return present


@cache
def _add_new_fonts() -> None:
    """Tell matplotlib of fonts that were installed after it wrote its list of fonts."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {os.path.realpath(entry.fname) for entry in fontManager.ttflist}
    for path in sorted(findSystemFonts()):
        if os.path.realpath(path) in known:
            continue
        try:
            fontManager.addfont(path)
        except (OSError, RuntimeError, ValueError, NotImplementedError) as error:
            log.debug("font %s is left out: %s", path, error)
