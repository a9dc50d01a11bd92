"""Precision `auto` on a CPU: when it is probed, what it remembers, and that a resumed run keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from conftest import TINY, Outcome

from cnnbench.data.dataset import Dataset, Split
from cnnbench.models.cnn import cnn
from cnnbench.runs import Training
from cnnbench.system import files, hardware
from cnnbench.training import device, steps

Cli = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A processor with bfloat16, an empty memory, and every training worth a probe."""
    monkeypatch.setattr(steps, "has_bfloat16", lambda: True)
    monkeypatch.setattr(steps, "WORTH", 1.0)
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {"float32": 1.0, "mixed_bfloat16": 0.5, "probes": 0, "now": 0.0}

    def step(build: Any, policy: str, *_: Any) -> Callable[[], None]:
        found["probes"] += 1
        keras.random.uniform((1,))  # a probe draws

        def take() -> None:
            found["now"] += found[policy]

        return take

    monkeypatch.setattr(steps, "_step", step)
    monkeypatch.setattr(steps, "time", SimpleNamespace(perf_counter=lambda: found["now"]))
    return found


def choose(wanted: str = "auto", **spec: Any) -> tuple[keras.Model, str]:
    split = Split(np.zeros((20, 8, 8, 1), np.uint8), np.arange(20) % 3)
    dataset = Dataset("mine", "multiclass", split, split, class_names=("a", "b", "c"))
    training = Training(epochs=1, batch_size=4)
    given = SimpleNamespace(
        **{
            "seed": 0,
            "deterministic": False,
            "device": "cpu",
            "augmentation": None,
            "training": training,
            **spec,
        }
    )
    machine = device.prepare_machine(0, False, "cpu", wanted)
    build = lambda: cnn((8, 8, 1), 3, filters=(2,), dense_units=(2,))  # noqa: E731
    model, machine = steps.built_in_best(build, given, wanted, dataset, machine)  # type: ignore[arg-type]
    return model, machine.precision


@pytest.mark.parametrize(("mixed", "chosen"), [(0.5, "mixed_bfloat16"), (0.95, "float32"), (2.0, "float32")])
def test_bfloat16_is_taken_where_it_gains(mixed: float, chosen: str, times: dict[str, Any]) -> None:
    times["mixed_bfloat16"] = mixed
    model, found = choose()
    assert found == chosen
    assert model.get_layer("conv_1").compute_dtype == chosen.removeprefix("mixed_")


def test_a_probe_is_made_once_and_changes_no_weight(times: dict[str, Any], tmp_path: Path) -> None:
    first, _ = choose()
    assert times["probes"] == 2
    second, _ = choose()
    assert times["probes"] == 2
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "cache" / "precision.json").write_text('{"cut sh')
    choose()
    assert times["probes"] == 4
    assert len(json.loads((tmp_path / "cache" / "precision.json").read_text())) == 1


def test_a_network_that_fails_in_bfloat16_is_trained_in_float32(
    times: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(build: Any, policy: str, *_: Any) -> Callable[[], None]:
        if policy != "float32":
            raise TypeError("float32 times bfloat16")
        return lambda: None

    monkeypatch.setattr(steps, "_step", step)
    assert choose()[1] == "float32"
    assert choose()[1] == "float32"  # from the file


def test_nothing_is_probed_where_nothing_is_open(
    times: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose("float32")[1] == "float32"
    assert choose("mixed_bfloat16")[1] == "mixed_bfloat16"
    assert choose(deterministic=True)[1] == "float32"
    monkeypatch.setattr(steps, "WORTH", 1e12)
    assert choose()[1] == "float32"
    monkeypatch.setattr(steps, "WORTH", 1.0)
    monkeypatch.setattr(steps, "has_bfloat16", lambda: False)
    assert choose()[1] == "float32"
    assert times["probes"] == 0


def test_the_probe_itself_trains_in_both_precisions() -> None:
    choose()
    known = json.loads(next(Path(files.default_cache_dir()).glob("precision.json")).read_text())
    (times,) = known.values()
    assert times.keys() == {"float32", "mixed_bfloat16"}
    assert all(0 < seconds < 60 for seconds in times.values())


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu sse2 avx512_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu sse2 avx512f", False),
        ("", False),
    ],
)
def test_the_processor_says_what_it_has(line: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(Path, "read_text", lambda self: f"processor\t: 0\n{line}\n")
    assert hardware.has_bfloat16() is has


def test_a_resumed_run_keeps_its_precision(run_cli: Cli, folder: Path, times: dict[str, Any]) -> None:
    line = (*TINY, "training.epochs=2", "run_dir=run")
    assert run_cli(*line).exit_code == 0
    environment = json.loads((folder / "run" / "environment.json").read_text())
    assert environment["precision"] == "mixed_bfloat16"
    for name in ("metrics.json", "best.keras", "best.json", "history.jsonl", "history.csv"):
        (folder / "run" / name).unlink()
    times["mixed_bfloat16"] = 5.0
    (files.default_cache_dir() / "precision.json").unlink()
    assert run_cli("resume", "run").exit_code == 0
    assert json.loads((folder / "run" / "environment.json").read_text())["precision"] == "mixed_bfloat16"
