"""Targets as a user's file has them (texts, one-hot rows, numbers), made into those of a `Dataset`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench.data.dataset import Split, Task, listed
from cnnbench.data.labels import infer_task, with_positive
from cnnbench.data.partition import TooFewError, hold_out
from cnnbench.errors import CnnbenchError

COUNTED = 10  # classes whose counts a note tells


@dataclass(frozen=True)
class Targets:
    """Targets of every split.

    Attributes:
        y: by split, as of a `Split`.
        task: that they make.
        class_names: in the order of the class indices, or of the labels; empty for regression.
        notes: how they were read.
    """

    y: dict[str, np.ndarray]
    task: Task
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def read_targets(
    found: Mapping[str, np.ndarray],
    where: str,
    task: Task | None,
    class_names: Sequence[str] | None,
    positive: str | None,
) -> Targets:
    """Make class indices, 0/1 labels or numbers of what was found, and infer the task where none is given.

    Args:
        found: by split, ``(n,)`` texts or numbers, or ``(n, columns)`` numbers: one-hot rows, labels that
            are 0 or 1, or the targets of a regression.
        where: file and array or column, for errors.
        task: that is wanted.
        class_names: of the classes in the order of their indices, or of the labels.
        positive: which of two classes is the positive one.

    Raises:
        CnnbenchError: they do not fit the task, the names or each other.
    """
    parts = {split: _plain(values, _of_split(where, split)) for split, values in found.items()}
    widths = {values.shape[1:] for values in parts.values()}
    if len(widths) > 1:
        raise CnnbenchError(f"{where}: the splits have targets of different shapes: {sorted(widths)}")
    notes = []
    if task in (None, "binary", "multiclass") and all(map(_is_one_hot, parts.values())):
        columns = len(next(iter(parts.values()))[0])
        parts = {split: values.argmax(axis=1) for split, values in parts.items()}
        class_names = class_names or [str(index) for index in range(columns)]
        notes.append(f"{where}: one-hot rows, read as {columns} classes")
    inferred = task is None
    task = task or infer_task(np.concatenate(list(parts.values())))
    if task == "regression":
        y = {split: _as_numbers(values, _of_split(where, split)) for split, values in parts.items()}
        names: tuple[str, ...] = ()
    elif task == "multilabel":
        y, names = _labels(parts, where, class_names)
    else:
        y, names, told = _classes(parts, where, class_names)
        notes += told
        if len(names) < 2:
            raise CnnbenchError(f"{where}: all targets are {names[0]}, so there is nothing to tell apart")
        if inferred:
            task = "binary" if len(names) == 2 else "multiclass"
        if task == "binary":
            if len(names) > 2:
                raise CnnbenchError(
                    f"{where}: task=binary, but there are {len(names)} classes: {listed(names)}",
                    "dataset.task=multiclass",
                )
            flipped = {split: with_positive(values, names, positive) for split, values in y.items()}
            y = {split: values for split, (values, _) in flipped.items()}
            names = next(iter(flipped.values()))[1]
    if positive is not None and task != "binary":
        raise CnnbenchError(
            f"dataset.positive={positive} is for two classes, but the task is {task}",
            "leave dataset.positive out",
        )
    notes.append(_told(where, y, task, names, inferred))
    return Targets(y, task, names, tuple(notes))


def drawn_apart(
    split: Split,
    task: Task,
    test_fraction: float,
    seed: int,
    contents: Sequence[bytes] | np.ndarray,
    names: Sequence[str],
) -> tuple[Split, Split]:
    """Return the examples to train with and those to test on; equal ones, and groups, stay together.

    Raises:
        CnnbenchError: a class has too few examples.
    """
    try:
        kept, held = hold_out(split.y, task, test_fraction, seed, split.groups, contents)
    except TooFewError as error:
        if split.groups is not None and (error.label is None or len(np.unique(split.groups)) < 2):
            count = len(np.unique(split.groups))
            raise CnnbenchError(
                f"dataset.test_fraction={test_fraction} of {count:,} group{'s' * (count > 1)} leaves none to "
                f"train or to test on",
                "leave dataset.group out, or name a column with more groups",
            ) from error
        named = f"; {names[error.label]} has {error.count}" if error.label is not None and names else ""
        different = len(np.unique(np.asarray(contents)))
        raise CnnbenchError(
            f"dataset.test_fraction={test_fraction} of {different:,} different examples leaves a class "
            f"without one to train or to test on{named}",
            "add examples, or change test_fraction",
        ) from error
    return split.take(kept), split.take(held)


def _plain(values: np.ndarray, where: str) -> np.ndarray:
    """Return ``(n,)`` for ``(n, 1)``, as text what is bytes, and 0 and 1 for False and True.

    Raises:
        CnnbenchError: there is none, or not one for each example; or bytes are no UTF-8.
    """
    if values.ndim == 0:
        raise CnnbenchError(
            f"{where}: the targets are one value, {values!s:.40}", "give one for each example"
        )
    if not len(values):
        raise CnnbenchError(f"{where}: there are no targets", "a data set needs an example of each class")
    if values.ndim > 1 and values.shape[1:] == (1,) * (values.ndim - 1):
        values = values.reshape(-1)
    if values.dtype.kind in "SO":
        values = np.array(as_texts(values, where))
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def as_texts(values: np.ndarray, where: str) -> list[str]:
    """Return ``(n,)`` names, which may be bytes, as texts.

    Raises:
        CnnbenchError: bytes are no UTF-8.
    """
    try:
        return [one.decode() if isinstance(one, bytes) else str(one) for one in values.tolist()]
    except UnicodeDecodeError as error:
        raise CnnbenchError(
            f"{where}: {error.object[:40]!r} is no UTF-8", "save names as text: np.array(names, dtype=str)"
        ) from error


def _of_split(where: str, split: str) -> str:
    return f"{where} ({split})" if split else where


def _is_one_hot(values: np.ndarray) -> bool:
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "uif" or not len(values):
        return False
    return bool(np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all())


def _as_numbers(values: np.ndarray, where: str) -> np.ndarray:
    if values.ndim > 2:
        raise CnnbenchError(f"{where}: targets of the shape {values.shape}", "(n,) or (n, targets)")
    try:
        return values.astype(np.float32)
    except ValueError as error:
        raise CnnbenchError(
            f"{where}: task=regression, but its values are no numbers: {error}", "dataset.task=multiclass"
        ) from error


def _labels(
    parts: Mapping[str, np.ndarray], where: str, class_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    for split, values in parts.items():
        if values.ndim > 2:
            raise CnnbenchError(
                f"{_of_split(where, split)}: targets of the shape {values.shape} are no classes, labels or "
                f"numbers",
                "one value, or one row of them, for each example; masks of pictures are not trained on",
            )
        if values.ndim != 2 or values.dtype.kind not in "uif" or not np.isin(values, (0, 1)).all():
            raise CnnbenchError(
                f"{_of_split(where, split)}: task=multilabel wants a column of 0 and 1 for each label, not "
                f"{values.dtype} of {values.shape}",
                "(examples, labels) of 0 and 1",
            )
    columns = next(iter(parts.values())).shape[1]
    names = tuple(map(str, class_names or range(columns)))
    if len(names) != columns:
        raise CnnbenchError(
            f"{where} has {columns} labels, but there are {len(names)} names: {listed(names)}"
        )
    return {split: values.astype(np.uint8) for split, values in parts.items()}, names


def _classes(
    parts: Mapping[str, np.ndarray], where: str, class_names: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...], list[str]]:
    """Return class indices by split, the names of the classes, and how they were read."""
    if any(values.ndim > 1 for values in parts.values()):
        shape = next(iter(parts.values())).shape
        raise CnnbenchError(
            f"{where}: targets of the shape {shape} are no classes",
            "one class index or name for each example; or dataset.task=multilabel or regression",
        )
    together = np.concatenate(list(parts.values()))
    if together.dtype.kind == "f":
        odd = np.flatnonzero(~(np.isfinite(together) & (together == np.floor(together))))
        if len(odd):
            raise CnnbenchError(
                f"{where}: {len(odd):,} of {len(together):,} classes are no whole numbers, such as "
                f"{together[odd[0]]}",
                "dataset.task=regression, or leave these examples out",
            )
        together = together.astype(np.int64)
        parts = {split: values.astype(np.int64) for split, values in parts.items()}
    present = np.unique(together)
    if class_names is None:
        codes = {split: np.searchsorted(present, values) for split, values in parts.items()}
        return codes, tuple(str(value) for value in present.tolist()), []
    names = tuple(map(str, class_names))
    if together.dtype.kind == "U":
        unknown = sorted({str(value) for value in present} - set(names))
        if unknown:
            raise CnnbenchError(f"{where}: {listed(unknown)} is none of the classes {listed(names)}")
        index = {name: code for code, name in enumerate(names)}
        return (
            {
                split: np.array([index[str(one)] for one in values], np.int64)
                for split, values in parts.items()
            },
            names,
            [],
        )
    low, high = int(present[0]), int(present[-1])
    if low == 1 and high == len(names):
        shifted = {split: values.astype(np.int64) - 1 for split, values in parts.items()}
        return shifted, names, [f"{where}: classes are counted from 1 to {high}, read as 0 to {high - 1}"]
    if low < 0 or high >= len(names):
        raise CnnbenchError(
            f"{where}: classes go from {low} to {high}, but there are {len(names)} names: {listed(names)}",
            "a class is the index of its name",
        )
    return {split: values.astype(np.int64) for split, values in parts.items()}, names, []


def _told(where: str, y: Mapping[str, np.ndarray], task: Task, names: Sequence[str], inferred: bool) -> str:
    """Return one line: the task, and what there is of each class or the range of the numbers."""
    together = np.concatenate(list(y.values()))
    if task == "regression":
        there = f"{together.min():g} to {together.max():g}" if together.size else "nothing"
        if together.ndim > 1:
            there = f"{together.shape[1]} targets, {there}"
    elif task == "multilabel":
        counts = together.sum(axis=0, dtype=np.int64)
        there = _counts(dict(zip(names, counts.tolist(), strict=True)), "labels")
    else:
        found = Counter(together.tolist())
        there = _counts({name: found[index] for index, name in enumerate(names)}, "classes")
        if task == "binary":
            there += f"; {names[1]} is the positive class"
    return f"{where}: {task}{' (as the values say)' if inferred else ''}: {there}"


def _counts(counts: Mapping[str, int], what: str) -> str:
    shown = listed([f"{name} {count:,}" for name, count in counts.items()], COUNTED)
    return f"{len(counts)} {what}: {shown}"
