"""Figures of a model, from targets and outputs, by scikit-learn; which of them a task has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnbench.errors import CnnbenchError, nearest

Thresholds = Sequence[float] | None  # of class 1, or of each label; None: 0.5

# What Keras follows during the training, and so may be monitored without being chosen.
TRAINED = {
    "multiclass": ("accuracy",),
    "binary": ("accuracy",),
    "multilabel": ("f1_micro",),
    "regression": ("mae", "rmse"),
}
# What a sweep ranks by unless told otherwise, and what the answers name first. Where Keras does not follow
# it, it is computed over the validation split after each epoch.
OBJECTIVE = {
    "multiclass": "accuracy",
    "binary": "accuracy",
    "multilabel": "mean_average_precision",
    "regression": "rmse",
}
# What is computed at the end in any case, for each split.
FINAL = {
    "multiclass": ("accuracy", "balanced_accuracy", "f1_macro", "top_5_accuracy"),
    "binary": ("accuracy", "precision", "recall", "f1", "roc_auc"),
    "multilabel": ("mean_average_precision", "f1_micro", "f1_macro", "subset_accuracy"),
    "regression": ("mae", "rmse", "r2"),
}
SPLIT = re.compile("^(train|val|test|fold)_")
TOP = re.compile(r"top_([1-9]\d*)_accuracy")
MACRO, ONE = {"average": "macro", "zero_division": 0}, {"zero_division": 0}
MICRO = {"average": "micro", "zero_division": 0}
# By name: a function of scikit-learn of targets and predictions, and its keywords. Of classes: …
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "accuracy": ("accuracy_score", {}),
    "balanced_accuracy": ("recall_score", MACRO),  # over the true classes alone
    "f1_macro": ("f1_score", MACRO),
    "f1_weighted": ("f1_score", {**MACRO, "average": "weighted"}),
    "precision_macro": ("precision_score", MACRO),
    "recall_macro": ("recall_score", MACRO),
    "matthews_correlation": ("matthews_corrcoef", {}),
    "cohen_kappa": ("cohen_kappa_score", {}),
}
# … of labels, of which an example has any number; means over those that any example has, or is given, …
LABELS: dict[str, tuple[str, dict[str, Any]]] = {
    "f1_micro": ("f1_score", MICRO),
    "f1_macro": ("f1_score", MACRO),
    "f1_weighted": ("f1_score", {**MACRO, "average": "weighted"}),
    "precision_micro": ("precision_score", MICRO),
    "precision_macro": ("precision_score", MACRO),
    "recall_micro": ("recall_score", MICRO),
    "recall_macro": ("recall_score", MACRO),
    "subset_accuracy": ("accuracy_score", {}),  # all labels of an example right
    "hamming_loss": ("hamming_loss", {}),
}
# … of two classes, where class 1 is what is looked for: …
BINARY = {"precision": ("precision_score", ONE), "recall": ("recall_score", ONE), "f1": ("f1_score", ONE)}
# … and of values; of several targets, the mean of the figures of each. `mape` is a share of the true value.
VALUES: dict[str, tuple[str, dict[str, Any]]] = {
    "mae": ("mean_absolute_error", {}),
    "rmse": ("root_mean_squared_error", {}),
    "mse": ("mean_squared_error", {}),
    "mape": ("mean_absolute_percentage_error", {}),
    "r2": ("r2_score", {}),
    "explained_variance": ("explained_variance_score", {}),
    "median_absolute_error": ("median_absolute_error", {}),
    "max_error": ("max_error", {}),
}
OF_PREDICTIONS = {
    "multiclass": CLASSES,
    "binary": {**CLASSES, **BINARY},
    "multilabel": LABELS,
    "regression": VALUES,
}
# Those that can be chosen for a task; of `top_K_accuracy` every number K.
CHOICES = {
    "multiclass": (*CLASSES, "roc_auc", "top_5_accuracy"),
    "binary": (*CLASSES, *BINARY, "roc_auc", "average_precision"),
    "multilabel": ("mean_average_precision", *LABELS, "roc_auc"),
    "regression": tuple(VALUES),
}
NEED_TWO_EXAMPLES = ("r2", "explained_variance")
NEED_TWO_CLASSES = ("roc_auc", "average_precision", "cohen_kappa", "matthews_correlation")
# Of classes and of values; every other metric of the tables above is better when larger.
SMALLER_IS_BETTER = (
    *("loss", "mae", "rmse", "mse", "mape", "median_absolute_error", "max_error", "hamming_loss"),
)
OF_THE_POSITIVE = (*BINARY, "average_precision")  # class: what a binary task looks for
FROM_MINUS_ONE = ("cohen_kappa", "matthews_correlation")  # of the metrics of classes that may be negative
HALF = (0.5,)  # the threshold of a probability, where none was chosen
LARGER_WORDS = ("accuracy", "auc", "f1", "precision", "recall", "r2")  # in names that no table has


def larger_is_better(name: str) -> bool:
    """Tell the direction of a metric by its name (`val_accuracy`, `test_f1_macro`, `loss`, …)."""
    metric = SPLIT.sub("", name)
    if metric in SMALLER_IS_BETTER:
        return False
    return bool(tasks_of(metric)) or any(word in metric for word in LARGER_WORDS)


def is_share(name: str) -> bool:
    """Tell whether a metric lies between 0 and 1 by its definition (`val_accuracy`, `f1_macro`, …)."""
    metric = SPLIT.sub("", name)
    is_of_classes = any(metric in CHOICES[task] for task in ("multiclass", "binary", "multilabel"))
    return (is_of_classes or bool(TOP.fullmatch(metric))) and metric not in FROM_MINUS_ONE


def positive_class(result: Mapping[str, Any]) -> str | None:
    """Return what a run of two classes looks for, by its `metrics.json`; None of another task."""
    names: Sequence[Any] = result.get("class_names") or ()
    return str(names[1]) if result.get("task") == "binary" and len(names) == 2 else None


def in_words(name: str, positive: str | None) -> str:
    """Return a metric's name for people, with the positive class that it is of, as `precision of dogs`."""
    metric = re.sub("^(train|val|test)[_ ]", "", name)
    return f"{name} of {positive}" if positive is not None and metric in OF_THE_POSITIVE else name


