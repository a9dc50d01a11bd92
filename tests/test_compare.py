"""Many runs to a ranking, from run folders written by hand."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cnnbench import report
from cnnbench.compare import Comparison, Group, compare
from cnnbench.results import RunFolder

CNN = {"_target_": "cnnbench.models.cnn.cnn", "filters": [32, 64], "dropout": 0.0}
MLP = {"_target_": "cnnbench.models.mlp.mlp", "units": [128], "dropout": 0.0}
BASE: Mapping[str, Any] = {
    "seed": 0,
    "run_dir": None,
    "data_dir": None,
    "model": CNN,
    "optimizer": {"_target_": "keras.optimizers.Adam", "learning_rate": 0.001},
    "training": {"epochs": 20},
}


class Runs:
    """Run folders below one folder, in the order in which they are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[RunFolder] = []

    def add(
        self,
        value: float,
        objective: str = "val_accuracy",
        status: str = "done",
        overrides: Sequence[str] = (),
        **config: Any,
    ) -> RunFolder:
        run = RunFolder.create(self.folder / f"run_{len(self.made)}")
        run.write_config({**BASE, "run_dir": str(run.path), **config}, overrides)
        metric = objective.partition("_")[2]
        metrics: dict[str, Any] = {
            "status": status,
            "name": "cnn_digits",
            "objective": objective,
            "value": value,
            "metrics": {"val": {metric: value}, "test": {metric: value - 0.125, "loss": 1.0}},
            "cost": {
                "parameters": 1000 * (1 + len(self.made)),
                "seconds": {"fit": 10.0 + len(self.made)},
                "examples_per_second": 500.0,
            },
        }
        if status != "done":
            metrics = {"status": status, "reason": "no memory"}
            run.write_failure({"status": status, "cause": "no memory"})
        run.write_metrics(metrics)
        self.made.append(run)
        return run

    def compare(self) -> Comparison:
        return compare(self.made)

    @property
    def groups(self) -> list[Group]:
        return list(self.compare().groups)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def rendered(comparison: Comparison) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(*report.rankings(comparison))
    return out.getvalue()


def test_seeds_run_folders_and_data_folders_are_no_difference(runs: Runs) -> None:
    for seed, value in enumerate([0.5, 0.75, 1.0]):
        runs.add(value, seed=seed, data_dir=f"somewhere/{seed}")
    (group,) = runs.groups
    assert list(group.values) == [0.5, 0.75, 1.0]
    assert list(group.runs) == runs.made
    assert group.mean == pytest.approx(0.75)
    assert group.deviation == pytest.approx(statistics.stdev([0.5, 0.75, 1.0])) == pytest.approx(0.25)
    assert group.test == pytest.approx({"accuracy": 0.625, "loss": 1.0})
    assert group.cost == pytest.approx({"parameters": 2000, "seconds": 11.0, "examples_per_second": 500.0})


def test_one_run_has_no_deviation(runs: Runs) -> None:
    runs.add(0.5)
    assert math.isnan(runs.groups[0].deviation)


def test_only_the_keys_that_differ_tell_groups_apart(runs: Runs) -> None:
    runs.add(0.5, training={"epochs": 5})
    runs.add(0.75, model={**CNN, "dropout": 0.5})
    assert [dict(group.differs) for group in runs.groups] == [
        {"model.dropout": 0.5, "training.epochs": 20},
        {"model.dropout": 0.0, "training.epochs": 5},
    ]


def test_lists_are_compared_by_what_is_in_them(runs: Runs) -> None:
    runs.add(0.5, model={**CNN, "filters": [32, 64]}, seed=0)
    runs.add(0.5, model={**CNN, "filters": [32, 64]}, seed=1)
    runs.add(0.25, model={**CNN, "filters": [64]})
    assert [dict(group.differs) for group in runs.groups] == [
        {"model.filters": [32, 64]},
        {"model.filters": [64]},
    ]


def test_another_option_is_one_column_with_its_name(runs: Runs) -> None:
    runs.add(0.5, model=CNN)
    runs.add(0.75, model=MLP)
    assert [dict(group.differs) for group in runs.groups] == [{"model": "mlp"}, {"model": "cnn"}]


def test_groups_never_look_the_same(runs: Runs) -> None:
    """`-m model=cnn,mlp model.dropout=0,0.5`: the option's name alone does not tell four groups apart."""
    for model in (CNN, MLP):
        for dropout in (0.0, 0.5):
            runs.add(0.5, model={**model, "dropout": dropout})
    shown = [str(dict(group.differs)) for group in runs.groups]
    assert len(shown) == len(set(shown)) == 4


def test_a_group_without_a_target_is_not_shown_as_None(runs: Runs) -> None:
    """`loss=auto` names no class, and a constant learning rate is a number."""
    cosine = {"_target_": "cnnbench.schedules.cosine", "initial_learning_rate": 0.1}
    adam = BASE["optimizer"]
    runs.add(0.75, optimizer={**adam, "learning_rate": cosine})
    runs.add(0.5, optimizer={**adam, "learning_rate": 0.001})
    assert [dict(group.differs) for group in runs.groups] == [
        {"optimizer.learning_rate": "cosine"},
        {"optimizer.learning_rate": 0.001},
    ]


