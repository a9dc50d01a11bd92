"""Layers, activations, initializers and regularizers that Keras lacks, registered with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any

import keras
import numpy as np
from keras import ops
from pydantic import Field


def layers_of(model: Any) -> Iterator[Any]:
    """Yield every layer of a model, those of models inside it and inside wrappers too."""
    yield model
    for inner in [*getattr(model, "layers", ()), *filter(None, [getattr(model, "layer", None)])]:
        yield from layers_of(inner)


def put_first(model: keras.Model, layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> keras.Model:
    """Return a copy of a model in which a layer comes between the inputs and those who take them.

    Args:
        model: with one input.
        layer: gives what the model has taken so far.
        shape: of the new input, with the batch.
    """

    @cache  # more than one layer may take the inputs
    def seen(tensor: Any) -> Any:
        return layer(tensor) if tensor is inputs else tensor

    def call(of_model: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(
            lambda value: seen(value) if isinstance(value, keras.KerasTensor) else value, (args, kwargs)
        )
        return of_model(*args, **kwargs)

    # Layers of its own: one that stands in two graphs has no one input.
    functional = keras.Model(model.inputs, model.outputs)  # of a Sequential
    given = functional.inputs[0]
    inputs = keras.Input(batch_shape=shape, dtype=given.dtype, name=given.name)
    copy = keras.models.clone_model(functional, input_tensors=[inputs], call_function=call)
    made = keras.Model(copy.inputs[0], copy.outputs[0], name=model.name)
    own = {id(weight) for weight in layer.weights}
    copied = [weight for weight in made.weights if id(weight) not in own]
    for weight, before in zip(copied, model.weights, strict=True):
        weight.assign(before)
    return made


@keras.saving.register_keras_serializable("cnnbench")
class ReverseChannels(keras.layers.Layer):
    """Layer that reverses the last axis (RGB to BGR), for models of earlier versions; the shape stays."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.flip(inputs, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable("cnnbench")
def soft_relu(z: Any) -> Any:
    """Return ``log(1 + exp(z))`` in the form that neither overflows nor loses its gradient."""
    return ops.softplus(z)


@keras.saving.register_keras_serializable("cnnbench")
def soft_relu_naive(z: Any) -> Any:
    """Return ``log(1 + exp(z))`` as it is written: infinite from ``z`` = 89 on in float32, then NaN.

    For `experiment=notes/california_soft_relu_naive`, which shows the failure; use `soft_relu`.
    """
    return ops.log(1.0 + ops.exp(z))


@keras.saving.register_keras_serializable("cnnbench")
class L1(keras.regularizers.Regularizer):
    """Regularizer of ``strength`` times the sum of absolute values, as the study note writes one.

    Args:
        strength: per unit of weight.
    """

    def __init__(self, strength: Annotated[float, Field(ge=0)] = 0.01) -> None:
        self.strength = strength

    def __call__(self, weights: Any) -> Any:
        return self.strength * ops.sum(ops.absolute(weights))

    def get_config(self) -> dict[str, Any]:
        return {"strength": self.strength}


@keras.saving.register_keras_serializable("cnnbench")
class PeriodicEmbedding(keras.layers.Layer):
    """Embedding of each column of a table as a vector: sines and cosines, a linear map, ReLU.

    The "PLR" embedding of Gorishniy et al. 2022, *On Embeddings for Numerical Features in Tabular Deep
    Learning*.

    ``(batch, columns)`` becomes ``(batch, columns * units)``.

    Args:
        frequencies: trained frequencies per column.
        sigma: deviation of their initial values, in periods per unit of a standardised column.
        units: size of each column's vector.
    """

    def __init__(
        self,
        frequencies: Annotated[int, Field(ge=1)] = 32,
        sigma: Annotated[float, Field(gt=0)] = 0.3,
        units: Annotated[int, Field(ge=1)] = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.frequencies, self.sigma, self.units = frequencies, sigma, units

    def build(self, input_shape: Any) -> None:
        columns = input_shape[-1]
        self.coefficients = self.add_weight(
            name="coefficients",
            shape=(columns, self.frequencies),
            initializer=keras.initializers.RandomNormal(stddev=self.sigma),
        )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(columns, 2 * self.frequencies, self.units),
            initializer=keras.initializers.VarianceScaling(distribution="uniform"),
        )
        self.bias = self.add_weight(name="bias", shape=(columns, self.units), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        angles = 2 * math.pi * ops.expand_dims(inputs, -1) * self.coefficients
        waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        embedded = ops.relu(ops.einsum("bcf,cfu->bcu", waves, self.kernel) + self.bias)
        return ops.reshape(embedded, (-1, embedded.shape[1] * self.units))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] * self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "frequencies": self.frequencies,
            "sigma": self.sigma,
            "units": self.units,
        }


