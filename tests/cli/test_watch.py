"""What ends a training without a word, and who says so: failures raised by a fake `fit`, aborts and kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from conftest import TINY, Outcome, without_remarks

from cnnbench.runs.folder import RunFolder
from cnnbench.system import is_held

Cli = Callable[..., Outcome]
PAGES = "\n".join(["E0000 00:00:1.0 1 gpu_executable.cc:1] %fusion.12 = bf16[512,32]"] * 300)
PROGRAM = """
import os, sys, keras
def fit(*arguments, **keywords):
    {end}
keras.Model.fit = fit
"""
CPP = "F0000 00:00:1700000000.123456    4242 gpu_timer.cc:10] Check failed: status CUDA_ERROR_ILLEGAL_ADDRESS"


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, f"OOM when allocating tensor with shape[9,9]\n{PAGES}"),
        tf.errors.InternalError(None, None, f"Failed to allocate 12.00GiB\n{PAGES}"),
        tf.errors.UnknownError(None, None, f"No valid config found!\n{PAGES}"),
        tf.errors.UnknownError(None, None, f"CUDA_ERROR_OUT_OF_MEMORY\n{PAGES}"),
        tf.errors.InternalError(None, None, f"an illegal memory access\n{PAGES}"),
        MemoryError(),
    ],
)
def test_a_batch_that_does_not_fit_is_one_line_and_a_failure(
    error: Exception, run_cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: object, **__: object) -> None:
        os.write(2, PAGES.encode())
        raise error

    monkeypatch.setattr(keras.Model, "fit", fit)
    outcome = run_cli(*TINY, "run_dir=run", "training.batch_size=32")
    assert outcome.exit_code == 1
    said, hint = without_remarks(outcome.err).splitlines()
    assert hint.startswith("hint: failure.json")
    assert "training.batch_size=32" in said
    run = RunFolder(folder / "run")
    assert said == f"failed: {run.failure['cause']}"
    assert run.status == "failed"
    assert "%fusion.12" in (run.path / "cnnbench.log").read_text()


def start(folder: Path, end: str) -> subprocess.Popen[str]:
    """A single run whose `fit` ends so."""
    (folder / "mine.py").write_text(PROGRAM.format(end=end))
    command = [sys.executable, "-P", "-m", "cnnbench", *TINY, "plugins=[mine.py]", "run_dir=run"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nobody can look on there")
@pytest.mark.parametrize(
    ("end", "number", "said"),
    [
        (f"os.write(2, {CPP!r}.encode() + b'\\n'); os.abort()", signal.SIGABRT, "Aborted: Check failed: "),
        ("os.kill(os.getpid(), 11)", signal.SIGSEGV, "Segmentation fault"),
        (
            "os.kill(os.getpid(), 9)",
            signal.SIGKILL,
            "without a word before the end of the first epoch, as by",
        ),
    ],
)
def test_the_death_of_a_single_run_is_written_down(
    folder: Path, end: str, number: signal.Signals, said: str, run_cli: Cli
) -> None:
    process = start(folder, end)
    _, err = process.communicate()  # until whoever looked on has gone, too
    assert process.returncode == -number, err
    run = RunFolder(folder / "run")
    assert run.status == "failed", err
    assert said in run.failure["cause"]
    assert run.failure["stage"] == "killed"
    if number == signal.SIGABRT:
        assert "a batch does not fit into memory" in run.failure["cause"]
    assert f"failed: {run.failure['cause']}" in err
    assert err.splitlines()[-1].endswith(f"cnnbench resume {run.path}")
    assert said in run_cli("compare", "run").out


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nobody can look on there")
def test_a_run_that_ends_in_words_has_nobody_left_beside_it(folder: Path) -> None:
    process = start(folder, "raise ValueError('in words')")
    _, err = process.communicate()
    assert process.returncode == 1
    assert "in words" in err
    assert RunFolder(folder / "run").failure["stage"] == "fit"


def test_what_died_with_nobody_looking_on_is_told_by_the_next_command(folder: Path, run_cli: Cli) -> None:
    run = RunFolder.create(folder / "run")
    run.write_config({"seed": 0, "name": "cnn"}, [])
    run.append_history({"epoch": 1, "loss": 1.0})
    assert not is_held(run.path / "cnnbench.log")
    said = "its process died without a word after epoch 1"
    assert said in run_cli("compare", "run").out
    assert run_cli("report", "run").exit_code == 0
    assert said in run.report.read_text()
    (run.path / "cnnbench.log").write_text(f"{PAGES}\n{CPP}\nFatal Python error: Aborted\n")
    assert run.last_words.startswith("its process died after epoch 1: Aborted: Check failed: status CUDA")


def test_python_still_reaches_the_terminal_while_the_log_takes_the_rest(folder: Path) -> None:
    process = start(
        folder, "print('from python', file=sys.stderr); os.write(2, b'from C++'); raise ValueError('end')"
    )
    _, err = process.communicate()
    assert "from python" in err
    assert "from C++" not in err
    assert "from C++" in (folder / "run" / "cnnbench.log").read_text()
