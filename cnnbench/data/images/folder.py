"""The data set `image_folder`: pictures in one folder per class."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cnnbench.data.dataset import Dataset, Rows, Split, Task, listed
from cnnbench.data.images import cache
from cnnbench.data.images.cache import HIDDEN, Images
from cnnbench.data.images.decoding import Bits, Recipe, Resize
from cnnbench.data.images.layout import (
    ClassFolders,
    Layout,
    find_folder,
    has_usual_name,
    inner,
    other_root,
    printable,
    refuse_split_alone,
    scan,
    split_folders,
    system_folders,
    typed,
)
from cnnbench.data.partition import TooFewError, hold_out
from cnnbench.errors import CnnbenchError

Side = Annotated[int, Field(ge=1, le=8192)]
LISTED = 20  # files that the notes name


def image_folder(
    root: Annotated[str, Field(min_length=1)],
    test_root: str | None = None,
    size: Side | tuple[Side, Side] = 128,
    channels: Literal[1, 3] = 3,
    resize: Resize = "stretch",
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 42,
    group: Annotated[str, Field(min_length=1)] | None = None,
    strict: bool = False,
    max_pixels: Annotated[int, Field(ge=1, lt=2**31)] = 89_478_485,
    bits: Bits | None = None,
    layout: Layout = "auto",
    cache_dir: str | None = None,
    data_dir: str | None = None,
) -> Dataset:
    """Load images whose class is the name of their folder; two classes make a binary task.

    Every readable image is used, whatever its name and format; the notes list the other files with the
    reason. Each image is decoded once, into a file that later runs map into memory.

    Args:
        root: holds the class folders, or ``train`` and ``test`` (and ``val``) folders that hold them, also
            named ``training_set``, ``seg_train`` and so on. A relative path is looked for in the working
            folder, then in the data folders.
        test_root: a folder of class folders for the test split, if `root` has none.
        size: pixels of height and width; one number for both.
        channels: 3 for colour, 1 for grey.
        resize: ``stretch`` changes the proportions, ``crop`` cuts the sides off, ``pad`` adds black.
        test_fraction: of the images (duplicates counted once), stratified by class, if there is no test
            folder.
        split_seed: the `random_state` of that split.
        group: what examples that must stay together (of one patient, camera or film) have in common: a
            regular expression that is looked for in ``CLASS/…/NAME``, of which the part in brackets counts,
            else all of it; or ``folder``, the folder that an image lies in. A group never lies in two splits.
        strict: an unreadable file is an error.
        max_pixels: a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, another larger file is listed as
            unreadable. The default is the number above which Pillow warns.
        bits: of a value in pictures of 16 bits, where cameras and scanners often use fewer; None: as many as
            the brightest picture needs. Pictures of 8 bits stay as they are.
        layout: ``classes`` takes the folders of `root` as the classes, whatever their names and contents.
        cache_dir: where decoded images are kept; None: CNNBENCH_CACHE, else the user's cache folder.
        data_dir: looked in first for a relative `root` that is not in the working folder.

    Returns:
        x ``(n, height, width, channels)`` uint8 as `Rows` of a mapped file, y ``(n,)`` int64. The classes are
        in the order of their names.

    Raises:
        CnnbenchError: a folder is missing, or one above or below it is meant; a class has no images;
            training and test have other classes or share images (by their pixels); or the cache cannot be
            written.
    """
    height, width = (size, size) if isinstance(size, int) else size
    recipe = Recipe(height, width, channels, resize, max_pixels)
    top = find_folder("root", root, data_dir)
    if layout == "auto" and test_root is None:
        refuse_split_alone(top)
    folders, found_notes = _folders(top, root, test_root, data_dir, layout)
    classes = _classes(folders)
    task: Task = "binary" if len(classes) == 2 else "multiclass"
    groups = _groups(folders, group) if group is not None else None
    refuse_few(folders, task, test_fraction, split_seed, groups)
    parts = _load_all(folders, recipe, cache_dir, bits)
    if strict:
        refuse_unreadable(parts)
    for split, part in parts.items():
        refuse_empty_class(split, part)
    refuse_shared(parts)
    splits = {split: part.split for split, part in parts.items()}
    if groups is not None:
        splits = {
            split: replace(splits[split], groups=np.array([groups[split][name] for name in part.images.used]))
            for split, part in parts.items()
        }
    drawn: list[str] = []
    if "test" not in parts:
        train, test = _split(parts["train"], task, test_fraction, split_seed, splits["train"].groups)
        splits |= {"train": splits["train"].take(train), "test": splits["train"].take(test)}
        if groups is not None:
            numbers = np.array(list(groups["train"].values()))
            count = f"{len(np.unique(numbers[test]))} of {len(np.unique(numbers))} groups"
            drawn = [
                f"{top}: {count} held out for test, whole, with {test_fraction:.3g} of each class or near"
            ]
    deep = [part.images.deep for part in parts.values() if part.images.deep]
    return Dataset(
        name=printable(top.resolve().name),
        task=task,
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        class_names=tuple(printable(name) for name in classes),
        notes=(
            *found_notes,
            *_depth(top, parts),
            *(note for part in parts.values() for note in notes(part)),
            *drawn,
        ),
        bits=deep[0].bits if deep else None,
        files={
            name: digest
            for part in parts.values()
            for name, digest in zip(part.names, part.digests, strict=True)
        },
    )


def _folders(
    top: Path, root: str, test_root: str | None, data_dir: str | None, layout: Layout
) -> tuple[dict[str, ClassFolders], list[str]]:
    """Return the class folders of each split, and the notes about how they were found."""
    found, others = split_folders(top, layout)
    told = []
    if any(not has_usual_name(folder, split) for split, folder in found.items()) and len(found) > 1:
        pairs = listed([f"{printable(folder.name)} is {split}" for split, folder in found.items()])
        told.append(f"{top}: {pairs}, by their names and the class folders in them")
    if test_root is not None:
        if "test" in found:
            raise CnnbenchError(
                f"root={root} has a test folder of its own, {found['test']}, beside test_root={test_root}",
                f"remove test_root, or name the training folder: root={found['train']}",
            )
        found["test"] = inner(find_folder("test_root", test_root, data_dir))
    if others:
        names = listed([printable(path.name) for path in others])
        told.append(f"{top}: not used, for their names are of no split: {names}")
    is_relative = not Path(root).expanduser().is_absolute()
    if data_dir and is_relative and not top.is_relative_to(Path(data_dir).expanduser()):
        told.append(f"{root} was found in {top.parent}, not in data_dir={data_dir}")
    scanned = {}
    for split, folder in found.items():
        is_below = folder.is_relative_to(top)
        title = "/".join(folder.relative_to(top).parts) if is_below else str(folder)
        scanned[split] = scan(folder, title)
    return scanned, told + _passed_over(top, scanned)


def _passed_over(top: Path, folders: Mapping[str, ClassFolders]) -> list[str]:
    """Return one line about the hidden and system folders that were left out."""
    names = [name for found in folders.values() for name in found.passed_over]
    places = {found.folder for found in folders.values()}
    names += [name for place in {top, inner(top)} - places for name in system_folders(place)]
    if not names:
        return []
    counted = [
        f"{printable(name)} ({count})" if count > 1 else printable(name)
        for name, count in Counter(sorted(names)).most_common()
    ]
    are = "1 hidden or system folder is" if len(names) == 1 else f"{len(names)} hidden or system folders are"
    return [f"{top}: {are} left out: {listed(counted)}"]


def _classes(folders: dict[str, ClassFolders]) -> tuple[str, ...]:
    """Return the names of the classes; refuse fewer than two, and splits with different ones."""
    train = folders["train"]
    if len(train.classes) < 2:
        there = f"one class folder, {printable(train.classes[0])}" if train.classes else "no class folders"
        there += f", and {listed(train.beside)}" if train.beside else ""
        needed = "it needs one for each class, two at least, with the images of the class inside"
        other = other_root(train.folder)
        raise CnnbenchError(
            f"{train.folder} has {there}", f"{needed}: {typed(root=other)}" if other else needed
        )
    for split, found in folders.items():
        lacking = sorted(set(train.classes) - set(found.classes))
        more = sorted(set(found.classes) - set(train.classes))
        if lacking or more:
            wrong = [f"lacks {listed(lacking)}"] * bool(lacking) + [f"has also {listed(more)}"] * bool(more)
            raise CnnbenchError(
                f"the classes of {split} are not those of train: {found.folder} {' and '.join(wrong)}",
                f"train has {listed(train.classes)}; the class folders must have the same names",
            )
    return train.classes


# -- Parts -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """The readable images of the class folders of one split.

    Attributes:
        folders: hold the files.
        images: their pixels and digests.
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

    @property
    def split(self) -> Split:
        return Split(Rows(self.images.pixels, np.arange(len(self.y)), np.array(self.digests, "S64")), self.y)

    def unreadable(self) -> list[str]:
        """Return a line, name and reason, for each file that is no readable image."""
        return [f"{self.folders.shown(name)}: {reason}" for name, reason in self.images.skipped.items()]


