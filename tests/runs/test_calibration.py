"""ECE, temperature and threshold: against other programs, by hand, and at their promised rates.

Fifty simulations in the ordinary run, with a wide bound; `make simulate` sets CNNBENCH_SIMULATIONS=1000.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as sk
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from cnnbench.errors import CnnbenchError
from cnnbench.runs import calibration, metrics
from cnnbench.runs.calibration import Aim, fit_temperature, probabilities_of, reliability, untempered

SIMULATIONS = int(os.environ.get("CNNBENCH_SIMULATIONS", "50"))
RATE = (0.03, 0.07) if SIMULATIONS >= 1000 else (0.0, 0.16)  # around one in twenty
SHAPES = {"binary": (1,), "multiclass": (4,), "multilabel": (3,)}


def drawn(task: str, rng: np.random.Generator, count: int, temperature: float = 1.0) -> tuple[Any, Any]:
    """Draw targets, and logits that are too large by the factor `temperature`."""
    logits = 1.5 * rng.normal(size=(count, *SHAPES[task]))
    if task == "multiclass":
        chances = softmax(logits, axis=1).cumsum(axis=1)
        y = (rng.random((count, 1)) > chances).sum(axis=1).clip(max=3)
    else:
        y = (rng.random(logits.shape) < expit(logits)).astype(np.uint8)
    return (y[:, 0] if task == "binary" else y), (temperature * logits).astype(np.float32)


# -- Reliability -----------------------------------------------------------------------------------


def test_the_error_by_hand() -> None:
    y, outputs = np.array([0, 1, 1, 1]), np.array([[0.11], [0.13], [0.71], [0.99]])
    found = reliability("binary", y, outputs)
    assert found is not None
    assert found.count.tolist() == [2, 1, 1]
    assert found.said.tolist() == pytest.approx([0.12, 0.71, 0.99])
    assert found.came.tolist() == [0.5, 1, 1]
    assert found.ece == pytest.approx((2 * 0.38 + 0.29 + 0.01) / 4)


def test_of_classes_it_is_the_answer_and_of_labels_each_of_them() -> None:
    y, outputs = np.array([0, 2]), np.array([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]])
    of_classes = reliability("multiclass", y, outputs)
    labels = reliability("multilabel", np.array([[1, 0]]), np.array([[0.7, 0.1]]))
    assert of_classes is not None
    assert labels is not None
    assert of_classes.ece == pytest.approx((0.3 + 0.5) / 2)
    assert labels.ece == pytest.approx((0.3 + 0.1) / 2)
    assert reliability("regression", y, outputs) is None
    assert reliability("multiclass", y, outputs * np.nan) is None


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_error_is_mapies(task: str) -> None:
    mapie = pytest.importorskip("mapie.metrics.calibration")
    y, logits = drawn(task, np.random.default_rng(0), 500, 2)
    outputs = probabilities_of(task, logits)
    found = reliability(task, y, outputs)
    assert found is not None
    said, came = (
        (outputs[:, 0], y) if task == "binary" else (outputs.max(1), (outputs.argmax(1) == y).astype(int))
    )
    edges = calibration.BINS + 1  # which it takes the number of
    expected = mapie.expected_calibration_error(came, said, num_bins=edges, split_strategy="uniform")
    assert found.ece == pytest.approx(expected)


@pytest.mark.parametrize("task", SHAPES)
def test_calibrated_probabilities_exceed_the_bound_of_chance_once_in_twenty(task: str) -> None:
    rng, errors, chances, beyond = np.random.default_rng(1), [], [], []
    for _ in range(SIMULATIONS):
        y, logits = drawn(task, rng, 150)
        found = reliability(task, y, probabilities_of(task, logits))
        assert found is not None
        errors.append(found.ece)
        chances.append(found.by_chance)
        beyond.append(found.ece > found.by_chance_95)
    assert RATE[0] <= np.mean(beyond) <= RATE[1]
    assert np.mean(chances) == pytest.approx(np.mean(errors), rel=0.05 if SIMULATIONS >= 1000 else 0.2)
    y, logits = drawn(task, rng, 1000, 4)
    overconfident = reliability(task, y, probabilities_of(task, logits))
    assert overconfident is not None
    assert overconfident.ece > 2 * overconfident.by_chance_95


def test_many_examples_drawn_together_show_what_each_alone_would(monkeypatch: pytest.MonkeyPatch) -> None:
    y, logits = drawn("binary", np.random.default_rng(2), 2000)
    alone = reliability("binary", y, expit(logits))
    monkeypatch.setattr(calibration, "MOST_GROUPS", 200)
    together = reliability("binary", y, expit(logits))
    assert together is not None
    assert alone is not None
    assert together.by_chance == pytest.approx(alone.by_chance, rel=0.05)
    assert together.by_chance_95 == pytest.approx(alone.by_chance_95, rel=0.05)


# -- Temperature -----------------------------------------------------------------------------------


class Logits(ClassifierMixin, BaseEstimator):
    """Classifier of scikit-learn whose inputs are logits already."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Logits:
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0] if x.shape[1] == 1 else x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return metrics.predicted_classes(x, (0.0,))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_temperature_is_scikit_learns(task: str) -> None:
    y, logits = drawn(task, np.random.default_rng(3), 400, 3)
    theirs = CalibratedClassifierCV(FrozenEstimator(Logits().fit(logits, y)), method="temperature").fit(
        logits, y
    )
    temperature = fit_temperature(task, y, logits)
    assert temperature is not None
    ours = probabilities_of(task, logits, temperature)
    expected = theirs.predict_proba(logits)
    np.testing.assert_allclose(ours, expected[:, -ours.shape[1] :], atol=1e-4)


