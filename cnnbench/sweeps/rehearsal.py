"""The rehearsal of a run: all that it does with a few steps for its epochs, and what the whole would take."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench.data import Dataset, Feed, Split
from cnnbench.nn import load_checkpoint
from cnnbench.runs import RunFolder, RunSpec, Training
from cnnbench.sweeps.schema import Rehearsal
from cnnbench.system import PeakMemory
from cnnbench.training import Engine, evaluation_batch, forward_graph, predict_outputs, run

MEASURED_SECONDS = 2.0  # of each phase, after tracing and compilation
MOST_EXAMPLES = 512  # of a split that is only evaluated, or whose features are computed once
MOST_ON_GPU = 2048  # as many as one batch of an evaluation has there, which takes memory
FEATURE = 4  # bytes
FEWEST_EPOCHS = 4  # the first is no measure: functions are traced in it


def rehearse(spec: RunSpec, folder: Path) -> Rehearsal:
    """Do all of a run in `folder`, from the data to the figures, but only a few steps of the training.

    Args:
        spec: what to do; its `run_dir` stays untouched.
        folder: empty or missing; what is in it afterwards means nothing.

    Raises:
        Exception: whatever the run itself would raise.
    """
    gc.collect()  # models are cycles, and those of an earlier rehearsal are no part of this one
    memory, began = PeakMemory(), time.perf_counter()
    whole = spec.drawn(spec.dataset())
    spec = run.settled_training(spec, whole)
    training = spec.training
    on_gpu = spec.device != "cpu" and bool(tf.config.list_physical_devices("GPU"))
    small = _shortened(whole, MOST_ON_GPU if on_gpu else MOST_EXAMPLES, with_train=_may_cache(spec))
    watch = Stopwatch(_steps(small, training))
    loading = memory.bytes()  # the run starts measuring anew
    result = run.run(
        replace(
            spec,
            run_dir=folder,
            dataset=lambda: small,
            trackers={},
            callbacks={**spec.callbacks, "stopwatch": lambda: watch},
            training=_with_enough_epochs(training).model_copy(update={"fold": None}),  # it is drawn already
            rehearses=training,
        )
    ).metrics["cost"]
    once = time.perf_counter() - began - result["seconds"]["import"]

    forward = _forward_seconds(RunFolder(folder).best_model, small.test, training.examples_per_step)
    sizes = {name: len(split) for name, split in whole.splits.items()}
    left_out = {name: size - len(small.splits[name]) for name, size in sizes.items()}
    once += forward * (left_out.get("val", 0) + left_out["test"])
    epochs = []
    for phase in watch.phases:
        validation = forward * left_out.get("val", 0)
        if phase.input_shape != whole.input_shape:  # the head alone, on features
            once += forward * (left_out["train"] + left_out.get("val", 0))
            validation = 0.0
        once -= phase.measured_seconds
        epochs.append(phase.epoch_seconds(_steps(whole, training)) + validation)
    return Rehearsal(
        parameters=result["parameters"],
        flops=result["flops_per_example"],
        once_seconds=once,
        epoch_seconds=epochs,
        steps=_steps(whole, training),
        peak_memory_bytes=max(loading, memory.bytes()) + _bytes(whole) - _bytes(small),
        **_of_gpu(RunFolder(folder), result, max(_left_out(whole, small, phase) for phase in watch.phases)),
    )


def _of_gpu(folder: RunFolder, cost: Mapping[str, Any], left_out: int) -> dict[str, Any]:
    """Return what a rehearsal says of the GPU; nothing on a CPU.

    Args:
        folder: of the rehearsed run.
        cost: of that.
        left_out: bytes of examples that are not in `folder`'s run, and would lie on the GPU with the others.
    """
    if (peak := cost.get("peak_gpu_memory_bytes")) is None:
        return {}
    engine = Engine(**folder.environment["engine"])
    return {
        "device": folder.environment["device"],
        "engine": engine.describe(),
        "peak_gpu_memory_bytes": peak + (left_out if engine.resident else 0),
    }


@dataclass
class Phase:
    """One phase of a training as a stopwatch saw it, in seconds of `time.perf_counter`.

    Attributes:
        input_shape: the shape of one example, as the trained model takes it.
        epochs: begin and end of each whole epoch.
        chunks: the number of steps and the seconds of each call of the training function.
    """

    input_shape: tuple[int, ...]
    epochs: list[tuple[float, float]] = field(default_factory=list)
    chunks: list[tuple[int, float]] = field(default_factory=list)

    def epoch_seconds(self, steps: int) -> float:
        """Return the seconds of an epoch of so many steps."""
        if self._later_epochs:
            return median(self._later_epochs)
        return steps * median(seconds / count for count, seconds in self.later_chunks or self.chunks)

    @property
    def measured_seconds(self) -> float:
        """The part of the time that belongs to epochs, and not to what happens once."""
        if self._later_epochs:
            return sum(self._later_epochs) + median(self._later_epochs)  # the first epoch's share too
        return sum(seconds for _, seconds in self.later_chunks)

    @property
    def later_chunks(self) -> list[tuple[int, float]]:
        """The chunks that are not the first of their length, for which a program may be made."""
        lengths = [count for count, _ in self.chunks]
        return [chunk for place, chunk in enumerate(self.chunks) if chunk[0] in lengths[:place]]

    @property
    def _later_epochs(self) -> list[float]:
        return [end - begin for begin, end in self.epochs[1:]]


class Stopwatch(keras.callbacks.Callback):
    """Measures chunks of steps and epochs, and ends the phase after `MEASURED_SECONDS`.

    Args:
        steps: the number of steps of one epoch.

    Attributes:
        phases: in their order; a training with fine-tuning has two.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.phases: list[Phase] = []
        self._epoch_began = self._chunk_began = 0.0
        self._first_step, self._cut_short = 0, False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._cut_short = False
        self.phases.append(Phase(tuple(self.model.input_shape[1:])))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch_began = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._first_step, self._chunk_began = batch, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        phase = self.phases[-1]
        done = min(batch + 1, self.steps)  # Keras counts the last chunk as if it were a full one
        phase.chunks.append((done - self._first_step, time.perf_counter() - self._chunk_began))
        if sum(seconds for _, seconds in phase.later_chunks) >= MEASURED_SECONDS:
            self._cut_short = done < self.steps
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._cut_short:
            self.phases[-1].epochs.append((self._epoch_began, time.perf_counter()))


