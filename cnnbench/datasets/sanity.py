"""What a data set must be for a figure on it to mean anything. Refusals, for every source alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.errors import CnnbenchError, nearest

if TYPE_CHECKING:
    from cnnbench.datasets.core import Dataset, Split

TASKS = ("multiclass", "binary", "regression")
BLOCK_VALUES = 2**18  # looked at together: what stays in the processor's cache is several times faster


def refuse(dataset: Dataset) -> None:
    """Refuse what cannot be trained or measured.

    Images in bytes are not looked at: each of their values is one. So a mapped folder is not read.

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
        _refuse_form(where, split, dataset.task)
        _refuse_other_examples(where, split, dataset.train)
        if dataset.task == "regression":
            _refuse_targets(where, split.y)
        else:
            _refuse_labels(where, split.y, len(dataset.class_names))
        _refuse_inputs(where, split)


def _refuse_class_names(dataset: Dataset) -> None:
    names = len(dataset.class_names)
    if (dataset.task == "binary" and names != 2) or (dataset.task == "multiclass" and names < 2):
        wanted = "2" if dataset.task == "binary" else "2 or more"
        raise CnnbenchError(
            f"{dataset.name}: a {dataset.task} task needs {wanted} class_names, there are {names}",
            "give one for each class, in the order of the indices",
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


def _refuse_form(where: str, split: Split, task: str) -> None:
    x, y = split.x.shape, split.y.shape
    if len(x) < 2 or 0 in x[1:]:
        raise CnnbenchError(
            f"{where} inputs have the shape {x}: not one row of values for each example",
            "(examples, columns), or (examples, height, width, channels) for images",
        )
    if len(y) != 1:
        hint = "y.reshape(-1) drops the second axis"
        if task != "regression":
            hint = "class indices are wanted: y.argmax(axis=1) of one-hot rows, y.reshape(-1) of (n, 1)"
        raise CnnbenchError(f"{where} targets have the shape {y}, not one value for each example", hint)
    if x[0] != y[0]:
        raise CnnbenchError(f"{where} has {x[0]:,} examples but {y[0]:,} targets")
    if x[0] == 0:
        raise CnnbenchError(f"{where} is empty: this split needs an example at least")


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
    first, count = int(np.argmin(right)), int(np.count_nonzero(~right))
    more = f"; {count:,} of {len(y):,} labels are none of them" if count > 1 else ""
    from_one = y.dtype.kind != "f" and y.min() == 1 and y.max() == classes
    raise CnnbenchError(
        f"{where} label of example {first} is {y[first]}, but the {classes} classes are 0 to "
        f"{classes - 1}{more}",
        "they seem to begin at 1: subtract 1" if from_one else "a label is an index into class_names",
    )


def _refuse_targets(where: str, y: np.ndarray) -> None:
    bad = np.flatnonzero(~_finite(y))
    if len(bad):
        raise CnnbenchError(
            f"{where}: {len(bad):,} of {len(y):,} targets are NaN or infinite, the first of example {bad[0]} "
            f"({y[bad[0]]})",
            "leave these examples out",
        )


def _refuse_inputs(where: str, split: Split) -> None:
    if split.x.dtype.kind != "f":
        return
    bad: list[int] = []
    first = 0
    for piece in split.pieces(max(1, BLOCK_VALUES // math.prod(split.x.shape[1:]))):
        finite = _finite(piece)
        if not finite.all():
            rows = np.flatnonzero(~finite.reshape(len(piece), -1).all(axis=1))
            bad += (rows + first).tolist()
        first += len(piece)
    if bad:
        example = np.asarray(split.x[bad[0]])
        at = tuple(int(axis[0]) for axis in np.nonzero(~_finite(example)))
        place = f"column {at[0]}" if len(at) == 1 else f"at {at}"
        raise CnnbenchError(
            f"{where}: {len(bad):,} of {len(split):,} examples have inputs that are NaN or infinite, "
            f"the first is example {bad[0]} ({place}: {example[at]})",
            "fill them or leave these examples out",
        )


def _finite(values: np.ndarray) -> np.ndarray:
    """Where values are finite as float32, in which they are trained with."""
    with np.errstate(over="ignore"):
        return np.asarray(np.isfinite(values.astype(np.float32, copy=False)))
