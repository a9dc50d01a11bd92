"""Batch normalisation by TensorFlow's fused kernels, where Keras computes it of a dozen small ones.

On a CPU those walk through memory a dozen times, in float32 even where the network computes in bfloat16. With
one kernel each for forward and backward a convolutional network trains up to three times as fast
(`benchmarks/NOTES.md`). The layers stay Keras's own, and so does what is stored of them.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

SMALLEST_EPSILON = 1.001e-5  # of the kernels


def fuse_batch_normalization(model: keras.Model) -> int:
    """Let the batch normalisation of feature maps train by fused kernels: the same but for rounding.

    Returns:
        how many layers.
    """
    layers = [layer for layer in model._flatten_layers() if _can_be_fused(layer)]
    for layer in layers:
        layer.call = _fused(layer)
    return len(layers)


def _can_be_fused(layer: Any) -> bool:
    if type(layer) is not keras.layers.BatchNormalization or not layer.built:
        return False
    spec = layer.input_spec
    is_last = spec.ndim == 4 and layer.axis in (-1, 3)
    return is_last and not layer.synchronized and layer.epsilon >= SMALLEST_EPSILON


def _fused(layer: Any) -> Any:
    plain = type(layer).call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training or not layer.trainable or mask is not None:
            return plain(layer, inputs, training=training, mask=mask)
        ones = tf.ones_like(layer.moving_mean.value)
        gamma = tf.convert_to_tensor(layer.gamma) if layer.scale else ones
        beta = tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros_like(ones)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            tf.cast(inputs, layer.compute_dtype), gamma, beta, epsilon=layer.epsilon, is_training=True
        )
        # The kernel estimates the variance of all data (over n - 1), Keras takes the batch's own (over n).
        count = tf.cast(tf.size(inputs) / inputs.shape[-1], "float32")
        _move(layer.moving_mean, mean, layer.momentum)
        _move(layer.moving_variance, variance * (count - 1) / count, layer.momentum)
        return outputs

    return call


def _move(average: Any, value: Any, momentum: float) -> None:
    average.assign(average * momentum + tf.cast(value, average.dtype) * (1.0 - momentum))
