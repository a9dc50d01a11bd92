"""Linear probes: the same models as scikit-learn's, and scores that are worth what their intervals say.

Fifty simulations in the ordinary run, with wide bounds; `make simulate` sets CNNBENCH_SIMULATIONS=1000.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression, Ridge

from cnnbench.analysis.linear_probe import (
    Axes,
    blocks_of,
    choose_penalty,
    cross_validate,
    fit_linear,
    interval,
    score,
    values_of_blocks,
)
from cnnbench.analysis.significance import judge
from cnnbench.data.dataset import Task
from cnnbench.data.partition import folds

SIMULATIONS = int(os.environ.get("CNNBENCH_SIMULATIONS", "50"))
MOST_WRONG = int(stats.binom.ppf(0.975 if SIMULATIONS >= 1000 else 0.999, SIMULATIONS, 0.05))
SHARE = 0.25  # of a weak penalty


def drawn(task: Task, n: int, columns: int, seed: int, signal: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    """Features of normal noise around a centre of each class or label, or that a value is a sum of."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(3, columns)) * signal / np.sqrt(columns)
    x = rng.normal(size=(n, columns))
    if task == "regression":
        return x.astype(np.float32), (x @ centres[0] + rng.normal(size=n)).astype(np.float32)
    if task == "multilabel":
        y = (rng.random((n, 3)) < 0.3).astype(np.uint8)
        return (x + y @ centres).astype(np.float32), y
    y = rng.integers(0, 2 if task == "binary" else 3, n)
    return (x + centres[y]).astype(np.float32), y


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
@pytest.mark.parametrize("columns", [10, 200], ids=["tall", "wide"])
def test_the_models_are_those_of_scikit_learn(task: Task, columns: int) -> None:
    x, y = drawn(task, 120, columns, 0)
    axes = Axes.of(x)
    seen = np.ones((2, len(x)))
    seen[1, :40] = 0  # several at once, and one of them of fewer examples
    found = list(fit_linear(axes, y, task, seen, (4.0, SHARE)))[-1][1]
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    alpha = SHARE * columns
    if task == "regression":
        mean, deviation = y.mean(), y.std()
        model = Ridge(alpha=alpha).fit(scaled[40:], (y[40:] - mean) / deviation)
        expected = (model.predict(scaled) * deviation + mean)[:, None]
    elif task == "multilabel":
        models = [LogisticRegression(C=1 / alpha).fit(scaled[40:], y[40:, label]) for label in range(3)]
        expected = np.stack([model.predict_proba(scaled)[:, 1] for model in models], axis=1)
    else:
        expected = (
            LogisticRegression(C=1 / alpha, max_iter=1000).fit(scaled[40:], y[40:]).predict_proba(scaled)
        )
        expected = expected[:, 1:] if task == "binary" else expected
    assert np.abs(found - expected).max() < 0.02 * (1 if task != "regression" else y.std())


def test_neither_an_example_nor_its_penalty_is_chosen_by_its_own_fold() -> None:
    x, y = drawn("multiclass", 150, 20, 1)
    fold = folds(y, "multiclass", 5, 0)
    other = y.copy()
    other[fold == 2] = (y[fold == 2] + 1) % 3
    before, after = (cross_validate(Axes.of(x), one, "multiclass", fold) for one in (y, other))
    assert np.abs(before - after)[fold == 2].max() < 0.05
    assert np.abs(before - after)[fold != 2].max() > 0.1


def test_the_penalty_is_strong_where_features_say_nothing() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 300)).astype(np.float32), np.arange(100) % 2
    outputs = cross_validate(Axes.of(x), y, "binary", folds(y, "binary", 5, 0))
    assert np.abs(outputs - 0.5).max() < 0.2


def test_an_example_without_weight_is_not_learnt_from() -> None:
    x, y = drawn("binary", 120, 10, 3, signal=4)
    wrong = np.arange(120) < 40
    outputs = cross_validate(
        Axes.of(x), np.where(wrong, 1 - y, y), "binary", folds(y, "binary", 5, 0), (~wrong).astype(np.float32)
    )
    assert score("binary", y, outputs) > 0.9


def test_columns_that_never_change_are_no_harm() -> None:
    x, y = drawn("binary", 60, 10, 4)
    axes = Axes.of(np.concatenate([x, np.full((60, 5), 7, np.float32)], axis=1))
    assert axes.columns == 10
    assert np.isfinite(cross_validate(axes, y, "binary", folds(y, "binary", 3, 0))).all()


def test_blocks_are_of_whole_units_and_alike_large() -> None:
    units = np.repeat(np.arange(80), np.random.default_rng(0).integers(1, 6, 80))
    block = blocks_of(units, 0)
    assert all(len(np.unique(block[units == unit])) == 1 for unit in range(80))
    assert np.ptp(np.bincount(block)) <= 5
    assert len(np.bincount(block)) == 50


