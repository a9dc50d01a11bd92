"""VGG networks, for images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import keras
from keras import layers
from pydantic import Field

from cnnbench.errors import CnnbenchError
from cnnbench.models.blocks import (
    BatchNormalization,
    ImageNormalization,
    Momentum,
    dense_stack,
    initializer,
    inputs_and_scaling,
    needs_bias,
    normalize_and_activate,
    require_images,
)

Positive = Annotated[int, Field(ge=1)]
# Convolutions per stage: configurations A, B, D and E of the paper's table 1.
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(
    input_shape: Sequence[int],
    outputs: int,
    depth: Literal[11, 13, 16, 19] = 16,
    width: Positive = 64,
    batch_normalization: BatchNormalization = True,
    momentum: Momentum = 0.9,
    dense_units: Sequence[Positive] = (512,),
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    activation: str = "relu",
    kernel_initializer: str = "he_normal",
    normalization: ImageNormalization = True,
) -> keras.Model:
    """VGG of Simonyan & Zisserman 2015: five stages of 3×3 convolutions, each ended by max pooling.

    A pooling that would leave less than one pixel is left out, so that 28×28 and smaller images fit.

    Args:
        input_shape: ``(height, width, channels)``.
        outputs: width of the last layer.
        depth: of the paper's networks; its own dense layers are counted, ours may be fewer.
        width: filters of the first stage; the others have 2, 4, 8 and 8 times as many.
        batch_normalization: of each layer: before its activation, `after_activation` or not at all (the
            paper's way; depth 16 and 19 then train badly from scratch).
        momentum: of the running averages of batch normalisation, per step.
        dense_units: of the classifier's hidden layers; (4096, 4096) in the paper; may be empty.
        dropout: before each hidden dense layer, as a fraction.
        activation: Keras name.
        kernel_initializer: of the convolutions: a Keras name, or `dirac` (see `layers.Dirac`).
        normalization: scale inputs to mean 0 and deviation 1 (see `inputs_and_scaling`).

    Raises:
        CnnbenchError: the data are not images, or no such depth exists.
    """
    require_images("vgg", input_shape)
    if depth not in CONVOLUTIONS:
        raise CnnbenchError(f"model=vgg has no depth={depth}", f"one of {', '.join(map(str, CONVOLUTIONS))}")
    inputs, x = inputs_and_scaling(input_shape, normalization)
    for stage, convolutions in enumerate(CONVOLUTIONS[depth], start=1):
        for index in range(1, convolutions + 1):
            name = f"conv_{stage}_{index}"
            x = layers.Conv2D(
                width * min(2 ** (stage - 1), 8),
                3,
                padding="same",
                use_bias=needs_bias(batch_normalization),
                kernel_initializer=initializer(kernel_initializer),
                name=name,
            )(x)
            x = normalize_and_activate(x, name, activation, batch_normalization, momentum)
        if min(x.shape[1:3]) > 1:
            x = layers.MaxPooling2D(2, name=f"pool_{stage}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = dense_stack(
        x, dense_units, activation, batch_normalization, dropout, momentum, kernel_initializer="he_normal"
    )
    return keras.Model(inputs, layers.Dense(outputs, name="outputs")(x), name=f"vgg_{depth}")
