"""Errors that cross TensorFlow: one line again."""

from __future__ import annotations

import pytest

from cnnbench.data.reading import unwrapped
from cnnbench.errors import CnnbenchError


def test_an_error_of_the_data_is_found_in_what_tensorflow_makes_of_it() -> None:
    tensorflow = pytest.importorskip("tensorflow")
    error = CnnbenchError("x.npy has been cut", "run again")

    def fail(index: int) -> int:
        raise error

    batches = tensorflow.data.Dataset.range(1).map(
        lambda index: tensorflow.numpy_function(fail, [index], tensorflow.int64)
    )
    with pytest.raises(tensorflow.errors.OpError) as caught:
        list(batches)
    found = unwrapped(caught.value)
    assert isinstance(found, CnnbenchError)
    assert (found.message, found.hint) == ("x.npy has been cut", "run again")
    assert found.__cause__ is caught.value


def test_any_other_error_stays_as_it_is() -> None:
    for error in (ValueError("x"), CnnbenchError("a", "b"), KeyboardInterrupt()):
        assert unwrapped(error) is error
