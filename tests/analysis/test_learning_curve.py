"""Learning curves: known laws are found again, and forecasts are as wide as they are unsure.

`make simulate` sets CNNBENCH_SIMULATIONS=1000.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cnnbench.analysis.learning_curve import LearningCurve, errors_of, measure_curve
from cnnbench.analysis.linear_probe import Axes, choose_penalty, cross_validate, score
from cnnbench.data.partition import folds

SIMULATIONS = int(os.environ.get("CNNBENCH_SIMULATIONS", "50"))
SIZES = np.array([80, 200, 400, 800])


def most_wrong(tries: int) -> float:
    return float(stats.binom.ppf(0.975 if SIMULATIONS >= 1000 else 0.999, tries, 0.05))


def test_a_law_without_noise_is_found_again() -> None:
    errors = 0.05 + 2 * SIZES**-0.6
    curve = LearningCurve.fit(SIZES, errors, [1e-5] * 4)
    found = curve.at(1600)
    assert found.middle == pytest.approx(0.05 + 2 * 1600**-0.6, abs=2e-3)
    assert found.low <= found.middle <= found.high
    assert curve.gain(800, 1600).middle == pytest.approx(2 * (800**-0.6 - 1600**-0.6), abs=2e-3)


def test_what_stands_still_promises_nothing_and_noise_promises_anything() -> None:
    still = LearningCurve.fit(SIZES, [0.1] * 4, [1e-4] * 4).gain(800, 1600)
    unsure = LearningCurve.fit(SIZES, [0.1] * 4, [0.05] * 4).gain(800, 1600)
    assert still.high < 0.002
    assert unsure.high > 0.01
    assert unsure.low >= 0


def test_a_forecast_from_half_of_the_examples_has_the_error_of_all_of_them() -> None:
    """Laws of any kind, seen with noise at 10, 25 and 50 %."""
    rng, missed = np.random.default_rng(0), 0
    for _ in range(SIMULATIONS):
        floor, rate, largest = rng.uniform(0, 0.2), rng.uniform(0.2, 1), rng.uniform(0.1, 0.4)
        errors = floor + largest * (SIZES / SIZES[0]) ** -rate
        deviations = 0.05 * errors * np.sqrt(SIZES[0] / SIZES)
        seen = errors + rng.normal(size=4) * deviations
        found = LearningCurve.fit(SIZES[:3], seen[:3], deviations[:3]).at(SIZES[3])
        missed += not found.low <= errors[3] <= found.high
    assert missed <= most_wrong(SIMULATIONS)


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return (rng.normal(size=(n, 60)) + 0.4 * (y[:, None] - 0.5)).astype(np.float32), y


def test_a_measured_curve_tells_what_twice_the_examples_would_gain() -> None:
    """Features of which the truth is known: the gain from 200 examples to 400, of many models."""
    gains = []
    for seed in range(40):
        x, y = drawn(2400, 10**6 + seed)
        found = [
            choose_penalty(Axes.of(x[rows]), y[rows], "binary", known, seed)
            for known in (200, 400)
            for rows in [np.r_[:known, 400:2400]]
        ]
        gains.append(score("binary", y[400:], found[1]) - score("binary", y[400:], found[0]))
    expected, tries, missed = float(np.mean(gains)), SIMULATIONS // 5, 0
    for seed in range(tries):
        x, y = drawn(200, seed)
        axes, fold = Axes.of(x), folds(y, "binary", 5, seed)
        points = measure_curve(axes, y, "binary", fold, cross_validate(axes, y, "binary", fold), seed)
        assert [point.examples for point in points] == [16, 40, 80, 160]
        errors, deviations = errors_of("binary", points), [point.deviation for point in points]
        found = LearningCurve.fit([point.examples for point in points], errors, deviations).gain(200, 400)
        missed += not found.low <= expected <= found.high
    assert missed <= most_wrong(tries)


def test_few_examples_have_a_short_curve_and_groups_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = drawn(40, 0)
    axes, groups = Axes.of(x), np.arange(40) // 2
    halved: list[np.ndarray] = []

    def kept(*arguments: Any) -> np.ndarray:
        halved.append(arguments[-1])
        return choose_penalty(*arguments)

    monkeypatch.setattr("cnnbench.analysis.learning_curve.choose_penalty", kept)
    fold = folds(y, "binary", 5, 0, groups)
    points = measure_curve(
        axes,
        y,
        "binary",
        fold,
        cross_validate(axes, y, "binary", fold),
        0,
        groups,
        in_order=lambda f, jobs: [f(job) for job in jobs],
    )
    assert [point.examples for point in points] == [8, 16, 32]
    assert all((np.unique(one, return_counts=True)[1] == 2).all() for one in halved)


def test_a_class_of_few_examples_may_be_missing_from_a_fold_and_a_part() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], (30, 30, 2))
    axes, fold = Axes.of(rng.normal(size=(62, 20)).astype(np.float32)), folds(y, "multiclass", 5, 0)
    points = measure_curve(axes, y, "multiclass", fold, cross_validate(axes, y, "multiclass", fold), 0)
    assert [point.examples for point in points] == [12, 25, 50]
