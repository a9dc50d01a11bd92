"""What the user should know of the data before a training: nothing to learn, little to measure by."""

from __future__ import annotations

import numpy as np

from cnnbench.datasets.core import Dataset, Split
from cnnbench.errors import CnnbenchError

FEW = 50  # validation examples: below, one of them is worth more than two per cent of accuracy
NAMED = 5  # classes or columns that one line names
AT_ONCE = 256  # examples compared with the first; usually the first of these differ


def remarks(dataset: Dataset, batch_size: int) -> list[str]:
    """One line for each thing that makes the figures of a run say less than they seem to.

    Args:
        dataset: with the splits that the run uses.
        batch_size: examples per step.

    Raises:
        CnnbenchError: every training example has the same target, so that there is nothing to learn.
    """
    about_targets = _values(dataset) if dataset.task == "regression" else _classes(dataset)
    return [*about_targets, *_inputs(dataset), *_steps(dataset, batch_size)]


def _values(dataset: Dataset) -> list[str]:
    found = []
    for name, split in dataset.splits.items():
        if split.y.min() < split.y.max():
            continue
        same = f"all {len(split):,} {name} targets are {split.y[0]:g}"
        if name == "train":
            raise CnnbenchError(
                f"{dataset.name}: {same}, so there is nothing to learn", _check_hint("targets")
            )
        found.append(f"{dataset.name}: {same}, so {name}_r2 means nothing")
    return found


def _classes(dataset: Dataset) -> list[str]:
    present = {name: np.unique(split.y).astype(int) for name, split in dataset.splits.items()}
    if len(present["train"]) == 1:
        raise CnnbenchError(
            f"{dataset.name}: all {len(dataset.train):,} train examples are of the class "
            f"{dataset.class_names[present['train'][0]]}, so there is nothing to tell apart",
            _check_hint("labels"),
        )
    found = []
    strange = {name: np.setdiff1d(classes, present["train"]) for name, classes in present.items()}
    if splits := [name for name, classes in strange.items() if len(classes)]:
        classes = np.unique(np.concatenate(list(strange.values())))
        names = _named([dataset.class_names[index] for index in classes])
        found.append(
            f"{dataset.name}: classes of {' and '.join(splits)} without an example in train, so never "
            f"learnt: {names}"
        )
    for name, classes in present.items():
        if len(classes) == 1:  # only val and test get here
            found.append(
                f"{dataset.name}: all {len(dataset.splits[name]):,} {name} examples are of the class "
                f"{dataset.class_names[classes[0]]}, so {name}_accuracy says nothing about the others"
            )
    val = dataset.val
    if val is not None and len(val) < FEW and len(present["val"]) > 1:
        found.append(
            f"{dataset.name}: with {len(val)} val examples val_accuracy moves in steps of "
            f"{1 / len(val):.2g}, so the best epoch is partly chance"
        )
    return found


def _inputs(dataset: Dataset) -> list[str]:
    if equal := [name for name, split in dataset.splits.items() if len(split) > 1 and _all_equal(split)]:
        return [f"{dataset.name}: all inputs of {' and '.join(equal)} are equal"]
    train, axes = dataset.train, dataset.train.x.ndim
    if axes == 2 and len(constant := _constant_columns(train)):
        columns = _named([str(index) for index in constant])
        return [f"{dataset.name}: columns that never change in train, so without information: {columns}"]
    is_float = train.x.dtype.kind == "f"
    if axes == 4 and is_float and max(float(piece.max()) for piece in train.pieces()) <= 1:
        return [
            f"{dataset.name}: pixels are {train.x.dtype} up to 1; models with normalization=false, and "
            f"pretrained ones, expect 0 to 255"
        ]
    return []


def _constant_columns(split: Split) -> np.ndarray:
    same = np.full(split.x.shape[1], len(split) > 1)
    for piece in split.pieces():
        same &= (piece == split.x[0]).all(axis=0)
    return np.flatnonzero(same)


def _all_equal(split: Split) -> bool:
    first = split.x[0]
    return all((piece == first).all() for piece in split.pieces(AT_ONCE))


def _steps(dataset: Dataset, batch_size: int) -> list[str]:
    examples = len(dataset.train)
    if batch_size <= examples:
        return []
    size = f"training.batch_size={batch_size}"
    return [f"one step per epoch: {size} is larger than the {examples:,} training examples"]


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def _check_hint(what: str) -> str:
    return f"check the {what}; or, where training.examples or a fraction left too few, use more examples"
