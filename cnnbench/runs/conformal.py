"""Split conformal prediction: sets of classes, or ranges of values, that hold the truth as often as promised.

A share of the validation split, which has chosen nothing, says how improbable to the model a truth may be
(Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World"). In a set are the classes whose
probability is large enough, which makes sets smallest on average (Sadinle, Lei and Wasserman 2019, JASA 114,
223–234); around a value lies a range as wide for every example (Lei et al. 2018, JASA 113, 1094–1111). The
promise is about all examples together, not about each class, and for data of the same kind alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnbench.errors import CnnbenchError
from cnnbench.runs import metrics
from cnnbench.runs.intervals import LEVEL, share_interval
from cnnbench.runs.schema import Coverage

OF_CLASSES, OF_VALUES = "1 - probability", "absolute error"
SMALL = 1e-9  # by which 0.9 × 10 may be more than 9


def least_examples(coverage: float) -> int:
    """Return how many examples a promise needs: with fewer, only the set of all classes keeps it."""
    return max(1, math.ceil(coverage / (1 - coverage) - SMALL))


def refuse_task(task: str, targets: int) -> None:
    """Refuse a task that has neither one class an example nor one value.

    Raises:
        CnnbenchError: there are several labels, or several targets.
    """
    if task == "multilabel" or (task == "regression" and targets > 1):
        several = "several labels" if task == "multilabel" else "several targets"
        raise CnnbenchError(
            f"training.calibration.coverage is for one class or one value an example, and here are {several}",
            "training.calibration.coverage=null makes no sets",
        )


def calibrated(task: str, y_true: np.ndarray, outputs: np.ndarray, coverage: float) -> dict[str, Any]:
    """Return what a `Decision` keeps of examples that have chosen nothing.

    Args:
        task: of the data set.
        y_true: ``(n,)`` class indices or values, at least `least_examples(coverage)`.
        outputs: as of `metrics.compute`, finite.
        coverage: that is promised.

    Returns:
        `coverage`; `score` of an example and its `quantile`, up to which a class is in the set; `examples`.
    """
    scores, place = _scores(task, y_true, outputs), _place(len(y_true), coverage)
    return {
        "coverage": coverage,
        "score": OF_VALUES if task == "regression" else OF_CLASSES,
        "quantile": float(np.sort(scores)[place - 1]),
        "examples": len(y_true),
    }


def sets(conformal: Mapping[str, Any], outputs: np.ndarray) -> np.ndarray:
    """Return which classes are in the set of each example, ``(n, classes)``; none or several may be.

    Args:
        conformal: of a `Decision`.
        outputs: ``(n, classes)`` probabilities, or ``(n, 1)`` of class 1.
    """
    return np.asarray(1 - metrics.class_probabilities(outputs) <= conformal["quantile"])


def ranges(conformal: Mapping[str, Any], outputs: np.ndarray) -> np.ndarray:
    """Return the ends ``(n, 2)`` of the range of each of the values ``(n, 1)``."""
    return np.asarray(outputs.astype(np.float64) + np.array([-1, 1]) * conformal["quantile"])


def coverage_of(
    conformal: Mapping[str, Any],
    task: str,
    y_true: np.ndarray,
    outputs: np.ndarray,
    groups: np.ndarray | None = None,
    thresholds: metrics.Thresholds = None,
) -> Coverage:
    """Return how often the truth is in the set or range of an example, and how large those are.

    Args:
        conformal: of a `Decision`.
        task: of the data set.
        y_true: ``(n,)`` class indices or values, of examples that had no part in the calibration.
        outputs: as of `metrics.compute`.
        groups: of each example ``(n,)``.
        thresholds: as `Decision` has them. A set of the class alone that they decide against is no answer.
    """
    hits = _scores(task, y_true, outputs) <= conformal["quantile"]
    around = share_interval(hits, groups)
    found: Coverage = {
        "promised": conformal["coverage"],
        "calibrated_on": conformal["examples"],
        "examples": len(hits),
        "coverage": float(hits.mean()),
        "low": around.low,
        "high": around.high,
        "method": around.method,
    }
    if groups is None:  # of groups, no such distribution is known
        lowest, highest = _by_chance(conformal, len(hits))
        found["by_chance"] = [lowest, highest]
        found["kept"] = bool(hits.mean() >= lowest)
    if task == "regression":
        found["width"] = 2 * conformal["quantile"]
        return found
    inside = sets(conformal, outputs)
    size, said = inside.sum(axis=1), metrics.predicted_classes(outputs, thresholds)
    answers = (size == 1) & inside[np.arange(len(said)), said]
    found["mean_size"] = float(size.mean())
    found["sizes"] = np.bincount(size, minlength=2).tolist()
    found["answers"] = int(answers.sum())
    if answers.any():
        found["accuracy_of_single"] = float(hits[answers].mean())
    return found


def _place(examples: int, coverage: float) -> int:
    """Return the place, from 1, of the calibration score up to which a class is in the set."""
    return max(1, math.ceil((examples + 1) * coverage - SMALL))


def _by_chance(conformal: Mapping[str, Any], examples: int) -> tuple[float, float]:
    """Return between which shares 95 % of the draws of calibration and test examples cover, if all is right.

    The coverage of continuous scores is distributed as Beta, and so the number of hits as beta-binomial.
    """
    from scipy.stats import betabinom

    place = _place(conformal["examples"], conformal["coverage"])
    ends = betabinom.ppf(
        [(1 - LEVEL) / 2, (1 + LEVEL) / 2], examples, place, conformal["examples"] + 1 - place
    )
    low, high = (float(end) / examples for end in ends)
    return low, high


def _scores(task: str, y_true: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return ``(n,)`` how far each truth is from what the model says."""
    if task == "regression":
        return np.asarray(np.abs(y_true.reshape(-1).astype(np.float64) - outputs.reshape(-1)))
    rows = np.arange(len(y_true))
    return np.asarray(1 - metrics.class_probabilities(outputs)[rows, y_true.reshape(-1).astype(np.intp)])
