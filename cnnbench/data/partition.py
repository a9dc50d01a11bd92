"""Partition of examples into two parts: stratified, with whole groups, and with equal examples together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnbench.data.dataset import Task


class TooFewError(ValueError):
    """A class would lack examples on one side.

    Attributes:
        label: index of the class with the fewest different examples; None where no class is to blame.
        count: how many it has.
    """

    def __init__(self, label: int | None, count: int) -> None:
        super().__init__(label, count)
        self.label, self.count = label, count


def hold_out(
    y: np.ndarray,
    task: Task,
    size: float | int,
    seed: int,
    groups: np.ndarray | None = None,
    contents: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are kept and those that are held out, each in their order.

    Both parts have every class, in equal shares as far as groups allow it.

    Args:
        y: targets of all examples, as of a `Split`.
        task: of the data set.
        size: share, or number of examples, to hold out; equal examples count once.
        seed: of the draw.
        groups: ``(n,)``; those of one group stay together.
        contents: a digest of each example; equal ones stay together.

    Raises:
        TooFewError: a class cannot be on both sides.
    """
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(y))
    first, content = rows, rows
    if contents is not None:
        _, first, content = np.unique(contents, return_index=True, return_inverse=True)
        first = np.sort(first)
    labels = y[first] if task in ("binary", "multiclass") else None
    try:
        _, held = train_test_split(first, test_size=size, random_state=seed, stratify=labels)
    except ValueError as error:
        raise _too_few(labels) from error
    is_held = np.isin(content, content[held])
    kept, held = np.flatnonzero(~is_held), np.flatnonzero(is_held)
    if labels is not None and any(len(np.unique(y[side])) < len(np.unique(y)) for side in (kept, held)):
        raise _too_few(labels)
    return kept, held


def _too_few(labels: np.ndarray | None) -> TooFewError:
    if labels is None:
        return TooFewError(None, 0)
    present, counts = np.unique(labels, return_counts=True)
    return TooFewError(int(present[counts.argmin()]), int(counts.min()))