def tasks_of(name: str) -> list[str]:
    """Return the tasks for which a metric can be chosen; none for an unknown name."""
    if TOP.fullmatch(name):
        return ["multiclass"]
    return [task for task, choices in CHOICES.items() if name in choices]


def check_chosen(names: Iterable[str], task: str | None) -> None:
    """Refuse a choice of metrics (`training.metrics`) that cannot be computed.

    Args:
        names: what was chosen.
        task: of the data set; None where it is not known yet.

    Raises:
        CnnbenchError: there is no such metric, or it is for another task.
    """
    of_task = CHOICES[task] if task else {name for choices in CHOICES.values() for name in choices}
    for name in names:
        tasks = tasks_of(name)
        if not tasks:
            raise CnnbenchError(f"training.metrics: there is no {name}", nearest(name, of_task))
        if task and task not in tasks:
            raise CnnbenchError(
                f"training.metrics: {name} is for {' or '.join(tasks)}, not for {task}",
                f"for {task}: {', '.join(of_task)}",
            )


def check_computable(names: Iterable[str], y_val: np.ndarray | None, outputs: int) -> None:
    """Refuse chosen metrics that validation targets, or the number of outputs, leave undefined.

    Args:
        names: what was chosen.
        y_val: targets of the validation split, as of a `Split`; None without one.
        outputs: of the model.

    Raises:
        CnnbenchError: top-K of K classes or fewer, or a comparison of classes where there is only one.
    """
    for name in names:
        top = TOP.fullmatch(name)
        if top and int(top[1]) >= outputs:
            raise CnnbenchError(
                f"training.metrics: {name} of {outputs} classes would always be 1",
                f"top_{max(outputs - 1, 1)}_accuracy, or leave it out",
            )
        if name == "mean_average_precision" and y_val is not None and not y_val.any():
            raise CnnbenchError(
                "no validation example has a label, so there is no mean average precision",
                "hold more out: training.validation_fraction",
            )
        if name in NEED_TWO_CLASSES and y_val is not None and len(np.unique(y_val)) < 2:
            raise CnnbenchError(
                f"training.metrics: there is no {name} of a validation split with one class only",
                "hold more out (training.validation_fraction), or leave it out",
            )


