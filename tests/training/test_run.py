"""One run from Python, without Hydra: what it leaves, what it gives again, and how it fails."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from conftest import TINY, Outcome
from sklearn.metrics import f1_score
from tensorflow.python.framework import config as tf_config

from cnnbench.data.augmentation.operations import augmentation
from cnnbench.data.batches import Feed
from cnnbench.data.dataset import Dataset, Split
from cnnbench.data.sources.digits import digits
from cnnbench.data.sources.synthetic import synthetic
from cnnbench.data.sources.tables import diabetes
from cnnbench.data.splits import with_validation
from cnnbench.errors import CnnbenchError
from cnnbench.models.cnn import cnn
from cnnbench.models.mlp import mlp
from cnnbench.nn import schedules
from cnnbench.nn.losses import SmoothedCrossentropy
from cnnbench.nn.optimizers import Muon
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.metrics import objective_value
from cnnbench.runs.spec import Observer, RunResult, RunSpec, Summary, Training
from cnnbench.system.files import sha256
from cnnbench.training import run
from cnnbench.training.callbacks import BestCheckpoint, ValidationMetrics
from cnnbench.training.environment import installed_packages

PNG = b"\x89PNG\r\n\x1a\n"
CHECKPOINT = {"checkpoint": partial(BestCheckpoint, "val_loss", "min")}


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """A run owns its process: what it sets for all of it is put back."""
    yield
    keras.config.set_dtype_policy("float32")
    tf_config.disable_op_determinism()


def spec_for(run_dir: Path, **changes: Any) -> RunSpec:
    """A small network on 160 images of three classes, two epochs."""
    defaults: dict[str, Any] = {
        "name": "mlp_synthetic",
        "run_dir": run_dir,
        "dataset": partial(synthetic, examples=200, classes=3, size=8),
        "model": partial(mlp, units=(8,)),
        "optimizer": keras.optimizers.Adam,
        "learning_rate": 0.01,
        "callbacks": CHECKPOINT,
        "training": Training(epochs=2, batch_size=32),
        "config": {"seed": changes.get("seed", 0), "model": {"units": [8]}},
        "overrides": ("model=mlp", "dataset=synthetic"),
    }
    return RunSpec(**{**defaults, **changes})


def read_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{path.name} has the literal {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def predictions(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
        return arrays["y_true"], arrays["outputs"]


def weights(folder: Path) -> list[np.ndarray]:
    """Everything that the file keeps: the state of a dropout's generator is drawn anew at each loading."""
    return [np.asarray(weight) for weight in keras.models.load_model(folder / "best.keras").weights]


class Diary(Observer):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def started(self, summary: Summary) -> None:
        self.told.append(summary)

    def epoch_started(self, epoch: int) -> None:
        self.told.append(("epoch", epoch))

    def epoch_ended(self, entry: Mapping[str, float]) -> None:
        self.told.append(entry)

    def measured(self, metrics: Mapping[str, Any]) -> None:
        self.told.append((metrics["value"], sorted((self.told[0].folder / "figures").glob("*"))))

    def finished(self, result: RunResult) -> None:
        self.told.append(result)


# ---------------------------------------------------------------- what a run leaves


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Diary]:
    """A convolutional network on the digits with label smoothing, two epochs; read only."""
    diary = Diary()
    spec = spec_for(
        tmp_path_factory.mktemp("runs") / "finished",
        name="cnn_digits",
        dataset=digits,
        model=partial(cnn, filters=(4,), dense_units=(8,)),
        loss=partial(SmoothedCrossentropy, 0.1),
        overrides=("model=cnn", "loss=label_smoothing"),
    )
    return run.run(spec, diary), diary


@pytest.fixture(scope="module")
def folder(finished: tuple[RunResult, Diary]) -> Path:
    return finished[0].folder


