"""Layers, activations and regularizers that Keras lacks, registered so that checkpoints load without custom objects."""

from __future__ import annotations

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
