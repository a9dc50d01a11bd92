"""The figures that count, of the stored best checkpoint, and what a model costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench.data import Dataset, Feed
from cnnbench.nn import layers_of, load_checkpoint
from cnnbench.runs import RunFolder, metrics
from cnnbench.system import PeakMemory
from cnnbench.training.device import gpu_peak_bytes

KERAS_BATCH = 32  # of `evaluate`, where none is given


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
    folder: RunFolder,
    dataset: Dataset,
    held_out: Mapping[str, Feed],
    memory: PeakMemory,
    chosen: Sequence[str] = (),
) -> Measured:
    """Load `best.keras`, evaluate it on each split that is held out, keep what it says of the test split.

    Args:
        folder: of the run, trained.
        dataset: as it was trained with.
        held_out: the feeds of its validation and test split.
        memory: watched since the training began.
        chosen: further metrics, by name.
    """
    model = load_checkpoint(folder.best_model)
    best = folder.best
    followed = ("loss", *metrics.TRAINED[dataset.task])
    figures = {"train": {name: best["metrics"][name] for name in followed}}
    outputs = {}
    evaluation = Evaluation(model, dataset.task, chosen)
    for name, feed in held_out.items():
        outputs[name], figures[name] = evaluation(feed)
    costs = {
        "examples_per_second": float(np.median([row["examples_per_second"] for row in folder.history])),
        "latency_seconds": measure_latency(forward_graph(model), dataset.test.x[0]),
        "peak_memory_bytes": memory.bytes(),
        "checkpoint_bytes": folder.best_model.stat().st_size,
    }
    if (on_gpu := gpu_peak_bytes()) is not None:
        costs["peak_gpu_memory_bytes"] = on_gpu
    folder.write_predictions(y_true=dataset.test.y, outputs=outputs["test"])
    return Measured(figures, outputs, costs)


class Evaluation:
    """Outputs of a compiled model, its loss and the final metrics, by one forward pass.

    The loss is the model's own of each batch, in the graph that computes its outputs, as in Keras's
    `evaluate`: a cross-entropy then looks through softmax or sigmoid at what these were given. From outputs
    alone, which round to 0 and 1, it would be cut off at 16.1.

    Args:
        model: compiled.
        task: of the data set.
        chosen: further metrics, by name.
    """

    def __init__(self, model: keras.Model, task: str, chosen: Sequence[str] = ()) -> None:
        self.model, self.task, self.chosen = model, task, chosen
        dtype = model.inputs[0].dtype

        def step(x: Any, y: Any) -> tuple[Any, Any]:
            x = tf.cast(x, dtype)  # splits of somebody's own data may differ in their numbers
            outputs = model(x, training=False)
            return outputs, model.compute_loss(x, y, outputs, None, training=False)

        self._graph = tf.function(step)

    def __call__(self, feed: Feed) -> tuple[np.ndarray, dict[str, float]]:
        """Outputs ``(n, outputs)`` for every example of a feed, in order, and the figures."""
        outputs, losses, sizes = [], [], []
        step = self._graph.get_concrete_function(*feed.dataset.element_spec)  # for batches of any size
        for x, y in feed.dataset:
            batch, loss = step(x, y)
            outputs.append(batch.numpy())
            losses.append(float(loss))
            sizes.append(len(outputs[-1]))
        together = np.concatenate(outputs).astype(np.float32, copy=False)
        loss = float(np.average(losses, weights=sizes))
        return together, {"loss": loss, **metrics.compute(self.task, feed.split.y, together, self.chosen)}


def forward_graph(model: keras.Model) -> Callable[[Any], Any]:
    """A model as one graph, from batches to outputs; `Model.predict` would trace one for each size.

    Splits of somebody's own data may differ in their numbers, so batches of any dtype are taken.
    """
    inputs = model.inputs[0]
    batches = tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype)
    graph = tf.function(lambda x: model(x, training=False), input_signature=[batches])
    return lambda x: graph(tf.cast(x, inputs.dtype))


def predict_outputs(forward: Callable[[Any], Any], feed: Feed) -> np.ndarray:
    """Outputs ``(n, outputs)`` float32 of a `forward_graph` for every example of a feed, in order."""
    return np.concatenate([forward(x).numpy() for x, _ in feed.dataset]).astype(np.float32, copy=False)


def evaluation_batch(batch_size: int) -> int:
    """Nothing is kept for a backward pass, so a larger batch costs no memory and saves time."""
    return max(batch_size, 256)


def loss_batch(model: keras.Model, loss: Any, batch_size: int) -> int:
    """The batch in which a loss is measured.

    Where it is a mean over examples any size gives the same, and a large one saves time. A loss of somebody's
    own, a sum, or what layers add to it may depend on the batch: then it is that of Keras's `evaluate`.
    """
    means = getattr(loss, "reduction", None) in ("sum_over_batch_size", "mean")
    known = [loss, *layers_of(model)]
    if means and all(_is_ours_or_kerass(one) for one in known):
        return evaluation_batch(batch_size)
    return KERAS_BATCH


def _is_ours_or_kerass(part: Any) -> bool:
    of_known = type(part).__module__.partition(".")[0] in ("keras", "cnnbench")
    return of_known and getattr(part, "activity_regularizer", None) is None


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
