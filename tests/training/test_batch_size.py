"""`training.batch_size=auto`, and the largest batch that fits where memory is short, which is simulated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, Outcome

from cnnbench.data.sources.synthetic import synthetic
from cnnbench.models.mlp import mlp
from cnnbench.runs import RunFolder, RunSpec, Training
from cnnbench.system import OutOfMemoryError
from cnnbench.training import device, run, steps

Cli = Callable[..., Outcome]
DATA = partial(synthetic, classes=3, size=8)


def choose(examples: int, on_gpu: bool = False) -> int:
    machine = replace(device.prepare_machine(0, False, "cpu", "float32"), on_gpu=on_gpu)
    dataset = DATA(examples=examples)
    return steps.choose_batch_size(lambda: mlp((8, 8, 1), 3, units=(4,)), dataset, machine)


def simulate(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float]) -> list[int]:
    """Let a step of so many examples take so long; returns the sizes that are tried."""
    tried: list[int] = []

    def measured(step: Any, dataset: Any, size: int, on_gpu: bool) -> float:
        tried.append(size)
        return seconds(size)

    monkeypatch.setattr(steps, "_seconds", measured)
    return tried


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        (lambda size: 1.0, 256),  # up to a twentieth of 6,400 training examples
        (lambda size: size, 16),  # nothing is gained
        (lambda size: max(size, 64), 64),
        (lambda size: size**0.9, 16),  # a doubling that gains 7 % does not pay
    ],
)
def test_on_a_cpu_a_batch_is_doubled_while_that_pays(
    seconds: Callable[[int], float], chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch, seconds)
    assert choose(8000) == chosen


def test_a_gpu_takes_what_fits_and_an_epoch_keeps_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def short_above_128(size: int) -> float:
        if size > 128:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[9,9]")
        return float(size)  # however little it gains

    tried = simulate(monkeypatch, short_above_128)
    assert choose(100_000, on_gpu=True) == 128
    assert tried == [16, 32, 64, 128, 256]
    assert choose(900, on_gpu=True) == 32
    simulate(monkeypatch, float)
    assert choose(100_000, on_gpu=True) == 1024


def test_where_not_even_the_smallest_fits_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(size: int) -> float:
        raise MemoryError

    simulate(monkeypatch, never)
    with pytest.raises(OutOfMemoryError, match=r"^out of memory with training\.batch_size=16"):
        choose(2000)


def test_memory_that_would_not_do_for_twice_as_many_ends_the_doubling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr(steps.system.PeakMemory, "bytes", lambda self: next(taken))
    monkeypatch.setattr(steps.system, "available_memory", lambda: 2.4e9)
    simulate(monkeypatch, lambda size: 1.0)
    assert choose(8000) == 16


def test_the_probe_itself_takes_steps() -> None:
    assert choose(800) in (16, 32)


def test_what_was_chosen_is_written_down_and_never_chosen_again(
    run_cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch, lambda size: 1.0)
    line = (*TINY, "dataset.examples=900", "training.examples=null", "training.batch_size=auto")
    outcome = run_cli(*line, "training.epochs=2", "run_dir=run")
    assert outcome.exit_code == 0, outcome.err
    assert "steps of 32 examples" in outcome.out
    found = RunFolder(folder / "run")
    assert found.environment["batch_size"] == 32
    assert found.config["training"]["batch_size"] == 32
    assert found.identity is not None
    assert found.identity.config["training"]["batch_size"] == 32
    assert "training.batch_size=auto" in found.overrides
    monkeypatch.setattr(steps, "choose_batch_size", lambda *_: pytest.fail("chosen again"))
    assert run_cli("verify", "run").exit_code == 0
    for name in ("metrics.json", "best.keras", "best.json", "history.jsonl", "history.csv"):
        (folder / "run" / name).unlink()
    shutil.rmtree(folder / "run" / "last", ignore_errors=True)
    assert run_cli("resume", "run").exit_code == 0


def test_a_sweep_or_a_notebook_that_resumes_with_auto_keeps_the_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch, lambda size: 1.0)
    spec = spec_for(tmp_path, mlp, "auto")
    run.run(spec)
    (tmp_path / "run" / "metrics.json").unlink()
    monkeypatch.setattr(steps, "choose_batch_size", lambda *_: pytest.fail("chosen again"))
    assert run.run(spec, resume=True).status == "done"
    assert RunFolder(tmp_path / "run").config["training"]["batch_size"] == 32


def test_a_run_with_auto_is_the_run_with_the_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the probe draws changes no weight."""
    simulate(monkeypatch, lambda size: 1.0)
    for name, size in (("auto", "auto"), ("number", 32)):
        run.run(replace(spec_for(tmp_path, mlp, size), run_dir=tmp_path / name, deterministic=True))
    first, second = (keras.models.load_model(tmp_path / name / "best.keras") for name in ("auto", "number"))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_auto_is_for_one_device() -> None:
    with pytest.raises(ValueError, match="batch_size=auto is chosen for one device"):
        Training(batch_size="auto", distribute="mirrored")


# ---------------------------------------------------------------- a batch that does not fit


@keras.saving.register_keras_serializable("mine")
class Greedy(keras.layers.Layer):
    """There is memory for so many examples only."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def call(self, inputs: Any, training: bool = False) -> Any:
        def allocate(x: np.ndarray) -> np.ndarray:
            if len(x) > self.most:
                raise MemoryError("Unable to allocate 9.0 GiB")
            return x

        passed = tf.numpy_function(allocate, [inputs], inputs.dtype)
        passed.set_shape(inputs.shape)
        return passed


def greedy(input_shape: tuple[int, ...], outputs: int, most: int) -> keras.Model:
    layers = [Greedy(most), keras.layers.Flatten(), keras.layers.Dense(outputs)]
    return keras.Sequential([keras.Input(input_shape), *layers])


def spec_for(folder: Path, model: Callable[..., keras.Model], batch_size: Any) -> RunSpec:
    return RunSpec(
        name="mine",
        run_dir=folder / "run",
        dataset=partial(DATA, examples=900),
        model=model,
        optimizer=keras.optimizers.Adam,
        learning_rate=0.01,
        training=Training(epochs=1, batch_size=batch_size, precision="float32"),
        device="cpu",
    )


@pytest.mark.parametrize(
    ("most", "batch_size", "said"),
    [
        (40, 300, r"with training\.batch_size=300.*smaller; training\.batch_size=32 fits$"),
        (64, 128, r"training\.batch_size=64 fits$"),
        (0, 4, "not even a single example fits$"),
    ],
)
def test_the_largest_batch_that_fits_is_named(most: int, batch_size: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError, match=said):
        run.run(spec_for(tmp_path, partial(greedy, most=most), batch_size))
    failure = json.loads((tmp_path / "run" / "failure.json").read_text())
    assert failure["stage"] == "fit"
    assert failure["cause"].startswith("out of memory")


def test_a_size_that_is_neither_a_number_nor_auto_is_refused(run_cli: Cli) -> None:
    outcome = run_cli(*TINY, "training.batch_size=automatic")
    assert outcome.exit_code == 2
    assert "training.batch_size=automatic" in outcome.err
