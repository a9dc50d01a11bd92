"""A folder of runs kept in order: listed, tagged, noted, cleaned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome
from page_runs import write_failed, write_run

from cnnbench.runs.folder import RunFolder

Cli = Callable[..., Outcome]


@pytest.fixture
def outputs(folder: Path) -> Path:
    """Two groups of two seeds, a failure, and two sweeps: one with the best run of its kind, one without."""
    place = folder / "outputs"
    for seed in (0, 1):
        write_run(place / f"good_{seed}", 0.9 + seed / 100, seed, dropout=0.0)
        write_run(place / f"poor_{seed}", 0.5 + seed / 100, seed, dropout=0.5)
        write_run(place / "best_sweep" / f"00{seed}", 0.9 + seed / 100, seed + 2, dropout=0.0)
        write_run(place / "poor_sweep" / f"00{seed}", 0.4 + seed / 100, seed, dropout=0.7)
    write_run(place / "best_sweep" / "002", 0.3, 0, dropout=0.8)
    for sweep in ("best_sweep", "poor_sweep"):
        (place / sweep / "sweep.json").write_text("{}")
    write_failed(place / "failed", "no memory")
    return place


def answer(outcome: Outcome) -> dict[str, object]:
    assert outcome.exit_code == 0, outcome.err
    return dict(json.loads(outcome.out))


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_runs_are_listed_with_status_figure_and_tags(outputs: Path, run_cli: Cli) -> None:
    assert run_cli("tag", "good_1", "paper", "final").exit_code == 0
    assert run_cli("note", "outputs/good_1", "with", "the", "old", "data").exit_code == 0
    shown = run_cli("runs").out
    assert "outputs/failed" in shown
    lines = shown.splitlines()
    at = next(number for number, line in enumerate(lines) if "outputs/good_1" in line)
    assert lines[at].split()[1:3] == ["done", "0.91"]
    assert lines[at + 1].strip() == "#paper #final with the old data"
    listed = answer(run_cli("runs", "--tag", "paper", "--json"))["runs"]
    assert isinstance(listed, list)
    assert [run["folder"] for run in listed] == ["outputs/good_1"]
    assert listed[0]["tags"] == ["paper", "final"]
    failed = answer(run_cli("runs", "--status", "failed", "--json"))["runs"]
    assert isinstance(failed, list)
    assert [(run["status"], run["reason"]) for run in failed] == [("failed", "no memory")]


def test_tags_are_words_that_come_and_go(outputs: Path, run_cli: Cli) -> None:
    run = RunFolder(outputs / "good_0")
    run_cli("tag", "good_0", "a", "b")
    run_cli("tag", "good_0", "b", "c")
    assert run.remarks.tags == ("a", "b", "c")
    run_cli("tag", "good_0", "a", "--remove")
    run_cli("note", "good_0", "words")
    assert (run.remarks.tags, run.remarks.note) == (("b", "c"), "words")
    run_cli("note", "good_0", "")
    assert run.remarks.note == ""
    refused = run_cli("tag", "good_0", "two words")
    assert (refused.exit_code, "one word" in refused.err) == (2, True)
    (run.path / "remarks.json").write_text("{")
    assert run.remarks.tags == ()
    assert run_cli("runs").exit_code == 0


def test_a_tag_makes_no_run_the_latest(outputs: Path, run_cli: Cli) -> None:
    before = run_cli("runs").out
    assert run_cli("tag", "poor_0", "old").exit_code == 0
    first = [line.split()[0] for line in run_cli("runs").out.splitlines() if "outputs/" in line]
    assert first == [line.split()[0] for line in before.splitlines() if "outputs/" in line]


def test_clean_shows_and_removes_nothing(outputs: Path, run_cli: Cli) -> None:
    before = names(outputs)
    found = answer(run_cli("clean", "--json"))
    assert isinstance(found["runs"], list)
    assert {Path(one["path"]).name for one in found["runs"]} == {"poor_0", "poor_1", "poor_sweep", "failed"}
    assert found["removed"] is False
    assert names(outputs) == before
    shown = run_cli("clean").out
    assert "nothing was removed" in shown
    assert "others are better" in shown


def test_clean_keeps_the_best_the_tagged_and_whole_sweeps(outputs: Path, run_cli: Cli) -> None:
    run_cli("tag", "poor_1", "pinned")
    run_cli("tag", "outputs/poor_sweep/001", "why")
    assert run_cli("clean", "--runs").exit_code == 0
    assert names(outputs) == {"good_0", "good_1", "poor_1", "best_sweep", "poor_sweep"}
    assert names(outputs / "best_sweep") == {"000", "001", "002", "sweep.json"}


def test_clean_leaves_what_can_be_gone_on_with(outputs: Path, run_cli: Cli) -> None:
    (outputs / "poor_0" / "metrics.json").unlink()  # killed
    with RunFolder(outputs / "failed").held():  # at work again
        assert run_cli("clean", "--runs").exit_code == 0
    assert names(outputs) >= {"poor_0", "failed"}
    assert "poor_1" not in names(outputs)


def test_without_runs_there_is_a_line_to_type(folder: Path, run_cli: Cli) -> None:
    refused = run_cli("runs")
    assert (refused.exit_code, "cnnbench runs FOLDER" in refused.err) == (2, True)
    assert run_cli("clean").exit_code == 0
