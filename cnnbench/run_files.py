"""What lies in a run folder, and how it is read. With `results` all that knows its file names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.datasets.locking import is_held
from cnnbench.errors import CnnbenchError
from cnnbench.files import damaged_file, read_arrays, read_json, read_yaml
from cnnbench.history import History

DONE, FAILED, INTERRUPTED, PRUNED = "done", "failed", "interrupted", "pruned"
CONFIG = "config.yaml"  # a folder with this file holds a run
REPORT = "report.html"
UNTRAINED = ("overrides.yaml", "environment.json", "failure.json", "metrics.json", "cnnbench.log")
RUNNING, UNFINISHED, DAMAGED = "running", "unfinished", "damaged"


@dataclass(frozen=True)
class RunFiles:
    """One run's files.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def has_run(self) -> bool:
        """Whether a run has begun here, or was recorded as one that could not."""
        return any((self.path / name).is_file() for name in (CONFIG, "metrics.json"))

    @property
    def best_model(self) -> Path:
        return self.path / "best.keras"

    @property
    def report(self) -> Path:
        return self.path / REPORT

    @property
    def figures(self) -> dict[str, Path]:
        """The pictures, by name."""
        return {path.stem: path for path in sorted((self.path / "figures").glob("*.png"))}

    @property
    def events(self) -> Path:
        """Where TensorBoard looks for curves."""
        return self.path / "tensorboard"

    @property
    def tracked(self) -> Path:
        """What MLflow calls this run."""
        return self.path / "mlflow.json"

    def export_path(self, name: str) -> Path:
        return self.path / "exports" / name

    @property
    def overrides(self) -> list[str]:
        """What the user typed; empty where that was not written down."""
        path = self.path / "overrides.yaml"
        loaded = read_yaml(path) if path.is_file() else None
        return [str(text) for text in loaded or []]

    @property
    def config(self) -> dict[str, Any]:
        return self.config_by(read_yaml)

    def config_by(self, read: Callable[[Path], Any]) -> dict[str, Any]:
        """The config, by a reader of YAML, e.g. of `alike`."""
        path = self.path / CONFIG
        loaded = read(path)
        if not isinstance(loaded, dict):
            raise damaged_file(path, "it holds no mapping")
        return loaded

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """`y_true` and `outputs` of the test split; empty where there are none."""
        return read_arrays(self.path / "predictions.npz")

    @property
    def best(self) -> dict[str, Any]:
        return read_json(self.path / "best.json")

    @property
    def metrics(self) -> dict[str, Any]:
        return read_json(self.path / "metrics.json")

    @property
    def failure(self) -> dict[str, Any]:
        return read_json(self.path / "failure.json")

    @property
    def environment(self) -> dict[str, Any]:
        return read_json(self.path / "environment.json")

    @property
    def status(self) -> str:
        """What became of the run.

        `done`, `failed`, `interrupted`, `pruned`, `running`, `unfinished` (killed without a word) or
        `damaged`.
        """
        try:
            ended = self.metrics or self.failure  # the failure is written first, with the same status
            status = ended.get("status", FAILED) if ended else None
        except CnnbenchError:  # one such run must not hide the others
            return DAMAGED
        if status is None:
            status = RUNNING if is_held(self.path / "cnnbench.log") else UNFINISHED
        return str(status)

    @property
    def history(self) -> list[dict[str, Any]]:
        return self._history.read()

    @property
    def _history(self) -> History:
        return History(self.path / "history.jsonl", self.path / "history.csv")
