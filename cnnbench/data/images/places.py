"""Where the pictures that a table names are: each folder is listed once, and no file is opened."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cnnbench.data.images.archives import Entry
from cnnbench.data.images.layout import IMAGE_SUFFIXES, ImageFile, is_system_folder
from cnnbench.data.reading import reading

DRIVE = re.compile(r"^[A-Za-z]:/")
UNEVEN = r"(^|/)\.{1,2}(/|$)|//|^[A-Za-z]:/|/$"  # of names that are not yet as a listing has them
MOST_FOLDERS, DEPTH = 200, 2  # that are looked into for pictures that are not where the table says
SAMPLE = 50  # names that tell where the others are


class Tree(Protocol):
    """Files in folders, on a disk or in an archive."""

    def files(self, folder: str) -> Mapping[str, str] | set[str]:
        """Return the names of the files in a folder, none where there is no such folder."""

    def folders(self, folder: str) -> Sequence[str]:
        """Return the names of the folders in a folder."""

    def image(self, name: str) -> ImageFile:
        """Return the file of a name that `files` has."""


class Disk:
    """The files below a folder; names that begin with ``/`` are of the whole file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = os.path.abspath(root)  # noqa: PTH100  links are not resolved
        self._known: dict[str, tuple[set[str], list[str]]] = {}

    def files(self, folder: str) -> set[str]:
        return self._listed(folder)[0]

    def folders(self, folder: str) -> Sequence[str]:
        return self._listed(folder)[1]

    def _listed(self, folder: str) -> tuple[set[str], list[str]]:
        if folder not in self._known:
            files: set[str] = set()
            folders: list[str] = []
            path = Path(os.path.join(self._root, folder))  # noqa: PTH118
            with reading(path):
                try:
                    with os.scandir(path) as entries:
                        for entry in entries:
                            if entry.is_dir():
                                folders.append(entry.name)
                            else:
                                files.add(entry.name)
                except (FileNotFoundError, NotADirectoryError):
                    pass
            self._known[folder] = (files, sorted(folders))
        return self._known[folder]

    def image(self, name: str) -> ImageFile:
        path = os.path.join(self._root, name)  # noqa: PTH118  for each of many files
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError:  # a broken link: opening it will say so
            return ImageFile(Path(path), name, ())
        identity = (status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)
        return ImageFile(Path(path), name, identity)

    def relative(self, name: str) -> str:
        """Return a whole path below the root as the name that it has there."""
        return name.removeprefix(f"{self._root.rstrip('/')}/")


class Inside:
    """The files in an archive."""

    def __init__(self, path: Path, found: Iterable[Entry]) -> None:
        self.path = path
        self.entries = {entry.name: entry for entry in found}
        self._files: dict[str, set[str]] = defaultdict(set)
        self._folders: dict[str, set[str]] = defaultdict(set)
        for name in self.entries:
            folder, _, base = name.rpartition("/")
            self._files[folder].add(base)
            while folder and folder.rpartition("/")[2] not in self._folders[folder.rpartition("/")[0]]:
                above, _, inner = folder.rpartition("/")
                self._folders[above].add(inner)
                folder = above

    def files(self, folder: str) -> set[str]:
        return self._files.get(folder, set())

    def folders(self, folder: str) -> Sequence[str]:
        return sorted(self._folders.get(folder, ()))

    def image(self, name: str) -> ImageFile:
        entry = self.entries[name]
        return ImageFile(self.path, name, entry.identity, member=entry.member)

    def relative(self, name: str) -> str:
        return name


@dataclass
class Resolved:
    """Where pictures are.

    Attributes:
        names: of the files, None where there is none.
        reasons: why not, by index.
        notes: how they were found, where not as they were written.
    """

    names: list[str | None]
    reasons: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def even(name: str) -> str:
    """Return a path without drive, ``.`` and what ``..`` cancels; one that leads out begins with ``..``."""
    whole = os.path.normpath(DRIVE.sub("/", name)).replace("\\", "/")
    return whole[1:] if whole.startswith("//") else whole


