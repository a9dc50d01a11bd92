"""Wrong labels, near-duplicates, outliers, overlapping classes and shortcuts, where they were planted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from cnnbench import analysis, data

imagehash = pytest.importorskip("imagehash")


def clouds(classes: int, count: int, apart: float = 6.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features of classes that lie apart from each other, and the classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = rng.normal(size=(count, 8)) + apart * np.eye(8)[y]
    return x.astype(np.float32), y


def outputs_of(x: np.ndarray, y: np.ndarray, task: str) -> np.ndarray:
    fold = data.folds(y, task, 5, 0)  # type: ignore[arg-type]
    return analysis.cross_validate(analysis.largest_axes(x), y, task, fold)


@pytest.mark.parametrize(("classes", "task"), [(2, "binary"), (4, "multiclass")])
def test_wrong_labels_are_found_and_right_ones_are_not(classes: int, task: str) -> None:
    x, y = clouds(classes, 300)
    wrong = y.copy()
    wrong[:12] = (wrong[:12] + 1) % classes
    found = analysis.find_label_issues(wrong, task, outputs_of(x, wrong, task))
    rows = [one.row for one in found]
    assert len(set(rows) & {*range(12)}) >= 11
    assert len(rows) <= 14
    assert [one.score for one in found] == sorted(one.score for one in found)
    assert all(one.suggested == (y[one.row],) for one in found if one.row < 12)
    assert len(analysis.find_label_issues(y, task, outputs_of(x, y, task))) <= 3


def test_the_doubt_tells_noise_from_right_labels() -> None:
    x, y = clouds(4, 2000, apart=4.0)
    rng = np.random.default_rng(1)
    noise = rng.random(len(y)) < 0.05
    wrong = np.where(noise, (y + rng.integers(1, 4, len(y))) % 4, y)
    own = analysis.of_classes(outputs_of(x, wrong, "multiclass"))[np.arange(len(y)), wrong]
    assert roc_auc_score(noise, -own) > 0.97


def test_labels_and_values_are_doubted_too() -> None:
    x, y = clouds(3, 300)
    labels = np.eye(3, dtype=np.uint8)[y]
    labels[:6, 0] = 1 - labels[:6, 0]
    found = analysis.find_label_issues(labels, "multilabel", outputs_of(x, labels, "multilabel"))
    assert {*range(6)} <= {one.row for one in found}
    assert len(found) <= 9
    values = (x[:, 0] + 0.1 * x[:, 1]).astype(np.float32)
    values[:4] += 30
    found = analysis.find_label_issues(values, "regression", outputs_of(x, values, "regression"))
    assert {one.row for one in found} == {*range(4)}


def test_classes_that_cannot_be_told_overlap() -> None:
    x, y = clouds(4, 400)
    x[y == 3] = x[y == 2]  # the same
    (one,) = analysis.overlapping_classes(y, outputs_of(x, y, "multiclass"))
    assert (one.first, one.second) == (2, 3)
    assert one.share > 0.3


def pictures(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Return pictures of random blobs, no two alike."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in small]
    )


@pytest.mark.parametrize(("side", "bits"), [(32, 0), (200, 4)])
def test_hashes_are_those_of_imagehash(side: int, bits: int) -> None:
    x = pictures(20, side)
    theirs = np.array([int(str(imagehash.phash(Image.fromarray(one))), 16) for one in x], np.uint64)
    assert np.bitwise_count(data.perceptual_hashes(x) ^ theirs).max() <= bits


def test_alike_hashes_are_found_whatever_the_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 50, np.uint64)
    hashes[40] = hashes[45] = hashes[3] ^ np.uint64(5)
    monkeypatch.setattr("cnnbench.data.hashes.AT_ONCE", 70)
    assert sorted(data.alike(hashes, 2)) == [(3, 40), (3, 45), (40, 45)]


def test_a_picture_saved_again_is_a_near_duplicate_and_no_other() -> None:
    x = pictures(200, 64)
    again = np.clip(x[:5].astype(int) + np.random.default_rng(2).integers(-6, 7, x[:5].shape), 0, 255)
    every = np.concatenate([x, again.astype(np.uint8)])
    features = analysis.largest_axes(every[:, ::8, ::8].reshape(len(every), -1).astype(np.float32), 64).values
    near = analysis.Neighbours.of(features)
    found = analysis.near_duplicates(data.perceptual_hashes(every), features, near, np.ones(len(every), bool))
    assert {(first, second) for first, second, _ in found} == {(row, 200 + row) for row in range(5)}


def test_what_lies_far_out_is_an_outlier() -> None:
    x, _ = clouds(2, 200)
    x[7] += 40
    assert [row for row, _ in analysis.outliers(analysis.Neighbours.of(x))] == [7]


def test_a_shortcut_is_found_where_one_is() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    fold = data.folds(y, "binary", 5, 0)
    told = y[:, None] + rng.normal(scale=0.2, size=(200, 1))
    columns = {
        "told": told,
        "chance": rng.normal(size=(200, 2)),
        "constant": np.ones((200, 1)),
        "unknown": told * np.nan,
    }
    found = {one.by: one for one in analysis.find_shortcuts(columns, y, fold)}
    assert {*found} == {"told", "chance"}
    assert found["told"].is_strong
    assert found["chance"].is_weak
