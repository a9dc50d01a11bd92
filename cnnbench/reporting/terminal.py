"""The terminal of one run: summary, progress and results."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cnnbench.reporting.output import say
from cnnbench.reporting.text import count, duration, memory, milliseconds, number
from cnnbench.runs import Observer, RunResult, Summary


class Terminal(Observer):
    """Shows one run: a progress bar, or without a terminal one plain line per epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.summary: Summary | None = None
        self.epoch = 0
        self.epoch_began = time.perf_counter()
        self.progress: Progress | None = None

    def started(self, summary: Summary) -> None:
        self.summary = summary
        shape = "×".join(map(str, summary.input_shape))
        splits = ", ".join(f"{size:,} {name}" for name, size in summary.splits.items())
        rows = {
            "data set": f"{summary.dataset}  ({splits}; {shape} → {summary.outputs})",
            "model": f"{summary.model}  ({summary.parameters:,} parameters, "
            f"{count(summary.flops, 'FLOP')} per example)",
            "device": f"{summary.device}, {summary.precision}",
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
        shown = {
            k: v
            for k, v in entry.items()
            if k not in ("epoch", "examples_per_second", "seconds", "learning_rate")
        }
        total = self.summary.epochs if self.summary else "?"
        rate = f"{number(entry['examples_per_second'])} examples/s"
        time_taken = duration(entry["seconds"])
        say(self.console, f"epoch {int(entry['epoch'])}/{total}  {_pairs(shown)}  {rate}  {time_taken}")

    def finished(self, result: RunResult) -> None:
        self.close()
        metrics = result.metrics
        table = Table(title=f"{metrics['name']}: best epoch {metrics['best_epoch']} of {metrics['epochs']}")
        table.add_column("split")
        names = list(metrics["metrics"]["test"])
        for name in names:
            table.add_column(name, justify="right")
        for split, figures in metrics["metrics"].items():
            table.add_row(split, *(number(figures.get(name)) for name in names))
        cost = metrics["cost"]
        self.console.print(table)
        seconds = cost["seconds"]
        parts = (
            f"{duration(sum(seconds.values()))} in all",
            f"{duration(seconds['fit'])} training at {number(cost['examples_per_second'])} examples/s",
            f"{milliseconds(cost['latency_seconds'])} for one example alone",
            f"{memory(cost['peak_memory_bytes'])} peak",
            *([f"{memory(gpu)} on the GPU"] if (gpu := cost.get("peak_gpu_memory_bytes")) else []),
        )
        self.console.print(", ".join(parts), highlight=False, soft_wrap=True)
        say(self.console, f"results: {result.folder}")

    def close(self) -> None:
        """Give the terminal back, whatever happened."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def _pairs(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
