"""Which folders are splits, classes or neither; and what no person has put there."""

from __future__ import annotations

import os
import shlex
import socket
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnbench.data.dataset import Dataset
from cnnbench.data.images.folder import image_folder
from cnnbench.data.images.layout import SYSTEM_FOLDERS
from cnnbench.errors import CnnbenchError

pytest_plugins = ["picture_folders"]
pytestmark = pytest.mark.usefixtures("own_cache")


def fill(*folders: Path, count: int = 5) -> None:
    """So many pictures in each folder, no two alike."""
    for place in folders:
        place.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.frombuffer(os.urandom(192), np.uint8).reshape(8, 8, 3)
            Image.fromarray(pixels).save(place / f"{number}.png")


def load(root: Path, **arguments: Any) -> Dataset:
    return image_folder(str(root), size=8, **arguments)


def sizes(dataset: Dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


def advised(error: CnnbenchError) -> dict[str, Any]:
    """The keys of the data set that the hint says to type, as a shell would pass them on."""
    words = [word.rstrip(";") for word in shlex.split(error.hint) if word.startswith("dataset.")]
    return dict(word.removeprefix("dataset.").split("=", 1) for word in words if "layout" not in word)


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("my-train", "my-test"),
        ("TrainImages", "TestImages"),
        ("train2017", "test2017"),
        ("data train", "data test"),
    ],
)
def test_splits_are_known_by_a_word_of_their_names_and_the_same_classes(
    tmp_path: Path, train: str, test: str
) -> None:
    root = tmp_path / "data"
    fill(*(root / train / name for name in ("sea", "forest")), count=6)
    fill(*(root / test / name for name in ("sea", "forest")), count=2)
    fill(root / "seg_pred")
    dataset = load(root)
    assert sizes(dataset) == {"train": 12, "test": 4}
    assert dataset.class_names == ("forest", "sea")
    assert "is train" in dataset.notes[0]
    assert "seg_pred" in dataset.notes[1]


@pytest.mark.parametrize(
    ("train", "test"), [("trainset", "testset"), ("Training_Set", "test_set"), ("TRAIN", "Testing")]
)
def test_usual_names_of_splits_need_no_remark(tmp_path: Path, train: str, test: str) -> None:
    fill(*(tmp_path / "data" / split / name for split in (train, test) for name in ("cats", "dogs")))
    dataset = load(tmp_path / "data")
    assert (sizes(dataset), dataset.notes) == ({"train": 10, "test": 10}, ())


@pytest.mark.parametrize("names", [("A", "B"), ("2019", "2020", "2021"), ("camera 1", "camera 2")])
def test_parts_of_a_set_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = tmp_path / "data"
    fill(*(root / name / label for name in names for label in ("cats", "dogs")), count=3)
    with pytest.raises(CnnbenchError, match="hold the same folders, cats and dogs") as caught:
        load(root)
    dataset = load(**advised(caught.value))
    assert (sizes(dataset), dataset.class_names) == ({"train": 6, "test": 6}, ("cats", "dogs"))
    assert load(root, layout="classes").class_names == tuple(sorted(names))


def test_splits_inside_classes_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    fill(*(root / label / split for label in ("cats", "dogs") for split in ("train", "test")))
    with pytest.raises(CnnbenchError, match="splits inside classes"):
        load(root)
    assert load(root, layout="classes").class_names == ("cats", "dogs")


def test_folders_inside_classes_that_differ_or_are_alone_are_part_of_them(tmp_path: Path) -> None:
    fill(*(tmp_path / "one" / name / "images" for name in ("n01", "n02")))
    assert load(tmp_path / "one").class_names == ("n01", "n02")
    fill(*(tmp_path / "two" / name for name in ("cats/siam", "cats/manx", "dogs/pug", "dogs/boxer")))
    assert load(tmp_path / "two").class_names == ("cats", "dogs")


def test_flat_folders_named_as_splits_are_no_classes(tmp_path: Path) -> None:
    fill(tmp_path / "data" / "train_images", tmp_path / "data" / "test_images")
    with pytest.raises(CnnbenchError, match="train_images has no class folders"):
        load(tmp_path / "data")


def test_train_beside_flat_folders_is_no_class(tmp_path: Path) -> None:
    fill(*(tmp_path / "data" / name for name in ("train/cats", "train/dogs", "samples")))
    with pytest.raises(CnnbenchError, match="has train, which holds folders") as caught:
        load(tmp_path / "data")
    assert load(**advised(caught.value)).class_names == ("cats", "dogs")


# ---------------------------------------------------------------- a root too high or too low


