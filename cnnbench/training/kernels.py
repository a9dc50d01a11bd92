"""Fast TensorFlow kernels behind Keras's own layers, for training on a CPU.

Measured on two cores (`python benchmarks/engine.py`, `benchmarks/NOTES.md`):

- Keras computes batch normalisation by a dozen small operations in float32, even where the network computes
  in bfloat16. TensorFlow has one kernel for each direction.
- The gradient for the kernels of a 3×3 convolution with many channels and a small image takes two to four
  times as long in oneDNN, in bfloat16, as nine products of matrices.
- TensorFlow is slower at subtracting three means from the channels of each pixel than at subtracting a row of
  them from each image.
- Keras's Adam takes a dozen small operations a variable, its SGD five; TensorFlow has a kernel for each.

Layers, optimizers and what is stored of them stay Keras's own: only their `call` in training, or their
`update_step`, is replaced. Where another Keras lacks an attribute, its own code computes, with one warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from cnnbench.nn import layers_of

log = logging.getLogger("cnnbench")
SMALLEST_EPSILON = 1.001e-5  # of the kernels of batch normalisation
MANY_CHANNELS, SMALL_SIDE = 128, 8
Call = Callable[..., Any]
_told: set[str] = set()  # warnings given: each once


def use_fast_kernels(model: keras.Model) -> int:
    """Let the layers and the optimizer of a model train by faster kernels.

    Results differ by rounding only.

    Returns:
        the number of layers that do.
    """
    if getattr(model, "optimizer", None) is not None:
        use_fast_update(model.optimizer)
    found = 0
    for layer in layers_of(model):
        for make in (_normalization, _batch_normalization, _convolution):
            try:
                made = make(layer)
            except AttributeError as error:
                _tell(error)
                continue
            if made is not None:
                layer.call = made
                found += 1
    return found


def _tell(error: AttributeError) -> None:
    if str(error) not in _told:
        _told.add(str(error))
        log.warning("this Keras is another than the faster kernels are for, so its own are used: %s", error)


def _private(owner: Any, name: str) -> Any:
    """Return a private attribute of Keras; nothing else in the package asks for one."""
    return getattr(owner, name)


def use_fast_update(optimizer: Any) -> bool:
    """Let an optimizer update each variable by one kernel; results differ by rounding only.

    Returns:
        False where there is no kernel for it.
    """
    kind = type(optimizer)
    fast: Callable[..., None]
    slots: tuple[str, ...]
    if kind in (keras.optimizers.Adam, keras.optimizers.AdamW) and not optimizer.amsgrad:
        fast, slots = _adam, ("_momentums", "_velocities")
    elif kind is keras.optimizers.SGD and optimizer.momentum:
        fast, slots = _momentum, ("momentums",)
    else:
        return False

    def update_step(gradient: Any, variable: Any, learning_rate: Any) -> None:
        handles = None
        if not isinstance(gradient, tf.IndexedSlices) and variable.dtype == tf.float32:
            handles = _handles(optimizer, variable, slots)
        if handles is None:
            kind.update_step(optimizer, gradient, variable, learning_rate)
        else:
            rate = tf.cast(learning_rate, tf.float32)
            fast(optimizer, handles, tf.cast(gradient, tf.float32), rate)

    optimizer.update_step = update_step
    return True


def _handles(optimizer: Any, variable: Any, slots: tuple[str, ...]) -> list[Any] | None:
    """Return the handles of a variable and of its slots; None where this Keras keeps them elsewhere."""
    try:
        index = _private(optimizer, "_get_variable_index")(variable)
        remembered = [_private(optimizer, slot)[index].value.handle for slot in slots]
    except AttributeError as error:
        _tell(error)
        return None
    return [variable.handle, *remembered]


def _adam(optimizer: Any, handles: list[Any], gradient: Any, learning_rate: Any) -> None:
    var, m, v = handles
    # A variable, or where gradients are accumulated a tensor: the number of updates.
    step = tf.cast(tf.convert_to_tensor(optimizer.iterations) + 1, tf.float32)
    tf.raw_ops.ResourceApplyAdam(
        var=var,
        m=m,
        v=v,
        beta1_power=tf.pow(optimizer.beta_1, step),
        beta2_power=tf.pow(optimizer.beta_2, step),
        lr=learning_rate,
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        epsilon=optimizer.epsilon,
        grad=gradient,
    )


def _momentum(optimizer: Any, handles: list[Any], gradient: Any, learning_rate: Any) -> None:
    var, accum = handles
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=var,
        accum=accum,
        lr=learning_rate,
        grad=gradient,
        momentum=optimizer.momentum,
        use_nesterov=optimizer.nesterov,
    )


def _normalization(layer: Any) -> Call | None:
    if type(layer) is not keras.layers.Normalization or not layer.built or layer.invert:
        return None
    shape = (layer.get_build_config() or {}).get("input_shape", ())
    if len(shape) != 4 or tuple(layer.axis) not in ((3,), (-1,)) or None in shape[1:3]:
        return None

    places, dtype = shape[1] * shape[2], layer.compute_dtype
    mean, deviation = (
        tf.Variable(tf.cast(tf.tile(tf.reshape(one, (1, -1)), (1, places)), dtype), trainable=False)
        for one in (layer.mean, tf.maximum(tf.sqrt(layer.variance), keras.backend.epsilon()))
    )

    def call(inputs: Any) -> Any:
        """Normalize to the same bits as Keras."""
        rows = tf.reshape(tf.cast(inputs, dtype), (-1, places * shape[3]))
        return tf.reshape((rows - mean) / deviation, (-1, *shape[1:]))

    call.statistics = (mean, deviation)  # type: ignore[attr-defined]
    return call


def _batch_normalization(layer: Any) -> Call | None:
    if type(layer) is not keras.layers.BatchNormalization or not layer.built:
        return None
    is_last = layer.input_spec.ndim == 4 and layer.axis in (-1, 3)
    if not is_last or layer.synchronized or layer.epsilon < SMALLEST_EPSILON:
        return None
    plain = type(layer).call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training or not layer.trainable or mask is not None:
            return plain(layer, inputs, training=training, mask=mask)
        ones = tf.ones_like(layer.moving_mean.value)
        gamma = tf.convert_to_tensor(layer.gamma) if layer.scale else ones
        beta = tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros_like(ones)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            tf.cast(inputs, layer.compute_dtype), gamma, beta, epsilon=layer.epsilon, is_training=True
        )
        # The kernel estimates the variance of all data (over n - 1), Keras takes the batch's own (over n).
        count = tf.cast(tf.size(inputs) / inputs.shape[-1], "float32")
        _move(layer.moving_mean, mean, layer.momentum)
        _move(layer.moving_variance, variance * (count - 1) / count, layer.momentum)
        return outputs

    return call


def _move(average: Any, value: Any, momentum: float) -> None:
    average.assign(average * momentum + tf.cast(value, average.dtype) * (1.0 - momentum))


def _convolution(layer: Any) -> Call | None:
    if type(layer) is not keras.layers.Conv2D or not layer.built or layer.compute_dtype != "bfloat16":
        return None
    plain_settings = (layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding, layer.groups)
    if plain_settings != ((3, 3), (1, 1), (1, 1), "same", 1) or layer.data_format != "channels_last":
        return None
    if min(layer.kernel.shape[2:]) < MANY_CHANNELS or layer.use_bias:
        return None
    if layer.activation is not keras.activations.linear or not _is_small(layer.input):
        return None
    plain = type(layer).call

    def call(inputs: Any) -> Any:
        if not _is_small(inputs):  # called at several sizes
            return plain(layer, inputs)
        return _convolve(inputs, tf.cast(tf.convert_to_tensor(layer.kernel), inputs.dtype))

    return call


def _is_small(images: Any) -> bool:
    return None not in images.shape[1:3] and max(images.shape[1:3]) <= SMALL_SIDE


@tf.custom_gradient
def _convolve(x: Any, kernel: Any) -> Any:
    """Convolve by a 3×3 kernel, whose gradient is computed as nine matrix products, one for each place."""

    def gradients(upstream: Any) -> tuple[Any, Any]:
        to_input = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x),
            filter=kernel,
            out_backprop=upstream,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )
        height, width, channels = x.shape[1:]
        padded = tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        flat = tf.reshape(upstream, (-1, upstream.shape[-1]))
        products = [
            tf.matmul(
                tf.reshape(padded[:, i : i + height, j : j + width], (-1, channels)), flat, transpose_a=True
            )
            for i in range(3)
            for j in range(3)
        ]
        return to_input, tf.reshape(tf.stack(products), (3, 3, channels, -1))

    return tf.nn.conv2d(x, kernel, 1, "SAME"), gradients
