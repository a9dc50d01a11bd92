"""Ensembles: one file of several finished runs, measured beside them, and which runs do not go together."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from conftest import TINY, Outcome, call_main
from data_files import write_pictures

import cnnbench
from cnnbench import api
from cnnbench.errors import CnnbenchError
from cnnbench.reporting.tables import members_table
from cnnbench.runs import Decision, RunFolder
from cnnbench.sweeps import average

Cli = Callable[..., Outcome]
PICTURES = ("dataset=image_folder", "dataset.root=pics", "dataset.size=8", "training=smoke", "model=mlp")
LINES = {
    "one": (*TINY, "deterministic=true"),
    "other": (*TINY, "deterministic=true", "model.filters=[6]"),  # of the same seed, and so of one val split
    "seed": (*TINY, "deterministic=true", "seed=1"),
    "noisy": (*TINY, "dataset.noise=0.3"),
    "four": (*TINY, "dataset.classes=4"),
    "sets": (*TINY, "training.calibration.coverage=0.5"),
    "sets_too": (*TINY, "training.calibration.coverage=0.5", "model.filters=[6]"),
    "large": (*TINY, "dataset.size=10"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with finished runs, and a cross-validation."""
    place = tmp_path_factory.mktemp("made")
    for name, line in LINES.items():
        assert call_main(*line, f"run_dir={place / name}", "--quiet") == 0
    assert call_main(*TINY, "training.folds=3", f"run_dir={place / 'folds'}", "--quiet") == 0
    return place


@pytest.fixture
def place(made: Path, folder: Path) -> Path:
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


def test_an_ensemble_is_the_mean_of_its_members_in_one_file(
    place: Path, run_cli: Cli, pictures: None
) -> None:
    outcome = run_cli("ensemble", "one", "seed", "--output", "both", "--json", "told.json")
    assert outcome.exit_code == 0, outcome.err
    members, both = [api.open_run("one"), api.open_run("seed")], api.open_run("both")
    test = both.spec().dataset().test
    expected = np.mean([member.predict(test.x) for member in members], axis=0)
    np.testing.assert_allclose(both.predict(test.x), expected, atol=1e-6)
    alone = keras.models.load_model(both.files.best_model)  # by Keras, which knows nothing of us
    np.testing.assert_allclose(alone.predict(test.x, verbose=0), expected, atol=1e-5)
    assert both.metrics["test_accuracy"] == pytest.approx((expected.argmax(axis=1) == test.y).mean())
    assert both.result["intervals"]["test"]["accuracy"]["method"] == "Wilson"
    assert set(both.result["by_output"]["test"]) == set(both.class_names)
    # Their seeds hold out other examples for validation, from which one of the two has learnt.
    assert set(both.result["metrics"]) == {"test"}
    assert both.result["objective"] == "test_accuracy"
    for member, row in zip(members, both.result["members"], strict=True):
        assert row["run"] == str(member.folder.absolute())
        assert row["metrics"] == member.result["metrics"]["test"]
        assert row["intervals"] == member.result["intervals"]["test"]
        assert row["sha256"] == hashlib.sha256(member.files.best_model.read_bytes()).hexdigest()
        assert member.folder.name in outcome.out
        assert member.folder.name in (both.folder / "report.html").read_text()
    node = both.config["model"]
    assert node["members"] == [row["run"] + "/best.keras" for row in both.result["members"]]
    assert node["digests"] == [row["sha256"] for row in both.result["members"]]
    assert both.files.decision == Decision("multiclass", both.class_names)


def test_every_verb_takes_it(place: Path, run_cli: Cli) -> None:
    both = cnnbench.ensemble("one", "seed", output="both", verbose=False)
    shutil.rmtree(place / "one")  # all that it needs is in its own folder
    assert both.verify().passed
    assert both.evaluate().metrics == pytest.approx(both.result["metrics"]["test"])
    assert both.export("tflite").passed
    np.save("x.npy", both.spec().dataset().test.x[:3])
    assert run_cli("predict", "both", "x.npy").exit_code == 0
    assert run_cli("report", "both").exit_code == 0
    assert "ensemble" in run_cli("compare", "both", "seed").out
    told = run_cli("diff", "seed", "both").out
    assert "McNemar" in told  # the test split is the same, though another was drawn for validation
    assert run_cli("resume", "both").out == "both is done already\n"
    assert run_cli("both").exit_code == 0
    assert "draw what one of them sees: cnnbench visualize" in run_cli("visualize", "both").err


