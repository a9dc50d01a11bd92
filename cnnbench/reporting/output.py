"""Standard output and standard error: nothing that is printed fails a run or steers a terminal.

The encoding of a stream may lack a character; a stream may be closed, its reader gone, its disk full. A run
goes on, for its result lies in its folder.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table

from cnnbench.errors import CnnbenchError, first_line
from cnnbench.system import neutral

# Nobody needs to be told that a reader has left, as `| head` does.
GONE = (errno.EPIPE, errno.EBADF)


class Stream:
    """A standard stream that takes every text, and replaces or drops what it cannot write.

    Attributes:
        stream: the stream behind it.
        error: the reason why nothing is written any more, or None.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | ValueError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self.stream.write(self._writable(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _writable(self, text: str) -> str:
        encoding = self.stream.encoding or "utf-8"
        try:
            text.encode(encoding, self.stream.errors or "strict")
        except UnicodeEncodeError:
            return text.encode(encoding, "replace").decode(encoding)
        return text

    def _try(self, action: Callable[[], object]) -> None:
        if self.error is not None:
            return
        try:
            action()
        except (OSError, ValueError) as error:  # ValueError: somebody has closed it
            self.error = error
            # Else Python would fail once more when it writes the rest of the buffer at its end.
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)

    @property
    def is_full(self) -> bool:
        """True where a reader that is still there has not got everything."""
        return isinstance(self.error, OSError) and self.error.errno not in GONE


@contextmanager
def unfailing_streams() -> Iterator[Stream]:
    """Replace the standard streams by unfailing ones; give standard output."""
    _open_descriptors()
    before = sys.stdin, sys.stdout, sys.stderr
    streams = [Stream(stream or _nowhere()) for stream in before[1:]]
    sys.stdin = before[0] or _nowhere()
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    try:
        yield streams[0]
    finally:
        for stream in streams:
            stream.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def _open_descriptors() -> None:
    """Open the first three descriptors where they are closed.

    Else files of a run would get these numbers, and take what libraries print past Python.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            if opened == number:
                os.set_inheritable(number, True)
            else:
                os.close(opened)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("r+", encoding="utf-8")


class _Console(Console):
    """A console that pads and rules to a width only in a terminal, and prints nothing that steers it.

    In a notebook it prints plain text: rich would make every line an output of its own, and what Jupyter sets
    in the environment for the colours of other programs would make it a terminal with a bar.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.is_jupyter:
            super().__init__(**options, force_jupyter=False, force_terminal=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Neutralise every text: it may come from file names, class names or a stranger's run folder."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=neutral(segment.text))

    def print(self, *objects: Any, **options: Any) -> None:
        if self.is_terminal or all(isinstance(one, str) for one in objects):
            super().print(*objects, **options)
            return
        for one in objects:
            if isinstance(one, Table):
                one.title_justify = one.caption_justify = "left"
        with self.capture() as captured:
            super().print(*objects, **options)
        for line in captured.get().splitlines():
            self.file.write(f"{line.rstrip()}\n")
        self.file.flush()

    def rule(self, title: Any = "", **options: Any) -> None:
        if self.is_terminal:
            super().rule(title, **options)
        else:
            self.print(title, soft_wrap=True, highlight=False)


# In the environment, so that the processes which make the runs of a sweep know too.
QUIET, VERBOSE = "CNNBENCH_QUIET", "CNNBENCH_VERBOSE"


@contextmanager
def output_as(quiet: bool, verbose: bool) -> Iterator[None]:
    """Keep standard output free of what a person reads, or print the log; in child processes, too."""
    wanted = {QUIET: quiet, VERBOSE: verbose}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update({name: "1" for name, value in wanted.items() if value})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def is_verbose() -> bool:
    """Tell whether the log is to be printed."""
    return os.environ.get(VERBOSE) == "1"


def stdout() -> Console:
    """Return the terminal; a pipe or a file is given room, so that tables are not folded to 80 columns."""
    console = _Console(quiet=os.environ.get(QUIET) == "1")
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 200
    return console


def stderr() -> Console:
    return _Console(stderr=True, highlight=False, soft_wrap=True)


def say(console: Console, *lines: str, style: str | None = None) -> None:
    """Print lines as they stand: without markup, colours of numbers, or line breaks of rich's."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True, style=style)


def natural_width(table: Table) -> int:
    """Return how many characters wide a table is where there is room for all of it."""
    unlimited = _Console(width=10_000, file=io.StringIO())
    return Measurement.get(unlimited, unlimited.options, table).maximum


def how_to_resume(path: Path) -> str:
    """Return the line that goes on with the run or sweep in `path`."""
    return f"to go on: cnnbench resume {shlex.quote(str(path))}"


def explain(error: CnnbenchError) -> None:
    """Print what is wrong and what to do, in two lines."""
    console = stderr()
    console.print(f"error: {error.message}", markup=False, style="red")
    if error.hint:
        console.print(f"hint: {error.hint}", markup=False)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Spell what an encoding lacks as JSON does, where it still means the same."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    numbers = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(f"\\u{number:04x}" for number in numbers), error.end


codecs.register_error("cnnbench.escaped", _escaped)


def encodable(text: str, encoding: str) -> str:
    """Return a text with what the encoding lacks spelt as JSON does."""
    return text.encode(encoding, "cnnbench.escaped").decode(encoding)


def write_lines(lines: Iterable[str]) -> bool:
    """Write lines as they are: rich would wrap them and take `:cat:` in a path for a picture.

    Returns:
        True while somebody reads; after `| head` nobody does.
    """
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        sys.stdout.write(encodable(neutral(line), encoding) + "\n")
    sys.stdout.flush()
    return getattr(sys.stdout, "error", None) is None


def is_lost(stream: Stream) -> bool:
    """Tell whether printed text was lost, as on a full disk, and print the reason."""
    stream.flush()
    if stream.is_full and stream.error is not None:
        stderr().print(f"standard output cannot be written: {first_line(stream.error)}", markup=False)
    return stream.is_full


@contextmanager
def counted(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how many of how many are done, while whoever gets the function tells it."""
    with console.status("") as status:

        def told(done: int, of: int) -> None:
            status.update(f"{done:,} of {of:,} {what}")

        yield told


@contextmanager
def resumable(path: Path) -> Iterator[None]:
    """Print how to go on with the run or sweep in `path` when somebody interrupts it."""
    try:
        yield
    except KeyboardInterrupt:
        stderr().print(how_to_resume(path), markup=False)
        raise
