"""Partition of examples into two parts, and into folds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.data.dataset import Dataset, Split, Task
from cnnbench.data.partition import TooFewError, folds, hold_out, hold_out_last, keep_together
from cnnbench.data.splits import with_validation
from cnnbench.errors import CnnbenchError

# What the draws of earlier versions were: folders of old runs have fingerprints of them.
OF_HOLD_OUT = [1, 5, 7, 11, 12, 45, 75, 82, 83]
OF_TRAIN = [67.0, 64.0, 38.0, 51.0, 68.0, 50.0, 33.0, 39.0]
OF_VAL = [56.0, 63.0, 49.0, 18.0, 41.0, 16.0]
SEEDS = st.integers(0, 2**16)


def test_both_parts_have_the_classes_in_equal_shares_and_equal_examples_together() -> None:
    y, contents = np.repeat([0, 1], [40, 20]), [str(number // 2) for number in range(60)]
    kept, held = hold_out(y, "binary", 0.2, seed=1, contents=contents)
    assert sorted([*kept, *held]) == list(range(60))
    assert np.bincount(y[held]).tolist() == [8, 4]
    assert not {contents[row] for row in kept} & {contents[row] for row in held}
    assert np.array_equal(hold_out(y, "binary", 0.2, seed=1, contents=contents)[1], held)


def test_a_class_that_cannot_be_on_both_sides_is_named() -> None:
    with pytest.raises(TooFewError) as found:
        hold_out(np.array([0] * 9 + [1]), "binary", 0.2, seed=0)
    assert (found.value.label, found.value.count) == (1, 1)


def test_a_class_of_one_group_is_named_with_the_number_of_its_groups() -> None:
    y, groups = np.array([0] * 9 + [1] * 5), np.array([*range(9), *[20] * 5])
    for divide in (lambda: hold_out(y, "binary", 0.3, 0, groups), lambda: folds(y, "binary", 3, 0, groups)):
        with pytest.raises(TooFewError) as found:
            divide()
        assert (found.value.label, found.value.count) == (1, 1)


@st.composite
def examples(draw: st.DrawFn) -> tuple[np.ndarray, Task, np.ndarray | None]:
    """Targets, task and, perhaps, groups: of classes or labels some are rare."""
    rng = np.random.default_rng(draw(SEEDS))
    size, task = draw(st.integers(30, 200)), draw(st.sampled_from(["multiclass", "multilabel", "regression"]))
    groups = rng.integers(0, draw(st.integers(8, 40)), size) if draw(st.booleans()) else None
    if task == "multiclass":
        y = np.minimum(rng.geometric(0.4, size) - 1, 4)
    elif task == "multilabel":
        y = (rng.random((size, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(np.uint8)
    else:
        y = rng.random(size, np.float32)
    return y, task, groups  # type: ignore[return-value]


@given(examples(), st.integers(2, 6), SEEDS)
def test_folds_are_the_data_and_tear_no_group(
    given_data: tuple[np.ndarray, Task, np.ndarray | None], count: int, seed: int
) -> None:
    y, task, groups = given_data
    try:
        fold = folds(y, task, count, seed, groups)
    except TooFewError:  # a class that chance has put into one group, or given one example
        return
    assert set(fold) == set(range(count))  # each row has one, and none is empty
    assert np.array_equal(fold, folds(y, task, count, seed, groups))
    if groups is not None:
        assert all(len(np.unique(fold[groups == group])) == 1 for group in groups)


@given(st.lists(st.integers(0, 3), min_size=20, max_size=200), st.integers(2, 5), SEEDS)
def test_every_fold_has_each_class_as_often_as_the_others_give_or_take_one(
    labels: list[int], count: int, seed: int
) -> None:
    y = np.array(labels)
    try:
        fold = folds(y, "multiclass", count, seed)
    except TooFewError:
        assert np.bincount(y)[np.bincount(y) > 0].min() < 2
        return
    for label in np.unique(y):
        each = np.bincount(fold[y == label], minlength=count)
        assert each.max() - each.min() <= 1
    assert np.ptp(np.bincount(fold)) <= 1


@given(examples(), st.floats(0.1, 0.5), SEEDS)
def test_a_part_that_is_held_out_tears_no_group_and_is_the_rest_of_the_data(
    given_data: tuple[np.ndarray, Task, np.ndarray | None], size: float, seed: int
) -> None:
    y, task, groups = given_data
    try:
        kept, held = hold_out(y, task, size, seed, groups)
    except TooFewError:
        return
    assert sorted([*kept, *held]) == list(range(len(y)))
    assert min(len(kept), len(held)) > 0
    if groups is not None:
        assert not set(groups[kept]) & set(groups[held])


def test_labels_and_classes_in_groups_are_shared_out_as_evenly_as_groups_allow() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((2_000, 12)) < rng.uniform(0.01, 0.4, 12)).astype(np.uint8)
    fold = folds(labels, "multilabel", 5, seed=0)
    each = np.stack([labels[fold == number].sum(axis=0, dtype=int) for number in range(5)])
    assert np.ptp(each, axis=0).max() <= 2
    groups, y = rng.integers(0, 300, 3_000), rng.integers(0, 4, 3_000)
    _, held = hold_out(y, "multiclass", 0.2, 0, groups)
    assert np.abs(np.bincount(y[held]) - 0.2 * np.bincount(y)).max() <= 3


def test_two_seeds_divide_groups_differently() -> None:
    y, groups = np.arange(400) % 2, np.repeat(np.arange(20), np.arange(1, 40, 2))
    drawn = {hold_out(y, "binary", 0.25, seed, groups)[1].tobytes() for seed in range(5)}
    assert len(drawn) > 2


def test_equal_pictures_join_the_groups_that_they_are_in() -> None:
    groups, contents = np.repeat(np.arange(10), 4), [str(number) for number in range(40)]
    contents[39] = contents[0]  # of the first and the last group
    y = np.arange(40) % 2
    for seed in range(10):
        _, held = hold_out(y, "binary", 0.3, seed, groups, contents)
        assert (0 in held) == (39 in held)


def test_the_last_are_held_out_and_equal_times_stay_together() -> None:
    kept, held = hold_out_last(np.array([3, 1, 2, 2, 5, 4]), 2)
    assert (kept.tolist(), held.tolist()) == ([0, 1, 2, 3], [4, 5])
    kept, held = hold_out_last(np.array(["2024-02", "2024-01", "2024-02", "2024-01", "2024-03"]), 0.5)
    assert held.tolist() == [0, 2, 4]
    with pytest.raises(TooFewError):
        hold_out_last(np.zeros(5), 0.2)


def test_equal_examples_go_where_more_of_them_are() -> None:
    contents = ["a", "a", "a", "b", "c", "c", "d"]
    kept, held, moved = keep_together(np.array([0, 3, 4]), np.array([1, 2, 5, 6]), contents)
    assert (kept.tolist(), held.tolist(), moved) == ([3, 4, 5], [0, 1, 2, 6], 2)
    assert keep_together(np.array([3, 0]), np.array([4, 6]), [*contents[:4], "e", "f", "g"])[2] == 0


# -- The validation split ----------------------------------------------------------------------------


def grouped(size: int = 60, **more: object) -> Dataset:
    y = np.arange(size) % 2
    x = np.arange(size, dtype=np.float32)[:, None]
    train = Split(x, y, **more)  # type: ignore[arg-type]
    return Dataset("d", "binary", train, Split(x[:4] + 1000, y[:4]), class_names=("cat", "dog"))


def test_validation_takes_whole_groups_and_says_so() -> None:
    made = with_validation(grouped(groups=np.arange(60) // 4), 0.2, None, seed=0)
    assert made.val is not None
    assert len(made.val) == 12
    assert not set(made.train.groups) & set(made.val.groups)  # type: ignore[arg-type]
    assert made.notes == (
        "d: 48 + 12 + 4 examples in train, val, test, of 12 + 3 + 0 groups: "
        "cat 24 + 6 + 2; dog 24 + 6 + 2",
    )  # fmt: skip
    with pytest.raises(CnnbenchError, match="there is one group"):
        with_validation(grouped(groups=np.zeros(60, int)), 0.2, None, seed=0)


def test_validation_of_examples_with_an_order_is_their_end() -> None:
    order = np.random.default_rng(0).permutation(60)
    made = with_validation(grouped(order=order), 0.25, None, seed=0)
    assert made.val is not None
    assert sorted(made.val.order) == list(range(45, 60))  # type: ignore[arg-type]


def test_a_group_in_two_splits_is_refused_by_name() -> None:
    x, y = np.zeros((4, 1), np.float32), np.array([0, 1, 0, 1])
    one = Split(x, y, groups=np.array([1, 1, 2, 2]), names=list("abcd"))
    other = Split(x, y, groups=np.array([2, 3, 3, 3]), names=list("efgh"))
    with pytest.raises(CnnbenchError, match="both train and test: 1; c of train and e of test"):
        Dataset("d", "binary", one, other, class_names=("n", "y"))


def test_splits_without_groups_are_those_of_earlier_versions() -> None:
    y = np.arange(90) % 3
    assert hold_out(y, "multiclass", 0.1, 7)[1].tolist() == OF_HOLD_OUT
    x = np.arange(90, dtype=np.float32)[:, None]
    dataset = Dataset("d", "multiclass", Split(x, y), Split(x[:3] + 500, y[:3]), class_names=("a", "b", "c"))
    made = with_validation(dataset, 0.1, 60, seed=7)
    assert made.train.x[:8, 0].tolist() == OF_TRAIN
    assert made.val is not None
    assert made.val.x[:, 0].tolist() == OF_VAL