def resolve(tree: Disk | Inside, written: Sequence[str]) -> Resolved:
    """Find the files that a table names.

    A file is taken where it is written; else, if that is so for most, below or above by the same folders for
    all; else in its folder under a name that differs in letters' case, in Unicode's form or by its ending.

    Args:
        tree: where relative names begin.
        written: as `even` returns them.
    """
    names = [tree.relative(name) if name.startswith("/") else name for name in written]
    found = Resolved(_there(tree, names))
    lacking = [index for index, name in enumerate(found.names) if name is None]
    if 2 * len(lacking) > len(names):
        _moved(tree, names, lacking, found)
        lacking = [index for index in lacking if found.names[index] is None]
    if lacking:
        _alike(tree, names, lacking, found)
    for index in lacking:
        if found.names[index] is None:
            folder, _, base = names[index].rpartition("/")
            found.reasons[index] = "a folder" if base in tree.folders(folder) else "not there"
    return found


def _there(tree: Tree, names: Sequence[str]) -> list[str | None]:
    """Return each name that has a file, else None; written for a million of them."""
    found: list[str | None] = []
    last, files = "", tree.files("")
    for name in names:
        folder, slash, base = name.rpartition("/")
        if (folder or slash) != last:
            last = folder or slash
            files = tree.files(last)
        found.append(name if base in files else None)
    return found


def _moved(tree: Tree, names: Sequence[str], lacking: Sequence[int], found: Resolved) -> None:
    """Find names that all lie below or above where they are written."""
    sample = [names[index] for index in lacking[:: max(1, len(lacking) // SAMPLE)]]
    deepest = max(name.count("/") for name in sample)
    changes = [_change(below, dropped) for below in _folders(tree) for dropped in range(deepest + 1)]
    counts = [sum(_like(tree, change(name)) is not None for name in sample) for change in changes]
    if 2 * max(counts) <= len(sample):
        return
    change = changes[counts.index(max(counts))]
    for index in lacking:
        found.names[index] = _like(tree, change(names[index]))
    moved = [index for index in lacking if found.names[index] is not None]
    example = f"{names[moved[0]]} is {found.names[moved[0]]}"
    found.notes.append(f"{len(moved):,} files are not where they are written, but found: {example}")


def _change(below: str, dropped: int) -> Callable[[str], str]:
    def change(name: str) -> str:
        parts = name.strip("/").split("/")[dropped:]
        return "/".join([*([below] if below else []), *parts])

    return change


def _folders(tree: Tree) -> list[str]:
    """Return the folders in which pictures may be, the root first."""
    found, level = [""], [""]
    for _ in range(DEPTH):
        level = [
            f"{folder}/{name}" if folder else name
            for folder in level
            for name in tree.folders(folder)
            if not is_system_folder(name)
        ][:MOST_FOLDERS]
        found += level
    return found[:MOST_FOLDERS]


def _alike(tree: Tree, names: Sequence[str], lacking: Sequence[int], found: Resolved) -> None:
    for index in lacking:
        found.names[index] = _like(tree, names[index])
    done = [index for index in lacking if found.names[index] is not None]
    if done:
        example = f"{names[done[0]]} is {found.names[done[0]]}"
        found.notes.append(f"{len(done):,} files have names a little unlike those written: {example}")


def _like(tree: Tree, name: str) -> str | None:
    """Return a file of that name, or the only one in its folder that differs as `resolve` allows."""
    folder, slash, base = name.rpartition("/")
    files = tree.files(folder or slash)
    if base in files:
        return name
    alike = _folded(tree, folder or slash).get(_fold(base), [])
    return f"{folder}{slash}{alike[0]}" if len(alike) == 1 else None


def _folded(tree: Tree, folder: str) -> Mapping[str, list[str]]:
    """Return the files of a folder by their folded names, with and without an image's ending."""
    known: dict[str, dict[str, list[str]]] = tree.__dict__.setdefault("folded", {})
    if folder not in known:
        by_name: dict[str, list[str]] = defaultdict(list)
        for name in tree.files(folder):
            by_name[_fold(name)].append(name)
            stem, suffix = os.path.splitext(name)  # noqa: PTH122
            if suffix.lower() in IMAGE_SUFFIXES:
                by_name[_fold(stem)].append(name)
        known[folder] = by_name
    return known[folder]


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