@pytest.mark.parametrize("task", SHAPES)
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_the_temperature_is_found_again(task: str, temperature: float) -> None:
    y, logits = drawn(task, np.random.default_rng(4), 20_000, temperature)
    found = fit_temperature(task, y, logits)
    assert found == pytest.approx(temperature, rel=0.05)
    outputs = probabilities_of(task, logits, temperature)
    before = untempered(task, outputs, temperature)
    np.testing.assert_allclose(before, probabilities_of(task, logits), atol=2e-4)


def test_no_temperature_is_best_where_all_is_right() -> None:
    y = np.arange(40) % 2
    right = np.where(y, 3.0, -3.0)[:, None].astype(np.float32)
    assert fit_temperature("binary", y, right) is None
    assert fit_temperature("multiclass", y, np.eye(2)[y]) is None


def test_a_temperature_that_one_mistake_would_undo_is_not_taken() -> None:
    """Of 60 sure answers one is wrong: fitted on parts without it, every temperature is too low for it."""
    y = np.arange(60) % 2
    logits = np.where(y, 4.0, -4.0)[:, None]
    logits[7] *= -0.5
    assert fit_temperature("binary", y, logits) is None


def test_a_temperature_that_pays_less_than_a_standard_error_is_not_taken() -> None:
    right = [drawn("binary", np.random.default_rng(seed), 100) for seed in range(20)]  # as they are
    assert sum(fit_temperature("binary", *one) is not None for one in right) <= 4


def test_equal_examples_of_a_group_are_no_proof_for_a_temperature() -> None:
    """Of 20 videos of 20 equal frames each: fitted and tested on the same video, any number seems to pay."""
    taken: dict[bool, int] = {True: 0, False: 0}
    for seed in range(20):
        y, logits = (np.repeat(one, 20, axis=0) for one in drawn("binary", np.random.default_rng(seed), 20))
        for has_groups in taken:
            groups = np.repeat(np.arange(20), 20) if has_groups else None
            taken[has_groups] += fit_temperature("binary", y, logits, groups) is not None
    assert taken[True] <= 4
    assert taken[False] >= 10
    y, logits = drawn("binary", np.random.default_rng(0), 400, 3)
    assert fit_temperature("binary", y, logits, np.arange(400) % 4) is None  # fewer groups than parts
    assert fit_temperature("binary", y, logits, np.arange(400) % 100) is not None


def test_a_temperature_at_the_end_of_what_is_looked_for_is_not_taken() -> None:
    rng = np.random.default_rng(0)
    y, logits = rng.integers(0, 2, 2000), 100 * rng.normal(size=(2000, 1))  # that say nothing
    assert fit_temperature("binary", y, logits) is None


