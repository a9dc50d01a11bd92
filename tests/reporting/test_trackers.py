"""TensorBoard and MLflow are fed with what history.csv says, and never stop a run."""

from __future__ import annotations

import csv
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf
from conftest import TINY, Outcome, without_remarks

from cnnbench.config import composition
from cnnbench.reporting import trackers
from cnnbench.reporting.trackers import MLflow, Tracked, Tracker, Tracking
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.keys import flatten
from cnnbench.runs.spec import RunResult

Cli = Callable[..., Outcome]


@dataclass
class Store:
    """What MLflow would keep."""

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, str] = field(default_factory=dict)


class StoreError(Exception):
    error_code = "RESOURCE_DOES_NOT_EXIST"


class Client:
    """The part of MLflow's interface that is used; the package may be missing."""

    kept: Store

    def get_experiment_by_name(self, name: str) -> Any:
        return (
            SimpleNamespace(experiment_id=self.kept.experiments[name])
            if name in self.kept.experiments
            else None
        )

    def create_experiment(self, name: str) -> str:
        return self.kept.experiments.setdefault(name, f"of {name}")

    def create_run(self, experiment_id: str, run_name: str, tags: Mapping[str, str]) -> Any:
        run_id = f"id-{len(self.kept.runs)}"
        self.kept.runs[run_id] = {
            **{"experiment": experiment_id, "name": run_name, "status": "RUNNING"},
            **{"params": {}, "metrics": []},
        }
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(params) <= 100
        self.kept.runs[run_id]["params"].update(params)
        self.kept.runs[run_id]["metrics"] += [(step, name, value) for name, value, _, step in metrics]

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        metrics = self.kept.runs[run_id]["metrics"]
        return [SimpleNamespace(step=step) for step, name, _ in metrics if name == key]

    def update_run(self, run_id: str, status: str) -> None:
        if run_id not in self.kept.runs:
            raise StoreError(run_id)
        self.kept.runs[run_id]["status"] = status

    def set_terminated(self, run_id: str, status: str) -> None:
        self.kept.runs[run_id]["status"] = status


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    kept = Store()
    modules = {name: ModuleType(name) for name in ("mlflow", "mlflow.entities", "mlflow.exceptions")}
    modules["mlflow"].__dict__.update(
        MlflowClient=type("Own", (Client,), {"kept": kept}),
        __spec__=SimpleNamespace(name="mlflow"),
        __path__=[],
    )
    modules["mlflow.entities"].__dict__.update(Metric=lambda *values: values, Param=lambda *values: values)
    modules["mlflow.exceptions"].__dict__.update(MlflowException=StoreError)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")
    return kept


def columns(run: Path) -> tuple[list[str], list[dict[str, str]]]:
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [name for name in rows[0] if name != "epoch"], rows


def final(run: Path) -> dict[str, float]:
    metrics = RunFolder(run).metrics["metrics"]
    return {f"final/{split}_{name}": value for split in metrics for name, value in metrics[split].items()}


def events(run: Path) -> dict[str, list[tuple[int, Any]]]:
    found: dict[str, list[tuple[int, Any]]] = {}
    for path in sorted(RunFolder(run).events.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor).item()))
    return found


def test_tensorboard_gets_the_columns_of_history_csv_and_the_final_metrics(
    run_cli: Cli, folder: Path
) -> None:
    outcome = run_cli(*TINY, "training.epochs=2", "callbacks=[default,tensorboard]", "run_dir=run")
    assert outcome.exit_code == 0
    names, rows = columns(folder / "run")
    found = events(folder / "run")
    assert b"optimizer.learning_rate.initial_learning_rate: 0.001" in found.pop("config")[0][1]
    for name in names:
        expected = [(number, pytest.approx(float(row[name]))) for number, row in enumerate(rows, start=1)]
        assert found.pop(name) == expected
    assert found == {name: [(2, pytest.approx(value))] for name, value in final(folder / "run").items()}


