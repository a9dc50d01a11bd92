"""`cnnbench check`: what would fail and what a run takes, without running it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TINY, Outcome, own_model

from cnnbench.cli import console
from cnnbench.data import with_validation
from cnnbench.data.dataset import Dataset
from cnnbench.data.sources.synthetic import synthetic
from cnnbench.errors import CnnbenchError
from cnnbench.models.cnn import cnn
from cnnbench.models.mlp import mlp
from cnnbench.models.transfer import transfer
from cnnbench.runs.spec import FineTuning, RunSpec, Training
from cnnbench.sweeps import rehearsal
from cnnbench.sweeps.rehearsal import Phase, rehearse
from cnnbench.sweeps.schema import Forecast
from cnnbench.training.callbacks import BestCheckpoint

Cli = Callable[..., Outcome]
# The first kind takes its process along; the others must not notice.
PLUGIN = """
import os, signal
from cnnbench.models.mlp import mlp

def plugged(input_shape, outputs, does: str = "well"):
    if does == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "raises":
        raise RuntimeError("no such layer today")
    return mlp(input_shape, outputs, units=[4])
"""


@pytest.fixture
def plugin(folder: Path) -> tuple[str, ...]:
    return ("-m", *own_model(folder, "plugged", PLUGIN, "does: well\n"))


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return RunSpec(
        name="cnn_synthetic",
        run_dir=tmp_path / "run",
        dataset=partial(synthetic, examples=60, classes=3, size=8),
        model=partial(cnn, filters=[4], dense_units=[8]),
        optimizer=keras.optimizers.Adam,
        learning_rate=0.01,
        callbacks={"checkpoint": partial(BestCheckpoint, monitor="val_loss", mode="min")},
        training=Training(epochs=2, batch_size=16, precision="float32"),
    )


def test_each_failing_job_is_named_and_the_others_are_tried(
    plugin: tuple[str, ...], run_process: Cli, folder: Path
) -> None:
    outcome = run_process(
        "check", *plugin, "model.does=dies,raises,well", "seed=0,1", "training.batch_size=16,none", "--json"
    )
    assert (outcome.exit_code, outcome.err) == (2, "")
    found = json.loads(outcome.out)
    jobs = {tuple(row["overrides"][-3:]): row for row in found["jobs"]}
    assert len(jobs) == 12
    assert found["fails"] == 10
    for (does, _, batch_size), row in jobs.items():
        if batch_size.endswith("none"):
            assert row["error"].startswith("training.batch_size")
        elif does.endswith("dies"):
            assert "killed by SIGKILL, which is what a machine out of memory does" in row["error"]
        elif does.endswith("raises"):
            assert row["error"] == "no such layer today"
        else:
            assert row["error"] is None
            assert row["parameters"] == mlp((8, 8, 1), 3, units=[4]).count_params()
            assert row["flops"] > 2 * 4 * 64
            assert 0 < row["epoch_seconds"] < row["seconds"]
            assert row["peak_memory_bytes"] > 10**8
    seconds = [row["seconds"] for row in jobs.values() if row["error"] is None]
    assert seconds[0] == seconds[1]  # the seed makes no new kind
    assert found["hours"] == pytest.approx(sum(seconds) / 3600)
    assert not (folder / "outputs").exists()


def test_one_run_is_checked_and_nothing_stays_behind(run_process: Cli, folder: Path) -> None:
    outcome = run_process("check", *TINY, "run_dir=run")
    assert (outcome.exit_code, outcome.err) == (0, "")
    assert "1 of 1 would run" in outcome.out
    assert "estimated" in outcome.out
    assert list(folder.iterdir()) == []


def test_a_mistyped_key_costs_no_start_of_tensorflow(run_cli: Cli) -> None:
    outcome = run_cli("check", "sed=1")
    assert outcome.exit_code == 2
    assert "run 0 would fail: there is no key sed" in outcome.out
    assert "did you mean seed?" in outcome.out


def test_a_folder_of_options_cannot_choose_what_hydra_runs(run_cli: Cli, folder: Path) -> None:
    (folder / "theirs" / "model").mkdir(parents=True)
    text = "# @package _global_\nhydra:\n  callbacks:\n    x: {_target_: os.getcwd}\n"
    (folder / "theirs" / "model" / "evil.yaml").write_text(text)
    outcome = run_cli("check", "--config-dir", "theirs", "model=evil")
    assert outcome.exit_code == 2
    assert "sets something below hydra" in outcome.out


def test_epochs_and_phases_are_estimated_from_what_was_measured(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "MEASURED_SECONDS", 0.1)
    found = rehearse(spec, tmp_path / "scratch")
    assert len(found.epoch_seconds) == 1
    assert found.epoch_seconds[0] > 0
    assert found.once_seconds > 0
    assert not spec.run_dir.exists()


# A GPU that is none, in the process of a rehearsal: XLA compiles for the processor.
STAND_IN = """
import os
from cnnbench.models.mlp import mlp
from cnnbench.training import build, chunks, device, measure

def remember(*told):
    raise AssertionError(f"a rehearsal remembers {told}")

def plugged(input_shape, outputs):
    chunks.remember = remember
    measure.gpu_peak_bytes = lambda: 3 * 10**9
    build.choose_engine = lambda *given: chunks.Engine("CPU:0", True, True, "", "abc")
    return mlp(input_shape, outputs, units=[4])

