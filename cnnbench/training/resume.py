"""State of a training: all that decides how it goes on, captured, saved and restored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np

from cnnbench.errors import CnnbenchError
from cnnbench.system import Interruption
from cnnbench.training.callbacks import Recorder
from cnnbench.training.diagnose import snapshot

# Attributes that Keras sets on every callback.
GIVEN = ("_model", "params", "validation_data")
SHARE = 0.02  # of the time, which saving states may take


@dataclass(frozen=True)
class Position:
    """Position of a training.

    Attributes:
        phase: name of the phase.
        until: last epoch of the phase.
        epoch: finished epochs, of all phases.
        step: finished steps of the epoch under way; 0 between two epochs.
        stopped: a callback has ended the phase.
        seconds: of training so far.
        epoch_seconds: of the epoch under way.
        first: finished epochs when the phase began; None in states of an earlier version.
        stopped_by: whose time has ended this phase or one before; None where none did.
    """

    phase: str
    until: int
    epoch: int = 0
    step: int = 0
    stopped: bool = False
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    first: int | None = None
    stopped_by: str | None = None


@dataclass(frozen=True)
class State:
    """Position of a training, with the memory of the model, its optimizer and the callbacks.

    Attributes:
        position: of the training.
        arrays: variables by ``model/0``, ``optimizer/0``, ``metrics/0`` and so on, and the callbacks' arrays.
        callbacks: for each callback its attributes as JSON; arrays in them are `{"array": name}`.
    """

    position: Position
    arrays: Mapping[str, np.ndarray]
    callbacks: Sequence[Mapping[str, Any]] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the arrays."""
        return {"position": asdict(self.position), "callbacks": list(self.callbacks)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> State:
        return cls(Position(**content["position"]), arrays, content["callbacks"])


def capture(model: keras.Model, callbacks: Sequence[keras.callbacks.Callback], position: Position) -> State:
    """Copy the state of a compiled model and its callbacks."""
    arrays = {
        f"{group}/{number}": np.array(variable)
        for group, variables in _variables(model).items()
        for number, variable in enumerate(variables)
    }
    remembered = []
    for number, callback in enumerate(callbacks):
        attributes = {}
        for name, value in vars(callback).items():
            try:
                # Keras gives `min_delta` its sign with the first value that it sees, in every process anew.
                if name not in GIVEN and not (name == "min_delta" and hasattr(callback, "monitor_op")):
                    attributes[name] = _encode(value, f"callbacks/{number}/{name}", arrays)
            except TypeError:
                continue  # a function or a model, which is built anew
        remembered.append(attributes)
    return State(position, arrays, remembered)


def restore(model: keras.Model, state: State) -> None:
    """Restore the values of the model and its optimizer.

    Raises:
        CnnbenchError: the model has other variables than the state.
    """
    for group in ("model", "optimizer"):
        _assign(group, _variables(model)[group], state)


def restore_metrics(model: keras.Model, state: State) -> None:
    """Restore the running means in the middle of an epoch, after `fit` has reset them."""
    _assign("metrics", _variables(model)["metrics"], state)


def restore_callbacks(callbacks: Sequence[keras.callbacks.Callback], state: State) -> None:
    """Restore the attributes of each callback, after its `on_train_begin`, which would clear them."""
    for callback, attributes in zip(callbacks, state.callbacks, strict=True):
        for name, value in attributes.items():
            setattr(callback, name, _decode(value, state.arrays))


def _variables(model: keras.Model) -> dict[str, list[Any]]:
    return {
        "model": model.variables,  # with the random states of dropout
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }


def _assign(group: str, variables: Sequence[Any], state: State) -> None:
    stored = [name for name in state.arrays if name.startswith(f"{group}/")]
    values = [state.arrays[f"{group}/{number}"] for number in range(len(stored))]
    if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
        raise CnnbenchError(
            f"the saved state does not fit: its {group} has other variables than the one built now",
            "the code or a package has changed since; start the run anew",
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Encode as JSON, with arrays and numpy's numbers in `arrays`, so that they keep their type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            raise TypeError(name)
        arrays[name] = np.array(value)
        return {"array": name, "scalar": isinstance(value, np.generic)}
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{name}/{number}", arrays) for number, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _encode(item, f"{name}/{key}", arrays) for key, item in value.items()}}
    raise TypeError(name)


def _decode(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        array = arrays[value["array"]]
        return array[()] if value["scalar"] else array
    if "dict" in value:
        return {key: _decode(item, arrays) for key, item in value["dict"].items()}
    [(kind, items)] = value.items()
    decoded = [_decode(item, arrays) for item in items]
    return tuple(decoded) if kind == "tuple" else decoded


# -- Saving ----------------------------------------------------------------------------------------


class StateSaver(keras.callbacks.Callback):
    """Save the state of the training, and restore that of another process.

    It comes last, so that the state holds what the other callbacks remember of an epoch. Between epochs it
    saves where that takes less than 2 % of the time since the last state; with `minutes`, that often, within
    epochs too.

    Args:
        write: stores a state.
        interruption: checked after every look at the metrics.
        recorder: counts steps and seconds.
        remembering: callbacks to save.
        minutes: between two states; None for between epochs.
        stopped_by: says whose time has ended a phase so far.

    Attributes:
        latest: the model's state at the end of the last epoch that a `fit` of its own ended.
        seconds_before: of training in earlier processes.

    Raises:
        InterruptedRunError: the run was asked to stop; the state is saved.
    """

    def __init__(
        self,
        write: Callable[[State], None],
        interruption: Interruption,
        recorder: Recorder,
        remembering: Sequence[keras.callbacks.Callback],
        minutes: float | None,
        stopped_by: Callable[[], str | None] = lambda: None,
    ) -> None:
        super().__init__()
        self.write, self.interruption, self.recorder = write, interruption, recorder
        self.remembering, self.minutes, self.stopped_by = remembering, minutes, stopped_by
        self.seconds_before = 0.0
        self.latest: list[np.ndarray] = []
        self._phase, self._first, self._until = "", 0, 0
        self._ends: Sequence[int] = ()
        self._state: State | None = None
        self._epoch, self._continued = 0, False
        self._began = self._saved = time.perf_counter()
        self._cost = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self.seconds_before + time.perf_counter() - self._began

    def begin(
        self, phase: str, first: int, until: int, state: State | None, ends: Sequence[int] = ()
    ) -> None:
        """Begin a phase.

        Args:
            phase: its name.
            first: finished epochs.
            until: its last epoch.
            state: to continue from, or None.
            ends: epochs after which another `fit` goes on.
        """
        self._phase, self._first, self._until, self._state = phase, first, until, state
        self._ends = ends

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
        if step == self.recorder.last:  # the epoch ends in a moment, with its validation
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
        if epoch + 1 in self._ends:
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
            first=self._first,
            stopped_by=self.stopped_by(),
        )
        self.write(capture(self.model, self.remembering, position))
        self._saved = time.perf_counter()
        self._cost = self._saved - start
