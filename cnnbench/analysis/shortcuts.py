"""Shortcuts: what tells the classes apart without looking at what the pictures show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

MOST_SHORTCUT_EXAMPLES = 5000  # that are looked at; more would tell the same
FOLDS = 5
RING = 0.08  # of each side of a picture, that is its border
STRONG = 0.5  # of the way from guessing to perfect, from which on a shortcut is one
WEAK = 0.2  # of the way, up to which nothing is said
SURE = 3.0  # standard errors of a balanced accuracy


@dataclass(frozen=True)
class Shortcut:
    """How well something that should not matter tells the classes.

    Attributes:
        by: what it is.
        score: balanced accuracy, out of fold.
        chance: that of guessing.
        error: standard error of the score.
    """

    by: str
    score: float
    chance: float
    error: float

    @property
    def strength(self) -> float:
        """How far it gets from guessing, 0, to perfect, 1."""
        return max(0.0, (self.score - self.chance) / (1 - self.chance))

    @property
    def is_strong(self) -> bool:
        return self.strength >= STRONG and self.score - SURE * self.error > self.chance

    @property
    def is_weak(self) -> bool:
        return self.strength < WEAK or self.score - SURE * self.error <= self.chance


def find_shortcuts(columns: Mapping[str, np.ndarray], y: np.ndarray, fold: np.ndarray) -> list[Shortcut]:
    """Return how well each set of columns tells the classes out of fold, the best first.

    Args:
        columns: by what they are, ``(n, columns)`` numbers of each example; NaN where one is not known.
        y: class indices ``(n,)``.
        fold: ``(n,)`` from 0, in which equal and grouped examples are together.
    """
    found = [_judged(by, values, y, fold) for by, values in columns.items() if _varies(values)]
    return sorted(found, key=lambda one: -one.score)


def _varies(values: np.ndarray) -> bool:
    known = np.isfinite(values).all(axis=1)
    return bool(known.mean() > 0.9 and (values[known] != values[known][0]).any())


def _judged(by: str, values: np.ndarray, y: np.ndarray, fold: np.ndarray) -> Shortcut:
    from sklearn.ensemble import ExtraTreesClassifier

    known = np.isfinite(values).all(axis=1)
    values, y, fold = values[known], y[known].astype(np.intp), fold[known]
    taken = np.empty(len(y), np.intp)
    for number in np.unique(fold):
        held = fold == number
        model = ExtraTreesClassifier(
            100, min_samples_leaf=5, class_weight="balanced", random_state=0, n_jobs=1
        )
        taken[held] = model.fit(values[~held], y[~held]).predict(values[held])
    classes, counts = np.unique(y, return_counts=True)
    recalls = np.array([(taken[y == one] == one).mean() for one in classes])
    error = np.sqrt((recalls * (1 - recalls) / counts).sum()) / len(classes)
    return Shortcut(by, float(recalls.mean()), 1 / len(classes), float(error))


def border_of(pictures: np.ndarray) -> np.ndarray:
    """Return mean and deviation of each channel on each side of pictures ``(n, height, width, channels)``."""
    high, wide = (max(1, round(RING * size)) for size in pictures.shape[1:3])
    sides = (pictures[:, :high], pictures[:, -high:], pictures[:, :, :wide], pictures[:, :, -wide:])
    parts = [one.astype(np.float32) for one in sides]
    return np.hstack([value for one in parts for value in (one.mean(axis=(1, 2)), one.std(axis=(1, 2)))])


def colour_of(pictures: np.ndarray) -> np.ndarray:
    """Return mean and deviation of each channel of pictures ``(n, height, width, channels)``."""
    values = pictures.astype(np.float32)
    return np.hstack([values.mean(axis=(1, 2)), values.std(axis=(1, 2))])
