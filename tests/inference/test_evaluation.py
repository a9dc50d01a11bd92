"""`cnnbench evaluate`: the recorded figures again, other data, and what does not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspection_runs import spec_of, trained

from cnnbench.data.dataset import Dataset, Split
from cnnbench.errors import CnnbenchError
from cnnbench.inference.evaluation import chooses_dataset, evaluate_checkpoint, fit_or_refuse, with_keys
from cnnbench.runs.folder import RunFolder


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("kind", ["multiclass", "binary", "multilabel", "regression", "targets"])
def test_own_split_gives_the_recorded_figures(kind: str, split: str) -> None:
    folder = trained(kind)
    result = evaluate_checkpoint(folder, spec_of(folder), split)
    assert result.metrics == pytest.approx(folder.metrics["metrics"][split], abs=1e-5)
    assert result.recorded == folder.metrics["metrics"][split]
    recorded = folder.metrics.get("by_output", {}).get(split, {})
    assert result.by_output.keys() == recorded.keys()
    assert all(
        figures == pytest.approx(recorded[name], abs=1e-5) for name, figures in result.by_output.items()
    )
    assert result.notes == ()


def test_json_is_one_object_and_nothing_else(run_cli: Any) -> None:
    folder = trained("multiclass")
    done = run_cli("evaluate", str(folder.path), "--split", "val", "--json")
    assert done.exit_code == 0
    found = json.loads(done.out)
    assert found["split"] == "val"
    assert found["metrics"]["accuracy"] == pytest.approx(folder.metrics["metrics"]["val"]["accuracy"])
    assert done.err == ""


def test_table_shows_both_columns(run_cli: Any) -> None:
    done = run_cli("evaluate", str(trained("regression").path))
    assert done.exit_code == 0
    assert "rmse" in done.out
    assert "the run's own test split" in done.out


@pytest.mark.parametrize(
    ("overrides", "examples"),
    [
        (["dataset.noise=0.9"], 60),  # the run's own data set with a key changed
        (["dataset=synthetic", "dataset.classes=3", "dataset.size=8", "dataset.examples=150"], 30),
    ],
)
def test_another_data_set(run_cli: Any, overrides: list[str], examples: int) -> None:
    folder = trained("multiclass")
    done = run_cli("evaluate", str(folder.path), *overrides, "--json")
    assert done.exit_code == 0, done.err
    found = json.loads(done.out)
    assert found["examples"] == examples
    assert found["metrics"]["loss"] != pytest.approx(folder.metrics["metrics"]["test"]["loss"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=diabetes"], "regression task, but this run's is multiclass"),
        (["dataset=synthetic", "dataset.classes=2"], "binary task, but this run's is multiclass"),
        (["dataset=synthetic", "dataset.classes=3"], "has examples of 16×16×1, but this model takes 8×8×1"),
        (["dataset=digits"], "has 10 classes, but this model knows 3"),
        (["dataset=digit"], "no option 'digit'"),
        (["dataset.siez=8"], "no key dataset.siez"),
        (["seed=3"], "evaluate takes only dataset=…"),
        (["model=mlp"], "evaluate takes only dataset=…"),
    ],
)
def test_what_does_not_fit_is_one_line(run_cli: Any, overrides: list[str], message: str) -> None:
    done = run_cli("evaluate", str(trained("multiclass").path), *overrides)
    assert done.exit_code == 2
    assert message in done.err.splitlines()[0]
    assert done.out == ""


def test_classes_of_other_names_are_told() -> None:
    split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1]))
    data = Dataset("other", "multiclass", split, split, class_names=("고양이", "개", "새"))
    recorded = {"task": "multiclass", "input_shape": [8, 8, 1], "class_names": ["a", "b", "c"]}
    (note,) = fit_or_refuse(data, recorded)
    assert "0 is '고양이' in this data set and 'a' in the run" in note
    assert fit_or_refuse(data, {**recorded, "class_names": ["고양이", "개", "새"]}) == []


def test_without_validation_there_is_no_val() -> None:
    folder = trained("multiclass")
    spec = spec_of(folder)
    none = replace(spec, training=spec.training.model_copy(update={"validation_fraction": 0.0}))
    with pytest.raises(CnnbenchError, match="no val split"):
        evaluate_checkpoint(folder, none, "val")


def test_unfinished_run_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(trained("multiclass").path, tmp_path / "run")))
    folder.write_metrics({"status": "interrupted"})
    with pytest.raises(CnnbenchError, match="no finished run"):
        evaluate_checkpoint(folder, spec_of(folder))


def test_checkpoint_that_is_gone_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(trained("multiclass").path, tmp_path / "run")))
    folder.best_model.unlink()
    with pytest.raises(CnnbenchError, match="is missing"):
        evaluate_checkpoint(folder, spec_of(folder))


def test_run_trained_on_a_gpu_is_evaluated_without_one() -> None:
    folder = trained("multiclass")
    result = evaluate_checkpoint(folder, replace(spec_of(folder), device="gpu"))
    assert result.metrics["accuracy"] == pytest.approx(folder.metrics["metrics"]["test"]["accuracy"])


def test_keys_of_the_runs_data_set_do_not_reach_another() -> None:
    assert not chooses_dataset(["dataset.noise=1"])
    assert chooses_dataset(["dataset=digits"])


def test_keys_change_the_runs_own_data_set() -> None:
    recorded = {"data_dir": None, "dataset": {"data_dir": None, "noise": 0}, "seed": 1}
    changed = with_keys(recorded, {"dataset.noise": 1, "data_dir": "here"})
    assert changed == {"data_dir": "here", "dataset": {"data_dir": "here", "noise": 1}, "seed": 1}
    assert recorded["dataset"] == {"data_dir": None, "noise": 0}
    for key in ("dataset.nois", "dataset.noise.more"):
        with pytest.raises(CnnbenchError, match=f"there is no key {key}"):
            with_keys(recorded, {key: 1})


def test_classes_are_matched_by_name_and_others_refused(tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(trained("multiclass").path, tmp_path / "run")))
    own = spec_of(folder).dataset()
    names = own.class_names
    turned = replace(
        own,
        class_names=names[::-1],
        test=replace(own.test, y=(len(names) - 1 - own.test.y).astype(own.test.y.dtype)),
    )
    found = evaluate_checkpoint(folder, replace(spec_of(folder), dataset=lambda: turned))
    assert found.metrics["accuracy"] == pytest.approx(folder.metrics["metrics"]["test"]["accuracy"])
    odd = replace(own, class_names=("new", *names[1:]))
    with pytest.raises(CnnbenchError, match="new is none of the run's classes"):
        evaluate_checkpoint(folder, replace(spec_of(folder), dataset=lambda: odd))


def test_pictures_of_another_range_are_refused() -> None:
    split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1]))
    data = Dataset("other", "binary", split, split, class_names=("a", "b"))
    recorded = {"task": "binary", "input_shape": [8, 8, 1], "class_names": ["a", "b"]}
    assert fit_or_refuse(data, recorded, "uint8") == []
    with pytest.raises(CnnbenchError, match="has values of uint8, but this run was trained on float32"):
        fit_or_refuse(data, recorded, "float32")
