"""Partition of examples into two parts, or folds: even by class, whole groups, equal examples together.

Without groups scikit-learn draws, evenly by class. It has nothing for several labels, and of groups no shares
but those of equal folds; both are drawn by `allot`, a form of iterative stratification (Sechidis et al. 2011,
"On the Stratification of Multi-Label Data", ECML PKDD) for units of any size.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from cnnbench.data.dataset import Task

ROUNDING = 1e-9
MOST_CHANGES = 200  # of an allotment, after which it is near enough
PAIRS_UP_TO = 1000  # units, of which any two are tried in exchange

Rows = np.ndarray
Contents = Sequence[str] | Sequence[bytes] | np.ndarray


class TooFewError(ValueError):
    """A class would lack examples on one side.

    Attributes:
        label: index of the class with the fewest different examples; None where no class is to blame.
        count: how many it has; with groups, in how many it is.
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
    contents: Contents | None = None,
) -> tuple[Rows, Rows]:
    """Return the rows that are kept and those that are held out, each in their order.

    Both parts have every class or label, in equal shares as far as groups allow it.

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
    kept, held = (np.sort(rows) for rows in draw(y, task, size, seed, groups, contents))
    there, here, known = (len(np.unique(_labels(y[rows], task)[1])) for rows in (kept, held, slice(None)))
    if not there == here == known:
        raise _too_few(y, task, _units(len(y), groups, contents))
    return kept, held


def draw(
    y: np.ndarray,
    task: Task,
    size: float | int,
    seed: int,
    groups: np.ndarray | None = None,
    contents: Contents | None = None,
) -> tuple[Rows, Rows]:
    """Return rows as `hold_out`, in the order of the draw, even where a class is on one side only.

    Raises:
        TooFewError: one side would be empty.
    """
    from sklearn.model_selection import train_test_split

    unit = _units(len(y), groups, contents)
    _, first, unit = np.unique(unit, return_index=True, return_inverse=True)
    if groups is not None or task == "multilabel":
        if len(first) < 2:
            raise _too_few(y, task, unit)
        share = size if isinstance(size, float) else size / len(first if groups is None else y)
        counts = _counts(y, task, unit)
        part = _covering(allot(counts, (1 - share, share), seed), counts)[unit]
        return np.flatnonzero(part == 0), np.flatnonzero(part == 1)
    first = np.sort(first)
    held = size if isinstance(size, int) else math.ceil(size * len(first))
    labels = None
    if task in ("binary", "multiclass"):
        present = np.unique(y[first], return_counts=True)[1]
        if present.min() > 1 and len(present) <= min(held, len(first) - held):
            labels = y[first]
    try:
        kept, drawn = train_test_split(first, test_size=size, random_state=seed, stratify=labels)
    except ValueError as error:
        raise _too_few(y, task, unit) from error
    if len(first) == len(y):
        return kept, drawn
    is_held = np.isin(unit, unit[drawn])
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def hold_out_last(order: np.ndarray, size: float | int) -> tuple[Rows, Rows]:
    """Return the rows that are kept and, held out, those that come last; each in the order of the rows.

    Args:
        order: ``(n,)`` values that can be compared, such as times; equal ones stay together.
        size: share, or number of examples, to hold out; of two cuts that are as near, the larger part.

    Raises:
        TooFewError: all values are equal.
    """
    wanted = size if isinstance(size, int) else math.ceil(size * len(order))
    values, counts = np.unique(order, return_counts=True)
    if len(values) < 2:
        raise TooFewError(None, len(values))
    after = np.cumsum(counts[::-1])[-2::-1]  # examples after each possible cut
    cut = int(np.argmin(np.abs(after - wanted)))
    is_held = order > values[cut]
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def folds(
    y: np.ndarray,
    task: Task,
    count: int,
    seed: int,
    groups: np.ndarray | None = None,
    contents: Contents | None = None,
) -> np.ndarray:
    """Return the fold of each row, from 0; every fold has each class as often as any other, give or take one.

    With groups, equal examples or several labels the folds are as even as these allow.

    Args:
        y: targets of all examples, as of a `Split`.
        task: of the data set.
        count: number of folds.
        seed: of the draw.
        groups: ``(n,)``; those of one group stay together.
        contents: a digest of each example; equal ones stay together.

    Raises:
        TooFewError: there are fewer different examples, or groups, than folds; or a class is in one alone.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    _, first, unit = np.unique(_units(len(y), groups, contents), return_index=True, return_inverse=True)
    if len(first) < count:
        raise TooFewError(None, len(first))
    if groups is not None or task == "multilabel":
        fold = allot(_counts(y, task, unit), [1 / count] * count, seed)[unit]
    else:
        first = np.sort(first)
        is_even = task != "regression" and np.unique(y[first], return_counts=True)[1].max() >= count
        splitter = (StratifiedKFold if is_even else KFold)(count, shuffle=True, random_state=seed)
        of_unit = np.empty(len(first), np.intp)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes with fewer examples than folds, which are told below
            for number, (_, held) in enumerate(splitter.split(first, y[first])):
                of_unit[unit[first[held]]] = number
        fold = of_unit[unit]
    rows, labels = _labels(y, task)
    for label in np.unique(labels):
        own = rows[labels == label]
        if len(np.unique(fold[own])) < 2:
            raise TooFewError(int(label), len(np.unique(unit[own])))
    return fold