def test_mlflow_gets_the_same_and_the_config(run_cli: Cli, folder: Path, store: Store) -> None:
    outcome = run_cli(
        *TINY,
        "training.epochs=2",
        "callbacks=[default,mlflow]",
        "callbacks.mlflow.experiment=mine",
        "run_dir=run",
    )
    assert (outcome.exit_code, without_remarks(outcome.err)) == (0, "")
    [kept] = store.runs.values()
    assert (kept["experiment"], kept["name"], kept["status"]) == ("of mine", "run", "FINISHED")
    assert kept["params"]["optimizer.learning_rate.initial_learning_rate"] == "0.001"
    assert kept["params"]["model.filters"] == "[4]"
    names, rows = columns(folder / "run")
    expected = [(n, name, float(row[name])) for n, row in enumerate(rows, start=1) for name in names]
    expected += [(2, name, value) for name, value in final(folder / "run").items()]
    assert sorted(kept["metrics"]) == [pytest.approx(row) for row in sorted(expected)]


def test_a_failed_run_is_no_finished_one(run_cli: Cli, folder: Path, store: Store) -> None:
    (folder / "breaks.py").write_text(
        "import keras\n"
        "class Breaks(keras.callbacks.Callback):\n"
        "    def on_epoch_end(self, epoch, logs=None):\n"
        "        raise RuntimeError('broken')\n"
    )
    outcome = run_cli(
        *TINY, "callbacks=[default,mlflow]", "plugins=[breaks]", "+callbacks.x._target_=breaks.Breaks"
    )
    assert outcome.exit_code == 1
    assert [kept["status"] for kept in store.runs.values()] == ["FAILED"]


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(tmp_path: Path, store: Store) -> None:
    run = Tracked("tiny", RunFolder(tmp_path), {"seed": 0})
    first = MLflow()
    run.folder.append_history({"epoch": 1, "loss": 0.5, "val_loss": 0.6})
    first.begin(run)
    first.epoch({"epoch": 1, "loss": 0.5, "val_loss": 0.6})
    run.folder.append_history({"epoch": 2, "loss": 0.4, "val_loss": 0.5})  # and then it was killed
    second = MLflow()
    second.begin(run)
    assert [kept["status"] for kept in store.runs.values()] == ["RUNNING"]
    second.epoch({"epoch": 2, "loss": 0.4, "val_loss": 0.5})
    second.epoch({"epoch": 3, "loss": 0.3, "val_loss": 0.4})
    second.end("done", {})
    [kept] = store.runs.values()
    assert kept["status"] == "FINISHED"
    assert [(step, value) for step, name, value in kept["metrics"] if name == "loss"] == [
        *((1, 0.5), (2, 0.4), (3, 0.3))
    ]
    store.runs.clear()  # another store, or somebody has tidied up
    MLflow().begin(run)
    assert len(store.runs) == 1


def test_without_the_package_a_run_is_refused_but_an_old_one_is_read(
    run_cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    line = ["callbacks=[default,mlflow]", "run_dir=run"]
    for command in ([], ["-m"]):
        outcome = run_cli(*command, *TINY, *line)
        assert outcome.exit_code == 2
        error, hint = outcome.err.splitlines()
        assert error.endswith("callbacks.mlflow needs mlflow, which is not installed")
        assert hint == "hint: pip install 'cnnbench[mlflow]'"
    assert not (folder / "run").exists()
    assert set(
        composition.spec_from(composition.plain_config(composition.compose(line)), Path("run")).trackers
    ) == {"mlflow"}


def test_a_config_cannot_say_where_a_tracker_sends(run_cli: Cli, store: Store) -> None:
    for key in ("tracking_uri", "uri"):
        outcome = run_cli(*TINY, "callbacks=[default,mlflow]", f"+callbacks.mlflow.{key}=http://elsewhere")
        assert outcome.exit_code == 2
        assert f"takes no {key}" in outcome.err


# ---------------------------------------------------------------- trackers in trouble


class Told(Tracker):
    def __init__(self) -> None:
        self.messages: list[Any] = []

    def begin(self, run: Tracked) -> None:
        self.messages.append(run.name)

    def epoch(self, entry: Mapping[str, float]) -> None:
        self.messages.append(entry["epoch"])

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        self.messages.append((status, dict(figures)))


@pytest.fixture
def run(tmp_path: Path) -> Tracked:
    return Tracked("tiny", RunFolder(tmp_path), {})


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "cnnbench")
    return lambda: [record.getMessage() for record in caplog.records]


