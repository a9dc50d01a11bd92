"""Layers of a trained network: their feature maps, kernels and class activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench.errors import CnnbenchError, nearest

CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
)
POOLINGS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
# Layers that belong to the one before: maps are shown as the next layer gets them.
ENDINGS = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
)
OUTPUT = "predictions"  # the layer that `training.model.with_activation` adds to the raw outputs
BATCH = 16


def convolutions_and_poolings(model: keras.Model) -> list[Any]:
    """Return convolutions and poolings in the order of computation, without poolings of one pixel."""
    return [
        layer
        for layer in model.layers
        if isinstance(layer, CONVOLUTIONS) or (isinstance(layer, POOLINGS) and max(layer.pool_size) > 1)
    ]


def layer_with_maps(model: keras.Model, name: str) -> Any:
    """Return the layer of that name.

    Raises:
        CnnbenchError: there is none, or its output is no stack of feature maps.
    """
    known = {layer.name: layer for layer in model.layers if len(getattr(layer.output, "shape", ())) == 4}
    if name not in known:
        names = [layer.name for layer in convolutions_and_poolings(model)] or list(known)
        raise CnnbenchError(f"--layer {name}: no such layer, or it has no feature maps", nearest(name, names))
    return known[name]


def is_depthwise(layer: Any) -> bool:
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def is_convolution(layer: Any) -> bool:
    return isinstance(layer, CONVOLUTIONS)


def describe_layer(layer: Any) -> str:
    """Describe a layer: kernel, stride, padding, and the sizes before and after."""
    sizes = " → ".join("×".join(map(str, tensor.shape[1:])) for tensor in (layer.input, layer.output))
    if is_convolution(layer):
        kind = "depthwise convolution" if is_depthwise(layer) else "convolution"
        window = layer.kernel_size
    elif isinstance(layer, POOLINGS):
        kind = "max pooling" if isinstance(layer, keras.layers.MaxPooling2D) else "average pooling"
        window = layer.pool_size
    else:
        return f"{type(layer).__name__}, {sizes}"
    stride = layer.strides if isinstance(layer.strides, int) else max(layer.strides)
    return f"{kind} {window[0]}×{window[1]}, stride {stride}, padding {layer.padding}, {sizes}"


def followed_by(model: keras.Model, layer: Any) -> list[Any]:
    """Return the normalisation and activation right after a layer, if nothing else uses its output."""
    chain: list[Any] = []
    tensor = layer.output
    while True:
        users = [other for other in model.layers if any(tensor is one for one in _inputs(other))]
        if len(users) != 1 or not isinstance(users[0], ENDINGS) or users[0].name == OUTPUT:
            return chain
        chain.append(users[0])
        tensor = users[0].output


def classifier_sizes(model: keras.Model) -> str:
    """Return the widths of the layers after the last feature maps, e.g. `256 → 128 → 10`."""
    layers = [layer for layer in model.layers if len(getattr(layer.output, "shape", ())) == 2]
    if not layers:
        return ""
    widths = [layers[0].output.shape[1]]
    widths += [layer.units for layer in layers[1:] if isinstance(layer, keras.layers.Dense)]
    return " → ".join(map(str, widths))


def _inputs(layer: Any) -> list[Any]:
    try:
        return list(keras.tree.flatten(layer.input))
    except (AttributeError, ValueError):  # an input layer; a layer that is used several times
        return []


def maps_of(model: keras.Model, layers: Sequence[Any], x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the outputs of some layers after what `followed_by` finds, and of the model, for a batch."""
    tensors = [(followed_by(model, layer) or [layer])[-1].output for layer in layers]
    part = keras.Model(model.inputs[0], [*tensors, model.outputs[0]])
    *maps, outputs = part(tf.cast(x, tf.float32), training=False)
    return [np.asarray(tf.cast(one, tf.float32)) for one in maps], np.asarray(outputs, np.float32)


def class_activation(
    model: keras.Model, layer: Any, x: np.ndarray, task: str, target: int = 0, threshold: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Compute Grad-CAM (Selvaraju et al. 2017): the places of the maps that speak for the predicted class.

    Of several labels it is the most probable one.

    Each map is weighted by the mean gradient of the class's raw output, before softmax, which would flatten
    the gradient of a sure answer. Negative sums are cut off.

    Args:
        model: a loaded checkpoint.
        layer: its maps are taken after its normalisation and activation.
        x: ``(n, height, width, channels)`` raw images.
        task: in a binary one a smaller output speaks for class 0; in a regression the value itself counts.
        target: of a regression with several.
        threshold: of a binary task, above which class 1 is predicted.

    Returns:
        heat ``(n, height, width)`` from 0 to 1, all 0 where nothing speaks for it; the model's outputs.
    """
    maps = (followed_by(model, layer) or [layer])[-1].output
    raw = next((one.input for one in model.layers if one.name == OUTPUT), model.outputs[0])
    part = keras.Model(model.inputs[0], [maps, raw, model.outputs[0]])
    heat, outputs = [], []
    for start in range(0, len(x), BATCH):
        batch = tf.constant(x[start : start + BATCH], tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(batch)  # of a frozen backbone no variable would have the maps recorded
            features, scores, result = part(batch, training=False)
            if task in ("multiclass", "multilabel"):
                score = tf.gather(scores, tf.argmax(scores, axis=1), axis=1, batch_dims=1)
            elif task == "binary":
                sign = tf.where(result[:, 0] > threshold, 1.0, -1.0)  # one for each image, not for each view
                score = scores[:, 0] * tf.cast(tf.tile(sign, [len(scores) // len(sign)]), scores.dtype)
            else:
                score = scores[:, target]
        slopes = tf.cast(tape.gradient(score, features), tf.float32)
        # Of several views of an image (`TestTimeViews`), the first shows it as it lies.
        slopes, features = slopes[: len(batch)], features[: len(batch)]
        weights = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
        spoke = tf.nn.relu(tf.reduce_sum(weights * tf.cast(features, tf.float32), axis=-1, keepdims=True))
        spoke = tf.image.resize(spoke, x.shape[1:3])[..., 0]
        heat.append(np.asarray(spoke / (tf.reduce_max(spoke, axis=(1, 2), keepdims=True) + 1e-12)))
        outputs.append(np.asarray(result, np.float32))
    return np.concatenate(heat), np.concatenate(outputs)


def kernels_of(layer: Any) -> np.ndarray:
    """Return the weights ``(height, width, inputs, filters)`` of a convolution."""
    weights = layer.depthwise_kernel if isinstance(layer, keras.layers.SeparableConv2D) else layer.kernel
    return np.asarray(weights, np.float32)


def first_dense_weights(model: keras.Model, shape: Sequence[int]) -> tuple[str, np.ndarray]:
    """Return name and weights ``(height, width, channels, units)`` of a first dense layer on all pixels.

    Raises:
        CnnbenchError: the model has no such layer.
    """
    size = int(np.prod(shape))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            weights = np.asarray(layer.kernel, np.float32)
            if weights.shape[0] == size:
                return layer.name, weights.reshape(*shape, -1)
            break
    raise CnnbenchError(
        f"the model {model.name} has neither convolutions nor a dense layer on all pixels",
        "there is nothing to draw",
    )
