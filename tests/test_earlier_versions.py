"""What version 0.1.0 has left is opened, verified, compared, resumed and reported; its names still work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnbench.config.components import ALLOWED, allowed_signature
from cnnbench.renamed import MODULES, NAMES, current_name, with_current_targets
from cnnbench.runs.folder import RunFolder
from cnnbench.sweeps.store import Sweep

Cli = Callable[..., Any]
FIXTURE = Path(__file__).parent / "fixtures" / "version_0_1_0"
# Every target of our own that the YAML of version 0.1.0 named.
TARGETS = (
    "augmentation.augmentation", "callbacks.BestCheckpoint", "datasets.cifar.cifar10",
    "datasets.cifar.cifar100",
    "datasets.digits.digits", "datasets.fashion_mnist.fashion_mnist", "datasets.image_folder.image_folder",
    "datasets.mnist.mnist", "datasets.synthetic.synthetic", "datasets.tabular.california_housing",
    "datasets.tabular.diabetes", "layers.L1", "layers.PeriodicEmbedding", "losses.SmoothedCrossentropy",
    "losses.create_huber", "losses.huber", "models.airbench.airbench", "models.cnn.cnn",
    "models.fast.fast_cnn",
    "models.mlp.mlp", "models.resnet.resnet", "models.resnet.wide_resnet", "models.transfer.transfer",
    "models.vgg.vgg", "optimizers.Muon", "schedules.constant", "schedules.cosine",
    "schedules.exponential_decay", "schedules.triangular", "trackers.mlflow.MLflow",
    "trackers.tensorboard.TensorBoard",
)  # fmt: skip
PLUGIN = """
import numpy as np
from cnnbench.datasets.core import Dataset, Split
from cnnbench.errors import CnnbenchError


def stripes() -> Dataset:
    x = np.zeros((80, 8, 8, 1), np.uint8)
    x[::2, ::2] = 200
    x[1::2, :, ::2] = 200
    x[:, 0, 0, 0] = np.arange(80)
    y = np.arange(80) % 2
    return Dataset("stripes", "binary", Split(x[:60], y[:60]), Split(x[60:], y[60:]), class_names=("a", "b"))