def test_the_folder_has_every_file_of_a_finished_run_and_nothing_half_written(folder: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    figures = ("samples", "learning_curves", "confusion_matrix", "calibration", "worst_mistakes")
    assert {
        "config.json",
        "config.yaml",
        "overrides.yaml",
        "best.keras",
        "best.json",
        "history.jsonl",
        "history.csv",
        "metrics.json",
        "predictions.npz",
        "predictions.csv",
        "mistakes.csv",
        "environment.json",
        "packages.txt",
        "report.html",
        "cnnbench.log",
        *(f"figures/{name}.png" for name in figures),
    } <= files
    assert "failure.json" not in files
    assert not [name for name in files if "tmp" in name]
    for name in figures:
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(PNG)


def test_what_was_asked_for_is_written_down(folder: Path) -> None:
    assert yaml.safe_load((folder / "config.yaml").read_text()) == {"seed": 0, "model": {"units": [8]}}
    assert yaml.safe_load((folder / "overrides.yaml").read_text()) == ["model=cnn", "loss=label_smoothing"]


def test_metrics_json_says_done_with_figures_per_split_and_the_cost(folder: Path) -> None:
    metrics = read_json(folder / "metrics.json")
    assert metrics["status"] == RunFolder(folder).status == "done"
    assert list(metrics["metrics"]) == ["train", "val", "test"]
    for split in ("val", "test"):
        figures = metrics["metrics"][split]
        assert list(figures) == ["loss", "accuracy", "balanced_accuracy", "f1_macro", "top_5_accuracy"]
        assert all(isinstance(value, float) for value in figures.values())
    assert metrics["objective"] == "val_accuracy"
    assert metrics["value"] == metrics["metrics"]["val"]["accuracy"]
    cost = metrics["cost"]
    assert {"data", "import", "build", "fit", "evaluate", "figures", "report"} <= set(cost["seconds"])
    for name in ("examples_per_second", "latency_seconds", "peak_memory_bytes", "flops_per_example"):
        assert cost[name] > 0
    assert cost["checkpoint_bytes"] == (folder / "best.keras").stat().st_size
    assert cost["parameters"] == keras.models.load_model(folder / "best.keras").count_params()
    assert (metrics["epochs"], metrics["seed"], metrics["task"]) == (2, 0, "multiclass")
    assert metrics["started"] <= metrics["finished"]


def test_the_result_is_what_the_file_says(finished: tuple[RunResult, Diary]) -> None:
    result, _ = finished
    assert json.loads(json.dumps(result.metrics)) == read_json(result.folder / "metrics.json")
    assert (result.status, result.objective) == ("done", "val_accuracy")
    assert result.value == result.metrics["value"]


def test_best_json_describes_the_best_epoch_of_the_history(folder: Path) -> None:
    best = read_json(folder / "best.json")
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in history] == [1, 2]
    lowest = min(history, key=lambda row: row["val_loss"])
    assert best["epoch"] == lowest["epoch"] == read_json(folder / "metrics.json")["best_epoch"]
    assert best["value"] == pytest.approx(lowest["val_loss"])
    assert read_json(folder / "metrics.json")["best_by"] == "lowest val_loss"
    assert best["sha256"] == sha256(folder / "best.keras")
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"} <= set(history[0])


def test_the_figures_come_from_the_best_epoch_and_not_from_the_last(tmp_path: Path) -> None:
    # With this rate each epoch makes it worse.
    spec = spec_for(
        tmp_path / "run",
        optimizer=keras.optimizers.SGD,
        learning_rate=lambda steps_per_epoch, epochs: keras.optimizers.schedules.PiecewiseConstantDecay(
            [steps_per_epoch], [0.01, 50.0]
        ),
        training=Training(epochs=3, batch_size=32),
    )
    metrics = run.run(spec).metrics
    history = RunFolder(spec.run_dir).history
    assert metrics["best_epoch"] == 1
    assert metrics["metrics"]["val"]["loss"] == pytest.approx(history[0]["val_loss"], rel=1e-4)
    assert metrics["metrics"]["val"]["accuracy"] == pytest.approx(history[0]["val_accuracy"], abs=1e-6)
    assert metrics["metrics"]["train"]["loss"] == pytest.approx(history[0]["loss"])
    assert history[-1]["val_loss"] > 2 * history[0]["val_loss"]


def test_the_predictions_give_the_accuracy_that_is_reported(folder: Path) -> None:
    y_true, outputs = predictions(folder)
    assert (y_true == digits().test.y).all()
    assert outputs.shape == (360, 10)
    assert outputs.sum(axis=1) == pytest.approx(np.ones(360), abs=1e-5)
    reported = read_json(folder / "metrics.json")["metrics"]["test"]["accuracy"]
    assert np.mean(outputs.argmax(axis=1) == y_true) == pytest.approx(reported)


def test_the_environment_tells_machine_versions_and_data(folder: Path) -> None:
    environment = read_json(folder / "environment.json")
    assert environment["versions"]["keras"] == keras.__version__
    assert environment["precision"] in ("float32", "mixed_bfloat16")
    assert environment["device"]
    assert environment["threads"] >= 1
    data = environment["dataset"]
    assert data["splits"] == {"train": 1293, "val": 144, "test": 360}
    assert data["fingerprint"] == with_validation(digits(), 0.1, None, 0).fingerprint


def test_the_log_has_every_epoch_also_without_the_command_line(folder: Path) -> None:
    log = (folder / "cnnbench.log").read_text()
    assert "epoch=1" in log
    assert "epoch=2" in log
    assert not re.search(r"(?m)^[\d-]+ [\d:,]+ ERROR", log)


def test_an_observer_is_told_in_the_order_of_events(finished: tuple[RunResult, Diary]) -> None:
    result, diary = finished
    summary, begin_1, end_1, begin_2, end_2, measured, last = diary.told
    assert isinstance(summary, Summary)
    assert (summary.splits, summary.input_shape, summary.outputs) == (
        {"train": 1293, "val": 144, "test": 360},
        (8, 8, 1),
        10,
    )
    assert (summary.parameters, summary.steps) == (result.metrics["cost"]["parameters"], 41)
    assert (begin_1, begin_2) == (("epoch", 1), ("epoch", 2))
    assert (end_1["epoch"], end_2["epoch"]) == (1, 2)
    assert measured == (result.value, [])  # before anything is drawn
    assert last == result


