"""Whether a stored run still gives its figures: what must pass, and what must be found out."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from cnnbench.config.composition import compose, plain_config, spec_from
from cnnbench.errors import CnnbenchError
from cnnbench.inference.verification import Verdict, recompute, verify
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.spec import RunSpec
from cnnbench.system.files import sha256
from cnnbench.training.run import run as train

SMALL = (
    "model=mlp",
    "model.units=[8]",
    "dataset=synthetic",
    "dataset.size=8",
    "training=smoke",
    "device=cpu",
)


@pytest.fixture
def copied(finished_run: Path, tmp_path: Path) -> RunFolder:
    """A copy, to be changed."""
    return RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))


@pytest.fixture
def run(copied: RunFolder, verified_here: None) -> RunFolder:
    return copied


def spec_of(run: RunFolder) -> RunSpec:
    return spec_from(run.config, run.path)


def verdict_on(run: RunFolder) -> Verdict:
    return verify(run, spec_of(run))


def change_weights(run: RunFolder) -> None:
    model = keras.models.load_model(run.best_model)
    kernel = model.get_layer("outputs").kernel
    kernel.assign(-np.asarray(kernel))
    model.save(run.best_model)


def differing(verdict: Verdict) -> set[str]:
    return {name for name, *_, agrees in verdict.rows if not agrees}


def test_an_untouched_run_passes_with_every_figure_of_val_and_test(copied: RunFolder) -> None:
    run = copied
    verdict = verdict_on(run)
    assert verdict.passed
    assert verdict.complaints == []
    recorded = run.metrics["metrics"]
    expected = {f"{split} {name}" for split in ("val", "test") for name in recorded[split]}
    assert {name for name, *_ in verdict.rows} == expected
    for name, value, measured, _ in verdict.rows:
        split, _, metric = name.partition(" ")
        assert value == recorded[split][metric]
        assert measured == pytest.approx(value, abs=1e-5)


def test_other_weights_fail_by_their_hash_and_by_their_figures(run: RunFolder) -> None:
    change_weights(run)
    verdict = verdict_on(run)
    assert not verdict.passed
    assert any("best.keras" in complaint for complaint in verdict.complaints)
    assert "test loss" in differing(verdict)


def test_other_weights_fail_even_where_the_hash_was_forged(run: RunFolder) -> None:
    change_weights(run)
    best = {**run.best, "sha256": sha256(run.best_model)}
    (run.path / "best.json").write_text(json.dumps(best))
    verdict = verdict_on(run)
    assert verdict.complaints == []
    assert not verdict.passed


def test_a_forged_figure_fails(run: RunFolder) -> None:
    metrics = run.metrics
    metrics["metrics"]["test"]["accuracy"] += 0.001
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    verdict = verdict_on(run)
    assert not verdict.passed
    assert differing(verdict) == {"test accuracy"}


def change_environment(run: RunFolder, **values: str) -> None:
    (run.path / "environment.json").write_text(json.dumps({**run.environment, **values}))


def change_loss(run: RunFolder, factor: float) -> None:
    metrics = run.metrics
    metrics["metrics"]["test"]["loss"] *= factor
    (run.path / "metrics.json").write_text(json.dumps(metrics))


def test_nothing_that_the_run_measures_with_is_used(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Evaluation", "forward_graph", "predict_outputs"):
        monkeypatch.setattr(f"cnnbench.training.measure.{name}", None)
    assert verdict_on(run).passed


def test_on_the_same_device_a_loss_in_float32_is_right_to_five_digits(run: RunFolder) -> None:
    change_loss(run, 1 + 1e-4)
    verdict = verdict_on(run)
    assert differing(verdict) == {"test loss"}
    assert verdict.notes == []


@pytest.mark.parametrize(("factor", "passes"), [(1 + 1e-3, True), (1 + 1e-2, False)])
def test_another_device_is_told_and_judged_by_a_wider_bound(
    run: RunFolder, factor: float, passes: bool
) -> None:
    change_environment(run, device="CPU: none that there is, 4 cores")
    change_loss(run, factor)
    verdict = verdict_on(run)
    assert verdict.passed == passes
    assert "another device: CPU: " in verdict.notes[0]
    assert "the run's was CPU: none that there is, 4 cores" in verdict.notes[0]
    assert verdict.notes[1] == "figures in float32 may differ by 0.002 of their value here"


def test_another_number_of_cores_is_the_same_device(run: RunFolder) -> None:
    name = run.environment["device"].partition(",")[0]
    change_environment(run, device=f"{name}, 64 cores")
    assert verdict_on(run).notes == []


def test_a_file_of_another_precision_is_told(run: RunFolder) -> None:
    change_environment(run, precision="mixed_bfloat16")
    verdict = verdict_on(run)
    assert verdict.complaints == ["best.keras computes in float32, recorded is mixed_bfloat16"]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_run_in_half_precision_passes(precision: str, tmp_path: Path) -> None:
    overrides = [*SMALL, f"training.precision={precision}"]
    config = {**plain_config(compose(overrides)), "name": "half"}
    try:
        train(spec_from(config, tmp_path / "run", overrides))
    finally:
        keras.config.set_dtype_policy("float32")
    verdict = verdict_on(RunFolder(tmp_path / "run"))
    assert verdict.passed
    assert verdict.notes == [f"figures in {precision} may differ by 0.001 of their value here"]


@pytest.mark.parametrize(("kind", "message"), [("data", "data_dir=no is not a"), ("process", "failed: ")])
def test_what_goes_wrong_in_the_process_is_one_line(
    kind: str, message: str, copied: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied
    spec = spec_of(run)
    if kind == "data":
        config = run.config
        config["dataset"] = {"_target_": "cnnbench.data.sources.tables.california_housing", "data_dir": "no"}
        spec = replace(spec, config=config)
    else:
        monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(CnnbenchError, match=message):
        recompute(run, spec, ["test"], "cpu", 1e-5)


def test_other_data_fail_by_their_fingerprint(run: RunFolder) -> None:
    config = run.config
    config["dataset"]["seed"] += 1
    run.write_config(config, [])
    verdict = verdict_on(run)
    assert not verdict.passed
    assert any("the data differ" in complaint for complaint in verdict.complaints)


def test_another_validation_split_fails_too(run: RunFolder) -> None:
    config = run.config
    config["seed"] += 1
    run.write_config(config, [])
    verdict = verdict_on(run)
    assert not verdict.passed
    assert any("the data differ" in complaint for complaint in verdict.complaints)


@pytest.mark.parametrize("status", ["failed", "interrupted", None])
def test_a_run_that_is_not_finished_is_wrong_input(run: RunFolder, status: str | None) -> None:
    if status is None:
        (run.path / "metrics.json").unlink()
    else:
        (run.path / "metrics.json").write_text(json.dumps({"status": status}))
    with pytest.raises(CnnbenchError, match=status or "unfinished"):
        verdict_on(run)


def test_a_run_without_its_checkpoint_is_wrong_input(run: RunFolder) -> None:
    run.best_model.unlink()
    with pytest.raises(CnnbenchError, match=r"best\.keras"):
        verdict_on(run)


def test_a_damaged_checkpoint_is_wrong_input(run: RunFolder) -> None:
    content = run.best_model.read_bytes()
    run.best_model.write_bytes(content[: len(content) // 2])
    with pytest.raises(CnnbenchError, match="cannot load"):
        verdict_on(run)
