"""Runs in an MLflow store or server.

Which one, `$MLFLOW_TRACKING_URI` says and never a config: one from a stranger could have a run sent anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench.files import read_json, write_json
from cnnbench.run_files import DONE, INTERRUPTED
from cnnbench.trackers.core import Tracked, Tracker, milliseconds

# MLflow's own settings where the user has none: it would try a server that is down for minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
BATCH = 100  # parameters in one message at most
LONGEST = 500  # characters of a parameter's value that every store takes
STATUS = {DONE: "FINISHED", INTERRUPTED: "KILLED"}


class MLflow(Tracker):
    """The config as parameters, every epoch's row as metrics, and the final metrics.

    A run that is resumed goes on in the same MLflow run; epochs that are there already stay as they are.

    Args:
        experiment: of MLflow, in which the run is listed; made if there is none.
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
        for entry in run.folder.history:  # what a process that was killed had still to send
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

        now = milliseconds()
        rows: Sequence[Any] = [Metric(name, value, now, self._epoch) for name, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=rows)

    def _known(self, run: Tracked) -> str | None:
        """The MLflow run of the same run before it was interrupted, set going again."""
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
