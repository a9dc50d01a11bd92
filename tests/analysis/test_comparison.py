"""Many runs to a ranking, from run folders written by hand."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cnnbench.analysis.comparison import Comparison, Group, compare, comparison_rows
from cnnbench.reporting import columns, tables
from cnnbench.runs.folder import RunFolder

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
                "flops_per_example": 2000 * (1 + len(self.made)),
                "examples_per_second": 500.0,
                "latency_seconds": 0.002,
                "peak_memory_bytes": 1e9,
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
    Console(file=out, width=200).print(*tables.ranking_tables(comparison))
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
    assert group.cost == pytest.approx(
        {
            "parameters": 2000,
            "flops": 4000.0,
            "seconds": 11.0,
            "examples_per_second": 500.0,
            "latency": 0.002,
            "memory": 1e9,
        }
    )


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
    cosine = {"_target_": "cnnbench.nn.schedules.cosine", "initial_learning_rate": 0.1}
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


def test_where_a_search_stops_all_others_the_best_still_names_its_values(runs: Runs) -> None:
    runs.add(0.9, optimizer={**BASE["optimizer"], "learning_rate": 0.003})
    runs.add(0.0, status="pruned", optimizer={**BASE["optimizer"], "learning_rate": 0.1})
    runs.add(0.0, status="failed", training={"epochs": 1})  # nobody searched for that
    assert tables.answers(runs.compare()) == ["optimizer.learning_rate=0.003: val_accuracy 0.9 from one seed"]


def test_what_does_not_compare_is_ranked_apart(runs: Runs) -> None:
    for epochs, (value, objective) in enumerate(
        [(0.5, "val_accuracy"), (60.0, "val_rmse"), (0.75, "val_accuracy"), (50.0, "val_rmse")], start=1
    ):
        runs.add(value, objective, training={"epochs": epochs})
    comparison = runs.compare()
    shown = tables.ranking_tables(comparison)
    assert [table.title for table in shown] == ["ranking by val_accuracy", "ranking by val_rmse"]
    assert [
        [group.mean for group in comparison.groups if group.objective == objective]
        for objective in ("val_accuracy", "val_rmse")
    ] == [[0.75, 0.5], [50.0, 60.0]]
    assert [table.row_count for table in shown] == [2, 2]


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
    assert [record.folder for record in comparison.apart] == [*bad, running]
    lines = tables.apart_lines(comparison)
    assert lines == [
        f"failed: {bad[0].path}  no memory",
        f"interrupted: {bad[1].path}  no memory",
        f"unfinished: {running.path}  {running.last_words}",
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
    assert " accuracy " in text
    for shown in ("0.6250 ± 0.18", "0.5000", "1,500", "10.5 s", "500"):
        assert shown in first, shown
    assert "0.2500" in second
    assert "±" not in second


def test_the_table_of_a_regression_shows_its_test_rmse(runs: Runs) -> None:
    runs.add(0.5, "val_rmse")
    assert " rmse " in rendered(runs.compare())


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


# -- beside the best -----------------------------------------------------------------------------


def three_seeds(runs: Runs, *values: float, objective: str = "val_accuracy", **config: Any) -> None:
    for seed, value in enumerate(values):
        runs.add(value, objective, seed=seed, **config)


def test_only_what_all_others_are_worse_than_is_the_best(runs: Runs) -> None:
    three_seeds(runs, 0.90, 0.92, 0.91, training={"epochs": 1})
    (alone,) = runs.compare().rankings[0].groups
    assert columns.verdict(alone, [alone]) == "the only one"
    three_seeds(runs, 0.60, 0.61, 0.60, training={"epochs": 3})
    groups = runs.compare().rankings[0].groups
    assert columns.verdict(groups[0], groups) == "best"


def test_the_interval_of_a_share_lies_between_0_and_1(runs: Runs) -> None:
    three_seeds(runs, 0.999, 0.99, 0.95)
    (group,) = runs.compare().rankings[0].groups
    assert group.mean + group.half_width > 1
    low, high = group.interval
    assert 0 < low < group.mean < high < 1
    share = group.mean * (1 - group.mean)
    assert math.log(high / (1 - high)) - math.log(low / (1 - low)) == pytest.approx(
        2 * group.half_width / share
    )


def test_the_interval_of_an_error_is_students(runs: Runs) -> None:
    for seed, value in enumerate((0.5, 0.7, 0.6)):
        runs.add(value, "val_rmse", seed=seed)
    (group,) = runs.compare().rankings[0].groups
    assert group.interval == (group.mean - group.half_width, group.mean + group.half_width)


def test_each_group_is_said_to_be_worse_or_not_distinguishable(runs: Runs) -> None:
    three_seeds(runs, 0.90, 0.92, 0.91, training={"epochs": 1})
    three_seeds(runs, 0.91, 0.91, 0.92, training={"epochs": 2})
    three_seeds(runs, 0.60, 0.61, 0.60, training={"epochs": 3})
    runs.add(0.5, training={"epochs": 4})
    ranking = runs.compare().rankings[0]
    assert ranking.test == "Tukey's test, paired by seed"
    said = [columns.verdict(group, ranking.groups) for group in ranking.groups]
    assert said[0] == "first"  # not the best: the second is not worse
    assert re.fullmatch(r"not distinguishable \(p = 0\.\d+\)", said[1])
    assert re.fullmatch(r"worse by 0\.31 ± 0\.0\d+", said[2])
    assert said[3] == "one run"
    (sentence,) = tables.answers(runs.compare())
    assert sentence.startswith("no single best: training.epochs=2 leads with val_accuracy 0.91")
    assert sentence.endswith("; 1 not tested (one run): more seeds would tell; 1 is worse")
    assert "worse by: difference ± half of its 95 % interval" in rendered(runs.compare())


def test_a_seed_that_was_run_twice_is_no_second_piece_of_evidence(runs: Runs) -> None:
    for value in (0.5, 0.5, 0.75):
        runs.add(value, seed=0 if value == 0.5 else 1)
    (group,) = runs.groups
    assert group.by_seed == {0: 0.5, 1: 0.75}
    assert group.mean == 0.625
    assert len(group.runs) == 3


def test_the_front_is_what_nothing_beats_at_its_cost(runs: Runs) -> None:
    """Every run made here costs more than the one before."""
    for epochs, value in enumerate([0.5, 0.75, 0.625, 0.75, 0.875], start=1):
        runs.add(value, training={"epochs": epochs})
    comparison = runs.compare()
    assert {group.mean for group in comparison.groups if group.on_front} == {0.5, 0.75, 0.875}
    assert sum(group.on_front for group in comparison.groups) == 3  # 0.75 once: the second costs more
    marked = [line for line in rendered(comparison).splitlines() if "◆ " in line and "no other" not in line]
    assert len(marked) == 3


def test_a_small_value_may_be_on_the_front(runs: Runs) -> None:
    for epochs, value in enumerate([3.0, 4.0, 2.0], start=1):
        runs.add(value, "val_rmse", training={"epochs": epochs})
    assert [group.mean for group in runs.groups if group.on_front] == [2.0, 3.0]


def test_the_front_is_by_the_cost_that_is_asked_for(runs: Runs) -> None:
    runs.add(0.5)
    runs.add(0.75, training={"epochs": 2})
    assert len([g for g in compare(runs.made, "parameters").groups if g.on_front]) == 2
    assert [g.mean for g in compare(runs.made, "latency").groups if g.on_front] == [0.75]  # the same for both
    for cost, text in (("latency", "faster for one example"), ("seconds", "cheaper to train")):
        assert f"◆ no other is both better and {text}" in rendered(compare(runs.made, cost))


def test_data_sets_are_ranked_apart_and_it_is_said(runs: Runs) -> None:
    digits = {"_target_": "cnnbench.data.sources.digits.digits", "examples": 100}
    runs.add(0.5, dataset=digits)
    runs.add(0.75, dataset={**digits, "examples": 200})
    comparison = runs.compare()
    names = ["digits (examples=100)", "digits (examples=200)"]
    assert [ranking.dataset for ranking in comparison.rankings] == names
    assert [table.title for table in tables.ranking_tables(comparison)] == [
        f"ranking by val_accuracy on {name}" for name in names
    ]
    assert tables.answers(comparison)[-1].startswith("objectives and data sets are ranked apart")


# -- the answer ----------------------------------------------------------------------------------


def test_the_answer_names_what_does_as_well_for_less(runs: Runs) -> None:
    three_seeds(runs, 0.91, 0.91, 0.92, model=MLP)
    three_seeds(runs, 0.92, 0.93, 0.91, model=CNN)
    (sentence,) = tables.answers(runs.compare())
    assert sentence.startswith(
        "no difference shown: model=cnn leads with val_accuracy 0.92 ± 0.01 over 3 seeds; model=mlp is not "
    )
    assert re.search(r"\(p = 0\.\d+\) and 1\.3 × faster to train$", sentence)


def test_the_answer_says_when_all_others_are_worse(runs: Runs) -> None:
    for epochs, level in enumerate([0.5, 0.625, 0.75], start=1):
        three_seeds(runs, level, level + 0.01, level + 0.011 + epochs / 1000, training={"epochs": epochs})
    (sentence,) = tables.answers(runs.compare())
    assert sentence.startswith("training.epochs=3 is best with val_accuracy 0.758")
    assert sentence.endswith("; all 2 others are worse")


def test_the_answer_of_one_seed_says_that_it_is_no_answer(runs: Runs) -> None:
    runs.add(0.5, model=MLP)
    runs.add(0.75, model=CNN)
    assert tables.answers(runs.compare()) == [
        "no difference shown: model=cnn leads with val_accuracy 0.75 from one seed; 1 not tested (one run): "
        "more seeds would tell"
    ]


def test_the_answer_without_a_finite_figure(runs: Runs) -> None:
    runs.add(math.nan)
    assert tables.answers(runs.compare()) == ["no run has a finite val_accuracy"]


# -- damaged folders -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", '{"status": "done", "obj'),
        ("metrics.json", '{"status": "done"}'),
        ("metrics.json", "[]"),
        ("config.yaml", "model: [1, 2"),
        ("config.yaml", ""),
    ],
)
def test_a_damaged_run_does_not_stop_the_others(runs: Runs, name: str, text: str) -> None:
    good, bad = runs.add(0.5), runs.add(0.75, training={"epochs": 1})
    (bad.path / name).write_text(text)
    comparison = runs.compare()
    assert [list(group.runs) for group in comparison.groups] == [[good]]
    assert [record.folder for record in comparison.apart] == [bad]
    (line,) = tables.apart_lines(comparison)
    assert str(bad.path) in line
    assert line.startswith(("unreadable: ", "unfinished: "))


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def some(runs: Runs) -> Runs:
    three_seeds(runs, 0.5, 0.625, 0.5, model=MLP)
    three_seeds(runs, 0.75, 0.875, 0.75, model=CNN)
    three_seeds(runs, 0.25, 0.5, 0.25, model=CNN, training={"epochs": 1})
    return runs


def groups_of(out: str) -> list[dict[str, Any]]:
    return [group for ranking in json.loads(out)["rankings"] for group in ranking["groups"]]


@pytest.mark.parametrize(
    ("filters", "means"),
    [
        (["model=mlp"], [0.5417]),
        (["model=cnn", "training.epochs=20"], [0.7917]),
        (["training.epochs=1,20"], [0.7917, 0.5417, 0.3333]),
        (["training.epochs=1.0"], [0.3333]),
        (["model.filters=[32, 64],[5]"], [0.7917, 0.3333]),
        (["seed=1"], [0.875, 0.625, 0.5]),
    ],
)
def test_filters_choose_runs(some: Runs, run_cli: Any, filters: list[str], means: list[float]) -> None:
    arguments = [text for filter_ in filters for text in ("--filter", filter_)]
    outcome = run_cli("compare", str(some.folder), *arguments, "--json", "-")
    assert [group["mean"] for group in groups_of(outcome.out)] == pytest.approx(means, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--filter", "modle=cnn"], "no run has the config key modle"),
        (["--filter", "modle=cnn"], "did you mean model?"),
        (["--filter", "model"], "cannot read the filter 'model'"),
        (["--filter", "model=vgg"], "model is one of: cnn, mlp"),
        (["--sort", "test_acuracy"], "did you mean test_accuracy?"),
        (["--csv", "no/where.csv"], "cannot write no/where.csv"),
        (["objective=test_accuracy"], "compare takes no objective: it is fixed when runs are made"),
        (["--objective", "test_accuracy"], "compare … --sort test_accuracy"),
    ],
)
def test_a_wrong_option_is_one_line(some: Runs, run_cli: Any, arguments: list[str], message: str) -> None:
    outcome = run_cli("compare", str(some.folder), *arguments)
    assert outcome.exit_code == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("key", "ranks"),
    [("val_accuracy", [1, 2, 3]), ("test_accuracy", [1, 2, 3]), ("seconds", [2, 1, 3]), ("model", [1, 3, 2])],
)
def test_groups_are_shown_by_any_column(some: Runs, run_cli: Any, key: str, ranks: list[int]) -> None:
    outcome = run_cli("compare", str(some.folder), "--sort", key, "--json", "-")
    assert [group["rank"] for group in groups_of(outcome.out)] == ranks
    said = f"sorted by {key}; tests and p are of val_accuracy"
    assert (said in run_cli("compare", str(some.folder), "--sort", key).out) == (key != "val_accuracy")


def test_json_has_every_run_and_csv_every_group(some: Runs, run_cli: Any, folder: Path) -> None:
    failed = some.add(0.0, status="failed")
    outcome = run_cli("compare", str(some.folder), "--json", "all.json", "--csv", "all.csv")
    assert "is best" in outcome.out
    content = json.loads((folder / "all.json").read_text())
    (ranking,) = content["rankings"]
    best = ranking["groups"][0]
    assert ranking["test"] == "Tukey's test, paired by seed"
    assert [(run["seed"], run["value"]) for run in best["runs"]] == [(0, 0.75), (1, 0.875), (2, 0.75)]
    assert best["verdict"]["p"] is None
    assert content["apart"] == [{"path": str(failed.path), "status": "failed", "reason": "no memory"}]
    rows = list(csv.DictReader((folder / "all.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["cnn", "mlp", "cnn"]
    assert [float(row["mean"]) for row in rows] == pytest.approx([0.7917, 0.5417, 0.3333], abs=1e-4)
    assert rows[0]["p"] == ""
    assert 0 < float(rows[1]["p"]) < 1


def test_csv_on_standard_output_is_nothing_else(some: Runs, run_cli: Any) -> None:
    outcome = run_cli("compare", str(some.folder), "--csv", "-")
    rows = list(csv.DictReader(outcome.out.splitlines()))
    assert len(rows) == 3
    assert None not in rows[0]


def test_rows_are_flat_and_json_has_no_nan(some: Runs) -> None:
    some.add(0.25, model=MLP, training={"epochs": 2})
    comparison = some.compare()
    rows = comparison_rows(comparison)
    assert [(row["model"], row["rank"]) for row in rows] == [("cnn", 1), ("mlp", 2), ("cnn", 3), ("mlp", 4)]
    assert all(not isinstance(value, Mapping) for row in rows for value in row.values())
    assert rows[0]["mean"] == comparison.groups[0].mean
    assert {"objective", "dataset", "p", "test_accuracy", "seconds", "training.epochs"} <= set(rows[0])
    content = tables.comparison_as_json(comparison)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["rankings"][0]["groups"][3]["deviation"] is None


def test_nothing_is_called_best_beside_what_is_not_distinguishable(runs: Runs) -> None:
    three_seeds(runs, 0.91, 0.91, 0.92, model=MLP)
    three_seeds(runs, 0.92, 0.93, 0.91, model=CNN)
    (sentence,) = tables.answers(runs.compare())
    assert "not distinguishable" in sentence
    assert "best" not in sentence


# ---------------------------------------------------------------- places

PICTURES = {"_target_": "cnnbench.data.images.folder.image_folder", "size": 16, "cache_dir": None}


def with_metrics(run: RunFolder, **more: Any) -> None:
    run.write_metrics({**run.metrics, **more})


def test_the_same_data_in_two_places_are_one_group(runs: Runs) -> None:
    for seed, root in enumerate(["/disk/pictures", "/other/pictures"]):
        dataset = {**PICTURES, "root": root, "cache_dir": f"/cache/{seed}"}
        with_metrics(runs.add(0.5, seed=seed, dataset=dataset, plugins=[f"/{seed}/mine.py"]), data="abc")
    (ranking,) = runs.compare().rankings
    (group,) = ranking.groups
    assert len(group.runs) == 2


def test_other_data_in_one_place_are_ranked_apart(runs: Runs) -> None:
    for digest in ("abcdefghij", "klmnopqrst"):
        with_metrics(runs.add(0.5, dataset={**PICTURES, "root": "/disk/pictures"}), data=digest)
    assert [ranking.dataset for ranking in runs.compare().rankings] == [
        "image_folder, data abcdefgh",
        "image_folder, data klmnopqr",
    ]


def test_without_a_fingerprint_another_place_is_other_data(runs: Runs) -> None:
    for root in ("/disk/pictures", "/other/pictures"):
        runs.add(0.5, dataset={**PICTURES, "root": root})
    assert len(runs.compare().rankings) == 2


def test_files_of_weights_are_told_apart_by_their_content(runs: Runs) -> None:
    transfer = {"_target_": "cnnbench.models.transfer.transfer", "backbone": "MobileNetV2"}
    for seed, (place, content) in enumerate([("/a/w.h5", "one"), ("/b/w.h5", "one"), ("/b/w.h5", "two")]):
        run = runs.add(0.5, seed=seed, model={**transfer, "weights": place})
        with_metrics(run, weights={"model.weights": content})
    assert sorted(len(group.runs) for group in runs.groups) == [1, 2]


@pytest.mark.parametrize("width", [58, 64, 80, 100, 130, 170])
def test_a_ranking_has_no_number_that_is_cut_or_broken(runs: Runs, width: int) -> None:
    three_seeds(runs, 0.90, 0.92, 0.91, training={"epochs": 1})
    three_seeds(runs, 0.90, 0.91, 0.915, training={"epochs": 20000})
    (table,) = tables.ranking_tables(runs.compare(), width)
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    assert all(len(line.rstrip()) <= width for line in out.getvalue().splitlines())
    for text in ("training.epochs", "20000", "0.9100 ± 0.01", "0.9083 ± 0.0076", "val_accuracy", "◆ 1"):
        assert text in out.getvalue()
    assert "…" not in out.getvalue()
    headings = [str(column.header).replace("\n", " ") for column in table.columns]
    said = " ".join(str(table.caption).split())
    for heading in ("runs", "95 % interval", "test accuracy", "parameters", "training", "memory"):
        assert (heading in headings) != (f"{heading}," in said or f"{heading}:" in said)
