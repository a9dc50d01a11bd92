"""Printing fails nothing: any encoding, streams that are closed, full or read by nobody."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table

from cnnbench.reporting import output
from cnnbench.reporting.output import Stream, stdout, unfailing_streams, write_lines

Cli = Callable[..., Outcome]
ENCODINGS = ["ascii", "latin-1", "cp1252", "cp949", "cp437", "utf-8", "utf-16", "ascii:strict", "koi8-r"]
COMMAND = [sys.executable, "-P", "-m", "cnnbench"]


def shell(line: str, *arguments: str, **environment: str) -> Outcome:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {line}', "sh", *COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict", "cp949"])
@pytest.mark.parametrize("typed", ["list", "--help", "--cfg job"])
def test_what_an_encoding_lacks_is_replaced(typed: str, encoding: str, folder: Path) -> None:
    outcome = shell("", *typed.split(), PYTHONIOENCODING=encoding)
    assert (outcome.exit_code, outcome.err) == (0, "")
    assert "cnn" in outcome.out


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(streams: str, folder: Path) -> None:
    assert shell(streams, "list").exit_code == 0
    assert shell(streams, "seed=-1").exit_code == 2


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("streams", "encoding"), [("", "ascii:strict"), ("<&- >&- 2>&-", "cp949"), ("2>&-", "latin-1")]
)
def test_a_run_is_done_whatever_becomes_of_its_lines(streams: str, encoding: str, folder: Path) -> None:
    outcome = shell(streams, *TINY, "run_dir=run", PYTHONIOENCODING=encoding)
    assert outcome.exit_code == 0, outcome
    assert json.loads((folder / "run" / "metrics.json").read_text())["status"] == "done"
    for path in (folder / "run").glob("*.json*"):  # nothing that was meant for a terminal is in there
        assert "data set:" not in path.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_behind_standard_output_is_said() -> None:
    outcome = shell(">/dev/full", "list")
    assert outcome.exit_code == 1
    assert outcome.err == "standard output cannot be written: [Errno 28] No space left on device\n"


class _Broken(io.StringIO):
    """Takes a few writes, and then none."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EBADF, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_stream_that_breaks_is_given_up(name: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = _Broken(number)
    monkeypatch.setattr(sys, name, broken)
    with unfailing_streams() as printed:
        for _ in range(3):
            getattr(output, name)().print("a line")
        assert write_lines(["a line"]) == (name == "stderr")
        assert printed.is_full == (name == "stdout" and number in (errno.ENOSPC, errno.EIO))
    assert getattr(sys, name) is broken


@settings(deadline=None, max_examples=200, derandomize=True, database=None)
@given(st.text(st.characters()), st.sampled_from(ENCODINGS))
def test_any_text_can_be_printed_in_any_encoding(text: str, encoding: str) -> None:
    name, _, errors = encoding.partition(":")
    kept = io.BytesIO()
    stream = Stream(io.TextIOWrapper(kept, name, errors or None))
    stream.write(f"{text}\n")
    stream.flush()
    assert stream.error is None
    assert kept.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp949", "utf-8"])
def test_json_means_the_same_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"name": "사진 é – 😀 \udcff"}
    kept = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(kept, encoding))
    write_lines([json.dumps(content, ensure_ascii=False)])
    assert json.loads(kept.getvalue().decode(encoding)) == content


def test_nothing_is_padded_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name", "value", title="a title")
    table.add_row("a", "b")
    stdout().print(table)
    stdout().rule("run 0")
    stdout().print("kept  ")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a title"
    assert lines[-2:] == ["run 0", "kept  "]
    assert all(line == line.rstrip() for line in lines[:-1])
    assert max(map(len, lines)) < 30
