"""Callbacks that Keras lacks: best checkpoint, whole-split metrics and the record of a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
import numpy as np
from pydantic import Field

from cnnbench.data import Feed
from cnnbench.errors import CnnbenchError, nearest
from cnnbench.runs import metrics
from cnnbench.training.diagnose import has_finite_weights, snapshot
from cnnbench.training.measure import forward_graph, predict_outputs


class TrainingDivergedError(RuntimeError):
    """A loss that turned NaN or infinite, so that going on would only cost time.

    Attributes:
        diagnosis: the cause as plain values, once it is known.
    """

    diagnosis: Mapping[str, Any] | None = None


class BestCheckpoint(keras.callbacks.Callback):
    """Keep the model of the best epoch.

    An epoch is better when all its metrics and weights are finite and its monitored value is better than
    the best so far by more than `min_delta`; a tie keeps the earlier epoch. Keras's `ModelCheckpoint` would
    take a NaN of the first epoch as the best for ever.

    Args:
        monitor: a name of the epoch's logs, e.g. `val_loss`.
        mode: `min` or `max`; never guessed.
        min_delta: in the units of the monitored value.

    Attributes:
        whole: the model to save where only its head is trained; None for the trained one.
        write: set by the run; called with a function that saves the model to a path, and with the epoch
            (from 1) and its metrics.
    """

    def __init__(
        self, monitor: str, mode: Literal["min", "max"], min_delta: Annotated[float, Field(ge=0)] = 0.0
    ) -> None:
        super().__init__()
        self.monitor = monitor
        self.sign = 1.0 if mode == "max" else -1.0
        self.min_delta = min_delta
        self.best_epoch: int | None = None
        self.best = math.nan
        self.whole: keras.Model | None = None
        self.write: Callable[[Callable[[Path], object], Mapping[str, Any]], None] | None = None

    @property
    def chosen_by(self) -> str:
        """What the best epoch has, such as `lowest val_loss`."""
        by = f", by more than {self.min_delta:g}" if self.min_delta else ""
        return f"{'highest' if self.sign > 0 else 'lowest'} {self.monitor}{by}"

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.monitor not in (logs or {}):
            raise CnnbenchError(f"monitor={self.monitor} does not exist", nearest(self.monitor, logs or {}))
        value = float((logs or {})[self.monitor])
        if not all(math.isfinite(float(metric)) for metric in (logs or {}).values()):
            return
        if self.best_epoch is not None and self.sign * (value - self.best) <= self.min_delta:
            return
        if not has_finite_weights(self.model):
            return  # the last step broke them; its loss was measured before it
        self.best, self.best_epoch = value, epoch + 1
        if self.write is not None:
            info = {"epoch": epoch + 1, "monitor": self.monitor, "value": value, "metrics": dict(logs or {})}
            self.write((self.whole or self.model).save, info)


class ValidationMetrics(keras.callbacks.Callback):
    """Add chosen metrics to the logs of each epoch, computed over the whole validation split at once.

    It comes before the `Recorder`, so that they are in the history. A mean over batches would be another
    figure for most of them.

    Args:
        feed: of the validation split, in order.
        task: of the data set.
        names: of the metrics; they become `val_NAME`.
    """

    def __init__(self, feed: Feed, task: str, names: Sequence[str]) -> None:
        super().__init__()
        self.feed, self.task, self.names = feed, task, names
        self._forward: Callable[[Any], Any] | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        self._forward = self._forward or forward_graph(self.model)
        outputs = predict_outputs(self._forward, self.feed)
        if np.isfinite(outputs).all():
            figures = metrics.compute_named(self.task, self.feed.split.y, outputs, self.names)
        else:
            figures = dict.fromkeys(self.names, math.nan)
        logs |= {f"val_{name}": value for name, value in figures.items()}


class Recorder(keras.callbacks.Callback):
    """Report progress to the run: one entry per epoch, and running metrics in between.

    It comes first, so that every other callback sees its additions to the logs: `learning_rate`,
    `seconds` (of the whole epoch) and `examples_per_second` (of its training part).

    Args:
        examples: of the training split, per epoch.
        steps: of one epoch.
        on_epoch_begin: called with the epoch, from 0.
        on_step: called with the steps done in this epoch and the running metrics.
        on_epoch_end: called with the epoch's entry.

    Attributes:
        feed: of the training split; its epoch is set here.
        seconds_before: that another process has spent on the current epoch.
        before_epoch: the model's state at the beginning of the epoch, for a diagnosis.

    Raises:
        TrainingDivergedError: the loss is NaN or infinite.
    """

    def __init__(
        self,
        examples: int,
        steps: int,
        on_epoch_begin: Callable[[int], None],
        on_step: Callable[[int, Mapping[str, float]], None],
        on_epoch_end: Callable[[Mapping[str, float]], None],
    ) -> None:
        super().__init__()
        self.examples, self.steps = examples, steps
        self._on_epoch_begin, self._on_step, self._on_epoch_end = on_epoch_begin, on_step, on_epoch_end
        self.feed: Feed | None = None
        self.seconds_before = 0.0
        self.before_epoch: list[np.ndarray] = []
        self._epoch = 0
        self._started = self._trained = 0.0
        self._last = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch
        if self.feed is not None:
            self.feed.epoch = epoch
        self.before_epoch = snapshot(self.model)
        self._started = time.perf_counter()
        self._on_epoch_begin(epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        running = {name: float(value) for name, value in (logs or {}).items()}
        self._trained, self._last = time.perf_counter(), self.done(batch)
        if not math.isfinite(running["loss"]):
            raise TrainingDivergedError(
                f"the loss became {running['loss']} in epoch {self._epoch + 1}, by step {self.done(batch)}"
            )
        self._on_step(self.done(batch), running)

    def done(self, batch: int) -> int:
        """Return the finished steps of the epoch, including those of another process."""
        first = self.feed.first if self.feed else 0
        return min(first + batch + 1, self.last)

    @property
    def last(self) -> int:
        """The last step of the epoch."""
        return self.feed.last if self.feed else self.steps

    @property
    def epoch_seconds(self) -> float:
        """Seconds of the epoch so far, including those of another process."""
        return self.seconds_before + time.perf_counter() - self._started

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assert logs is not None
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        logs["seconds"] = self.epoch_seconds
        self.seconds_before = 0.0
        share = (self._last - (self.feed.first if self.feed else 0)) / self.steps
        logs["examples_per_second"] = self.examples * share / (self._trained - self._started)
        self._on_epoch_end({"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}})


class Deadline(keras.callbacks.Callback):
    """End a phase when its time is over, within an epoch too; the epoch is validated all the same.

    Args:
        seconds: tells those of the run so far.

    Attributes:
        end: seconds of the run by which the phase ends.
        of: whose time it is, for people.
        stopped: the epoch, from 1 on, in which training was ended by the time; None where it was not.
    """

    def __init__(self, seconds: Callable[[], float], end: float, of: str) -> None:
        super().__init__()
        self.seconds, self.end, self.of = seconds, end, of
        self.stopped: int | None = None
        self._epoch = 0

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self.seconds() >= self.end

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not self.model.stop_training and self.is_over:
            self.stopped, self.model.stop_training = self._epoch, True


class Unfreezing(keras.callbacks.Callback):
    """Let one block more be trained after each so many epochs, from the top.

    Args:
        shares: of each block a variable that its learning rate is multiplied by, the top one first.
        first: finished epochs when the phase began.
        epochs: between two blocks.
        tell: is told the number of blocks that are trained, where it changes.
    """

    def __init__(self, shares: Sequence[Any], first: int, epochs: int, tell: Callable[[int], None]) -> None:
        super().__init__()
        self.shares, self.first, self.epochs, self.tell = shares, first, epochs, tell
        self._trained = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        trained = min(1 + (epoch - self.first) // self.epochs, len(self.shares))
        if trained == self._trained:
            return
        self._trained = trained
        for place, share in enumerate(self.shares):
            share.assign(float(place < trained))
        self.tell(trained)
