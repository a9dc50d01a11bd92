"""Networks for inference alone: batch normalisation is a part of the convolution before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

# The kernel of each comes right before its bias; the channels that a normalisation scales are its last axis,
# of a depthwise kernel its last two.
FOLDABLE = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)


def folded(model: keras.Model, dtype: str | None = None) -> keras.Model:
    """Return a copy of a model that gives the same outputs in inference mode, up to rounding, sooner.

    A `BatchNormalization` that alone takes the output of a linear convolution or dense layer becomes a factor
    of that layer's kernel and an addend of its bias. Whatever else the model has stays as it is.

    Args:
        model: one graph of layers, built; it is left alone.
        dtype: policy of the copy's layers from the first with weights to the last but one: pixels are
            prepared, and outputs given, as in the model. None leaves every layer its own.
    """
    normalizations = _foldable(model)
    gone = {layer.name for layer in normalizations.values()}
    names = [layer.name for layer in model.layers]
    first = next((number for number, layer in enumerate(model.layers) if _has_kernel(layer)), len(names))

    def copy(layer: Any) -> Any:
        if layer.name in gone:
            return layer  # never called
        config = layer.get_config()
        if layer.name in normalizations:
            config["use_bias"] = True
        if dtype is not None and first <= names.index(layer.name) < len(names) - 1:
            config["dtype"] = dtype
        return type(layer).from_config(config)

    def call(layer: Any, *inputs: Any, **keywords: Any) -> Any:
        return inputs[0] if layer.name in gone else layer(*inputs, **keywords)

    copied = keras.models.clone_model(model, clone_function=copy, call_function=call)
    for layer in model.layers:
        if layer.weights and layer.name not in gone:
            weights = layer.get_weights()
            if (normalization := normalizations.get(layer.name)) is not None:
                weights = _with_normalization(layer, weights, normalization)
            copied.get_layer(layer.name).set_weights(weights)
    return copied


def _has_kernel(layer: Any) -> bool:
    return bool(layer.weights) and not isinstance(layer, layers.Normalization)


def _foldable(model: keras.Model) -> dict[str, Any]:
    """Return the normalisations that can be folded, by the name of the layer before each."""
    config = model.get_config()
    before = {one["name"]: list(_producers(one["inbound_nodes"])) for one in config["layers"]}
    takers = Counter(name for names in before.values() for name in names)
    # One [layer, call, tensor], or a structure of them.
    outputs = {name for name in keras.tree.flatten(config["output_layers"]) if isinstance(name, str)}
    layer_of = {layer.name: layer for layer in model.layers}
    return {
        name: layer
        for layer in model.layers
        if type(layer) is layers.BatchNormalization
        and len(before[layer.name]) == 1
        and type(one := layer_of[name := before[layer.name][0]]) in FOLDABLE
        and one.activation is keras.activations.linear
        and getattr(one, "data_format", "channels_last") == "channels_last"
        and layer.axis in (-1, len(layer.input.shape) - 1)
        and takers[name] == 1
        and name not in outputs
    }


def _producers(calls: Any) -> Iterator[str]:
    """Yield the layer of each tensor that calls take, as a network's configuration names it."""
    if isinstance(calls, Mapping):
        if calls.get("class_name") == "__keras_tensor__":
            yield calls["config"]["keras_history"][0]
        else:
            yield from _producers(list(calls.values()))
    elif isinstance(calls, list | tuple):
        for call in calls:
            yield from _producers(call)


def _with_normalization(layer: Any, weights: list[np.ndarray], normalization: Any) -> list[np.ndarray]:
    """Return a layer's weights, its bias the last, with those of the normalisation after it."""
    *others, kernel = weights[:-1] if layer.use_bias else weights
    bias = weights[-1] if layer.use_bias else 0.0
    gamma, beta, mean, variance = (
        given if variable is None else np.asarray(variable, np.float64)
        for variable, given in (
            (normalization.gamma, 1.0),
            (normalization.beta, 0.0),
            (normalization.moving_mean, 0.0),
            (normalization.moving_variance, 1.0),
        )
    )
    scale = gamma / np.sqrt(variance + normalization.epsilon)
    of_kernel = scale.reshape(kernel.shape[2:]) if type(layer) is layers.DepthwiseConv2D else scale
    return [*others, kernel * of_kernel, (bias - mean) * scale + beta]
