"""Multilayer perceptrons, for images and for tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import keras
from keras import layers
from pydantic import Field

from cnnbench.models.blocks import (
    BatchNormalization,
    Momentum,
    Normalization,
    dense_stack,
    flatten,
    inputs_and_scaling,
    require_kind,
)


def mlp(
    input_shape: Sequence[int],
    outputs: int,
    units: Sequence[Annotated[int, Field(ge=1)]] = (128,),
    activation: str = "relu",
    batch_normalization: BatchNormalization = True,
    momentum: Momentum = 0.9,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    kernel_regularizer: Any = None,
    embedding: Any = None,
    normalization: Normalization = True,
) -> keras.Model:
    """Build a multilayer perceptron: one dense layer per entry of `units`, then `outputs` raw outputs.

    Args:
        input_shape: of one example, without the batch.
        outputs: width of the last layer.
        units: of each hidden layer; may be empty for a linear model.
        activation: Keras name.
        batch_normalization: of each dense layer: before its activation, `after_activation` or not at all.
        momentum: of the running averages of batch normalisation, per step.
        dropout: before each hidden layer, as a fraction.
        kernel_regularizer: of each hidden layer's kernel: a Keras name or an object.
        embedding: a layer between the scaled inputs and the first hidden layer, such as `PeriodicEmbedding`.
        normalization: scale inputs to mean 0 and deviation 1 (see `inputs_and_scaling`), or `after_flatten`.
    """
    require_kind("model.kernel_regularizer", keras.regularizers.get(kernel_regularizer), keras.Regularizer)
    require_kind("model.embedding", embedding, layers.Layer)
    inputs, x = inputs_and_scaling(input_shape, normalization)
    if len(input_shape) > 1:
        x = flatten(x, normalization)
    if embedding is not None:
        x = embedding(x)
    x = dense_stack(
        x, units, activation, batch_normalization, dropout, momentum, kernel_regularizer=kernel_regularizer
    )
    return keras.Model(inputs, layers.Dense(outputs, name="outputs")(x), name="mlp")