@pytest.mark.parametrize(
    ("objective", "order"),
    [
        ("val_accuracy", [0.75, 0.5, 0.25]),
        ("val_f1_macro", [0.75, 0.5, 0.25]),
        ("test_r2", [0.75, 0.5, 0.25]),
        ("val_rmse", [0.25, 0.5, 0.75]),
        ("val_loss", [0.25, 0.5, 0.75]),
    ],
)
def test_the_best_comes_first(runs: Runs, objective: str, order: list[float]) -> None:
    for epochs, value in enumerate([0.5, 0.75, 0.25], start=1):
        runs.add(value, objective, training={"epochs": epochs})
    assert [group.mean for group in runs.groups] == order


def test_groups_are_ranked_by_their_mean_and_not_by_their_best_run(runs: Runs) -> None:
    for seed, value in enumerate([0.25, 1.0]):
        runs.add(value, seed=seed, training={"epochs": 1})
    for seed, value in enumerate([0.75, 0.75]):
        runs.add(value, seed=seed, training={"epochs": 2})
    assert [group.mean for group in runs.groups] == [0.75, 0.625]


def test_what_does_not_compare_is_ranked_apart(runs: Runs) -> None:
    for epochs, (value, objective) in enumerate(
        [(0.5, "val_accuracy"), (60.0, "val_rmse"), (0.75, "val_accuracy"), (50.0, "val_rmse")], start=1
    ):
        runs.add(value, objective, training={"epochs": epochs})
    comparison = runs.compare()
    tables = report.rankings(comparison)
    assert [table.title for table in tables] == ["ranking by val_accuracy", "ranking by val_rmse"]
    assert [
        [group.mean for group in comparison.groups if group.objective == objective]
        for objective in ("val_accuracy", "val_rmse")
    ] == [[0.75, 0.5], [50.0, 60.0]]
    assert [table.row_count for table in tables] == [2, 2]


def test_more_differences_than_fit_side_by_side_are_told_as_they_were_typed(runs: Runs) -> None:
    wide = {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}
    runs.add(0.5, overrides=["+wide=one", "seed=3"], wide=wide)
    runs.add(0.75, overrides=["+wide=two", "seed=4"], wide=dict.fromkeys(wide, 2))
    text = rendered(runs.compare())
    assert "overrides" in text
    assert "+wide=one" in text
    assert "+wide=two" in text
    assert "seed=" not in text
    assert "wide.a" not in text


def test_runs_without_figures_are_kept_apart_with_their_cause(runs: Runs) -> None:
    good = runs.add(0.5)
    bad = [runs.add(0.0, status=status, training={"epochs": 1}) for status in ("failed", "interrupted")]
    running = RunFolder.create(runs.folder / "running")
    running.write_config(BASE, [])
    comparison = compare([good, *bad, running])
    assert [list(group.runs) for group in comparison.groups] == [[good]]
    assert list(comparison.others) == [*bad, running]
    lines = report.unfinished(comparison)
    assert lines == [
        f"failed: {bad[0].path}  no memory",
        f"interrupted: {bad[1].path}  no memory",
        f"unfinished: {running.path}  no cause recorded",
    ]


def test_nothing_finished_is_no_group(runs: Runs) -> None:
    runs.add(0.0, status="failed")
    assert runs.groups == []


def test_the_table_has_rank_difference_mean_and_deviation_and_cost(runs: Runs) -> None:
    for seed, value in enumerate([0.5, 0.75]):
        runs.add(value, seed=seed, model=MLP)
    runs.add(0.25, model=CNN)
    text = rendered(runs.compare())
    lines = text.splitlines()
    first = next(line for line in lines if "mlp" in line)
    second = next(line for line in lines if "cnn" in line)
    assert lines.index(first) < lines.index(second)
    assert "ranking by val_accuracy" in text
    assert "test accuracy" in text
    for shown in ("0.6250 ± 0.1768", "0.5000", "1,500", "10.5 s", "500"):
        assert shown in first, shown
    assert "0.2500" in second
    assert "±" not in second


def test_the_table_of_a_regression_shows_its_test_rmse(runs: Runs) -> None:
    runs.add(0.5, "val_rmse")
    assert "test rmse" in rendered(runs.compare())


def test_a_value_with_brackets_is_text_in_the_table(runs: Runs) -> None:
    runs.add(0.5, model={**CNN, "filters": ["[bold]"]})
    runs.add(0.5, model={**CNN, "filters": [1]})
    assert "['[bold]']" in rendered(runs.compare())


@pytest.mark.parametrize("objective", ["val_accuracy", "val_rmse"])
def test_a_figure_that_is_not_finite_neither_stops_the_ranking_nor_wins_it(
    runs: Runs, objective: str
) -> None:
    runs.add(math.nan, objective, training={"epochs": 1})
    runs.add(0.5, objective, training={"epochs": 2})
    best, last = runs.groups
    assert best.mean == 0.5
    assert math.isnan(last.mean)
    assert math.isnan(last.test[objective.partition("_")[2]])
    assert "nan" not in rendered(runs.compare())
