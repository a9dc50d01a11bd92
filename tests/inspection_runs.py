"""Small trained runs, one per kind of task, made when first asked for and shared by several test files."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from cnnbench import reporting
from cnnbench.config.composition import compose, plain_config, spec_from
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.spec import RunSpec
from cnnbench.training import run

SYNTHETIC = ("dataset=synthetic", "dataset.examples=300", "dataset.noise=0.1", "training.batch_size=16")
SMALL_CNN = ("model.filters=[4,8]", "model.dense_units=[8]", "training.epochs=4", "device=cpu")
KINDS = {
    "multiclass": (*SYNTHETIC, "dataset.classes=3", "dataset.size=8", *SMALL_CNN),
    "binary": (*SYNTHETIC, "dataset.classes=2", "dataset.size=12", "dataset.channels=3", *SMALL_CNN),
    "regression": ("dataset=diabetes", "model=mlp", "model.units=[8]", "training.epochs=2", "device=cpu"),
    "multilabel": (*SYNTHETIC, "dataset.task=multilabel", "dataset.size=8", *SMALL_CNN),
    "targets": (
        *(*SYNTHETIC, "dataset.task=regression", "dataset.targets=3", "dataset.size=8", *SMALL_CNN),
        "training.scale_targets=true",
    ),
    "mlp": (
        *SYNTHETIC,
        "dataset.classes=3",
        "dataset.size=8",
        "model=mlp",
        "training.epochs=2",
        "device=cpu",
    ),
}


@cache
def trained(kind: str) -> RunFolder:
    """Return the folder of a finished run; copy it before you change anything in it."""
    place = Path(tempfile.mkdtemp(prefix="cnnbench_tests_"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    overrides = KINDS[kind]
    config = {**plain_config(compose(overrides)), "name": kind}
    with pytest.MonkeyPatch.context() as patch:  # whatever the test that asks first goes without
        patch.setattr(run, "figures_of_run", reporting.figures_of_run)
        patch.setattr(run, "run_page", reporting.run_page)
        run.run(spec_from(config, place / "run", overrides))
    return RunFolder(place / "run")


def spec_of(folder: RunFolder) -> RunSpec:
    return spec_from(folder.config, folder.path)
