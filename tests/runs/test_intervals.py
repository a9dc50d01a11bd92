"""Intervals of a split's figures: scipy's and scikit-learn's own, and how often they hold the truth.

Fifty simulations in the ordinary run, with a wide bound; `make simulate` sets CNNBENCH_SIMULATIONS=1000.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from cnnbench.runs import metrics
from cnnbench.runs.intervals import intervals_of

SIMULATIONS = int(os.environ.get("CNNBENCH_SIMULATIONS", "50"))
LOWEST = 0.9 if SIMULATIONS >= 1000 else 0.8
Drawn = tuple[np.ndarray, np.ndarray]


def two(rng: np.random.Generator, count: int) -> Drawn:
    y = (rng.random(count) < 0.3).astype(int)
    return y, 1 / (1 + np.exp(-(rng.normal(size=count) + 2 * y - 1.2)))[:, None]


def five(rng: np.random.Generator, count: int) -> Drawn:
    y, scores = rng.integers(5, size=count), rng.normal(size=(count, 5))
    scores[np.arange(count), y] += 2
    scores = np.exp(scores)
    return y, scores / scores.sum(axis=1, keepdims=True)


def labels(rng: np.random.Generator, count: int) -> Drawn:
    y = (rng.random((count, 3)) < 0.3).astype(float)
    return y, 1 / (1 + np.exp(-(rng.normal(size=y.shape) + 2 * y - 1.2)))


def values(rng: np.random.Generator, count: int) -> Drawn:
    y = 3 * rng.normal(size=count)
    return y, (y + rng.standard_t(6, size=count))[:, None]


DRAWS: dict[str, Callable[[np.random.Generator, int], Drawn]] = {
    "binary": two,
    "multiclass": five,
    "multilabel": labels,
    "regression": values,
}


@pytest.mark.parametrize("task", DRAWS)
def test_intervals_hold_the_truth_as_often_as_they_say(task: str) -> None:
    rng, draw = np.random.default_rng(7), DRAWS[task]
    truth = metrics.compute(task, *draw(rng, 200_000))
    held: dict[str, list[bool]] = {}
    for _ in range(SIMULATIONS):
        y, outputs = draw(rng, 200)
        figures = metrics.compute(task, y, outputs)
        found = intervals_of(task, y, outputs, figures)
        assert set(found) == set(figures)
        for name, interval in found.items():
            assert interval.low < figures[name] < interval.high
            held.setdefault(name, []).append(interval.low <= truth[name] <= interval.high)
    rates = {name: np.mean(each) for name, each in held.items()}
    assert min(rates.values()) >= LOWEST, rates


def test_groups_that_go_together_make_them_wider() -> None:
    """Ten pictures of each of 40 patients, who are right or wrong together."""
    rng, held = np.random.default_rng(3), []
    groups = np.repeat(np.arange(40), 10)
    y = np.zeros(400, int)
    for _ in range(SIMULATIONS):
        outputs = np.where(rng.random(40)[groups] < 0.8, 0.1, 0.9)[:, None]
        figures = metrics.compute_named("binary", y, outputs, ["accuracy"])
        together = intervals_of("binary", y, outputs, figures, groups=groups)["accuracy"]
        alone = intervals_of("binary", y, outputs, figures)["accuracy"]
        assert together.high - together.low > 2 * (alone.high - alone.low)
        held.append(together.low <= 0.8 <= together.high)
    assert np.mean(held) >= LOWEST


def test_shares_have_wilsons_interval() -> None:
    y, outputs = five(np.random.default_rng(0), 90)
    figures = metrics.compute("multiclass", y, outputs, ["top_2_accuracy"])
    found = intervals_of("multiclass", y, outputs, figures)
    for name in ("accuracy", "top_2_accuracy"):
        expected = stats.binomtest(round(90 * figures[name]), 90).proportion_ci(method="wilson")
        assert (found[name].low, found[name].high) == pytest.approx((expected.low, expected.high))
        assert found[name].method == "Wilson"


def test_a_loss_has_students_interval_around_what_was_measured() -> None:
    losses = np.random.default_rng(0).exponential(size=80)
    y, outputs = five(np.random.default_rng(0), 80)
    found = intervals_of("multiclass", y, outputs, {"loss": losses.mean() + 0.5}, losses)["loss"]
    expected = stats.ttest_1samp(losses, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low + 0.5, expected.high + 0.5))


def test_nothing_is_said_where_nothing_can_be() -> None:
    right, outputs = np.array([0, 1, 1, 0]), np.array([[0.1], [0.9], [0.8], [0.2]])
    figures = metrics.compute("binary", right, outputs)
    found = intervals_of("binary", right, outputs, figures)
    assert set(found) == {"accuracy", "precision", "recall"}  # Wilson's is an interval even then
    assert found["accuracy"].low < 0.6 < found["accuracy"].high == 1
    assert intervals_of("binary", right[:1], outputs[:1], figures) == {}
    assert intervals_of("binary", right, outputs * np.nan, figures) == {}


def test_the_same_examples_have_the_same_intervals() -> None:
    y, outputs = labels(np.random.default_rng(0), 60)
    figures = metrics.compute("multilabel", y, outputs, ["roc_auc", "hamming_loss"])
    first, second = (intervals_of("multilabel", y, outputs, figures) for _ in range(2))
    assert first == second
    assert set(first) == set(figures)
