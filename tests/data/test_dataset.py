"""What no data set may be, whoever made it: refused when it is made, with the split and the example."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome

from cnnbench.data.dataset import Column, Dataset, Rows, Split
from cnnbench.data.splits import example_weights, label_weights, with_validation
from cnnbench.errors import CnnbenchError

CLASSES = ("cat", "dog", "owl")


def pixels(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 1), np.uint8)


def classified(**changed: Any) -> Dataset:
    """Images of three classes; `y`, `x_test`, … replace a part."""
    arrays = {"x": pixels(12), "y": np.arange(12) % 3, "x_test": pixels(6, 1), "y_test": np.arange(6) % 3}
    options = {"name": "mine", "task": "multiclass", "class_names": CLASSES}
    given = arrays | {key: value for key, value in changed.items() if key in arrays}
    options |= {key: value for key, value in changed.items() if key not in arrays}
    train, test = Split(given["x"], given["y"]), Split(given["x_test"], given["y_test"])
    return Dataset(**{"train": train, "test": test, **options})


def table(rows: int = 10) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32)
    return x, x[:, 0].copy()


def regression(x: np.ndarray, y: np.ndarray, val: Split | None = None) -> Dataset:
    return Dataset("mine", "regression", Split(x, y), Split(*table()), val=val)


def changed(array: np.ndarray, index: Any, value: Any) -> np.ndarray:
    copy = array.copy()
    copy[index] = value
    return copy


def refusal(make: Callable[[], object]) -> CnnbenchError:
    with pytest.raises(CnnbenchError) as caught:
        make()
    assert "\n" not in str(caught.value)
    return caught.value


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("label", "kind", "shown"),
    [(-1, np.int64, "-1"), (3, np.uint8, "3"), (np.nan, float, "nan"), (0.5, np.float32, "0.5")],
)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_label_that_is_no_class_is_named_with_split_and_example(
    label: float, kind: Any, shown: str, split: str
) -> None:
    y = changed((np.arange(6) % 3).astype(kind), [4, 5], label)
    changes = {
        "train": {"x": pixels(6), "y": y},
        "val": {"val": Split(pixels(6), y)},
        "test": {"y_test": y},
    }
    error = refusal(lambda: classified(**changes[split]))
    assert f"{split} label of example 4 is {shown}, but the 3 classes are 0 to 2" in error.message
    assert "2 of 6 labels" in error.message


def test_labels_that_begin_at_one_are_recognised() -> None:
    assert "subtract 1" in refusal(lambda: classified(y=np.arange(12) % 3 + 1)).hint


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64, np.float32, ">i4"])
def test_whole_numbers_of_any_type_are_labels(kind: Any) -> None:
    assert classified(y=(np.arange(12) % 3).astype(kind)).outputs == 3


def test_truths_are_labels_of_a_binary_task() -> None:
    truths = {"y": np.arange(12) > 5, "y_test": np.arange(6) > 2}
    assert classified(task="binary", class_names=CLASSES[:2], **truths).outputs == 1


@pytest.mark.parametrize(("task", "names"), [("binary", CLASSES), ("binary", ()), ("multiclass", ("cat",))])
def test_class_names_that_do_not_fit_the_task_are_refused(task: str, names: tuple[str, ...]) -> None:
    assert "class_names" in refusal(lambda: classified(task=task, class_names=names)).message


def test_two_classes_of_one_name_are_refused() -> None:
    names = (*CLASSES[:-1], CLASSES[0])
    assert f"the same name, {CLASSES[0]}" in refusal(lambda: classified(class_names=names)).message


def test_a_mistyped_task_is_refused_with_the_nearest() -> None:
    assert "did you mean multiclass" in refusal(lambda: classified(task="multi_class")).hint


# ---------------------------------------------------------------- shapes and types


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.arange(11) % 3}, "train has 12 examples but 11 targets"),
        ({"x_test": pixels(0), "y_test": np.arange(0)}, "test is empty"),
        ({"x_test": pixels(6)[:, :3]}, r"test examples have shape \(3, 4, 1\), train has \(4, 4, 1\)"),
        ({"x": pixels(12)[:, :0], "x_test": pixels(6)[:, :0]}, r"shape \(12, 0, 4, 1\)"),
        ({"x": np.arange(12.0)}, r"train inputs have the shape \(12,\)"),
        ({"y": np.eye(3)[np.arange(12) % 3]}, r"train targets have the shape \(12, 3\)"),
        ({"x": pixels(12).astype(object)}, "train inputs are of the type object"),
        ({"y": np.array(CLASSES)[np.arange(12) % 3]}, "train targets are of the type <U3"),
        ({"x": pixels(12).astype(complex)}, "complex128"),
        ({"x": pixels(12).astype(np.longdouble)}, "type (float128|longdouble)"),
        ({"x": pixels(12).tolist()}, "train inputs are a list, not a numpy array"),
        ({"y_test": [0, 1, 2, 0, 1, 2]}, "test targets are a list"),
        ({"x_test": pixels(6) / 255}, "test inputs are float64, those of train uint8"),
        ({"train": (pixels(3), np.arange(3))}, "train is a tuple"),
        ({"test": None}, "test is a NoneType"),
    ],
)
def test_what_no_model_can_take_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CnnbenchError, match=message):
        classified(**changes)


def test_one_hot_rows_and_columns_are_told_how_to_become_indices() -> None:
    assert "argmax" in refusal(lambda: classified(y=np.eye(3)[np.arange(12) % 3])).hint
    x, y = table()
    assert "reshape" in refusal(lambda: regression(x, y[:, None])).hint


def test_what_is_no_data_set_at_all_is_refused() -> None:
    not_one: Any = (pixels(3), np.arange(3))
    assert "gave a tuple" in refusal(lambda: with_validation(not_one, 0.1, None, 0)).message


# ---------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite_is_named_with_its_column(value: float) -> None:
    x, y = table()
    error = refusal(lambda: regression(changed(x, ([7, 8], 3), value), y))
    assert "train: 2 of 10 examples have inputs that are NaN or infinite" in error.message
    assert f"example 7 (column 3: {value})" in error.message


def test_a_pixel_that_is_not_finite_is_named_with_its_place() -> None:
    x = changed(pixels(12).astype(np.float32), (5, 2, 3, 0), np.nan)
    error = refusal(lambda: classified(x=x, x_test=pixels(6).astype(np.float32)))
    assert "example 5 (at (2, 3, 0): nan)" in error.message


def test_a_number_too_large_for_float32_is_infinite() -> None:
    x, y = table()
    error = refusal(lambda: regression(changed(x.astype(float), (4, 1), 1e300), y))
    assert "example 4 (column 1: 1e+300)" in error.message


def test_examples_are_counted_through_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnbench.data.dataset.BLOCK_VALUES", 15)  # three rows at a time
    x, y = table()
    error = refusal(lambda: regression(changed(x, ([5, 9], [2, 0]), np.nan), y))
    assert "2 of 10" in error.message
    assert "example 5 (column 2" in error.message


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_target_that_is_not_finite_is_named(split: str) -> None:
    x, y = table()
    wrong = changed(y, [6, 9], np.inf)
    error = refusal(lambda: regression(x, wrong) if split == "train" else regression(x, y, Split(x, wrong)))
    assert f"{split}: 2 of 10 targets are NaN or infinite, the first of example 6 (inf)" in error.message


def test_float_rows_of_a_mapped_file_are_looked_at_and_bytes_are_not(tmp_path: Path) -> None:
    class Unread(np.memmap):
        def __getitem__(self, key: Any) -> Any:
            raise AssertionError("read")

    np.save(tmp_path / "x.npy", changed(np.zeros((12, 4, 4, 1), np.float32), 9, np.nan))
    rows = Rows(np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(12)[::-1])
    assert "example 2 " in refusal(lambda: classified(x=rows, x_test=pixels(6).astype(np.float32))).message
    np.save(tmp_path / "b.npy", pixels(12))
    mapped = np.load(tmp_path / "b.npy", mmap_mode="r").view(Unread)
    dataset = classified(x=Rows(mapped, np.arange(12)))
    assert with_validation(dataset, 0.5, None, 0).val is not None


def test_looking_at_half_a_gigabyte_of_floats_takes_no_longer_than_a_few_sums_of_it() -> None:
    x = np.zeros((40_000, 3072), np.float32)
    y = np.arange(len(x)) % 3
    began = time.process_time()
    x.sum()
    summed = time.process_time()
    Dataset("large", "multiclass", Split(x, y), Split(x[:3], y[:3]), class_names=CLASSES)
    assert time.process_time() - summed < 20 * (summed - began)  # about as long


# ---------------------------------------------------------------- as a user meets it

PLUGIN = """
import numpy as np
from cnnbench.data.dataset import Dataset, Split