"""


@pytest.fixture
def old(folder: Path) -> Path:
    """The working folder, with a copy of what the old version has left."""
    shutil.copytree(FIXTURE, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("target", TARGETS)
def test_a_config_may_name_what_it_named(target: str) -> None:
    new = current_name(f"cnnbench.{target}")
    assert new.rpartition(".")[2] == target.rpartition(".")[2]
    allowed_signature("model", new, ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_is_named_now_exists(module: str) -> None:
    path = Path(__file__).parents[1] / "cnnbench" / (MODULES[module].replace(".", "/") + ".py")
    assert path.is_file()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_has_moved_is_where_it_should_be(name: str) -> None:
    module, _, attribute = current_name(f"cnnbench.{name}").rpartition(".")
    assert hasattr(__import__(module, fromlist=[attribute]), attribute)


def test_only_targets_are_changed_and_the_config_is_not() -> None:
    config = {"model": {"_target_": "cnnbench.models.cnn.cnn", "inner": [{"_target_": "cnnbench.layers.L1"}]}}
    told: list[tuple[str, str]] = []
    changed = with_current_targets(config, lambda *names: told.append(names))
    assert changed["model"]["inner"][0]["_target_"] == "cnnbench.nn.layers.L1"
    assert changed["model"]["_target_"] == "cnnbench.models.cnn.cnn"
    assert config["model"]["inner"][0]["_target_"] == "cnnbench.layers.L1"  # type: ignore[index]
    assert told == [("cnnbench.layers.L1", "cnnbench.nn.layers.L1")]
    assert current_name("cnnbench.nowhere.thing") == "cnnbench.nowhere.thing"
    assert current_name("keras.layers.Dense") == "keras.layers.Dense"


def test_a_script_goes_on_with_one_line_for_a_module(run_python: Cli) -> None:
    outcome = run_python(
        "from cnnbench.datasets.core import Dataset, Split\n"
        "import cnnbench.datasets.splits, cnnbench.data\n"
        "assert Dataset is cnnbench.data.Dataset and cnnbench.datasets.splits.leaks is cnnbench.data.leaks\n"
        "from cnnbench.spec import RunSpec\n"
        "import sys; assert 'tensorflow' not in sys.modules\n"
    )
    assert outcome.exit_code == 0, outcome.err
    told = [line for line in outcome.err.splitlines() if "Warning" in line]
    assert len(told) == 3
    assert "cnnbench.datasets.core is gone: from cnnbench.data import Dataset" in told[0]


def test_what_there_never_was_is_still_missing(run_python: Cli) -> None:
    assert "ImportError" in run_python("from cnnbench.datasets.core import Datasets").err
    assert "ModuleNotFoundError" in run_python("import cnnbench.datasets.nothing").err
    assert "AttributeError" in run_python("import cnnbench; cnnbench.nothing").err


def test_a_plugin_and_a_yaml_of_that_time_still_run(old: Path, run_process: Cli) -> None:
    (old / "mine.py").write_text(PLUGIN)
    (old / "my_conf" / "dataset").mkdir(parents=True)
    (old / "my_conf" / "dataset" / "mine.yaml").write_text("# stripes\n_target_: mine.stripes\n")
    (old / "my_conf" / "loss").mkdir()
    (old / "my_conf" / "loss" / "mine.yaml").write_text(
        "# ours\n_target_: cnnbench.losses.create_huber\nthreshold: 1.0\n"
    )
    line = ("--config-dir", "my_conf", "dataset=mine", "loss=mine", "plugins=[mine.py]", "training=smoke")
    small = ("model.filters=[4]", "model.dense_units=[8]", "device=cpu", "run_dir=new")
    outcome = run_process(*line, *small)
    assert outcome.exit_code == 0, outcome.err
    printed = " ".join((outcome.out + outcome.err).split())
    assert printed.count("cnnbench.losses.create_huber is called cnnbench.nn.losses.create_huber now") == 1
    assert printed.count("cnnbench.datasets.core is gone") == 1
    assert RunFolder(old / "new").config["loss"]["_target_"] == "cnnbench.nn.losses.create_huber"


def test_its_run_is_verified_evaluated_and_reported(old: Path, run_cli: Cli) -> None:
    outcome = run_cli("verify", "run")
    assert outcome.exit_code == 0, outcome.out + outcome.err
    assert "PASS" in outcome.out
    evaluated = json.loads(run_cli("evaluate", "run", "--json").out)
    assert evaluated["metrics"]["accuracy"] == evaluated["recorded"]["accuracy"]
    assert run_cli("report", "run").exit_code == 0
    assert (old / "run" / "report.html").is_file()
    assert run_cli("diff", "run", "sweep/000_cnn_synthetic_seed0").exit_code == 0


def test_its_stopped_run_goes_on_to_the_end(old: Path, run_cli: Cli) -> None:
    before = RunFolder(old / "stopped").history
    outcome = run_cli("resume", "stopped")
    assert outcome.exit_code == 0, outcome.err
    folder = RunFolder(old / "stopped")
    assert folder.status == "done"
    assert len(folder.history) == 30
    assert folder.history[: len(before)] == before


def test_its_sweep_is_gone_on_with_and_compares_with_a_run_of_today(old: Path, run_cli: Cli) -> None:
    assert [Sweep.open(old / "sweep").status(number) for number in range(3)] == ["done", "done", "waiting"]
    outcome = run_cli("resume", "sweep")
    assert outcome.exit_code == 0, outcome.err
    assert "2 of 3 runs are done" in outcome.out
    typed = [
        text for text in Sweep.open(old / "sweep").jobs[0].overrides if not text.startswith(("seed", "run"))
    ]
    momentum = "model.momentum=0.99"  # as it was before there was such a key
    assert run_cli(*typed, "seed=3", "run_dir=today", momentum).exit_code == 0
    assert run_cli("compare", "sweep", "today", "--json", "compared.json").exit_code == 0
    compared = json.loads((old / "compared.json").read_text())
    (ranking,) = compared["rankings"]
    (group,) = ranking["groups"]
    assert sorted(run["seed"] for run in group["runs"]) == [0, 1, 2, 3]
    assert "_target_" not in run_cli("diff", "sweep/000_cnn_synthetic_seed0", "today").out
