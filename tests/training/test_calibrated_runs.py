"""Runs that settle a temperature and thresholds on their validation split, and what is made of them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import Outcome, call_main

from cnnbench import api, runs
from cnnbench.runs import RunFolder, metrics

Cli = Callable[..., Outcome]
LINE = (
    *("dataset=synthetic", "dataset.examples=600", "dataset.size=8", "device=cpu"),
    *("model.filters=[8]", "model.dense_units=[8]", "training.epochs=8", "training.validation_fraction=0.3"),
    *("deterministic=true", "training.calibration.temperature=true"),
)
BINARY = (
    *(*LINE, "dataset.classes=2", "dataset.noise=0.5", "training.calibration.threshold=recall=0.9"),
    *("loss=binary_cross_entropy", "loss.label_smoothing=0.5"),  # so that it is clearly too little sure
)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("calibrated") / "run"
    assert call_main(*BINARY, f"run_dir={run}") == 0
    return run


def result_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "metrics.json").read_text()))


def test_the_figures_are_those_of_the_tempered_file_at_the_threshold(calibrated: Path) -> None:
    folder, result = RunFolder(calibrated), result_of(calibrated)
    decision = folder.decision
    assert decision.temperature == result["decision"]["temperature"]
    assert decision.thresholds == tuple(result["decision"]["thresholds"].values())
    assert decision.aim == result["decision"]["aim"] == "recall=0.9"
    assert list(result["decision"]["thresholds"]) == ["class_1"]
    assert result["metrics"]["val"]["recall"] >= 0.9
    y, outputs = folder.predictions["y_true"], folder.predictions["outputs"]
    at_threshold = metrics.compute("binary", y, outputs, thresholds=decision.thresholds)
    assert {name: result["metrics"]["test"][name] for name in at_threshold} == at_threshold
    assert at_threshold != metrics.compute("binary", y, outputs)
    assert result["by_output"]["test"]["class_1"]["recall"] == at_threshold["recall"]
    around = result["intervals"]["test"]
    assert all(
        around[name]["low"] <= at_threshold[name] <= around[name]["high"]
        for name in around
        if name in at_threshold
    )
    found = runs.reliability("binary", y, outputs)
    assert found is not None
    assert result["calibration"]["test"] == found.row()


def test_what_stands_beside_is_without_temperature_and_at_a_half(calibrated: Path, tmp_path: Path) -> None:
    plain = [text for text in BINARY if "calibration" not in text]
    assert call_main(*plain, f"run_dir={tmp_path / 'run'}") == 0
    before = result_of(tmp_path / "run")
    assert "decision" not in before
    for split, figures in result_of(calibrated)["decision"]["uncalibrated"].items():
        expected = {**before["metrics"][split], "ece": before["calibration"][split]["ece"]}
        assert figures == pytest.approx(expected, rel=1e-6)


def test_a_temperature_is_chosen_by_the_validation_split(calibrated: Path) -> None:
    result = result_of(calibrated)
    assert result["calibration"]["val"]["ece"] < result["decision"]["uncalibrated"]["val"]["ece"]
    # Ranks stay.
    before = result["decision"]["uncalibrated"]["test"]
    assert result["metrics"]["test"]["roc_auc"] == pytest.approx(before["roc_auc"], abs=1e-9)


def test_tables_predict_and_keras_agree(calibrated: Path) -> None:
    run, folder = api.open_run(calibrated), RunFolder(calibrated)
    with (calibrated / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    outputs, (threshold,) = folder.predictions["outputs"][:, 0], folder.decision.thresholds or ()
    said = np.where(outputs > threshold, "class_1", "class_0")
    assert [row["prediction"] for row in rows] == said.tolist()
    wrong = [row["example"] for row in rows if row["prediction"] != row["truth"]]
    with (calibrated / "mistakes.csv").open() as file:
        assert sorted(row["example"] for row in csv.DictReader(file)) == sorted(wrong)
    x = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1)).astype(np.float32)
    alone = keras.models.load_model(folder.best_model)
    np.testing.assert_allclose(run.predict(x)[:, 1], np.asarray(alone(x))[:, 0], atol=1e-5)


def test_predict_decides_by_the_threshold(calibrated: Path, run_cli: Cli, folder: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1)).astype(np.uint8)
    np.save(folder / "x.npy", x)
    rows = [
        json.loads(line) for line in run_cli("predict", str(calibrated), "x.npy", "--json").out.splitlines()
    ]
    (threshold,) = RunFolder(calibrated).decision.thresholds or ()
    labels = {row["class"] for row in rows}
    assert labels == {"class_0", "class_1"}
    for row in rows:
        assert (row["class"] == "class_1") == (row["probabilities"]["class_1"] > np.float32(threshold))


@pytest.mark.usefixtures("verified_here")
def test_verify_and_evaluate_get_the_same_figures(calibrated: Path, run_cli: Cli) -> None:
    done = run_cli("verify", str(calibrated))
    assert done.exit_code == 0, done.out
    assert "PASS" in done.out
    found = api.open_run(calibrated).evaluate()
    result = result_of(calibrated)
    assert found.metrics == pytest.approx(result["metrics"]["test"])
    assert found.calibration == pytest.approx(result["calibration"]["test"])


def test_the_answer_is_said(calibrated: Path, run_cli: Cli, tmp_path: Path) -> None:
    done = run_cli(*BINARY, f"run_dir={tmp_path / 'run'}")
    lines = done.out.splitlines()
    assert any(line.startswith("calibration error (ECE): ") for line in lines)
    assert any(line.startswith("temperature ") and "test loss" in line for line in lines)
    assert any(
        line.startswith("threshold ") and "of class_1 from val, for recall=0.9" in line for line in lines
    )
    assert all(
        len(line) <= 80
        for line in lines
        if line.startswith(("calibration", "if perf", "temp", "thresh", "on test"))
    )


@pytest.mark.usefixtures("pictures")
def test_page_and_figures_have_it(tmp_path: Path, run_cli: Cli) -> None:
    assert run_cli(*BINARY, f"run_dir={tmp_path / 'run'}").exit_code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>Calibration</h2>" in page
    assert "of class_1 from val, for recall=0.9" in page
    assert "Calibration of the test split" in page
    assert (tmp_path / "run" / "figures" / "calibration.png").is_file()


DIES = """
import os, sys
from cnnbench.cli import main
from cnnbench.training import run
run.measure = lambda *_: os._exit(9)
sys.argv = ["cnnbench", *sys.argv[1:]]
main.main()
"""


def test_a_kill_before_the_measurement_changes_nothing(
    calibrated: Path, run_python: Callable[..., Outcome], run_cli: Cli, folder: Path
) -> None:
    assert run_python(DIES, *BINARY, "run_dir=killed").exit_code == 9
    assert RunFolder(folder / "killed").decision.temperature is not None  # it was settled, and stored
    assert run_cli("resume", "killed").exit_code == 0
    expected, found = result_of(calibrated), result_of(folder / "killed")
    for key in ("metrics", "decision", "calibration"):
        assert found[key] == expected[key]
    names = [layer.name for layer in keras.models.load_model(folder / "killed" / "best.keras").layers]
    assert names.count("temperature") == 1


def test_each_label_has_its_threshold(run_cli: Cli, tmp_path: Path) -> None:
    line = (
        *LINE,
        "dataset.classes=3",
        "dataset.task=multilabel",
        "dataset.noise=1",
        "training.calibration.threshold=f1",
    )
    assert run_cli(*line, f"run_dir={tmp_path / 'run'}").exit_code == 0
    folder, result = RunFolder(tmp_path / "run"), result_of(tmp_path / "run")
    thresholds = folder.decision.thresholds
    assert thresholds is not None
    assert len(set(thresholds)) == 3 == len(result["decision"]["thresholds"])
    y, outputs = folder.predictions["y_true"], folder.predictions["outputs"]
    expected = metrics.compute("multilabel", y, outputs, thresholds=thresholds)
    assert {name: result["metrics"]["test"][name] for name in expected} == expected
    said = (outputs > np.float32(thresholds)).astype(int)
    assert expected["subset_accuracy"] == (said == y).all(axis=1).mean()
    val, before = result["metrics"]["val"], result["decision"]["uncalibrated"]["val"]
    assert val["f1_macro"] >= before["f1_macro"]


def test_several_classes_have_a_temperature_alone(run_cli: Cli, tmp_path: Path) -> None:
    assert (
        run_cli(*LINE, "dataset.classes=3", "dataset.noise=0.7", f"run_dir={tmp_path / 'run'}").exit_code == 0
    )
    result = result_of(tmp_path / "run")
    assert result["decision"]["temperature"] > 0
    assert result["decision"]["thresholds"] == {}
    assert result["metrics"]["test"]["accuracy"] == result["decision"]["uncalibrated"]["test"]["accuracy"]


REFUSED: Sequence[tuple[Sequence[str], str]] = [
    (("dataset.classes=3", "training.calibration.threshold=f1"), "for two classes or for labels"),
    (("dataset.task=regression", "training.calibration.temperature=true"), "is for probabilities"),
    (("dataset.classes=2", "training.validation_fraction=0", "callbacks=[]"), "chosen on a validation split"),
    (("dataset.classes=2", "training.calibration.threshold=f3"), "there is no such aim"),
]


@pytest.mark.parametrize(("line", "reason"), REFUSED)
def test_what_cannot_be_settled_is_refused_before_the_training(
    line: Sequence[str], reason: str, run_cli: Cli, folder: Path
) -> None:
    done = run_cli(*LINE, *line, "run_dir=run")
    assert done.exit_code == 2
    assert reason in done.err
    assert not (folder / "run" / "history.jsonl").exists()


def test_diff_counts_flips_at_the_threshold_of_each(calibrated: Path, run_cli: Cli, folder: Path) -> None:
    shutil.copytree(calibrated, folder / "other")
    result = result_of(folder / "other")
    result["decision"]["thresholds"] = {"class_1": 0.0}
    (folder / "other" / "metrics.json").write_text(json.dumps(result))
    (folder / "other" / "best.keras").unlink()  # the figures do not need it
    found = json.loads(run_cli("diff", str(calibrated), "other", "--json").out)["predictions"]
    folder_of = RunFolder(calibrated)
    y, outputs = folder_of.predictions["y_true"], folder_of.predictions["outputs"][:, 0]
    (threshold,) = folder_of.decision.thresholds or ()
    said = outputs > np.float32(threshold)
    assert len(found["gained"]) == int((~said & (y == 1)).sum())
    assert len(found["lost"]) == int((~said & (y == 0)).sum()) > 0