def test_every_figure_of_the_held_out_splits_has_an_interval(finished: tuple[RunResult, Diary]) -> None:
    result = finished[0].metrics
    for split in ("val", "test"):
        figures, around = result["metrics"][split], result["intervals"][split]
        assert set(around) == set(figures)
        for name, value in figures.items():
            assert around[name]["low"] <= value <= around[name]["high"]
        each = result["by_output"][split]
        assert list(each) == list(result["class_names"])
        assert sum(one["support"] for one in each.values()) == {"val": 144, "test": 360}[split]
    recall = [one["recall"] for one in result["by_output"]["test"].values()]
    assert np.mean(recall) == pytest.approx(result["metrics"]["test"]["balanced_accuracy"])
    assert result["intervals"]["test"]["loss"]["method"] == "Student"


def test_the_best_checkpoint_gives_the_figures_in_a_new_process(folder: Path, tmp_path: Path) -> None:
    """Raw bytes, no custom objects: a loss of ours is all that needs `import cnnbench.nn`."""
    test = digits().test
    assert test.x.dtype == np.uint8
    np.savez(tmp_path / "test.npz", x=test.x, y=test.y)
    code = """
import json, sys
import cnnbench.nn
import keras
import numpy as np
assert "cnnbench.training.run" not in sys.modules
model = keras.models.load_model(sys.argv[1])
data = np.load(sys.argv[2])
figures = model.evaluate(data["x"], data["y"], verbose=0, return_dict=True)
np.save(sys.argv[3], model.predict(data["x"], verbose=0))
print(json.dumps(figures))
"""
    arguments = [folder / "best.keras", tmp_path / "test.npz", tmp_path / "outputs.npy"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    reported = read_json(folder / "metrics.json")["metrics"]["test"]
    assert figures["accuracy"] == pytest.approx(reported["accuracy"], abs=1e-6)
    assert figures["loss"] == pytest.approx(reported["loss"], abs=1e-5)
    assert np.load(tmp_path / "outputs.npy") == pytest.approx(predictions(folder)[1], abs=1e-6)


# ---------------------------------------------------------------- the same again


def test_a_deterministic_run_gives_the_same_weights_again_and_another_seed_others(tmp_path: Path) -> None:
    model = partial(cnn, filters=(4,), dense_units=(8,), dropout=0.3)
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        run.run(spec_for(tmp_path / name, model=model, seed=seed, deterministic=True))
        assert tf_config.is_op_determinism_enabled()
    run.run(spec_for(tmp_path / "free", model=model))
    assert not tf_config.is_op_determinism_enabled()  # the next run of the process is not
    first, again, other = (weights(tmp_path / name) for name in ("first", "again", "other"))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    histories = [RunFolder(tmp_path / name).history for name in ("first", "again")]
    assert [row["val_loss"] for row in histories[0]] == [row["val_loss"] for row in histories[1]]


# ---------------------------------------------------------------- failures


def failure_of(folder: Path, status: str, stage: str) -> dict[str, Any]:
    """Check what every failed run leaves; its `failure.json`."""
    assert RunFolder(folder).status == status
    failure: dict[str, Any] = read_json(folder / "failure.json")
    metrics = read_json(folder / "metrics.json")
    assert failure["status"] == metrics["status"] == status
    assert failure["stage"] == stage
    assert failure["cause"] == metrics["reason"]
    assert "\n" not in failure["cause"]
    assert failure["command"] == "cnnbench model=mlp dataset=synthetic"
    assert failure["traceback"][0].startswith("Traceback")
    log = (folder / "cnnbench.log").read_text()
    assert f"{status} during {stage}" in log
    assert failure["cause"] in log
    assert "Traceback" in log
    assert '"done"' not in (folder / "metrics.json").read_text()
    return failure


def test_a_model_that_breaks_is_recorded_and_raised(tmp_path: Path) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("no such layer\nand more")

    with pytest.raises(RuntimeError, match="no such layer"):
        run.run(spec_for(tmp_path / "run", model=broken))
    failure = failure_of(tmp_path / "run", "failed", "build")
    assert failure["cause"] == "no such layer"
    assert failure["type"] == "RuntimeError"
    assert "in broken" in "".join(failure["traceback"])
    assert not (tmp_path / "run" / "best.keras").exists()


def test_what_keras_says_against_a_value_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(CnnbenchError, match="cannot build the model"):
        run.run(spec_for(tmp_path / "run", model=partial(mlp, activation="no_such_activation")))
    failure_of(tmp_path / "run", "failed", "build")


def test_data_that_are_missing_are_recorded_before_anything_is_built(tmp_path: Path) -> None:
    def missing() -> Dataset:
        raise CnnbenchError("there is no cifar10", "download it")

    with pytest.raises(CnnbenchError, match="no cifar10"):
        run.run(spec_for(tmp_path / "run", dataset=missing))
    failure = failure_of(tmp_path / "run", "failed", "data")
    assert failure["cause"] == "there is no cifar10  Hint: download it"
    assert not (tmp_path / "run" / "environment.json").exists()


def test_a_loss_for_another_task_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(CnnbenchError, match="loss=auto"):
        run.run(spec_for(tmp_path / "run", loss_tasks=("regression",)))


@keras.saving.register_keras_serializable("mine")
class NanFrom(keras.losses.Loss):
    """Finite while the model is in training, NaN in validation, or NaN always."""

    def __init__(self, *, always: bool) -> None:
        super().__init__(name="nan_from")
        self.always = always

    def call(self, y_true: Any, y_pred: Any) -> Any:
        loss = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
        size = tf.shape(y_pred)[0]
        # The batches of validation hold more examples than those of training: 32 for a loss like this one.
        return tf.where(self.always | (size > 16), tf.constant(np.nan, loss.dtype), loss)


def test_a_loss_of_nan_fails_the_run_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"nan.* epoch 1"):
        run.run(spec_for(tmp_path / "run", loss=partial(NanFrom, always=True)))
    failure = failure_of(tmp_path / "run", "failed", "fit")
    assert failure["type"] == "TrainingDivergedError"
    assert failure["last_metrics"] == {}
    assert not (tmp_path / "run" / "best.keras").exists()


