"""Standard output and standard error: what is printed there is free of what would steer a terminal."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from cnnbench.errors import CnnbenchError
from cnnbench.system import neutral


class _NeutralConsole(Console):
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed may come from file names, class names and somebody else's run folder."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=neutral(segment.text))


class _Terminal(_NeutralConsole):
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
    return _NeutralConsole(stderr=True, highlight=False, soft_wrap=True)


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
