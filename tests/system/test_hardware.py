"""What cannot fit into memory is refused before it is made."""

from __future__ import annotations

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


def test_a_step_without_memory_fails_in_one_line() -> None:
    said = r"^out of memory for a tensor with shape\[1000000,1000000\]: make .* smaller$"
    with pytest.raises(hardware.OutOfMemoryError, match=said), hardware.shortage_explained():
        tf.random.normal((10**6, 10**6))
    with (
        pytest.raises(hardware.OutOfMemoryError, match=r"^out of memory: make"),
        hardware.shortage_explained(),
    ):
        raise MemoryError


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
