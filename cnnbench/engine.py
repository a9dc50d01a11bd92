"""How a Keras model is driven: device, precision, what is added around it, loading and predicting."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench.checkpoints import check_model
from cnnbench.datasets.image_cache import usable_cores
from cnnbench.errors import CnnbenchError
from cnnbench.feed import Feed
from cnnbench.launchers.workers import THREADS
from cnnbench.losses import MixedAccuracy
from cnnbench.metrics import compute as final_metrics

log = logging.getLogger("cnnbench")


@dataclass(frozen=True)
class Machine:
    """Where and how a run computes."""

    device: str  # for people: "GPU: NVIDIA H100", "CPU: AMD EPYC, 2 cores"
    on_gpu: bool
    precision: str


def prepare(seed: int, deterministic: bool, device: str, precision: str) -> Machine:
    """Set this process up for one run: seeds, determinism, device and dtype policy.

    Raises:
        CnnbenchError: `device=gpu` without a GPU, or a change of device after the first run of a process.
    """
    keras.backend.clear_session()
    _share_threads()
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    gpus = _visible_gpus(device)
    machine = Machine(_describe(gpus), bool(gpus), _precision(precision, gpus))
    keras.config.set_dtype_policy(machine.precision)
    return machine


def _share_threads() -> None:
    """Take only this process's share of the cores, where several runs are made at once."""
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


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _precision(wanted: str, gpus: list[Any]) -> str:
    if wanted != "auto":
        return wanted
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    has_bfloat16 = details and all(d.get("compute_capability", (0, 0)) >= (8, 0) for d in details)
    return "mixed_bfloat16" if has_bfloat16 else "float32"


def steps_per_execution(wanted: int | str, flops: int, batch_size: int, steps: int, on_gpu: bool) -> int:
    """How many steps to chain between two looks at metrics and keyboard.

    Args:
        wanted: a number, or `auto`: about 0.4 s by the floating-point operations of a step (forward and
            backward are three times the forward pass) and what such a device reaches with small networks.
        flops: of the forward pass for one example.
        batch_size: examples per step.
        steps: per epoch, the most there can be.
        on_gpu: whether the model runs there.
    """
    if wanted != "auto":
        return int(wanted)
    rate = 1e13 if on_gpu else 5e10 * usable_cores()
    seconds = 3 * flops * batch_size / rate + 0.001
    return int(np.clip(0.4 / seconds, 1, steps))


def with_activation(model: keras.Model, task: str, targets: np.ndarray | None = None) -> keras.Model:
    """Add to raw outputs the activation that the task asks for, in float32 under every precision.

    Args:
        model: ends in raw outputs.
        task: `multiclass`, `binary` or `regression`.
        targets: of the training split; the network then predicts them standardised, and a last layer brings
            its outputs back to their unit.
    """
    activation = {"multiclass": "softmax", "binary": "sigmoid", "regression": "linear"}[task]
    outputs = keras.layers.Activation(activation, dtype="float32", name="predictions")(model.outputs[0])
    if targets is not None:
        unscale = keras.layers.Normalization(
            axis=None,
            mean=float(targets.mean()),
            variance=float(targets.var()),
            invert=True,
            dtype="float32",
            name="target_scale",
        )
        outputs = unscale(outputs)
    # The tensor, not a list of it: else the stored model warns when it is called with an array.
    return keras.Model(model.inputs[0], outputs, name=model.name)


def compile_model(
    model: keras.Model, optimizer: Any, loss: Any, metrics: Any, steps_per_execution: int, jit_compile: bool
) -> None:
    model.compile(
        optimizer=optimizer,
        loss=loss,
        metrics=metrics,
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # so that its state is all there from the first step on


def metrics(task: str, soft_labels: bool = False) -> list[keras.metrics.Metric]:
    """What is followed during the training; the names are those of `cnnbench.metrics.TRAINED`.

    Args:
        task: of the data set.
        soft_labels: targets of the training may be probabilities of the classes (MixUp, CutMix).
    """
    if soft_labels:
        return [MixedAccuracy(name="accuracy")]
    if task == "regression":
        return [keras.metrics.MeanAbsoluteError(name="mae"), keras.metrics.RootMeanSquaredError(name="rmse")]
    if task == "binary":
        return [keras.metrics.BinaryAccuracy(name="accuracy")]
    return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


def forward(model: keras.Model) -> Callable[[Any], Any]:
    """A model as one graph, from batches to outputs; `Model.predict` would trace one for each size.

    Splits of somebody's own data may differ in their numbers, so batches of any dtype are taken.
    """
    inputs = model.inputs[0]
    batches = tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype)
    graph = tf.function(lambda x: model(x, training=False), input_signature=[batches])
    return lambda x: graph(tf.cast(x, inputs.dtype))


def predict(forward: Callable[[Any], Any], feed: Feed) -> np.ndarray:
    """Outputs ``(n, outputs)`` float32 of a graph (see `forward`) for every example of a feed, in order."""
    return np.concatenate([forward(x).numpy() for x, _ in feed.dataset]).astype(np.float32, copy=False)


def evaluation_batch(batch_size: int) -> int:
    """Nothing is kept for a backward pass, so a larger batch costs no memory and saves time."""
    return max(batch_size, 256)


def load(path: Path) -> keras.Model:
    """A stored model, in safe mode and after a look at what it names; see `checkpoints`.

    Raises:
        CnnbenchError: the file is damaged, or names code that is not registered, or other files.
    """
    try:
        check_model(path)
        return keras.models.load_model(path, safe_mode=True)
    except CnnbenchError:
        raise
    except Exception as error:  # what is damaged, or not of a model, may raise anything
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CnnbenchError(
            f"cannot load {path}: {reason}", "it may be damaged, or need plugins=[…]"
        ) from error


def evaluate(model: keras.Model, task: str, y_true: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Loss and final metrics from a model's outputs ``(n, outputs)`` for targets ``(n,)``."""
    penalty = float(sum(model.losses)) if model.losses else 0.0
    column = y_true.reshape(outputs.shape) if outputs.shape[1] == 1 else y_true
    return {"loss": float(model.loss(column, outputs)) + penalty, **final_metrics(task, y_true, outputs)}
