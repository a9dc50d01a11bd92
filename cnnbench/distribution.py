"""One training over several devices, each with a copy of the model and a part of every batch."""

from __future__ import annotations

import keras
import tensorflow as tf

from cnnbench.errors import CnnbenchError


def strategy(wanted: str | None, batch_size: int) -> tf.distribute.Strategy:
    """Where variables lie and steps are computed; models are made, compiled and trained in its scope.

    Args:
        wanted: `mirrored` takes every visible GPU, without any every (logical) CPU; None the default device.
        batch_size: examples of one step, over all devices together.

    Raises:
        CnnbenchError: there is only one device, or they cannot share a batch in equal parts.
    """
    if wanted is None:
        return tf.distribute.get_strategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise CnnbenchError(
            f"training.distribute={wanted} needs two devices or more, and there is one: {devices[0].name}",
            "set it to null, or run where TensorFlow sees several GPUs (nvidia-smi, CUDA_VISIBLE_DEVICES)",
        )
    if batch_size % len(devices):
        lower = max(batch_size - batch_size % len(devices), len(devices))
        raise CnnbenchError(
            f"training.batch_size={batch_size} cannot be shared equally by {len(devices)} devices: "
            "the mean over their means would not be that of the batch",
            f"use a multiple of {len(devices)}, e.g. {lower}",
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def synchronize(model: keras.Model, replicas: int) -> None:
    """Let batch normalisation see the whole batch, and not each device's part alone.

    Else every copy of the model moves averages of its own, of which the stored model gets one.
    """
    for layer in model.layers:
        if replicas > 1 and isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def shared_batch(most: int, examples: int, replicas: int) -> int:
    """The largest batch of an evaluation, up to `most`, of which every device has a part each time.

    Of the first one in equal parts, from which Keras builds its functions; of the last one any, but a device
    without an example would give the mean of nothing, which is NaN.

    Raises:
        CnnbenchError: there are too few examples for that.
    """
    if replicas == 1:
        return most
    largest = min(most, examples)
    for size in range(largest - largest % replicas, 0, -replicas):
        rest = examples % size
        if rest == 0 or rest >= replicas:
            return size
    raise CnnbenchError(
        f"{examples} validation examples are too few for {replicas} devices to have a part of every batch",
        "hold more out (training.validation_fraction), or set training.distribute to null",
    )
