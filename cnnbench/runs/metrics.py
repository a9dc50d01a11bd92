"""Targets and outputs to plain figures, by scikit-learn; and which figures a task has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cnnbench.errors import CnnbenchError, nearest

# What is followed during training, by Keras, and so may be monitored.
TRAINED = {"multiclass": ("accuracy",), "binary": ("accuracy",), "regression": ("mae", "rmse")}
# What a sweep ranks by unless told otherwise.
OBJECTIVE = {"multiclass": "accuracy", "binary": "accuracy", "regression": "rmse"}
# What is computed at the end, for each split.
FINAL = {
    "multiclass": ("accuracy", "balanced_accuracy", "f1_macro", "top_5_accuracy"),
    "binary": ("accuracy", "precision", "recall", "f1", "roc_auc"),
    "regression": ("mae", "rmse", "r2"),
}
LARGER_IS_BETTER = ("accuracy", "auc", "f1", "precision", "recall", "r2")


def larger_is_better(name: str) -> bool:
    """The direction of a metric, by its name (`val_accuracy`, `test_f1_macro`, `loss`, …)."""
    return any(word in name for word in LARGER_IS_BETTER)


def compute(task: str, y_true: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """The final metrics of one split.

    Args:
        task: `multiclass`, `binary` or `regression`.
        y_true: ``(n,)`` class indices or values.
        outputs: ``(n, classes)`` probabilities, ``(n, 1)`` probability of class 1, or ``(n, 1)`` values.
    """
    from sklearn import metrics as sk  # half a second, which `--help` need not pay

    if task == "multiclass":
        predicted = outputs.argmax(axis=1)
        figures = {
            "accuracy": sk.accuracy_score(y_true, predicted),
            "balanced_accuracy": np.mean([np.mean(predicted[y_true == k] == k) for k in np.unique(y_true)]),
            "f1_macro": sk.f1_score(y_true, predicted, average="macro", zero_division=0),
        }
        if outputs.shape[1] > 5:
            top = np.argpartition(-outputs, 5, axis=1)[:, :5]
            figures["top_5_accuracy"] = np.mean((top == y_true[:, None]).any(axis=1))
    elif task == "binary":
        probability = outputs.reshape(-1)
        predicted = (probability > 0.5).astype(int)
        figures = {
            "accuracy": sk.accuracy_score(y_true, predicted),
            "precision": sk.precision_score(y_true, predicted, zero_division=0),
            "recall": sk.recall_score(y_true, predicted, zero_division=0),
            "f1": sk.f1_score(y_true, predicted, zero_division=0),
        }
        if len(np.unique(y_true)) == 2:
            figures["roc_auc"] = sk.roc_auc_score(y_true, probability)
    else:
        values = outputs.reshape(-1)
        figures = {
            "mae": sk.mean_absolute_error(y_true, values),
            "rmse": sk.root_mean_squared_error(y_true, values),
        }
        if len(y_true) > 1:
            figures["r2"] = sk.r2_score(y_true, values)
    return {name: float(value) for name, value in figures.items()}


def objective_value(figures: Mapping[str, Mapping[str, float]], objective: str) -> float:
    """The value of e.g. `val_accuracy` among the final metrics."""
    split, _, name = objective.partition("_")
    if split not in ("val", "test"):
        split, name = "train", objective
    try:
        return figures[split][name]
    except KeyError:
        known = [f"{s}_{n}" if s != "train" else n for s in figures for n in figures[s]]
        raise CnnbenchError(
            f"objective={objective} is not a metric of this run", nearest(objective, known)
        ) from None
