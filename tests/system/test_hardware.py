"""What cannot fit into memory is refused before it is made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from conftest import TINY, Outcome

from cnnbench.errors import CnnbenchError
from cnnbench.system import hardware

Cli = Callable[..., Outcome]


@pytest.fixture
def ten_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "available_memory", lambda: 10e9)


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("model.filters=[1000000000]", "the model up to its layer conv_1 would take 36.0 GB"),
        ("dataset.examples=1000000000", "dataset.examples=1000000000 would take 64.0 GB"),
    ],
)
def test_what_cannot_fit_is_refused_in_one_line(
    override: str, what: str, run_cli: Cli, ten_gigabytes: None
) -> None:
    outcome = run_cli(*TINY, override, "run_dir=run")
    assert outcome.exit_code == 2
    error, hint = outcome.err.splitlines()
    assert error == f"error: {what} of memory or more, and 10.0 GB are free"
    assert hint.startswith("hint: ")


def two_layers() -> None:
    """600 weights each."""
    first = keras.layers.Dense(30, use_bias=False, name="first")(keras.Input((20,)))
    keras.layers.Dense(20, use_bias=False, name="second")(first)


def test_many_weights_that_fit_one_by_one_are_refused_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "available_memory", lambda: 4 * 1000)
    original = keras.Layer.add_weight
    with pytest.raises(CnnbenchError, match="second"), hardware.weights_that_fit():
        two_layers()
    assert keras.Layer.add_weight is original


def test_a_step_without_memory_fails_in_one_line(ten_gigabytes: None) -> None:
    said = (
        r"^out of memory with training.batch_size=64 for a tensor with shape\[1000000,1000000\] "
        r"\(4,000.0 GB needed at once, 10.0 GB there\): make .* smaller$"
    )
    with pytest.raises(hardware.OutOfMemoryError, match=said), hardware.shortage_explained(64):
        tf.random.normal((10**6, 10**6))
    with (
        pytest.raises(hardware.OutOfMemoryError, match=r"^out of memory \(10.0 GB there\): make"),
        hardware.shortage_explained(),
    ):
        raise MemoryError


PAGES = "\n".join(["E0000 external/xla/xla/service/gpu: %fusion.12 = bf16[512,32,32,64]"] * 200)
OOM, GPU = tf.errors.ResourceExhaustedError, "/job:localhost/replica:0/task:0/device:GPU:0"
INTERNAL, UNKNOWN = tf.errors.InternalError, tf.errors.UnknownError


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (
            OOM(None, None, f"OOM when allocating tensor with shape[65536,32,32,64] and type half on {GPU}"),
            " for a tensor with shape[65536,32,32,64] (8.6 GB needed at once, 80.0 GB there)",
        ),
        (
            OOM(None, None, f"Out of memory while trying to allocate 137438953472 bytes.\n{PAGES} on {GPU}"),
            " (137.4 GB needed at once, 80.0 GB there)",
        ),
        (INTERNAL(None, None, f"Failed to allocate 12.00GiB on {GPU}"), " (12.9 GB needed at once, 80.0 GB"),
        (UNKNOWN(None, None, f"CUDA_ERROR_OUT_OF_MEMORY: out of memory\n{PAGES}"), " (80.0 GB there)"),
        (INTERNAL(None, None, f"RESOURCE_EXHAUSTED: {PAGES}"), " (10.0 GB there)"),
        (
            MemoryError("Unable to allocate 64.0 TiB for an array with shape (1048576, 8388608)"),
            " (70,368.7 GB needed at once, 10.0 GB there)",
        ),
        (MemoryError(), " (10.0 GB there)"),
    ],
)
def test_whatever_is_raised_for_want_of_memory_is_one_line_with_what_is_known(
    error: Exception, facts: str, ten_gigabytes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = subprocess.CompletedProcess([], 0, f"{80 * 10**9 / 2**20}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: listed)
    with pytest.raises(hardware.OutOfMemoryError) as caught, hardware.shortage_explained(65536):
        raise error
    said = str(caught.value)
    assert said.startswith(f"out of memory with training.batch_size=65536{facts}")
    assert said.endswith("make the model or training.batch_size smaller")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("error", "sign"),
    [
        (UNKNOWN(None, None, f"NOT_FOUND: No valid config found!\n{PAGES}"), "No valid config found"),
        (INTERNAL(None, None, f"CUDA_ERROR_ILLEGAL_ADDRESS: {PAGES}"), "CUDA_ERROR_ILLEGAL_ADDRESS"),
        (
            UNKNOWN(None, None, f"Graph execution error: an illegal memory access was met\n{PAGES}"),
            "illegal memory access",
        ),
    ],
)
def test_what_a_batch_can_cause_that_is_too_large_is_said_with_its_sign(error: Exception, sign: str) -> None:
    with pytest.raises(hardware.OutOfMemoryError) as caught, hardware.shortage_explained(512):
        raise error
    assert str(caught.value) == (
        f"a step with training.batch_size=512 failed on the GPU ({sign}), as one does that does not fit into "
        "it: make the model or training.batch_size smaller"
    )


def test_another_error_of_tensorflow_is_left_as_it_is() -> None:
    with pytest.raises(tf.errors.InternalError, match="the file is gone"), hardware.shortage_explained(64):
        raise tf.errors.InternalError(None, None, "the file is gone")


def test_the_available_memory_is_read() -> None:
    assert hardware.available_memory() > 2**20


def test_a_container_has_no_more_memory_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path("/proc/self/cgroup").read_text() if Path("/proc/self/cgroup").is_file() else ""
    if "0::" not in own:
        pytest.skip("needs control groups of version 2")
    inside = tmp_path / own.partition("0::/")[2].strip()
    inside.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path)
    there = hardware.available_memory()
    for name, text in (("max", "5000"), ("current", "3000"), ("stat", "anon 1\ninactive_file 100\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert hardware.available_memory() == 2100
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware.available_memory() > 2100
    assert there > 2100


def test_nothing_of_ours_needs_a_module_that_windows_lacks(
    run_python: Callable[..., Outcome],
) -> None:
    lacks = "import psutil, sys; sys.modules.update(dict.fromkeys(['fcntl', 'resource', 'pwd']))"
    imports = "from cnnbench import data, runs, system"
    outcome = run_python(f"{lacks}; {imports}; print(system.usable_cores() > 0, runs.find_runs([]))")
    assert (outcome.out, outcome.exit_code) == ("True []\n", 0), outcome.err


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("script", "named", "free"),
    [
        (
            'case "$1" in *index) echo 0; echo 1;; *free) echo 81079; echo 40000;; esac',
            ["0", "1"],
            40000 * 2**20,
        ),
        ('case "$1" in *index) echo 0;; *free) echo "[N/A]";; esac', ["0"], None),
        ("echo no driver; exit 9", [], None),
        (None, [], None),
    ],
)
def test_the_drivers_tool_is_asked_for_gpus_and_their_memory(
    script: str | None, named: list[str], free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert hardware.gpus() == named
    assert hardware.gpu_memory_free() == free
