"""What a GPU does otherwise: its precision, its memory, its determinism. Skipped where there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, VISIBLE_GPUS, Outcome

from cnnbench.runs.folder import RunFolder

Cli = Callable[..., Outcome]
pytestmark = pytest.mark.gpu
SMALL = [text for text in TINY if text != "device=cpu"]
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_is_verified_on_its_gpu_and_on_a_processor(
    precision: str, run_on_gpu: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run_on_gpu(*SMALL, f"training.precision={precision}", "training.epochs=3", "run_dir=run")
    assert made.exit_code == 0, made.err
    assert "GPU" in RunFolder(folder / "run").environment["device"]
    assert "XLA" not in made.err
    here = run_on_gpu("verify", "run")
    assert here.exit_code == 0, here.out
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    elsewhere = run_on_gpu("verify", "run")
    assert elsewhere.exit_code == 0, elsewhere.out
    assert "CPU" in elsewhere.out + elsewhere.err


def test_the_cost_has_the_memory_of_the_gpu(run_on_gpu: Cli, folder: Path) -> None:
    made = run_on_gpu(*SMALL, "run_dir=run")
    assert made.exit_code == 0, made.err
    assert 0 < RunFolder(folder / "run").metrics["cost"]["peak_gpu_memory_bytes"] < 10e9
    assert "GB on the GPU" in made.out


def test_determinism_is_exact_and_ends_with_its_run(run_on_gpu: Cli, folder: Path) -> None:
    line = (*SMALL, "training.epochs=3", "deterministic=true,false", "run_dir=sweep")
    assert run_on_gpu("-m", *line).exit_code == 0
    assert run_on_gpu(*SMALL, "training.epochs=3", "deterministic=true", "run_dir=again").exit_code == 0

    def history(run: Path) -> list[Any]:
        clock = ("seconds", "examples_per_second")
        return [
            {key: value for key, value in row.items() if key not in clock} for row in RunFolder(run).history
        ]

    first, second = sorted(path.parent for path in (folder / "sweep").glob("*/metrics.json"))
    assert history(first) == history(folder / "again")
    assert RunFolder(second).config["deterministic"] is False


def test_a_batch_that_does_not_fit_ends_in_one_line(run_on_gpu: Cli, folder: Path) -> None:
    large = ("dataset=synthetic", "dataset.size=64", "dataset.channels=3", "dataset.examples=60000")
    model = ("model.filters=[512,512]", "training.batch_size=40000", "training.epochs=1", "run_dir=run")
    outcome = run_on_gpu(*large, *model)
    assert outcome.exit_code == 1, outcome.out
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("failed: ")]
    assert "40000" in line.replace(",", "")
    assert len(outcome.err.splitlines()) < 15, outcome.err
    assert json.loads((folder / "run" / "failure.json").read_text())["status"] == "failed"


def test_ctrl_c_while_it_compiles_is_answered_at_once(run_on_gpu: Cli, folder: Path) -> None:
    command = [sys.executable, "-P", "-m", "cnnbench", *SMALL, "training.epochs=50", "run_dir=run"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": VISIBLE_GPUS}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        while not run.stdout.readline().startswith("folder: "):  # the compilation comes next
            assert run.poll() is None
        run.send_signal(signal.SIGINT)
        said = ""
        # Between two steps it stops without more ado; within one it says at once that it has heard.
        while "once more stops at once" not in said and "interrupted" not in said:
            line = run.stderr.readline()
            assert line, said
            said += line
        assert not (folder / "run" / "history.jsonl").exists()
        run.communicate()
        assert run.returncode == 130
    assert RunFolder(folder / "run").status == "interrupted"
