"""Measurement of the stored best checkpoint: final figures and cost."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench.data import Dataset, Feed, Split
from cnnbench.nn import layers_of, load_checkpoint, split_at_logits, with_temperature
from cnnbench.runs import (
    Aim,
    Calibration,
    Decision,
    Interval,
    Reliability,
    RunFolder,
    Training,
    fit_temperature,
    intervals_of,
    metrics,
    probabilities_of,
    reliability,
)
from cnnbench.system import PeakMemory
from cnnbench.training.device import gpu_peak_bytes

GPU_BATCH, GPU_VALUES = 2048, 2**23  # examples, and their values, of a forward pass on a GPU
NO_TEMPERATURE = "the temperature stays 1: no other clearly pays on val, or no answer there is wrong"
KERAS_BATCH = 32  # of `evaluate`, where none is given


@dataclass(frozen=True)
class Measured:
    """Quality and cost of the best checkpoint.

    Attributes:
        figures: final metrics by split; those of `train` are means over the best epoch.
        outputs: of the model, by split.
        by_output: of classes, several labels or targets, the figures of each, by split and name.
        intervals: of the figures, by split and name.
        reliability: of the probabilities, by split; without those that have none.
        costs: examples per second of the training, seconds for one example alone, bytes.
    """

    figures: Mapping[str, Mapping[str, float]]
    outputs: Mapping[str, np.ndarray]
    by_output: Mapping[str, Mapping[str, Mapping[str, float]]]
    intervals: Mapping[str, Mapping[str, Interval]]
    reliability: Mapping[str, Reliability]
    costs: Mapping[str, Any]


def measure_best(
    folder: RunFolder,
    dataset: Dataset,
    held_out: Mapping[str, Feed],
    memory: PeakMemory,
    chosen: Sequence[str] = (),
    evaluation: type[Evaluation] | None = None,
) -> Measured:
    """Load `best.keras`, evaluate it on each held-out split, and store its predictions on the test split.

    Args:
        folder: of the run, trained.
        dataset: as it was trained with.
        held_out: the feeds of its validation and test split.
        memory: peak since the training began.
        chosen: further metrics, by name.
        evaluation: what evaluates the stored model.
    """
    model, thresholds = load_checkpoint(folder.best_model), folder.decision.thresholds
    best = folder.best
    followed = ("loss", *metrics.TRAINED[dataset.task])
    figures = {"train": {name: best["metrics"][name] for name in followed}}
    outputs, by_output, around, reliable = {}, {}, {}, {}
    evaluate = (evaluation or Evaluation)(model, dataset.task, chosen, thresholds=thresholds)
    for name, feed in held_out.items():
        outputs[name], figures[name] = evaluate(feed)
        names = dataset.class_names or dataset.targets
        if each := metrics.by_output(dataset.task, feed.split.y, outputs[name], names, thresholds):
            by_output[name] = each
        if found := reliability(dataset.task, feed.split.y, outputs[name]):
            reliable[name] = found
        around[name] = evaluate.intervals(feed.split, outputs[name], figures[name])
    costs = {
        "examples_per_second": float(np.median([row["examples_per_second"] for row in folder.history])),
        "latency_seconds": measure_latency(forward_graph(model), dataset.test.x[0]),
        "peak_memory_bytes": memory.bytes(),
        "checkpoint_bytes": folder.best_model.stat().st_size,
    }
    if (on_gpu := gpu_peak_bytes()) is not None:
        costs["peak_gpu_memory_bytes"] = on_gpu
    folder.write_predictions(y_true=dataset.test.y, outputs=outputs["test"])
    return Measured(figures, outputs, by_output, around, reliable, costs)


class Evaluation:
    """Evaluation of a compiled model: outputs, loss and final metrics by one forward pass.

    As in Keras's `evaluate`, the loss is computed in the graph of the outputs, where a cross-entropy takes
    the values before softmax or sigmoid. From outputs alone, which round to 0 and 1, it would end at 16.1.

    Attributes:
        losses: of each example of the feed that was evaluated last, without what regularizers add; None where
            the loss gives none.

    Args:
        model: compiled.
        task: of the data set.
        chosen: further metrics, by name.
        head: the part of the model that a feed has the inputs of; None for all of it.
        thresholds: of a yes, as `Decision` has them.
    """

    def __init__(
        self,
        model: keras.Model,
        task: str,
        chosen: Sequence[str] = (),
        head: keras.Model | None = None,
        thresholds: metrics.Thresholds = None,
    ) -> None:
        self.model, self.task, self.chosen, self.thresholds = model, task, chosen, thresholds
        part = head or model
        dtype = part.inputs[0].dtype

        def step(x: Any, y: Any) -> tuple[Any, Any, Any]:
            x = tf.cast(x, dtype)  # splits of a user's own data may differ in dtype
            outputs = part(x, training=False)
            loss = model.compute_loss(x, y, outputs, None, training=False)
            return outputs, loss, _loss_of_each(model.loss, y, outputs)

        self._graph = tf.function(step)
        self.losses: np.ndarray | None = None

    def __call__(self, feed: Feed) -> tuple[np.ndarray, dict[str, float]]:
        """Return outputs ``(n, outputs)`` float32 for every example of a feed, in order, and the figures."""
        outputs, losses, sizes, each = [], [], [], []
        step = self._graph.get_concrete_function(*feed.dataset.element_spec)  # for batches of any size
        for x, y in feed.dataset:
            batch, loss, losses_of_batch = step(x, y)
            outputs.append(batch.numpy())
            losses.append(float(loss))
            sizes.append(len(outputs[-1]))
            each.append(losses_of_batch.numpy())
        self.losses = np.concatenate(each) if sum(map(len, each)) == sum(sizes) else None
        together = np.concatenate(outputs).astype(np.float32, copy=False)
        loss = float(np.average(losses, weights=sizes))
        return together, {"loss": loss, **self.figures_of(feed.split, together)}

    def figures_of(self, split: Split, outputs: np.ndarray) -> dict[str, float]:
        """Return the final metrics of a split and the chosen ones, without the loss."""
        return metrics.compute(self.task, split.y, outputs, self.chosen, self.thresholds)

    def intervals(
        self, split: Split, outputs: np.ndarray, figures: Mapping[str, float]
    ) -> dict[str, Interval]:
        """Return the intervals of the figures of the split that was evaluated last."""
        return intervals_of(self.task, split.y, outputs, figures, self.losses, split.groups, self.thresholds)


def measure_split(
    model: keras.Model,
    dataset: Dataset,
    split: str,
    training: Training,
    thresholds: metrics.Thresholds = None,
) -> tuple[np.ndarray, dict[str, float], dict[str, Interval]]:
    """Return outputs ``(n, outputs)`` of every example of a split, loss and metrics, and their intervals."""
    size, column = loss_batch(model, model.loss, training.examples_per_step), dataset.outputs == 1
    evaluation = Evaluation(model, dataset.task, training.metrics or (), thresholds=thresholds)
    measured = dataset.splits[split]
    outputs, figures = evaluation(Feed(measured, size, column=column))
    return outputs, figures, evaluation.intervals(measured, outputs, figures)


def _loss_of_each(loss: Any, y: Any, outputs: Any) -> Any:
    """Return the loss of each example ``(n,)``; nothing of a loss that is a number for a whole batch."""
    if isinstance(loss, keras.losses.Loss):
        each = loss.call(y, outputs)
        if each.shape.rank == 1:
            return each
    return tf.zeros((0,))


def forward_graph(model: keras.Model) -> Callable[[Any], Any]:
    """Return a model as one graph for batches of any size; `Model.predict` traces one for each size.

    Batches may have any dtype, since the splits of a user's own data may differ in it.
    """
    inputs = model.inputs[0]
    batches = tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype)
    graph = tf.function(lambda x: model(x, training=False), input_signature=[batches])
    return lambda x: graph(tf.cast(x, inputs.dtype))


def predict_outputs(forward: Callable[[Any], Any], feed: Feed) -> np.ndarray:
    """Return outputs ``(n, outputs)`` float32 of a `forward_graph` for every example of a feed, in order."""
    return np.concatenate([forward(x).numpy() for x, *_ in feed.dataset]).astype(np.float32, copy=False)


def evaluation_batch(batch_size: int, shape: Sequence[int]) -> int:
    """Return a batch size for a forward pass, which saves time when larger and keeps nothing in memory.

    Args:
        batch_size: of the training.
        shape: of an example.
    """
    on_gpu = bool(tf.config.list_logical_devices("GPU"))
    return max(batch_size, 256, min(GPU_BATCH, GPU_VALUES // math.prod(shape)) if on_gpu else 0)


def loss_batch(model: keras.Model, loss: Any, batch_size: int) -> int:
    """Return the batch size by which a loss is measured.

    A mean over examples is the same for any size, and a large one saves time. A user's own loss, a sum or an
    addend of a layer may depend on the batch, and is measured in that of Keras's `evaluate`.
    """
    means = getattr(loss, "reduction", None) in ("sum_over_batch_size", "mean")
    known = [loss, *layers_of(model)]
    if means and all(_is_ours_or_kerass(one) for one in known):
        return evaluation_batch(batch_size, model.inputs[0].shape[1:])
    return KERAS_BATCH


def _is_ours_or_kerass(part: Any) -> bool:
    of_known = type(part).__module__.partition(".")[0] in ("keras", "cnnbench")
    return of_known and getattr(part, "activity_regularizer", None) is None


# -- Calibration ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibrated:
    """What was settled on the validation split.

    Attributes:
        decision: temperature and thresholds.
        model: with the temperature; None where nothing was fitted.
        uncalibrated: by split, the figures at temperature 1 and threshold 0.5, with `ece`.
        remarks: one line for each thing that could not be had.
    """

    decision: Decision
    model: keras.Model | None
    uncalibrated: Mapping[str, Mapping[str, float]]
    remarks: tuple[str, ...]


def calibrate(
    model: keras.Model,
    dataset: Dataset,
    held_out: Mapping[str, Feed],
    wanted: Calibration,
    chosen: Sequence[str],
    logits_of: Callable[[keras.Model, Feed], np.ndarray],
) -> Calibrated:
    """Fit temperature and thresholds of a stored model on the validation split; no other one chooses.

    Args:
        model: compiled.
        dataset: as it was trained with.
        held_out: the feeds of its validation and test split.
        wanted: what to fit.
        chosen: further metrics, by name.
        logits_of: returns the outputs ``(n, outputs)`` of a network for a feed.
    """
    network, activation = split_at_logits(model)
    evaluate = Evaluation(model, dataset.task, chosen, activation)
    logits, before = {}, {}
    for name, feed in held_out.items():
        logits[name] = logits_of(network, feed)
        outputs, figures = evaluate(
            Feed(replace(feed.split, x=logits[name]), feed.batch_size, column=feed.column)
        )
        if (found := reliability(dataset.task, feed.split.y, outputs)) is not None:
            figures["ece"] = found.ece
        before[name] = figures
    names, val = tuple(dataset.class_names or dataset.targets), held_out["val"].split
    y_val = val.y
    remarks: list[str] = []
    temperature = thresholds = None
    if wanted.temperature:
        temperature = fit_temperature(dataset.task, y_val, logits["val"], val.groups)
        if temperature is None:
            remarks.append(NO_TEMPERATURE)
    if wanted.threshold is not None:
        probabilities = probabilities_of(dataset.task, logits["val"], temperature or 1.0)
        thresholds, told = _thresholds(Aim.parse(wanted.threshold), y_val, probabilities, names)
        remarks += told
    decision = Decision(dataset.task, names, thresholds, wanted.threshold, temperature)
    made = None if temperature is None else with_temperature(model, temperature)
    return Calibrated(decision, made, before, tuple(remarks))


def _thresholds(
    aim: Aim, y_true: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> tuple[tuple[float, ...], list[str]]:
    """Return the threshold of class 1, or of each label, and a line for each that misses its aim."""
    columns = probabilities.reshape(len(probabilities), -1).T
    each = y_true.reshape(len(y_true), -1).T
    thresholds, remarks = [], []
    for name, truth, column in zip(names[-len(columns) :], each, columns, strict=True):
        found = aim.threshold(truth, column)
        if found is None:
            remarks.append(f"the threshold of {name} stays 0.5: the validation examples are all of one kind")
        elif not found[1]:
            remarks.append(
                f"no threshold of {name} reaches {aim.name}={aim.value:g} on the validation split; "
                "the nearest is taken"
            )
        thresholds.append(0.5 if found is None else found[0])
    return tuple(thresholds), remarks


def logits_by_network(network: keras.Model, feed: Feed) -> np.ndarray:
    """Return the logits ``(n, outputs)`` float32 of every example of a feed, in order."""
    return predict_outputs(forward_graph(network), feed)


# -- Cost ------------------------------------------------------------------------------------------


def count_flops(model: keras.Model) -> int:
    """Count the floating-point operations of one example's forward pass; a multiply-add counts as two."""
    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    graph = tf.function(lambda *inputs: model(inputs[0], training=False)).get_concrete_function(*specs).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    log = logging.getLogger("tensorflow")
    level = log.level
    log.setLevel(logging.ERROR)  # it says that this API is old
    try:
        return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)
    finally:
        log.setLevel(level)


def measure_latency(forward: Callable[[Any], Any], example: np.ndarray, repeats: int = 30) -> float:
    """Measure the median seconds from one example in memory to its output, after a warm-up."""
    batch = tf.constant(example[None])
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        forward(batch).numpy()
        times.append(time.perf_counter() - start)
    return float(np.median(times[3:]))
