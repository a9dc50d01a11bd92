"""Trackers: programs that show runs, such as MLflow and TensorBoard, told so that they never stop a run.

`MLFLOW_TRACKING_URI` in the environment names the store or server of MLflow. No config does: a stranger's
could have a run sent anywhere. TensorBoard's files lie in the run folder, for `tensorboard --logdir outputs`.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cnnbench.runs import DONE, INTERRUPTED, Observer, RunFolder, RunResult, metrics
from cnnbench.system import read_json, write_json

log = logging.getLogger("cnnbench")
WAITING = 1000  # messages by which a slow tracker may be behind
SHOWN = 200  # characters of a reason
CLOSING_SECONDS = 15.0  # the run waits so long for its tracker at the end
# Settings of MLflow where the user has none: by default it tries a server that is down for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
BATCH = 100  # most parameters in one message
LONGEST = 500  # characters of a parameter that every store takes
STATUS = {DONE: "FINISHED", INTERRUPTED: "KILLED"}


@dataclass(frozen=True)
class Tracked:
    """A run as trackers see it.

    Attributes:
        name: of the run.
        folder: of the run.
        config: every value by its dotted key.
    """

    name: str
    folder: RunFolder
    config: Mapping[str, Any]


class Tracker:
    """A program that shows runs; its methods may take long and may raise anything."""

    def begin(self, run: Tracked) -> None:
        """Begin with the first epoch, or with that from which a run is resumed."""

    def epoch(self, entry: Mapping[str, float]) -> None:
        """Take the epoch's row of history.csv."""

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        """Take the final metrics, such as `test_accuracy`; none unless the status is `done`."""


class Tracking(Observer):
    """Tells one tracker of a run, in a thread of its own.

    A tracker that raises, is down, hangs or falls behind costs one warning; the run goes on without it.

    Args:
        name: of the tracker, for the warning.
        tracker: the one to tell.
        run: the one to tell it of.
    """

    def __init__(self, name: str, tracker: Tracker, run: Tracked) -> None:
        self.name, self.tracker, self.run = name, tracker, run
        self._messages: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._given_up = threading.Event()

    def epoch_ended(self, entry: Mapping[str, float]) -> None:
        if self._thread is None:  # a run that fails before its first epoch is nothing to show
            self._thread = threading.Thread(target=self._tell, name=self.name, daemon=True)
            self._thread.start()
            self._put(partial(self.tracker.begin, self.run))
        self._put(partial(self.tracker.epoch, dict(entry)))

    def finished(self, result: RunResult) -> None:
        self._end(DONE, metrics.by_split_and_name(result.metrics["metrics"]))

    def failed(self, status: str) -> None:
        self._end(status, {})

    def _end(self, status: str, figures: Mapping[str, float]) -> None:
        if self._thread is None:
            return
        self._put(partial(self.tracker.end, status, figures))
        self._put(None)
        self._thread.join(CLOSING_SECONDS)
        if self._thread.is_alive():
            self._give_up(f"it has not answered for {CLOSING_SECONDS:.0f} s")

    def _put(self, message: Callable[[], None] | None) -> None:
        """Send a message; None is the last."""
        if self._given_up.is_set():
            return
        try:
            self._messages.put_nowait(message)
        except queue.Full:
            self._give_up(f"it is {WAITING:,} messages behind")

    def _tell(self) -> None:
        while not self._given_up.is_set():
            message = self._messages.get()
            if message is None:
                return
            try:
                message()
            except Exception as error:  # noqa: BLE001  nothing that a tracker raises is a reason to stop a run
                reason = str(error).strip() or type(error).__name__
                self._give_up(reason.splitlines()[0][:SHOWN])

    def _give_up(self, reason: str) -> None:
        if not self._given_up.is_set():
            self._given_up.set()
            log.warning("%s is given up for this run, which goes on: %s", self.name, reason)


