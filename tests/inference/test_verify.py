"""Whether a stored run still gives its figures: what must pass, and what must be found out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from cnnbench.config.composition import spec_from
from cnnbench.errors import CnnbenchError
from cnnbench.inference.evaluation import Verdict, verify
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.spec import RunSpec
from cnnbench.system.files import sha256


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> RunFolder:
    """A copy, to be changed."""
    return RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))


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


def test_an_untouched_run_passes_with_every_figure_of_val_and_test(run: RunFolder) -> None:
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
