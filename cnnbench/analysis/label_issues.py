"""Likely wrong labels: confident learning (Northcutt et al. 2021, JAIR 70) on out-of-fold probabilities.

Of values, which have no probabilities, the residuals that are far out.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench.analysis.linear_probe import SMALLEST, Axes
from cnnbench.runs import metrics

MOST_AXES = 256  # of features; more cost time and tell a linear model little
FAR = 6.0  # robust deviations of a residual
OVERLAP = 0.05  # of the examples of two classes, from which on they are said to overlap


@dataclass(frozen=True)
class LabelIssue:
    """One target that is likely to be wrong.

    Attributes:
        row: of the example.
        score: probability of its label, from 0 to 1; of a value, how often a residual as large is expected.
        suggested: the class or labels, as indices, or the values that a model finds instead.
    """

    row: int
    score: float
    suggested: tuple[float, ...]


def find_label_issues(y: np.ndarray, task: str, outputs: np.ndarray) -> list[LabelIssue]:
    """Return the targets that are likely to be wrong, the most doubtful first.

    A label is doubted where confident learning would prune it both by its class and by the pair of classes,
    and where it is less than half as probable as by guessing: with the first alone, a weak model that is sure
    of itself doubts too much.

    Args:
        y: targets ``(n,)`` or ``(n, outputs)``, as of a `Split`.
        task: of the data set.
        outputs: ``(n, outputs)`` for each example by a model that has not seen it, as of `cross_validate`.
    """
    if task == "regression":
        return _far_out(y.reshape(len(y), -1), outputs)
    if task == "multilabel":
        return _labels(y, outputs)
    probabilities = of_classes(outputs)
    own = probabilities[np.arange(len(y)), y.astype(np.intp)]
    doubtful = _pruned(y, probabilities)
    rows = np.flatnonzero(doubtful)
    return [
        LabelIssue(int(row), float(own[row]), (int(probabilities[row].argmax()),))
        for row in rows[np.argsort(own[rows], kind="stable")]
    ]


def of_classes(outputs: np.ndarray) -> np.ndarray:
    """Return probabilities ``(n, classes)`` float64 that add up to 1, also for one output of class 1."""
    found = metrics.class_probabilities(outputs)
    return found if outputs.shape[1] == 1 else np.asarray(found / found.sum(axis=1, keepdims=True))


def _pruned(y: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    from cleanlab.filter import find_label_issues as confident_learning

    y = y.astype(np.intp)
    present, codes = np.unique(y, return_inverse=True)  # cleanlab wants an example of each class
    known = probabilities[:, present]
    known = known / known.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with few examples, which are not pruned
        found = confident_learning(codes, known, filter_by="both", n_jobs=1)
    pruned: np.ndarray = np.asarray(found) & (known[np.arange(len(y)), codes] < 0.5 / len(present))
    return pruned


def _labels(y: np.ndarray, outputs: np.ndarray) -> list[LabelIssue]:
    """Doubt each label by itself, as two classes."""
    doubtful = np.zeros(y.shape, bool)
    for label in range(y.shape[1]):
        if 0 < y[:, label].sum() < len(y):
            doubtful[:, label] = _pruned(y[:, label], of_classes(outputs[:, label, None]))
    own = np.where(y > 0, outputs, 1 - outputs)
    rows = np.flatnonzero(doubtful.any(axis=1))
    scores = np.where(doubtful, own, 1).min(axis=1)
    changed = np.where(doubtful, 1 - y, y)
    return [
        LabelIssue(int(row), float(scores[row]), tuple(np.flatnonzero(changed[row]).tolist()))
        for row in rows[np.argsort(scores[rows], kind="stable")]
    ]


def _far_out(y: np.ndarray, outputs: np.ndarray) -> list[LabelIssue]:
    from scipy.special import erfc
    from scipy.stats import median_abs_deviation

    residuals = y - outputs
    residuals -= np.median(residuals, axis=0)
    spread = median_abs_deviation(residuals, axis=0, scale="normal")
    far = (np.abs(residuals) / np.where(spread > 0, spread, np.inf)).max(axis=1)
    rows = np.flatnonzero(far > FAR)
    return [
        LabelIssue(int(row), float(erfc(far[row] / np.sqrt(2))), tuple(outputs[row].tolist()))
        for row in rows[np.argsort(-far[rows], kind="stable")]
    ]


def largest_axes(features: np.ndarray, most: int = MOST_AXES) -> Axes:
    """Return features ``(n, columns)`` on their largest principal axes, the largest first.

    The variances stay, so that a penalty means what it means on all axes.
    """
    spread = features.std(axis=0, dtype=np.float64)
    kept = spread > SMALLEST * max(float(spread.max()), 1e-30)
    scaled = np.array(features[:, kept], np.float32)  # in place from here on: features may be many
    scaled -= scaled.mean(axis=0, dtype=np.float64).astype(np.float32)
    scaled /= spread[kept].astype(np.float32)
    wide = scaled.shape[1] > len(scaled)
    squares, vectors = np.linalg.eigh(scaled @ scaled.T if wide else scaled.T @ scaled)
    chosen = np.flatnonzero(squares > SMALLEST * squares[-1])[::-1][:most]
    vectors = vectors[:, chosen]
    values = vectors * np.sqrt(squares[chosen]) if wide else scaled @ vectors
    return Axes(values, squares[chosen].astype(np.float64), max(scaled.shape[1], 1))


@dataclass(frozen=True)
class Overlap:
    """Two classes that a model takes for each other.

    Attributes:
        first, second: their indices.
        share: of the examples of both, how many a model that has not seen them takes for the other.
        examples: how many.
    """

    first: int
    second: int
    share: float
    examples: int


def overlapping_classes(y: np.ndarray, outputs: np.ndarray, doubtful: Sequence[int] = ()) -> list[Overlap]:
    """Return the pairs of classes of which a part is taken for the other, the worst first.

    Args:
        y: class indices ``(n,)``.
        outputs: as of `find_label_issues`.
        doubtful: rows that are left out, since their labels are likely to be wrong.
    """
    from sklearn.metrics import confusion_matrix

    probabilities = of_classes(outputs)
    kept = np.setdiff1d(np.arange(len(y)), doubtful)
    taken = confusion_matrix(
        y[kept].astype(np.intp), probabilities[kept].argmax(axis=1), labels=np.arange(probabilities.shape[1])
    )
    sizes, both = taken.sum(axis=1), taken + taken.T
    found = []
    for first, second in zip(*np.triu_indices(len(taken), 1), strict=True):
        share = both[first, second] / max(1, sizes[first] + sizes[second])
        if share >= OVERLAP:
            found.append(Overlap(int(first), int(second), float(share), int(both[first, second])))
    return sorted(found, key=lambda one: -one.share)
