"""What a person reads in the terminal, by rich."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cnnbench.compare import Comparison
from cnnbench.spec import Observer, RunResult, Summary


def number(value: float | None) -> str:
    """Four significant digits, thousands with commas."""
    if value is None or not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def count(value: float) -> str:
    """1,234 and 12.3 k and 4.6 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g} {unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


class Terminal(Observer):
    """Summary, progress and results of one run; without a terminal, one plain line per epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.summary: Summary | None = None
        self.epoch = 0
        self.progress: Progress | None = None

    def started(self, summary: Summary) -> None:
        self.summary = summary
        shape = "×".join(map(str, summary.input_shape))
        splits = ", ".join(f"{size:,} {name}" for name, size in summary.splits.items())
        rows = {
            "data set": f"{summary.dataset}  ({splits}; {shape} → {summary.outputs})",
            "model": f"{summary.model}  ({summary.parameters:,} parameters, "
            f"{count(summary.flops)}FLOP per example)",
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
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
        )
        self.task = self.progress.add_task(
            "training", total=summary.epochs * summary.steps, epoch=f"1/{summary.epochs}", metrics="starting"
        )
        self.progress.start()

    def epoch_started(self, epoch: int) -> None:
        self.epoch = epoch

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.progress is None or self.summary is None:
            return
        done = (self.epoch - 1) * self.summary.steps + step
        self.progress.update(
            self.task, completed=done, metrics=_pairs(metrics), epoch=f"{self.epoch}/{self.summary.epochs}"
        )

    def epoch_ended(self, entry: Mapping[str, float]) -> None:
        shown = {k: v for k, v in entry.items() if k not in ("epoch", "examples_per_second", "seconds", "learning_rate")}
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
        self.console.print(
            f"{duration(sum(cost['seconds'].values()))} in all, {duration(cost['seconds']['fit'])} training at "
            f"{number(cost['examples_per_second'])} examples/s; {cost['latency_seconds'] * 1000:.2g} ms per example "
            f"alone; {cost['peak_memory_bytes'] / 1e9:.2f} GB peak",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        self.console.print(f"results: {result.folder}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back, whatever happened."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def _pairs(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def ranking(comparison: Comparison) -> Table:
    """The groups of a comparison, best first."""
    groups = comparison.groups
    objective = groups[0].objective if groups else "objective"
    table = Table(title=f"ranking by {objective}")
    keys = list(dict.fromkeys(key for group in groups for key in group.differs))
    test = next(iter(n for n in ("accuracy", "rmse") if groups and n in groups[0].test), None)
    for key in ("#", *keys, "runs", objective, f"test {test}", "parameters", "training", "examples/s"):
        table.add_column(key, justify="left" if key in keys else "right")
    for rank, group in enumerate(groups, start=1):
        spread = f" ± {number(group.deviation)}" if len(group.values) > 1 else ""
        table.add_row(
            str(rank),
            *(escape(str(group.differs.get(key, ""))) for key in keys),
            str(len(group.runs)),
            f"{group.mean:.4f}{spread}",
            f"{group.test[test]:.4f}" if test else "",
            count(group.cost["parameters"]),
            duration(group.cost["seconds"]),
            number(group.cost["examples_per_second"]),
        )
    return table


def unfinished(comparison: Comparison) -> list[str]:
    """One line for each run that gives no figures."""
    return [
        f"{run.status}: {run.path}  {run.failure.get('cause', 'no cause recorded')}" for run in comparison.others
    ]


def options_table(options: Mapping[str, Mapping[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("group", "option", "what it is"):
        table.add_column(column, overflow="fold", no_wrap=column != "what it is")
    for group, members in options.items():
        for index, (option, text) in enumerate(members.items()):
            table.add_row(f"[bold]{group}[/]" if index == 0 else "", f"[cyan]{option}[/]", escape(text))
    return table


def differences_table(rows: list[tuple[str, Any, Any, bool]]) -> Table:
    """Recorded against measured figures of `verify`."""
    table = Table()
    for column in ("metric", "recorded", "measured", "difference", ""):
        table.add_column(column, justify="right" if column else "left")
    for name, recorded, measured, passed in rows:
        verdict = "[green]ok[/]" if passed else "[red]differs[/]"
        table.add_row(name, f"{recorded:.8f}", f"{measured:.8f}", f"{measured - recorded:+.2e}", verdict)
    return table
