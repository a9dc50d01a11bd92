"""Blocks that several families share: inputs, dense layers, activations, initializers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import keras
from keras import layers
from pydantic import Field

from cnnbench.errors import CnnbenchError, shown
from cnnbench.nn import Dirac, PatchWhitening

Normalization = bool | Literal["after_flatten", "whitening"]
ImageNormalization = bool | Literal["whitening"]
BatchNormalization = bool | Literal["after_activation"]
# Of batch normalisation's averages, per step. Keras's 0.99 needs hundreds of steps to forget its start, but a
# small data set has twenty an epoch, and until then validation measures another network. So 0.9 everywhere.
Momentum = Annotated[float, Field(ge=0, lt=1)]


def require_images(model: str, input_shape: Sequence[int]) -> None:
    """Refuse examples that are no images; `model` is the option's name."""
    if len(input_shape) != 3:
        raise CnnbenchError(
            f"model={model} needs images, but this data set has examples of shape {tuple(input_shape)}",
            "use model=mlp",
        )


def require_kind(key: str, value: Any, kind: type) -> None:
    """Refuse an object of a wrong class, before Keras fails in the middle of a training.

    Raises:
        CnnbenchError: `value` is neither None nor of this kind.
    """
    if not isinstance(value, kind | None):
        raise CnnbenchError(
            f"{key}={shown(value)} is no {kind.__name__.lower()}", "null, or an object: {_target_: …}"
        )


def inputs_and_scaling(input_shape: Sequence[int], normalization: Normalization) -> tuple[Any, Any]:
    """Return the input tensor, and the same scaled.

    Args:
        input_shape: ``(height, width, channels)`` of pixels 0…255, or ``(columns,)``.
        normalization: per channel or column to mean 0 and deviation 1; the run adapts the layer on the
            training split. `after_flatten` leaves that to `flatten`. `whitening` then makes patches of pixels
            uncorrelated (see `PatchWhitening`). Otherwise pixels are divided by 255 and columns left as they
            are.
    """
    inputs = keras.Input(shape=tuple(input_shape), name="inputs")
    if normalization == "after_flatten":
        return inputs, inputs
    if normalization:
        # In float32 under every precision: a mean over pixels must not be summed in 8 bits.
        x = layers.Normalization(axis=-1, dtype="float32", name="normalization")(inputs)
        if normalization != "whitening":
            return inputs, x
        require_images("mlp", input_shape)
        # In float32 too: its kernels enlarge small differences many times.
        return inputs, PatchWhitening(dtype="float32", name="whitening")(x)
    if len(input_shape) == 3:
        return inputs, layers.Rescaling(1 / 255, name="rescaling")(inputs)
    return inputs, inputs


def flatten(x: Any, normalization: Normalization) -> Any:
    """Put the values of an example in a row, with `after_flatten` each scaled to mean 0 and deviation 1."""
    x = layers.Flatten(name="flatten")(x)
    if normalization == "after_flatten":
        x = layers.Normalization(axis=-1, dtype="float32", name="normalization")(x)
    return x


def dense_stack(
    x: Any,
    units: Sequence[int],
    activation: str,
    batch_normalization: BatchNormalization,
    dropout: float,
    momentum: float,
    **dense: Any,
) -> Any:
    """Add dense layers, each with optional dropout before it and batch normalisation after it."""
    for index, width in enumerate(units, start=1):
        name = f"dense_{index}"
        if dropout:
            x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
        x = layers.Dense(width, use_bias=needs_bias(batch_normalization), name=name, **dense)(x)
        x = normalize_and_activate(x, name, activation, batch_normalization, momentum)
    return x


def needs_bias(batch_normalization: BatchNormalization) -> bool:
    """Tell whether a layer keeps its bias: normalisation right after it would subtract it again."""
    return batch_normalization in (False, "after_activation")


def initializer(name: str) -> Any:
    """Return a Keras initializer by its name, or `dirac`.

    Raises:
        ValueError: there is none of that name.
    """
    return Dirac() if name == "dirac" else keras.initializers.get(name)


def normalize_and_activate(
    x: Any, name: str, activation: str, batch_normalization: BatchNormalization, momentum: float
) -> Any:
    """Add activation and batch normalisation in the order asked for (True: normalise first)."""
    if batch_normalization == "after_activation":
        x = activate(x, name, activation)
        return layers.BatchNormalization(momentum=momentum, name=f"{name}_bn")(x)
    if batch_normalization:
        x = layers.BatchNormalization(momentum=momentum, name=f"{name}_bn")(x)
    return activate(x, name, activation)


def activate(x: Any, name: str, activation: str) -> Any:
    """Add an activation by the name of a registered one, ours first, or of Keras.

    Raises:
        ValueError: there is none of that name.
    """
    known = keras.saving.get_registered_object(f"cnnbench>{activation}") or activation
    return layers.Activation(known, name=f"{name}_{activation.rpartition('>')[2]}")(x)
