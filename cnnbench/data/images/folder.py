"""The data set `image_folder`: pictures in one folder per class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cnnbench.data.dataset import Dataset, Task, listed
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
from cnnbench.data.images.parts import (
    Listing,
    Part,
    bits_of,
    depth,
    digests_of,
    load_all,
    notes,
    places_of,
    refuse_shared,
    refuse_unreadable,
)
from cnnbench.data.images.rows import holds_manifest
from cnnbench.data.labels import with_positive
from cnnbench.data.partition import TooFewError, hold_out
from cnnbench.errors import CnnbenchError

Side = Annotated[int, Field(ge=1, le=8192)]


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
    positive: str | None = None,
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
        positive: of two classes, the one that precision, recall and f1 are of; None: the second by name.
        data_dir: looked in first for a relative `root` that is not in the working folder.

    Returns:
        x ``(n, height, width, channels)`` uint8 as `Rows` of a mapped file, y ``(n,)`` int64. The classes are
        in the order of their names; a positive one comes last.

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
    classes = _classes(top, folders)
    _, class_names = with_positive(np.arange(0), map(printable, classes), positive)
    task: Task = "binary" if len(classes) == 2 else "multiclass"
    groups = _groups(folders, group) if group is not None else None
    refuse_few(folders, task, test_fraction, split_seed, groups)
    listings = {
        split: _listing(found, None if groups is None else groups[split]) for split, found in folders.items()
    }
    parts = load_all(listings, recipe, cache_dir, bits)
    if strict:
        refuse_unreadable(parts)
    for split, part in parts.items():
        refuse_empty_class(split, folders[split], part)
    refuse_shared(parts)
    splits = {
        split: replace(part.split, y=with_positive(part.y, map(printable, classes), positive)[0])
        for split, part in parts.items()
    }
    about = [note for split, part in parts.items() for note in (*notes(part), *_beside(folders[split]))]
    if "test" not in parts:
        whole = splits["train"]
        train, test = _split(folders["train"], parts["train"], task, test_fraction, split_seed)
        splits |= {"train": whole.take(train), "test": whole.take(test)}
        if whole.groups is not None:
            count = f"{len(np.unique(whole.groups[test]))} of {len(np.unique(whole.groups))} groups"
            about.append(
                f"{top}: {count} held out for test, whole, with {test_fraction:.3g} of each class or near"
            )
    return Dataset(
        name=printable(top.resolve().name),
        task=task,
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        class_names=class_names,
        notes=(*found_notes, *depth(top, parts), *about),
        bits=bits_of(parts),
        files=digests_of(parts),
        places=places_of(parts),
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


def _beside(found: ClassFolders) -> list[str]:
    """Return one line about the images beside the class folders."""
    if not found.beside:
        return []
    names = [found.shown(name) for name in found.beside]
    return [f"{found.folder}: not used, for they are in no class folder: {listed(names)}"]


def _classes(top: Path, folders: dict[str, ClassFolders]) -> tuple[str, ...]:
    """Return the names of the classes; refuse fewer than two, and splits with different ones."""
    train = folders["train"]
    if len(train.classes) < 2:
        there = f"one class folder, {printable(train.classes[0])}" if train.classes else "no class folders"
        there += f", and {listed(train.beside)}" if train.beside else ""
        needed = "it needs one for each class, two at least, with the images of the class inside"
        other = other_root(train.folder)
        hint = f"{needed}: {typed(root=other)}" if other else needed
        if holds_manifest(top):
            hint = f"the labels are in a file there: dataset=manifest {typed(file=top)}"
        raise CnnbenchError(f"{train.folder} has {there}", hint)
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


def _listing(found: ClassFolders, groups: Mapping[str, int] | None) -> Listing:
    number = {name: index for index, name in enumerate(found.classes)}
    return Listing(
        str(found.folder),
        found.folder.name,
        found.files,
        np.array([number[file.label] for file in found.files], np.int64),
        {file.name: found.shown(file.name) for file in found.files},
        groups=None if groups is None else np.array([groups[file.name] for file in found.files], np.int64),
    )


def _split(
    folders: ClassFolders, part: Part, task: Task, test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows for training and for testing; equal images stay together, on either side."""
    groups = part.split.groups
    try:
        return hold_out(part.y, task, test_fraction, seed, groups, part.digests)
    except TooFewError as error:
        different = f"{len(set(part.digests))} different images"
        raise _too_few(folders, error, test_fraction, different, groups) from error


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


def refuse_empty_class(split: str, found: ClassFolders, part: Part) -> None:
    """Refuse a class without a readable image."""
    for index, name in enumerate(found.classes):
        if not (part.y == index).any():
            start = found.shown(f"{name}/")
            reasons = [line for line in part.unreadable() if line.startswith(start)]
            raise _empty(found, name, split, reasons)


def _empty(folders: ClassFolders, name: str, split: str, reasons: list[str]) -> CnnbenchError:
    return CnnbenchError(
        f"class {printable(name)} has no {'readable ' if reasons else ''}images in {split} "
        f"({folders.folder / name})" + (f": {listed(reasons, separator='; ')}" if reasons else ""),
        "add some, or move the folder away",
    )
