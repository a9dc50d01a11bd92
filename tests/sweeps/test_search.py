"""A search by Optuna: proposals, pruning, going on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Outcome

from cnnbench.errors import CnnbenchError, PrunedRunError
from cnnbench.runs.folder import RunFolder
from cnnbench.sweeps import plan
from cnnbench.sweeps.search import Reporter, Study
from cnnbench.sweeps.store import Sweep

Cli = Callable[..., Outcome]
SPACE = "optimizer.learning_rate=tag(log,interval(1e-5,0.1))"


def searched(folder: Path, *line: str, trials: int = 6) -> Sweep:
    """A stored search whose runs nobody makes."""
    planned = plan.plan(["sweep=search", f"sweep.search.trials={trials}", *line], None)
    (folder / "sweep").mkdir()
    sweep = Sweep(folder / "sweep", [], {"name": "basic"}, "code", [], planned.search)
    sweep.write()
    return sweep


def pretend(sweep: Sweep, number: int, status: str, value: float | None = None) -> None:
    run = sweep.run_folder(number)
    run.path.mkdir(exist_ok=True)
    run.write_metrics({"status": status, "value": value, "objective": "val_accuracy"})


def statuses(folder: Path) -> list[str]:
    sweep = Sweep.open(folder / "sweep")
    return [RunFolder(sweep.path / job.folder).status for job in sweep.jobs]


def no_check(config: object) -> None: ...


def test_what_is_proposed_is_in_the_space_and_in_the_configs(folder: Path) -> None:
    space = (
        "model=mlp,cnn",
        "model.filters=[4],[8,8]",
        "training.batch_size=range(16,80,16)",
        "model.dropout=interval(0.0,0.3)",
    )
    sweep = searched(folder, *space, trials=20)
    study = Study(sweep, no_check)
    for number in study.numbers():
        pretend(sweep, number, "done", 0.5)
        study.ended(number)
    assert len(sweep.jobs) == 20
    for job in sweep.jobs:
        model = job.config["model"]
        assert job.config["training"]["batch_size"] in (16, 32, 48, 64)
        assert model["dropout"] <= 0.3
        if "filters" in model:  # which only the cnn has
            assert model["filters"] in ([4], [8, 8])
        assert any("model.filters" in text for text in job.overrides) == ("filters" in model)
    assert {"units", "filters"} & set().union(*(job.config["model"] for job in sweep.jobs)) == {
        "units",
        "filters",
    }
    assert Sweep.open(sweep.path).jobs == sweep.jobs


def test_it_learns_where_good_values_are(folder: Path) -> None:
    sweep = searched(folder, SPACE, trials=40)
    study = Study(sweep, no_check)
    rates = []
    for number in study.numbers():
        rate = sweep.jobs[number].config["optimizer"]["learning_rate"]
        rates.append(rate)
        pretend(sweep, number, "done", 1 - abs(rate - 0.05))
        study.ended(number)
    assert sum(abs(rate - 0.05) < 0.03 for rate in rates[20:]) > 5  # by chance it would be 2 or 3


def test_poor_runs_are_stopped_and_good_ones_go_on(folder: Path) -> None:
    line = ("training.epochs=9", "sweep.search.pruner=asha", "sweep.search.min_epochs=3")
    sweep = searched(folder, SPACE, *line, trials=9)
    study = Study(sweep, no_check)
    epochs = {}
    for number in study.numbers():
        reporter = Reporter(sweep, sweep.jobs[number])
        reporter.epochs = 9
        try:
            for epoch in range(1, 10):
                reporter.epoch_ended({"epoch": epoch, "val_accuracy": 0.9 - 0.1 * number + 0.001 * epoch})
            pretend(sweep, number, "done", 0.9)
        except PrunedRunError:
            pretend(sweep, number, "pruned")
        epochs[number] = epoch
        study.ended(number)
    assert epochs[0] == 9
    assert all(epochs[number] < 9 for number in range(2, 9))
    assert sweep.left() == []


def test_a_search_is_gone_on_with(folder: Path) -> None:
    sweep = searched(folder, SPACE, trials=4)
    numbers = Study(sweep, no_check).numbers()
    for status in ("done", "failed", "interrupted"):
        pretend(sweep, next(numbers), status, 0.5)
    again = Study(Sweep.open(sweep.path), no_check)  # none of the three was told before the machine died
    assert again.sweep.left() == [1, 2]
    taken = []
    for number in again.numbers():
        taken.append(number)
        pretend(again.sweep, number, "done", 0.6)
        again.ended(number)
    assert taken == [1, 2, 3]
    states = [trial.state.name for trial in again.study.get_trials()]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            ("sweep.search.space=[{key: optimizer.learning_rat, low: 0, high: 1}]",),
            "mean optimizer.learning_rate",
        ),
        (("model=interval(0,1)",), "model is a group, not a number"),
        (("model=cnn,mpl",), "did you mean mlp"),
        (("sweep.search.space=[{key: training.batch_size, low: 0, high: 8}]",), "batch_size"),
        (("sweep.search.space=[{key: training.batch_size, lo: 1, high: 8}]",), "sweep.search.space"),
        (("sweep.search.sampler=best",), "sweep.search.sampler"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_runs(line: tuple[str, ...], words: str) -> None:
    with pytest.raises(CnnbenchError) as refused:
        plan.plan(["sweep=search", *line], None)
    assert words in str(refused.value)


def test_an_interval_needs_a_search() -> None:
    with pytest.raises(CnnbenchError, match="sweep=search"):
        plan.plan(["model.dropout=interval(0,0.5)"], None)


def test_a_real_search_ends_in_a_comparison_and_survives_a_kill(run_process: Cli, folder: Path) -> None:
    data = [text for text in TINY if text != "training=smoke"]
    line = ("sweep=search", *data, SPACE, "training.epochs=3", "sweep.search.trials=3", "run_dir=sweep")
    command = [sys.executable, "-P", "-m", "cnnbench", *line]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    while not list(folder.glob("sweep/001*/history.csv")) and process.poll() is None:
        pass
    process.kill()
    process.wait()
    outcome = run_process("resume", "sweep")
    assert outcome.exit_code == 0, outcome.err
    assert "of 3 runs are done" in outcome.out
    assert outcome.out.count("stopped early by the search") == ("pruned" in statuses(folder))
    assert len(statuses(folder)) == 3
    assert set(statuses(folder)) <= {"done", "pruned"}
    rows = [json.loads(text) for text in (folder / "sweep" / "study.jsonl").read_text().splitlines()]
    assert sum(row.get("op_code") == 7 for row in rows) >= 3  # values after epochs reached the study
