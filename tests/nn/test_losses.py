"""Losses: against Keras and against the formula, and whether a model that was compiled with one reloads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score

from cnnbench.nn import losses


def probabilities(examples: int = 6, classes: int = 4) -> np.ndarray:
    raw = np.random.default_rng(0).random((examples, classes), dtype=np.float32) + 0.05
    return raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_smoothed_crossentropy_of_indices_is_keras_of_one_hot(
    smoothing: float, shape: tuple[int, ...]
) -> None:
    y_true, y_pred = np.array([0, 1, 2, 3, 3, 0]), probabilities()
    keras_loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    expected = float(keras_loss(np.eye(4, dtype=np.float32)[y_true], y_pred))
    own = float(losses.SmoothedCrossentropy(smoothing)(y_true.reshape(shape), y_pred))
    assert own == pytest.approx(expected, rel=1e-6)


def test_mixed_labels_get_a_loss_of_shares() -> None:
    shares, outputs = np.array([[0.25, 0.75], [1, 0]]), np.array([[0.5, 0.5], [0.2, 0.8]])
    loss = losses.for_task("multiclass", soft_labels=True)
    expected = -np.mean(np.sum(shares * np.log(outputs), axis=1))
    assert float(loss(shares, outputs)) == pytest.approx(expected, rel=1e-5)


def test_smoothed_crossentropy_without_smoothing_is_the_sparse_crossentropy() -> None:
    y_true, y_pred = np.array([3, 2, 1, 0, 0, 1]), probabilities()
    expected = float(keras.losses.SparseCategoricalCrossentropy()(y_true, y_pred))
    assert float(losses.SmoothedCrossentropy(0.0)(y_true, y_pred)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("make", [losses.huber, losses.create_huber, losses.ThresholdHuber])
@pytest.mark.parametrize(
    ("threshold", "error", "expected"),
    [(1.0, 0.5, 0.125), (1.0, 1.0, 0.5), (1.0, 3.0, 2.5), (2.0, -3.0, 4.0), (0.5, 0.5, 0.125)],
)
def test_huber_is_half_the_square_up_to_the_threshold_and_linear_beyond(
    make: Callable[[float], keras.losses.Loss], threshold: float, error: float, expected: float
) -> None:
    y_true = np.array([[10.0]], np.float32)
    assert float(make(threshold)(y_true, y_true + error)) == pytest.approx(expected)


def test_huber_is_that_of_keras() -> None:
    y_true, y_pred = np.random.default_rng(0).normal(0, 3, (2, 20, 1)).astype(np.float32)
    expected = float(keras.losses.Huber(delta=1.5)(y_true, y_pred))
    assert float(losses.huber(1.5)(y_true, y_pred)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("make", [losses.huber, losses.create_huber])
def test_huber_compares_each_target_with_its_own_output(make: Callable[[], keras.losses.Loss]) -> None:
    """Targets come as ``(batch,)``, outputs as ``(batch, 1)``; broadcast they make ``(batch, batch)``."""
    x = np.arange(8, dtype=np.float32)[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.layers[0].set_weights([np.array([[100.0]], np.float32), np.zeros(1, np.float32)])
    model.compile(loss=make())
    exact = tf.data.Dataset.from_tensor_slices((x, 100 * x[:, 0])).batch(4)
    assert model.evaluate(exact, verbose=0) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_the_formula_of_its_paper(gamma: float) -> None:
    y_true, y_pred = np.array([0, 1, 2, 3, 3, 0]), probabilities()
    p = y_pred[np.arange(6), y_true]
    expected = float(np.mean(-((1 - p) ** gamma) * np.log(p)))
    assert float(losses.focal(gamma)(y_true, y_pred)) == pytest.approx(expected, rel=1e-5)
    assert float(losses.focal(gamma)(y_true[:, None], y_pred)) == pytest.approx(expected, rel=1e-5)
    shares = np.eye(4, dtype=np.float32)[y_true]  # as MixUp gives them
    assert float(losses.focal(gamma)(shares, y_pred)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("alpha", "weights"), [(None, (1, 1)), (0.75, (0.25, 0.75))])
def test_focal_loss_of_one_output_and_of_labels_weighs_class_1_by_alpha(
    alpha: float | None, weights: tuple[float, float]
) -> None:
    y_true, outputs = np.array([[1, 0, 0], [0, 1, 1]]), np.array([[0.9, 0.2, 0.4], [0.3, 0.6, 0.1]])
    p = np.where(y_true == 1, outputs, 1 - outputs)
    expected = np.mean(np.array(weights)[y_true] * -((1 - p) ** 2) * np.log(p))
    by_label = losses.FocalCrossentropy(2.0, alpha, by_label=True)
    assert float(by_label(y_true, outputs)) == pytest.approx(expected, rel=1e-5)
    column = y_true.reshape(-1, 1), outputs.reshape(-1, 1)
    assert float(losses.focal(2.0, alpha)(*column)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("multiclass", keras.losses.SparseCategoricalCrossentropy),
        ("binary", keras.losses.BinaryCrossentropy),
        ("multilabel", keras.losses.BinaryCrossentropy),
        ("regression", keras.losses.MeanSquaredError),
    ],
)
def test_each_task_has_its_standard_loss(task: str, kind: type) -> None:
    assert type(losses.for_task(task)) is kind


@pytest.mark.parametrize(
    ("make", "outputs", "setting"),
    [
        (lambda: losses.SmoothedCrossentropy(0.3), 4, ("label_smoothing", 0.3)),
        (lambda: losses.create_huber(2.5), 1, ("threshold", 2.5)),
        (lambda: losses.huber(2.5), 1, ("threshold", 2.5)),
        (lambda: losses.focal(1.5), 4, ("gamma", 1.5)),
        (lambda: losses.FocalCrossentropy(by_label=True), 2, ("by_label", True)),
    ],
)
def test_a_model_compiled_with_it_reloads_with_the_same_loss(
    make: Callable[[], keras.losses.Loss], outputs: int, setting: tuple[str, float], tmp_path: Path
) -> None:
    activation = "softmax" if outputs > 1 else "linear"
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(outputs, activation)])
    model.compile(loss=make())
    x, y = np.random.default_rng(0).random((8, 3), np.float32), np.arange(8) % outputs
    if setting[0] == "by_label":
        y = np.eye(outputs)[y]
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    name, value = setting
    assert type(reloaded.loss) is type(make())
    assert reloaded.loss.get_config()[name] == value
    assert reloaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-6)


def test_balanced_labels_count_as_their_weights_say() -> None:
    weights = [[0.5, 2.0], [1.0, 1.0]]
    y_true = np.array([[1, 0], [0, 1], [0.25, 1]], np.float32)
    y_pred = np.array([[0.8, 0.3], [0.4, 0.9], [0.5, 0.5]], np.float32)
    each = -(y_true * np.log(y_pred) + (1 - y_true) * np.log(1 - y_pred))
    lacking, having = np.transpose(weights)
    expected = ((y_true * having + (1 - y_true) * lacking) * each).mean()
    loss = losses.BalancedCrossentropy(weights)
    assert float(loss(y_true, y_pred)) == pytest.approx(expected, rel=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(y_true, y_pred)) == pytest.approx(expected, rel=1e-5)


def test_balanced_labels_take_the_values_before_the_sigmoid() -> None:
    """From outputs that round to 0 or 1 a loss of 50 would end at 16."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Activation("sigmoid")(inputs))
    model.compile(loss=losses.BalancedCrossentropy([[1, 1], [1, 1]]))
    x, y = np.array([[-50.0, 50.0]], np.float32), np.array([[1, 0]], np.uint8)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(50.0)


def test_f1_of_labels_and_rmse_of_targets_are_those_of_the_whole_epoch() -> None:
    rng = np.random.default_rng(0)
    had, outputs = rng.random((20, 3)) < 0.4, rng.random((20, 3), np.float32)
    f1, rmse = losses.LabelsF1(), losses.TargetsRmse(3)
    for part in (slice(0, 8), slice(8, 20)):
        f1.update_state(np.where(had, 0.7, 0.3)[part], outputs[part])  # mixed labels, too
        rmse.update_state(had[part], outputs[part])
    assert float(f1.result()) == pytest.approx(f1_score(had, outputs > 0.5, average="micro"))
    expected = np.sqrt(np.square(had - outputs).mean(axis=0)).mean()
    assert float(rmse.result()) == pytest.approx(expected)
