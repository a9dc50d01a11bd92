"""One run in the terminal and in a pipe, and how figures are written for people."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cnnbench.cli import console as console_module
from cnnbench.reporting.terminal import Terminal
from cnnbench.reporting.text import count, duration, number
from cnnbench.runs.spec import RunResult, Summary, Training

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
SUMMARY = Summary(
    name="cnn_digits",
    dataset="digits",
    splits={"train": 1293, "val": 144, "test": 360},
    input_shape=(8, 8, 1),
    outputs=10,
    model="cnn",
    parameters=52_490,
    flops=1_234_567,
    device="CPU: AMD EPYC [2], 2 cores",
    precision="float32",
    engine="",
    epochs=3,
    steps=21,
    batch_size=64,
    folder=Path("outputs/[red]run"),
)
ENTRY = {
    "epoch": 2,
    "loss": 0.5,
    "accuracy": 0.75,
    "val_loss": 0.625,
    "learning_rate": 0.001,
    "seconds": 2.5,
    "examples_per_second": 12_345.6,
}
RESULT = RunResult(
    Path("outputs/[red]run"),
    "done",
    "val_accuracy",
    0.5,
    {
        "name": "cnn_digits",
        "best_epoch": 2,
        "best_by": "lowest val_loss",
        "epochs": 3,
        "metrics": {
            "train": {"loss": 0.5, "accuracy": 0.75},
            "val": {"loss": 0.625, "accuracy": 0.5, "f1_macro": 0.25},
            "test": {"loss": 0.875, "accuracy": 0.375, "f1_macro": 0.125},
        },
        "cost": {
            "seconds": {"data": 1.0, "fit": 62.0},
            "examples_per_second": 12_345.6,
            "latency_seconds": 0.0012,
            "peak_memory_bytes": 1_234_000_000,
        },
    },
)


def console(*, is_terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    if is_terminal:
        return Console(file=out, force_terminal=True, width=100, color_system=None, _environ={}), out
    return Console(file=out, width=60, _environ={}), out


def whole_run(terminal: Terminal) -> None:
    terminal.started(SUMMARY)
    for epoch in (1, 2, 3):
        terminal.epoch_started(epoch)
        terminal.step(10, {"loss": 0.5})
        terminal.step(21, {"loss": 0.25})
        terminal.epoch_ended({**ENTRY, "epoch": epoch})
    terminal.measured(RESULT.metrics)
    terminal.finished(RESULT)


def test_beside_a_figure_of_the_test_split_stands_its_interval() -> None:
    around = {"accuracy": {"low": 0.2512, "high": 0.5081, "method": "Wilson"}}
    screen, out = console(is_terminal=False)
    Terminal(screen).measured({**RESULT.metrics, "intervals": {"test": around}})
    shown = {line.split()[0]: line.rstrip() for line in out.getvalue().splitlines() if line.strip()}
    assert shown["accuracy"].endswith("0.25 – 0.51")
    assert shown["loss"].endswith("–")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_summary_says_what_will_be_done(is_terminal: bool) -> None:
    screen, out = console(is_terminal=is_terminal)
    terminal = Terminal(screen)
    terminal.started(SUMMARY)
    terminal.close()
    for text in (
        "digits  (1,293 train, 144 val, 360 test; 8×8×1 → 10)",
        "cnn  (52,490 parameters, 1.23 MFLOP per example)",
        "CPU: AMD EPYC [2], 2 cores, float32",
        "up to 3 epochs of 21 steps of 64 examples",
        "outputs/[red]run",
    ):
        assert text in out.getvalue()


def test_each_epoch_is_a_row_below_one_heading() -> None:
    screen, out = console(is_terminal=False)
    terminal = Terminal(screen)
    whole_run(terminal)
    assert terminal.progress is None
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()
    lines = out.getvalue().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("epoch "))
    assert lines[at] == "epoch      loss  accuracy  val_loss  examples/s    time"
    assert lines[at + 2] == "2/3      0.5000    0.7500    0.6250      12,346   2.5 s"
    assert [line.partition(" ")[0] for line in lines[at : at + 5]] == [
        "epoch",
        "1/3",
        "2/3",
        "3/3",
        "cnn_digits:",
    ]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_line_of_an_epoch_is_wider_than_the_terminal(width: int) -> None:
    out = io.StringIO()
    terminal = Terminal(Console(file=out, width=width, _environ={}))
    further = {f"val_metric_{number}": number / 7 for number in range(20)}
    terminal.epoch_ended({**ENTRY, "val_accuracy": 0.5, **further})
    heading, row = out.getvalue().splitlines()
    assert (
        len(row)
        <= len(heading)
        <= max(width, len("epoch      loss  accuracy  val_loss  val_accuracy    time"))
    )
    assert "val_accuracy" in heading  # the loss and the accuracy of both splits stay
    assert row.split()[1:4] == ["0.5000", "0.7500", "0.6250"]


def test_in_a_terminal_a_bar_moves_with_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 100.0, 102.0])  # when the terminal is made, an epoch begins, a step is done
    monkeypatch.setattr(
        "cnnbench.reporting.terminal.time", SimpleNamespace(perf_counter=lambda: next(seconds))
    )
    screen, out = console(is_terminal=True)
    terminal = Terminal(screen)
    terminal.started(SUMMARY)
    assert terminal.progress is not None
    task = terminal.progress.tasks[0]
    assert (task.completed, task.total) == (0, 63)
    terminal.epoch_started(2)
    terminal.step(10, {"loss": 0.25})
    assert task.completed == 31
    assert task.fields == {"epoch": "2/3", "metrics": "loss 0.2500", "rate": "308 examples/s"}
    terminal.progress.refresh()
    assert "epoch 2/3" in out.getvalue()
    assert "loss 0.2500  308 examples/s" in out.getvalue()
    terminal.close()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_results_have_every_split_and_the_cost(is_terminal: bool) -> None:
    screen, out = console(is_terminal=is_terminal)
    whole_run(Terminal(screen))
    text = out.getvalue()
    after = text[text.index("cnn_digits: best epoch 2 of 3 (lowest val_loss)\n") :]
    lines = {line.split()[0]: line.split()[1:] for line in after.splitlines() if line.strip()}
    assert lines["train"] == ["val", "test"]
    assert lines["loss"] == ["0.5", "0.625", "0.875"]
    assert lines["f1_macro"] == ["–", "0.25", "0.125"]  # no final one of the training split
    said = " ".join(after.split())
    assert "1 min 03 s in all, 1 min 02 s training at 12,346 examples/s" in said
    assert "1.2 ms for one example alone, 1.23 GB peak" in said
    assert "results: outputs/[red]run" in after


def test_the_cursor_is_back_after_a_finished_run() -> None:
    screen, out = console(is_terminal=True)
    whole_run(Terminal(screen))
    assert out.getvalue().count(HIDE_CURSOR) == out.getvalue().count(SHOW_CURSOR) == 1


@pytest.mark.parametrize("error", [RuntimeError("no memory"), KeyboardInterrupt()])
def test_the_cursor_is_back_after_a_run_that_broke(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, out = console(is_terminal=True)

    def broken(spec: Any, observer: Terminal, *_: object) -> None:
        observer.started(SUMMARY)
        assert out.getvalue().count(HIDE_CURSOR) == 1
        assert SHOW_CURSOR not in out.getvalue()
        raise error

    monkeypatch.setattr("cnnbench.training.run.run", broken)
    monkeypatch.setattr("cnnbench.reporting.stdout", lambda: screen)
    monkeypatch.setattr(console_module, "_log_to", lambda console: None)
    spec = SimpleNamespace(run_dir=tmp_path, folder=tmp_path, training=Training(), config={})
    with pytest.raises(type(error)):
        console_module.train(spec)  # type: ignore[arg-type]
    assert out.getvalue().count(SHOW_CURSOR) == 1
    screen.print("usable")
    assert out.getvalue().endswith("usable\n")


def test_closing_twice_or_before_the_start_does_no_harm() -> None:
    screen, out = console(is_terminal=True)
    terminal = Terminal(screen)
    terminal.close()
    terminal.started(SUMMARY)
    terminal.close()
    terminal.close()
    assert out.getvalue().count(SHOW_CURSOR) == 1


# ---------------------------------------------------------------- figures for people


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (0.0, "0"),
        (3.0, "3"),
        (1234567.0, "1,234,567"),
        (-1234.0, "-1,234"),
        (0.123456, "0.1235"),
        (-0.5, "-0.5"),
        (0.00012345, "0.0001234"),
        (12.3456, "12.35"),
        (1234.5, "1,234"),
        (9999.7, "10,000"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_have_four_digits_and_commas(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234, "1,234"),
        (9999, "9,999"),
        (10_000, "10 k"),
        (12_345, "12.3 k"),
        (999_600, "1 M"),
        (4_600_000, "4.6 M"),
        (999_999_999, "1 G"),
        (1.5e9, "1.5 G"),
    ],
)
def test_counts_have_three_digits_and_a_unit(value: float, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.04, "0.0 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (60, "1 min 00 s"),
        (62.6, "1 min 03 s"),
        (3599.6, "1 h 00 min"),
        (7 * 3600 + 125, "7 h 02 min"),
    ],
)
def test_durations_have_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
