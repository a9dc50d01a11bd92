"""Residual networks for small images: the CIFAR ResNet and the wide ResNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import keras
from keras import layers
from pydantic import Field

from cnnbench.errors import CnnbenchError
from cnnbench.models.blocks import (
    ImageNormalization,
    Momentum,
    initializer,
    inputs_and_scaling,
    normalize_and_activate,
    require_images,
)

Positive = Annotated[int, Field(ge=1)]
STAGES = 3


def resnet(
    input_shape: Sequence[int],
    outputs: int,
    depth: Annotated[int, Field(ge=8, le=1202)] = 20,
    width: Positive = 16,
    shortcut: Literal["identity", "projection"] = "identity",
    stem_strides: Positive = 1,
    activation: str = "relu",
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    kernel_initializer: str = "he_normal",
    momentum: Momentum = 0.9,
    normalization: ImageNormalization = True,
) -> keras.Model:
    """Build the CIFAR ResNet of He et al. 2016, "Deep Residual Learning", section 4.2.

    Three stages of ``(depth - 2) / 6`` blocks of two 3×3 convolutions, each stage half the size and twice
    the width of the one before, then global average pooling and one dense layer.

    Args:
        input_shape: ``(height, width, channels)``.
        outputs: width of the last layer.
        depth: layers with weights, 6n + 2: 20, 32, 44, 56, 110.
        width: filters of the first stage.
        shortcut: where the shape changes: `identity` (the paper's option A: every second pixel, new channels
            zero, no parameters) or `projection` (option B: a strided 1×1 convolution).
        stem_strides: of the first convolution, pixels; 2 or 4 for images far above 32×32.
        activation: Keras name.
        dropout: before the last layer, as a fraction; the paper has none.
        kernel_initializer: of the convolutions: a Keras name, or `dirac` (see `layers.Dirac`).
        momentum: of the running averages of batch normalisation, per step.
        normalization: scale inputs to mean 0 and deviation 1 (see `inputs_and_scaling`).

    Raises:
        CnnbenchError: the data are not images, or no such depth exists.
    """
    require_images("resnet", input_shape)
    blocks = _blocks("resnet", depth, 2)
    inputs, x = inputs_and_scaling(input_shape, normalization)
    x = _convolution(x, width, 3, "stem", kernel_initializer, stem_strides)
    x = normalize_and_activate(x, "stem", activation, True, momentum)
    for stage in range(1, STAGES + 1):
        filters = width * 2 ** (stage - 1)
        for block in range(1, blocks + 1):
            strides = 2 if block == 1 and stage > 1 else 1
            x = _basic_block(
                x,
                filters,
                strides,
                f"stage_{stage}_block_{block}",
                kernel_initializer,
                shortcut,
                activation,
                momentum,
            )
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(outputs, name="outputs")(x), name=f"resnet_{depth}")


def wide_resnet(
    input_shape: Sequence[int],
    outputs: int,
    depth: Annotated[int, Field(ge=10, le=1000)] = 16,
    width: Positive = 4,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    stem_strides: Positive = 1,
    activation: str = "relu",
    kernel_initializer: str = "he_normal",
    momentum: Momentum = 0.9,
    normalization: ImageNormalization = True,
) -> keras.Model:
    """Build the wide ResNet of Zagoruyko & Komodakis 2016, WRN-`depth`-`width`, pre-activated.

    Args:
        input_shape: ``(height, width, channels)``.
        outputs: width of the last layer.
        depth: 6n + 4: 10, 16, 22, 28, 40.
        width: factor on the stages' 16, 32 and 64 filters.
        dropout: between the two convolutions of each block, as a fraction (0.3 in the paper, where used).
        stem_strides: of the first convolution, pixels; 2 or 4 for images far above 32×32.
        activation: Keras name.
        kernel_initializer: of the convolutions: a Keras name, or `dirac` (see `layers.Dirac`).
        momentum: of the running averages of batch normalisation, per step.
        normalization: scale inputs to mean 0 and deviation 1 (see `inputs_and_scaling`).

    Raises:
        CnnbenchError: the data are not images, or no such depth exists.
    """
    require_images("wide_resnet", input_shape)
    blocks = _blocks("wide_resnet", depth, 4)
    inputs, x = inputs_and_scaling(input_shape, normalization)
    x = _convolution(x, 16, 3, "stem", kernel_initializer, stem_strides)
    for stage in range(1, STAGES + 1):
        filters = 16 * width * 2 ** (stage - 1)
        for block in range(1, blocks + 1):
            strides = 2 if block == 1 and stage > 1 else 1
            name = f"stage_{stage}_block_{block}"
            x = _preactivated_block(
                x, filters, strides, name, kernel_initializer, activation, dropout, momentum
            )
    x = normalize_and_activate(x, "last", activation, True, momentum)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(outputs, name="outputs")(x), name=f"wide_resnet_{depth}_{width}")


def _blocks(model: str, depth: int, outside: int) -> int:
    """Return the blocks of a stage, where `outside` layers lie outside the blocks of two."""
    blocks, rest = divmod(depth - outside, 2 * STAGES)
    if rest or blocks < 1:
        known = ", ".join(str(2 * STAGES * n + outside) for n in (1, 2, 3, 4, 5, 6, 9, 18))
        raise CnnbenchError(f"model={model} has no depth={depth}", f"6n + {outside}: {known}")
    return blocks


def _basic_block(
    x: Any, filters: int, strides: int, name: str, start: str, shortcut: str, activation: str, momentum: float
) -> Any:
    y = _convolution(x, filters, 3, f"{name}_conv_1", start, strides)
    y = normalize_and_activate(y, f"{name}_conv_1", activation, True, momentum)
    y = _convolution(y, filters, 3, f"{name}_conv_2", start)
    y = layers.BatchNormalization(momentum=momentum, name=f"{name}_conv_2_bn")(y)
    if strides > 1 and shortcut == "identity":
        x = _subsample_and_widen(x, filters, strides, name)
    elif strides > 1:
        x = _convolution(x, filters, 1, f"{name}_shortcut", start, strides)
        x = layers.BatchNormalization(momentum=momentum, name=f"{name}_shortcut_bn")(x)
    return layers.Activation(activation, name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, y]))


def _preactivated_block(
    x: Any,
    filters: int,
    strides: int,
    name: str,
    start: str,
    activation: str,
    dropout: float,
    momentum: float,
) -> Any:
    y = normalize_and_activate(x, f"{name}_pre", activation, True, momentum)
    if strides > 1 or x.shape[-1] != filters:
        x = _convolution(y, filters, 1, f"{name}_shortcut", start, strides)
    y = _convolution(y, filters, 3, f"{name}_conv_1", start, strides)
    y = normalize_and_activate(y, f"{name}_conv_1", activation, True, momentum)
    if dropout:
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    y = _convolution(y, filters, 3, f"{name}_conv_2", start)
    return layers.Add(name=f"{name}_add")([x, y])


def _subsample_and_widen(x: Any, filters: int, strides: int, name: str) -> Any:
    """Keep every `strides`-th pixel, and add zero channels on either side."""
    x = layers.MaxPooling2D(1, strides=strides, padding="same", name=f"{name}_subsample")(x)
    new = filters - x.shape[-1]
    # Keras pads only rows and columns; as channels_first the layer takes width and channels for these.
    padding = ((0, 0), (new // 2, new - new // 2))
    return layers.ZeroPadding2D(padding, data_format="channels_first", name=f"{name}_widen")(x)


def _convolution(x: Any, filters: int, kernel_size: int, name: str, start: str, strides: int = 1) -> Any:
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer(start),
        name=name,
    )(x)