def compute(
    task: str,
    y_true: np.ndarray,
    outputs: np.ndarray,
    names: Iterable[str] = (),
    thresholds: Thresholds = None,
) -> dict[str, float]:
    """Compute the final metrics of one split, and those that are named.

    Args:
        task: of the data set.
        y_true: ``(n,)`` class indices or values, ``(n, labels)`` 0 or 1, or ``(n, targets)`` values.
        outputs: ``(n, classes)`` or ``(n, labels)`` probabilities, ``(n, 1)`` probability of class 1, or
            ``(n, targets)`` values.
        names: further metrics of the task.
        thresholds: of a binary task, or of each label, as `Decision` has them.

    Returns:
        values by name; without those that these targets leave undefined.
    """
    return compute_named(task, y_true, outputs, dict.fromkeys((*FINAL[task], *names)), thresholds)


def compute_named(
    task: str,
    y_true: np.ndarray,
    outputs: np.ndarray,
    names: Iterable[str],
    thresholds: Thresholds = None,
) -> dict[str, float]:
    """Compute some metrics of one split; see `compute`."""
    if task == "multilabel":
        return _of_labels(y_true, outputs, names, thresholds)
    if task == "regression" and outputs.ndim == 2 and outputs.shape[1] > 1:
        each = [compute_named(task, *pair, names) for pair in zip(y_true.T, outputs.T, strict=True)]
        return {name: float(np.mean([figures[name] for figures in each])) for name in each[0]}
    from sklearn import metrics as sk  # half a second, which `--help` need not pay

    given = outputs if task == "multiclass" else outputs.reshape(-1)
    predicted = given if task == "regression" else predicted_classes(outputs, thresholds)
    present, figures = np.unique(y_true), {}
    for name in names:
        top = TOP.fullmatch(name)
        if (
            (name in NEED_TWO_CLASSES and len(present) < 2)
            or (name in NEED_TWO_EXAMPLES and len(y_true) < 2)
            or (top and int(top[1]) >= outputs.shape[1])
        ):
            continue
        if name in OF_PREDICTIONS[task]:
            function, keywords = OF_PREDICTIONS[task][name]
            if name == "balanced_accuracy":  # scikit-learn's own warns of classes without an example
                keywords = {**keywords, "labels": present}
            value = getattr(sk, function)(y_true, predicted, **keywords)
        elif top:
            labels = np.arange(outputs.shape[1])
            value = sk.top_k_accuracy_score(y_true, given, k=int(top[1]), labels=labels)
        elif name == "average_precision":
            value = sk.average_precision_score(y_true, given)
        elif task == "binary":
            value = sk.roc_auc_score(y_true, given)
        else:  # each class against the rest, over those present: scikit-learn's own insists on all of them
            value = np.mean([sk.roc_auc_score(y_true == label, given[:, label]) for label in present])
        figures[name] = float(value)
    return figures


def _of_labels(
    y_true: np.ndarray, outputs: np.ndarray, names: Iterable[str], thresholds: Thresholds
) -> dict[str, float]:
    """Compute metrics of several labels; those of probabilities are means over labels that examples have."""
    from sklearn import metrics as sk

    predicted = predicted_labels(outputs, thresholds)
    present = np.flatnonzero(y_true.any(axis=0))
    figures: dict[str, float] = {}
    for name in names:
        if name in LABELS:
            function, keywords = LABELS[name]
            if "average" in keywords and keywords["average"] != "micro":
                known = np.flatnonzero(y_true.any(axis=0) | predicted.any(axis=0))
                if not len(known):
                    continue
                keywords = {**keywords, "labels": known}
            figures[name] = float(getattr(sk, function)(y_true, predicted, **keywords))
            continue
        is_auc = name == "roc_auc"  # which needs examples without the label, too
        score = sk.roc_auc_score if is_auc else sk.average_precision_score
        labels = [label for label in present if not (is_auc and y_true[:, label].all())]
        if labels:
            scores = [score(y_true[:, label], outputs[:, label]) for label in labels]
            figures[name] = float(np.mean(scores))
    return figures