def keep_together(kept: Rows, held: Rows, contents: Contents) -> tuple[Rows, Rows, int]:
    """Move equal examples to the side that has more of them.

    Returns:
        both sides, which are as they were where nothing has moved, and how many examples have.
    """
    content = np.unique(contents, return_inverse=True)[1]
    is_held = np.isin(np.arange(len(content)), held)
    here, all_of_it = np.bincount(content[held], minlength=len(content)), np.bincount(content)
    belongs = (2 * here[content] > all_of_it[content]) if len(held) else is_held
    if belongs.all() or not belongs.any() or (belongs == is_held).all():
        return kept, held, 0
    return np.flatnonzero(~belongs), np.flatnonzero(belongs), int((belongs != is_held).sum())


# -- Units and what is in them ---------------------------------------------------------------------


def _units(size: int, groups: np.ndarray | None, contents: Contents | None) -> np.ndarray:
    """Return ``(size,)`` values, equal for the rows that must stay together."""
    if groups is None:
        return np.arange(size) if contents is None else np.asarray(contents)
    if contents is None:
        return groups
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    # Groups that share an example become one.
    one, other = (np.unique(values, return_inverse=True)[1] for values in (groups, np.asarray(contents)))
    other = other + one.max() + 1
    links = coo_matrix((np.ones(size, bool), (one, other)), shape=(int(other.max()) + 1,) * 2)
    return np.asarray(connected_components(links, directed=False)[1])[one]


def _labels(y: np.ndarray, task: Task) -> tuple[Rows, np.ndarray]:
    """Return a row and a class, or label, for each that an example has; nothing for a regression."""
    if task == "regression":
        return np.zeros((2, 0), np.intp)[0], np.zeros(0, np.intp)
    if task == "multilabel":
        rows, labels = np.nonzero(y)
        return rows, labels
    return np.arange(len(y)), y


def _counts(y: np.ndarray, task: Task, unit: np.ndarray) -> np.ndarray:
    """Return ``(units, 1 + classes)`` numbers of examples: all, and those of each class or label."""
    rows, labels = _labels(y, task)
    present, column = np.unique(labels, return_inverse=True)
    counts = np.zeros((int(unit.max()) + 1, 1 + len(present)))
    np.add.at(counts[:, 0], unit, 1)
    np.add.at(counts, (unit[rows], 1 + column), 1)
    return counts


def _too_few(y: np.ndarray, task: Task, unit: np.ndarray) -> TooFewError:
    rows, labels = _labels(y, task)
    if not len(labels):
        return TooFewError(None, len(np.unique(unit)))
    found = {int(label): len(np.unique(unit[rows[labels == label]])) for label in np.unique(labels)}
    return TooFewError(*min(found.items(), key=lambda item: item[1]))


# -- Allotment -------------------------------------------------------------------------------------


def allot(counts: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Return the part of each unit, so that the parts have as nearly as possible their shares of everything.

    Pearson's chi-square of what the parts have, against their shares, is made small: first by putting each
    unit where it lacks most, the large and rare ones first, then by moving or exchanging single units as long
    as that helps.

    Args:
        counts: ``(units, columns)`` how often each unit has what is to be even; each column has some.
        shares: of each part; they add up to 1.
        seed: of the order in which units are taken.
    """
    rng, share = np.random.default_rng(seed), np.asarray(shares, np.float64)
    totals = counts.sum(axis=0)
    weighted = counts / totals
    squares = (counts * weighted).sum(axis=1)
    lacking = -np.outer(share, totals)  # what each part has, minus its share
    part = np.zeros(len(counts), np.intp)
    # Somewhat by chance: else every seed would put the large ones in the same place.
    rank = weighted.max(axis=1) * rng.uniform(0.5, 1, len(counts))
    for unit in np.argsort(-rank):
        part[unit] = np.argmin((2 * lacking @ weighted[unit] + squares[unit]) / share)
        lacking[part[unit]] += counts[unit]
    return _improved(part, counts, share)


def _improved(part: np.ndarray, counts: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Move a unit, or exchange two, as long as chi-square falls by it."""
    products = counts @ (counts / counts.sum(axis=0)).T if len(counts) <= PAIRS_UP_TO else None
    for _ in range(MOST_CHANGES):
        moves = _moves(part, counts, share)
        one, to = np.unravel_index(moves.argmin(), moves.shape)
        gain, changes = moves[one, to], [(int(one), int(to))]
        if products is not None:
            there, inverse = moves[:, part], 1 / share[part]  # `there`: of each, to where each other one is
            pairs = there + there.T - 2 * products * (inverse[:, None] + inverse)
            pairs[part[:, None] == part] = 0
            one, other = np.unravel_index(pairs.argmin(), pairs.shape)
            if pairs[one, other] < gain:
                gain, changes = (
                    pairs[one, other],
                    [(int(one), int(part[other])), (int(other), int(part[one]))],
                )
        if gain > -ROUNDING:
            break
        for unit, new in changes:
            part[unit] = new
    return part


def _moves(part: np.ndarray, counts: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return ``(units, parts)`` by how much chi-square grows when a unit is moved to a part."""
    weighted, units = counts / counts.sum(axis=0), np.arange(len(counts))
    lacking = -np.outer(share, counts.sum(axis=0))
    np.add.at(lacking, part, counts)
    towards, squares = 2 * weighted @ lacking.T, (counts * weighted).sum(axis=1)
    moves = (towards + squares[:, None]) / share
    moves += ((squares - towards[units, part]) / share[part])[:, None]
    moves[units, part] = 0
    return np.asarray(moves)


def _covering(part: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Move units so that either of two parts has some of each column, where two units have it."""
    for column in np.argsort(counts.sum(axis=0)):
        has = np.flatnonzero(counts[:, column])
        for side in (0, 1):
            if len(has) < 2 or (part[has] == side).any():
                continue
            left = counts[part != side].sum(axis=0) - counts[has]  # on the other side, without each of them
            empties = (left == 0).sum(axis=1)
            part[has[np.lexsort((counts[has, 0], empties))[0]]] = side
    return part
