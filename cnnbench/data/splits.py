"""The splits of a run, drawn from those of a data set, and remarks about them."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

from cnnbench.data.dataset import Dataset, Split, listed
from cnnbench.errors import CnnbenchError

FEW = 50  # validation examples; with fewer, each is worth more than two per cent of accuracy
NAMED = 5  # classes or columns that one line names
AT_ONCE = 256  # examples compared with the first at a time; usually one of the first 256 differs


def with_validation(dataset: Dataset, fraction: float, examples: int | None, seed: int) -> Dataset:
    """Shorten the training split to `examples`, and draw a validation split from it unless there is one.

    Both draws are stratified by class where every class has two examples or more.

    Raises:
        CnnbenchError: `dataset` is no `Dataset`, or nothing is left on one side.
    """
    from sklearn.model_selection import train_test_split

    if not isinstance(dataset, Dataset):  # of a user's own function
        raise CnnbenchError(
            f"the function of the data set gave a {type(dataset).__name__}",
            "it must return a cnnbench.data.dataset.Dataset",
        )
    train = dataset.train

    def drawn(second: int) -> list[np.ndarray]:
        """Return the rows of both parts, the second of that size."""
        counts = np.unique(train.y, return_counts=True)[1]
        is_stratified = (
            dataset.task in ("binary", "multiclass")
            and counts.min() > 1
            and len(counts) <= min(second, len(train) - second)
        )
        rows = np.arange(len(train))
        stratify = train.y if is_stratified else None
        return list(train_test_split(rows, test_size=second, random_state=seed, stratify=stratify))

    if examples is not None and examples < len(train):
        train = train.take(drawn(len(train) - examples)[0])
    if dataset.val is not None or fraction == 0:
        return replace(dataset, train=train)
    held = math.ceil(fraction * len(train))
    if round(fraction * len(train)) < 1 or held == len(train):
        side, change = ("training", "smaller") if held == len(train) else ("validation", "larger")
        raise CnnbenchError(
            f"training.validation_fraction={fraction} of {len(train)} examples leaves none for {side}",
            f"use a {change} fraction",
        )
    fit, held_out = drawn(held)
    return replace(dataset, train=train.take(np.sort(fit)), val=train.take(np.sort(held_out)))


def task_in_words(dataset: Dataset) -> str:
    """Say what is learnt: how many classes or labels, which is the positive one, or which values."""
    names, train = dataset.class_names, dataset.train
    if dataset.task == "regression":
        of = f" of {listed(dataset.target_names, NAMED)}" if dataset.target_names else ""
        return f"regression{of}" if of or dataset.outputs == 1 else f"regression of {dataset.outputs} targets"
    if dataset.task == "binary":
        return f"binary: {names[0]} or {names[1]}; precision, recall and f1 are of {names[1]}"
    if dataset.task == "multilabel":
        return f"multilabel: {len(names)} labels, {train.y.sum() / len(train):.2g} of them an example"
    return f"multiclass: {len(names)} classes"


def leaks(dataset: Dataset) -> list[str]:
    """Return a line for each pair of splits that share examples, and one for equal examples of two labels.

    Examples are compared by content; images in a mapped file by the digests of their files, without reading.
    """
    digests = {
        name: found for name, split in dataset.splits.items() if (found := _digests(split)) is not None
    }
    seen = {name: set(values) for name, values in digests.items()}
    shared = []
    for first, second in (("train", "test"), ("val", "test"), ("train", "val")):
        if first in seen and second in seen:
            count = sum(digest in seen[first] for digest in digests[second])
            if count:
                share = f"{count:,} of {len(digests[second]):,} {second} examples"
                shared.append(f"{dataset.name}: {share} are also in {first}")
    return shared + _contradictions(dataset, digests)


def _digests(split: Split) -> list[bytes] | None:
    if isinstance(split.x, np.ndarray):
        return [hashlib.sha256(example.tobytes()).digest() for example in split.x]
    known = split.x.digests
    return None if known is None else list(known[split.x.indices].tolist())


def _contradictions(dataset: Dataset, digests: dict[str, list[bytes]]) -> list[str]:
    """Return a line about equal inputs with different labels, over all splits; none for regression."""
    if dataset.task == "regression":
        return []
    labels: dict[bytes, set[Any]] = defaultdict(set)
    for name, values in digests.items():
        split = dataset.splits[name]
        if isinstance(split.x, np.ndarray):  # an image folder names such files itself
            for digest, label in zip(values, split.y.tolist(), strict=True):
                labels[digest].add(tuple(label) if isinstance(label, list) else int(label))
    torn = [sorted(several) for several in labels.values() if len(several) > 1]
    if not torn:
        return []
    found = f"{dataset.name}: equal inputs with different labels: {len(torn):,}"
    if dataset.task == "multilabel":
        return [found]
    return [f"{found}; one is both {' and '.join(dataset.class_names[label] for label in torn[0][:2])}"]


def example_weights(dataset: Dataset, balanced: bool) -> np.ndarray | None:
    """Return how much each training example counts, ``(n,)`` float32: its own weight, times its class's.

    Args:
        dataset: with the splits that the run uses.
        balanced: weigh each class by examples / (classes × examples of the class).

    Returns:
        None where all count alike; the weights of labels are of `label_weights`.

    Raises:
        CnnbenchError: classes are to be balanced, and the task is regression.
    """
    from sklearn.utils.class_weight import compute_sample_weight

    train = dataset.train
    if balanced and dataset.task == "regression":
        raise CnnbenchError(
            "training.class_weight is for classes, but this task is regression", "set it to null"
        )
    own = None if train.weights is None else train.weights.astype(np.float32)
    if not balanced or dataset.task == "multilabel":
        return own
    weights: np.ndarray = compute_sample_weight("balanced", train.y).astype(np.float32)
    return weights if own is None else weights * own


def label_weights(dataset: Dataset) -> np.ndarray:
    """Return how much it counts that an example lacks or has a label, ``(labels, 2)`` float32.

    Both sides of a label count the same in all: n / (2 × examples of that side). A label that all training
    examples have, or none, counts as it is.
    """
    y = dataset.train.y
    having = y.sum(axis=0, dtype=np.int64)
    counts = np.stack([len(y) - having, having], axis=1)
    weights = len(y) / (2 * np.maximum(counts, 1))
    return np.where(counts.min(axis=1, keepdims=True) > 0, weights, 1.0).astype(np.float32)


# -- Remarks ---------------------------------------------------------------------------------------


def remarks(dataset: Dataset, batch_size: int) -> list[str]:
    """Return one line for each thing that makes the figures of a run say less than they seem to.

    Args:
        dataset: with the splits that the run uses.
        batch_size: examples per step.

    Raises:
        CnnbenchError: every training example has the same target.
    """
    of_task = {"regression": _values, "multilabel": _labels}
    found = of_task.get(dataset.task, _classes)(dataset)
    found += _inputs(dataset)
    examples = len(dataset.train)
    if batch_size > examples:
        size = f"training.batch_size={batch_size}"
        found.append(f"one step per epoch: {size} is larger than the {examples:,} training examples")
    return found


def _values(dataset: Dataset) -> list[str]:
    found = []
    for name, split in dataset.splits.items():
        y = split.y.reshape(len(split), -1)
        constant = np.flatnonzero(y.min(axis=0) == y.max(axis=0))
        for index in constant[:NAMED]:
            of = f" of {dataset.target_names[index]}" if dataset.target_names and y.shape[1] > 1 else ""
            same = f"all {len(split):,} {name} targets{of} are {y[0, index]:g}"
            if name == "train":
                raise CnnbenchError(
                    f"{dataset.name}: {same}, so there is nothing to learn", _check_hint("targets")
                )
            found.append(f"{dataset.name}: {same}, so {name}_r2 means nothing")
    return found


def _labels(dataset: Dataset) -> list[str]:
    """Return lines about labels that all examples of a split have, or none."""
    y, names = dataset.train.y, dataset.class_names
    same = y.min(axis=0) == y.max(axis=0)
    if same.all():
        raise CnnbenchError(
            f"{dataset.name}: all {len(y):,} train examples have the same labels: there is nothing to learn",
            _check_hint("labels"),
        )
    found = []
    for split, part in dataset.splits.items():
        for what, which in (("no", ~part.y.any(axis=0)), ("every", part.y.all(axis=0))):
            if which.any():
                labels = listed([names[index] for index in np.flatnonzero(which)], NAMED)
                so = "never learnt" if split == "train" else f"not in {split}_mean_average_precision"
                so = so if what == "no" else "nothing to tell apart"
                found.append(f"{dataset.name}: labels that {what} {split} example has, so {so}: {labels}")
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
        names = listed([dataset.class_names[index] for index in classes], NAMED)
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
        columns = listed([str(index) for index in constant], NAMED)
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


def _check_hint(what: str) -> str:
    return f"check the {what}; or, where training.examples or a fraction left too few, use more examples"