def _steps(dataset: Dataset, training: Training) -> int:
    return -(-len(dataset.train) // training.examples_per_step)


def _with_enough_epochs(training: Training) -> Training:
    fine_tuning = training.fine_tuning
    if fine_tuning is not None:
        epochs = max(fine_tuning.epochs, FEWEST_EPOCHS)
        fine_tuning = fine_tuning.model_copy(update={"epochs": epochs, "max_steps": None, "from_examples": 1})
    epochs = max(training.epochs, FEWEST_EPOCHS)
    settled = {"epochs": epochs, "fine_tuning": fine_tuning, "batch_size": training.examples_per_step}
    return training.model_copy(update={**settled, "max_steps": None, "max_minutes": None})


def _may_cache(spec: RunSpec) -> bool:
    """Tell whether the features of all training examples may be computed before the first step."""
    target = str(spec.config.get("model", {}).get("_target_", ""))
    return spec.training.cache_features and spec.augmentation is None and target.endswith(".transfer")


def _shortened(dataset: Dataset, most: int, with_train: bool) -> Dataset:
    """Return the data with a sample of every split on which no step is made."""
    val = dataset.val and _sample(dataset.val, most)
    train = _sample(dataset.train, most) if with_train else dataset.train
    return replace(dataset, train=train, val=val, test=_sample(dataset.test, most))


def _sample(split: Split, most: int) -> Split:
    # At equal distances: many a data set lies on disk class by class.
    size = min(len(split), most)
    return split.take(np.linspace(0, len(split) - 1, size).astype(int))


def _forward_seconds(path: Path, split: Split, batch_size: int) -> float:
    """Measure the stored model: seconds of one example in a batch of an evaluation."""
    model, feed = load_checkpoint(path), Feed(split, evaluation_batch(batch_size, split.x.shape[1:]))
    forward = forward_graph(model)
    predict_outputs(forward, feed)  # traced
    start = time.perf_counter()
    predict_outputs(forward, feed)
    return (time.perf_counter() - start) / len(split)


def _left_out(whole: Dataset, small: Dataset, phase: Phase) -> int:
    """Return the bytes of the examples that a phase would train and validate with, and a sample lacks."""
    on_features = phase.input_shape != whole.input_shape
    size = FEATURE if on_features else whole.train.x.dtype.itemsize
    counts = [sum(len(split) for split in (one.train, one.val) if split) for one in (whole, small)]
    return (counts[0] - counts[1]) * math.prod(phase.input_shape) * size


def _bytes(dataset: Dataset) -> int:
    """Return the bytes that a data set holds in memory; a mapped file holds none."""
    arrays = [split.x for split in dataset.splits.values() if isinstance(split.x, np.ndarray)]
    return sum(array.nbytes for array in arrays)
