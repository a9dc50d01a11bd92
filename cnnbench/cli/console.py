"""What the command line prints besides results: its help, and one run told to the terminal.

Rooms are imported, not what is in them: `--help` and `list` need neither numpy nor tables.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from cnnbench import reporting, runs, training
from cnnbench.cli.watch import watched

if TYPE_CHECKING:
    from rich.table import Table


def options_text(options: Mapping[str, Mapping[str, str]]) -> str:
    """Groups and their options, one line each, as rich markup."""
    width = max(len(option) for members in options.values() for option in members)
    lines = []
    for group, members in options.items():
        lines.append(f"[bold]{escape(group)}[/]")
        lines += [
            f"  [cyan]{escape(f'{name:<{width}}')}[/]  {escape(text)}" for name, text in members.items()
        ]
    return "\n".join(lines)


def help_text(options: Mapping[str, Mapping[str, str]], verbs: Mapping[str, str]) -> str:
    """What `cnnbench --help` prints, as rich markup: five examples, the verbs, the groups."""
    examples = {
        "cnnbench": "the default: a small CNN on digits, offline, seconds",
        "cnnbench model=cnn dataset=cifar10": "choose options of the groups below",
        "cnnbench model.filters=[64,128] optimizer.learning_rate=0.01": "change any value",
        "cnnbench -m model=mlp,cnn seed=0,1,2": "a sweep: six runs in one process, and a ranking",
        "cnnbench dataset=synthetic training=smoke device=cpu": "seconds, for CI",
    }
    flags = {
        "-m": "run every combination of the values separated by commas",
        "--cfg job": "print the composed config and stop",
        "--config-dir DIR": "add a folder with options of your own",
        "--hydra-help": "Hydra's other flags",
    }

    def block(title: str, rows: Mapping[str, str], width: int) -> str:
        lines = [f"  [cyan]{escape(f'{name:<{width}}')}[/]  {escape(text)}" for name, text in rows.items()]
        return "\n".join([f"[bold]{title}[/]", *lines])

    groups = {group: ", ".join(members) for group, members in options.items()}
    return "\n\n".join(
        [
            "Train and measure one convolutional network; with -m, hundreds.",
            "[bold]usage:[/] cnnbench \\[VERB …] | cnnbench \\[group=option …] \\[key=value …] \\[flags]",
            block("examples", examples, max(map(len, examples))),
            block("verbs (each answers --help)", verbs, 16),
            block(
                "groups and their options (cnnbench list says what each is)", groups, max(map(len, groups))
            ),
            block("flags", flags, 16),
        ]
    )


def differences_table(rows: list[tuple[str, Any, Any, bool]]) -> Table:
    """Recorded against measured figures of `verify`."""
    from rich.table import Table

    table = Table()
    for column in ("metric", "recorded", "measured", "difference", ""):
        table.add_column(column, justify="right" if column else "left")
    for name, recorded, measured, passed in rows:
        verdict = "[green]ok[/]" if passed else "[red]differs[/]"
        table.add_row(
            escape(name), f"{recorded:.8f}", f"{measured:.8f}", f"{measured - recorded:+.2e}", verdict
        )
    return table


def diagnosis_table(diagnosis: training.Diagnosis) -> Table:
    """The tensors of one training step in their order, up to a few after the first bad one."""
    from rich.table import Table

    table = Table()
    for column in ("tensor", "lowest", "highest", "NaN or infinite"):
        table.add_column(column, justify="left" if column == "tensor" else "right")
    tensors = list(diagnosis.tensors)
    until = tensors.index(diagnosis.first) + 4 if diagnosis.first else len(tensors)
    for tensor in tensors[:until]:
        bad = f"[red]{tensor.bad:,} of {tensor.size:,}[/]" if tensor.bad else "–"
        table.add_row(escape(tensor.label), reporting.number(tensor.low), reporting.number(tensor.high), bad)
    return table


# -- One run ---------------------------------------------------------------------------------------


def train(
    spec: runs.RunSpec,
    resume: bool = False,
    watcher: runs.Observer | None = None,
    with_changes: bool = False,
) -> runs.RunResult:
    """Make one run, told to whoever sits before the terminal and to `watcher`; see `training.run.run`."""
    console = reporting.stdout()
    _log_to(console)
    terminal = reporting.Terminal(console)
    everyone = runs.Observers([terminal, watcher]) if watcher else terminal
    try:
        with watched(spec.run_dir):
            return training.run.run(spec, everyone, resume, with_changes)
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
