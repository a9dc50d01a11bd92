"""What a data set is to the rest of the program."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from cnnbench.datasets.sanity import refuse
from cnnbench.errors import CnnbenchError

Task = Literal["multiclass", "binary", "regression"]
PIECE_VALUES = 2**24  # 64 MB as float32


@dataclass(frozen=True)
class Rows:
    """Some rows of a memory-mapped array, read when they are asked for and not before.

    Indexing an array copies; of a folder of images that would be all of it.

    Attributes:
        base: the whole array.
        indices: of the rows.
        digests: of the content behind every row of `base`, where somebody knows them: equal rows are then
            found without reading one.
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
    """Look whether a mapped file is still whole: reading beyond its end kills the process without a word."""
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
    """Leave what was read to the system's cache: mapped pages count as this process's memory, to the last."""
    mapped = getattr(base, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)


Examples = np.ndarray | Rows


@dataclass(frozen=True)
class Split:
    """Examples and their targets, in the same order.

    Attributes:
        x: images ``(n, height, width, channels)`` uint8, or features ``(n, columns)`` float32. Images that
            lie in a file are `Rows` of a memory-mapped array; both know `len`, `shape`, `dtype` and indexing.
        y: ``(n,)``; class indices (any integer type) or, for regression, float32 values.
    """

    x: Examples
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: np.ndarray) -> Split:
        if isinstance(self.x, Rows):
            return Split(self.x.take(indices), self.y[indices])
        return Split(self.x[indices], self.y[indices])

    def pieces(self, size: int = 2048, most: int | None = None) -> Iterator[np.ndarray]:
        """The examples, `size` at a time or fewer if they are large: never more of a mapped file in memory.

        With `most` so many pieces at most, evenly spread.
        """
        size = max(1, min(size, PIECE_VALUES // math.prod(self.x.shape[1:])))
        starts = range(0, len(self), size)
        for start in starts[:: -(-len(starts) // most)] if most else starts:
            yield self.x[start : start + size]


@dataclass(frozen=True)
class Dataset:
    """One data set, ready to be split and fed.

    Attributes:
        name: for summaries and figures.
        task: ``multiclass`` (class indices, one output per class), ``binary`` (0 or 1, one output)
            or ``regression`` (one output).
        train: what may be learnt from.
        test: used once, after the training.
        val: for choosing the best epoch; None lets the run draw it from ``train``.
        class_names: in the order of the class indices; empty for regression.
        notes: one line for each thing the user should know (a file that could not be read, …).

    Raises:
        CnnbenchError: when it is made of what cannot be trained or measured (see `sanity.refuse`).
    """

    name: str
    task: Task
    train: Split
    test: Split
    val: Split | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, split in (("train", self.train), ("val", self.val), ("test", self.test)):
            if not isinstance(split, Split) and not (name == "val" and split is None):
                raise CnnbenchError(f"{self.name}: {name} is a {type(split).__name__}, not a Split(x, y)")
        refuse(self)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits there are, by name, in the order train, val, test."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.train.x.shape[1:]

    @property
    def outputs(self) -> int:
        """Width of the model's last layer: one per class, or 1 for binary and regression."""
        return len(self.class_names) if self.task == "multiclass" else 1

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every split's shapes, types and bytes: two equal data sets have equal ones."""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            digest.update(f"{name} {split.x.shape} {split.x.dtype} {split.y.dtype}".encode())
            for piece in split.pieces():
                digest.update(np.ascontiguousarray(piece).data)
            digest.update(np.ascontiguousarray(split.y).data)
        return digest.hexdigest()