def test_a_monitor_that_was_never_finite_leaves_no_best_model_and_fails(tmp_path: Path) -> None:
    training = Training(epochs=2, batch_size=16, validation_fraction=0.4)
    with pytest.raises(RuntimeError, match="no epoch had a finite val_loss"):
        run.run(spec_for(tmp_path / "run", loss=partial(NanFrom, always=False), training=training))
    failure = failure_of(tmp_path / "run", "failed", "fit")
    assert failure["last_metrics"]["epoch"] == 2
    assert failure["last_metrics"]["val_loss"] is None
    assert failure["last_metrics"]["loss"] > 0
    assert not (tmp_path / "run" / "best.keras").exists()


def test_an_interruption_keeps_the_best_checkpoint_so_far(tmp_path: Path) -> None:
    class Impatient(Diary):
        def step(self, step: int, metrics: Mapping[str, float]) -> None:
            if ("epoch", 2) in self.told:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(spec_for(tmp_path / "run"), Impatient())
    failure = failure_of(tmp_path / "run", "interrupted", "fit")
    assert failure["last_metrics"]["epoch"] == 1
    folder = RunFolder(tmp_path / "run")
    assert folder.best["epoch"] == 1
    assert folder.best["sha256"] == sha256(folder.best_model)
    assert keras.models.load_model(folder.best_model).output_shape == (None, 3)


class Late(Diary):
    """Presses Ctrl-C when all is written, or while it is measured."""

    def finished(self, result: RunResult) -> None:
        super().finished(result)
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("stage", ["figures", "finished"])
def test_ctrl_c_after_the_last_epoch_is_too_late_and_the_run_done(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> Iterator[Any]:
        os.kill(os.getpid(), signal.SIGINT)
        return iter(())

    if stage == "figures":
        monkeypatch.setattr("cnnbench.training.run.figures_of_run", interrupted)
    before = signal.getsignal(signal.SIGINT)
    result = run.run(spec_for(tmp_path / "run"), Late() if stage == "finished" else Diary())
    assert result.status == "done"
    assert read_json(tmp_path / "run" / "metrics.json")["status"] == "done"
    assert not (tmp_path / "run" / "failure.json").exists()
    assert not (tmp_path / "run" / "last").exists()
    assert "the training is over" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


# ---------------------------------------------------------------- without a checkpoint


@pytest.mark.parametrize("stops", [True, False])
def test_the_epoch_is_recorded_whose_weights_early_stopping_puts_back(stops: bool, tmp_path: Path) -> None:
    patience = 1 if stops else 50
    stopping = partial(
        *(keras.callbacks.EarlyStopping, "val_loss", 0, patience),
        *(0, "max", None),  # the loss falls, so an early epoch is this one's best
        restore_best_weights=True,
    )
    training = Training(epochs=6, batch_size=32)
    spec = spec_for(tmp_path / "run", callbacks={"stopping": stopping}, training=training)
    run.run(spec)
    folder = RunFolder(tmp_path / "run")
    losses = [row["val_loss"] for row in folder.history]
    best = int(np.argmax(losses)) + 1
    assert best < len(losses)  # else this test says nothing
    assert folder.best["epoch"] == folder.metrics["best_epoch"] == best
    assert "best_by" not in folder.metrics
    assert folder.best["metrics"]["val_loss"] == losses[best - 1]
    assert folder.metrics["metrics"]["val"]["loss"] == pytest.approx(losses[best - 1], rel=1e-5)
    assert folder.metrics["metrics"]["train"]["loss"] == folder.history[best - 1]["loss"]


def test_averaged_weights_are_told_apart_from_those_of_the_last_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    optimizer = partial(keras.optimizers.Adam, use_ema=True)
    run.run(spec_for(tmp_path / "run", callbacks={}, optimizer=optimizer))
    folder = RunFolder(tmp_path / "run")
    assert folder.best["averaged"] is True
    assert folder.metrics["metrics"]["val"]["loss"] != pytest.approx(folder.history[-1]["val_loss"], rel=1e-3)
    assert any("averages over the steps" in record.getMessage() for record in caplog.records)
    run.run(spec_for(tmp_path / "plain", callbacks={}))
    assert RunFolder(tmp_path / "plain").best["averaged"] is False


# ---------------------------------------------------------------- gradients accumulated over steps


OPTIMIZERS: dict[str, Any] = {
    "adam": keras.optimizers.Adam,
    "adamw": partial(keras.optimizers.AdamW, weight_decay=0.1),
    "sgd": partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
    "plain_sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "muon": Muon,
}


# Keras counts and averages in the class of all optimizers: a schedule, too, need not meet each of them.
@pytest.mark.parametrize(
    ("name", "schedule"), [*zip(OPTIMIZERS, [False, True] * 3, strict=True), ("adam", True)]
)
def test_accumulated_gradients_are_those_of_the_larger_batch(
    name: str, schedule: bool, tmp_path: Path
) -> None:
    model = partial(cnn, filters=(4,), dense_units=(), batch_normalization=False)
    rate = partial(schedules.triangular, initial_learning_rate=0.01, warmup_epochs=1) if schedule else 0.01
    found = []
    for batch_size, every in ((16, 2), (32, None)):  # of 128 examples
        spec = spec_for(
            tmp_path / f"{name}_{batch_size}",
            dataset=partial(synthetic, examples=160, classes=3, size=8),
            model=model,
            optimizer=partial(OPTIMIZERS[name], gradient_accumulation_steps=every),
            learning_rate=rate,
            callbacks={},
            training=Training(epochs=2, batch_size=batch_size, validation_fraction=0),
        )
        run.run(spec)
        found.append(weights(spec.run_dir))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)


