"""Saving the state of a training while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from cnnbench.callbacks import Recorder
from cnnbench.diagnose import snapshot
from cnnbench.signals import Interruption
from cnnbench.state import Position, State, capture, restore_callbacks, restore_metrics

SHARE = 0.02  # of the time that saving states may take


class StateSaver(keras.callbacks.Callback):
    """Keep the state of the training on disk, and give it back where another process has stopped.

    It comes last, so that what every other callback remembers of an epoch is in the state. Between two
    epochs it saves whenever that costs less than 2 % of the time since it last did; with `minutes` it saves
    that often, within epochs too.

    Args:
        write: stores a state.
        interruption: is looked at after every look at the metrics.
        recorder: knows the step and the seconds.
        remembering: the callbacks with a memory.
        minutes: between two states; None for between epochs.

    Attributes:
        latest: the model's state at the end of an epoch of which only the rest was trained here.
        seconds_before: of training, in earlier phases and processes.

    Raises:
        InterruptedRunError: somebody asked to stop; the state is saved.
    """

    def __init__(
        self,
        write: Callable[[State], None],
        interruption: Interruption,
        recorder: Recorder,
        remembering: Sequence[keras.callbacks.Callback],
        minutes: float | None,
    ) -> None:
        super().__init__()
        self.write, self.interruption, self.recorder = write, interruption, recorder
        self.remembering, self.minutes = remembering, minutes
        self.seconds_before = 0.0
        self.latest: list[np.ndarray] = []
        self._phase, self._until = "", 0
        self._state: State | None = None
        self._epoch, self._continued = 0, False
        self._began = self._saved = time.perf_counter()
        self._cost = 0.0

    @property
    def seconds(self) -> float:
        """Of training so far."""
        return self.seconds_before + time.perf_counter() - self._began

    def begin(self, phase: str, until: int, state: State | None) -> None:
        """A phase begins.

        Args:
            phase: its name.
            until: the epoch with which it ends at the latest.
            state: to go on from.
        """
        self._phase, self._until, self._state = phase, until, state

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._state is not None:
            restore_callbacks(self.remembering, self._state)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch
        self._continued = self._state is not None and self._state.position.step > 0
        if self._state is not None and self._continued:
            restore_metrics(self.model, self._state)
            self.recorder.seconds_before = self._state.position.epoch_seconds
        self._state = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        step = self.recorder.done(batch)
        if step == self.recorder.steps:  # the epoch ends in a moment, with its validation
            return
        if self.interruption.requested is not None or (
            self.minutes is not None and time.perf_counter() - self._saved >= 60 * self.minutes
        ):
            self.save(self._epoch, step)
            self.interruption.check()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        since = time.perf_counter() - self._saved
        due = since * SHARE >= self._cost if self.minutes is None else since >= 60 * self.minutes
        if due or self.model.stop_training or self.interruption.requested is not None:
            self.save(epoch + 1, 0)
            self.interruption.check()
        if self._continued:
            self.latest = snapshot(self.model)

    def save(self, epoch: int, step: int) -> None:
        start = time.perf_counter()
        position = Position(
            self._phase,
            self._until,
            epoch,
            step,
            stopped=bool(self.model.stop_training),
            seconds=self.seconds,
            epoch_seconds=self.recorder.epoch_seconds if step else 0.0,
        )
        self.write(capture(self.model, self.remembering, position))
        self._saved = time.perf_counter()
        self._cost = self._saved - start
