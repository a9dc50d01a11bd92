"""MobileNetV2 as torchvision builds it: the paddings and epsilons that its weights were trained with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import layers

EPSILON = 1e-5
# Of each stage: factor of expansion, channels, blocks, strides.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# ImageNet's, of red, green and blue: what torchvision subtracts from pixels 0…255, and divides by.
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)


def torch_mobilenet_v2(x: Any, include_top: bool = False) -> keras.Model:
    """Build MobileNetV2 of Sandler et al. 2018 with torch's paddings: one pixel on either side.

    Keras's own pads strided convolutions at the right and below alone, and its batch normalisation has
    another epsilon. The layers have the names of Keras's: `Conv1`, `expanded_conv`, `block_1` … `block_16`,
    `Conv_1`.

    Args:
        x: ``(batch, height, width, 3)``, pixels scaled by `MEAN` and `DEVIATION`.
        include_top: end with the logits of ImageNet's 1000 classes, not with the feature maps.

    Returns:
        From the inputs of `x` to ``(batch, height / 32, width / 32, 1280)`` or ``(batch, 1000)``.
    """
    (inputs,) = keras.utils.get_source_inputs(x)
    x = layers.ZeroPadding2D(1, name="Conv1_pad")(x)
    x = layers.Conv2D(32, 3, 2, use_bias=False, name="Conv1")(x)
    x = _normalize(x, "bn_Conv1", "Conv1_relu")
    for name, expansion, filters, strides in _blocks():
        x = _block(x, name, expansion, filters, strides)
    x = layers.Conv2D(1280, 1, use_bias=False, name="Conv_1")(x)
    x = _normalize(x, "Conv_1_bn", "out_relu")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="global_average_pooling")(x)
        x = layers.Dropout(0.2, name="predictions_dropout")(x)
        x = layers.Dense(1000, name="predictions")(x)
    return keras.Model(inputs, x, name="torch_mobilenet_v2")


def torch_names() -> dict[str, str]:
    """Return what torch's file calls each layer with weights."""
    names = {"Conv1": "features.0.0", "bn_Conv1": "features.0.1"}
    for index, (name, expansion, _, _) in enumerate(_blocks(), start=1):
        inside, last = f"features.{index}.conv.", 1
        if expansion > 1:
            names |= {f"{name}_expand": f"{inside}0.0", f"{name}_expand_BN": f"{inside}0.1"}
            last = 2
        filtered = f"{inside}{last - 1}"
        names |= {f"{name}_depthwise": f"{filtered}.0", f"{name}_depthwise_BN": f"{filtered}.1"}
        names |= {f"{name}_project": f"{inside}{last}", f"{name}_project_BN": f"{inside}{last + 1}"}
    return names | {"Conv_1": "features.18.0", "Conv_1_bn": "features.18.1", "predictions": "classifier.1"}


def fits(arrays: Mapping[str, Any]) -> bool:
    """Say whether torch's arrays are weights of this network, with a top or without."""
    needed = {f"{name}.weight" for layer, name in torch_names().items() if layer != "predictions"}
    return needed <= set(arrays) and arrays["features.18.0.weight"].shape[:2] == (1280, 320)


def _blocks() -> Iterator[tuple[str, int, int, int]]:
    """Yield name, factor of expansion, channels and strides of each block."""
    index = 0
    for expansion, filters, count, strides in STAGES:
        for repeat in range(count):
            yield f"block_{index}" if index else "expanded_conv", expansion, filters, 1 if repeat else strides
            index += 1


def _block(x: Any, name: str, expansion: int, filters: int, strides: int) -> Any:
    shortcut = x
    if expansion > 1:
        x = layers.Conv2D(x.shape[-1] * expansion, 1, use_bias=False, name=f"{name}_expand")(x)
        x = _normalize(x, f"{name}_expand_BN", f"{name}_expand_relu")
    if strides > 1:
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    padding = "valid" if strides > 1 else "same"
    x = layers.DepthwiseConv2D(3, strides, padding=padding, use_bias=False, name=f"{name}_depthwise")(x)
    x = _normalize(x, f"{name}_depthwise_BN", f"{name}_depthwise_relu")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_project_BN")(x)
    if strides == 1 and shortcut.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _normalize(x: Any, name: str, activation: str) -> Any:
    x = layers.BatchNormalization(epsilon=EPSILON, name=name)(x)
    return layers.ReLU(6.0, name=activation)(x)
