"""A temperature in Keras's own layers: the stored file gives tempered probabilities by Keras alone."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import expit, softmax

from cnnbench.nn import load_checkpoint, split_at_logits, with_temperature
from cnnbench.training import model as parts


def trained(task: str, units: int, dtype: str = "float32") -> keras.Model:
    inputs = keras.Input((3,))
    raw = keras.layers.Dense(units, dtype=dtype)(inputs)
    model = parts.with_activation(keras.Model(inputs, raw), task)
    sparse = task == "multiclass"
    model.compile("adam", "sparse_categorical_crossentropy" if sparse else "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize(("task", "units"), [("multiclass", 4), ("binary", 1), ("multilabel", 3)])
def test_the_stored_file_divides_its_logits(task: str, units: int, tmp_path: Path) -> None:
    model, x = trained(task, units), 9 * np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    y = np.zeros((20,) if task == "multiclass" else (20, units))
    model.fit(x, y, verbose=0)
    network, activation = split_at_logits(model)
    logits = np.asarray(network(x))
    np.testing.assert_array_equal(activation(logits), model(x))
    with_temperature(model, 2.5).save(tmp_path / "tempered.keras")
    expected = softmax(logits / 2.5, axis=1) if task == "multiclass" else expit(logits / 2.5)
    for load in (keras.models.load_model, load_checkpoint):
        loaded = load(tmp_path / "tempered.keras")
        np.testing.assert_allclose(loaded(x), expected, atol=1e-6)
        assert loaded.count_params() == model.count_params()
        assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) > 0
    # The loss takes the logits before the activation, where a probability would have rounded to 0 or 1.
    assert float(loaded.evaluate(x, y, verbose=0)) == pytest.approx(
        float(np.mean(_cross_entropy(task, logits / 2.5))), rel=1e-5
    )
    np.testing.assert_array_equal(activation(logits), model(x))  # which is left as it was


def _cross_entropy(task: str, logits: np.ndarray) -> np.ndarray:
    """Return that of class 0, or of no label."""
    if task == "multiclass":
        return np.asarray(np.log(np.exp(logits.astype(np.float64)).sum(axis=1)) - logits[:, 0])
    return np.logaddexp(0, logits)


def test_a_network_in_half_precision_is_tempered_in_float32(tmp_path: Path) -> None:
    model = with_temperature(trained("binary", 1, "mixed_bfloat16"), 3.0)
    model.save(tmp_path / "half.keras")
    loaded = load_checkpoint(tmp_path / "half.keras")
    assert loaded.get_layer("temperature").compute_dtype == "float32"
    assert [layer.name for layer in loaded.layers][-2:] == ["temperature", "predictions"]