def test_scaled_targets_are_for_regression_which_only_the_data_may_say(tmp_path: Path) -> None:
    spec = spec_for(tmp_path / "run", training=Training(scale_targets=True))
    with pytest.raises(CnnbenchError, match=r"scale_targets is for regression, not for multiclass"):
        run.check_task(spec, spec.dataset())


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(CnnbenchError, match="not empty"):
        run.run(spec_for(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# ---------------------------------------------------------------- splits


def numbered(train: int = 90, test: int = 20, val: int = 0) -> Dataset:
    """Every example holds a number of its own; three classes of 60, 30 and 10 per cent."""

    def split(first: int, count: int) -> Split:
        numbers = np.arange(first, first + count, dtype=np.float32)[:, None]
        return Split(numbers, np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])[np.arange(count) % 10])

    return Dataset(
        "numbered",
        "multiclass",
        train=split(0, train),
        test=split(10_000, test),
        val=split(20_000, val) if val else None,
        class_names=("a", "b", "c"),
    )


def numbers(split: Split | None) -> set[int]:
    assert split is not None
    return {int(number) for number in split.x[:, 0]}


def test_the_validation_split_is_drawn_from_the_training_split_alone() -> None:
    original = numbered()
    dataset = with_validation(original, 0.2, None, seed=0)
    train, val = numbers(dataset.train), numbers(dataset.val)
    assert not train & val
    assert train | val == numbers(original.train)
    assert len(val) == 18
    assert dataset.test is original.test
    assert not (train | val) & numbers(dataset.test)


def test_the_validation_split_has_the_classes_in_proportion() -> None:
    dataset = with_validation(numbered(900), 0.1, None, seed=0)
    assert dataset.val is not None
    assert np.bincount(dataset.val.y).tolist() == [54, 27, 9]
    assert np.bincount(dataset.train.y).tolist() == [486, 243, 81]


