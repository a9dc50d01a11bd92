"""The images of one split with their classes: what to refuse, and what the user should know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cnnbench.datasets.core import Rows, Split
from cnnbench.datasets.image_cache import HIDDEN
from cnnbench.datasets.image_layout import ClassFolders, printable
from cnnbench.datasets.image_store import Images
from cnnbench.errors import CnnbenchError

LISTED = 20  # files that the notes name
EXAMPLES = 3  # files that one line names


@dataclass(frozen=True)
class Part:
    """The readable images of one folder of class folders.

    Attributes:
        folders: where they are.
        images: their pixels and contents.
        y: ``(n,)`` int64, the index of each image's class.
    """

    folders: ClassFolders
    images: Images
    y: np.ndarray

    @property
    def digests(self) -> list[str]:
        return list(self.images.used.values())

    @cached_property
    def names(self) -> list[str]:
        return [self.folders.shown(name) for name in self.images.used]

    def rows(self, indices: np.ndarray) -> Split:
        return Split(Rows(self.images.pixels, indices, self._digest_array), self.y[indices])

    @cached_property
    def _digest_array(self) -> np.ndarray:
        return np.array(self.digests, "S64")

    def unreadable(self) -> list[str]:
        """One line, name and reason, for each file that is no readable image."""
        return [f"{self.folders.shown(name)}: {reason}" for name, reason in self.images.skipped.items()]


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """The first few, and how many more there are."""
    shown = separator.join(items[:EXAMPLES])
    return f"{shown} and {len(items) - EXAMPLES} more" if len(items) > EXAMPLES else shown


# ---------------------------------------------------------------- refusals


def refuse_unreadable(parts: dict[str, Part]) -> None:
    """Refuse any file that cannot be read; hidden ones are nobody's images."""
    lines = [line for part in parts.values() for line in part.unreadable() if not line.endswith(HIDDEN)]
    if lines:
        count = "1 file" if len(lines) == 1 else f"{len(lines)} files"
        raise CnnbenchError(
            f"strict=true, and {count} cannot be read: {listed(lines, '; ')}",
            "mend or remove them, or leave them out with strict=false",
        )


def refuse_empty_class(split: str, part: Part) -> None:
    """Refuse a class without a readable image."""
    for index, name in enumerate(part.folders.classes):
        if not (part.y == index).any():
            start = part.folders.shown(f"{name}/")
            reasons = [line for line in part.unreadable() if line.startswith(start)]
            raise CnnbenchError(
                f"class {printable(name)} has no {'readable ' if reasons else ''}images in {split} "
                f"({part.folders.folder / name})" + (f": {listed(reasons, '; ')}" if reasons else ""),
                "add some, or move the folder away",
            )


def refuse_shared(parts: dict[str, Part]) -> None:
    """Refuse an image in two splits: what was learnt from says nothing when it is met again."""
    known: dict[str, tuple[str, str]] = {}  # of each content: its first split and name
    for split, part in parts.items():
        shared = [
            (*known[digest], name)
            for digest, name in zip(part.digests, part.names, strict=True)
            if digest in known
        ]
        if shared:
            others = " and ".join(dict.fromkeys(other for other, _, _ in shared))
            pairs = [f"{there} = {here}" for _, there, here in shared]
            raise CnnbenchError(
                f"{split} shares {len(shared)} images with {others}, byte for byte: {listed(pairs)}",
                f"remove them from one of the two: the figures on {split} would be too good",
            )
        for digest, name in zip(part.digests, part.names, strict=True):
            known[digest] = (split, name)


# ---------------------------------------------------------------- notes


def notes(part: Part) -> list[str]:
    """What is not used of a folder, and what is in it twice."""
    found = []
    folder, unreadable = part.folders.folder, part.unreadable()
    if unreadable:
        found.append(f"{folder}: {len(unreadable)} of {len(part.folders.files)} files are not used")
        found += unreadable[:LISTED]
        if len(unreadable) > LISTED:
            found.append(f"and {len(unreadable) - LISTED} more, all listed in {part.images.record}")
    if part.folders.beside:
        names = [part.folders.shown(name) for name in part.folders.beside]
        found.append(f"{folder}: not used, for they are in no class folder: {listed(names)}")
    return found + _copies(part)


def _copies(part: Part) -> list[str]:
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(part.digests):
        rows_of.setdefault(digest, []).append(row)
    copies = [rows for rows in rows_of.values() if len(rows) > 1]
    if not copies:
        return []
    shown = [" = ".join(part.names[row] for row in rows[:EXAMPLES]) for rows in copies]
    extra = sum(len(rows) - 1 for rows in copies)
    found = [f"{part.folders.folder}: {extra} images are copies of others, byte for byte: {listed(shown)}"]
    torn = [names for names, rows in zip(shown, copies, strict=True) if len(set(part.y[rows])) > 1]
    if torn:
        found.append(f"{part.folders.folder}: {len(torn)} images are in more than one class: {listed(torn)}")
    return found
