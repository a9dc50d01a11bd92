"""What the user is told of the data before a training: too little to learn, to measure by or to compare."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Outcome
from PIL import Image

from cnnbench.data.dataset import Dataset, Rows, Split
from cnnbench.data.sources.digits import digits
from cnnbench.data.sources.synthetic import synthetic
from cnnbench.data.splits import leaks, remarks, task_in_words, with_validation
from cnnbench.errors import CnnbenchError
from cnnbench.runs.history import standing_still

Cli = Callable[..., Outcome]
CLASSES = ("cat", "dog", "owl")
BATCH = 8


def images(labels: Iterable[int], seed: int = 0) -> Split:
    y = np.array(list(labels))
    return Split(np.random.default_rng(seed).integers(0, 256, (len(y), 4, 4, 1), np.uint8), y)


def classified(**splits: Split) -> Dataset:
    given = {"train": images([0, 1, 2] * 20), "test": images([0, 1, 2] * 5, seed=1), **splits}
    return Dataset("mine", "multiclass", class_names=CLASSES, **given)


def values(y: Any, seed: int = 0) -> Split:
    y = np.array(y, np.float32)
    return Split(np.random.default_rng(seed).normal(size=(len(y), 4)).astype(np.float32), y)


def regression(train: Split, test: Split | None = None) -> Dataset:
    return Dataset("mine", "regression", train, test or values(range(9), seed=1))


def remark(dataset: Dataset) -> str:
    """The only one."""
    (line,) = remarks(dataset, BATCH)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("dataset", [digits(), synthetic(), classified(), regression(values(range(30)))])
def test_sound_data_need_no_word(dataset: Dataset) -> None:
    assert remarks(dataset, BATCH) == leaks(dataset) == []


# ---------------------------------------------------------------- targets


def test_a_training_split_of_one_class_is_refused() -> None:
    with pytest.raises(CnnbenchError, match="all 9 train examples are of the class dog"):
        remarks(classified(train=images([1] * 9)), BATCH)


def test_a_constant_training_target_is_refused() -> None:
    with pytest.raises(CnnbenchError, match=r"all 9 train targets are 2\.5, so there is nothing to learn"):
        remarks(regression(values([2.5] * 9)), BATCH)


def test_a_constant_test_target_is_told() -> None:
    told = remark(regression(values(range(9)), values([3, 3], seed=1)))
    assert told == "mine: all 2 test targets are 3, so test_r2 means nothing"


def test_classes_that_train_lacks_are_told_once_for_all_splits() -> None:
    val = images([0, 1, 2] * 20, seed=2)
    told = remark(classified(train=images([0, 1] * 9), val=val))
    assert told == "mine: classes of val and test without an example in train, so never learnt: owl"


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_of_one_class_is_told(split: str) -> None:
    told = remark(classified(**{split: images([1] * 60, seed=2)}))
    assert told.startswith(f"mine: all 60 {split} examples are of the class dog, so {split}_accuracy")


def test_a_validation_split_of_few_examples_is_told_and_one_of_fifty_is_not() -> None:
    told = remark(classified(val=images(np.arange(49) % 3, seed=2)))
    assert "with 49 val examples val_accuracy moves in steps of 0.02," in told
    assert remarks(classified(val=images(np.arange(50) % 3, seed=2)), BATCH) == []
    few = regression(values(range(30)))
    assert remarks(with_validation(few, 0.2, None, 0), BATCH) == []  # an error in dollars has no steps


# ---------------------------------------------------------------- inputs


def same(split: Split) -> Split:
    return Split(np.broadcast_to(split.x[0], split.x.shape).copy(), split.y)


def test_equal_inputs_are_told_for_all_splits_at_once() -> None:
    dataset = classified(train=same(images([0, 1, 2] * 200)), test=same(images([0, 1, 2], seed=1)))
    assert remark(dataset) == "mine: all inputs of train and test are equal"
    almost = same(images([0, 1, 2] * 200))
    almost.x[-1, 0, 0, 0] ^= 1
    assert remarks(classified(train=almost), BATCH) == []
    assert "inputs" not in remark(classified(test=images([0], seed=1)))  # one example equals itself


def test_equal_images_of_a_mapped_file_are_found_and_different_ones_are_not_read_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, read = images(np.arange(3000) % 3), []
    np.save(tmp_path / "x.npy", split.x)
    rows = Rows(np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(3000))
    real = Rows.__getitem__

    def count(self: Rows, key: Any) -> np.ndarray:
        found = real(self, key)
        read.append(1 if isinstance(key, int) else len(found))
        return found

    monkeypatch.setattr(Rows, "__getitem__", count)
    assert remarks(classified(train=Split(rows, split.y)), BATCH) == []
    assert 0 < sum(read) < 600
    first = Rows(rows.base, np.zeros(3000, int))
    assert "all inputs of train are equal" in remark(classified(train=Split(first, split.y)))


def test_columns_that_never_change_are_told() -> None:
    train = values(range(9))
    train.x[:, [1, 3]] = 7
    told = remark(regression(train))
    assert told == "mine: columns that never change in train, so without information: 1, 3"


def test_pixels_between_zero_and_one_are_told() -> None:
    scaled = {name: Split(split.x / np.float32(255), split.y) for name, split in classified().splits.items()}
    assert "pixels are float32 up to 1" in remark(classified(**scaled))
    small = values(range(9))
    assert remarks(regression(Split(small.x / 100, small.y)), BATCH) == []  # columns have no such range


# ---------------------------------------------------------------- sizes


def test_a_batch_larger_than_the_training_split_is_told() -> None:
    assert remarks(classified(), 60) == []
    assert remarks(classified(), 61) == [
        "one step per epoch: training.batch_size=61 is larger than the 60 training examples"
    ]


# ---------------------------------------------------------------- equal examples


def joined(first: Split, second: Split) -> Split:
    return Split(np.concatenate([first.x, second.x]), np.concatenate([first.y, second.y]))


def test_equal_examples_of_two_splits_are_counted_by_content() -> None:
    dataset = classified()
    copied = classified(test=joined(dataset.test, dataset.train.take(np.arange(4))))
    assert leaks(copied) == ["mine: 4 of 19 test examples are also in train"]


def test_equal_images_of_different_labels_are_one_line() -> None:
    train = images([0, 1, 2] * 20)
    again = Split(train.x[:6], np.array([0, 1, 2, 1, 2, 0]))  # the last three are of other classes now
    assert leaks(classified(train=joined(train, again))) == [
        "mine: equal inputs with different labels: 3; one is both cat and dog"
    ]


def test_equal_rows_with_different_values_contradict_nothing() -> None:
    train = values(range(9))
    assert leaks(regression(joined(train, Split(train.x[:2], train.y[:2] + 1)))) == []


def test_leaks_of_mapped_images_are_found_by_their_digests_without_reading(tmp_path: Path) -> None:
    base = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (90, 4, 4, 1))
    digests = np.array([f"{number % 80:064x}" for number in range(90)], "S64")
    y = np.arange(90) % 3
    train, test = np.arange(80), np.arange(80, 90)
    known = classified(
        train=Split(Rows(base, train, digests), y[train]), test=Split(Rows(base, test, digests), y[test])
    )
    assert leaks(known) == ["mine: 10 of 10 test examples are also in train"]
    # Images are all black: were they read, every one of the validation split would be in train too.
    drawn = leaks(with_validation(known, 0.25, None, 0))
    assert len(drawn) == 2
    assert sum(int(line.split()[1]) for line in drawn) == 10
    unknown = classified(train=Split(Rows(base, train), y[train]), test=Split(Rows(base, test), y[test]))
    assert leaks(unknown) == []


def test_searching_for_leaks_reads_the_data_a_few_times_and_not_once_an_example() -> None:
    x = np.random.default_rng(0).integers(0, 256, (12_000, 32, 32, 3), np.uint8)
    y = np.arange(len(x)) % 3
    dataset = Dataset("large", "multiclass", Split(x[2_000:], y[2_000:]), Split(x[:2_000], y[:2_000]),
                      class_names=CLASSES)  # fmt: skip

    def seconds(work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    reading = min(seconds(lambda: hashlib.sha256(x).digest()) for _ in range(3))
    assert min(seconds(lambda: leaks(dataset)) for _ in range(3)) < 30 * reading
    assert leaks(dataset) == []


def test_a_validation_metric_that_never_moves_is_said_once(run_cli: Cli, folder: Path) -> None:
    line = [text for text in TINY if text != "training=smoke"]
    # Without batch normalisation, whose averages move even where no weight does.
    plain = ("model.batch_normalization=false", "model.dense_batch_normalization=false")
    frozen = (*plain, "optimizer=sgd", "optimizer.learning_rate=1e-30", "training.epochs=5", "run_dir=run")
    outcome = run_cli(*line, *frozen)
    assert outcome.exit_code == 0
    assert " ".join(outcome.err.split()).count("the same in each of the first 3 epochs: val_accuracy=") == 1
    log = (folder / "run" / "cnnbench.log").read_text()
    assert log.count("the same in each of the first 3 epochs") == 1


def test_a_perfect_accuracy_may_stand_still() -> None:
    rows = [{"epoch": n, "val_accuracy": 1.0, "val_loss": 1 / n} for n in (1, 2, 3)]
    assert standing_still(rows) is None
    assert standing_still([{**row, "val_r2": 0.0} for row in rows]) is not None
    assert standing_still([{**row, "val_r2": 0.0} for row in [*rows, rows[0]]]) is None


def labelled(y: Any, test: Any = None) -> Dataset:
    splits = [
        Split(
            np.random.default_rng(seed).normal(size=(len(one), 4)).astype(np.float32), np.array(one, np.uint8)
        )
        for seed, one in enumerate((y, y if test is None else test))
    ]
    return Dataset("mine", "multilabel", *splits, class_names=CLASSES)


def test_labels_that_tell_nothing_are_named() -> None:
    y = [[1, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0]] * 5
    assert remarks(labelled(np.eye(3, dtype=int).tolist() * 5), BATCH) == []
    told = remarks(labelled(y, [[1, 1, 1], [0, 0, 1]]), BATCH)
    assert [line.partition(": ")[2] for line in told] == [
        f"labels that no train example has, so never learnt: {CLASSES[1]}",
        f"labels that every test example has, so nothing to tell apart: {CLASSES[2]}",
    ]
    with pytest.raises(CnnbenchError, match="the same labels: there is nothing to learn"):
        remarks(labelled([[1, 0, 1]] * 20), BATCH)


def test_a_target_that_never_changes_is_named() -> None:
    train = Split(values(range(20)).x, np.stack([np.arange(20), np.full(20, 3)], axis=1).astype(np.float32))
    data = Dataset("mine", "regression", train, train, target_names=("price", "rooms"))
    with pytest.raises(
        CnnbenchError, match="all 20 train targets of rooms are 3, so there is nothing to learn"
    ):
        remarks(data, BATCH)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (classified(), "multiclass: 3 classes"),
        (labelled([[1, 0, 1], [0, 0, 1]]), "multilabel: 3 labels, 1.5 of them an example"),
        (regression(values(range(9))), "regression"),
        (synthetic(classes=2), "binary: class_0 or class_1; precision, recall and f1 are of class_1"),
        (synthetic(task="regression"), "regression of row, column"),
    ],
)
def test_the_task_is_said_in_words(data: Dataset, said: str) -> None:
    assert task_in_words(data) == said


def test_equal_inputs_with_other_labels_are_counted() -> None:
    train = labelled(np.eye(3, dtype=int).tolist() * 5)
    x = train.train.x.copy()
    x[1] = x[0]
    data = replace(train, train=Split(x, train.train.y))
    assert "mine: equal inputs with different labels: 1" in leaks(data)


def test_test_pictures_that_were_saved_again_are_told() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (30, 6, 6, 3), np.uint8)
    x = np.stack(
        [np.asarray(Image.fromarray(one).resize((48, 48), Image.Resampling.BICUBIC)) for one in small]
    )
    y = np.arange(30) % 2
    again = np.clip(x[:2].astype(int) + rng.integers(-5, 6, x[:2].shape), 0, 255).astype(np.uint8)
    test = Split(np.concatenate([x[20:], again, x[2:3]]), np.concatenate([y[20:], y[:3]]))
    dataset = Dataset("pics", "binary", Split(x[:20], y[:20]), test, class_names=("a", "b"))
    assert leaks(dataset) == [
        "pics: 1 of 13 test examples are also in train",
        "pics: 2 of 13 test pictures seem to be in train or val, saved again; cnnbench doctor shows them",
    ]