@settings(max_examples=15, deadline=None)
@given(
    depth=st.integers(1, 4),
    name=st.text(
        st.characters(exclude_characters="/.\0", exclude_categories=["C", "Z"]), min_size=1, max_size=9
    ),
    has_splits=st.booleans(),
)
def test_a_root_any_levels_too_high_is_refused_with_the_one_to_type(
    depth: int, name: str, has_splits: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "high"
        meant = root.joinpath(*(f"{name} {level}'" for level in range(depth)))
        for split in ("train", "test") if has_splits else ("",):
            fill(meant / split / "cats", meant / split / "dogs", count=3)
        with pytest.raises(CnnbenchError, match="has one class folder") as caught:
            load(root, cache_dir=place)
        assert advised(caught.value) == {"root": str(meant)}
        assert load(**advised(caught.value), cache_dir=place).class_names == ("cats", "dogs")


def test_the_folder_of_a_class_is_refused_with_the_one_to_type(tmp_path: Path) -> None:
    root = tmp_path / "it's (2024)"
    fill(*(root / split / label for split in ("train", "test") for label in ("cats", "dogs")))
    fill(tmp_path / "flat" / "cats", tmp_path / "flat" / "dogs")
    for low, meant in ((root / "train" / "cats", root), (tmp_path / "flat" / "dogs", tmp_path / "flat")):
        with pytest.raises(CnnbenchError, match="no class folders") as caught:
            load(low)
        assert advised(caught.value) == {"root": str(meant)}
    fill(tmp_path / "alone")
    with pytest.raises(CnnbenchError, match="no class folders") as caught:
        load(tmp_path / "alone")  # what lies beside it does not look like other classes
    assert "dataset.root" not in caught.value.hint


@pytest.mark.parametrize("inside", ["", "seg_train"])
def test_one_split_of_a_set_is_refused_with_the_whole(tmp_path: Path, inside: str) -> None:
    root = tmp_path / "data"
    for split in ("seg_train/seg_train", "seg_test/seg_test"):
        fill(root / split / "sea", root / split / "forest")
    with pytest.raises(CnnbenchError, match="is one split of the set") as caught:
        load(root / "seg_train" / inside)
    assert advised(caught.value) == {"root": str(root)}
    assert sizes(load(root / "seg_train", layout="classes")) == {"train": 8, "test": 2}
    assert sizes(load(root / "seg_train", test_root=str(root / "seg_test"))) == {"train": 10, "test": 10}


def test_a_split_beside_unlabelled_pictures_may_be_the_root(tmp_path: Path) -> None:
    fill(tmp_path / "data" / "train" / "cats", tmp_path / "data" / "train" / "dogs")
    fill(tmp_path / "data" / "test")
    assert sizes(load(tmp_path / "data" / "train")) == {"train": 8, "test": 2}


# ---------------------------------------------------------------- what no person has put there


@settings(max_examples=20, deadline=None)
@given(
    names=st.sets(
        st.sampled_from([*SYSTEM_FOLDERS, "@eaDir", "$RECYCLE.BIN", "RECYCLER", "found.000", ".Trash-1000",
                         ".ipynb_checkpoints", ".@__thumb"]),
        min_size=1, max_size=4,
    ),
    depth=st.integers(0, 2),
)  # fmt: skip
def test_system_folders_are_left_out_and_counted(names: set[str], depth: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "data"
        fill(root / "a", root / "b")
        for name in names:
            fill(root.joinpath(*["a", "deep"][:depth], name), count=2)
        dataset = load(root, cache_dir=place)
        assert (dataset.class_names, sum(sizes(dataset).values())) == (("a", "b"), 10)
        (note,) = dataset.notes
        assert f" {len(names)} hidden or system folder" in note


def test_system_folders_beside_the_splits_are_counted_too(tmp_path: Path) -> None:
    root = tmp_path / "data"
    fill(*(root / name for name in ("train/a", "train/b", "test/a", "test/b", "#recycle", "test/a/@eaDir")))
    dataset = load(root)
    assert sizes(dataset) == {"train": 10, "test": 10}
    assert dataset.notes == (f"{root}: 2 hidden or system folders are left out: #recycle, @eaDir",)


def test_names_that_only_resemble_them_are_classes(tmp_path: Path) -> None:
    fill(tmp_path / "data" / "recycled", tmp_path / "data" / "@home")
    assert load(tmp_path / "data").class_names == ("@home", "recycled")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_sockets_and_devices_are_left_out_and_named(tmp_path: Path) -> None:
    root = tmp_path / "data"
    fill(root / "a", root / "b")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "link.png").symlink_to(tmp_path / "pipe")
    (root / "a" / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root / "a")  # the name of a socket is short
        server.bind("socket.png")
        os.chdir(here)
    dataset = load(root)
    assert sum(sizes(dataset).values()) == 10
    assert set(dataset.notes[1:]) == {
        "a/pipe.png: a named pipe, not a file",
        "a/link.png: a named pipe, not a file",
        "a/zero.png: a device, not a file",
        "a/socket.png: a socket, not a file",
    }
    with pytest.raises(CnnbenchError, match="is a named pipe, not a folder"):
        load(tmp_path / "pipe")
