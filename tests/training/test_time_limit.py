"""A run whose minutes are limited: what is planned, kept and said, by a clock that moves when it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Outcome

from cnnbench import api
from cnnbench.nn import load_checkpoint
from cnnbench.runs import RunFolder, budget
from cnnbench.runs.spec import FineTuning, RunSpec
from cnnbench.training import fit, run

Cli = Callable[..., Outcome]
LINE = (
    *TINY,
    "training.epochs=50",
    "training.batch_size=16",
    "training.steps_per_execution=1",
    "optimizer/learning_rate=cosine",
    "deterministic=true",
    "callbacks=checkpoint",
)


class Clock:
    """Seconds that pass whenever somebody looks at them, `step` each time."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock(0.5)
    monkeypatch.setattr(budget, "clock", made)
    return made


def spec_of(folder: Path, name: str, *line: str) -> RunSpec:
    return replace(api.compose(*LINE, *line), run_dir=folder / name)


def made(spec: RunSpec, **keywords: Any) -> tuple[dict[str, Any], RunFolder]:
    result = run.run(spec, **keywords)
    return dict(result.metrics), RunFolder(result.folder)


def test_a_plan_is_kept_and_the_line_that_it_names_repeats_it(
    folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="cnnbench"):
        found, limited = made(spec_of(folder, "limited", "training.max_minutes=2"))
    assert 1 <= found["epochs"] < 50
    assert found["budget"]["planned_epochs"][0] <= found["epochs"]
    assert "stopped_by" not in found
    assert limited.environment["budget"]["epochs"] == [found["epochs"]]
    assert limited.config["training"]["epochs"] == 50  # what was asked for, by which runs are compared
    told = next(text for text in caplog.messages if "the same again" in text)
    again = told.rpartition("speed: ")[2].split()
    repeated, other = made(spec_of(folder, "repeated", *again))
    assert repeated["metrics"] == found["metrics"]
    models = (load_checkpoint(one.best_model) for one in (limited, other))
    for one, two in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_resumed_run_keeps_its_plan_and_counts_what_was_used(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(api.runs.Observer):
        def epoch_started(self, epoch: int) -> None:
            if epoch == 2:
                raise RuntimeError("crashed")

    spec = spec_of(folder, "run", "training.max_minutes=2")
    with pytest.raises(RuntimeError, match="crashed"):
        run.run(spec, Crash())
    planned = RunFolder(folder / "run").environment["budget"]
    monkeypatch.setattr(fit, "phase_speeds", lambda *_: pytest.fail("timed again"))
    found, after = made(spec, resume=True)
    assert after.environment["budget"] == planned
    assert found["epochs"] == planned["epochs"][0]
    assert found["budget"]["seconds"] > planned["before"]


def test_a_plan_without_the_phase_that_waits_for_examples_is_resumed(folder: Path, clock: Clock) -> None:
    class Crash(api.runs.Observer):
        def epoch_started(self, epoch: int) -> None:
            if epoch == 2:
                raise RuntimeError("crashed")

    spec = spec_of(folder, "run", "training.max_minutes=2")
    tuning = FineTuning(from_layer="half", epochs=3, learning_rate=0.001, from_examples=2000)
    spec = replace(spec, training=spec.training.model_copy(update={"fine_tuning": tuning}))
    with pytest.raises(RuntimeError, match="crashed"):
        run.run(spec, Crash())
    found, after = made(spec, resume=True)
    assert [found["epochs"]] == after.environment["budget"]["epochs"]


def test_a_machine_that_turns_slower_still_ends_in_time_with_a_result(folder: Path, clock: Clock) -> None:
    class Slower(api.runs.Observer):
        def epoch_started(self, epoch: int) -> None:
            clock.step = 20.0

    found, after = made(spec_of(folder, "run", "training.max_minutes=2"), observer=Slower())
    assert found["status"] == "done"
    assert found["stopped_by"] == "the time of training.max_minutes=2"
    assert found["epochs"] < after.environment["budget"]["epochs"][0]
    assert np.isfinite(found["value"])


def test_too_short_a_time_is_one_clear_line_and_leaves_no_run(
    run_cli: Cli, folder: Path, clock: Clock
) -> None:
    outcome = run_cli(*LINE, "training.max_minutes=0.05", "run_dir=run")
    assert outcome.exit_code == 2
    assert "training.max_minutes=0.05 leaves no time for a step" in outcome.err
    assert not (folder / "run").exists()


@pytest.mark.parametrize("value", ["0", "-1", ".inf"])
def test_minutes_are_above_0(value: str, run_cli: Cli) -> None:
    outcome = run_cli(f"training.max_minutes={value}")
    assert outcome.exit_code == 2
    assert "training.max_minutes" in outcome.err


def test_a_run_of_a_search_that_is_over_stops_and_is_measured(folder: Path) -> None:
    found, _ = made(replace(spec_of(folder, "run"), ends_at=0.0))
    assert found["epochs"] == 1
    assert found["stopped_by"] == "the time of sweep.search.minutes"
    assert json.loads((folder / "run" / "metrics.json").read_text())["status"] == "done"
