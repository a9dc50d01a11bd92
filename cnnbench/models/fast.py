"""Fast CNN: a small residual network that learns much per second of a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import keras
from keras import layers
from pydantic import Field

from cnnbench.models.blocks import (
    ImageNormalization,
    Momentum,
    initializer,
    inputs_and_scaling,
    normalize_and_activate,
    require_images,
)

Positive = Annotated[int, Field(ge=1)]


def fast_cnn(
    input_shape: Sequence[int],
    outputs: int,
    stem_filters: Positive = 32,
    filters: Sequence[Positive] = (64, 128),
    residual: bool = True,
    pooling: Literal["max", "average"] = "max",
    activation: str = "relu",
    feature_scale: Annotated[float, Field(gt=0)] = 0.125,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    kernel_initializer: str = "he_normal",
    momentum: Momentum = 0.9,
    normalization: ImageNormalization = True,
) -> keras.Model:
    """Build a slim cousin of Page's ResNet-9 (2018) and Jordan's airbench (2024).

    A stem and one stage per entry of `filters`. Each begins with convolution, max pooling, batch
    normalisation and activation in that order: after the pooling the last two cost a quarter. A stage goes
    on with a residual convolution. Global pooling and scaled features lead to the outputs.

    Args:
        input_shape: ``(height, width, channels)``.
        outputs: width of the last layer.
        stem_filters: of the first convolution.
        filters: of each stage; one entry, one stage.
        residual: the second convolution of each stage, at the small size, around which the input is added.
        pooling: over all pixels at the end.
        activation: Keras name.
        feature_scale: factor on the pooled features: small first outputs allow a high learning rate.
        dropout: before the last layer, as a fraction.
        kernel_initializer: of the convolutions: a Keras name, or `dirac` (see `layers.Dirac`).
        momentum: of the running averages of batch normalisation, per step.
        normalization: scale inputs to mean 0 and deviation 1 (see `inputs_and_scaling`).

    Raises:
        CnnbenchError: the data are not images.
    """
    require_images("fast", input_shape)
    inputs, x = inputs_and_scaling(input_shape, normalization)
    x = _shrinking(x, stem_filters, "stem", activation, kernel_initializer, momentum)
    for stage, width in enumerate(filters, start=1):
        x = _shrinking(x, width, f"stage_{stage}", activation, kernel_initializer, momentum)
        if residual:
            name = f"stage_{stage}_residual"
            y = _convolution(x, width, name, kernel_initializer)
            y = normalize_and_activate(y, name, activation, True, momentum)
            x = layers.Add(name=f"{name}_add")([x, y])
    pool = {"max": layers.GlobalMaxPooling2D, "average": layers.GlobalAveragePooling2D}[pooling]
    x = layers.Rescaling(feature_scale, name="feature_scale")(pool(name="pool")(x))
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(outputs, name="outputs")(x), name="fast_cnn")


def _shrinking(
    x: Any, filters: int, name: str, activation: str, kernel_initializer: str, momentum: float
) -> Any:
    x = _convolution(x, filters, name, kernel_initializer)
    if min(x.shape[1:3]) > 1:
        x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    return normalize_and_activate(x, name, activation, True, momentum)


def _convolution(x: Any, filters: int, name: str, kernel_initializer: str) -> Any:
    return layers.Conv2D(
        filters,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer(kernel_initializer),
        name=name,
    )(x)
