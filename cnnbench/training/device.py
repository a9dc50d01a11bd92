"""Device of a run: seeds, CPU or GPU, precision, and one training over several devices."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from cnnbench.errors import CnnbenchError
from cnnbench.system import THREADS, cpu_name, usable_cores

log = logging.getLogger("cnnbench")


@dataclass(frozen=True)
class Machine:
    """Device and precision of a run."""

    device: str  # for people: "GPU: NVIDIA H100", "CPU: AMD EPYC, 2 cores"
    on_gpu: bool
    precision: str


def prepare_machine(seed: int, deterministic: bool, device: str, precision: str) -> Machine:
    """Set this process up for one run: seeds, determinism, device and dtype policy.

    Raises:
        CnnbenchError: `device=gpu` without a GPU, or a change of device after the first run of a process.
    """
    keras.backend.clear_session()
    _share_threads()
    keras.utils.set_random_seed(seed)
    _set_determinism(deterministic)
    gpus = _visible_gpus(device)
    machine = Machine(_describe(gpus), bool(gpus), _precision(precision, gpus))
    keras.config.set_dtype_policy(machine.precision)
    return machine


def _set_determinism(wanted: bool) -> None:
    """Turn deterministic operations on or off, whatever an earlier run of this process wanted."""
    if wanted:
        tf.config.experimental.enable_op_determinism()
        return
    try:
        from tensorflow.python.framework import config  # TensorFlow offers no public way back

        if config.is_op_determinism_enabled():
            config.disable_op_determinism()
    except (ImportError, AttributeError) as error:
        log.warning("after deterministic=true this process stays deterministic, which is slower: %s", error)


def _share_threads() -> None:
    """Limit TensorFlow to this process's share of the cores where several runs are made at once."""
    share = int(os.environ.get(THREADS, "0"))
    if share and tf.config.threading.get_intra_op_parallelism_threads() != share:
        # TensorFlow takes this before its first operation only, which is the first run of a process.
        tf.config.threading.set_intra_op_parallelism_threads(share)
        tf.config.threading.set_inter_op_parallelism_threads(share)


def _visible_gpus(device: str) -> list[Any]:
    gpus = tf.config.list_physical_devices("GPU")
    try:
        tf.config.set_visible_devices([] if device == "cpu" else gpus, "GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:  # too late: TensorFlow has started with other settings
        if device == "cpu" and tf.config.get_visible_devices("GPU"):
            raise CnnbenchError(
                "device=cpu comes too late: an earlier run of this process uses the GPU",
                "put runs with different devices in commands of their own",
            ) from error
    visible: list[Any] = tf.config.get_visible_devices("GPU")
    if gpus and not visible and device == "gpu":
        raise CnnbenchError(
            "device=gpu comes too late: an earlier run of this process has left the GPU out",
            "put runs with different devices in commands of their own",
        )
    if gpus and not visible and device == "auto":
        log.warning("device=auto takes the CPU: an earlier run of this process has left the GPU out")
    if device == "gpu" and not visible:
        raise CnnbenchError(
            "device=gpu, but TensorFlow sees no GPU",
            "install the extra cnnbench[cuda] and check nvidia-smi, or use device=auto",
        )
    return visible


def _describe(gpus: list[Any]) -> str:
    if gpus:
        names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
        return "GPU: " + ", ".join(names)
    return f"CPU: {cpu_name()}, {usable_cores()} cores"


def _precision(wanted: str, gpus: list[Any]) -> str:
    if wanted != "auto":
        return wanted
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    has_bfloat16 = details and all(d.get("compute_capability", (0, 0)) >= (8, 0) for d in details)
    return "mixed_bfloat16" if has_bfloat16 else "float32"


def forget_gpu_peak() -> None:
    """Reset the peak that `gpu_peak_bytes` returns."""
    for device in tf.config.list_logical_devices("GPU"):
        tf.config.experimental.reset_memory_stats(device.name.removeprefix("/device:"))


def gpu_peak_bytes() -> int | None:
    """Return the most memory that was in use at once on any one GPU, in bytes; None without a GPU."""
    devices = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices("GPU")]
    return max((tf.config.experimental.get_memory_info(name)["peak"] for name in devices), default=None)


# -- Several devices -------------------------------------------------------------------------------


def strategy(wanted: str | None, batch_size: int) -> tf.distribute.Strategy:
    """Return the strategy in whose scope models are built, compiled and trained.

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
    """Let batch normalisation use the statistics of the whole batch on all devices.

    Otherwise each device keeps averages of its own part, and the stored model gets those of one device.
    """
    for layer in model.layers:
        if replicas > 1 and isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def shared_batch(most: int, examples: int, replicas: int) -> int:
    """Return the largest evaluation batch, up to `most`, of which every device always gets a part.

    All batches but the last are cut into equal parts. A device without an example in the last one would
    return the mean of nothing, which is NaN.

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
