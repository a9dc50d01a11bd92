"""The figures that count, of the stored best checkpoint, and what a model costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench.data import Dataset, Feed
from cnnbench.nn import load_checkpoint
from cnnbench.runs import RunFolder, metrics
from cnnbench.runs import compute as final_metrics
from cnnbench.system import PeakMemory


@dataclass(frozen=True)
class Measured:
    """What the best checkpoint is worth.

    Attributes:
        figures: final metrics by split; those of `train` are means over the best epoch.
        outputs: of the model, by split.
        costs: examples per second of the training, seconds for one example alone, bytes.
    """

    figures: Mapping[str, Mapping[str, float]]
    outputs: Mapping[str, np.ndarray]
    costs: Mapping[str, Any]


def measure_best(
    folder: RunFolder, dataset: Dataset, held_out: Mapping[str, Feed], memory: PeakMemory
) -> Measured:
    """Load `best.keras`, evaluate it on each split that is held out, keep what it says of the test split.

    Args:
        folder: of the run, trained.
        dataset: as it was trained with.
        held_out: the feeds of its validation and test split.
        memory: watched since the training began.
    """
    model = load_checkpoint(folder.best_model)
    forward = forward_graph(model)
    best = folder.best
    followed = ("loss", *metrics.TRAINED[dataset.task])
    figures = {"train": {name: best["metrics"][name] for name in followed}}
    outputs = {}
    for name, feed in held_out.items():
        outputs[name] = predict_outputs(forward, feed)
        figures[name] = evaluate_outputs(model, dataset.task, dataset.splits[name].y, outputs[name])
    costs = {
        "examples_per_second": float(np.median([row["examples_per_second"] for row in folder.history])),
        "latency_seconds": measure_latency(forward, dataset.test.x[0]),
        "peak_memory_bytes": memory.bytes(),
        "checkpoint_bytes": folder.best_model.stat().st_size,
    }
    folder.write_predictions(y_true=dataset.test.y, outputs=outputs["test"])
    return Measured(figures, outputs, costs)


def forward_graph(model: keras.Model) -> Callable[[Any], Any]:
    """A model as one graph, from batches to outputs; `Model.predict` would trace one for each size.

    Splits of somebody's own data may differ in their numbers, so batches of any dtype are taken.
    """
    inputs = model.inputs[0]
    batches = tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype)
    graph = tf.function(lambda x: model(x, training=False), input_signature=[batches])
    return lambda x: graph(tf.cast(x, inputs.dtype))


def predict_outputs(forward: Callable[[Any], Any], feed: Feed) -> np.ndarray:
    """Outputs ``(n, outputs)`` float32 of a graph (see `forward`) for every example of a feed, in order."""
    return np.concatenate([forward(x).numpy() for x, _ in feed.dataset]).astype(np.float32, copy=False)


def evaluation_batch(batch_size: int) -> int:
    """Nothing is kept for a backward pass, so a larger batch costs no memory and saves time."""
    return max(batch_size, 256)


def evaluate_outputs(
    model: keras.Model, task: str, y_true: np.ndarray, outputs: np.ndarray
) -> dict[str, float]:
    """Loss and final metrics from a model's outputs ``(n, outputs)`` for targets ``(n,)``."""
    penalty = float(sum(model.losses)) if model.losses else 0.0
    column = y_true.reshape(outputs.shape) if outputs.shape[1] == 1 else y_true
    return {"loss": float(model.loss(column, outputs)) + penalty, **final_metrics(task, y_true, outputs)}


# -- Cost ------------------------------------------------------------------------------------------


def count_flops(model: keras.Model) -> int:
    """Floating-point operations of one example's forward pass; a multiply-add counts as two."""
    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    graph = tf.function(lambda *inputs: model(inputs[0], training=False)).get_concrete_function(*specs).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    log = logging.getLogger("tensorflow")
    level = log.level
    log.setLevel(logging.ERROR)  # that this API is old is no news to the user
    try:
        return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)
    finally:
        log.setLevel(level)


def measure_latency(forward: Callable[[Any], Any], example: np.ndarray, repeats: int = 30) -> float:
    """Median seconds from one example in memory to its output by a graph, after a warm-up."""
    batch = tf.constant(example[None])
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        forward(batch).numpy()
        times.append(time.perf_counter() - start)
    return float(np.median(times[3:]))