def test_members_with_one_validation_split_are_ranked_with_their_ensemble(place: Path) -> None:
    both = cnnbench.ensemble("one", "other", output="both", verbose=False)
    assert both.result["objective"] == "val_accuracy"
    assert set(both.result["metrics"]) == {"val", "test"}
    assert both.verify().passed
    (ranking,) = cnnbench.compare(["one", "other", "both"]).analysis.rankings
    assert {run.path.name for group in ranking.groups for run in group.runs} == {"one", "other", "both"}


def test_members_with_sets_have_an_ensemble_with_sets_on_the_same_validation_split(place: Path) -> None:
    both = cnnbench.ensemble("sets", "sets_too", output="both", verbose=False)
    drawn = [
        run.identity.drawn
        for run in map(api.runs.RunFolder, (place / "sets", place / "both"))
        if run.identity
    ]
    assert drawn[0] == drawn[1]
    assert set(both.result["metrics"]) == {"val", "test"}
    assert both.result["sets"]["promised"] == 0.5
    assert both.files.decision.conformal
    assert both.verify().passed


def test_members_of_other_fixes_and_validation_splits_are_refused() -> None:
    def member(val: str, train: str = "a", fold: int | None = None) -> Any:
        identity = SimpleNamespace(data_digest="same", data={"train": train}, drawn={"val": val})
        return SimpleNamespace(
            path=f"run_{val}",
            identity=identity,
            metrics={"data": "same"},
            config={"training": {"fold": fold}},
        )

    average._refuse_changed([member("b"), member("b")], member("b").identity)
    average._refuse_changed([member("b", fold=0), member("c", fold=1)], member("d").identity)
    with pytest.raises(CnnbenchError, match=r"run_b was trained with other fixes than dataset.fixes has now"):
        average._refuse_changed([member("b"), member("b")], member("b", "c").identity)
    with pytest.raises(CnnbenchError, match="another validation split than that of run_b is drawn now"):
        average._refuse_changed([member("b"), member("b")], member("c").identity)


def test_folds_are_tested_on_the_split_that_none_of_them_has_seen(place: Path) -> None:
    folds = cnnbench.ensemble("folds", output="both", verbose=False)
    (mean,) = map(api.open_run, place.glob("folds/*_average"))
    for split in ("fold", "test"):
        assert folds.result["metrics"][split] == pytest.approx(mean.result["metrics"][split])
    assert folds.result["value"] == mean.result["value"]
    test = folds.spec().dataset().test
    for row in folds.result["members"]:
        outputs = api.open_run(row["run"]).predict(test.x)
        assert row["metrics"]["accuracy"] == pytest.approx((outputs.argmax(axis=1) == test.y).mean())


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("one", "at least two runs, and here is one alone"),
        ("one one", "at least two runs"),
        ("one copy", "one and copy are the same model"),
        (
            "one four",
            "have different classes: class_0, class_1, class_2 and class_0, class_1, class_2, class_3",
        ),
        ("one large", "have different shapes of an example: 8×8×1 and 10×10×1"),
        ("one noisy", "were made with different data: dataset.noise is 0.2 and 0.3; other examples in t"),
        ("one nowhere", "nowhere does not exist"),
        ("one failed", "failed has no finished run"),
        ("one seed --output one", "one is not empty"),
    ],
)
def test_runs_that_do_not_go_together_are_one_line(
    members: str, words: str, place: Path, run_cli: Cli
) -> None:
    shutil.copytree("one", "copy")
    shutil.copytree("one", "failed")
    (place / "failed" / "metrics.json").write_text('{"status": "failed", "reason": "so"}')
    outcome = run_cli("ensemble", *members.split())
    assert outcome.exit_code == 2
    assert words in outcome.err
    assert len(outcome.err.splitlines()) <= 2
    assert not (place / "outputs").exists()


def test_other_preparation_and_examples_that_a_member_has_learnt_from_are_refused(
    folder: Path, run_cli: Cli
) -> None:
    write_pictures(folder / "pics", "cat", "dog")
    for name, line in {
        "one": (),
        "cropped": ("dataset.resize=crop",),
        "divided": ("dataset.split_seed=1",),
    }.items():
        assert run_cli(*PICTURES, *line, "device=cpu", f"run_dir={name}").exit_code == 0
    assert "dataset.resize is stretch and crop" in run_cli("ensemble", "one", "cropped").err
    told = run_cli("ensemble", "one", "divided").err
    assert "of 8 test examples of one are training or validation examples of divided" in told


