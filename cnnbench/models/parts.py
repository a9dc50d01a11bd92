"""Pieces that several families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers


def inputs_and_scaling(input_shape: Sequence[int], normalization: bool) -> tuple[Any, Any]:
    """The input tensor, and the same scaled.

    Args:
        input_shape: ``(height, width, channels)`` of pixels 0…255, or ``(columns,)``.
        normalization: per channel or column to mean 0 and deviation 1; the run adapts the layer on the
            training split. Otherwise pixels are divided by 255 and columns left as they are.
    """
    inputs = keras.Input(shape=tuple(input_shape), name="inputs")
    if normalization:
        # In float32 under every precision: a mean over pixels must not be summed in 8 bits.
        return inputs, layers.Normalization(axis=-1, dtype="float32", name="normalization")(inputs)
    if len(input_shape) == 3:
        return inputs, layers.Rescaling(1 / 255, name="rescaling")(inputs)
    return inputs, inputs


def dense_stack(
    x: Any, units: Sequence[int], activation: str, batch_normalization: bool, dropout: float, **dense: Any
) -> Any:
    """Dense layers, each with optional dropout before and batch normalisation between it and its activation."""
    for index, width in enumerate(units, start=1):
        if dropout:
            x = layers.Dropout(dropout, name=f"dense_{index}_dropout")(x)
        x = layers.Dense(width, use_bias=not batch_normalization, name=f"dense_{index}", **dense)(x)
        x = normalize_and_activate(x, f"dense_{index}", activation, batch_normalization)
    return x


def normalize_and_activate(x: Any, name: str, activation: str, batch_normalization: bool) -> Any:
    if batch_normalization:
        # Keras's momentum of 0.99 needs hundreds of steps before validation means anything.
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.Activation(activation, name=f"{name}_{activation}")(x)