def test_the_seed_decides_the_validation_split() -> None:
    splits = {
        name: numbers(with_validation(numbered(), 0.2, None, seed).val)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    assert splits["a"] == splits["b"] != splits["c"]


def test_targets_go_with_their_examples_into_the_validation_split() -> None:
    original = numbered()
    dataset = with_validation(original, 0.2, 50, seed=0)
    for split in (dataset.train, dataset.val):
        assert split is not None
        assert (split.y == original.train.y[split.x[:, 0].astype(int)]).all()


@pytest.mark.parametrize(
    ("fraction", "examples", "sizes"),
    [
        (0.1, 50, (45, 5)),
        (0.1, 88, (79, 9)),  # what is left over has fewer examples than classes
        (0.0, 50, (50, None)),
        (0.1, 5000, (81, 9)),  # there are no more than 90
        (0.02, None, (88, 2)),  # fewer than classes
        (0.98, None, (1, 89)),
    ],
)
def test_a_part_of_the_examples_and_a_fraction_of_that_for_validation(
    fraction: float, examples: int | None, sizes: tuple[int, int | None]
) -> None:
    dataset = with_validation(numbered(), fraction, examples, seed=0)
    assert (len(dataset.train), dataset.val and len(dataset.val)) == sizes
    assert len(dataset.test) == 20


@pytest.mark.parametrize(("fraction", "side"), [(0.001, "validation"), (0.999, "training")])
def test_a_fraction_that_leaves_nothing_is_wrong_input(fraction: float, side: str) -> None:
    with pytest.raises(CnnbenchError, match=f"leaves none for {side}"):
        with_validation(numbered(), fraction, None, seed=0)


def test_regression_and_a_class_with_one_example_are_split_without_proportion() -> None:
    values = Split(np.arange(20, dtype=np.float32)[:, None], np.linspace(0, 1, 20, dtype=np.float32))
    dataset = with_validation(Dataset("r", "regression", values, values), 0.25, None, seed=0)
    assert dataset.val is not None
    assert len(dataset.val) == 5
    original = numbered()
    rare = replace(original, train=Split(original.train.x, np.where(np.arange(90) == 0, 2, 0)))
    assert len(with_validation(rare, 0.1, None, seed=0).splits["val"]) == 9


class Enough(Exception):
    """Ends a run when everything is built."""


def summary_of(spec: RunSpec) -> Summary:
    """Let a run begin, and end it before the training."""
    seen: list[Summary] = []

    class Curious(Observer):
        def started(self, summary: Summary) -> None:
            seen.append(summary)
            raise Enough

    with pytest.raises(Enough):
        run.run(spec, Curious())
    return seen[0]


def test_a_run_trains_on_as_many_examples_as_it_was_told(tmp_path: Path) -> None:
    training = Training(epochs=1, batch_size=16, examples=100, validation_fraction=0.25)
    summary = summary_of(spec_for(tmp_path / "run", training=training))
    assert summary.splits == {"train": 75, "val": 25, "test": 40}
    assert summary.steps == 5


def test_a_run_takes_the_validation_split_that_the_data_have(tmp_path: Path) -> None:
    original = numbered(val=30)
    summary = summary_of(
        spec_for(tmp_path / "run", dataset=lambda: original, training=Training(validation_fraction=0.5))
    )
    assert summary.splits == {"train": 90, "val": 30, "test": 20}
    recorded = read_json(tmp_path / "run" / "environment.json")["dataset"]["fingerprint"]
    assert recorded == original.fingerprint


# ---------------------------------------------------------------- tasks, objectives, options


def test_without_a_validation_split_the_training_loss_can_be_monitored(tmp_path: Path) -> None:
    spec = spec_for(
        tmp_path / "run",
        training=Training(epochs=2, batch_size=32, validation_fraction=0),
        callbacks={"checkpoint": partial(BestCheckpoint, "loss", "min")},
    )
    result = run.run(spec)
    assert result.status == "done"
    assert list(result.metrics["metrics"]) == ["train", "test"]
    # Never the test split: a sweep that ranked by it would fit to it.
    assert result.objective == "accuracy"
    assert result.value == result.metrics["metrics"]["train"]["accuracy"]


def test_a_regression_is_measured_in_the_unit_of_its_target(tmp_path: Path, pictures: None) -> None:
    spec = spec_for(
        tmp_path / "run",
        dataset=diabetes,
        model=partial(mlp, units=(16,)),
        training=Training(epochs=2, batch_size=32, scale_targets=True),
    )
    result = run.run(spec)
    figures = result.metrics["metrics"]["test"]
    assert list(figures) == ["loss", "mae", "rmse", "r2"]
    y_true, outputs = predictions(result.folder)
    assert outputs.shape == (len(y_true), 1)
    error = outputs[:, 0] - y_true
    assert figures["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert figures["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert figures["loss"] == pytest.approx((error**2).mean(), rel=1e-4)
    assert figures["rmse"] < 150  # the target goes from 25 to 346: without its unit it would be about 170
    assert result.objective == "val_rmse"
    assert result.metrics["metrics"]["val"]["rmse"] == result.value
    pictures = {path.stem for path in (result.folder / "figures").glob("*.png")}
    assert {"residuals", "learning_curves", "worst_mistakes"} <= pictures
    assert "confusion_matrix" not in pictures


def test_two_classes_are_one_output_and_the_objective_is_the_one_asked_for(tmp_path: Path) -> None:
    spec = spec_for(
        tmp_path / "run",
        dataset=partial(synthetic, examples=200, classes=2, size=8),
        objective="test_roc_auc",
    )
    result = run.run(spec)
    assert keras.models.load_model(result.folder / "best.keras").output_shape == (None, 1)
    y_true, outputs = predictions(result.folder)
    assert outputs.shape == (40, 1)
    figures = result.metrics["metrics"]["test"]
    assert list(figures) == ["loss", "accuracy", "precision", "recall", "f1", "roc_auc"]
    assert figures["accuracy"] == pytest.approx(np.mean((outputs[:, 0] > 0.5) == y_true))
    assert (result.objective, result.value) == ("test_roc_auc", figures["roc_auc"])


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        ("loss", 1.0),
        ("accuracy", 2.0),
        ("val_loss", 3.0),
        ("val_f1_macro", 4.0),
        ("test_loss", 5.0),
        ("test_top_5_accuracy", 6.0),
    ],
)
def test_an_objective_is_looked_up_in_its_split(objective: str, value: float) -> None:
    figures = {
        "train": {"loss": 1.0, "accuracy": 2.0},
        "val": {"loss": 3.0, "f1_macro": 4.0},
        "test": {"loss": 5.0, "top_5_accuracy": 6.0},
    }
    assert objective_value(figures, objective) == value