def test_what_has_failed_is_resumed_unless_a_member_is_another(
    place: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(average, "check_average", lambda *_: 1 / 0)
        assert run_cli("ensemble", "one", "seed", "--output", "both").exit_code == 1
    assert api.open_run("both").status == "failed"
    kept = (place / "seed" / "best.keras").read_bytes()
    shutil.copyfile(place / "other" / "best.keras", place / "seed" / "best.keras")
    outcome = run_cli("resume", "both")
    assert outcome.exit_code == 2
    assert "is another file than it was" in outcome.err
    assert "make it anew: cnnbench ensemble RUN" in outcome.err
    (place / "seed" / "best.keras").write_bytes(kept)
    (place / "seed").rename(place / "moved")
    outcome = run_cli("resume", "both")
    assert outcome.exit_code == 2
    assert "seed, a member of the ensemble, is gone" in outcome.err
    assert "make it anew: cnnbench ensemble RUN" in outcome.err
    (place / "moved").rename(place / "seed")
    assert run_cli("resume", "both").exit_code == 0
    assert json.loads((place / "both" / "metrics.json").read_text())["status"] == "done"


def test_a_table_of_members_has_no_mean_of_different_losses() -> None:
    figures = {"loss": 1.0, "accuracy": 0.5}
    for losses, columns in ((("a", "a"), 4), (("a", "b"), 3)):
        members = [
            {"run": f"run{loss}{index}", "metrics": figures, "loss": loss}
            for index, loss in enumerate(losses)
        ]
        table = members_table({"task": "multiclass", "members": members, "metrics": {"test": figures}})
        assert len(table.columns) == columns
        assert ("test loss" in [column.header for column in table.columns]) == (columns == 4)


def test_an_average_that_is_none_is_a_failure() -> None:
    outputs = np.array([[0.25, 0.75]])
    assert average.check_average(outputs, outputs + 5e-7) < 1e-6
    for other in (outputs + 2e-6, outputs * np.nan):
        with pytest.raises(RuntimeError, match="differs from the mean of its members"):
            average.check_average(outputs, other)


@pytest.mark.parametrize(
    ("thresholds", "aims", "decided", "told"),
    [
        ((None, None), (None, None), (None, None), 0),
        (((0.3,), (0.3,)), ("f1", "f1"), ((0.3,), "f1"), 0),
        (((0.3,), (0.3,)), ("f1", "recall=0.9"), ((0.3,), None), 0),
        (((0.3,), (0.4,)), ("f1", "f1"), (None, None), 1),
        (((0.3,), None), ("f1", None), (None, None), 1),
    ],
)
def test_thresholds_are_those_of_all_members_or_none(
    thresholds: Any, aims: Any, decided: Any, told: int
) -> None:
    members: list[Any] = [
        SimpleNamespace(decision=Decision("binary", ("n", "y"), threshold, aim, 2.0))
        for threshold, aim in zip(thresholds, aims, strict=True)
    ]
    dataset: Any = SimpleNamespace(task="binary", class_names=("n", "y"), targets=())
    notes: list[str] = []
    found = average.common_decision(members, dataset, notes)
    assert (found.thresholds, found.aim, found.temperature) == (*decided, None)
    assert len(notes) == told


def test_an_ensemble_by_the_threshold_of_all_says_what_that_changes(folder: Path, run_cli: Any) -> None:
    line = ("dataset=synthetic", "dataset.classes=2", "dataset.size=8", "dataset.examples=120", "device=cpu")
    for seed in (0, 1):
        own = ("model=mlp", "model.units=[4]", "training=smoke", f"seed={seed}", f"run_dir=m{seed}")
        assert run_cli(*line, *own).exit_code == 0
        member = RunFolder(folder / f"m{seed}")
        member.write_decision(replace(member.decision, thresholds=(0.25,), aim="f1"))
    outcome = run_cli("ensemble", "m0", "m1", "--output", "both")
    assert outcome.exit_code == 0, outcome.err
    assert "threshold 0.25 of class_1 from val, for f1" in outcome.out
    result = RunFolder(folder / "both").metrics
    before, now = result["decision"]["uncalibrated"]["test"], result["metrics"]["test"]
    assert before["roc_auc"] == now["roc_auc"]
    assert before["recall"] < now["recall"]


def test_a_member_that_is_gone_is_one_line_for_whoever_builds_the_model(tmp_path: Path) -> None:
    from cnnbench.models.ensemble import ensemble

    files = [str(tmp_path / "a.keras"), str(tmp_path / "b.keras")]
    with pytest.raises(CnnbenchError, match="a member of the ensemble, is gone"):
        ensemble((8, 8, 1), 3, files, ["0", "0"])
