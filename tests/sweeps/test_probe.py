"""`cnnbench probe`: backbones ranked on the training split, and what more pictures would bring."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome
from data_files import write_pictures

import cnnbench
from cnnbench import sweeps
from cnnbench.errors import CnnbenchError
from cnnbench.models import catalogue

Cli = Callable[..., Outcome]
# Untrained, so that no weights have to be here.
UNTRAINED = ("model.weights=null", "model.image_size=32", "device=cpu")
SYNTHETIC = ("dataset=synthetic", "dataset.classes=3", "dataset.size=16", "dataset.examples=150", *UNTRAINED)
# A test split that nothing may read but its form, and pictures that belong together.
SHY = """
import numpy as np
from cnnbench.data.dataset import Dataset, Split

class Untouchable:
    def __init__(self, values):
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
    def __len__(self):
        return self.shape[0]
    def __getattr__(self, name):
        raise AssertionError(f"the test split was asked for {name}")
    def __getitem__(self, key):
        raise AssertionError("the test split was read")
    def __array__(self, *_, **__):
        raise AssertionError("the test split was read")

def shy(grouped: bool = False) -> Dataset:
    rng = np.random.default_rng(0)
    y = np.arange(120) // 2 % 2
    x = (rng.integers(0, 100, (120, 8, 8, 3)) + 80 * y[:, None, None, None]).astype(np.uint8)
    groups = np.arange(120) // 2 if grouped else None
    test = Split(x[:20], y[:20])
    dataset = Dataset("shy", "binary", Split(x, y, groups=groups), test, class_names=("a", "b"))
    object.__setattr__(test, "x", Untouchable(test.x))
    object.__setattr__(test, "y", Untouchable(test.y))
    return dataset
"""


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No backbone of this machine, and features of this test alone."""
    monkeypatch.setenv("CNNBENCH_BACKBONES", "none")
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shy(folder: Path) -> tuple[str, ...]:
    """The line of a data set whose test split must not be touched."""
    (folder / "shy.py").write_text(SHY)
    (folder / "mine" / "dataset").mkdir(parents=True)
    (folder / "mine" / "dataset" / "shy.yaml").write_text("_target_: shy.shy\n")
    return ("plugins=[shy]", "dataset=shy")


def test_the_test_split_is_never_touched(shy: tuple[str, ...]) -> None:
    found = cnnbench.probe(*shy, *UNTRAINED, backbones=["MobileNet_025"], config_dir="mine")
    assert (found.examples, found.of) == (120, 120)
    assert {one.name for one in found.ranked} == {"MobileNet_025", "pixels"}
    assert found.ranked[0].score > 0.9


