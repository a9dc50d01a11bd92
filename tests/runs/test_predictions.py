"""Tables of predictions and of mistakes: every example with its file, the worst mistakes first."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from cnnbench.runs import Predictions


def rows(predictions: Predictions, mistakes_only: bool = False) -> list[dict[str, str]]:
    file = io.StringIO()
    count = predictions.write(file, mistakes_only)
    found = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert len(found) == count
    return found


def test_classes_have_truth_prediction_and_probabilities() -> None:
    outputs = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6]], np.float32)
    made = Predictions("multiclass", np.array([0, 1, 2, 0]), outputs, ("ant", "bee", "cow"), list("abcd"))
    every = rows(made)
    assert [row["example"] for row in every] == list("abcd")
    assert [(row["truth"], row["prediction"]) for row in every] == [
        ("ant", "ant"),
        ("bee", "cow"),
        ("cow", "ant"),
        ("ant", "cow"),
    ]
    assert every[1]["probability_bee"] == every[1]["probability_of_truth"] == "0.3"
    assert every[1]["probability"] == "0.6"
    assert [row["example"] for row in rows(made, True)] == ["d", "b", "c"]  # by the probability of the truth


def test_a_binary_output_is_that_of_the_second_class() -> None:
    made = Predictions(
        "binary", np.array([0, 1, 1]), np.array([[0.9], [0.2], [0.8]], np.float32), ("no", "yes")
    )
    every = rows(made)
    assert [row["prediction"] for row in every] == ["yes", "no", "yes"]
    assert [row["probability_yes"] for row in every] == ["0.9", "0.2", "0.8"]
    assert [row["example"] for row in rows(made, True)] == ["0", "1"]  # numbers, where there are no names


def test_labels_tell_what_was_missed_and_what_was_false() -> None:
    truth = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], np.float32)
    outputs = np.array([[0.9, 0.8, 0.4], [0.1, 0.9, 0.2], [0.1, 0.1, 0.95]], np.float32)
    made = Predictions("multilabel", truth, outputs, ("sky", "sea", "sun"))
    first = rows(made)[0]
    assert (first["truth"], first["prediction"]) == ("sky; sun", "sky; sea")
    assert (first["missed"], first["false"]) == ("sun", "sea")
    assert [row["example"] for row in rows(made, True)] == ["2", "0"]


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_a_regression_has_its_largest_errors_first(shape: tuple[int, ...]) -> None:
    truth, said = np.array([1.0, 2, 3, 4]).reshape(shape), np.array([[1.5], [2], [0], [np.nan]])
    made = Predictions("regression", truth, said, ("price",))
    assert rows(made)[0] == {"example": "0", "truth": "1", "prediction": "1.5", "error": "0.5"}
    assert [row["example"] for row in rows(made, True)] == ["3", "2", "0", "1"]


def test_several_targets_are_measured_by_their_deviation() -> None:
    truth = np.array([[0.0, 0], [1, 1000], [2, 2000]])
    made = Predictions("regression", truth, truth + np.array([[0.0, 100], [1, 0], [0, 0]]), ("x", "y"))
    assert rows(made)[0]["error_y"] == "100"
    assert rows(made, True)[0]["example"] == "1"


def test_very_many_classes_have_no_column_each() -> None:
    outputs = np.full((2, 101), 1 / 101, np.float32)
    made = Predictions("multiclass", np.array([0, 5]), outputs, [f"c{index}" for index in range(101)])
    assert list(rows(made)[0]) == ["example", "truth", "prediction", "probability", "probability_of_truth"]
