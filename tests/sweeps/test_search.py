"""A search by Optuna: proposals, pruning, going on."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import TINY, Outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


# -- samplers --------------------------------------------------------------------------------------

SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "qmc": "QMCSampler",
    "cmaes": "CmaEsSampler",
    "gp": "GPSampler",
}


def rates(sweep: Sweep) -> list[float]:
    return [job.config["optimizer"]["learning_rate"] for job in sweep.jobs]


def go_on(sweep: Sweep, trials: int | None = None) -> Study:
    """Run what is left of a search, or the next few, the better the nearer to a rate of 0.05."""
    study = Study(Sweep.open(sweep.path), no_check)
    for count, number in enumerate(study.numbers(), start=1):
        rate = study.sweep.jobs[number].config["optimizer"]["learning_rate"]
        pretend(study.sweep, number, "done", 1 - abs(rate - 0.05))
        study.ended(number)
        if count == trials:
            break
    return study


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_sampler_that_is_asked_for_proposes(sampler: str, folder: Path) -> None:
    if sampler == "gp" and importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch")
    sweep = searched(folder, SPACE, "model.dropout=interval(0.0,0.5)", f"sweep.search.sampler={sampler}")
    study = go_on(sweep)
    assert type(study.study.sampler).__name__ == SAMPLERS[sampler]
    assert len(set(rates(study.sweep))) == 6
    attributes = [name for trial in study.study.get_trials() for name in trial.system_attrs]
    assert any(name.startswith("cma:") for name in attributes) == (sampler == "cmaes")


@pytest.mark.parametrize(("sampler", "module"), [("gp", "torch"), ("cmaes", "cmaes")])
def test_a_sampler_without_its_package_is_refused_before_anything_runs(
    sampler: str, module: str, monkeypatch: pytest.MonkeyPatch, run_cli: Cli, folder: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "cnnbench.system.startup.find_spec", lambda name: None if name == module else find(name)
    )
    outcome = run_cli("sweep=search", *TINY, f"sweep.search.sampler={sampler}", "run_dir=sweep")
    assert outcome.exit_code == 2
    assert f"sweep.search.sampler={sampler} needs {module}" in outcome.err
    assert f"pip install {module}" in outcome.err
    assert not (folder / "sweep").exists()


@pytest.mark.parametrize("sampler", ["cmaes", "qmc"])
def test_a_sampler_of_numbers_is_refused_where_there_are_only_choices(sampler: str) -> None:
    with pytest.raises(CnnbenchError, match="here are only choices"):
        plan.plan(["sweep=search", "model=mlp,cnn", f"sweep.search.sampler={sampler}"], None)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes"])
@pytest.mark.parametrize("before", [1, 2, 5])
def test_a_search_gone_on_with_proposes_what_it_would_have_without_a_break(
    sampler: str, before: int, folder: Path
) -> None:
    line = (SPACE, "model.dropout=interval(0.0,0.5)", f"sweep.search.sampler={sampler}")
    sweep = searched(folder, *line)
    shutil.copytree(sweep.path, folder / "broken")
    whole = go_on(sweep).sweep
    broken = Sweep.open(folder / "broken")
    go_on(broken, before)
    assert [job.config for job in go_on(broken).sweep.jobs] == [job.config for job in whole.jobs]
    assert len(set(rates(whole))) == 6


def test_what_was_proposed_and_not_stored_is_not_waited_for(folder: Path) -> None:
    sweep = searched(folder, SPACE)
    study = go_on(sweep, 2)
    study.study.ask()
    again = go_on(sweep)
    assert len(again.sweep.jobs) == 6
    assert [trial.state.name for trial in again.study.get_trials()] == ["COMPLETE"] * 2 + ["FAIL"] + [
        "COMPLETE"
    ] * 4


# -- a damaged study -------------------------------------------------------------------------------


def is_whole(study: Study) -> bool:
    """Whether Optuna knows every run of the search by its values and its result."""
    trials = {trial.number: trial for trial in study.study.get_trials()}
    return all(
        trials[job.trial or 0].params["optimizer.learning_rate"]
        == pytest.approx(job.config["optimizer"]["learning_rate"], rel=1e-5)
        and trials[job.trial or 0].value == pytest.approx(study.sweep.run_folder(job.number).metrics["value"])
        for job in study.sweep.jobs
    )


def cut(content: bytes) -> bytes:
    return content[:-15]


def halve(content: bytes) -> bytes:
    return content[: len(content) // 2]


def end_in_nothing(content: bytes) -> bytes:
    return content[:-200] + bytes(200)


def have_a_hole(content: bytes) -> bytes:
    return content[:700] + bytes(300) + content[1000:]


def lose_a_line(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(lines[:5] + lines[6:])


@pytest.mark.parametrize(
    "damage",
    [cut, halve, end_in_nothing, have_a_hole, lose_a_line, lambda content: b"", lambda content: b"5\n"],
)
def test_a_search_with_a_damaged_study_goes_on(
    damage: Callable[[bytes], bytes], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = searched(folder, SPACE)
    go_on(sweep, 4)
    journal = sweep.path / "study.jsonl"
    journal.write_bytes(damage(journal.read_bytes()))
    study = go_on(sweep)
    assert len(study.sweep.jobs) == 6
    assert len(set(rates(study.sweep))) == 6
    assert is_whole(study)
    assert any(record.levelno == logging.WARNING for record in caplog.records)
    caplog.clear()
    assert is_whole(go_on(sweep))
    assert not caplog.records


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search with three of four runs."""
    space = (SPACE, "model.dropout=interval(0.0,0.4)", "training.batch_size=16,32")
    sweep = searched(tmp_path_factory.mktemp("searched"), *space, trials=4)
    go_on(sweep, 3)
    return sweep.path


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_lost_of_a_study_the_search_goes_on(data: Any, half_done: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "sweep", ignore_errors=True)
    shutil.copytree(half_done, tmp_path / "sweep")
    sweep = Sweep.open(tmp_path / "sweep")
    journal = sweep.path / "study.jsonl"
    content = journal.read_bytes()
    places = st.integers(0, len(content))
    begin, end = sorted((data.draw(places), data.draw(places)))
    journal.write_bytes(content[:begin] + data.draw(st.binary(max_size=40)) + content[end:])
    study = go_on(sweep)
    assert len(study.sweep.jobs) == 4
    assert is_whole(study)


