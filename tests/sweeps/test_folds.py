"""Cross-validation: a run for each fold, what it says of unseen examples, and the average of the models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Outcome, call_main

from cnnbench import api
from cnnbench.analysis.comparison import compare
from cnnbench.data.dataset import Dataset, Split
from cnnbench.data.splits import fold_numbers, of_fold
from cnnbench.errors import CnnbenchError
from cnnbench.runs.folder import find_runs
from cnnbench.sweeps.plan import plan

Cli = Callable[..., Outcome]
LINE = (*TINY, "training.folds=3", "deterministic=true", "device=cpu")
SHARED = ("status", "metrics", "value", "objective")


@pytest.fixture(scope="module")
def cross_validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds") / "cv"
    assert call_main(*LINE, f"run_dir={folder}") == 0
    return folder


def results(folder: Path) -> dict[str, dict[str, object]]:
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/metrics.json")}
    return {name: {key: one[key] for key in SHARED} for name, one in sorted(found.items())}


def test_every_example_is_measured_by_the_model_that_has_not_seen_it(cross_validation: Path) -> None:
    names = [path.name.rpartition("_")[2] for path in sorted(cross_validation.glob("0*"))]
    assert names == ["fold0", "fold1", "fold2", "average"]
    folds = [api.open_run(path) for path in sorted(cross_validation.glob("*_fold*"))]
    (average,) = map(api.open_run, cross_validation.glob("*_average"))
    source = average.spec().dataset()
    number = fold_numbers(source, 3, 0)
    unseen = dict(np.load(average.folder / "out_of_fold.npz"))
    assert np.array_equal(unseen["fold"], number)
    assert np.array_equal(unseen["y_true"], source.train.y)
    for fold, run in enumerate(folds):
        held = number == fold
        assert run.result["fold"] == {"examples": int(held.sum()), "others": int((~held).sum())}
        np.testing.assert_array_equal(run.files.predictions["outputs"], unseen["outputs"][held])
        np.testing.assert_allclose(run.model().predict(source.train.x[held], verbose=0),
                                   unseen["outputs"][held], atol=1e-5)  # fmt: skip
        correct = unseen["outputs"][held].argmax(axis=1) == source.train.y[held]
        assert run.result["objective"] == "fold_accuracy"
        assert run.result["value"] == pytest.approx(correct.mean())
    assert average.metrics["fold_accuracy"] == pytest.approx(
        (unseen["outputs"].argmax(axis=1) == source.train.y).mean()
    )


def test_the_average_of_the_fold_models_is_one_file(cross_validation: Path) -> None:
    (average,) = map(api.open_run, cross_validation.glob("*_average"))
    folds = [api.open_run(path) for path in sorted(cross_validation.glob("*_fold*"))]
    test = average.spec().dataset().test
    expected = np.mean([run.predict(test.x) for run in folds], axis=0)
    np.testing.assert_allclose(average.predict(test.x), expected, atol=1e-6)
    assert average.result["average_of"] == [run.folder.name for run in folds]
    assert average.result["largest_difference"] <= 1e-6
    assert average.metrics["test_accuracy"] == pytest.approx((expected.argmax(axis=1) == test.y).mean())
    assert average.verify().passed
    assert folds[1].verify().passed
    page = (average.folder / "report.html").read_text()
    assert "the average of 3 fold models" in page
    assert set(average.result["calibration"]) == {"fold", "test"}
    assert "Learning curves" not in page
    assert "training.fold=average" not in page.partition("What next")[2].partition("</section>")[0]


def test_folds_are_one_group_with_the_interval_of_overlapping_training_sets(cross_validation: Path) -> None:
    (ranking,) = compare(find_runs([cross_validation])).rankings
    (group,) = ranking.groups
    assert len(group.runs) == 3
    values = np.array(group.values)
    shares = [run.result["fold"] for run in map(api.open_run, sorted(cross_validation.glob("*_fold*")))]
    overlap = np.mean([one["examples"] / one["others"] for one in shares])
    width = 4.302653 * values.std(ddof=1) * np.sqrt(1 / 3 + overlap)  # Student's t, two degrees of freedom
    assert group.half_width == pytest.approx(width, rel=1e-5)
    assert group.best_run.folder.path.name.endswith("_average")
    assert group.test == group.best_run.test  # of the data set's own test split


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "cnnbench", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_killed_in_its_third_fold_it_goes_on_to_the_same_table(
    cross_validation: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, *LINE, "run_dir=cv")
    third = tmp_path / "cv" / next(cross_validation.glob("002_*")).name / "config.yaml"
    while not third.exists() and process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    for child in map(int, children):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    assert len(results(tmp_path / "cv")) < 4
    assert call_main("resume", str(tmp_path / "cv")) == 0
    assert results(tmp_path / "cv") == results(cross_validation)


def test_a_line_with_folds_is_planned_as_a_run_for_each() -> None:
    jobs = plan(["training.folds=2", "model=mlp,cnn", "seed=0,1"], None).jobs
    assert len(jobs) == 2 * 2 * 3
    assert [job.folder.rpartition("_")[2] for job in jobs[:3]] == ["fold0", "fold1", "average"]
    assert len(plan(["training.folds=4", "training.fold=1"], None).jobs) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("training.fold=1",), "say of how many: training.folds=5"),
        (("training.folds=3", "training.fold=3"), "the folds are 0 to 2"),
        (("training.folds=1",), "training.folds"),
        (("sweep=search", "training.folds=3"), "a search has no folds"),
        (("training.folds=3", "training.fold=average"), "no finished run of fold 0"),
        (("objective=fold_accuracy",), "will not exist"),
    ],
)
def test_a_mistake_is_one_line(line: tuple[str, ...], words: str, run_cli: Cli, folder: Path) -> None:
    outcome = run_cli(*TINY, *line)
    assert outcome.exit_code == 2
    assert words in outcome.err
    assert len(outcome.err.splitlines()) <= 2
    assert list(folder.rglob("*.yaml")) == []


def test_one_run_in_python_is_no_cross_validation() -> None:
    with pytest.raises(CnnbenchError, match="a run of each fold"):
        api.run(*LINE)


def test_folds_take_whole_groups_and_refuse_what_they_cannot_divide() -> None:
    y, x = np.arange(60) % 2, np.zeros((60, 3), np.float32)
    test = Split(x[:4], y[:4])

    def made(**more: np.ndarray) -> Dataset:
        return Dataset("d", "binary", Split(x, y, **more), test, class_names=("n", "y"))  # type: ignore[arg-type]

    groups = np.arange(60) // 4
    one = of_fold(made(groups=groups), 5, 2, seed=0)
    assert not set(one.train.groups) & set(one.test.groups)  # type: ignore[arg-type]
    assert len(one.train) + len(one.test) == 60
    with pytest.raises(CnnbenchError, match="needs more than 3 groups"):
        of_fold(made(groups=np.arange(60) // 20), 5, 0, seed=0)
    with pytest.raises(CnnbenchError, match="have an order"):
        of_fold(made(order=np.arange(60)), 5, 0, seed=0)
