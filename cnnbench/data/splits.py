"""The splits of a run, drawn from those of a data set, and remarks about them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from cnnbench.data.dataset import CALIBRATION, Dataset, Fact, Split, Task, listed
from cnnbench.data.hashes import saved_again
from cnnbench.data.partition import TooFewError, draw, folds, hold_out_last, keep_together
from cnnbench.errors import CnnbenchError

FEW = 50  # validation examples; with fewer, each is worth more than two per cent of accuracy
NAMED = 5  # classes or columns that one line names
HASHED, LEAST_SIDE = 10_000, 16  # pictures that every run compares, in a second or two; pixels
AT_ONCE = 256  # examples compared with the first at a time; usually one of the first 256 differs


def with_validation(dataset: Dataset, fraction: float, examples: int | None, seed: int) -> Dataset:
    """Shorten the training split to `examples`, and draw a validation split from it unless there is one.

    Both draws are stratified by class or label where every class has two examples or more. A group lies whole
    on one side of the second, equal pictures together; examples with an order are held out from its end.

    Raises:
        CnnbenchError: `dataset` is no `Dataset`, or nothing is left on one side.
    """
    if not isinstance(dataset, Dataset):  # of a user's own function
        raise CnnbenchError(
            f"the function of the data set gave a {type(dataset).__name__}",
            "it must return a cnnbench.data.dataset.Dataset",
        )
    train = dataset.train
    if examples is not None and examples < len(train):
        train = train.take(draw(train.y, dataset.task, len(train) - examples, seed)[0])
    if dataset.val is not None or fraction == 0:
        return _counted(replace(dataset, train=train))
    held = math.ceil(fraction * len(train))
    if round(fraction * len(train)) < 1 or held == len(train):
        side, change = ("training", "smaller") if held == len(train) else ("validation", "larger")
        raise CnnbenchError(
            f"training.validation_fraction={fraction} of {len(train)} examples leaves none for {side}",
            f"use a {change} fraction",
        )
    try:
        fit_part, held_part, told = _parted(dataset.name, train, dataset.task, held, seed, "val or train")
    except TooFewError as error:
        what = "all training examples have one order" if train.order is not None else "there is one group"
        raise CnnbenchError(
            f"{dataset.name}: {what}, so none can be held out for validation",
            "training.validation_fraction=0 trains without",
        ) from error
    return _counted(replace(dataset, train=fit_part, val=held_part, notes=(*dataset.notes, *told)))


def _parted(
    name: str, split: Split, task: Task, held: int, seed: int, sides: str
) -> tuple[Split, Split, list[str]]:
    """Hold out examples of a split, by class, group and order.

    Args:
        name: of the data set.
        split: to draw from.
        task: of the data set.
        held: number of examples to hold out.
        seed: of the draw.
        sides: names of both, for the note.

    Returns:
        what is kept and what is held out, and a note on equal examples that were moved to one side.

    Raises:
        TooFewError: one side would be empty.
    """
    contents, moved = contents_of(split), 0
    if split.order is not None:
        kept, out = hold_out_last(split.order, held)
    elif split.groups is not None:
        kept, out = draw(split.y, task, held, seed, split.groups, contents)
    else:  # the draw is that of earlier versions, and only what it tears is moved
        kept, out = draw(split.y, task, held, seed)
        if contents is not None:
            kept, out, moved = keep_together(kept, out, contents)
    told = f"{name}: {moved:,} examples of {sides} were moved to where their equals are"
    return split.take(np.sort(kept)), split.take(np.sort(out)), [told] * bool(moved)


def with_calibration(dataset: Dataset, share: float, least: int, seed: int) -> Dataset:
    """Hold out a share of the validation split that chooses nothing, unless there is one.

    It is drawn as the validation split is: by class or label, whole groups, and the end of an order.

    Args:
        dataset: with its validation split.
        share: of that.
        least: how many examples are needed.
        seed: of the draw.

    Raises:
        CnnbenchError: there is no validation split, or it is too small.
    """
    if dataset.calibration is not None:
        return dataset
    if dataset.val is None:
        raise CnnbenchError(
            "training.calibration.coverage takes a part of the validation split, and there is none",
            "training.validation_fraction=0.2 draws one from the training split",
        )
    held, sides = round(share * len(dataset.val)), f"{CALIBRATION} or val"
    too_few = CnnbenchError(
        f"{dataset.name}: training.calibration.coverage needs {least:,} calibration examples or more, and "
        f"training.calibration.share={share:g} of {len(dataset.val):,} validation examples is {held:,}",
        "hold more out (training.validation_fraction), take a larger share, or promise less",
    )
    if not least <= held < len(dataset.val):
        raise too_few
    try:
        val, out, told = _parted(dataset.name, dataset.val, dataset.task, held, seed, sides)
    except TooFewError as error:
        raise too_few from error
    if len(out) < least:  # of whole groups
        raise too_few
    parted = replace(dataset, val=val, calibration=out, notes=(*dataset.notes, *told))
    before, now = (f"{dataset.name}: {counts(one)}" for one in (dataset, parted))
    return replace(parted, notes=tuple(Fact(now) if note == before else note for note in parted.notes))


def fold_numbers(dataset: Dataset, count: int, seed: int) -> np.ndarray:
    """Return ``(n,)`` the fold of each training example: even by class, of whole groups and equal pictures.

    Raises:
        CnnbenchError: there are too few examples or groups for so many folds, or they have an order.
    """
    train = dataset.train
    if train.order is not None:
        raise CnnbenchError(
            f"{dataset.name}: its examples have an order, and folds would measure on what came before",
            "training.folds=null measures on the end of the order",
        )
    try:
        return folds(train.y, dataset.task, count, seed, train.groups, contents_of(train))
    except TooFewError as error:
        units = "different examples" if train.groups is None else "groups"
        name = "" if error.label is None else f" of {dataset.class_names[error.label]}"
        raise CnnbenchError(
            f"{dataset.name}: training.folds={count} needs more than {error.count} {units}{name}",
            "use fewer folds, or add examples",
        ) from error


def of_fold(dataset: Dataset, count: int, fold: int, seed: int) -> Dataset:
    """Return the data of one fold: it is measured, as the test split, and the rest is trained on.

    The data set's own test split is left for the average of the fold models.
    """
    number, train = fold_numbers(dataset, count, seed), dataset.train
    held = np.flatnonzero(number == fold)
    told = (
        f"{dataset.name}: fold {fold} of {count}, {len(held):,} of {len(train):,} training examples, is held "
        "out and measured as test"
    )
    return replace(
        dataset,
        train=train.take(np.flatnonzero(number != fold)),
        test=train.take(held),
        notes=(*dataset.notes, Fact(told)),
    )


def contents_of(split: Split) -> list[bytes] | None:
    """Return a digest of each picture, of which equal ones stay together; None of rows of a table.

    Two rows with few columns may well be equal and yet two examples.
    """
    return split.digests if split.x.ndim == 4 else None


def _counted(dataset: Dataset) -> Dataset:
    """Add a note with the examples, groups and classes of each split to data of the user's own."""
    if not (dataset.files or dataset.train.groups is not None or dataset.train.names is not None):
        return dataset
    return replace(dataset, notes=(*dataset.notes, Fact(f"{dataset.name}: {counts(dataset)}")))


