"""What a run is, and what is only its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnbench.data.dataset import Dataset, Split
from cnnbench.runs.identity import Identity, code_changes, config_changes, data_changes
from cnnbench.runs.places import is_place, places_in, with_absolute_places, without_places
from cnnbench.training.environment import config_hash

CONFIG: dict[str, Any] = {
    "seed": 0,
    "run_dir": "run",
    "data_dir": "data",
    "plugins": ["/mine.py"],
    "dataset": {"root": "pics", "test_root": None, "cache_dir": "cache", "data_dir": "data", "size": 16},
    "model": {"weights": "weights.h5", "dropout": 0.5},
    "training": {"batch_size": 64},
}


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("run_dir", "x", True),
        ("plugins", ["x"], True),
        ("dataset.root", "x", True),
        ("dataset.labels_file", "x", True),
        ("dataset.size", 16, False),
        ("model.weights", "imagenet", False),
        ("model.weights", None, False),
        ("model.weights", "x.h5", True),
        ("training.save_minutes", 1, False),
        ("optimizer.path", "x", False),
    ],
)
def test_what_is_a_place(key: str, value: Any, wanted: bool) -> None:
    assert is_place(key, value) is wanted


def test_places_are_written_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data", "pics"):
        (tmp_path / name).mkdir()
    (tmp_path / "weights.h5").touch()
    made = with_absolute_places(CONFIG)
    here = str(tmp_path)
    assert places_in(made) == {
        "run_dir": f"{here}/run",
        "data_dir": f"{here}/data",
        "plugins": ["/mine.py"],
        "dataset.root": f"{here}/pics",
        "dataset.cache_dir": f"{here}/cache",
        "dataset.data_dir": f"{here}/data",
        "model.weights": f"{here}/weights.h5",
    }
    assert CONFIG["dataset"]["root"] == "pics"
    assert with_absolute_places(made) == made


def test_a_folder_in_a_data_folder_and_one_that_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "pics").mkdir(parents=True)
    made = with_absolute_places({**CONFIG, "model": {"weights": "~/nowhere.h5"}})
    assert made["dataset"]["root"] == str(tmp_path / "data" / "pics")
    assert made["model"]["weights"] == str(Path.home() / "nowhere.h5")
    nowhere = with_absolute_places({"data_dir": None, "dataset": {"root": "nowhere at all"}})
    assert nowhere["dataset"]["root"] == "nowhere at all"


def test_the_hash_of_a_config_knows_no_places_but_the_content_of_weights(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.h5", "b.h5", "c.h5")]
    for path, text in zip(files, ("one", "one", "two"), strict=True):
        path.write_text(text)
    configs = [
        {
            **CONFIG,
            "run_dir": path.name,
            "dataset": {**CONFIG["dataset"], "root": path.name},
            "model": {"weights": str(path)},
        }
        for path in files
    ]
    first, second, third = (config_hash(config) for config in configs)
    assert first == second != third
    assert config_hash({**configs[0], "seed": 1}) != first


def test_only_what_is_no_place_is_a_change_of_the_config() -> None:
    moved = {**CONFIG, "run_dir": "/x", "dataset": {**CONFIG["dataset"], "root": "/y"}, "plugins": ["/z.py"]}
    assert config_changes(CONFIG, moved) == []
    edited = {**moved, "seed": 3, "training": {"batch_size": 32, "epochs": 5}}
    assert config_changes(CONFIG, edited) == [
        "seed: 3, was 0",
        "training.batch_size: 32, was 64",
        "training.epochs: 5, was not there",
    ]
    assert without_places(CONFIG)["dataset"] == {"size": 16}


def dataset(add: int = 0, files: dict[str, str] | None = None) -> Dataset:
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    y = np.arange(20) % 2
    return Dataset("d", "binary", Split(x + add, y), Split(x, y), class_names=("a", "b"), files=files or {})


def test_data_are_told_apart_by_files_and_else_by_splits() -> None:
    config: dict[str, Any] = {"plugins": []}
    first = Identity.of(config, dataset(), dataset())
    assert data_changes(first, Identity.of(config, dataset(), dataset())) == []
    other = Identity.of(config, dataset(1), dataset(1))
    assert data_changes(first, other) == ["other examples in train"]
    assert first.data_digest != other.data_digest
    before = Identity.of(config, dataset(), dataset()).as_dict() | {"files": {"a": "1", "b": "2", "c": "3"}}
    now = other.as_dict() | {"files": {"a": "1", "b": "9", **{f"n{i}": "0" for i in range(5)}}}
    path = Path("identity.json")
    assert data_changes(Identity.from_dict(before, path), Identity.from_dict(now, path)) == [
        "5 files added (n0, n1, n2 and 2 more)",
        "1 file removed (c)",
        "1 file changed (b)",
    ]


def test_a_split_drawn_by_another_seed_is_no_other_data() -> None:
    drawn = Identity.of({"seed": 1, "plugins": []}, dataset(), dataset(1))
    assert data_changes(Identity.of({"seed": 0, "plugins": []}, dataset(), dataset()), drawn) == []


def test_plugins_are_known_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for place in ("own_plugin.py", "own_package/__init__.py", "own_package/inner.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("value = 1\n")
    config = {"plugins": [str(tmp_path / "own_plugin.py"), "own_package"]}
    began = Identity.of(config, dataset(), dataset())
    assert code_changes(began, config) == []
    (tmp_path / "own_plugin.py").write_text("value = 2\n")
    (tmp_path / "own_package" / "inner.py").write_text("value = 2\n")
    assert code_changes(began, config) == [
        "plugin own_plugin has another content",
        "plugin own_package has another content",
    ]
