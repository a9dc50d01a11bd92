"""What never changes in training is only centred, in the stored model too; all else is as Keras has it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnbench.data.dataset import Split
from cnnbench.training.build import adapt


def scaled_by(x: np.ndarray, *layers: keras.layers.Layer) -> tuple[keras.Model, list[str]]:
    inputs = keras.Input(x.shape[1:])
    reached = inputs
    for layer in layers:
        reached = layer(reached)
    model = keras.Model(inputs, reached)
    return model, adapt(model, Split(x, np.zeros(len(x))))


def weights(layer: keras.layers.Layer) -> list[np.ndarray]:
    return [np.asarray(value) for value in layer.get_weights()[:2]]


values = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=15, deadline=None)
@given(columns=st.lists(st.none() | values, min_size=1, max_size=6), seed=st.integers(0, 99))
def test_constant_columns_are_centred_and_the_others_are_as_keras_has_them(
    columns: list[float | None], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, (300, len(columns))).astype(np.float32)  # in two pieces
    constant = np.array([value is not None for value in columns])
    x[:, constant] = [value for value in columns if value is not None]
    layer, plain = keras.layers.Normalization(), keras.layers.Normalization()
    model, remarks = scaled_by(x, layer)
    plain.adapt(iter([x[:256], x[256:]]))
    for found, kept in zip(weights(layer), weights(plain), strict=True):
        np.testing.assert_array_equal(found[~constant], kept[~constant])
    moved = np.asarray(model(x + np.float32(1)))
    np.testing.assert_allclose(moved[:, constant], (x + np.float32(1) - x)[:, constant])
    assert bool(remarks) == constant.any()
    if remarks:
        assert f"{constant.sum()} of {len(columns)} inputs" in remarks[0]


@settings(max_examples=15, deadline=None)
@given(grey=st.lists(st.none() | st.integers(0, 255), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_constant_channels_of_bytes_are_centred(grey: list[int | None], seed: int) -> None:
    x = np.random.default_rng(seed).integers(0, 256, (300, 4, 5, len(grey))).astype(np.uint8)
    for channel, value in enumerate(grey):
        x[..., channel] = x[..., channel] if value is None else value
    model, remarks = scaled_by(x, keras.layers.Normalization())
    other = np.zeros((1, *x.shape[1:]), np.float32)
    for channel, value in enumerate(grey):
        if value is not None:
            assert (np.asarray(model(other))[..., channel] == -value).all()
    assert bool(remarks) == any(value is not None for value in grey)
    assert np.abs(np.asarray(model(other))).max() < 256


@pytest.mark.parametrize("before", [keras.layers.Flatten, lambda: keras.layers.Rescaling(1 / 255, 0.1)])
def test_constant_pixels_are_centred_wherever_the_layer_stands(before: type, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (300, 6, 6, 1)).astype(np.uint8)
    x[:, :2] = 3  # a border
    axis = (1, 2, 3) if before is not keras.layers.Flatten else -1
    model, remarks = scaled_by(x, before(), keras.layers.Normalization(axis=axis, name="normalization"))
    assert remarks == [
        "normalization: 12 of 36 inputs never change in train, so centred and not divided by a deviation of 0"
    ]
    bright = np.full((1, 6, 6, 1), 255, np.float32)
    z = np.asarray(model(bright)).reshape(6, 6)
    assert z[:2] == pytest.approx(252 if before is keras.layers.Flatten else 252 / 255)
    model.save(tmp_path / "best.keras")
    stored = keras.models.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(np.asarray(stored(bright)), np.asarray(model(bright)))


def test_one_scale_for_all_inputs() -> None:
    x = np.full((20, 3), 7, np.float32)
    model, remarks = scaled_by(x, keras.layers.Normalization(axis=None))
    assert np.asarray(model(x + 1)) == pytest.approx(1)
    assert "1 of 1 inputs never changes" in remarks[0]


@pytest.mark.parametrize("precision", [None, "float32"])
def test_a_feature_that_hardly_ever_shows_is_not_blown_up(precision: str | None) -> None:
    """One of a frozen backbone that a single training picture has, and faintly."""
    x = np.random.default_rng(0).integers(0, 256, (100, 1, 1, 5), np.uint8)
    x[..., 3] = 0
    x[7, ..., 3] = 1
    x[..., 4] = 9  # never changes
    inputs = keras.Input((1, 1, 5))
    features = keras.layers.Flatten(name="features", dtype="float32")(inputs)
    model = keras.Model(inputs, keras.layers.Normalization(name="features_scaling")(features))
    (told,) = adapt(model, Split(x, np.zeros(100)), precision)
    assert "1 of 5 inputs never changes" in told
    deviations = x.reshape(100, 5)[:, :4].std(axis=0)
    of_others = float(np.median(deviations**2)) ** 0.5
    outputs = model.predict(np.full((1, 1, 1, 5), 200.0), verbose=0)[0]
    assert outputs[3] == pytest.approx((200 - 0.01) / of_others, rel=1e-4)
    widest = int(deviations.argmax())
    assert outputs[widest] == pytest.approx((200 - x[..., widest].mean()) / deviations[widest], rel=1e-4)
    assert outputs[4] == pytest.approx(191)
