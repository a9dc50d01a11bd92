"""Two runs side by side: figures worked by hand, and scipy's and scikit-learn's on the same values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cnnbench.analysis.diff import Flips, difference, errors, flips, flips_of_labels
from cnnbench.analysis.significance import half_width
from cnnbench.errors import CnnbenchError
from cnnbench.runs.folder import RunFolder

Cli = Callable[..., Any]


def probabilities(classes: list[int], count: int = 3) -> np.ndarray:
    return np.eye(count)[classes]


def test_flips_are_counted_by_example_and_by_class() -> None:
    y = np.array([0, 0, 0, 1, 1, 2])
    found = flips(y, probabilities([0, 1, 1, 1, 1, 0]), probabilities([0, 0, 0, 1, 2, 0]), ["a", "b", "c"])
    assert (found.gained, found.lost) == ([1, 2], [4])
    assert found.classes == [("a", 3, 1, 3), ("b", 2, 2, 1), ("c", 1, 0, 0)]
    assert found.p == 1.0  # of three, two or more for either: always


def test_mcnemar_is_exact() -> None:
    """Of ten changes nine to one side: (1 + 10) / 2^10, on both sides."""
    y = np.zeros(20, int)
    first, second = np.zeros(20, int), np.zeros(20, int)
    first[:9], second[9] = 1, 1
    found = flips(y, probabilities(first.tolist()), probabilities(second.tolist()), [])
    assert (len(found.gained), len(found.lost)) == (9, 1)
    assert found.p == pytest.approx(2 * 11 / 1024)


def test_equal_classifiers_have_no_flips() -> None:
    same = probabilities([0, 1])
    assert flips(np.array([0, 0]), same, same, []) == Flips([], [], 1.0, [("0", 2, 1, 1)])


def test_one_probability_is_that_of_class_1() -> None:
    found = flips(np.array([0, 1]), np.array([[0.4], [0.4]]), np.array([[0.4], [0.6]]), ["no", "yes"])
    assert found.gained == [1]
    assert found.lost == []


def test_errors_of_regressions_are_paired() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=50)
    first, second = y + rng.normal(0, 1, 50), y + rng.normal(0, 0.5, 50)
    found = errors(y, first[:, None], second[:, None])
    change = abs(second - y) - abs(first - y)
    assert found.change == pytest.approx(change.mean())
    assert found.half_width == pytest.approx(half_width(change))
    assert found.p == pytest.approx(stats.wilcoxon(change).pvalue)
    assert (found.smaller, found.larger) == ((change < 0).sum(), (change > 0).sum())
    assert found.change < -found.half_width


def test_equal_regressions_do_not_differ() -> None:
    y = np.arange(4.0)
    assert errors(y, y[:, None] + 1, y[:, None] + 1).p == 1.0


def test_labels_count_as_right_where_all_of_an_example_are() -> None:
    y = np.array([[1, 0], [1, 1], [0, 0]])
    first = np.array([[0.9, 0.9], [0.9, 0.9], [0.1, 0.1]])
    second = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.1]])
    found = flips_of_labels(y, first, second, ["a", "b"])
    assert (found.gained, found.lost) == ([0], [1])
    assert found.classes == [("a", 3, 3, 3), ("b", 3, 2, 2)]


def test_errors_of_several_targets_are_in_their_deviations() -> None:
    y = np.array([[0.0, 0.0], [2.0, 2000.0]])  # deviations 1 and 1,000
    found = errors(y, y + np.array([1.0, 1000.0]), y + np.array([0.5, 1000.0]))
    assert found.change == pytest.approx(-0.25)


@pytest.fixture
def two(finished_run: Path, tmp_path: Path) -> tuple[RunFolder, RunFolder]:
    """A run, and the same with other figures, another seed and three other predictions."""
    first, second = (RunFolder(tmp_path / name) for name in ("first", "second"))
    for run in (first, second):
        shutil.copytree(finished_run, run.path)
    second.write_config({**first.config, "seed": 1}, [])
    metrics = first.metrics
    metrics["metrics"]["test"]["accuracy"] += 0.125
    second.write_metrics(metrics)
    second.write_environment({**first.environment, "threads": 64})
    arrays = second.predictions
    arrays["outputs"][:3] = np.eye(3)[(arrays["outputs"][:3].argmax(axis=1) + 1) % 3]
    second.write_predictions(**arrays)
    return first, second


def test_two_folders(two: tuple[RunFolder, RunFolder]) -> None:
    found = difference(*two)
    assert found.config == {"seed": (0, 1)}
    assert found.environment == {"threads": (two[0].environment["threads"], 64)}
    before, after = found.metrics["test_accuracy"]
    assert after - before == pytest.approx(0.125)
    assert found.cost["parameters"][0] == found.cost["parameters"][1] == two[0].metrics["cost"]["parameters"]
    assert isinstance(found.predictions, Flips)
    truth, old, new = (
        two[0].predictions["y_true"],
        *(run.predictions["outputs"].argmax(axis=1) for run in two),
    )
    assert set(found.predictions.gained) == set(np.flatnonzero((old != truth) & (new == truth)))
    assert set(found.predictions.lost) == set(np.flatnonzero((old == truth) & (new != truth)))
    assert found.predictions.gained + found.predictions.lost


@pytest.mark.parametrize("change", ["test", "all of 0.1.0", "targets"])
def test_other_test_sets_are_not_compared(two: tuple[RunFolder, RunFolder], change: str) -> None:
    first, second = two
    if change == "test":
        identity = second.identity
        assert identity is not None
        second.write_identity(replace(identity, drawn={**identity.drawn, "test": "other"}))
    elif change == "all of 0.1.0":
        for run in two:
            (run.path / "identity.json").unlink()
        environment = second.environment
        environment["dataset"]["fingerprint"] = "other"
        second.write_environment(environment)
    else:
        arrays = second.predictions
        second.write_predictions(y_true=arrays["y_true"][::-1], outputs=arrays["outputs"])
    found = difference(first, second)
    assert found.predictions is None
    assert found.reason == "the test sets differ, so their predictions do not compare"


def test_another_validation_split_is_no_other_test_split(two: tuple[RunFolder, RunFolder]) -> None:
    identity, environment = two[1].identity, two[1].environment
    assert identity is not None
    two[1].write_identity(replace(identity, drawn={**identity.drawn, "val": "other", "all": "other"}))
    environment["dataset"]["fingerprint"] = "other"
    two[1].write_environment(environment)
    assert difference(*two).predictions is not None


def test_a_run_without_predictions_is_compared_by_the_rest(two: tuple[RunFolder, RunFolder]) -> None:
    (two[1].path / "predictions.npz").unlink()
    (two[1].path / "metrics.json").unlink()
    two[1].write_failure({"status": "failed", "cause": "no memory"})
    found = difference(*two)
    assert found.reason == f"{two[1].path} has no predictions (failed)"
    assert np.isnan(found.metrics["test_accuracy"][1])


def test_damaged_predictions_are_one_line(two: tuple[RunFolder, RunFolder]) -> None:
    path = two[0].path / "predictions.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CnnbenchError, match="is damaged"):
        difference(*two)


def test_the_command(two: tuple[RunFolder, RunFolder], run_cli: Cli) -> None:
    places = [str(run.path) for run in two]
    outcome = run_cli("diff", *places)
    assert (outcome.exit_code, outcome.err) == (0, "")
    for text in ("seed", "threads", "+0.125", "wrong to right", "McNemar's test: p ", "class_0"):
        assert text in outcome.out, text
    content = json.loads(run_cli("diff", *places, "--json").out)
    assert content["config"] == {"seed": [0, 1]}
    assert content["kind"] == "flips"
    assert run_cli("diff", places[0], "nowhere").exit_code == 2


def test_diff_imports_no_tensorflow(two: tuple[RunFolder, RunFolder], run_python: Cli) -> None:
    code = "import sys; from cnnbench.cli.main import main; main(); print('tensorflow' in sys.modules)"
    outcome = run_python(code, "diff", *(str(run.path) for run in two))
    assert outcome.out.splitlines()[-1] == "False"


def test_another_place_is_no_difference(two: tuple[RunFolder, RunFolder]) -> None:
    for number, run in enumerate(two):
        config = run.config
        config["dataset"] |= {"root": f"/{number}/pictures", "cache_dir": f"/{number}"}
        run.write_config({**config, "plugins": [f"/{number}/mine.py"], "data_dir": f"/{number}"}, [])
    assert not {"dataset.root", "dataset.cache_dir", "plugins", "data_dir"} & set(difference(*two).config)


def test_a_key_that_came_later_and_is_null_is_no_difference(two: tuple[RunFolder, RunFolder]) -> None:
    first, second = two
    assert first.config["training"]["folds"] is None
    earlier = {key: value for key, value in first.config["training"].items() if key != "folds"}
    first.write_config({**first.config, "training": earlier}, [])
    assert difference(first, second).config == {"seed": (0, 1)}
