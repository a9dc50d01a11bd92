"""Layers, activations and regularizers that Keras lacks.

All are registered, so that checkpoints load without custom objects.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import keras
from keras import ops
from pydantic import Field


@keras.saving.register_keras_serializable("cnnbench")
class ReverseChannels(keras.layers.Layer):
    """RGB to BGR, and back: the last axis in reverse. The shape stays."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.flip(inputs, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable("cnnbench")
def soft_relu(z: Any) -> Any:
    """``log(1 + exp(z))``, in the form that neither overflows nor loses its gradient."""
    return ops.softplus(z)


@keras.saving.register_keras_serializable("cnnbench")
def soft_relu_naive(z: Any) -> Any:
    """``log(1 + exp(z))`` as it is written down: infinite from ``z`` = 89 on in float32, then NaN.

    Kept to show how that looks (`experiment=notes/california_soft_relu_naive`); use `soft_relu`.
    """
    return ops.log(1.0 + ops.exp(z))


@keras.saving.register_keras_serializable("cnnbench")
class L1(keras.regularizers.Regularizer):
    """``strength`` times the sum of absolute values: an own regularizer, as the study note writes one.

    Args:
        strength: per unit of weight.
    """

    def __init__(self, strength: Annotated[float, Field(ge=0)] = 0.01) -> None:
        self.strength = strength

    def __call__(self, weights: Any) -> Any:
        return self.strength * ops.sum(ops.absolute(weights))

    def get_config(self) -> dict[str, Any]:
        return {"strength": self.strength}


@keras.saving.register_keras_serializable("cnnbench")
class PeriodicEmbedding(keras.layers.Layer):
    """Each column of a table to a vector of its own: sines and cosines, a linear map, ReLU.

    The "PLR" embedding of Gorishniy et al. 2022, *On Embeddings for Numerical Features in Tabular Deep
    Learning*. Lets a small network bend a column where trees would cut it.

    ``(batch, columns)`` becomes ``(batch, columns * units)``.

    Args:
        frequencies: trained frequencies per column.
        sigma: deviation of their initial values, in periods per unit of a standardised column.
        units: size of each column's vector.
    """

    def __init__(
        self,
        frequencies: Annotated[int, Field(ge=1)] = 32,
        sigma: Annotated[float, Field(gt=0)] = 0.3,
        units: Annotated[int, Field(ge=1)] = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.frequencies, self.sigma, self.units = frequencies, sigma, units

    def build(self, input_shape: Any) -> None:
        columns = input_shape[-1]
        self.coefficients = self.add_weight(
            name="coefficients",
            shape=(columns, self.frequencies),
            initializer=keras.initializers.RandomNormal(stddev=self.sigma),
        )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(columns, 2 * self.frequencies, self.units),
            initializer=keras.initializers.VarianceScaling(distribution="uniform"),
        )
        self.bias = self.add_weight(name="bias", shape=(columns, self.units), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        angles = 2 * math.pi * ops.expand_dims(inputs, -1) * self.coefficients
        waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        embedded = ops.relu(ops.einsum("bcf,cfu->bcu", waves, self.kernel) + self.bias)
        return ops.reshape(embedded, (-1, embedded.shape[1] * self.units))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] * self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "frequencies": self.frequencies,
            "sigma": self.sigma,
            "units": self.units,
        }