# -- Threshold -------------------------------------------------------------------------------------


def scored(seed: int = 5, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return targets and probabilities, some of which are equal."""
    rng = np.random.default_rng(seed)
    y = (rng.random(count) < 0.3).astype(int)
    return y, expit(rng.normal(size=count) + 1.5 * y - 1).round(2).astype(np.float32)


def chosen(aim: str, y: np.ndarray, outputs: np.ndarray) -> tuple[float, bool]:
    found = Aim.parse(aim).threshold(y, outputs)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_serves_the_aim_better(seed: int) -> None:
    y, outputs = scored(seed)
    every = [outputs > cut for cut in np.arange(0.005, 1, 0.01)]
    recalls = np.array([sk.recall_score(y, said) for said in every])
    precisions = np.array([sk.precision_score(y, said, zero_division=0) for said in every])

    def reached(aim: str, score: Any) -> Any:
        threshold, is_reached = chosen(aim, y, outputs)
        assert is_reached
        return score(y, outputs > np.float32(threshold))

    assert reached("f1", sk.f1_score) == pytest.approx(max(sk.f1_score(y, said) for said in every))
    best = max(sk.balanced_accuracy_score(y, said) for said in every)
    assert reached("balanced_accuracy", sk.balanced_accuracy_score) == pytest.approx(best)
    assert reached("precision=0.7", sk.precision_score) >= 0.7
    assert reached("precision=0.7", sk.recall_score) == recalls[precisions >= 0.7].max()
    assert reached("recall=0.9", sk.recall_score) >= 0.9
    assert reached("recall=0.9", sk.precision_score) == precisions[recalls >= 0.9].max()

    def cost(y: np.ndarray, said: np.ndarray) -> float:
        return float((said > y).sum() + 5 * (y > said).sum())

    assert reached("cost=5", cost) == min(cost(y, said) for said in every)


def test_a_precision_beyond_reach_gets_the_nearest_and_says_so() -> None:
    y, outputs = np.array([1, 0, 1, 0, 0, 1]), np.linspace(0.9, 0.4, 6)
    y[0] = 0
    threshold, is_reached = chosen("precision=0.95", y, outputs)
    assert not is_reached
    said = outputs > threshold
    assert sk.precision_score(y, said) == max(sk.precision_score(y, outputs > cut) for cut in outputs - 0.05)


def test_of_equal_ones_the_nearest_to_a_half_is_taken_and_of_one_kind_none() -> None:
    y, outputs = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.8, 0.9])
    assert chosen("f1", y, outputs)[0] == pytest.approx(0.55)
    assert Aim("f1").threshold(np.zeros(4), outputs) is None
    assert Aim("f1").threshold(np.ones(4), outputs) is None


def test_a_threshold_between_neighbours_of_float32_keeps_them_apart() -> None:
    low = np.float32(0.3)
    outputs = np.array([low, np.nextafter(low, np.float32(1))], np.float32)
    threshold, _ = chosen("f1", np.array([0, 1]), outputs)
    assert metrics.predicted_classes(outputs[:, None], (threshold,)).tolist() == [0, 1]


def test_a_cost_of_calibrated_probabilities_has_the_threshold_of_decision_theory() -> None:
    y, logits = drawn("binary", np.random.default_rng(6), 50_000)
    assert chosen("cost=4", y, expit(logits[:, 0]))[0] == pytest.approx(1 / 5, abs=0.03)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("f2", "did you mean f1?"),
        ("f1=0.5", "leave out =0.5"),
        ("precision", "training.calibration.threshold=precision=0.9"),
        ("recall=1.5", "training.calibration.threshold=recall=0.95"),
        ("cost=-1", "training.calibration.threshold=cost=5"),
        ("cost=nan", "training.calibration.threshold=cost=5"),
    ],
)
def test_an_aim_that_makes_no_sense_is_refused(text: str, hint: str) -> None:
    with pytest.raises(CnnbenchError) as refused:
        Aim.parse(text)
    assert hint in refused.value.hint
