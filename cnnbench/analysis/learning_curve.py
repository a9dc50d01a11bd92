"""Learning curves: how an error falls with the number of examples, and what more of them would bring.

The curve is a power law, ``error = floor + scale · examples ** -rate`` (Hestness et al. 2017,
arXiv:1712.00409). A few points do not settle its three parameters, so none is chosen: every curve counts by
how well it fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnbench import data, runs
from cnnbench.analysis.linear_probe import Axes, choose_penalty, score

RATES = np.linspace(0.1, 1.2, 56)  # that are found in practice; 0.5 of a linear model with all it needs
FLOORS = np.linspace(0, 1, 101)  # as a part of the smallest error
LEVELS = np.array([0.025, 0.5, 0.975])
DRAWS = {0.1: 4, 0.25: 2, 0.5: 2}  # of each part of the examples, for each fold; small parts vary more
FEWEST = 8  # examples that a part must have
LEAST = 1e-3  # of the smallest error: no point of a curve is surer


@dataclass(frozen=True)
class Point:
    """The score of a linear model that has seen a part of the examples.

    Attributes:
        examples: that it is trained on.
        score: the mean over draws, each of all examples.
        deviation: the standard error that other draws would show, for the same examples to predict.
    """

    examples: int
    score: float
    deviation: float


def measure_curve(
    axes: Axes,
    y: np.ndarray,
    task: data.Task,
    fold: np.ndarray,
    whole: np.ndarray,
    seed: int,
    groups: np.ndarray | None = None,
    in_order: Callable[..., Iterable[Any]] = map,
) -> list[Point]:
    """Return the scores of parts of the examples, the smallest first, and of all that a fold leaves.

    Args:
        axes: features of n examples.
        y: their targets, as of a `Split`.
        task: of the data set.
        fold: ``(n,)`` from 0.
        whole: ``(n, outputs)`` of the cross-validation.
        seed: of the draws, which have every class in equal shares.
        groups: ``(n,)``; those of one group are drawn together.
        in_order: a `map`, which may compute several parts at once.
    """
    count = int(fold.max()) + 1
    left = len(y) * (count - 1) / count
    jobs = [
        (share, draw, number)
        for share, draws in DRAWS.items()
        for draw in range(draws)
        for number in range(count)
        if share * left >= FEWEST
    ]

    def outputs_of(job: tuple[float, int, int]) -> np.ndarray:
        share, draw, number = job
        rest, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        own = (seed + 1000 * draw + number) % 2**31
        part = data.draw(y[rest], task, 1 - share, own, None if groups is None else groups[rest])[0]
        rows = np.concatenate([rest[part], held])
        # A class of few examples may be neither in the part nor in the fold.
        together = None if groups is None else groups[rest[part]]
        return choose_penalty(axes.take(rows), y[rows], task, len(part), own, whole.shape[1], together)

    found = dict(zip(jobs, in_order(outputs_of, jobs), strict=True))
    points, noise = [], []
    for share, draws in DRAWS.items():
        if (share, 0, 0) not in found:
            continue
        scores, of_folds = [], []
        for draw in range(draws):
            outputs = np.empty_like(whole)
            for number in range(count):
                outputs[fold == number] = found[share, draw, number]
            scores.append(score(task, y, outputs))
            of_folds.append([score(task, y[one], outputs[one]) for one in (fold == k for k in range(count))])
        # Draws from what a fold leaves vary by less than examples from elsewhere would.
        noise.append(share / (1 - share) * float(np.nanmean(np.var(of_folds, axis=0, ddof=1))))
        points.append((share, draws, float(np.mean(scores))))
    spread = float(np.mean(noise)) if noise else math.nan  # falls as the examples grow
    return [
        Point(round(share * left), mean, math.sqrt(spread / (share * count) * ((1 - share) / draws + share)))
        for share, draws, mean in (*points, (1.0, 1, score(task, y, whole)))
    ]


def errors_of(task: str, points: Sequence[Point]) -> list[float]:
    """Return what each score lacks of 1; of an error, the score itself."""
    is_share = runs.is_share(runs.OBJECTIVE[task])
    return [1 - point.score if is_share else point.score for point in points]


@dataclass(frozen=True)
class Forecast:
    """An error for some number of examples, as far as the curve tells.

    Attributes:
        low, middle, high: 2.5 %, 50 % and 97.5 % of what the curve may be.
    """

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """What curves may be, by how well they fit.

    Attributes:
        floor, scale, rate: ``(curves,)`` of each.
        weight: ``(curves,)``, that add up to 1.
    """

    floor: np.ndarray
    scale: np.ndarray
    rate: np.ndarray
    weight: np.ndarray

    @classmethod
    def fit(
        cls, sizes: Sequence[float], errors: Sequence[float], deviations: Sequence[float]
    ) -> LearningCurve:
        """Weigh all curves by their likelihood.

        Args:
            sizes: of the training, two or more.
            errors: with that many examples; the smaller the better.
            deviations: the standard error of each.
        """
        n, error = np.asarray(sizes, float), np.asarray(errors, float)
        smallest = max(float(error.min()), 1e-12)
        precision = 1 / np.maximum(deviations, LEAST * smallest) ** 2
        floor, rate = (one.reshape(-1, 1) for one in np.meshgrid(FLOORS * smallest, RATES, indexing="ij"))
        shape = (n / n.max()) ** -rate  # (curves, sizes): 1 at the largest
        curvature = (precision * shape**2).sum(axis=1)
        middle = (precision * shape * (error - floor)).sum(axis=1) / curvature
        deviation = 1 / np.sqrt(curvature)
        # Of each floor and rate the best scale and those around it: nine points of a normal distribution.
        points = np.linspace(-2.4, 2.4, 9)
        scale = middle[:, None] + points * deviation[:, None]  # (curves, 9)
        left = error - floor - shape * middle[:, None]
        fit = -0.5 * (precision * left**2).sum(axis=1)[:, None] - 0.5 * points**2 + np.log(deviation)[:, None]
        fit = np.where(scale >= 0, fit, -np.inf)  # more examples never do harm
        weight = np.exp(fit - fit.max())
        shapes = np.broadcast_to(floor, scale.shape), np.broadcast_to(rate, scale.shape)
        scale = scale * n.max() ** shapes[1]
        kept = weight.reshape(-1) > 0
        known = weight.reshape(-1)[kept]
        floor, scale, rate = (one.reshape(-1)[kept] for one in (shapes[0], scale, shapes[1]))
        return cls(floor, scale, rate, known / known.sum())

    def at(self, size: float) -> Forecast:
        """Return the error with so many examples."""
        return self._quantiles(self._errors(size))

    def gain(self, size: float, more: float) -> Forecast:
        """Return by how much the error falls from one number of examples to a larger one."""
        return self._quantiles(self._errors(size) - self._errors(more))

    def _errors(self, size: float) -> np.ndarray:
        found: np.ndarray = self.floor + self.scale * size**-self.rate
        return found

    def _quantiles(self, values: np.ndarray) -> Forecast:
        order = np.argsort(values)
        places = np.cumsum(self.weight[order])
        rows = np.minimum(np.searchsorted(places, LEVELS), len(values) - 1)
        return Forecast(*map(float, values[order][rows]))