def _load_all(
    folders: Mapping[str, ClassFolders], recipe: Recipe, cache_dir: str | None, bits: Bits | None
) -> dict[str, Part]:
    """Load every split, with one white for the 16-bit pictures of all."""
    parts = {split: _load(found, recipe, cache_dir) for split, found in folders.items()}
    deep = {split: part.images.deep.bits for split, part in parts.items() if part.images.deep}
    bits = bits or max(deep.values(), default=None)
    for split, taken in deep.items():
        if taken != bits:
            parts[split] = _load(folders[split], replace(recipe, bits=bits), cache_dir)
    return parts


def _load(folders: ClassFolders, recipe: Recipe, cache_dir: str | None) -> Part:
    images = cache.load(folders.files, recipe, cache_dir, folders.folder.name)
    number = {name: index for index, name in enumerate(folders.classes)}
    labels = [number[file.label] for file in folders.files if file.name in images.used]
    return Part(folders, images, np.array(labels, np.int64))


def _split(
    part: Part, task: Task, test_fraction: float, seed: int, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows for training and for testing; equal images stay together, on either side."""
    try:
        return hold_out(part.y, task, test_fraction, seed, groups, part.digests)
    except TooFewError as error:
        different = len(set(part.digests))
        raise _too_few(part.folders, error, test_fraction, f"{different} different images", groups) from error


def _too_few(
    folders: ClassFolders, error: TooFewError, test_fraction: float, of: str, groups: Collection[int] | None
) -> CnnbenchError:
    has = f"has {error.count}"
    if groups is not None:
        of = f"{len(set(groups))} groups"
        has = f"is in {error.count}"
    name = printable(folders.classes[error.label or 0])
    return CnnbenchError(
        f"test_fraction={test_fraction} of {of} leaves a class without one to train or to test on; "
        f"{name} {has}",
        f"add {'images' if groups is None else 'groups'}, change test_fraction, or give a test folder: "
        "test_root=FOLDER",
    )


def _groups(folders: Mapping[str, ClassFolders], group: str) -> dict[str, dict[str, int]]:
    """Return the number of the group of each file, by split and name; see `image_folder`.

    Raises:
        CnnbenchError: `group` is no regular expression or is not found in a file's name, or a group is in two
            splits.
    """
    try:
        pattern = re.compile(r"(.*)/" if group == "folder" else group)
    except re.error as error:
        raise CnnbenchError(
            f"dataset.group={group} is no regular expression: {error}",
            r"what the names of a group share, in brackets: dataset.group='(patient\d+)_'; or folder",
        ) from error
    keys: dict[str, dict[str, str]] = {}
    for split, found in folders.items():
        keys[split] = {}
        for file in found.files:
            match = pattern.search(file.name)
            key = match and (match[1] if pattern.groups else match[0])
            if not key:
                lacking = sum(not pattern.search(other.name) for other in found.files)
                raise CnnbenchError(
                    f"dataset.group={group} is not found in {found.shown(file.name)}"
                    + (f", nor in {lacking - 1:,} other names" if lacking > 1 else ""),
                    "every image needs a group; the expression is looked for in CLASS/…/NAME",
                )
            keys[split][file.name] = key
    numbers = {
        key: number for number, key in enumerate(sorted({k for one in keys.values() for k in one.values()}))
    }
    for one, other in combinations(keys, 2):
        if torn := sorted(set(keys[one].values()) & set(keys[other].values())):
            raise CnnbenchError(
                f"{len(torn)} groups are in {one} and in {other}: {listed([printable(key) for key in torn])}",
                f"move each whole into one of the two: the figures on {other} would be too good",
            )
    return {split: {name: numbers[key] for name, key in named.items()} for split, named in keys.items()}


# -- Refusals --------------------------------------------------------------------------------------


def refuse_few(
    folders: Mapping[str, ClassFolders],
    task: Task,
    test_fraction: float,
    seed: int,
    groups: Mapping[str, Mapping[str, int]] | None,
) -> None:
    """Refuse classes with too few files, or groups, before anything is decoded."""
    for split, found in folders.items():
        counted = Counter(file.label for file in found.files)
        if empty := [name for name in found.classes if not counted[name]]:
            raise _empty(found, empty[0], split, [])
    train = folders["train"]
    if "test" in folders:
        return
    files = [file for file in train.files if not file.is_hidden]
    y = np.array([train.classes.index(file.label) for file in files], np.int64)
    of = None if groups is None else np.array([groups["train"][file.name] for file in files])
    try:
        hold_out(y, task, test_fraction, seed, of)
    except TooFewError as error:
        raise _too_few(train, error, test_fraction, f"{len(files)} images", of) from error


def refuse_unreadable(parts: dict[str, Part]) -> None:
    """Refuse any file that cannot be read, except hidden ones."""
    lines = [line for part in parts.values() for line in part.unreadable() if not line.endswith(HIDDEN)]
    if lines:
        count = "1 file" if len(lines) == 1 else f"{len(lines)} files"
        raise CnnbenchError(
            f"strict=true, and {count} cannot be read: {listed(lines, separator='; ')}",
            "mend or remove them, or leave them out with strict=false",
        )


def refuse_empty_class(split: str, part: Part) -> None:
    """Refuse a class without a readable image."""
    for index, name in enumerate(part.folders.classes):
        if not (part.y == index).any():
            start = part.folders.shown(f"{name}/")
            reasons = [line for line in part.unreadable() if line.startswith(start)]
            raise _empty(part.folders, name, split, reasons)


def _empty(folders: ClassFolders, name: str, split: str, reasons: list[str]) -> CnnbenchError:
    return CnnbenchError(
        f"class {printable(name)} has no {'readable ' if reasons else ''}images in {split} "
        f"({folders.folder / name})" + (f": {listed(reasons, separator='; ')}" if reasons else ""),
        "add some, or move the folder away",
    )


def refuse_shared(parts: dict[str, Part]) -> None:
    """Refuse an image in two splits, which would make the figures too good."""
    known: dict[str, tuple[str, str]] = {}  # the first split and name of each digest
    for split, part in parts.items():
        named = list(zip(part.digests, part.names, strict=True))
        shared = [(*known[digest], name) for digest, name in named if digest in known]
        if shared:
            others = " and ".join(dict.fromkeys(other for other, _, _ in shared))
            pairs = [f"{there} = {here}" for _, there, here in shared]
            raise CnnbenchError(
                f"{split} shares {len(shared)} images with {others}, pixel for pixel: {listed(pairs)}",
                f"remove them from one of the two: the figures on {split} would be too good; pictures that "
                f"differ in more detail do so at a larger dataset.size",
            )
        known |= {digest: (split, name) for digest, name in named}


# -- Notes -----------------------------------------------------------------------------------------


def _depth(top: Path, parts: Mapping[str, Part]) -> list[str]:
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
    folder, unreadable = part.folders.folder, part.unreadable()
    if unreadable:
        found.append(f"{folder}: {len(unreadable)} of {len(part.folders.files)} files are not used")
        found += unreadable[:LISTED]
    if len(unreadable) > LISTED:
        found.append(f"and {len(unreadable) - LISTED} more, all listed in {part.images.record or 'the log'}")
    if part.folders.beside:
        names = [part.folders.shown(name) for name in part.folders.beside]
        found.append(f"{folder}: not used, for they are in no class folder: {listed(names)}")
    return found + _copies(part)


def _copies(part: Part) -> list[str]:
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(part.digests):
        rows_of[digest].append(row)
    copies = [rows for rows in rows_of.values() if len(rows) > 1]
    if not copies:
        return []
    shown = [" = ".join(part.names[row] for row in rows[:3]) for rows in copies]
    extra = sum(len(rows) - 1 for rows in copies)
    found = [f"{part.folders.folder}: {extra} images are copies of others, pixel for pixel: {listed(shown)}"]
    torn = [names for names, rows in zip(shown, copies, strict=True) if len(set(part.y[rows])) > 1]
    if torn:
        found.append(f"{part.folders.folder}: {len(torn)} images are in more than one class: {listed(torn)}")
    return found
