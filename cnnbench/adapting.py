"""What layers measure on the training split before the training begins."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench.datasets.core import Split
from cnnbench.layers import PatchWhitening

log = logging.getLogger("cnnbench")

WHITENING_PIECES = 20  # of 256 images, each with hundreds of patches


def adapt(model: keras.Model, split: Split) -> None:
    """Measure on (training) examples what `Normalization` and `PatchWhitening` layers need to know.

    A layer that is never adapted does nothing, silently. Its input may be any tensor of the model.
    """
    for layer in model.layers:
        is_whitening = isinstance(layer, PatchWhitening)
        is_normalization = isinstance(layer, keras.layers.Normalization) and layer.input_mean is None
        if is_normalization and _sees_channels_of_bytes(layer, model, split):
            _adapt_to_bytes(layer, split)
        elif is_normalization or is_whitening:
            until = keras.Model(model.inputs[0], layer.input)
            # As a graph, a few hundred at a time: run eagerly, every tensor on the way stays in memory.
            forward = tf.function(lambda x, until=until: until(x, training=False), reduce_retracing=True)
            pieces = split.pieces(256, most=WHITENING_PIECES if is_whitening else None)
            layer.adapt(forward(tf.cast(piece, "float32")) for piece in pieces)
        elif any(
            isinstance(inner, keras.layers.Normalization) and inner.input_mean is None
            for inner in getattr(layer, "layers", [])
        ):
            log.warning("the Normalization inside %s is not adapted: it does nothing", layer.name)


def _sees_channels_of_bytes(layer: Any, model: keras.Model, split: Split) -> bool:
    return layer.input is model.inputs[0] and split.x.dtype == np.uint8 and layer._keep_axis == (3,)


def _adapt_to_bytes(layer: Any, split: Split) -> None:
    """Mean and variance of each channel of raw pixels, by counting them: exact, in half of Keras's time."""
    counts = np.zeros((split.x.shape[-1], 256))
    for piece in split.pieces():
        for channel, count in enumerate(counts):
            count += np.bincount(piece[..., channel].ravel(), minlength=256)
    values = np.arange(256.0)
    mean = counts @ values / counts.sum(axis=1)
    variance = counts @ values**2 / counts.sum(axis=1) - mean**2
    layer.set_weights([mean, variance, np.zeros(())])
    layer.finalize_state()