CASES: list[tuple[Task, int, int]] = [("binary", 120, 300), ("regression", 100, 20)]
if SIMULATIONS >= 1000:
    CASES += [("binary", 100, 20), ("multiclass", 150, 20), ("multilabel", 150, 20), ("regression", 100, 40)]


def of_one(task: Task, n: int, columns: int, seed: int) -> tuple[float, np.ndarray]:
    x, y = drawn(task, n, columns, seed)
    outputs = cross_validate(Axes.of(x), y, task, folds(y, task, 5, seed))
    block = blocks_of(np.arange(n), seed)
    values = values_of_blocks(
        lambda rows: score(task, y[rows], outputs[rows]), block, is_share=task != "regression"
    )
    return score(task, y, outputs), values


def truth(task: Task, n: int, columns: int) -> float:
    """Return the score on new examples of models that have learnt from as many as a fold leaves."""
    seen, scores = n - n // 5, []
    for seed in range(60):
        x, y = drawn(task, seen + 2000, columns, 10**6 + seed)
        scores.append(score(task, y[seen:], choose_penalty(Axes.of(x), y, task, seen, seed)))
    return float(np.mean(scores))


@pytest.mark.parametrize(("task", "n", "columns"), CASES)
def test_an_interval_has_the_score_on_new_examples_as_often_as_it_says(
    task: Task, n: int, columns: int
) -> None:
    expected, missed = truth(task, n, columns), 0
    for seed in range(SIMULATIONS):
        found, values = of_one(task, n, columns, seed)
        assert np.isclose(values.mean(), found)
        low, high = interval(found, values, n, task != "regression")
        missed += not low <= expected <= high
    assert missed <= MOST_WRONG


def test_features_that_are_alike_are_seldom_told_apart() -> None:
    """Three draws of features of the same examples: none is better."""
    alarms = 0
    for seed in range(SIMULATIONS):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, 120)
        fold, block, samples = folds(y, "binary", 5, seed), blocks_of(np.arange(120), seed), []
        for _ in range(3):
            x = (rng.normal(size=(120, 20)) + 0.5 * (y[:, None] - 0.5)).astype(np.float32)
            outputs = cross_validate(Axes.of(x), y, "binary", fold)
            is_right = (outputs[:, 0] > 0.5) == y
            samples.append(
                dict(enumerate(values_of_blocks(lambda rows, one=is_right: one[rows].mean(), block)))
            )
        alarms += any(one.worse for one in judge(samples, True, with_p=False).verdicts)
    assert alarms <= MOST_WRONG


def test_features_that_predict_a_number_alike_are_seldom_told_apart() -> None:
    """The same columns with other noise, three times: none is better."""
    alarms = 0
    for seed in range(SIMULATIONS):
        rng = np.random.default_rng(seed)
        columns = rng.normal(size=(100, 20))
        y = (columns @ rng.normal(size=20) / 20**0.5 + rng.normal(size=100))[:, None]
        fold, block, samples = folds(y, "regression", 5, seed), blocks_of(np.arange(100), seed), []
        for _ in range(3):
            x = (columns + rng.normal(size=columns.shape)).astype(np.float32)
            outputs = cross_validate(Axes.of(x), y, "regression", fold)

            def error(rows: np.ndarray, one: np.ndarray = outputs, y: np.ndarray = y) -> float:
                return score("regression", y[rows], one[rows])

            samples.append(dict(enumerate(values_of_blocks(error, block, is_share=False))))
        alarms += any(one.worse for one in judge(samples, False, with_p=False).verdicts)
    assert alarms <= MOST_WRONG


@pytest.mark.parametrize(("found", "values"), [(1.0, np.ones(20)), (0.0, np.zeros(20))])
def test_a_score_without_spread_has_an_interval_of_its_examples(found: float, values: np.ndarray) -> None:
    low, high = interval(found, values, 40, is_share=True)
    assert 0 <= low <= found <= high <= 1
    assert 0.05 < high - low < 0.3


def test_a_penalty_is_chosen_on_whole_groups() -> None:
    """Examples of a group are copies: were it halved, the weakest penalty would predict each half best."""
    rng = np.random.default_rng(0)
    group, n = np.repeat(np.arange(40), 5), 200
    own, y = rng.normal(size=(40, 60)), rng.integers(0, 2, 40)  # nothing in the features tells the class
    x = np.concatenate([own[group], rng.normal(size=(100, 60))]).astype(np.float32)
    y = np.concatenate([y[group], rng.integers(0, 2, 100)])
    whole, torn = (
        choose_penalty(Axes.of(x), y, "binary", n, 0, groups=groups)[:, 0] for groups in (group, None)
    )
    assert np.abs(whole - 0.5).mean() < 0.15  # the strongest penalty
    assert np.abs(torn - 0.5).mean() > 0.3


def test_one_group_alone_is_halved() -> None:
    x = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    found = choose_penalty(Axes.of(x), np.arange(12) % 2, "binary", 10, 0, groups=np.zeros(10))
    assert found.shape == (2, 1)
