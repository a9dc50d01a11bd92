"""`dataset.fixes`: examples are left out, relabelled or kept together, and no file of the data is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Outcome
from data_files import write_pictures

from cnnbench import api, data
from cnnbench.data.dataset import Dataset, Split
from cnnbench.errors import CnnbenchError

Cli = Callable[..., Outcome]
HEAD = "split,example,action,value,label,why\n"


def made(task: str = "multiclass", names: bool = False, groups: np.ndarray | None = None) -> Dataset:
    """Return 8 training examples of three classes, and 4 for the test."""
    x = np.arange(12 * 4, dtype=np.uint8).reshape(12, 2, 2, 1)
    y: np.ndarray = np.arange(12) % 3
    if task == "multilabel":
        y = np.eye(3, dtype=np.uint8)[y]
    elif task == "regression":
        y = y.astype(np.float32)
    called = [f"c/{number}.png" for number in range(12)] if names else None
    parts = [
        Split(x[part], y[part], None if groups is None else groups[part], names=called and called[part])
        for part in (slice(0, 8), slice(8, 12))
    ]
    classes = () if task == "regression" else ("a", "b", "c")
    return Dataset("made", task, *parts, class_names=classes)  # type: ignore[arg-type]


@pytest.fixture
def fixed(tmp_path: Path) -> Callable[..., Dataset]:
    def call(rows: str, **how: object) -> Dataset:
        (tmp_path / "fixes.csv").write_text(HEAD + rows)
        return data.fixed(made(**how), tmp_path / "fixes.csv")  # type: ignore[arg-type]

    return call


def test_rows_are_excluded_and_relabelled_by_their_numbers(fixed: Callable[..., Dataset]) -> None:
    found = fixed("train,row 1,exclude,,b,\ntrain,row 2,relabel,a,c,\ntest,row 0,relabel,a,,\n")
    before = made()
    np.testing.assert_array_equal(found.train.x, np.delete(before.train.x, 1, axis=0))
    assert found.train.y.tolist() == [0, 0, 0, 1, 2, 0, 1]
    assert found.test.y.tolist() == [0, 0, 1, 2]
    # A later look at the data names rows as the table does.
    assert list(data.names_of(found.train)) == [f"row {number}" for number in range(8) if number != 1]
    assert found.notes == ("made: by fixes.csv 1 left out, 2 relabelled",)


def test_the_fingerprint_is_of_the_corrected_data_and_knows_the_others(
    fixed: Callable[..., Dataset],
) -> None:
    before, same, other = made(), fixed(""), fixed("train,row 0,relabel,b,,\n")
    assert same.fingerprint == before.fingerprint
    assert other.fingerprint != before.fingerprint
    assert other.uncorrected == {name: part.fingerprint for name, part in before.splits.items()}


def test_a_name_needs_no_split(fixed: Callable[..., Dataset]) -> None:
    found = fixed(",c/9.png,exclude,,,\n,c/0.png,exclude,,,\n", names=True)
    assert found.train.names == [f"c/{number}.png" for number in range(1, 8)]
    assert found.test.names == ["c/8.png", "c/10.png", "c/11.png"]


def test_groups_join_those_of_the_data(fixed: Callable[..., Dataset]) -> None:
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    found = fixed("train,row 1,group,x,,\ntrain,row 2,group,x,,\n", groups=groups)
    assert found.train.groups is not None
    assert len(set(found.train.groups[:4].tolist())) == 1
    assert len(set(found.train.groups.tolist())) == 3
    alone = fixed("train,row 1,group,x,,\ntrain,row 5,group,x,,\n")
    assert alone.train.groups is not None
    assert alone.train.groups[1] == alone.train.groups[5]
    assert len(set(alone.train.groups.tolist())) == 7
    assert alone.test.groups is None


@pytest.mark.parametrize("first", [-20, 100, 4_000_000_000_000])
def test_groups_may_have_any_number_and_other_splits_keep_theirs(
    first: int, fixed: Callable[..., Dataset]
) -> None:
    groups = first + np.arange(12)
    found = fixed("train,row 1,group,x,,\ntrain,row 5,group,x,,\n", groups=groups)
    assert found.train.groups is not None
    assert len(set(found.train.groups.tolist())) == 7
    assert found.test.fingerprint == made(groups=groups).test.fingerprint
    fixed("train,row 1,group,x,,\n", groups=np.r_[4:12, 0:4])  # no number of test is one of train by now


def test_a_name_may_begin_with_a_space(tmp_path: Path) -> None:
    before = made(names=True)
    before.train.names[3] = " spaced.png"  # type: ignore[index]
    table = tmp_path / "fixes.csv"
    table.write_text(HEAD + "train, spaced.png, exclude,,,\ntrain, c/0.png, exclude,,,\n")
    assert len(data.fixed(before, table).train) == 6


def test_a_picture_in_two_splits_may_be_left_out_of_one(folder: Path) -> None:
    write_pictures(folder / "pics" / "train", "cat", "dog")
    for path in sorted((folder / "pics" / "train").glob("*/1?.png")):
        held_out = folder / "pics" / "test" / path.parent.name / path.name
        held_out.parent.mkdir(parents=True, exist_ok=True)
        path.rename(held_out)
    shutil.copy(folder / "pics" / "test" / "cat" / "10.png", folder / "pics" / "train" / "cat" / "copy.png")
    line = ("dataset=image_folder", "dataset.root=pics", "dataset.size=8")
    with pytest.raises(CnnbenchError, match="test shares 1 images with train"):
        api.compose(*line).dataset()
    (folder / "fixes.csv").write_text(HEAD + "train,train/cat/copy.png,exclude,,,\n")
    found = api.compose(*line, "dataset.fixes=fixes.csv").dataset()
    assert "train/cat/copy.png" not in data.names_of(found.train)
    (folder / "fixes.csv").write_text(HEAD + "train,train/cat/copy.png,relabel,dog,,\n")
    with pytest.raises(CnnbenchError, match="test shares 1 images with train"):
        api.compose(*line, "dataset.fixes=fixes.csv").dataset()


def test_labels_and_values_are_changed(fixed: Callable[..., Dataset]) -> None:
    assert fixed("train,row 0,relabel,a|c,,\n", task="multilabel").train.y[0].tolist() == [1, 0, 1]
    assert fixed("train,row 0,relabel,2.5,,\n", task="regression").train.y[0] == 2.5


REFUSED = {
    "train,row 80,exclude,,,": "line 2: row 80: nothing in made has that name",
    "train,row 0,exclud,,,": "line 2: there is no action exclud  Hint: did you mean exclude",
    "tran,row 0,exclude,,,": "there is no split tran  Hint: did you mean train",
    ",row 0,exclude,,,": "2 examples have that name, in train, test",
    "train,row 0,exclude,,b,": "the data say a, not b",
    "train,row 0,relabel,d,,": "there is no class d",
    "train,row 0,relabel,,,": "relabel lacks a value",
    "train,row 0,exclude,,,\ntrain,row 0,relabel,b,,": "it is relabelled, too",
    "train,row 0,relabel,c,,\ntrain,row 0,relabel,b,,": "line 2 says something else of it",
    "train,row 0,group,g,,\ntest,row 0,group,g,,": "the group g is in test and train",
}


@pytest.mark.parametrize("rows", REFUSED)
def test_what_says_nothing_is_refused(rows: str, fixed: Callable[..., Dataset]) -> None:
    with pytest.raises(CnnbenchError) as refused:
        fixed(rows)
    assert REFUSED[rows] in str(refused.value)


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fixes.csv").write_text("file,what\na,b\n")
    with pytest.raises(CnnbenchError, match="no column example and action"):
        data.read_fixes(tmp_path / "fixes.csv")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    fixes = [data.Fix("train", "a,b.png", "relabel", "cat", "dog", 'it says "dog"', 2)]
    (tmp_path / "fixes.csv").write_text(data.write_fixes(fixes))
    assert data.read_fixes(tmp_path / "fixes.csv") == fixes


def test_runs_with_and_without_fixes_are_compared(run_cli: Cli, folder: Path) -> None:
    (folder / "fixes.csv").write_text(HEAD + "train,row 0,exclude,,,\ntrain,row 1,exclude,,,\n")
    outcome = run_cli("-m", *TINY, "dataset.fixes=null,fixes.csv", "seed=0", "run_dir=worth")
    assert outcome.exit_code == 0, outcome.err
    compared = json.loads(run_cli("compare", "worth", "--json").out)
    (ranking,) = compared["rankings"]
    digest = api.runs.weights_digests({"dataset": {"fixes": str(folder / "fixes.csv")}})["dataset.fixes"]
    assert {str(group["differs"]["dataset.fixes"]) for group in ranking["groups"]} == {
        "None",
        f"fixes.csv {digest[:8]}",
    }
    assert "the figures of the test split decide" in " ".join(run_cli("compare", "worth").out.split())
    assert "test split decide" not in run_cli("compare", "worth", "--sort", "test_accuracy").out
    # A run on other fixes than it began with is no longer that run.
    _, run = sorted(path.parent for path in (folder / "worth").glob("*/metrics.json"))
    assert run_cli("verify", str(run)).exit_code == 0
    (folder / "fixes.csv").write_text(HEAD + "train,row 0,exclude,,,\n")
    assert run_cli("verify", str(run)).exit_code == 3