def trackings(trackers: Mapping[str, Callable[[], Tracker]], run: Tracked) -> list[Tracking]:
    """Make one for each tracker, by name."""
    return [Tracking(name, make(), run) for name, make in trackers.items()]


# -- MLflow ----------------------------------------------------------------------------------------


class MLflow(Tracker):
    """Sends the config as parameters, every epoch's row as metrics, and the final metrics.

    A resumed run goes on in the same MLflow run; epochs that are there stay as they are.

    Args:
        experiment: of MLflow, in which the run is listed; it is made if there is none.
    """

    def __init__(self, experiment: str = "cnnbench") -> None:
        self.experiment = experiment
        self._client: Any = None
        self._run_id = ""
        self._epoch = 0

    def begin(self, run: Tracked) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        self._run_id = self._known(run) or self._new(run)
        texts = [Param(key, str(value)[:LONGEST]) for key, value in run.config.items()]
        for start in range(0, len(texts), BATCH):
            self._client.log_batch(self._run_id, params=texts[start : start + BATCH])
        steps = [metric.step for metric in self._client.get_metric_history(self._run_id, "loss")]
        self._epoch = max(steps, default=0)
        for entry in run.folder.history:  # rows that a killed process did not send
            self.epoch(entry)

    def epoch(self, entry: Mapping[str, float | None]) -> None:
        if int(entry["epoch"] or 0) <= self._epoch:
            return
        self._epoch = int(entry["epoch"] or 0)
        self._log({name: value for name, value in entry.items() if name != "epoch" and value is not None})

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        self._log({f"final/{name}": value for name, value in figures.items()})
        self._client.set_terminated(self._run_id, STATUS.get(status, "FAILED"))

    def _log(self, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows: Sequence[Any] = [Metric(name, value, now, self._epoch) for name, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=rows)

    def _known(self, run: Tracked) -> str | None:
        """Set the MLflow run going again that this run had before it was interrupted."""
        from mlflow.exceptions import MlflowException

        run_id = read_json(run.folder.tracked).get("run_id")
        if run_id is None:
            return None
        try:
            self._client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # removed, or another store by now
                return None
            raise
        return str(run_id)

    def _new(self, run: Tracked) -> str:
        made = self._client.create_run(
            self._experiment_id(), run_name=run.folder.path.name, tags={"cnnbench.name": run.name}
        )
        run_id = str(made.info.run_id)
        write_json(run.folder.tracked, {"run_id": run_id})
        return run_id

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return str(self._client.create_experiment(self.experiment))
            except MlflowException:  # another run was faster
                found = self._client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        return str(found.experiment_id)


# -- TensorBoard -----------------------------------------------------------------------------------


class TensorBoard(Tracker):
    """Writes scalars of every epoch, the config as text, and the final metrics at the last epoch.

    TensorFlow writes the files; the package `tensorboard` is needed only to look at them.
    """

    def __init__(self) -> None:
        self._writer: Any = None
        self._epoch = 0

    def begin(self, run: Tracked) -> None:
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(str(run.folder.events))
        rows = "\n".join(f"    {key}: {value}" for key, value in run.config.items())  # as code, in Markdown
        self._write("config", rows, 0, "text")

    def epoch(self, entry: Mapping[str, float]) -> None:
        self._epoch = int(entry["epoch"])
        for name, value in entry.items():
            if name != "epoch":
                self._write(name, value, self._epoch, "scalars")
        self._writer.flush()

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._write(f"final/{name}", value, self._epoch, "scalars")
        self._writer.close()

    def _write(self, name: str, value: float | str, step: int, plugin: str) -> None:
        """Do what `tf.summary.scalar` and `.text` do, which need the package `tensorboard`."""
        import tensorflow as tf

        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name=plugin)
        )
        kind = tf.string if isinstance(value, str) else tf.float32
        with self._writer.as_default(step=step):
            tf.summary.write(name, tf.constant(value, kind), metadata=metadata)