def result(tmp_path: Path) -> RunResult:
    return RunResult(tmp_path, "done", "val_accuracy", 1.0, {"metrics": {"test": {"accuracy": 0.5}}})


def test_a_tracker_is_told_in_order_and_all_of_it(run: Tracked, tmp_path: Path) -> None:
    told = Told()
    tracking = Tracking("told", told, run)
    for epoch in (1, 2):
        tracking.epoch_ended({"epoch": epoch})
    tracking.finished(result(tmp_path))
    assert told.messages == ["tiny", 1, 2, ("done", {"test_accuracy": 0.5})]


def test_a_run_that_fails_before_its_first_epoch_is_nothing_to_show(run: Tracked) -> None:
    told = Told()
    Tracking("told", told, run).failed("failed")
    assert told.messages == []


@pytest.mark.parametrize("method", ["begin", "epoch", "end"])
def test_a_tracker_that_fails_at_any_time_costs_one_warning(
    method: str,
    run: Tracked,
    tmp_path: Path,
    warnings: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionError("nobody answers\nand more lines")

    told = Told()
    monkeypatch.setattr(told, method, fail)
    tracking = Tracking("told", told, run)
    for epoch in range(1, 20):
        tracking.epoch_ended({"epoch": epoch})
    tracking.finished(result(tmp_path))
    assert warnings() == ["told is given up for this run, which goes on: nobody answers"]


def test_a_tracker_that_hangs_holds_nobody_up(
    run: Tracked, warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "CLOSING_SECONDS", 0.01)
    released, told = threading.Event(), Told()
    monkeypatch.setattr(told, "begin", lambda run: released.wait())
    tracking = Tracking("told", told, run)
    tracking.epoch_ended({"epoch": 1})
    tracking.failed("interrupted")
    assert warnings() == ["told is given up for this run, which goes on: it has not answered for 0 s"]
    released.set()
    assert tracking._thread is not None
    tracking._thread.join()
    assert told.messages == []


def test_a_tracker_that_falls_behind_is_given_up(
    run: Tracked, warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "WAITING", 3)
    released, told = threading.Event(), Told()
    monkeypatch.setattr(told, "begin", lambda run: released.wait())
    tracking = Tracking("told", told, run)
    for epoch in range(1, 20):
        tracking.epoch_ended({"epoch": epoch})
    assert warnings() == ["told is given up for this run, which goes on: it is 3 messages behind"]
    released.set()


def test_a_run_ends_the_same_with_a_tracker_that_is_down(
    run_cli: Cli, folder: Path, store: Store, finished_run: Path
) -> None:
    def down(name: str) -> Any:
        raise ConnectionError(f"nobody at {name}")

    sys.modules["mlflow"].MlflowClient.get_experiment_by_name = lambda self, name: down(name)
    outcome = run_cli(*TINY, "callbacks=[default,mlflow]", "run_dir=run")
    assert outcome.exit_code == 0
    assert outcome.err.count("mlflow is given up for this run, which goes on: nobody at cnnbench") == 1
    assert "nobody at cnnbench" in (folder / "run" / "cnnbench.log").read_text()
    assert RunFolder(folder / "run").metrics["metrics"] == RunFolder(finished_run).metrics["metrics"]


def test_a_nested_config_is_flattened_by_its_dotted_keys() -> None:
    nested = {"seed": 0, "model": {"filters": [4, 8], "head": {"units": 3}}, "loss": {}, "name": None}
    assert flatten(nested) == {
        **{"seed": 0, "model.filters": [4, 8], "model.head.units": 3, "loss": {}, "name": None},
    }
