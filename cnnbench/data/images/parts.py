"""The decoded images of each split: what is refused, and what is said about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cnnbench.data.dataset import Rows, Split, listed
from cnnbench.data.images import cache
from cnnbench.data.images.cache import HIDDEN, Images
from cnnbench.data.images.decoding import Bits, Recipe
from cnnbench.data.images.layout import ImageFile
from cnnbench.errors import CnnbenchError

LISTED = 20  # files that the notes name
Places = Set[tuple[str, str]]  # split, which may be empty, and name of pictures
_SHARED: ContextVar[Places | None] = ContextVar("shared", default=frozenset())


@dataclass(frozen=True)
class Listing:
    """The files of one split, before one is opened.

    Attributes:
        place: the folder or file that they come from, for messages.
        title: what the name of their cache begins with.
        files: in the order of the examples.
        y: ``(n, …)``, the target of each.
        shown: what messages call a file that is not called by its own name.
        several: what is said of equal images with different targets.
        where: says of a name which row it is of; None without rows.
        groups, weights, order: as of a `Split`.
    """

    place: str
    title: str
    files: Sequence[ImageFile]
    y: np.ndarray
    shown: Mapping[str, str] = field(default_factory=dict)
    several: str = "are in more than one class"
    where: Callable[[str], str] | None = None
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None
    order: np.ndarray | None = None


@dataclass(frozen=True)
class Part:
    """The readable images of one split.

    Attributes:
        listing: all files.
        images: their pixels and digests.
        rows: of the readable ones in the listing.
    """

    listing: Listing
    images: Images
    rows: np.ndarray

    @cached_property
    def y(self) -> np.ndarray:
        """The target of each readable image."""
        return np.asarray(self.listing.y[self.rows])

    @property
    def digests(self) -> list[str]:
        return list(self.images.used.values())

    @cached_property
    def names(self) -> list[str]:
        return [self.shown(name) for name in self.images.used]

    @property
    def split(self) -> Split:
        def own(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[self.rows]

        return Split(
            Rows(self.images.pixels, np.arange(len(self.y)), np.array(self.digests, "S64")),
            self.y,
            own(self.listing.groups),
            own(self.listing.weights),
            self.names,
            own(self.listing.order),
        )

    def shown(self, name: str) -> str:
        return self.listing.shown.get(name, name)

    def called(self, name: str) -> str:
        """Return what messages call a file: its name, after its row where it has one."""
        return self.listing.where(name) if self.listing.where else self.shown(name)

    def unreadable(self) -> list[str]:
        """Return a line, name and reason, for each file that is no readable image."""
        return [f"{self.called(name)}: {reason}" for name, reason in self.images.skipped.items()]


def load_all(
    listings: Mapping[str, Listing], recipe: Recipe, cache_dir: str | None, bits: Bits | None
) -> dict[str, Part]:
    """Load every split, with one white for the 16-bit pictures of all."""
    parts = {split: _load(found, recipe, cache_dir) for split, found in listings.items()}
    deep = {split: part.images.deep.bits for split, part in parts.items() if part.images.deep}
    bits = bits or max(deep.values(), default=None)
    for split, taken in deep.items():
        if taken != bits:
            parts[split] = _load(listings[split], replace(recipe, bits=bits), cache_dir)
    return parts


def _load(listing: Listing, recipe: Recipe, cache_dir: str | None) -> Part:
    images = cache.load(listing.files, recipe, cache_dir, listing.title)
    rows = [row for row, file in enumerate(listing.files) if file.name in images.used]
    return Part(listing, images, np.array(rows, np.int64))


def digests_of(parts: Mapping[str, Part]) -> dict[str, str]:
    """Return the digest of each image by its name."""
    return {
        name: digest for part in parts.values() for name, digest in zip(part.names, part.digests, strict=True)
    }


def places_of(parts: Mapping[str, Part]) -> dict[str, Path]:
    """Return the file of each image by its name, of those that are files of their own."""
    return {
        part.names[index]: part.listing.files[row].path
        for part in parts.values()
        for index, row in enumerate(part.rows)
        if part.listing.files[row].member is None
    }


def bits_of(parts: Mapping[str, Part]) -> Bits | None:
    """Return the depth at which pictures with 16 bits a value were read; None without such."""
    return next((part.images.deep.bits for part in parts.values() if part.images.deep), None)


# -- Refusals --------------------------------------------------------------------------------------


def refuse_unreadable(parts: dict[str, Part]) -> None:
    """Refuse any file that cannot be read, except hidden ones."""
    lines = [line for part in parts.values() for line in part.unreadable() if not line.endswith(HIDDEN)]
    if lines:
        count = "1 file" if len(lines) == 1 else f"{len(lines)} files"
        raise CnnbenchError(
            f"strict=true, and {count} cannot be read: {listed(lines, separator='; ')}",
            "mend or remove them, or leave them out with strict=false",
        )


@contextmanager
def sharing(left_out: Places | None) -> Iterator[None]:
    """Read data of which a picture may be in two splits.

    Args:
        left_out: pictures that will be taken out of their split; None where every picture may be in two.
    """
    before = _SHARED.set(None if _SHARED.get() is None else left_out)
    try:
        yield
    finally:
        _SHARED.reset(before)


def refuse_shared(parts: dict[str, Part]) -> None:
    """Refuse an image in two splits, which would make the figures too good."""
    left_out = _SHARED.get()
    if left_out is None:
        return
    known: dict[str, tuple[str, str]] = {}  # the first split and name of each digest
    for split, part in parts.items():
        named = [
            (digest, name)
            for name, digest in part.images.used.items()
            if left_out.isdisjoint({(split, part.shown(name)), ("", part.shown(name))})
        ]
        shared = [
            (known[digest][0], parts[known[digest][0]].called(known[digest][1]), part.called(name))
            for digest, name in named
            if digest in known
        ]
        if shared:
            others = " and ".join(dict.fromkeys(other for other, _, _ in shared))
            pairs = [f"{there} = {here}" for _, there, here in shared]
            raise CnnbenchError(
                f"{split} shares {len(shared)} images with {others}, pixel for pixel: {listed(pairs)}",
                f"remove them from one of the two, or leave them out by dataset.fixes, which cnnbench doctor "
                f"writes: the figures on {split} would be too good; pictures that differ in more detail do "
                f"so at a larger dataset.size",
            )
        known |= {digest: (split, name) for digest, name in named}


# -- Notes -----------------------------------------------------------------------------------------


def depth(top: object, parts: Mapping[str, Part]) -> list[str]:
    """Return one line about the white of the pictures with 16 bits a value, if there are any."""
    deep = [part.images.deep for part in parts.values() if part.images.deep]
    if not deep:
        return []
    count, bits = sum(one.files for one in deep), deep[0].bits
    line = (
        f"{top}: {count} images have 16 bits a value, {max(one.brightest for one in deep)} at most: "
        f"taken as {bits} bits, {2**bits - 1} is white"
    )
    rest = sum(len(part.images.used) for part in parts.values()) - count
    return [f"{line}; {rest} have 8 bits, 255 is white" if rest else line]


def notes(part: Part) -> list[str]:
    """Return the lines about files that are not used and images that are in a folder twice."""
    found = []
    folder, unreadable = part.listing.place, part.unreadable()
    if unreadable:
        found.append(f"{folder}: {len(unreadable)} of {len(part.listing.files)} files are not used")
        found += unreadable[:LISTED]
    if len(unreadable) > LISTED:
        found.append(f"and {len(unreadable) - LISTED} more, all listed in {part.images.record or 'the log'}")
    return found + _copies(part)


def _copies(part: Part) -> list[str]:
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(part.digests):
        rows_of[digest].append(row)
    copies = [rows for rows in rows_of.values() if len(rows) > 1]
    if not copies:
        return []
    names = list(part.images.used)
    shown = [" = ".join(part.called(names[row]) for row in rows[:3]) for rows in copies]
    extra = sum(len(rows) - 1 for rows in copies)
    found = [f"{part.listing.place}: {extra} images are copies of others, pixel for pixel: {listed(shown)}"]
    torn = [same for same, rows in zip(shown, copies, strict=True) if (part.y[rows] != part.y[rows[0]]).any()]
    if torn:
        found.append(f"{part.listing.place}: {len(torn)} images {part.listing.several}: {listed(torn)}")
    return found
