"""Data sets and their splits, and the refusal of what cannot be trained on or measured."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cnnbench.errors import CnnbenchError, nearest

Task = Literal["multiclass", "binary", "multilabel", "regression"]
TASKS = get_args(Task)
CALIBRATION = "calibration"  # name of the split
SEVERAL = ("multiclass", "multilabel")  # tasks with an output for each name
PIECE_VALUES = 2**24  # 64 MB as float32
BLOCK_VALUES = 2**18  # checked together; blocks that fit the processor's cache are several times faster


@dataclass(frozen=True)
class Rows:
    """Some rows of a memory-mapped array, read only when asked for; indexing an array would copy them all.

    Attributes:
        base: the whole array.
        indices: of the rows.
        digests: of the content behind every row of `base`, if known: equal rows are then found without
            reading one.
    """

    base: np.ndarray
    indices: np.ndarray
    digests: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.indices), *self.base.shape[1:])

    @property
    def ndim(self) -> int:
        return self.base.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.base.dtype

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        _refuse_cut(self.base)
        rows = np.asarray(self.base[self.indices[key]])
        _unmap_pages(self.base)
        return rows

    def take(self, indices: np.ndarray) -> Rows:
        return Rows(self.base, self.indices[indices], self.digests)


def _refuse_cut(base: np.ndarray) -> None:
    """Refuse a mapped file that was cut: reading beyond its end kills the process without a word."""
    if not isinstance(base, np.memmap) or base.filename is None:
        return
    try:
        size = os.stat(base.filename).st_size  # noqa: PTH116  for every batch, and a Path is slow to make
    except OSError:  # removed: what is mapped stays until the last reader ends
        return
    if size < base.offset + base.nbytes:
        raise CnnbenchError(
            f"{base.filename} has been cut to {size:,} bytes while it was read",
            "is another program writing there, or is the disk full? run again: it is made anew",
        )


def _unmap_pages(base: np.ndarray) -> None:
    """Give the pages that were read back to the system, which counts them as this process's memory."""
    mapped = getattr(base, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


Examples = np.ndarray | Rows


@dataclass(frozen=True)
class Split:
    """Examples and their targets, in the same order.

    Attributes:
        x: images ``(n, height, width, channels)`` uint8, or features ``(n, columns)`` float32. Images in
            files are `Rows` of a memory-mapped array; both have `len`, `shape`, `dtype` and indexing.
        y: ``(n,)`` class indices (any integer type); ``(n, labels)`` uint8, 1 for each label that an example
            has; or, for regression, ``(n,)`` or ``(n, targets)`` float32 values.
        groups: ``(n,)`` integers; examples of one group (a patient, a camera) never lie in two splits.
        weights: ``(n,)`` float32, how much an example counts in the training.
        names: of the files or rows that the examples come from.
        order: ``(n,)`` values that can be compared, such as times; the last of them are held out.
    """

    x: Examples
    y: np.ndarray
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None
    names: Sequence[str] | None = None
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def digests(self) -> list[bytes] | None:
        """A digest of each example; None of examples in a mapped file for which none are known."""
        if isinstance(self.x, np.ndarray):
            return [hashlib.sha256(example.tobytes()).digest() for example in self.x]
        return None if self.x.digests is None else list(self.x.digests[self.x.indices].tolist())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of examples and targets; if digests of the content are known, no example is read."""
        digest = hashlib.sha256(f"{self.x.shape} {self.x.dtype} {self.y.dtype}".encode())
        if isinstance(self.x, Rows) and self.x.digests is not None:
            digest.update(np.ascontiguousarray(self.x.digests[self.x.indices]).data)
            digest.update(np.ascontiguousarray(self.y).data)
            self._add_groups_and_weights(digest)
        else:
            self.add_bytes(digest)
        return digest.hexdigest()

    def add_bytes(self, digest: hashlib._Hash) -> None:
        """Update `digest` with the bytes of all examples, then of the targets and what else is known."""
        for values in chain(self.pieces(), [self.y]):
            digest.update(np.ascontiguousarray(values).data)
        self._add_groups_and_weights(digest)

    def _add_groups_and_weights(self, digest: hashlib._Hash) -> None:
        for values in (self.groups, self.weights):
            if values is not None:
                digest.update(np.ascontiguousarray(values).data)

    def take(self, indices: np.ndarray) -> Split:
        taken = Split(
            self.x.take(indices) if isinstance(self.x, Rows) else self.x[indices],
            self.y[indices],
            None if self.groups is None else self.groups[indices],
            None if self.weights is None else self.weights[indices],
            None if self.names is None else [self.names[index] for index in indices],
            None if self.order is None else self.order[indices],
        )
        if (known := self.__dict__.get("digests")) is not None:  # no example is read twice
            taken.__dict__["digests"] = [known[index] for index in indices]
        return taken

    def pieces(self, size: int = 2048, most: int | None = None) -> Iterator[np.ndarray]:
        """Yield the examples, at most `size` at a time and fewer if they are large, to bound the memory.

        With `most`, yield at most so many pieces, evenly spread.
        """
        size = max(1, min(size, PIECE_VALUES // math.prod(self.x.shape[1:])))
        starts = range(0, len(self), size)
        for start in starts[:: -(-len(starts) // most)] if most else starts:
            yield self.x[start : start + size]


class Fact(str):
    """A note that says what was found or chosen, and warns of nothing."""

    __slots__ = ()


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: in the file.
        categories: texts in the order of their codes; empty for numbers.
    """

    name: str
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """One data set, ready to be split and fed.

    Attributes:
        name: for summaries and figures.
        task: ``multiclass`` (class indices, one output per class), ``binary`` (0 or 1, one output),
            ``multilabel`` (0 or 1 for each label, one output per label) or ``regression`` (one output per
            target).
        train: for learning.
        test: for the final figures, after the training.
        val: for choosing the best epoch; None lets the run draw it from ``train``.
        calibration: the part of a validation split that chooses nothing but the size of sets that keep a
            promise; None without such sets.
        class_names: in the order of the class indices, or of the labels; empty for regression. The second of
            two classes is the positive one.
        notes: one line for each thing the user should know, such as an unreadable file; a `Fact` is no
            warning.
        bits: depth at which pictures with 16 bits a value were read; None without such pictures.
        files: a digest of each file's content by its name, if every example is a file.
        target_names: of a regression, in the order of the targets; may be empty.
        columns: of a table; its examples may then lack values, which are NaN, and a category is its code.
        places: of the examples by their names, where each is a file of its own.
        uncorrected: the fingerprint of each split before `dataset.fixes`; empty without fixes.

    Raises:
        CnnbenchError: it cannot be trained on or measured (see `refuse`).
    """

    name: str
    task: Task
    train: Split
    test: Split
    val: Split | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bits: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    target_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    places: Mapping[str, Path] = field(default_factory=dict)
    uncorrected: Mapping[str, str] = field(default_factory=dict)
    calibration: Split | None = None

    def __post_init__(self) -> None:
        optional = {"val": self.val, CALIBRATION: self.calibration}
        for name, split in {"train": self.train, **optional, "test": self.test}.items():
            if not isinstance(split, Split) and not (name in optional and split is None):
                raise CnnbenchError(f"{self.name}: {name} is a {type(split).__name__}, not a Split(x, y)")
        refuse(self)

    @property
    def splits(self) -> dict[str, Split]:
        """The existing splits by name, in the order train, val, calibration, test."""
        named = {"train": self.train, "val": self.val, CALIBRATION: self.calibration, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.train.x.shape[1:]

    @property
    def outputs(self) -> int:
        """Width of the model's last layer: one per class, label or target, and 1 for binary."""
        if self.task in ("multiclass", "multilabel"):
            return len(self.class_names)
        return 1 if self.train.y.ndim == 1 else self.train.y.shape[1]

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of a regression's targets, `target_1` and so on where it has none; of classes none."""
        if self.task != "regression" or self.target_names:
            return self.target_names
        return tuple(f"target_{number + 1}" for number in range(self.outputs))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every split's shapes, types and bytes."""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            digest.update(f"{name} {split.x.shape} {split.x.dtype} {split.y.dtype}".encode())
            split.add_bytes(digest)
        return digest.hexdigest()


def listed(items: Sequence[str], most: int = 3, separator: str = ", ") -> str:
    """Return the first `most` items, and how many more there are."""
    shown = separator.join(items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown


# -- Refusals --------------------------------------------------------------------------------------


def refuse(dataset: Dataset) -> None:
    """Refuse a data set that cannot be trained on or measured.

    Images in bytes are not read: each of their values is valid.

    Raises:
        CnnbenchError: for the first thing that is wrong, with the split and the example.
    """
    if dataset.task not in TASKS:
        raise CnnbenchError(
            f"{dataset.name}: there is no task {dataset.task!r}", nearest(dataset.task, TASKS)
        )
    _refuse_class_names(dataset)
    for name, split in dataset.splits.items():
        where = f"{dataset.name}: {name}"
        _refuse_type(where, split)
        _refuse_form(where, split, dataset)
        _refuse_target_names(dataset)
        _refuse_other_examples(where, split, dataset.train)
        if dataset.task == "regression":
            _refuse_targets(where, split.y)
        else:
            _refuse_labels(where, split.y, 2 if dataset.task == "multilabel" else len(dataset.class_names))
        _refuse_weights(where, split)
        _refuse_inputs(where, split, may_lack_values=bool(dataset.columns))
    _refuse_torn_groups(dataset)


def _refuse_torn_groups(dataset: Dataset) -> None:
    """Refuse a group in two splits, which would make the figures too good."""
    for (one, first), (other, second) in combinations(dataset.splits.items(), 2):
        if first.groups is None or second.groups is None:
            continue
        torn = np.intersect1d(first.groups, second.groups)
        if len(torn):
            pair = [
                f"example {row}" if split.names is None else split.names[row]
                for split in (first, second)
                for row in np.flatnonzero(split.groups == torn[0])[:1]
            ]
            raise CnnbenchError(
                f"{dataset.name}: groups in both {one} and {other}: {len(torn):,}; {pair[0]} of {one} and "
                f"{pair[1]} of {other} belong together",
                f"put each group whole into one split: the figures on {other} would be too good",
            )


def _refuse_class_names(dataset: Dataset) -> None:
    names = len(dataset.class_names)
    if (dataset.task == "binary" and names != 2) or (dataset.task in SEVERAL and names < 2):
        wanted = "2" if dataset.task == "binary" else "2 or more"
        raise CnnbenchError(
            f"{dataset.name}: a {dataset.task} task needs {wanted} class_names, there are {names}",
            "give one for each class, in the order of the indices",
        )
    if len(set(dataset.class_names)) < names:
        twice = next(name for name in dataset.class_names if dataset.class_names.count(name) > 1)
        raise CnnbenchError(
            f"{dataset.name}: two classes have the same name, {twice}", "give each a name of its own"
        )


def _refuse_target_names(dataset: Dataset) -> None:
    names = len(dataset.target_names)
    if names and names != dataset.outputs:
        raise CnnbenchError(
            f"{dataset.name}: {names} target_names for {dataset.outputs} targets",
            "give one for each, in the order of the columns of y",
        )


def _refuse_type(where: str, split: Split) -> None:
    for what, values in (("inputs", split.x), ("targets", split.y)):
        if not isinstance(getattr(values, "dtype", None), np.dtype):
            raise CnnbenchError(
                f"{where} {what} are a {type(values).__name__}, not a numpy array", "np.asarray(…) makes one"
            )
        # longdouble and complex numbers are known to numpy alone.
        if values.dtype.kind not in "buif" or values.dtype.itemsize > 8:
            raise CnnbenchError(
                f"{where} {what} are of the type {values.dtype}, which is no number that can be trained with",
                "convert them: inputs to float32 (images to uint8), class indices to int64",
            )


def _refuse_form(where: str, split: Split, dataset: Dataset) -> None:
    x, y = split.x.shape, split.y.shape
    if len(x) < 2 or 0 in x[1:]:
        raise CnnbenchError(
            f"{where} inputs have the shape {x}: not one row of values for each example",
            "(examples, columns), or (examples, height, width, channels) for images",
        )
    _refuse_target_form(where, y, dataset)
    if x[0] != y[0]:
        raise CnnbenchError(f"{where} has {x[0]:,} examples but {y[0]:,} targets")
    if x[0] == 0:
        raise CnnbenchError(f"{where} is empty: this split needs an example at least")
    for what in ("groups", "weights", "names", "order"):
        values = getattr(split, what)
        if values is not None and len(values) != x[0]:
            raise CnnbenchError(f"{where} has {x[0]:,} examples but {len(values):,} {what}")


def _refuse_target_form(where: str, y: tuple[int, ...], dataset: Dataset) -> None:
    if dataset.task == "multilabel":
        if len(y) != 2 or y[1] != len(dataset.class_names):
            names = len(dataset.class_names)
            raise CnnbenchError(
                f"{where} targets have the shape {y}, not (examples, {names}): 0 or 1 a label"
            )
    elif dataset.task == "regression" and len(y) == 2 and y[1] > 1:
        if y[1] != dataset.outputs:
            raise CnnbenchError(f"{where} has {y[1]} targets for each example, train has {dataset.outputs}")
    elif len(y) != 1:
        hint = "y.reshape(-1) drops the second axis"
        if dataset.task != "regression":
            hint = "class indices are wanted: y.argmax(axis=1) of one-hot rows, y.reshape(-1) of (n, 1)"
        raise CnnbenchError(f"{where} targets have the shape {y}, not one value for each example", hint)


def _refuse_other_examples(where: str, split: Split, train: Split) -> None:
    if split.x.shape[1:] != train.x.shape[1:]:
        raise CnnbenchError(f"{where} examples have shape {split.x.shape[1:]}, train has {train.x.shape[1:]}")
    if (split.x.dtype.kind == "f") != (train.x.dtype.kind == "f"):
        raise CnnbenchError(
            f"{where} inputs are {split.x.dtype}, those of train {train.x.dtype}: probably one is scaled "
            f"and the other is not",
            "give every split the same type and range",
        )


def _refuse_labels(where: str, y: np.ndarray, classes: int) -> None:
    right = (y >= 0) & (y < classes)  # NaN is neither
    if y.dtype.kind == "f":
        right &= y == np.floor(y)
    if right.all():
        return
    if y.ndim == 2:
        example, label = (int(axis[0]) for axis in np.nonzero(~right))
        raise CnnbenchError(f"{where} label {label} of example {example} is {y[example, label]}, not 0 or 1")
    first, count = int(np.argmin(right)), int(np.count_nonzero(~right))
    more = f"; {count:,} of {len(y):,} labels are none of them" if count > 1 else ""
    from_one = y.dtype.kind != "f" and y.min() == 1 and y.max() == classes
    raise CnnbenchError(
        f"{where} label of example {first} is {y[first]}, but the {classes} classes are 0 to "
        f"{classes - 1}{more}",
        "they seem to begin at 1: subtract 1" if from_one else "a label is an index into class_names",
    )


def _refuse_targets(where: str, y: np.ndarray) -> None:
    bad = np.flatnonzero(~_finite(y).reshape(len(y), -1).all(axis=1))
    if len(bad):
        raise CnnbenchError(
            f"{where}: {len(bad):,} of {len(y):,} targets are NaN or infinite, the first of example {bad[0]} "
            f"({y[bad[0]]})",
            "leave these examples out",
        )


def _refuse_weights(where: str, split: Split) -> None:
    if split.weights is None:
        return
    bad = np.flatnonzero(~(np.isfinite(split.weights) & (split.weights >= 0)))
    if len(bad):
        raise CnnbenchError(
            f"{where}: {len(bad):,} of {len(split):,} weights are negative, NaN or infinite, the first of "
            f"example {bad[0]} ({split.weights[bad[0]]})",
            "a weight says how much an example counts in the training: 0 or more",
        )
    if not split.weights.any():
        raise CnnbenchError(f"{where}: all weights are 0, so no example counts", "leave the weights out")


def _refuse_inputs(where: str, split: Split, may_lack_values: bool) -> None:
    if split.x.dtype.kind != "f":
        return
    size = max(1, BLOCK_VALUES // math.prod(split.x.shape[1:]))

    def right(values: np.ndarray) -> np.ndarray:
        return _finite(values) | np.isnan(values) if may_lack_values else _finite(values)

    finite = [right(piece).reshape(len(piece), -1).all(axis=1) for piece in split.pieces(size)]
    bad = np.flatnonzero(~np.concatenate(finite))
    if len(bad):
        example = np.asarray(split.x[bad[0]])
        at = tuple(int(axis[0]) for axis in np.nonzero(~right(example)))
        place = f"column {at[0]}" if len(at) == 1 else f"at {at}"
        raise CnnbenchError(
            f"{where}: {len(bad):,} of {len(split):,} examples have inputs that are NaN or infinite, "
            f"the first is example {bad[0]} ({place}: {example[at]})",
            "fill them or leave these examples out",
        )


def _finite(values: np.ndarray) -> np.ndarray:
    """Tell which values are finite as float32, the type they are trained with."""
    with np.errstate(over="ignore"):
        return np.asarray(np.isfinite(values.astype(np.float32, copy=False)))
