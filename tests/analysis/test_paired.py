"""Two models on the same test examples: what these can tell, and what they cannot.

Fifty simulations in the ordinary run, with a wide bound; `make simulate` sets CNNBENCH_SIMULATIONS=1000.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnbench.analysis import difference, paired_accuracies, paired_runs
from cnnbench.reporting.tables import told_apart
from cnnbench.runs import RunFolder

SIMULATIONS = int(os.environ.get("CNNBENCH_SIMULATIONS", "50"))
LOWEST = 0.93 if SIMULATIONS >= 1000 else 0.85


def draw(rng: np.random.Generator, count: int, first: float, second: float) -> tuple[np.ndarray, np.ndarray]:
    """Return who is right; the two are right and wrong together more often than by chance."""
    hard = rng.random(count)
    return (0.7 * hard + 0.3 * rng.random(count) < first), (0.7 * hard + 0.3 * rng.random(count) < second)


def test_the_interval_holds_the_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    first, second = draw(rng, 400_000, 0.8, 0.85)
    truth, held = second.mean() - first.mean(), []
    for _ in range(SIMULATIONS):
        found = paired_accuracies(*draw(rng, 200, 0.8, 0.85))
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) >= LOWEST


def test_so_many_examples_as_are_needed_tell_them_apart_four_times_of_five() -> None:
    rng = np.random.default_rng(2)
    needed = paired_accuracies(*draw(rng, 100_000, 0.8, 0.85)).needed
    assert needed is not None
    told = [paired_accuracies(*draw(rng, needed, 0.8, 0.85)).is_told for _ in range(SIMULATIONS)]
    assert np.mean(told) == pytest.approx(0.8, abs=0.03 if SIMULATIONS >= 1000 else 0.17)


def test_two_hundred_pictures_cannot_tell_090_from_093() -> None:
    right = np.zeros((2, 200), bool)
    right[0, :180] = right[1, 6:192] = True
    found = paired_accuracies(*right)
    assert (found.first, found.second) == (0.9, 0.93)
    assert not found.is_told
    assert told_apart(found).startswith("the 200 test examples cannot tell 0.9 from 0.93: +0.0300 (")
    assert found.needed is not None
    assert f"about {found.needed:,} would" in told_apart(found)


def test_equal_models_need_no_number() -> None:
    right = np.arange(50) > 4
    found = paired_accuracies(right, right)
    assert (found.difference, found.needed, found.is_told) == (0, None, False)
    assert told_apart(found).startswith("on the 50 test examples both have 0.9")


def test_more_examples_are_needed_than_have_not_told() -> None:
    found = paired_accuracies(np.zeros(1), np.ones(1))
    assert (found.is_told, found.needed) == (False, 2)
    assert paired_accuracies(np.zeros(5), np.ones(5)).needed == 5  # which have told
    found = paired_accuracies(np.arange(4) > 1, np.arange(4) > 0)
    assert not found.is_told
    assert found.needed is not None
    assert found.needed > 4


@pytest.fixture
def two(finished_run: Path, tmp_path: Path) -> list[RunFolder]:
    """A run, and one that is wrong on five examples where the first is right."""
    runs = [RunFolder(tmp_path / name) for name in ("first", "second")]
    for run in runs:
        shutil.copytree(finished_run, run.path)
    stored = dict(runs[1].predictions)
    right = np.flatnonzero(stored["outputs"].argmax(axis=1) == stored["y_true"])[:5]
    assert len(right) == 5
    stored["outputs"][right] = 1 - stored["outputs"][right]
    runs[1].write_predictions(**stored)
    return runs


def test_runs_are_compared_by_their_predictions(two: list[RunFolder]) -> None:
    found = difference(*two)
    assert found.paired is not None
    size = found.paired.examples
    assert size == len(two[0].predictions["y_true"])
    assert found.paired.difference == pytest.approx(-5 / size)
    assert set(found.by_output) == set(two[0].metrics["class_names"])
    assert found.intervals["test_accuracy"][0] == two[0].metrics["intervals"]["test"]["accuracy"]
    mean = paired_runs(two[:1], two)
    assert mean is not None
    assert mean.difference == pytest.approx(-2.5 / size)


def test_other_test_examples_do_not_compare(two: list[RunFolder]) -> None:
    stored = dict(two[1].predictions)
    stored["y_true"] = stored["y_true"][::-1]
    two[1].write_predictions(**stored)
    assert paired_runs(two[:1], two[1:]) is None


def test_other_test_pictures_with_the_same_labels_do_not_compare(two: list[RunFolder]) -> None:
    path = two[1].path / "identity.json"
    identity = json.loads(path.read_text())
    identity["drawn"]["test"] = "others"
    path.write_text(json.dumps(identity))
    assert paired_runs(two[:1], two[1:]) is None


def test_the_command_line_says_it(two: list[RunFolder], run_cli: Any) -> None:
    two[1].write_config({**two[1].config, "device": "gpu"}, [])
    places = [str(run.path) for run in two]
    for verb in ("diff", "compare"):
        done = run_cli(verb, *places)
        assert "test examples tell" in done.out or "test examples cannot tell" in done.out
    assert "at 95 %" in run_cli("diff", *places).out
    assert "test F1 by rank" in run_cli("compare", *places, "--classes").out