def test_pictures_of_one_group_are_in_one_fold(shy: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    folds: list[np.ndarray] = []
    real = sweeps.probe.analysis.cross_validate

    def kept(axes: object, y: np.ndarray, task: str, fold: np.ndarray, weights: object) -> np.ndarray:
        folds.append(fold)
        return real(axes, y, task, fold, weights)

    monkeypatch.setattr(sweeps.probe.analysis, "cross_validate", kept)
    cnnbench.probe(*shy, "dataset.grouped=true", config_dir="mine", backbones=["pixels"])
    assert (folds[0][::2] == folds[0][1::2]).all()


def test_without_a_backbone_pixels_are_ranked_and_the_extra_is_named(folder: Path, run_cli: Cli) -> None:
    write_pictures(folder / "pics", "cat", "dog")
    outcome = run_cli("probe", "pics")
    assert outcome.exit_code == 0, outcome.err
    assert f"pip install '{catalogue.EXTRA}'" in outcome.err
    assert "│ pixels" in outcome.out
    assert "next: cnnbench dataset=image_folder dataset.root=pics" in outcome.out
    assert "model=transfer" not in outcome.out


def test_pictures_in_folders_are_read_at_the_size_of_the_backbone(folder: Path) -> None:
    write_pictures(folder / "pics", "cat", "dog")
    line = ("dataset=image_folder", "dataset.root=pics", "model.weights=null", "device=cpu")
    found = cnnbench.probe(*line, "model.image_size=40", backbones=["MobileNet_025"])
    assert {one.name: one.size for one in found.ranked} == {"MobileNet_025": 40, "pixels": 16}
    if found.ranked[0].name == "MobileNet_025":
        assert "dataset.size=40 dataset.resize=crop model.backbone=MobileNet_025" in found.next
        # The recipe of model=auto, which the data set takes of itself, where no other is typed.
        kept = cnnbench.probe(*line, "model=transfer", "model.image_size=40", backbones=["MobileNet_025"])
        assert "model=transfer model.backbone=MobileNet_025" in kept.next
    typed = cnnbench.probe(*line, "dataset.size=36", "model.image_size=40", backbones=["MobileNet_025"])
    assert "dataset.size=40" not in typed.next


def test_the_ranking_is_in_order_and_says_how_sure_it_is(run_cli: Cli) -> None:
    outcome = run_cli("probe", *SYNTHETIC, "backbones=[MobileNet_025]", "--json")
    told = json.loads(outcome.out)
    first, second = told["ranked"]
    assert first["score"] >= second["score"]
    assert (first["difference"], first["margin"]) == (0, None)
    assert second["difference"] == pytest.approx(first["score"] - second["score"])
    assert second["is_worse"] == (second["difference"] > second["margin"])
    assert all(one["low"] <= one["score"] <= one["high"] for one in told["ranked"])
    assert [point["examples"] for point in told["curve"]] == [10, 24, 48, 96]
    assert told["outlook"]["examples"] == 240
    assert told["outlook"]["low"] <= told["outlook"]["middle"] <= told["outlook"]["high"]


def test_features_are_computed_once(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    line = (*SYNTHETIC, "model.pooling=max")
    first = cnnbench.probe(*line, backbones=["MobileNet_025"])
    monkeypatch.setattr("cnnbench.training.features._compute", lambda *_: pytest.fail("computed again"))
    again = cnnbench.probe(*line, backbones=["MobileNet_025"])
    assert [one.score for one in again.ranked] == [one.score for one in first.ranked]


def test_more_pictures_than_wanted_are_drawn_evenly_and_it_is_said(folder: Path) -> None:
    found = cnnbench.probe(*SYNTHETIC, backbones=["pixels"], examples=60)
    assert (found.examples, found.of) == (60, 120)
    assert found.notes[-1] == "60 of 120 pictures, drawn evenly; examples=120 takes all"
    assert found.outlook is not None
    assert found.outlook.examples == 120  # what all of them would bring
    assert "all pictures (120)" in found.answer


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dataset=synthetic model=cnn", "leave it out"),
        ("dataset=synthetic model.backbone=ResNet50", "backbones=[ResNet50]"),
        ("dataset=diabetes", "no pictures"),
        ("dataset=synthetic backbones=[MobileNet_026]", "did you mean MobileNet_025"),
        ("dataset=synthetic backbones=[EfficientNetLite0]", "not here"),
        ("dataset=synthetic examples=0", "is not a number from 1 on"),
        ("dataset=synthetic examples=4", "too few"),
        ("dataset=nothing", "nothing"),
    ],
)
def test_wrong_input_is_one_line(line: str, words: str, run_cli: Cli) -> None:
    outcome = run_cli("probe", *line.split())
    assert outcome.exit_code == 2, outcome.err
    assert words in outcome.err
    assert "Traceback" not in outcome.err


def test_more_pictures_hardly_help_where_no_error_is_left(folder: Path) -> None:
    rng, y = np.random.default_rng(0), np.arange(100) % 2
    images = (rng.integers(0, 40, (100, 8, 8, 1)) + 150 * y[:, None, None, None]).astype(np.uint8)
    np.savez(folder / "easy.npz", images=images, labels=y)
    found = cnnbench.probe("dataset=arrays", "dataset.file=easy.npz", "device=cpu", backbones=["pixels"])
    assert found.ranked[0].score == 1
    assert "would hardly help" in found.answer


def test_a_regression_and_labels_are_probed_too(folder: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.random(100).astype(np.float32)
    images = (y[:, None, None, None] * 200 + rng.integers(0, 40, (100, 8, 8, 1))).astype(np.uint8)
    np.savez(folder / "values.npz", images=images, targets=y)
    found = cnnbench.probe("dataset=arrays", "dataset.file=values.npz", "device=cpu", backbones=["pixels"])
    assert (found.task, found.metric) == ("regression", "rmse")
    assert found.ranked[0].score < 0.1
    labels = np.stack([y > 0.5, y < 0.3], axis=1).astype(np.uint8)
    np.savez(folder / "labels.npz", images=images, labels=labels)
    line = ("dataset=arrays", "dataset.file=labels.npz", "device=cpu")
    found = cnnbench.probe(*line, backbones=["pixels"])
    assert (found.task, found.metric) == ("multilabel", "mean_average_precision")
    assert found.ranked[0].score > 0.8


def test_the_api_refuses_as_the_command_line_does() -> None:
    with pytest.raises(CnnbenchError, match="chooses the model itself"):
        cnnbench.probe("model=mlp")


def test_no_backbone_at_all_is_refused_on_the_line_and_in_python(run_cli: Cli) -> None:
    outcome = run_cli("probe", *SYNTHETIC, "backbones=[]")
    assert outcome.exit_code == 2
    assert "backbones=[] names none to rank" in outcome.err
    with pytest.raises(CnnbenchError, match="names none to rank"):
        cnnbench.probe(*SYNTHETIC, backbones=[])
