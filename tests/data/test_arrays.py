"""The data set `arrays`: names of arrays, formats, shapes and types, targets, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pytest

from cnnbench.data.dataset import Rows
from cnnbench.data.sources import arrays as module
from cnnbench.data.sources.arrays import arrays
from cnnbench.errors import CnnbenchError

GREY = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
Y = np.arange(60) % 3
TEN = slice(0, 10)
Write = Callable[[Path, dict[str, np.ndarray]], Path]


def npz(folder: Path, content: dict[str, Any]) -> Path:
    np.savez(folder / "my.npz", **content)
    return folder / "my.npz"


def hdf5(folder: Path, content: dict[str, Any]) -> Path:
    with h5py.File(folder / "my.h5", "w") as file:
        for name, values in content.items():
            file[name] = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values
    return folder / "my.h5"


def packed(folder: Path, content: dict[str, Any]) -> Path:
    """In chunks and compressed, which cannot be mapped."""
    with h5py.File(folder / "my.hdf5", "w") as file:
        for name, values in content.items():
            file.create_dataset(name, data=values, compression="gzip", chunks=True)
    return folder / "my.hdf5"


def npy(folder: Path, content: dict[str, Any]) -> Path:
    (folder / "my").mkdir()
    for name, values in content.items():
        np.save(folder / "my" / f"{name}.npy", values)
    return folder / "my"


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (("x_train", "y_train"), ("x_test", "y_test")),
        (("train_images", "train_labels"), ("test_images", "test_labels")),
        (("X_train", "Y_train"), ("X_test", "Y_test")),
        (("trainImages", "trainLabels"), ("testImages", "testLabels")),
        (("train_set_x", "train_set_y"), ("test_set_x", "test_set_y")),
        (("data_training", "targets_training"), ("data_testing", "targets_testing")),
    ],
)
def test_arrays_are_known_by_the_names_that_people_give_them(
    train: tuple[str, str], test: tuple[str, str], tmp_path: Path
) -> None:
    content = {train[0]: GREY[10:], train[1]: Y[10:], test[0]: GREY[TEN], test[1]: Y[TEN]}
    found = arrays(str(npz(tmp_path, content)))
    assert np.array_equal(found.train.x, GREY[10:, ..., None])
    assert np.array_equal(found.test.y, Y[TEN])
    assert found.task == "multiclass"
    assert found.class_names == ("0", "1", "2")
    assert found.val is None


def test_names_of_ones_own_are_told_and_what_is_not_used_is_said(tmp_path: Path) -> None:
    file = str(npz(tmp_path, {"a_train": GREY, "b_train": Y, "a_dev": GREY[TEN], "b_dev": Y[TEN], "zoom": Y}))
    with pytest.raises(CnnbenchError, match=r"has a_train, b_train.*dataset\.inputs=NAME"):
        arrays(file)
    found = arrays(file, inputs="a", target="b")
    assert found.val is not None
    assert len(found.val) == 10
    assert len(found.train) + len(found.test) == 60
    assert "my.npz: not used, for their names say nothing: zoom" in found.notes
    with pytest.raises(CnnbenchError, match=r"has no array c"):
        arrays(file, inputs="a", target="c")
    (tmp_path / "twice").mkdir()
    both = str(npz(tmp_path / "twice", {"x": GREY, "images": GREY, "y": Y}))
    with pytest.raises(CnnbenchError, match=r"x and images are both named as the inputs"):
        arrays(both)
    assert len(arrays(both, inputs="images").train) == 48


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("write", [npz, hdf5, packed, npy])
def test_each_format_gives_the_same_and_large_arrays_stay_in_their_file(
    write: Write, is_large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_large:
        monkeypatch.setattr(module, "MAPPED_BYTES", 1)
    deep = (GREY.astype(np.uint16) * 200)[:, None].repeat(2, 1)
    groups = np.arange(60) // 2
    content = {"images": deep, "labels": Y[:, None], "groups": groups, "weights": groups + 1}
    found = arrays(str(write(tmp_path, content)))
    assert isinstance(found.train.x, Rows) is (is_large and write in (hdf5, npy))
    assert found.train.x.dtype == np.uint16
    assert found.train.x.shape == (48, 8, 8, 2)
    assert any("read as channels, height, width" in note for note in found.notes)
    assert any("go up to 51000" in note for note in found.notes)
    assert found.train.groups is not None
    assert found.test.groups is not None
    assert found.train.weights is not None
    rows = [int(np.flatnonzero((deep[:, 0] == x[..., 0]).all(axis=(1, 2)))[0]) for x in found.test.x[:]]
    assert found.test.y.tolist() == Y[rows].tolist()
    assert found.test.groups.tolist() == groups[rows].tolist()
    assert found.train.weights.dtype == np.float32
    whole = arrays(str(tmp_path / "my" if write is npy else next(tmp_path.iterdir())), channels="last")
    assert whole.input_shape == (2, 8, 8)


def test_equal_examples_do_not_straddle(tmp_path: Path) -> None:
    twice = np.concatenate([GREY, GREY])
    found = arrays(str(npz(tmp_path, {"x": twice, "y": np.concatenate([Y, Y])})))
    train, test = ({x.tobytes() for x in split.x[:]} for split in (found.train, found.test))
    assert not train & test
    assert len(found.test) == 24


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (GREY.astype(np.int64), np.uint8),
        (GREY > 100, np.uint8),
        (GREY.astype(np.int16) - 5, np.float32),
        (GREY.astype(">u2"), np.uint16),
        (GREY / 255, np.float32),
        (GREY.astype(np.float16), np.float32),
        (GREY.reshape(60, 64), np.float32),
    ],
)
def test_numbers_become_what_is_trained_with_and_keep_their_value(
    values: np.ndarray, dtype: type, tmp_path: Path
) -> None:
    content = {"x_train": values, "y_train": Y, "x_test": values[TEN], "y_test": Y[TEN]}
    found = arrays(str(npz(tmp_path, content)))
    assert found.train.x.dtype == dtype
    assert np.allclose(found.train.x[:].reshape(60, -1), values.astype(np.float64).reshape(60, -1))


def test_a_test_split_beyond_bytes_makes_no_split_bytes(tmp_path: Path) -> None:
    wide = GREY.astype(np.int32)
    content = {"x_train": wide, "y_train": Y, "x_test": wide[TEN] + 200, "y_test": Y[TEN]}
    found = arrays(str(npz(tmp_path, content)))
    assert {split.x.dtype for split in found.splits.values()} == {np.dtype(np.float32)}
    assert found.test.x[:].max() == wide[TEN].max() + 200


TARGETS: list[tuple[np.ndarray, dict[str, Any], str, tuple[str, ...]]] = [
    (np.array(["b", "a", "c"])[Y], {}, "multiclass", ("a", "b", "c")),
    (np.eye(3)[Y], {}, "multiclass", ("0", "1", "2")),
    (Y == 1, {}, "binary", ("0", "1")),
    (Y + 1, {"class_names": ["x", "y", "z"]}, "multiclass", ("x", "y", "z")),
    (np.stack([Y > 0, Y > 1], 1), {}, "multilabel", ("0", "1")),
    (Y * 0.5, {}, "regression", ()),
    (np.stack([Y, Y * 0.5], 1), {}, "regression", ()),
    (Y, {"task": "regression"}, "regression", ()),
    (np.array(["sick", "well"])[Y // 2], {"positive": "sick"}, "binary", ("well", "sick")),
]


@pytest.mark.parametrize(("y", "keys", "task", "names"), TARGETS)
def test_the_targets_say_the_task_and_the_classes(
    y: np.ndarray, keys: dict[str, Any], task: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    found = arrays(str(npz(tmp_path, {"x": GREY, "y": y})), **keys)
    assert found.task == task
    assert found.class_names == names
    (said,) = [note for note in found.notes if "multi" in note or "binary" in note or "regression" in note]
    assert said.startswith("my.npz: ")
    if task == "binary" and keys:
        rows = [int(np.argmax((image[..., 0] == GREY).all(axis=(1, 2)))) for image in found.train.x[:]]
        assert found.train.y.tolist() == [int(y[row] == "sick") for row in rows]


def test_class_names_in_the_file_are_used(tmp_path: Path) -> None:
    content = {"x": GREY, "y": Y, "list_classes": np.array([b"cat", b"dog", b"owl"])}
    assert arrays(str(npz(tmp_path, content))).class_names == ("cat", "dog", "owl")
    assert arrays(str(hdf5(tmp_path, content))).class_names == ("cat", "dog", "owl")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


WRONG: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("objects", {"x": GREY, "y": np.array([Evil(), *Y[1:]], object)}, {}, "y holds Python objects"),
    ("counts", {"x": GREY[TEN], "y": Y}, {}, r"shape \(10, 8, 8, 1\), but 60 targets"),
    ("axes", {"x": GREY[0, 0], "y": Y}, {}, r"x has the shape \(8,\)"),
    ("texts", {"x": np.array(["a"] * 60), "y": Y}, {}, "not numbers"),
    ("one class", {"x": GREY, "y": Y * 0}, {}, "all targets are 0"),
    ("fractions", {"x": GREY, "y": Y / 2}, {"task": "multiclass"}, "no whole numbers, such as 0.5"),
    (
        "no numbers",
        {"x": GREY, "y": Y.astype(str).astype("U3")},
        {"class_names": ["a"]},
        "none of the classes",
    ),
    ("names", {"x": GREY, "y": Y}, {"class_names": ["a", "b"]}, "from 0 to 2, but there are 2 names"),
    ("binary", {"x": GREY, "y": Y}, {"task": "binary"}, "there are 3 classes"),
    ("positive", {"x": GREY, "y": Y}, {"positive": "1"}, "is for two classes"),
    ("few", {"x": GREY, "y": np.array([1] * 59 + [2])}, {}, "2 has 1"),
]


@pytest.mark.parametrize(
    ("content", "keys", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_wrong_arrays_are_one_line(
    content: dict[str, Any], keys: dict[str, Any], words: str, tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(CnnbenchError, match=words):
        arrays(str(npz(tmp_path, content)), **keys)
    assert capsys.readouterr().out == ""  # nothing in a pickle was run


def test_other_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": GREY}))
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "a.h5").write_bytes(b"nothing")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    np.save(tmp_path / "a.npy", GREY)
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("a.pkl", "is a pickle, which can run foreign code"),
        ("a.npz", "cannot be read"),
        ("a.h5", "cannot be read"),
        ("a.csv", "no .npz or .h5 file.*dataset=table"),
        ("a.npy", "one array.*name its folder"),
        ("empty", "holds no .npy files"),
        ("b.npz", "there is no such file"),
    ):
        with pytest.raises(CnnbenchError, match=words):
            arrays(str(tmp_path / name))


def test_an_array_in_another_file_is_refused(tmp_path: Path) -> None:
    other = hdf5(tmp_path, {"secret": GREY})
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["y"] = Y
        file["x"] = h5py.ExternalLink(str(other), "secret")
        layout = h5py.VirtualLayout(GREY.shape, GREY.dtype)
        layout[:] = h5py.VirtualSource(str(other), "secret", GREY.shape)
        file.create_virtual_dataset("images", layout)
    with pytest.raises(CnnbenchError, match="images lies in another file"):
        arrays(str(tmp_path / "link.h5"))


PAIR = {"x": GREY, "y": Y}
SPLIT = {"x_train": GREY, "y_train": Y, "x_test": GREY[:30] // 2, "y_test": Y[:30]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({**PAIR, "groups": Y[:-1]}, "groups has 59 values for 60 examples"),
        ({**PAIR, "weights": np.array(["heavy"] * 60)}, "weights are no numbers"),
        ({**PAIR, "y": np.array(3)}, "the targets are one value, 3"),
        ({**PAIR, "y": np.zeros((60, 8, 8), np.uint8)}, "are no classes, labels or numbers"),
        ({"x": GREY[:0], "y": Y[:0]}, "there are no targets"),
        ({**PAIR, "y": np.array(["고양이".encode("cp949"), b"b", b"c"])[Y]}, "is no UTF-8"),
        ({**SPLIT, "x_train": GREY.astype(np.uint16) * 200}, "test are uint8, those of train uint16"),
        ({**SPLIT, "groups_train": Y, "groups_test": Y[:30]}, "groups in both train and test"),
    ],
)
def test_what_does_not_fit_the_examples_is_one_line(
    content: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CnnbenchError, match=words):
        arrays(str(npz(tmp_path, content)))


def test_groups_are_numbered_over_all_splits(tmp_path: Path) -> None:
    groups = {"groups_train": np.array(list("abc"))[Y], "groups_test": np.array(list("def"))[Y[:30]]}
    found = arrays(str(npz(tmp_path, {**SPLIT, **groups})))
    assert found.train.groups is not None
    assert found.test.groups is not None
    assert np.array_equal(found.train.groups, Y)
    assert np.array_equal(found.test.groups, Y[:30] + 3)
