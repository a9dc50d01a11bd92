"""The decision that a model's file carries: names, thresholds, temperature."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import keras
import numpy as np

from cnnbench.nn import load_checkpoint
from cnnbench.runs import Decision, RunFolder, save_decision, stored_decision


def stored(path: Path) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid")])
    model.save(path)
    return model


def test_a_file_with_a_decision_is_the_same_model_to_keras_and_to_us(tmp_path: Path) -> None:
    model, x = stored(tmp_path / "old.keras"), np.eye(2, dtype=np.float32)
    decision = Decision("binary", ("no", "yes"), (0.25,), "f1", 1.5, {"coverage": 0.9})
    save_decision(tmp_path / "old.keras", decision, tmp_path / "new.keras")
    assert stored_decision(tmp_path / "old.keras") is None
    assert stored_decision(tmp_path / "new.keras") == decision
    for load in (keras.models.load_model, load_checkpoint):
        np.testing.assert_array_equal(load(tmp_path / "new.keras")(x), model(x))
    with ZipFile(tmp_path / "old.keras") as old, ZipFile(tmp_path / "new.keras") as new:
        assert sorted(old.namelist()) == sorted(new.namelist())


def test_another_decision_takes_the_place_of_the_first(tmp_path: Path) -> None:
    stored(tmp_path / "a.keras")
    for threshold in (0.1, 0.2):
        decision = Decision("binary", ("no", "yes"), (threshold,))
        save_decision(tmp_path / "a.keras", decision, tmp_path / "b.keras")
        (tmp_path / "b.keras").replace(tmp_path / "a.keras")
    found = stored_decision(tmp_path / "a.keras")
    assert found is not None
    assert found.thresholds == (0.2,)


def test_keys_of_a_later_version_are_left_out() -> None:
    decision = Decision("multiclass", ("a", "b"))
    assert Decision.from_dict({**decision.as_dict(), "schema": 2, "later": 1}) == decision


def test_thresholds_decide() -> None:
    outputs = np.array([[0.3], [0.5], [0.7]])
    assert Decision("binary", ("no", "yes")).classes(outputs).tolist() == [0, 0, 1]
    assert Decision("binary", ("no", "yes"), (0.2,)).classes(outputs).tolist() == [1, 1, 1]
    several = Decision("multilabel", ("a", "b"), (0.2, 0.8))
    assert several.labels(np.array([[0.3, 0.7], [0.1, 0.9]])).tolist() == [[1, 0], [0, 1]]
    assert Decision("multiclass", ("a", "b", "c")).classes(np.array([[0.2, 0.5, 0.3]])).tolist() == [1]


def test_a_finished_run_carries_its_names(finished_run: Path) -> None:
    folder = RunFolder(finished_run)
    assert stored_decision(folder.best_model) == folder.decision
    assert folder.decision.names == tuple(folder.metrics["class_names"])
    assert folder.decision.task == folder.metrics["task"]
