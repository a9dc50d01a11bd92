"""The terminal of one run: summary, progress and results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cnnbench.reporting.output import say
from cnnbench.reporting.tables import members_table, output_table
from cnnbench.reporting.text import (
    best_epoch,
    between,
    calibration_in_words,
    count,
    decision_in_words,
    duration,
    memory,
    milliseconds,
    number,
    sets_in_words,
)
from cnnbench.runs import NO_METRICS, Observer, RunResult, Summary, in_words, positive_class

SHORT = {"val_mean_average_precision": "val_mAP"}
HEADINGS = {"examples_per_second": "examples/s", "seconds": "time"}
KEPT = ("seconds", "val_loss", "val_accuracy", *SHORT)  # the last to go where there is no room
NARROWEST = 6  # characters of a column of figures


class Terminal(Observer):
    """Shows one run: a line for each epoch, and on a terminal a bar for the one under way."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.summary: Summary | None = None
        self.epoch = 0
        self.epoch_began = time.perf_counter()
        self.progress: Progress | None = None
        self.names: list[str] = []  # of the columns that were shown last

    def started(self, summary: Summary) -> None:
        self.summary = summary
        shape = "×".join(map(str, summary.input_shape))
        splits = ", ".join(f"{size:,} {name}" for name, size in summary.splits.items())
        rows = {
            "data set": f"{summary.dataset}  ({splits}; {shape} → {summary.outputs})",
            **({"task": summary.task} if summary.task else {}),
            "model": f"{summary.model}  ({summary.parameters:,} parameters, "
            f"{count(summary.flops, 'FLOP')} per example)",
            "device": ", ".join(filter(None, (summary.device, summary.precision, summary.engine))),
            "training": f"up to {summary.epochs} epochs of {summary.steps:,} steps "
            f"of {summary.batch_size:,} examples",
            "folder": str(summary.folder),
        }
        if not self.console.is_terminal:
            say(self.console, *(f"{name}: {text}" for name, text in rows.items()))
            return
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, text in rows.items():
            table.add_row(f"[bold]{name}[/]", escape(text))
        self.console.print(table)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[metrics]}  {task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
        )
        self.task = self.progress.add_task(
            "training",
            total=summary.epochs * summary.steps,
            epoch=f"1/{summary.epochs}",
            metrics="starting",
            rate="",
        )
        self.progress.start()

    def epoch_started(self, epoch: int) -> None:
        self.epoch = epoch
        self.epoch_began = time.perf_counter()

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.progress is None or self.summary is None:
            return
        done = (self.epoch - 1) * self.summary.steps + step
        examples = step * self.summary.splits["train"] / self.summary.steps
        rate = examples / (time.perf_counter() - self.epoch_began)
        self.progress.update(
            self.task,
            completed=done,
            metrics=_pairs(metrics),
            epoch=f"{self.epoch}/{self.summary.epochs}",
            rate=f"{rate:,.0f} examples/s",
        )

    def epoch_ended(self, entry: Mapping[str, float]) -> None:
        names = _that_fit(entry, self.console.width)
        if names != self.names:  # a phase of fine-tuning may have others
            self.names = names
            say(self.console, _row("epoch", {name: _heading(name) for name in names}))
        total = self.summary.epochs if self.summary else "?"
        say(
            self.console, _row(f"{int(entry['epoch'])}/{total}", {name: _cell(name, entry) for name in names})
        )

    def measured(self, metrics: Mapping[str, Any]) -> None:
        self.close()
        # Not the title of the table, which is broken where the table is narrower.
        say(self.console, f"{metrics['name']}: {best_epoch(metrics)}", style="italic")
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("")
        splits, positive = metrics["metrics"], positive_class(metrics)
        for split in splits:
            table.add_column(split, justify="right", no_wrap=True)
        around = metrics.get("intervals", {}).get("test", {})
        if around:
            table.add_column("test at 95 %", justify="right", no_wrap=True)
        for name in splits["test"]:  # metrics below each other: there may be any number of them
            cells = [number(figures.get(name)) for figures in splits.values()]
            if around:
                cells.append(between(around.get(name)))
            table.add_row(escape(in_words(name, positive)), *cells)
        self.console.print(table)
        if metrics.get("members"):
            self.console.print(members_table(metrics))
        each = metrics.get("by_output", {}).get("test")
        if each and metrics["task"] not in ("multiclass", "binary"):  # classes are on the page
            self.console.print(output_table(each, "each on the test split"))
        if row := metrics.get("calibration", {}).get("test"):
            say(self.console, *calibration_in_words(row), *decision_in_words(metrics))
        if metrics.get("sets"):
            say(self.console, *sets_in_words(metrics["sets"]))

    def finished(self, result: RunResult) -> None:
        cost = result.metrics["cost"]
        seconds = cost["seconds"]
        budget = result.metrics.get("budget")
        parts = (
            f"{duration(sum(seconds.values()))} in all",
            *([f"{duration(budget['seconds'])} of {budget['minutes']:g} minutes"] if budget else []),
            f"{duration(seconds['fit'])} training at {number(cost['examples_per_second'])} examples/s",
            f"{milliseconds(cost['latency_seconds'])} for one example alone",
            f"{memory(cost['peak_memory_bytes'])} peak",
            *([f"{memory(gpu)} on the GPU"] if (gpu := cost.get("peak_gpu_memory_bytes")) else []),
        )
        self.console.print(", ".join(parts), highlight=False, soft_wrap=not self.console.is_terminal)
        say(self.console, f"results: {result.folder}")

    def close(self) -> None:
        """Give the terminal back, whatever happened."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def _heading(name: str) -> str:
    return HEADINGS.get(name) or SHORT.get(name, name)


def _that_fit(entry: Mapping[str, float], width: int) -> list[str]:
    """Return the columns of an epoch that a line has room for; the history has all."""
    names = [name for name in entry if name not in NO_METRICS]
    names += [name for name in HEADINGS if name in entry]
    later = [name for name in names[2:] if name not in KEPT]
    least = ["examples_per_second", *reversed([name for name in later if name not in HEADINGS])]
    for name in least:
        if len(_row("epoch", {name: _heading(name) for name in names})) <= width:
            break
        names = [kept for kept in names if kept != name]
    return names


def _row(first: str, cells: Mapping[str, str]) -> str:
    """Return a line of columns that stand below each other."""
    widths = {name: max(len(_heading(name)), NARROWEST) for name in cells}
    return "  ".join([f"{first:<7}", *(f"{text:>{widths[name]}}" for name, text in cells.items())])


def _cell(name: str, entry: Mapping[str, float]) -> str:
    if name == "seconds":
        return duration(entry[name])
    if name == "examples_per_second":
        return number(entry[name])
    return f"{entry[name]:.4f}" if abs(entry[name]) < 1000 else number(entry[name])


def _pairs(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