def test_a_study_that_cannot_be_opened_stays_where_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = searched(folder, SPACE)
    go_on(sweep, 2)
    before = (sweep.path / "study.jsonl").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cnnbench.sweeps.search._Journal.append_logs", full)
    with pytest.raises(OSError, match="No space"):
        go_on(sweep)
    assert (sweep.path / "study.jsonl").read_bytes() == before
    assert not (sweep.path / "study.damaged.jsonl").exists()


def test_nothing_is_appended_to_half_a_line(folder: Path) -> None:
    """As a run that was killed while it reported leaves it, while the search goes on."""
    sweep = searched(folder, SPACE)
    study = go_on(sweep, 2)
    job = study._propose()
    study.sweep.jobs.append(job)
    study.sweep.write()
    with (sweep.path / "study.jsonl").open("ab") as file:
        file.write(b'{"op_code":7,"worker')
    Reporter(study.sweep, job).epoch_ended({"epoch": 1, "val_accuracy": 0.5})
    rows = [json.loads(text) for text in (sweep.path / "study.jsonl").read_text().splitlines()]
    assert rows[-1]["intermediate_value"] == 0.5
    assert study.study.get_trials()[-1].intermediate_values == {1: 0.5}


def test_what_runs_reported_is_restored_with_them(folder: Path) -> None:
    sweep = searched(folder, SPACE, "model.dropout=interval(0.0,0.4)", "model=mlp,cnn")
    study = go_on(sweep, 3)
    for job in study.sweep.jobs:
        study.sweep.run_folder(job.number).append_history({"epoch": 1, "val_accuracy": 0.25})
    before = study.study.get_trials()
    (sweep.path / "study.jsonl").unlink()
    after = Study(Sweep.open(sweep.path), no_check).study.get_trials()
    assert [trial.intermediate_values for trial in after] == [{1: 0.25}] * 3
    for one, other in zip(before, after, strict=True):
        assert one.params == pytest.approx(other.params, rel=1e-5)
        assert one.distributions == other.distributions
        assert other.state == optuna.trial.TrialState.RUNNING


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
        (
            ("optimizer.learning_rate=interval(0.1,0.001)",),
            "sweep.search.space: optimizer.learning_rate: `low",
        ),
        (("sweep.search.space=[{key: training.batch_size, low: 8, high: 64, step: 0}]",), "`step"),
        (("sweep.search.space=[{key: seed, low: 0, high: 3}, {key: seed, low: 5, high: 9}]",), "seed twice"),
        (("run_dir=a,b",), "run_dir has several values"),
        (("sweep.search.sampler=best",), "sweep.search.sampler"),
        (("sweep.search.seed=-1",), "sweep.search.seed"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_runs(line: tuple[str, ...], words: str) -> None:
    with pytest.raises(CnnbenchError) as refused:
        plan.plan(["sweep=search", *line], None)
    assert words in str(refused.value)


def test_an_interval_needs_a_search() -> None:
    with pytest.raises(CnnbenchError, match="sweep=search"):
        plan.plan(["model.dropout=interval(0,0.5)"], None)


def test_a_real_search_ends_in_a_comparison_and_survives_a_kill(run_cli: Cli, folder: Path) -> None:
    data = [text for text in TINY if text != "training=smoke"]
    line = ("sweep=search", *data, SPACE, "training.epochs=3", "sweep.search.trials=3", "run_dir=sweep")
    command = [sys.executable, "-P", "-m", "cnnbench", *line]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    while not list(folder.glob("sweep/001*/history.csv")):
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    process.kill()
    process.wait()
    outcome = run_cli("resume", "sweep")
    assert outcome.exit_code == 0, outcome.err
    assert "of 3 runs are done" in outcome.out
    assert outcome.out.count("stopped early by the search") == ("pruned" in statuses(folder))
    assert len(statuses(folder)) == 3
    assert set(statuses(folder)) <= {"done", "pruned"}
    rows = [json.loads(text) for text in (folder / "sweep" / "study.jsonl").read_text().splitlines()]
    assert sum(row.get("op_code") == 7 for row in rows) >= 3  # values after epochs reached the study


def test_a_search_ends_in_time_and_counts_what_was_spent_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("cnnbench.sweeps.search.clock", lambda: now[0])
    sweep = searched(folder, SPACE, "sweep.search.minutes=10", trials=30)

    def make(study: Study, most: int) -> int:
        """Make runs of two minutes, each with 20 seconds of evaluation."""
        for count, number in enumerate(study.numbers()):
            if count == most:
                return count
            now[0] += 120
            run = sweep.run_folder(number)
            run.path.mkdir(exist_ok=True)
            cost = {"seconds": {"fit": 100.0, "evaluate": 20.0}}
            content = {"status": "done", "value": 0.5, "objective": "val_accuracy", "cost": cost}
            run.write_metrics(content)
            study.ended(number)
        return len(sweep.jobs)

    make(Study(sweep, no_check), most=2)  # and the process dies
    now[0] += 10_000  # a pause, which does not count
    sweep = Sweep.open(sweep.path)
    study = Study(sweep, no_check)
    begun = now[0]
    assert make(study, most=99) == 4  # a fifth would end when the time is over
    assert now[0] - begun <= 6 * 60
    assert sweep.timing["ends_at"] - sweep.timing["stop_at"] == 20
