"""Partition of examples into two parts."""

from __future__ import annotations

import numpy as np
import pytest

from cnnbench.data.partition import TooFewError, hold_out


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
