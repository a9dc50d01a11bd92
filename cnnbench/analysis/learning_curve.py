"""Learning curves: how an error falls with the number of examples, and what more of them would bring.

The curve is a power law, ``error = floor + scale · examples ** -rate`` (Hestness et al. 2017, arXiv:1712.00409).
A few points do not settle its three parameters, so none is chosen: every curve counts by how well it fits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RATES = np.linspace(0.1, 1.2, 56)  # that are found in practice; 0.5 of a linear model with all it needs
FLOORS = np.linspace(0, 1, 101)  # as a part of the smallest error
LEVELS = np.array([0.025, 0.5, 0.975])
MOST_DRAWS = 2000
LITTLE = 0.1  # of the error that is left: less is hardly worth the pictures


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
    def fit(cls, sizes: Sequence[float], errors: Sequence[float], deviations: Sequence[float]) -> LearningCurve:
        """Weigh all curves by their likelihood.

        Args:
            sizes: of the training, two or more.
            errors: with that many examples; the smaller the better.
            deviations: the standard error of each.
        """
        n, error = np.asarray(sizes, float), np.asarray(errors, float)
        smallest = max(float(error.min()), 1e-12)
        precision = 1 / np.maximum(deviations, 1e-3 * smallest) ** 2
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
        whole = [one.reshape(-1)[kept] for one in (shapes[0], scale, shapes[1], weight)]
        return cls(*whole[:3], whole[3] / whole[3].sum())

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
