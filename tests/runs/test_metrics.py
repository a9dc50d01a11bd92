"""The final metrics: against numbers worked out by hand and against scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from cnnbench.errors import CnnbenchError
from cnnbench.runs import metrics

ALL_NAMES = sorted({name for names in metrics.CHOICES.values() for name in names})


def one_hot(classes: list[int], count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[classes]


def random_outputs(task: str, examples: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    if task == "multiclass":
        outputs = rng.dirichlet(np.ones(7), examples).astype(np.float32)
        return rng.integers(0, 7, examples), outputs
    if task == "binary":
        return rng.integers(0, 2, examples), rng.random((examples, 1), np.float32)
    if task == "multilabel":
        return (rng.random((examples, 4)) < 0.4).astype(np.uint8), rng.random((examples, 4), np.float32)
    y_true = rng.normal(size=examples).astype(np.float32)
    return y_true, (y_true + rng.normal(size=examples).astype(np.float32))[:, None]


@pytest.mark.parametrize("task", list(metrics.FINAL))
def test_the_keys_are_those_that_FINAL_promises(task: str) -> None:
    figures = metrics.compute(task, *random_outputs(task))
    assert tuple(figures) == metrics.FINAL[task]
    assert all(type(value) is float for value in figures.values())


@pytest.mark.parametrize("task", list(metrics.FINAL))
def test_what_is_followed_and_ranked_by_is_computed_at_the_end(task: str) -> None:
    assert {*metrics.TRAINED[task], metrics.OBJECTIVE[task]} <= set(metrics.FINAL[task])


def test_multiclass_by_hand() -> None:
    y_true = np.array([0, 0, 0, 1, 1, 2])
    figures = metrics.compute("multiclass", y_true, one_hot([0, 0, 1, 1, 1, 0], 3))
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert figures["f1_macro"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert "top_5_accuracy" not in figures  # of three classes it would always be 1


def test_multiclass_is_what_scikit_learn_says() -> None:
    y_true, outputs = random_outputs("multiclass")
    figures = metrics.compute("multiclass", y_true, outputs)
    predicted = outputs.argmax(axis=1)
    assert figures["accuracy"] == sk.accuracy_score(y_true, predicted)
    assert figures["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y_true, predicted))
    assert figures["f1_macro"] == pytest.approx(sk.f1_score(y_true, predicted, average="macro"))
    expected = sk.top_k_accuracy_score(y_true, outputs, k=5, labels=np.arange(7))
    assert figures["top_5_accuracy"] == pytest.approx(expected)


def test_top_5_by_hand() -> None:
    outputs = np.tile(np.array([0.3, 0.2, 0.18, 0.14, 0.1, 0.08], np.float32), (3, 1))
    figures = metrics.compute("multiclass", np.array([0, 4, 5]), outputs)
    assert figures["top_5_accuracy"] == pytest.approx(2 / 3)


def test_a_class_absent_from_the_truth_counts_where_it_is_predicted_and_warns_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = metrics.compute("multiclass", np.array([0, 0, 1]), one_hot([0, 2, 1], 3))
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)  # over the classes that there are
    assert figures["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_binary_by_hand() -> None:
    y_true = np.array([1, 1, 1, 0, 0])
    outputs = np.array([[0.9], [0.8], [0.2], [0.6], [0.1]], np.float32)
    figures = metrics.compute("binary", y_true, outputs)
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["precision"] == pytest.approx(2 / 3)
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["f1"] == pytest.approx(2 / 3)
    assert figures["roc_auc"] == pytest.approx(5 / 6)  # of 3 × 2 pairs only 0.2 against 0.6 is wrong


def test_binary_is_what_scikit_learn_says() -> None:
    y_true, outputs = random_outputs("binary")
    figures = metrics.compute("binary", y_true, outputs)
    predicted = outputs[:, 0] > 0.5
    for name, score in {
        "accuracy": sk.accuracy_score,
        "precision": sk.precision_score,
        "recall": sk.recall_score,
        "f1": sk.f1_score,
    }.items():
        assert figures[name] == pytest.approx(score(y_true, predicted))
    assert figures["roc_auc"] == pytest.approx(sk.roc_auc_score(y_true, outputs[:, 0]))


@pytest.mark.parametrize("label", [0, 1])
def test_binary_with_one_class_only_has_no_roc_auc(label: int) -> None:
    outputs = np.array([[0.9], [0.1], [0.8]], np.float32)
    figures = metrics.compute("binary", np.full(3, label), outputs)
    assert set(figures) == {"accuracy", "precision", "recall", "f1"}
    assert figures["accuracy"] == pytest.approx(2 / 3 if label else 1 / 3)


def test_regression_by_hand() -> None:
    y_true = np.array([1.0, 2.0, 3.0, 6.0], np.float32)
    figures = metrics.compute("regression", y_true, np.array([[1.0], [2.0], [5.0], [4.0]], np.float32))
    assert figures["mae"] == pytest.approx(1.0)
    assert figures["rmse"] == pytest.approx(np.sqrt(2.0))
    assert figures["r2"] == pytest.approx(1 - 8 / 14)


@pytest.mark.parametrize(
    ("task", "y_true", "outputs", "expected"),
    [
        (
            "multiclass",
            np.array([2]),
            one_hot([2], 6),
            {"accuracy": 1, "balanced_accuracy": 1, "f1_macro": 1, "top_5_accuracy": 1},
        ),
        (
            "binary",
            np.array([1]),
            np.array([[0.7]], np.float32),
            {"accuracy": 1, "precision": 1, "recall": 1, "f1": 1},
        ),
        ("regression", np.array([2.0], np.float32), np.array([[2.5]], np.float32), {"mae": 0.5, "rmse": 0.5}),
    ],
)
def test_one_example_is_enough(
    task: str, y_true: np.ndarray, outputs: np.ndarray, expected: dict[str, float]
) -> None:
    assert metrics.compute(task, y_true, outputs) == pytest.approx(expected)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_the_direction_of_every_metric_is_known(name: str) -> None:
    smaller_is_better = {"mae", "rmse", "mse", "mape", "median_absolute_error", "max_error", "hamming_loss"}
    for spelled in (name, f"val_{name}", f"test_{name}"):
        assert metrics.larger_is_better(spelled) == (name not in smaller_is_better)


@pytest.mark.parametrize("name", ["loss", "val_loss", "test_loss"])
def test_a_smaller_loss_is_better(name: str) -> None:
    assert not metrics.larger_is_better(name)


# ---------------------------------------------------------------- metrics as a choice


@pytest.mark.parametrize("task", list(metrics.CHOICES))
def test_every_choice_is_computed_and_is_what_scikit_learn_says(task: str) -> None:
    y_true, outputs = random_outputs(task)
    figures = metrics.compute(task, y_true, outputs, metrics.CHOICES[task])
    assert set(figures) == {*metrics.FINAL[task], *metrics.CHOICES[task]}
    assert all(type(value) is float for value in figures.values())
    values = outputs if task == "multilabel" else outputs.reshape(-1)
    predicted = outputs.argmax(axis=1) if task == "multiclass" else values > 0.5
    expected = {
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(y_true, predicted),
        "f1_macro": lambda: sk.f1_score(y_true, predicted, average="macro"),
        "f1_weighted": lambda: sk.f1_score(y_true, predicted, average="weighted"),
        "precision_macro": lambda: sk.precision_score(y_true, predicted, average="macro"),
        "recall_macro": lambda: sk.recall_score(y_true, predicted, average="macro"),
        "precision_micro": lambda: sk.precision_score(y_true, predicted, average="micro"),
        "recall_micro": lambda: sk.recall_score(y_true, predicted, average="micro"),
        "hamming_loss": lambda: sk.hamming_loss(y_true, predicted),
        "matthews_correlation": lambda: sk.matthews_corrcoef(y_true, predicted),
        "cohen_kappa": lambda: sk.cohen_kappa_score(y_true, predicted),
        "roc_auc": lambda: sk.roc_auc_score(
            y_true, outputs if task == "multiclass" else values, multi_class="ovr"
        ),
        "average_precision": lambda: sk.average_precision_score(y_true, values),
        "mse": lambda: sk.mean_squared_error(y_true, values),
        "mape": lambda: np.mean(np.abs((y_true - values) / y_true)),
        "median_absolute_error": lambda: np.median(np.abs(y_true - values)),
        "max_error": lambda: np.max(np.abs(y_true - values)),
        "explained_variance": lambda: sk.explained_variance_score(y_true, values),
    }
    for name in set(figures) - set(metrics.FINAL[task]):
        assert figures[name] == pytest.approx(expected[name](), rel=1e-5), name


def test_several_labels_by_hand() -> None:
    """Of three labels the third has no example: means are over the other two."""
    y_true = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], np.uint8)
    outputs = np.array([[0.9, 0.2, 0.1], [0.4, 0.8, 0.1], [0.6, 0.7, 0.1], [0.1, 0.1, 0.2]], np.float32)
    figures = metrics.compute("multilabel", y_true, outputs)
    # Label 0 is ranked 1, 0, 1, 0 by its probabilities: precision 1 at the first, 2/3 at the second.
    assert figures["mean_average_precision"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert figures["f1_micro"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert figures["f1_macro"] == pytest.approx((1 / 2 + 1) / 2)
    assert figures["subset_accuracy"] == 2 / 4
    each = metrics.by_output("multilabel", y_true, outputs, ["a", "b", "c"])
    assert each["a"] == pytest.approx(
        {"precision": 0.5, "recall": 0.5, "f1": 0.5, "average_precision": 5 / 6, "support": 2}
    )
    assert each["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


def test_labels_that_no_example_has_or_all_warn_nobody() -> None:
    outputs = np.full((3, 2), 0.3, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        none = metrics.compute("multilabel", np.zeros((3, 2), np.uint8), outputs, ["roc_auc"])
        every = metrics.compute("multilabel", np.ones((3, 2), np.uint8), outputs, ["roc_auc"])
    assert set(none) == {"f1_micro", "subset_accuracy"}
    assert (every["mean_average_precision"], "roc_auc" in every) == (1.0, False)


def test_figures_of_several_targets_are_means_of_those_of_each() -> None:
    rng = np.random.default_rng(0)
    y_true = rng.normal(size=(30, 2)) * [1, 1000]
    outputs = y_true + rng.normal(size=(30, 2)) * [0.5, 100]
    figures = metrics.compute("regression", y_true, outputs, metrics.CHOICES["regression"])
    each = metrics.by_output("regression", y_true, outputs, ["small", "large"])
    assert figures["r2"] == pytest.approx(sk.r2_score(y_true, outputs))
    assert figures["rmse"] == pytest.approx(sk.root_mean_squared_error(y_true, outputs))
    assert figures["max_error"] == pytest.approx(np.abs(outputs - y_true).max(axis=0).mean())
    assert figures["mae"] == pytest.approx((each["small"]["mae"] + each["large"]["mae"]) / 2)
    assert metrics.by_output("regression", y_true[:, 0], outputs[:, :1], ["small"]) == {}


def test_a_validation_split_without_a_label_is_refused() -> None:
    with pytest.raises(CnnbenchError, match="no validation example has a label"):
        metrics.check_computable(["mean_average_precision"], np.zeros((4, 2)), 2)


def test_the_positive_class_is_named_where_a_metric_is_of_it() -> None:
    positive = metrics.positive_class({"task": "binary", "class_names": ["cats", "dogs"]})
    names = ["precision", "val_recall", "test f1", "average_precision", "accuracy", "roc_auc", "f1_macro"]
    assert [metrics.in_words(name, positive) for name in names] == [
        *("precision of dogs", "val_recall of dogs", "test f1 of dogs", "average_precision of dogs"),
        *("accuracy", "roc_auc", "f1_macro"),
    ]
    assert metrics.positive_class({"task": "multiclass", "class_names": ["a", "b"]}) is None


def test_the_k_of_top_k_is_free() -> None:
    y_true, outputs = random_outputs("multiclass")
    figures = metrics.compute("multiclass", y_true, outputs, ["top_2_accuracy", "top_7_accuracy"])
    assert figures["top_2_accuracy"] == pytest.approx(
        sk.top_k_accuracy_score(y_true, outputs, k=2, labels=np.arange(7))
    )
    assert "top_7_accuracy" not in figures  # of seven classes


def test_the_area_under_the_curve_is_over_the_classes_that_there_are() -> None:
    y_true, outputs = np.array([0, 0, 2, 2]), one_hot([0, 0, 2, 0], 3)
    figures = metrics.compute("multiclass", y_true, outputs, ["roc_auc"])
    assert figures["roc_auc"] == pytest.approx(0.75)


@pytest.mark.parametrize("task", ["multiclass", "binary"])
def test_of_one_class_only_what_compares_two_is_left_out_and_warns_nobody(task: str) -> None:
    outputs = one_hot([1, 1], 3) if task == "multiclass" else np.ones((2, 1), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = metrics.compute(task, np.array([1, 1]), outputs, metrics.CHOICES[task])
    assert not set(metrics.NEED_TWO_CLASSES) & set(figures)


@pytest.mark.parametrize(
    ("names", "task", "said"),
    [
        (["f1_makro"], "multiclass", "there is no f1_makro.*did you mean f1_macro"),
        (["f1_makro"], None, "did you mean f1_macro"),
        (["r2"], "multiclass", "r2 is for regression, not for multiclass"),
        (["top_2_accuracy"], "binary", "top_2_accuracy is for multiclass, not for binary"),
        (["f1_macro"], "regression", "f1_macro is for multiclass or binary or multilabel, not for regr"),
        (["top_0_accuracy"], "multiclass", "there is no top_0_accuracy"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(names: list[str], task: str | None, said: str) -> None:
    with pytest.raises(CnnbenchError, match=said):
        metrics.check_chosen(names, task)


def test_a_choice_that_this_data_set_leaves_undefined_is_refused() -> None:
    with pytest.raises(CnnbenchError, match=r"top_3_accuracy of 3 classes.*top_2_accuracy"):
        metrics.check_computable(["top_3_accuracy"], np.array([0, 1, 2]), 3)
    with pytest.raises(CnnbenchError, match="no roc_auc of a validation split with one class"):
        metrics.check_computable(["roc_auc"], np.array([1, 1]), 3)
    metrics.check_computable(["top_2_accuracy", "roc_auc", "f1_macro"], None, 3)
