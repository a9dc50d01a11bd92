"""The page of a run that is under way, or has ended without a result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TINY, Outcome
from page_runs import CONFIG, write_failed

from cnnbench.reporting.page import progress
from cnnbench.reporting.page.progress import LivePage, progress_page
from cnnbench.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("pictures")
Cli = Callable[..., Outcome]
REFRESH = '<meta http-equiv="refresh" content="5">'


def entry(epoch: int, seconds: float = 4.0) -> dict[str, float]:
    figures = {"loss": 1 / epoch, "accuracy": 0.5, "val_loss": 2 / epoch, "val_accuracy": 0.25}
    return {"epoch": epoch, **figures, "seconds": seconds, "examples_per_second": 100.0}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config(CONFIG, ["seed=0"])
    return folder


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: self.now))


def under_way(run: RunFolder, epochs: int) -> LivePage:
    page = LivePage(run)
    page.started(SimpleNamespace(epochs=epochs))  # type: ignore[arg-type]
    return page


def ends(page: LivePage, run: RunFolder, epoch: int, seconds: float = 4.0) -> str | None:
    """End an epoch; return the page where it has been written."""
    run.report.unlink(missing_ok=True)
    run.append_history(entry(epoch, seconds))
    page.epoch_ended(entry(epoch, seconds))
    return run.report.read_text() if run.report.exists() else None


def test_a_long_run_has_a_page_from_its_first_epoch(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    live = under_way(run, 10)
    clock.now += 4
    page = ends(live, run, 1)
    assert page is not None
    for text in (
        REFRESH,
        "1 of 10",
        "36.0 s",
        "left, about",
        "val accuracy",
        "history-loss",
        "cnnbench resume ",
    ):
        assert text in page
    clock.now += 4
    assert ends(live, run, 2) is None  # a page every five seconds at most
    clock.now += 4
    assert "3 of 10" in (ends(live, run, 3) or "")


def test_a_page_costs_a_fiftieth_of_the_time_at_most(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    live = under_way(run, 100)

    def slow(*_: Any) -> str:
        clock.now += 1.0
        return "page"

    monkeypatch.setattr(progress, "progress_page", slow)
    written = []
    for epoch in range(1, 101):
        clock.now += 4
        written.append(ends(live, run, epoch) is not None)
    assert 7 <= sum(written) <= 10  # of some 400 s


def test_a_run_of_a_few_seconds_has_the_page_of_its_end_only(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    live = under_way(run, 3)
    for epoch in (1, 2, 3):
        clock.now += 2
        assert ends(live, run, epoch, seconds=2.0) is None


def test_a_page_that_cannot_be_written_ends_no_training(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> str:
        raise ValueError("no such chart")

    monkeypatch.setattr(progress, "progress_page", broken)
    with caplog.at_level(logging.WARNING):
        assert ends(under_way(run, 1000), run, 1) is None
    assert "could not be written: no such chart" in caplog.text


def test_a_failed_run_has_its_page_with_the_cause(tmp_path: Path) -> None:
    failed = write_failed(tmp_path / "failed", "the loss became nan in <epoch> 1")
    page = progress_page(failed, "failed")
    assert REFRESH not in page
    assert "the loss became nan in &lt;epoch&gt; 1" in page
    assert f"cnnbench resume {tmp_path}/failed" in page


def test_it_lies_in_the_folder_of_a_run_that_failed(run_cli: Cli, folder: Path) -> None:
    outcome = run_cli(*TINY, "optimizer=sgd", "optimizer.learning_rate=1e38", "run_dir=broken")
    assert outcome.exit_code == 1
    page = (folder / "broken" / "report.html").read_text()
    assert "the loss became " in page
    assert "In the stage fit." in page
    assert "it is under way" not in page
    reported = run_cli("report", "broken", "--output", "again.html")
    assert reported.exit_code == 0
    assert "the loss became " in (folder / "again.html").read_text()


def test_a_run_under_way_says_how_far_it_is(run: RunFolder) -> None:
    with run.held():
        assert run.reason == "it is under way, in its first epoch"
        run.append_history(entry(1))
        assert run.reason == (
            "it is under way, 1 epoch done: loss 1, accuracy 0.5, val_loss 2, val_accuracy 0.25"
        )
