"""What a person reads in the terminal, by rich."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from cnnbench.errors import CnnbenchError
from cnnbench.logs import neutral

DONE, FAILED, WRONG_INPUT, BROKEN_PIPE = 0, 1, 2, 141  # exit codes; 128 and a signal's number for that

if TYPE_CHECKING:  # `list` and `--help` need neither tables nor numpy
    from rich.table import Table

    from cnnbench.diagnose import Diagnosis


class _Neutral(Console):
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed may come from file names, class names and somebody else's run folder."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=neutral(segment.text))


class _Terminal(_Neutral):
    def on_broken_pipe(self) -> None:
        """Go on in silence when nobody reads any more: `cnnbench … | head` must not end a training."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdout() -> Console:
    """The terminal; a pipe or a file is given room, so that tables are not folded to 80 columns."""
    console = _Terminal()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200
    return console


def stderr() -> Console:
    return _Neutral(stderr=True, highlight=False, soft_wrap=True)


def explain(error: CnnbenchError) -> None:
    """What is wrong, and what to do, in two lines."""
    console = stderr()
    console.print(f"error: {error.message}", markup=False, style="red")
    if error.hint:
        console.print(f"hint: {error.hint}", markup=False)


def write_lines(lines: Iterable[str]) -> bool:
    """Past rich, which would wrap lines and take `:cat:` in a path for a picture.

    Returns:
        whether anybody still reads: after `| head` nobody does.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        for line in lines:
            sys.stdout.write(neutral(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Or Python would complain once more when it closes the stream at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


@contextmanager
def resumable(path: Path) -> Iterator[None]:
    """Say how to go on with what lies in `path` when somebody stops what happens inside."""
    try:
        yield
    except KeyboardInterrupt:
        stderr().print(f"to go on: cnnbench resume {shlex.quote(str(path))}", markup=False)
        raise


def number(value: float | None) -> str:
    """Four significant digits, thousands with commas."""
    if value is None or not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 999.95 else f"{value:.4g}"


def fixed(value: float) -> str:
    """Four decimals, so that a column of scores lines up."""
    return f"{value:.4f}" if math.isfinite(value) else "–"


def count(value: float, unit: str = "") -> str:
    """1,234 and 12.3 k and 4.6 M; with a unit 4.6 MFLOP."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(1e4, 0.9995 * size):  # 999,600 is 1 M, not 1000 k
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:,.0f} {unit}".rstrip()


def duration(seconds: float) -> str:
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


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


def diagnosis_table(diagnosis: Diagnosis) -> Table:
    """The tensors of one training step in their order, up to a few after the first bad one."""
    from rich.table import Table

    table = Table()
    for column in ("tensor", "lowest", "highest", "NaN or infinite"):
        table.add_column(column, justify="left" if column == "tensor" else "right")
    tensors = list(diagnosis.tensors)
    until = tensors.index(diagnosis.first) + 4 if diagnosis.first else len(tensors)
    for tensor in tensors[:until]:
        bad = f"[red]{tensor.bad:,} of {tensor.size:,}[/]" if tensor.bad else "–"
        table.add_row(escape(tensor.label), number(tensor.low), number(tensor.high), bad)
    return table
