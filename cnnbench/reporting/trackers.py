"""Programs that show runs, MLflow and TensorBoard among them, and how they are kept from ever stopping one.

Which MLflow store or server, `$MLFLOW_TRACKING_URI` says and never a config: one from a stranger could have
a run sent anywhere. TensorBoard's event files lie in the run's folder, for `tensorboard --logdir outputs`.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from cnnbench.runs import DONE, INTERRUPTED, Observer, RunFolder, RunResult

log = logging.getLogger("cnnbench")
WAITING = 1000  # messages at most that a slow tracker may be behind
SHOWN = 200  # characters of a reason
CLOSING_SECONDS = 15.0  # that a run waits for its tracker at the end
# MLflow's own settings where the user has none: it would try a server that is down for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
BATCH = 100  # parameters in one message at most
LONGEST = 500  # characters of a parameter's value that every store takes
STATUS = {DONE: "FINISHED", INTERRUPTED: "KILLED"}


@dataclass(frozen=True)
class Tracked:
    """The run that a tracker shows.

    Attributes:
        name: of the run.
        folder: of the run.
        config: every value by its dotted key.
    """

    name: str
    folder: RunFolder
    config: Mapping[str, Any]


class Tracker:
    """A program that shows runs. Its methods may take long and may raise anything."""

    def begin(self, run: Tracked) -> None:
        """Called with the first epoch, also of a run that is resumed."""

    def epoch(self, entry: Mapping[str, float]) -> None:
        """`entry` is the epoch's row of history.csv."""

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        """`figures` are the final metrics, e.g. `test_accuracy`; empty unless the status is `done`."""


class Tracking(Observer):
    """Tells one tracker of a run, in a thread of its own.

    A tracker that raises, is down, hangs or falls behind costs one warning; the run goes on without it.

    Args:
        name: of the tracker, for the warning.
        tracker: what is told.
        run: which one.
    """

    def __init__(self, name: str, tracker: Tracker, run: Tracked) -> None:
        self.name, self.tracker, self.run = name, tracker, run
        self._messages: queue.Queue[Callable[[], None]] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._given_up = threading.Event()

    def epoch_ended(self, entry: Mapping[str, float]) -> None:
        if self._thread is None:  # a run that fails before its first epoch is nothing to show
            self._thread = threading.Thread(target=self._tell, name=self.name, daemon=True)
            self._thread.start()
            self._put(partial(self.tracker.begin, self.run))
        self._put(partial(self.tracker.epoch, dict(entry)))

    def finished(self, result: RunResult) -> None:
        figures = {
            f"{split}_{name}": value
            for split, metrics in result.metrics["metrics"].items()
            for name, value in metrics.items()
        }
        self._end(DONE, figures)

    def failed(self, status: str) -> None:
        self._end(status, {})

    def _end(self, status: str, figures: Mapping[str, float]) -> None:
        if self._thread is None:
            return
        self._put(partial(self.tracker.end, status, figures))
        self._put(self._leave)
        self._thread.join(CLOSING_SECONDS)
        if self._thread.is_alive():
            self._give_up(f"it has not answered for {CLOSING_SECONDS:.0f} s")

    def _put(self, message: Callable[[], None]) -> None:
        if self._given_up.is_set():
            return
        try:
            self._messages.put_nowait(message)
        except queue.Full:
            self._give_up(f"it is {WAITING:,} messages behind")

    def _tell(self) -> None:
        while not self._given_up.is_set():
            try:
                self._messages.get()()
            except _LeaveError:
                return
            except Exception as error:  # noqa: BLE001  whatever it is, it is no reason to stop a run
                reason = str(error).strip() or type(error).__name__
                self._give_up(reason.splitlines()[0][:SHOWN])

    def _leave(self) -> None:
        raise _LeaveError

    def _give_up(self, reason: str) -> None:
        if not self._given_up.is_set():
            self._given_up.set()
            log.warning("%s is given up for this run, which goes on: %s", self.name, reason)


def trackings(trackers: Mapping[str, Callable[[], Tracker]], run: Tracked) -> list[Tracking]:
    """One for each tracker, by name."""
    return [Tracking(name, make(), run) for name, make in trackers.items()]


class _LeaveError(Exception):
    """The last message."""
