"""The data set `manifest`: pictures that a table names, or in an archive, Parquet files or shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cnnbench.data.dataset import Dataset, Fact, Task, listed
from cnnbench.data.images import columns
from cnnbench.data.images.columns import Columns, Targets
from cnnbench.data.images.decoding import Bits, Recipe, Resize
from cnnbench.data.images.folder import Side
from cnnbench.data.images.layout import printable
from cnnbench.data.images.parts import (
    LISTED,
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
from cnnbench.data.images.rows import Pictures, find_pictures
from cnnbench.data.partition import TooFewError, hold_out, hold_out_last
from cnnbench.data.tabular import places_in_order
from cnnbench.errors import CnnbenchError

ORDER = ("train", "val", "test")


def manifest(
    file: Annotated[str, Field(min_length=1)],
    root: str | None = None,
    image: str | None = None,
    label: str | int | tuple[str | int, ...] | None = None,
    split: str | None = None,
    group: str | None = None,
    weight: str | None = None,
    order: str | None = None,
    separator: Annotated[str, Field(min_length=1)] | None = None,
    task: Task | None = None,
    positive: str | int | None = None,
    size: Side | tuple[Side, Side] = 128,
    channels: Literal[1, 3] = 3,
    resize: Resize = "stretch",
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 42,
    strict: bool = False,
    max_pixels: Annotated[int, Field(ge=1, lt=2**31)] = 89_478_485,
    bits: Bits | None = None,
    cache_dir: str | None = None,
    data_dir: str | None = None,
) -> Dataset:
    """Load pictures with a table of what is known of each, decoded as those of `image_folder` are.

    Columns are found by their usual names (image, path, file, …; label, class, target, …; split; group,
    patient, …; weight) unless they are named; `none` leaves one unused. The order of the examples is that of
    the rows.

    Args:
        file: a table (CSV with any separator, Parquet, JSON lines) with a row for each picture; a .zip or
            .tar with class folders, or with such a table and pictures; Parquet with a column of bytes;
            WebDataset shards; a folder or a pattern (`shards/*.tar`) of these. A relative path is looked for
            in the working folder, then in the data folders.
        root: where relative paths in the table begin; None: the folder of the table.
        image: the column of paths, or of bytes.
        label: the column of the label; several columns of 0 and 1, or of numbers.
        split: the column with train, val and test.
        group: the column of what stays on one side of a split, such as a patient.
        weight: the column of how much an example counts in the training.
        order: a column of times or numbers: the last are the test split, and before them the validation
            split. It is not looked for.
        separator: between several labels in one cell; None looks for ``|``, ``;`` and ``,``.
        task: what is to be learnt; None: what the labels make.
        positive: which of two classes precision, recall and f1 are of; None: the second.
        size: pixels of height and width; one number for both.
        channels: 3 for colour, 1 for grey.
        resize: ``stretch`` changes the proportions, ``crop`` cuts the sides off, ``pad`` adds black.
        test_fraction: of the pictures (duplicates counted once), if no row is of the test split.
        split_seed: of the draw of that split.
        strict: a file that is missing or cannot be read is an error.
        max_pixels: a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, another larger file is listed as
            unreadable.
        bits: of a value in pictures of 16 bits; None: as many as the brightest picture needs.
        cache_dir: where decoded images are kept; None: CNNBENCH_CACHE, else the user's cache folder.
        data_dir: looked in first for a relative `file` that is not in the working folder.

    Returns:
        x ``(n, height, width, channels)`` uint8 as `Rows` of a mapped file; y as the task has it.

    Raises:
        CnnbenchError: the table or a row of it cannot be used (see `checked`); splits share pictures; or the
            cache cannot be written.
    """
    height, width = (size, size) if isinstance(size, int) else size
    names = tuple(map(str, label)) if isinstance(label, tuple | list) else label  # YAML reads 1 as a number
    known = checked(
        file,
        root,
        image,
        str(names) if isinstance(names, int) else names,
        split,
        group,
        weight,
        order,
        separator,
        task,
        None if positive is None else str(positive),
        strict,
        data_dir,
    )
    if known.split is None:
        _draw(known, known.rows, None, test_fraction, split_seed)  # before a picture is opened
    parts = load_all(_listings(known), Recipe(height, width, channels, resize, max_pixels), cache_dir, bits)
    if strict:
        refuse_unreadable(parts)
    _refuse_none(known, parts)
    refuse_shared(parts)
    splits = {name: part.split for name, part in parts.items()}
    if "test" not in parts:
        whole = splits["train"]
        rows = known.rows[parts["train"].rows]
        kept, held = _draw(known, rows, parts["train"].digests, test_fraction, split_seed)
        splits |= {"train": whole.take(kept), "test": whole.take(held)}
    targets, place = known.targets, known.pictures.place
    return Dataset(
        name=printable(place.resolve().name.partition(".")[0] or place.name),
        task=targets.task,
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        class_names=targets.class_names,
        notes=(
            *known.notes,
            *depth(place, parts),
            *(note for part in parts.values() for note in notes(part)),
        ),
        bits=bits_of(parts),
        files=digests_of(parts),
        places=places_of(parts),
        target_names=targets.target_names,
    )


# -- The table, checked ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    """A table of pictures of which every row was looked at, and no picture opened.

    Attributes:
        pictures: all rows.
        targets: of all rows.
        rows: those whose picture is there, each picture once.
        split: ``train``, ``val`` or ``test`` for each row; None where they are to be drawn.
        groups, weights, order: of all rows; None without such a column.
        notes: a line for each thing to know.
    """

    pictures: Pictures
    targets: Targets
    rows: np.ndarray
    split: np.ndarray | None
    groups: np.ndarray | None
    weights: np.ndarray | None
    order: np.ndarray | None
    notes: tuple[str, ...]


def checked(
    file: str,
    root: str | None = None,
    image: str | None = None,
    label: str | Sequence[str] | None = None,
    split: str | None = None,
    group: str | None = None,
    weight: str | None = None,
    order: str | None = None,
    separator: str | None = None,
    task: Task | None = None,
    positive: str | None = None,
    strict: bool = False,
    data_dir: str | None = None,
) -> Checked:
    """Read a table of pictures and check each row; see `manifest` for the arguments.

    Raises:
        CnnbenchError: there is no such file or column; a label, split, group or weight cannot be used; most
            pictures are missing (or any, if `strict`); or one picture has two labels or is in two splits.
    """
    pictures = find_pictures(file, root, image, label, data_dir)
    path, table, where = pictures.place, pictures.table, pictures.where
    found = _columns(pictures, label, split, group, weight, order)
    targets = columns.targets(path, table, found.labels, task, separator, positive, pictures.classes, where)
    splits = columns.splits(path, table, found.split, where) if found.split else None
    groups = columns.groups(path, table, found.group, where) if found.group else None
    if groups is not None and splits is not None and found.group:
        columns.refuse_torn(splits, groups, found.group, where)
    weights = columns.weights(path, table, found.weight, where) if found.weight else None
    ordered = places_in_order(path, table, found.order, where) if found.order else None
    made = "" if task else f"; a {targets.task} task, as the labels are"
    said = [Fact(f"{path}: {len(table):,} rows of {found.said}{made}"), *pictures.notes]
    said += [Fact(f"{path}: {note}") for note in targets.notes]
    there = np.flatnonzero([name is not None for name in pictures.names])
    said += _missing(pictures, len(there), strict)
    rows = there
    if len(set(pictures.names) - {None}) < len(there):
        rows, doubled = _once(pictures, there, targets.y, splits)
        said += doubled
    return Checked(pictures, targets, rows, splits, groups, weights, ordered, tuple(said))


def _columns(
    pictures: Pictures,
    label: str | Sequence[str] | None,
    split: str | None,
    group: str | None,
    weight: str | None,
    order: str | None,
) -> Columns:
    if label is None and len(pictures.classes) == 1:
        label = next(iter(pictures.classes))  # the file says itself which column has the classes
    has_images = pictures.image is None
    return columns.columns(
        pictures.place,
        pictures.table,
        pictures.image,
        label,
        split,
        group,
        weight,
        order,
        has_images=has_images,
    )


def _missing(pictures: Pictures, there: int, strict: bool) -> list[str]:
    """Return the lines about pictures that are not there; refuse any if `strict`, else most of them."""
    if not pictures.reasons:
        return []
    table, column = pictures.table, pictures.image or ""
    lines = [
        f"row {_row(pictures, row)}: {table.column(column)[row].as_py()} is {why}"
        for row, why in sorted(pictures.reasons.items())[:LISTED]
    ]
    count, total = len(pictures.reasons), len(table)
    more = [f"and {count - LISTED:,} more"] if count > LISTED else []
    if strict or there < count:
        raise CnnbenchError(
            f"{pictures.place}: {count:,} of {total:,} pictures are missing: {'; '.join(lines[:3])}"
            + (" …" if count > 3 else ""),
            "where do the paths begin? dataset.root=FOLDER"
            if there < count
            else "remove these rows, or leave them out with strict=false",
        )
    return [f"{pictures.place}: {count:,} of {total:,} pictures are missing, and left out", *lines, *more]


def _once(
    pictures: Pictures, rows: np.ndarray, y: np.ndarray, split: np.ndarray | None
) -> tuple[np.ndarray, list[str]]:
    """Return the first row of each picture, and the lines about the others; refuse contradictions."""
    first: dict[str | None, int] = {}
    again: list[tuple[int, int]] = []
    for row in rows.tolist():
        before = first.setdefault(pictures.names[row], row)
        if before != row:
            again.append((before, row))
    for before, row in again:
        both = f"{pictures.where(row)}: {pictures.names[row]} is named in row {_row(pictures, before)} too"
        if (y[before] != y[row]).any():
            raise CnnbenchError(
                f"{both}, with another label",
                "keep one; several labels of one picture belong into one cell, such as cat;dog",
            )
        if split is not None and split[before] != split[row]:
            raise CnnbenchError(f"{both}, for {split[before]} and not {split[row]}", "keep one of the rows")
    shown = [f"row {_row(pictures, row)} = row {_row(pictures, before)}" for before, row in again]
    line = (
        f"{pictures.place}: {len(again):,} rows name a picture once more, and are left out: {listed(shown)}"
    )
    return np.array(sorted(first.values()), np.int64), [line]


def _row(pictures: Pictures, row: int) -> str:
    return pictures.where(row).rpartition(", row ")[2]


# -- Splits ----------------------------------------------------------------------------------------


def _listings(known: Checked) -> dict[str, Listing]:
    pictures = known.pictures
    parts = {"train": known.rows}
    if known.split is not None:
        names = known.split[known.rows]
        parts = {name: known.rows[names == name] for name in ORDER if (names == name).any()}
    found = {}
    for name, rows in parts.items():
        files = [pictures.image_of(row) for row in rows.tolist()]
        row_of = {file.name: row for file, row in zip(files, rows.tolist(), strict=True)}
        found[name] = Listing(
            str(pictures.place),
            pictures.place.name,
            files,
            known.targets.y[rows],
            several="have more than one label",
            where=_where(pictures, row_of),
            groups=None if known.groups is None else known.groups[rows],
            weights=None if known.weights is None else known.weights[rows],
            order=None if known.order is None else known.order[rows],
        )
    return found


def _where(pictures: Pictures, row_of: dict[str, int]) -> Callable[[str], str]:
    def where(name: str) -> str:
        if pictures.image is None:
            return pictures.where(row_of[name])
        return f"row {_row(pictures, row_of[name])}, {printable(name)}"

    return where


def _refuse_none(known: Checked, parts: dict[str, Part]) -> None:
    """Refuse a split, or a class in the training split, without a readable picture."""
    for name, part in parts.items():
        if not len(part.y):
            raise CnnbenchError(
                f"{known.pictures.place}: no picture of {name} can be read: "
                f"{listed(part.unreadable(), separator='; ')}",
                "mend the files",
            )
    targets = known.targets
    if targets.task not in ("binary", "multiclass"):
        return
    readable = np.concatenate([part.y for part in parts.values()])
    for index, label in enumerate(targets.class_names):
        if not (readable == index).any():
            raise CnnbenchError(
                f"{known.pictures.place}: class {label} has no readable pictures",
                "add some, or remove its rows",
            )


def _draw(
    known: Checked, rows: np.ndarray, contents: Sequence[str] | None, test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of `rows` are for training, and which for testing.

    Raises:
        CnnbenchError: a class, or a group, would be on one side only.
    """
    targets, place = known.targets, known.pictures.place
    groups = None if known.groups is None else known.groups[rows]
    try:
        if known.order is not None:
            return hold_out_last(known.order[rows], test_fraction)
        return hold_out(targets.y[rows], targets.task, test_fraction, seed, groups, contents)
    except TooFewError as error:
        if known.order is not None:
            raise CnnbenchError(
                f"{place}: all rows have the same place in the order, so none comes last",
                "leave dataset.order out",
            ) from error
        few = "pictures" if groups is None else "groups"
        of = f"test_fraction={test_fraction} of {len(rows):,} pictures"
        blamed = f"leaves none of {error.count} {few} on one side"
        if error.label is not None:
            own = rows[_has(targets, rows, error.label)]
            at = f" ({known.pictures.where(int(own[0]))})" if len(own) else ""
            blamed = "leaves a class without one to train or to test on; "
            blamed += f"{targets.class_names[error.label]} is in {error.count} of the {few}{at}"
        raise CnnbenchError(
            f"{place}: {of} {blamed}",
            f"add {few}, remove those rows, or write a column split with train and test",
        ) from error


def _has(targets: Targets, rows: np.ndarray, label: int) -> np.ndarray:
    y = targets.y[rows]
    return np.asarray(y[:, label] > 0 if targets.task == "multilabel" else y == label)
