"""Text in pictures: a font that has the characters, and no surprises where none has.

Class names come from folder names, so they may be Korean, contain ``$`` or ``_``, be very long, or hold
bytes that are no text at all.
"""

from __future__ import annotations

import logging
import os
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

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
