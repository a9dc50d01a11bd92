"""CNN: the plain convolutional network, stages of convolutions and pooling, then dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import keras
from keras import layers
from pydantic import Field

from cnnbench.errors import CnnbenchError
from cnnbench.models.blocks import (
    BatchNormalization,
    Momentum,
    Normalization,
    dense_stack,
    flatten,
    initializer,
    inputs_and_scaling,
    needs_bias,
    normalize_and_activate,
    require_images,
    require_kind,
)

Positive = Annotated[int, Field(ge=1)]
POOLING = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}


def cnn(
    input_shape: Sequence[int],
    outputs: int,
    filters: Annotated[Sequence[Positive], Field(min_length=1)] = (32, 64),
    convolutions: Annotated[int, Field(ge=1, le=100)] = 1,
    kernel_size: Positive = 3,
    strides: Positive = 1,
    padding: Literal["same", "valid"] = "same",
    pooling: Literal["max", "average"] | None = "max",
    pool_size: Positive = 2,
    activation: str = "relu",
    batch_normalization: BatchNormalization = True,
    dense_batch_normalization: BatchNormalization = True,
    momentum: Momentum = 0.9,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    dense_units: Sequence[Positive] = (128,),
    kernel_initializer: str = "glorot_uniform",
    kernel_regularizer: Any = None,
    normalization: Normalization = True,
) -> keras.Model:
    """Build stages of convolutions and pooling, flattened into dense layers, then `outputs` raw outputs.

    Args:
        input_shape: ``(height, width, channels)``.
        outputs: width of the last layer.
        filters: of each stage; one entry, one stage.
        convolutions: in each stage, before its pooling.
        kernel_size: side of the square kernels, pixels.
        strides: of the first convolution of each stage, pixels.
        padding: `same` keeps the size, `valid` loses ``kernel_size - 1`` pixels.
        pooling: at the end of each stage; None to leave it out.
        pool_size: side of the pooling window and its stride, pixels.
        activation: Keras name.
        batch_normalization: of each convolution: before its activation, `after_activation` or not at all.
        dense_batch_normalization: the same of each dense layer.
        momentum: of the running averages of batch normalisation, per step.
        dropout: before each dense layer, as a fraction.
        dense_units: of the classifier's hidden layers; may be empty.
        kernel_initializer: of the convolutions: a Keras name, or `dirac` (see `layers.Dirac`).
        kernel_regularizer: of each hidden layer's kernel: a Keras name or an object.
        normalization: scale inputs to mean 0 and deviation 1 (see `inputs_and_scaling`), or `after_flatten`.

    Raises:
        CnnbenchError: the data are not images, or the stages shrink them to nothing.
    """
    require_images("cnn", input_shape)
    require_kind("model.kernel_regularizer", keras.regularizers.get(kernel_regularizer), keras.Regularizer)
    inputs, x = inputs_and_scaling(input_shape, normalization)
    for stage, width in enumerate(filters, start=1):
        for index in range(1, convolutions + 1):
            name = f"conv_{stage}" if convolutions == 1 else f"conv_{stage}_{index}"
            _check_size(x, kernel_size if padding == "valid" else 1, stage, input_shape)
            x = layers.Conv2D(
                width,
                kernel_size,
                strides=strides if index == 1 else 1,
                padding=padding,
                use_bias=needs_bias(batch_normalization),
                kernel_initializer=initializer(kernel_initializer),
                kernel_regularizer=kernel_regularizer,
                name=name,
            )(x)
            x = normalize_and_activate(x, name, activation, batch_normalization, momentum)
        if pooling:
            _check_size(x, pool_size, stage, input_shape)
            x = POOLING[pooling](pool_size, name=f"pool_{stage}")(x)
    x = flatten(x, normalization)
    x = dense_stack(
        x,
        dense_units,
        activation,
        dense_batch_normalization,
        dropout,
        momentum,
        kernel_regularizer=kernel_regularizer,
    )
    return keras.Model(inputs, layers.Dense(outputs, name="outputs")(x), name="cnn")


def _check_size(x: object, window: int, stage: int, input_shape: Sequence[int]) -> None:
    height, width = x.shape[1:3]  # type: ignore[attr-defined]
    if min(height, width) < window:
        raise CnnbenchError(
            f"model=cnn: stage {stage} would shrink {height}×{width} pixels with a window of {window}; "
            f"the images of this data set are {input_shape[0]}×{input_shape[1]}",
            "use fewer filters entries, padding=same or a smaller pool_size or strides",
        )
