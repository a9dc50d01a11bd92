"""A line typed again for a `run_dir` that holds something, as in CI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Outcome

from cnnbench.runs.folder import RunFolder
from cnnbench.sweeps.store import Sweep

Cli = Callable[..., Outcome]
LINE = (*TINY, "run_dir=again")


def written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}


def test_without_an_answer_it_is_refused_and_the_answers_are_named(run_cli: Cli, folder: Path) -> None:
    assert run_cli(*LINE).exit_code == 0
    before = written(folder / "again")
    outcome = run_cli(*LINE)
    assert outcome.exit_code == 2
    assert "run_dir_exists=resume or run_dir_exists=replace" in outcome.err
    assert written(folder / "again") == before


def test_a_run_that_is_done_is_shown_or_made_anew(run_cli: Cli, folder: Path) -> None:
    assert run_cli(*LINE).exit_code == 0
    before = written(folder / "again")
    shown = run_cli(*LINE, "run_dir_exists=resume")
    assert (shown.exit_code, "is done already" in shown.out) == (0, True)
    assert written(folder / "again") == before
    other = run_cli(*LINE, "seed=7", "run_dir_exists=resume")
    assert other.exit_code == 2
    assert "another seed (0, now 7)" in other.err
    assert "run_dir_exists=replace" in other.err
    assert written(folder / "again") == before
    assert run_cli(*LINE, "seed=7", "run_dir_exists=replace").exit_code == 0
    assert RunFolder(folder / "again").config["seed"] == 7
    assert "run_dir_exists" not in RunFolder(folder / "again").config


def test_a_run_that_was_killed_is_gone_on_with(run_cli: Cli, folder: Path) -> None:
    assert run_cli(*LINE).exit_code == 0
    (folder / "again" / "metrics.json").unlink()
    outcome = run_cli(*LINE, "run_dir_exists=resume")
    assert outcome.exit_code == 0, outcome.err
    assert RunFolder(folder / "again").status == "done"


def test_the_first_time_every_answer_just_runs(run_cli: Cli) -> None:
    for number, answer in enumerate(("error", "resume", "replace")):
        assert run_cli(*TINY, f"run_dir=new_{number}", f"run_dir_exists={answer}").exit_code == 0


@pytest.mark.parametrize("answer", ["resume", "replace"])
def test_files_that_are_no_run_stay(answer: str, run_cli: Cli, folder: Path) -> None:
    (folder / "again").mkdir()
    (folder / "again" / "thesis.txt").write_text("years")
    outcome = run_cli(*LINE, f"run_dir_exists={answer}")
    assert outcome.exit_code == 2
    assert "holds no run" in outcome.err
    assert (folder / "again" / "thesis.txt").read_text() == "years"


def test_a_run_at_work_is_not_removed(run_cli: Cli, folder: Path) -> None:
    assert run_cli(*LINE).exit_code == 0
    run = RunFolder(folder / "again")
    (run.path / "metrics.json").unlink()
    with run.held():
        outcome = run_cli(*LINE, "run_dir_exists=replace")
    assert outcome.exit_code == 2
    assert "another process is at work" in outcome.err
    assert run.has_run


def test_another_answer_is_refused_by_name(run_cli: Cli, folder: Path) -> None:
    outcome = run_cli(*LINE, "run_dir_exists=replac")
    assert outcome.exit_code == 2
    assert "did you mean replace?" in outcome.err
    assert not (folder / "again").exists()


def test_a_sweep_is_gone_on_with_or_made_anew(run_cli: Cli, folder: Path) -> None:
    line = ("-m", *TINY, "run_dir=sweep", "seed=0,1")
    assert run_cli(*line).exit_code == 0
    made = Sweep.open(folder / "sweep").run_folder(0).path
    before = written(made)
    again = run_cli(*line, "run_dir_exists=resume")
    assert (again.exit_code, "2 of 2 runs are done" in again.out) == (0, True)
    assert written(made) == before
    assert run_cli(*line[:-1], "seed=0,1,2", "run_dir_exists=resume").exit_code == 2
    assert run_cli(*line[:-1], "seed=5", "run_dir_exists=replace").exit_code == 0
    assert [path.name[-5:] for path in sorted((folder / "sweep").glob("0*"))] == ["seed5"]