if "CNNBENCH_TEST_STAND_IN" in os.environ:
    device._describe = lambda gpus: "GPU: NVIDIA H100 80GB HBM3"
"""


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_on_a_gpu_the_check_is_of_its_steps_and_its_memory(
    run_process: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = own_model(folder, "plugged", STAND_IN)
    (folder / "nvidia-smi").write_text("#!/bin/sh\necho 78000\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("CNNBENCH_TEST_STAND_IN", "1")
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run_process("check", *line, "training.epochs=50")
    assert (outcome.exit_code, outcome.err) == (0, "")
    assert " GB │\n│   │" in outcome.out
    assert "│ 3.00 GB GPU │" in outcome.out
    assert "GPU: NVIDIA H100 80GB HBM3, 81.8 GB of its memory free; XLA" in " ".join(outcome.out.split())
    row = json.loads(run_process("check", *line, "training.epochs=50", "--json").out)["jobs"][0]
    assert (row["peak_gpu_memory_bytes"], row["free_gpu_memory_bytes"]) == (3 * 10**9, 78000 * 2**20)
    assert 0 < 50 * row["epoch_seconds"] < row["seconds"]


def test_what_a_rehearsal_leaves_out_would_lie_on_the_gpu_too() -> None:
    whole = with_validation(synthetic(examples=3000, classes=3, size=8), 0.3, None, 0)
    small = rehearsal._shortened(whole, 100, with_train=False)
    images = Phase(whole.input_shape)
    assert rehearsal._left_out(whole, small, images) == (len(whole.val or ()) - 100) * 64
    small = rehearsal._shortened(whole, 100, with_train=True)
    left_out = len(whole.train) + len(whole.val or ()) - 200
    assert rehearsal._left_out(whole, small, Phase((20,))) == left_out * 20 * 4  # features, in float32


def test_the_gpu_is_named_with_what_each_kind_of_job_takes() -> None:
    jobs = [
        Forecast(
            0, ["a=1"], "x", 10, 100, 1.0, 9.0, 10**9, "GPU: H100", "data on the GPU, XLA", 3 * 10**9, 10**9
        ),
        Forecast(
            1, ["a=2"], "y", 10, 100, 1.0, 9.0, 10**9, "GPU: H100", "data fed by the host, no XLA", 5, 10**9
        ),
        Forecast(2, ["a=3"], error="no"),
    ]
    assert console.gpu_lines(jobs) == [
        "GPU: H100, 1.0 GB of its memory free; run 0: data on the GPU, XLA",
        "GPU: H100, 1.0 GB of its memory free; run 1: data fed by the host, no XLA",
    ]
    *_, column = console.forecast_table(jobs, is_sweep=True).columns
    assert list(column.cells) == ["1.00 GB\n[red]3.00 GB GPU[/]", "1.00 GB\n0.00 GB GPU", ""]
    assert console.gpu_lines(jobs[2:]) == []


def test_fine_tuning_is_tried_too(spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "MEASURED_SECONDS", 0.1)
    small = partial(transfer, backbone="MobileNet", weights=None, backbone_arguments={"alpha": 0.25})
    tuning = FineTuning(from_layer="conv_pw_13", epochs=1, learning_rate=1e-4)
    changed = replace(
        spec,
        dataset=partial(synthetic, examples=60, classes=3, size=32, channels=3),
        model=small,
        training=spec.training.model_copy(update={"fine_tuning": tuning}),
    )
    found = rehearse(changed, tmp_path / "scratch")
    head, tuned = found.epoch_seconds
    assert min(head, tuned) > 0


def test_a_failure_is_that_of_the_run(spec: RunSpec, tmp_path: Path) -> None:
    def mistaken() -> Dataset:
        raise CnnbenchError("no data today")

    with pytest.raises(CnnbenchError, match="no data today"):
        rehearse(replace(spec, dataset=mistaken), tmp_path / "scratch")


def test_a_sample_has_every_class_of_a_split_that_lies_class_by_class() -> None:
    split = synthetic(examples=3000, classes=3, size=8).train
    split = split.take(np.argsort(split.y))
    sample = rehearsal._sample(split, rehearsal.MOST_EXAMPLES)
    assert len(sample) == rehearsal.MOST_EXAMPLES
    assert np.bincount(sample.y).min() > rehearsal.MOST_EXAMPLES / 4


def test_the_first_epoch_or_chunk_is_no_measure() -> None:
    by_epochs = Phase((8,), epochs=[(0.0, 9.0), (9.0, 10.0), (10.0, 12.0), (12.0, 13.0)], chunks=[(4, 9.0)])
    assert by_epochs.epoch_seconds(steps=4) == 1.0
    assert by_epochs.measured_seconds == 5.0
    by_chunks = Phase((8,), chunks=[(10, 5.0), (10, 1.0), (5, 0.5)])
    assert by_chunks.epoch_seconds(steps=100) == 10.0
    assert by_chunks.measured_seconds == 1.0
    # By XLA, and then the smaller batch that is left, for which a GPU loads kernels: no measure of either.
    assert Phase((8,), chunks=[(703, 12.0), (1, 5.0)]).later_chunks == []
