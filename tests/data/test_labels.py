"""Labels: the task that they make, and the positive one of two classes."""

import numpy as np
import pytest

from cnnbench.data.labels import infer_task, with_positive
from cnnbench.errors import CnnbenchError


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["cat", "dog"] * 5, "binary"),
        (["cat", "dog", "cow", ""] * 5, "multiclass"),
        ([0, 1, 2] * 4, "multiclass"),
        (["0", "1"] * 4, "binary"),
        ([True, False, True], "binary"),
        (np.arange(100) % 10, "multiclass"),
        (np.arange(400) % 100, "multiclass"),  # CIFAR-100
        (np.arange(400) % 100 + 20, "regression"),  # ages from 20 on
        (np.arange(12), "regression"),  # none comes again
        ([0.5, 1.0, 2.25], "regression"),
        (["0.5", "1.25", None], "regression"),
        (np.array([1.0, 0.0, np.nan]), "binary"),
        ([["cat"], ["cat", "dog"], []], "multilabel"),
        (np.array([[0, 1], [1, 1]]), "multilabel"),
        (np.array([[0.2, 1], [1, 1]]), "regression"),
        ([[0.2, 1], [1, 1]], "regression"),
        ([[1, 0], [0, 1]], "binary"),
        ([[True, False, False], [False, True, False], [False, False, True]], "multiclass"),
        ([[1, 0, 1], [0, 1, 0]], "multilabel"),
        ([[0], [1], [0, 1]], "multilabel"),  # indices
        (["1,5", "2,5", "3,5"] * 4, "regression"),
        (["caf\u00e9", "cafe\u0301", "tea"] * 4, "binary"),  # composed or not, one name
    ],
)
def test_the_task_is_inferred_from_the_labels(values, task):
    assert infer_task(values) == task


def test_the_positive_class_comes_second():
    y = np.array([0, 1, 1], np.uint8)
    swapped, names = with_positive(y, ["cats", "dogs"], "cats")
    assert (names, swapped.tolist(), swapped.dtype) == (("dogs", "cats"), [1, 0, 0], np.uint8)
    for positive in ("dogs", None):
        same, names = with_positive(y, ["cats", "dogs"], positive)
        assert (names, same.tolist()) == (("cats", "dogs"), y.tolist())


@pytest.mark.parametrize(("names", "said"), [(("cats", "dogs"), "none of the two"), ("abc", "there are 3")])
def test_a_positive_class_that_is_none_is_refused(names, said):
    with pytest.raises(CnnbenchError, match=said):
        with_positive(np.array([0, 1]), names, "cat")