def by_output(
    task: str, y_true: np.ndarray, outputs: np.ndarray, names: Sequence[str], thresholds: Thresholds = None
) -> dict[str, dict[str, float]]:
    """Return the figures of each class, label (multilabel) or target (regression with several), by its name.

    Args:
        task: of the data set.
        y_true: as of `compute`.
        outputs: as of `compute`.
        names: of the classes, labels or targets.
        thresholds: as of `compute`.

    Returns:
        of a class `precision`, `recall`, `f1` and `support`, the examples of it; of a label the same and
        `average_precision` (lacking where no example has it); of a target the final metrics. Empty for one
        target.
    """
    if task in ("multiclass", "binary"):
        return _of_each_class(y_true.reshape(-1), predicted_classes(outputs, thresholds), names)
    if task == "multilabel":
        return {
            name: _of_label(y_true[:, index], outputs[:, index], thresholds and thresholds[index : index + 1])
            for index, name in enumerate(names)
        }
    if task == "regression" and outputs.ndim == 2 and outputs.shape[1] > 1:
        return {
            name: compute(task, y_true[:, index], outputs[:, index : index + 1])
            for index, name in enumerate(names)
        }
    return {}


def _of_each_class(y_true: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_fscore_support

    every = np.arange(len(names))
    columns = precision_recall_fscore_support(y_true, predicted, labels=every, zero_division=0)
    return {
        name: {"precision": float(p), "recall": float(r), "f1": float(f1), "support": int(support)}
        for name, p, r, f1, support in zip(names, *columns, strict=True)
    }


def _of_label(y_true: np.ndarray, probabilities: np.ndarray, threshold: Thresholds) -> dict[str, float]:
    figures = compute_named("binary", y_true, probabilities[:, None], tuple(BINARY), threshold)
    if y_true.any():
        from sklearn.metrics import average_precision_score

        figures["average_precision"] = float(average_precision_score(y_true, probabilities))
    return {**figures, "support": int(y_true.sum())}


def cuts(thresholds: Thresholds) -> np.ndarray:
    """Return thresholds ``(1,)`` or ``(labels,)`` in the precision of outputs; 0.5 where there are none."""
    return np.asarray(thresholds or HALF, np.float32)


def predicted_labels(outputs: np.ndarray, thresholds: Thresholds = None) -> np.ndarray:
    """Return 0 or 1 ``(n, labels)`` uint8 for probabilities: 1 above the label's threshold, or above 0.5."""
    return (outputs > cuts(thresholds)).astype(np.uint8)


def predicted_classes(outputs: np.ndarray, thresholds: Thresholds = None) -> np.ndarray:
    """Return the class index ``(n,)`` that outputs ``(n, classes)``, or ``(n, 1)`` of class 1, decide for.

    The threshold is that of class 1 of two; of several classes the most probable one is taken.
    """
    flat = outputs.reshape(len(outputs), -1)
    return (
        flat.argmax(axis=1) if flat.shape[1] > 1 else predicted_labels(flat, thresholds)[:, 0].astype(np.intp)
    )


def class_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return ``(n, classes)`` float64 for outputs ``(n, classes)``, or ``(n, 1)`` of class 1."""
    flat = outputs.reshape(len(outputs), -1).astype(np.float64)
    return flat if flat.shape[1] > 1 else np.hstack([1 - flat, flat])


def by_split_and_name(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the final metrics of all splits in one mapping, such as `test_accuracy`."""
    return {f"{split}_{name}": value for split, found in figures.items() for name, value in found.items()}


def objective_value(figures: Mapping[str, Mapping[str, float]], objective: str) -> float:
    """Return the value of e.g. `val_accuracy` among the final metrics.

    Raises:
        CnnbenchError: there is no such metric.
    """
    split, _, name = objective.partition("_")
    if split == "fold" and split not in figures:  # of one fold, which is its test split
        split = "test"
    elif split not in ("val", "test", "fold"):
        split, name = "train", objective
    try:
        return figures[split][name]
    except KeyError:
        known = [f"{s}_{n}" if s != "train" else n for s in figures for n in figures[s]]
        raise CnnbenchError(
            f"objective={objective} is not a metric of this run", nearest(objective, known)
        ) from None
