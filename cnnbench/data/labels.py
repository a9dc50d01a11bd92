"""What labels say: the task that they make, and which of two classes is the positive one."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cnnbench.data.dataset import Task
from cnnbench.errors import CnnbenchError, nearest

FEW = 20  # different whole numbers, up to which they are taken for classes, whatever they are
MANY = 1000  # up to which they are, where they count from 0 or 1 without a gap


FLAGS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}  # texts in small letters
DECIMAL_COMMA = r"^[-+]?\d+,\d+$"


def infer_task(values: np.ndarray | Sequence[Any]) -> Task:
    """Return the task that labels make; for the notes of a data set, where `dataset.task` is not given.

    Args:
        values: one for each example: texts or whole numbers (classes: two make a binary task, more a
            multiclass one), other numbers or many different ones (regression), lists of labels (multilabel),
            or of one 1 among 0 each (classes); or ``(n, columns)`` numbers: multilabel if all are 0 or 1,
            else regression. Texts that are all numbers (1.5 or 1,5) count as numbers. Missing values (None,
            NaN, empty text) are passed over.
    """
    if isinstance(values, np.ndarray) and values.ndim > 1 and values.shape[1] > 1:
        return "multilabel" if bool(np.isin(values, (0, 1)).all()) else "regression"
    if isinstance(values, np.ndarray):
        values = values.reshape(-1)
        is_number = values.dtype.kind in "buif"
        different = np.unique(values).tolist() if is_number else set(values.tolist())
    else:
        if any(isinstance(value, list | tuple | set | frozenset | np.ndarray) for value in values):
            return _task_of_rows(values)
        different = set(values)
    different = {
        unicodedata.normalize("NFC", value) if isinstance(value, str) else value for value in different
    }
    found = [value for value in different if not _is_missing(value)]
    numbers = _numbers(found)
    if numbers is not None and not _are_classes(numbers, len(values)):
        return "regression"
    return "binary" if len(found if numbers is None else set(numbers)) == 2 else "multiclass"


def with_positive(
    y: np.ndarray, class_names: Iterable[str], positive: str | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return class indices and names of two classes, of which the second is the positive one.

    Args:
        y: ``(n,)`` class indices.
        class_names: in their order.
        positive: the class that precision, recall and f1 are of; None leaves the order as it is.

    Raises:
        CnnbenchError: there is no such class, or there are more than two.
    """
    names = tuple(class_names)
    if positive is None:
        return y, names
    positive = str(positive)  # YAML reads a class `1` as a number
    if len(names) != 2:
        raise CnnbenchError(
            f"dataset.positive={positive} is for two classes, but there are {len(names)}",
            "leave dataset.positive out",
        )
    if positive not in names:
        raise CnnbenchError(
            f"dataset.positive={positive} is none of the two classes {' and '.join(names)}",
            nearest(positive, names),
        )
    return (y, names) if positive == names[1] else ((1 - y).astype(y.dtype), names[::-1])


def flags(rows: Sequence[Sequence[Any]]) -> np.ndarray | None:
    """Return lists of 0 and 1 (or true and false), all of one length from 2 on, as ``(n, length)`` uint8.

    Those without an item are passed over, and 0 all through. None for anything else, such as indices.
    """
    lengths = {len(row) for row in rows if len(row)}
    if len(lengths) != 1 or lengths == {1}:
        return None
    found = np.zeros((len(rows), lengths.pop()), np.uint8)
    for index, row in enumerate(rows):
        if len(row):
            texts = [str(item).lower() for item in row]
            if not FLAGS.keys() >= set(texts):
                return None
            found[index] = [FLAGS[text] for text in texts]
    return found


def _task_of_rows(values: Sequence[Any]) -> Task:
    """Return the task of labels of which at least one is a list: of names, of 0 and 1, or of numbers."""
    rows = [list(value) for value in values if isinstance(value, Iterable) and not isinstance(value, str)]
    if (found := flags(rows)) is not None:
        if (found.sum(axis=1) != 1).any():
            return "multilabel"
        return "binary" if int(found.any(axis=0).sum()) == 2 else "multiclass"
    items = {item for row in rows for item in row}
    if all(isinstance(item, int | float | np.number) for item in items) and not items <= {0, 1}:
        lengths = {len(row) for row in rows}
        if len(lengths) == 1 and any(float(item) != math.floor(item) for item in items):
            return "regression"  # as many fractions in each: targets, not indices of labels
    return "multilabel"


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float | np.floating) and math.isnan(value))


def _numbers(found: Iterable[Any]) -> list[float] | None:
    """Return different labels as numbers; None if one is none."""
    try:
        return [
            float(value.replace(",", "."))
            if isinstance(value, str) and re.match(DECIMAL_COMMA, value)
            else float(value)
            for value in found
        ]
    except (TypeError, ValueError):
        return None


def _are_classes(numbers: Sequence[float], examples: int) -> bool:
    """Tell whether different numbers are few and whole, and come again, as the indices of classes do."""
    if any(number != math.floor(number) for number in numbers if math.isfinite(number)):
        return False
    count = len(numbers)
    if count <= 2:
        return True
    if examples < 2 * count:
        return False
    low, high = min(numbers), max(numbers)
    return count <= FEW or (count <= MANY and low in (0, 1) and high - low == count - 1)