@pytest.mark.parametrize("objective", ["val_accuracy", "f1_macro", "test_", "nothing"])
def test_an_objective_that_there_is_not_is_answered_with_those_there_are(objective: str) -> None:
    figures = {"train": {"loss": 1.0}, "test": {"loss": 5.0, "accuracy": 1.0}}
    with pytest.raises(CnnbenchError, match="there are: loss, test_accuracy, test_loss"):
        objective_value(figures, objective)


def test_chosen_metrics_are_of_the_whole_validation_split_in_every_epoch(tmp_path: Path) -> None:
    """They may be monitored and ranked by; in batches of 32 their mean would be another figure."""
    chosen = ["f1_macro", "top_2_accuracy", "cohen_kappa"]
    best = {"checkpoint": partial(BestCheckpoint, "val_cohen_kappa", "max")}
    spec = spec_for(
        tmp_path / "run",
        dataset=partial(synthetic, examples=700, classes=3, size=8),
        callbacks=best,
        training=Training(epochs=3, batch_size=32, validation_fraction=0.5, metrics=chosen),
        objective="val_top_2_accuracy",
    )
    result = run.run(spec)
    rows, figures = RunFolder(tmp_path / "run").history, result.metrics["metrics"]
    kappas = [row["val_cohen_kappa"] for row in rows]
    assert result.metrics["best_epoch"] == kappas.index(max(kappas)) + 1
    row = rows[result.metrics["best_epoch"] - 1]
    for name in chosen:  # the stored model, measured anew, gives what the epoch has said
        assert figures["val"][name] == pytest.approx(row[f"val_{name}"], abs=1e-6), name
        assert name in figures["test"]
    assert result.value == figures["val"]["top_2_accuracy"]
    split = with_validation(spec.dataset(), 0.5, None, spec.seed).splits["val"]
    outputs = keras.models.load_model(result.folder / "best.keras").predict(split.x, verbose=0)
    assert row["val_f1_macro"] == pytest.approx(
        f1_score(split.y, outputs.argmax(axis=1), average="macro"), abs=1e-6
    )


def test_chosen_metrics_of_outputs_that_are_not_finite_are_nan(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.layers[0].bias.assign([math.nan])
    feed = Feed(Split(np.zeros((3, 2), np.float32), np.ones(3, np.float32)), 2, column=True)
    callback, logs = ValidationMetrics(feed, "regression", ["mape"]), {"val_loss": 1.0}
    callback.set_model(model)
    callback.on_epoch_end(0, logs)
    assert math.isnan(logs["val_mape"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("training.metrics=[f1_makro]",), "did you mean f1_macro"),
        (("training.metrics=[r2]",), "r2 is for regression, not for multiclass"),
        (("training.metrics=[top_3_accuracy]",), "of 3 classes would always be 1"),
        (("callbacks.checkpoint.monitor=val_f1_macro",), r"choose it: training.metrics=\[f1_macro]"),
        (("objective=val_cohen_kappa",), r"choose it: training.metrics=\[cohen_kappa]"),
        (
            ("training.metrics=[f1_macro]", "callbacks.checkpoint.monitor=val_f1_macro"),
            "better when larger, but the mode is min",
        ),
    ],
)
def test_a_wrong_choice_of_metrics_is_told_before_tensorflow(
    line: tuple[str, ...], said: str, run_cli: Callable[..., Outcome]
) -> None:
    outcome = run_cli(*TINY, *line)
    assert outcome.exit_code == 2
    assert re.search(said, outcome.err)


class Keep(keras.callbacks.Callback):
    """Remembers the weights at the end of the training."""

    final: list[np.ndarray]

    def on_train_end(self, logs: Any = None) -> None:
        self.final = [np.array(weight) for weight in self.model.weights]


def test_without_a_checkpoint_the_last_weights_are_kept(tmp_path: Path) -> None:
    keep = Keep()
    result = run.run(spec_for(tmp_path / "run", callbacks={"keep": lambda: keep}))
    assert result.metrics["best_epoch"] == read_json(tmp_path / "run" / "best.json")["epoch"] == 2
    for kept, final in zip(weights(tmp_path / "run"), keep.final, strict=True):
        assert np.array_equal(kept, final)


