"""One run in the terminal: summary, progress, results."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cnnbench.report import count, duration, number, stdout
from cnnbench.spec import Observer, Observers, RunResult, RunSpec, Summary


def train(spec: RunSpec, resume: bool = False, watcher: Observer | None = None) -> RunResult:
    """One run, told to whoever sits before the terminal, and to `watcher`; see `cnnbench.run.run`."""
    from cnnbench import run

    console = stdout()
    _log_to(console)
    terminal = Terminal(console)
    try:
        return run.run(spec, Observers([terminal, watcher]) if watcher else terminal, resume)
    finally:
        terminal.close()


def _log_to(console: Console) -> None:
    """Warnings of ours and of Python to the terminal, above the progress bar; all of it to the run's log."""
    from rich.logging import RichHandler

    log = logging.getLogger("cnnbench")
    log.setLevel(logging.DEBUG)
    if not log.handlers:
        logging.captureWarnings(True)
        handler = RichHandler(logging.INFO, console=console, show_time=False, show_path=False)
        handler.addFilter(_is_for_the_terminal)
        for name in ("cnnbench", "py.warnings"):
            logging.getLogger(name).addHandler(handler)


def _is_for_the_terminal(record: logging.LogRecord) -> bool:
    """Warnings, and what is marked as worth a line before a wait; a traceback is for the log file."""
    return not record.exc_info and (record.levelno >= logging.WARNING or getattr(record, "notice", False))


class Terminal(Observer):
    """Summary, progress and results of one run; without a terminal, one plain line per epoch."""

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
            "training": f"up to {summary.epochs} epochs of {summary.steps:,} steps",
            "folder": str(summary.folder),
        }
        if not self.console.is_terminal:
            for name, text in rows.items():
                self.console.print(f"{name}: {text}", markup=False, highlight=False, soft_wrap=True)
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
        line = f"epoch {int(entry['epoch'])}/{total}  {_pairs(shown)}  {rate}  {duration(entry['seconds'])}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

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
            f"{cost['latency_seconds'] * 1000:.2g} ms for one example alone",
            f"{cost['peak_memory_bytes'] / 1e9:.2f} GB peak",
        )
        self.console.print(", ".join(parts), highlight=False, soft_wrap=True)
        self.console.print(f"results: {result.folder}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back, whatever happened."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def _pairs(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
