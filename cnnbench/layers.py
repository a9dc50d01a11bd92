"""Layers and activations that Keras lacks, registered so that checkpoints load without custom objects."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("cnnbench")
class ReverseChannels(keras.layers.Layer):
    """RGB to BGR, and back: the last axis in reverse. The shape stays."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.flip(inputs, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