def test_a_run_in_bfloat16_finishes_and_reloads_to_its_figures(tmp_path: Path) -> None:
    spec = spec_for(
        tmp_path / "run",
        model=partial(cnn, filters=(4,), dense_units=(8,)),
        training=Training(epochs=2, batch_size=32, precision="mixed_bfloat16"),
    )
    result = run.run(spec)
    assert read_json(tmp_path / "run" / "environment.json")["precision"] == "mixed_bfloat16"
    keras.config.set_dtype_policy("float32")  # as in a process that knows nothing of it
    model = keras.models.load_model(tmp_path / "run" / "best.keras")
    assert model.get_layer("conv_1").compute_dtype == "bfloat16"
    assert model.get_layer("conv_1").kernel.dtype == "float32"
    y_true, outputs = predictions(tmp_path / "run")
    again = model.predict(spec.dataset().test.x, batch_size=256, verbose=0)
    assert again.dtype == outputs.dtype == np.float32
    assert again == pytest.approx(outputs, abs=1e-6)
    reported = result.metrics["metrics"]["test"]["accuracy"]
    assert np.mean(again.argmax(axis=1) == y_true) == pytest.approx(reported)


def test_a_sequential_model_serves_as_well(tmp_path: Path) -> None:
    def sequential(input_shape: tuple[int, ...], outputs: int) -> keras.Model:
        return keras.Sequential(
            [keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(outputs)]
        )

    spec = RunSpec(
        name="mine_synthetic",
        run_dir=tmp_path / "run",
        dataset=lambda: synthetic(examples=100, classes=3, size=8),
        model=sequential,
        optimizer=keras.optimizers.Adam,
        learning_rate=0.01,
        training=Training(epochs=1),
    )
    assert run.run(spec).status == "done"
    other = replace(spec, run_dir=tmp_path / "other", learning_rate=0.1)
    run.run(other)
    configs = [RunFolder(place).config for place in (spec.run_dir, other.run_dir)]
    assert configs[0] != configs[1]  # so that `compare` does not take them for two seeds of one


def test_every_installed_package_is_written_down() -> None:
    listed = dict(line.split("==") for line in installed_packages())
    assert {"keras", "numpy", "tensorflow"} <= set(listed)
    assert listed["numpy"] == np.__version__


# ---------------------------------------------------------------- weights of examples, several labels


def weighted(weights: list[float] | None) -> Dataset:
    data = synthetic(examples=200, classes=3, size=8)
    given = None if weights is None else np.resize(np.array(weights, np.float32), len(data.train))
    return replace(data, train=replace(data.train, weights=given))


@pytest.mark.parametrize("resident", [None, False])
def test_examples_count_by_their_weights(tmp_path: Path, pictures: None, resident: bool | None) -> None:
    """Of weights all 1 the same comes as of none, bit by bit; of others not."""
    losses = []
    for number, of_each in enumerate((None, [1.0], [1.0, 0.25])):
        training = Training(epochs=1, batch_size=32, resident=resident)
        spec = spec_for(tmp_path / str(number), dataset=partial(weighted, of_each), training=training)
        losses.append(run.run(spec).metrics["metrics"]["test"]["loss"])
    assert losses[0] == losses[1] != losses[2]


def test_weights_and_mixed_examples_are_refused(tmp_path: Path) -> None:
    spec = spec_for(
        tmp_path / "run", dataset=partial(weighted, [1.0, 2.0]), augmentation=partial(augmentation, mixup=0.4)
    )
    with pytest.raises(CnnbenchError, match="have weights, and mixup and cutmix make one example of two"):
        run.run(spec)


def test_several_labels_follow_their_mean_average_precision(tmp_path: Path, pictures: None) -> None:
    labels = partial(synthetic, examples=200, classes=3, size=8, task="multilabel")
    result = run.run(spec_for(tmp_path / "run", dataset=labels)).metrics
    folder = RunFolder(tmp_path / "run")
    assert result["objective"] == "val_mean_average_precision"
    assert result["value"] == pytest.approx(
        folder.history[result["best_epoch"] - 1]["val_mean_average_precision"]
    )
    assert set(result["by_output"]["test"]["class_0"]) >= {"average_precision", "support"}
    without = spec_for(tmp_path / "none", dataset=labels, training=Training(epochs=1, validation_fraction=0))
    without = replace(without, callbacks={})
    assert (
        run.run(without).metrics["objective"] == "f1_micro"
    )  # of the training split, where Keras follows it


def test_class_weights_of_labels_are_for_their_own_loss(tmp_path: Path) -> None:
    labels = partial(synthetic, examples=200, classes=3, size=8, task="multilabel")
    spec = spec_for(
        tmp_path / "run",
        dataset=labels,
        loss=keras.losses.BinaryCrossentropy,
        training=Training(class_weight="balanced"),
    )
    with pytest.raises(CnnbenchError, match="within its own loss, and another loss is chosen"):
        run.run(spec)
