"""Learning rates of single variables: what Keras's own optimizers compute with such a rate for all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnnbench.nn.rates import Rate, set_rates
from cnnbench.training.kernels import use_fast_update

Make = Callable[..., Any]
OPTIMIZERS: dict[str, Make] = {
    "adam": keras.optimizers.Adam,
    "adamw": partial(keras.optimizers.AdamW, weight_decay=0.3),
    "sgd": partial(keras.optimizers.SGD, momentum=0.9, nesterov=True, weight_decay=0.1),
    "rmsprop": keras.optimizers.RMSprop,
    "accumulating": partial(keras.optimizers.AdamW, weight_decay=0.3, gradient_accumulation_steps=2),
    "averaging": partial(keras.optimizers.Adam, use_ema=True, ema_overwrite_frequency=2),
}


def trained(make: Make, names: str, rates: dict[str, Rate], rate: float, steps: int = 6) -> dict[str, Any]:
    """Values of variables, by name, after steps with gradients that are the same for each."""
    variables = {
        name: keras.Variable(np.full((3, 2), ord(name) / 100, np.float32), name=name) for name in names
    }
    optimizer = make(learning_rate=rate)
    optimizer.build(list(variables.values()))
    use_fast_update(optimizer)
    assert set_rates(optimizer, [rates.get(name, Rate()) for name in names])
    drawn = np.random.default_rng(0).normal(size=(steps, 3, 2)).astype(np.float32)

    @tf.function
    def step(gradient: Any) -> None:
        optimizer.apply([gradient] * len(names))

    for gradient in drawn:
        step(tf.constant(gradient))
    return {name: np.array(variable) for name, variable in variables.items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_variable_has_what_an_optimizer_with_its_rate_gives_it(name: str) -> None:
    make = OPTIMIZERS[name]
    found = trained(make, "abc", {"b": Rate(0.5), "c": Rate(0.25)}, 0.1)
    for variable, rate in zip("abc", (0.1, 0.05, 0.025), strict=True):
        expected = trained(make, variable, {}, rate)[variable]
        np.testing.assert_allclose(found[variable], expected, rtol=1e-5, err_msg=variable)


def test_rates_hold_where_losses_are_scaled() -> None:
    variables = [keras.Variable(np.ones(2, np.float32)), keras.Variable(np.ones(2, np.float32))]
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=4.0)
    optimizer.build(variables)
    set_rates(optimizer, [Rate(), Rate(0.5)])
    optimizer.apply([tf.constant([4.0, 4.0])] * 2)
    np.testing.assert_allclose([np.array(one)[0] for one in variables], [0.9, 0.95], rtol=1e-6)


def test_what_has_no_share_stays_until_it_has_one() -> None:
    share = keras.Variable(0.0, trainable=False)
    make = OPTIMIZERS["adamw"]
    found = trained(
        make, "ab", {"b": Rate(1.0, share, 0.5, keras.Variable(np.zeros((3, 2), np.float32)))}, 0.1
    )
    np.testing.assert_array_equal(found["b"], np.full((3, 2), np.float32(0.98)))
    share.assign(1.0)
    assert np.all(trained(make, "ab", {"b": Rate(1.0, share)}, 0.1)["b"] != np.float32(0.98))


def test_a_pull_goes_towards_the_anchor() -> None:
    variable, anchor = (
        keras.Variable(np.full(2, 5.0, np.float32)),
        keras.Variable(np.full(2, 3.0, np.float32)),
    )
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build([variable])
    set_rates(optimizer, [Rate(0.5, pull=2.0, anchor=anchor)])
    optimizer.apply([tf.zeros(2)])
    np.testing.assert_allclose(np.array(variable), 3.0 + 2.0 * (1 - 0.1 * 0.5 * 2.0), rtol=1e-6)


def test_another_keras_trains_all_alike_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cnnbench.nn.rates.HOOKS", ("_no_such_method",))
    optimizer = keras.optimizers.SGD(0.1)
    variable = keras.Variable(np.ones(2, np.float32))
    optimizer.build([variable])
    with caplog.at_level(logging.WARNING, logger="cnnbench"):
        assert not set_rates(optimizer, [Rate(0.5)])
    assert "no Optimizer._no_such_method" in caplog.text
    optimizer.apply([tf.ones(2)])
    np.testing.assert_allclose(np.array(variable), 0.9)