def counts(dataset: Dataset) -> str:
    """Return the examples of each split, its groups, and how often each has every class, on one line."""
    splits = dataset.splits
    found = f"{_beside(len(split) for split in splits.values())} examples in {', '.join(splits)}"
    if dataset.train.groups is not None:
        groups = (0 if one.groups is None else len(np.unique(one.groups)) for one in splits.values())
        found += f", of {_beside(groups)} groups"
    if dataset.task == "regression":
        return found
    names = dataset.class_names
    table = np.stack(
        [
            one.y.sum(axis=0, dtype=np.int64)
            if dataset.task == "multilabel"
            else np.bincount(one.y.astype(np.intp), minlength=len(names))
            for one in splits.values()
        ],
        axis=1,
    )
    rarest = np.argsort(table.sum(axis=1), kind="stable")[:NAMED] if len(names) > NAMED else range(len(names))
    more = f"; the rarest of {len(names)} {'labels' if dataset.task == 'multilabel' else 'classes'}"
    of_each = "; ".join(f"{names[index]} {_beside(table[index])}" for index in rarest)
    return f"{found}{more if len(names) > NAMED else ''}: {of_each}"


def _beside(numbers: Iterable[int]) -> str:
    return " + ".join(f"{number:,}" for number in numbers)


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
    digests = {name: found for name, split in dataset.splits.items() if (found := split.digests) is not None}
    seen = {name: set(values) for name, values in digests.items()}
    shared = []
    pairs = (("train", "test"), ("val", "test"), ("train", "val"))
    for first, second in (*pairs, ("train", CALIBRATION), (CALIBRATION, "test")):
        if first in seen and second in seen:
            count = sum(digest in seen[first] for digest in digests[second])
            if count:
                share = f"{count:,} of {len(digests[second]):,} {second} examples"
                shared.append(f"{dataset.name}: {share} are also in {first}")
    return shared + _resaved(dataset) + _contradictions(dataset, digests)


def _resaved(dataset: Dataset) -> list[str]:
    """Return a line where test pictures are in train or val, saved again; of few pictures alone."""
    sides = dataset.input_shape
    learnt = [split for name, split in dataset.splits.items() if name != "test"]
    is_small = len(sides) != 3 or min(sides[:2]) < LEAST_SIDE or sides[2] not in (1, 3)
    count = sum(len(split) for split in dataset.splits.values())
    if is_small or dataset.train.x.dtype != np.uint8 or count > HASHED:
        return []
    rows = saved_again([split.x for split in learnt], dataset.test.x)
    known = {digest for split in learnt for digest in split.digests or ()}
    digests = dataset.test.digests or []
    again = [row for row in rows if not digests or digests[row] not in known]  # those are told already
    if not again:
        return []
    named = "" if dataset.test.names is None else f": {listed([dataset.test.names[row] for row in again])}"
    return [
        f"{dataset.name}: {len(again):,} of {len(dataset.test):,} test pictures seem to be in train or val, "
        f"saved again{named}; cnnbench doctor shows them"
    ]


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
        named = [column.name for column in dataset.columns] or [
            str(index) for index in range(train.x.shape[1])
        ]
        columns = listed([named[index] for index in constant], NAMED)
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
