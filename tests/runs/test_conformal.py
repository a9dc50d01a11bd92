"""Sets of classes and ranges of values: MAPIE's own, and how often they hold the truth.

Fifty simulations in the ordinary run, with a wide bound; `make simulate` sets CNNBENCH_SIMULATIONS=1000.
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from cnnbench import data
from cnnbench.config.composition import compose, plain_config, spec_from
from cnnbench.errors import CnnbenchError
from cnnbench.inference.evaluation import evaluate_checkpoint
from cnnbench.nn import load_checkpoint
from cnnbench.reporting import sets_in_words
from cnnbench.runs import Predictions, RunFolder, conformal

SIMULATIONS = int(os.environ.get("CNNBENCH_SIMULATIONS", "50"))
NEAR = 0.005 if SIMULATIONS >= 1000 else 0.02
LOWEST = 0.93 if SIMULATIONS >= 1000 else 0.85
Drawn = tuple[np.ndarray, np.ndarray]


def classes(rng: np.random.Generator, count: int) -> Drawn:
    y, scores = rng.integers(4, size=count), rng.normal(size=(count, 4))
    scores[np.arange(count), y] += 1.5
    scores = np.exp(scores)
    return y, scores / scores.sum(axis=1, keepdims=True)


def two(rng: np.random.Generator, count: int) -> Drawn:
    y = (rng.random(count) < 0.3).astype(int)
    return y, 1 / (1 + np.exp(-(rng.normal(size=count) + 2 * y - 1.2)))[:, None]


def values(rng: np.random.Generator, count: int) -> Drawn:
    y = 3 * rng.normal(size=count)
    return y, (y + rng.standard_t(4, size=count))[:, None]


@pytest.mark.parametrize(("task", "draw"), [("multiclass", classes), ("binary", two), ("regression", values)])
def test_the_truth_is_inside_as_often_as_promised(task: str, draw: Any) -> None:
    rng, found, kept = np.random.default_rng(5), [], []
    for _ in range(SIMULATIONS):
        stored = conformal.calibrated(task, *draw(rng, 60), 0.9)
        checked = conformal.coverage_of(stored, task, *draw(rng, 300))
        found.append(checked["coverage"])
        low, high = checked["by_chance"]
        kept.append(low <= checked["coverage"] <= high)
        assert checked["kept"] == (checked["coverage"] >= low)
    exact = 55 / 61  # of 60 scores the 55th
    assert np.mean(found) == pytest.approx(exact, abs=NEAR)
    assert np.mean(kept) >= LOWEST


def test_sets_are_those_of_mapie() -> None:
    mapie = pytest.importorskip("mapie.classification")
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(400, 3)), rng.integers(3, size=400)
    x[np.arange(400), y] += 1
    model = LogisticRegression().fit(x[:150], y[:150])
    theirs = mapie.SplitConformalClassifier(model, 0.85, "lac", prefit=True)
    theirs.conformalize(x[150:250], y[150:250])
    ours = conformal.calibrated("multiclass", y[150:250], model.predict_proba(x[150:250]), 0.85)
    inside = theirs.predict_set(x[250:])[1][:, :, 0]
    np.testing.assert_array_equal(conformal.sets(ours, model.predict_proba(x[250:])), inside)
    assert 1 < inside.sum(axis=1).mean() < 3


def test_ranges_are_those_of_mapie() -> None:
    mapie = pytest.importorskip("mapie.regression")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 3))
    y = x.sum(axis=1) + rng.normal(size=400)
    model = LinearRegression().fit(x[:150], y[:150])
    theirs = mapie.SplitConformalRegressor(model, 0.85, prefit=True).conformalize(x[150:250], y[150:250])
    ours = conformal.calibrated("regression", y[150:250], model.predict(x[150:250])[:, None], 0.85)
    ends = theirs.predict_interval(x[250:])[1][:, :, 0]
    np.testing.assert_allclose(conformal.ranges(ours, model.predict(x[250:])[:, None]), ends)


@pytest.mark.parametrize(("coverage", "least"), [(1e-11, 1), (0.5, 1), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_the_least_number_of_examples_gives_a_finite_quantile(coverage: float, least: int) -> None:
    assert conformal.least_examples(coverage) == least
    y, outputs = classes(np.random.default_rng(0), least)
    assert conformal.calibrated("multiclass", y, outputs, coverage)["quantile"] < 1
    y, outputs = classes(np.random.default_rng(0), 30)
    smallest = conformal.calibrated("multiclass", y, outputs, 1e-11)["quantile"]
    assert smallest == conformal.calibrated("multiclass", y, outputs, 0.03)["quantile"]


def test_a_set_may_hold_none_or_several() -> None:
    stored = {"coverage": 0.9, "score": "1 - probability", "quantile": 0.5, "examples": 9}
    outputs = np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [0.8, 0.1, 0.1]])
    found = conformal.coverage_of(stored, "multiclass", np.array([0, 0, 1]), outputs)
    assert found["sizes"] == [1, 1, 1]
    assert found["coverage"] == pytest.approx(1 / 3)
    assert found["accuracy_of_single"] == 0
    assert conformal.sets(stored, np.array([[0.7], [0.2]])).tolist() == [[False, True], [True, False]]
    rows = Predictions("multiclass", np.array([0, 0, 1]), outputs, "abc", conformal=stored)._columns()[:2]
    assert dict(zip(*rows, strict=True))["set"] == ["a; b", "", "a"]


def test_a_set_of_the_class_that_a_threshold_decides_against_is_no_answer() -> None:
    stored = {"coverage": 0.9, "score": "1 - probability", "quantile": 0.42, "examples": 9}
    y, outputs = np.array([1, 1, 0]), np.array([[0.41], [0.7], [0.8]])
    found = conformal.coverage_of(stored, "binary", y, outputs, None, (0.4,))
    assert (found["sizes"], found["answers"], found["accuracy_of_single"]) == ([0, 3], 2, 0.5)
    assert sets_in_words(found)[1:] == [
        "2 with one class (50 % of them right), 0 with several, 0 with none",
        "1 with one class, which the threshold decides against: no answers",
    ]
    found = conformal.coverage_of(stored, "binary", y[:2], outputs[:2], None, (0.6,))
    assert (found["answers"], found["accuracy_of_single"]) == (2, 0.5)
    assert "1 with one class (all right)" in "".join(
        sets_in_words(conformal.coverage_of(stored, "binary", y[1:2], outputs[1:2]))
    )


def test_groups_have_no_verdict() -> None:
    y, outputs = classes(np.random.default_rng(0), 100)
    found = conformal.coverage_of(
        conformal.calibrated("multiclass", y, outputs, 0.9), "multiclass", y, outputs, np.arange(100) // 5
    )
    assert found["method"] == "bootstrap"
    assert "kept" not in found


# -- The examples that choose nothing ----------------------------------------------------------------


def drawn(groups: bool = False, **keys: Any) -> data.Dataset:
    rng = np.random.default_rng(0)
    x, y = rng.random((400, 3), np.float32), np.repeat([0, 1], [300, 100])
    of = np.arange(400) // 4 if groups else None
    train = data.Split(x, y, of)
    test = data.Split(x[:8] + 1, y[:8], None if of is None else of[:8] + 1000)
    line = ["dataset=digits", *(f"training.{key}={value}" for key, value in keys.items())]
    spec = spec_from(plain_config(compose(line)), None, ())
    return spec.drawn(data.Dataset("some", "binary", train, test, class_names=("a", "b")))


def rows(split: data.Split | None) -> set[bytes]:
    assert split is not None
    return {row.tobytes() for row in split.x}


def test_they_are_drawn_from_validation_by_class() -> None:
    whole = drawn(validation_fraction=0.4)
    parted = drawn(validation_fraction=0.4, **{"calibration.coverage": 0.9, "calibration.share": 0.25})
    assert rows(parted.train) == rows(whole.train)
    assert rows(parted.val) | rows(parted.calibration) == rows(whole.val)
    assert not rows(parted.val) & rows(parted.calibration)
    assert parted.calibration is not None
    assert np.bincount(parted.calibration.y).tolist() == [30, 10]
    assert list(parted.splits) == ["train", "val", "calibration", "test"]
    assert parted.fingerprint != whole.fingerprint


def test_groups_stay_whole() -> None:
    found = drawn(groups=True, validation_fraction=0.4, **{"calibration.coverage": 0.9})
    assert found.calibration is not None
    assert found.val is not None
    assert not np.isin(found.calibration.groups, found.val.groups).any()
    assert {0, 1} == set(found.calibration.y.tolist())


def test_too_few_are_refused() -> None:
    with pytest.raises(CnnbenchError, match="needs 99 calibration examples"):
        drawn(validation_fraction=0.1, **{"calibration.coverage": 0.99})
    whole = drawn(validation_fraction=0.4)
    with pytest.raises(CnnbenchError, match="there is none"):
        data.with_calibration(replace(whole, val=None), 0.5, 9, seed=0)


def test_several_labels_are_refused(run_cli: Any, tmp_path: Path) -> None:
    done = run_cli(
        *("dataset=synthetic", "dataset.task=multilabel", "training=smoke", f"run_dir={tmp_path}/run"),
        "training.calibration.coverage=0.9",
    )
    assert done.exit_code == 2
    assert "several labels" in done.err


# -- A run ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_with_sets(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    from cnnbench.training import run

    line = [
        *("dataset=digits", "model=mlp", "model.units=[16]", "training.epochs=3", "device=cpu"),
        *("training.validation_fraction=0.3", "training.calibration.coverage=0.8"),
    ]
    place = tmp_path_factory.mktemp("sets") / "run"
    run.run(spec_from(plain_config(compose(line)), place, line))
    return RunFolder(place)


def test_its_file_and_figures_have_what_its_calibration_examples_say(run_with_sets: RunFolder) -> None:
    spec = spec_from(run_with_sets.config, run_with_sets.path)
    dataset = spec.drawn(spec.dataset())
    assert dataset.calibration is not None
    model = load_checkpoint(run_with_sets.best_model)
    outputs = model.predict(dataset.calibration.x[:], verbose=0)
    wanted = conformal.calibrated("multiclass", dataset.calibration.y, outputs, 0.8)
    stored = run_with_sets.decision.conformal
    assert stored["quantile"] == pytest.approx(wanted["quantile"], abs=1e-5)
    assert stored["examples"] == len(dataset.calibration) == run_with_sets.metrics["sets"]["calibrated_on"]
    assert set(run_with_sets.metrics["metrics"]) == {"train", "val", "test"}
    with (run_with_sets.path / "predictions.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    hits = [row["truth"] in row["set"].split("; ") for row in table]
    assert np.mean(hits) == run_with_sets.metrics["sets"]["coverage"]
    assert "promised 0.8" in run_with_sets.report.read_text(encoding="utf-8")


def test_predict_names_the_set(run_with_sets: RunFolder, run_cli: Any, tmp_path: Path) -> None:
    spec = spec_from(run_with_sets.config, run_with_sets.path)
    np.save(tmp_path / "x.npy", spec.dataset().test.x)
    done = run_cli("predict", str(run_with_sets.path), str(tmp_path / "x.npy"), "--json")
    answers = [json.loads(line) for line in done.out.splitlines()]
    sizes = np.bincount([len(answer["set"]) for answer in answers], minlength=2)
    assert sizes.tolist() == run_with_sets.metrics["sets"]["sizes"]
    least = 1 - run_with_sets.decision.conformal["quantile"]
    for answer in answers:
        assert answer["set"] == [name for name, one in answer["probabilities"].items() if one >= least]
        assert answer["abstains"] == (len(answer["set"]) != 1)
    shown = run_cli("predict", str(run_with_sets.path), str(tmp_path / "x.npy"), "--top", "1")
    assert shown.out.splitlines()[0].split() == ["file", "class", "probability", "set"]
    table = tmp_path / "out.csv"
    run_cli("predict", str(run_with_sets.path), str(tmp_path / "x.npy"), "--output", str(table))
    with table.open(encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert first["set"].split(";") == answers[0]["set"]


def test_evaluate_checks_the_promise(run_with_sets: RunFolder, run_cli: Any) -> None:
    done = run_cli("evaluate", str(run_with_sets.path), "--json")
    assert json.loads(done.out)["sets"] == run_with_sets.metrics["sets"]
    of_val = run_cli("evaluate", str(run_with_sets.path), "--split", "val", "--json")
    assert json.loads(of_val.out)["sets"] is None
    assert run_cli("verify", str(run_with_sets.path)).exit_code == 0


def test_the_validation_split_of_other_data_is_whole_and_has_sets(run_with_sets: RunFolder) -> None:
    own = spec_from(run_with_sets.config, run_with_sets.path)
    other = replace(own, config={**own.config, "dataset": {**own.config["dataset"], "root": "elsewhere"}})
    whole = data.with_validation(other.dataset(), 0.3, None, other.seed)
    found = evaluate_checkpoint(run_with_sets, other, "val")
    assert whole.val is not None
    assert found.examples == len(whole.val)
    assert found.sets is not None
    for split, has_sets in (("val", False), ("test", True)):
        found = evaluate_checkpoint(run_with_sets, own, split)  # dataset=digits, typed again
        assert found.metrics == pytest.approx(found.recorded, rel=1e-4)
        assert (found.sets is not None) == has_sets