def data():
    x = np.zeros((20, 8, 8, 1), np.uint8)
    return Dataset("mine", "multiclass", Split(x, np.arange(20) % 5), Split(x, np.arange(20) % 3),
                   class_names=("a", "b", "c"))
"""


def test_a_function_of_ones_own_with_wrong_labels_is_one_line(
    folder: Path, run_cli: Callable[..., Outcome]
) -> None:
    (folder / "wrong_labels.py").write_text(PLUGIN)
    (folder / "conf" / "dataset").mkdir(parents=True)
    (folder / "conf" / "dataset" / "mine.yaml").write_text("# mine\n_target_: wrong_labels.data\n")
    outcome = run_cli("--config-dir", "conf", "plugins=[wrong_labels.py]", "dataset=mine")
    assert outcome.exit_code == 2
    lines = outcome.err.strip().splitlines()
    assert lines[0].startswith("error: mine: train label of example 3 is 3, but the 3 classes are 0 to 2")
    assert len(lines) == 2


# ---------------------------------------------------------------- several labels and targets, groups, weights


def several(y: np.ndarray, task: str = "multilabel", **more: object) -> Dataset:
    split = Split(np.zeros((4, 2), np.float32), y, **more)  # type: ignore[arg-type]
    names = ("a", "b", "c") if task == "multilabel" else ()
    return Dataset("d", task, split, replace(split, groups=None), class_names=names)  # type: ignore[arg-type]


def test_several_labels_and_several_targets_have_an_output_each() -> None:
    assert several(np.eye(4, 3, dtype=np.uint8)).outputs == 3
    assert several(np.ones((4, 2), np.float32), "regression").outputs == 2
    with pytest.raises(CnnbenchError, match=r"not \(examples, 3\)"):
        several(np.eye(4, 2, dtype=np.uint8))
    with pytest.raises(CnnbenchError, match="label 1 of example 2 is 5, not 0 or 1"):
        several(np.array([[0, 1, 0], [0, 0, 0], [0, 5, 1], [1, 1, 1]]))


def test_groups_weights_and_names_go_with_the_examples_and_belong_to_the_fingerprint() -> None:
    y, groups = np.eye(4, 3, dtype=np.uint8), np.array([7, 7, 8, 9])
    data = several(y, groups=groups, weights=np.ones(4, np.float32), names=["p", "q", "r", "s"])
    taken = data.train.take(np.array([3, 0]))
    assert (taken.groups.tolist(), taken.names) == ([9, 7], ["s", "p"])  # type: ignore[union-attr]
    assert len({one.train.fingerprint for one in (data, several(y), several(y, groups=groups[::-1]))}) == 3
    with pytest.raises(CnnbenchError, match="4 examples but 2 groups"):
        several(y, groups=groups[:2])


def test_a_table_may_lack_values_and_nothing_else() -> None:
    x, y = np.array([[1, np.nan], [np.nan, 2]], np.float32), np.zeros(2, np.float32)
    columns = (Column("a"), Column("b"))
    Dataset("d", "regression", Split(x, y), Split(x, y), columns=columns)
    with pytest.raises(CnnbenchError, match="NaN"):
        Dataset("d", "regression", Split(x, y), Split(x, y))
    x[0, 0] = np.inf
    with pytest.raises(CnnbenchError, match="inf"):
        Dataset("d", "regression", Split(x, y), Split(x, y), columns=columns)


@pytest.mark.parametrize(
    ("weights", "said"),
    [([1, -1, 1, 1], "1 of 4 weights are negative"), ([1, 1, np.nan, 1], "example 2"), ([0] * 4, "are 0")],
)
def test_weights_that_cannot_count_are_refused(weights: list[float], said: str) -> None:
    with pytest.raises(CnnbenchError, match=said):
        several(np.eye(4, 3, dtype=np.uint8), weights=np.array(weights, np.float32))


def test_targets_have_the_names_that_they_are_given_or_numbers() -> None:
    y = np.ones((4, 2), np.float32)
    assert several(y, "regression").targets == ("target_1", "target_2")
    assert replace(several(y, "regression"), target_names=("a", "b")).targets == ("a", "b")
    with pytest.raises(CnnbenchError, match="1 target_names for 2 targets"):
        replace(several(y, "regression"), target_names=("a",))


def test_weights_of_examples_and_classes_are_multiplied() -> None:
    x, y = np.zeros((4, 2), np.float32), np.array([0, 0, 0, 1])
    split = Split(x, y, weights=np.array([1, 2, 3, 4], np.float32))
    data = Dataset("d", "binary", split, split, class_names=("a", "b"))
    balanced = np.array([4 / 6, 4 / 6, 4 / 6, 4 / 2])
    assert example_weights(data, balanced=True) == pytest.approx(balanced * [1, 2, 3, 4])
    assert example_weights(data, balanced=False) == pytest.approx([1, 2, 3, 4])
    assert example_weights(replace(data, train=Split(x, y)), balanced=False) is None


def test_both_sides_of_a_label_weigh_the_same() -> None:
    y = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 1]], np.uint8)
    weights = label_weights(several(y))
    assert weights == pytest.approx(np.array([[4 / 6, 4 / 2], [1, 1], [4 / 6, 4 / 2]]))