@keras.saving.register_keras_serializable("cnnbench")
class Dirac(keras.initializers.Initializer):
    """Initializer of convolution kernels whose first filters are the identity of the input's channels.

    Zagoruyko & Komodakis 2017, *DiracNets*, as used by Jordan 2024, *94 % on CIFAR-10 in 3.29 Seconds*: the
    other filters are drawn uniformly, with deviation ``1 / sqrt(3 fan_in)``.
    Kernels are ``(height, width, channels, filters)`` with odd sides.

    Args:
        seed: of the other filters.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._rest = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        kernel = self._rest(shape, dtype)
        if len(shape) != 4:  # of a dense layer
            return kernel
        height, width, channels, filters = shape
        passed = min(channels, filters)
        identity = np.zeros(shape, np.float32)
        identity[height // 2, width // 2, np.arange(passed), np.arange(passed)] = 1
        drawn = np.ones(filters, np.float32)
        drawn[:passed] = 0
        return kernel * ops.cast(drawn, kernel.dtype) + ops.cast(identity, kernel.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


@keras.saving.register_keras_serializable("cnnbench")
class PatchWhitening(keras.layers.Conv2D):
    """Convolution whose outputs are uncorrelated and of variance 1 on the training images.

    Its kernels are the eigenvectors of the covariance of all patches, each over the root of its eigenvalue,
    and the same with the opposite sign (Page 2019, *How to Train Your ResNet*; Jordan 2024). `adapt` measures
    them; only the bias is trained. ``(batch, height, width, channels)`` becomes ``(batch, height - k + 1,
    width - k + 1, 2 k k channels)`` with ``k = kernel_size``.

    Args:
        kernel_size: side of the patches, pixels.
        regularization: added to the eigenvalues, so that rare patterns are not amplified.
    """

    def __init__(
        self,
        kernel_size: Annotated[int, Field(ge=1)] = 2,
        regularization: Annotated[float, Field(gt=0)] = 5e-4,
        **kwargs: Any,
    ) -> None:
        self.side = kernel_size if isinstance(kernel_size, int) else kernel_size[0]  # as it is stored
        super().__init__(1, self.side, **kwargs)
        self.regularization = regularization

    def build(self, input_shape: Any) -> None:
        self.filters = 2 * self.side**2 * input_shape[-1]
        super().build(input_shape)
        self.kernel.trainable = False

    def compute_output_shape(self, input_shape: Any) -> Any:
        self.filters = 2 * self.side**2 * input_shape[-1]
        return super().compute_output_shape(input_shape)

    def adapt(self, batches: Iterable[Any]) -> None:
        """Set the kernels from images.

        Args:
            batches: of training images as this layer sees them, ``(any, height, width, channels)``.
        """
        size = self.filters // 2
        products, patches = np.zeros((size, size)), 0
        for batch in batches:
            found = np.lib.stride_tricks.sliding_window_view(np.asarray(batch), (self.side,) * 2, (1, 2))
            rows = np.moveaxis(found, 3, -1).reshape(-1, size).astype(np.float32)
            products += rows.T @ rows
            patches += len(rows)
        values, vectors = np.linalg.eigh(products / patches)
        scaled = vectors / np.sqrt(values + self.regularization)
        shape = (self.side, self.side, size // self.side**2, size)
        kernel = scaled.reshape(shape)
        self.kernel.assign(np.concatenate([kernel, -kernel], axis=-1))

    def get_config(self) -> dict[str, Any]:
        config = keras.layers.Layer.get_config(self)
        return {**config, "kernel_size": self.side, "regularization": self.regularization}
