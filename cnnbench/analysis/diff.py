"""The difference between two runs: config, figures, environment, and predictions of test examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnbench.analysis.paired import Paired, data_of_test, paired_runs
from cnnbench.analysis.records import number
from cnnbench.analysis.significance import half_width
from cnnbench.config import with_keywords
from cnnbench.errors import CnnbenchError
from cnnbench.renamed import stored_config
from cnnbench.runs import Decision, RunFolder, differing, flatten, metrics, positive_class, without_places

Pairs = Mapping[str, tuple[Any, Any]]  # the value of the first run, and that of the second
NO_DIFFERENCE = ("name", "loss.tasks")  # places are no difference either
NOT_ENVIRONMENT = ("command", "config_hash")  # follow from the config


@dataclass(frozen=True)
class Flips:
    """Test examples of which only one of two classifiers is right; of several labels, about all.

    Attributes:
        gained: indices of examples that only the second has right.
        lost: indices of examples that only the first has right.
        p: of McNemar's exact test.
        classes: for each class its name, examples, and how many of them each classifier has right; for each
            label all examples, and of how many each says rightly whether they have it.
    """

    gained: Sequence[int]
    lost: Sequence[int]
    p: float
    classes: Sequence[tuple[str, int, int, int]]


@dataclass(frozen=True)
class Errors:
    """Absolute errors of two regressions on the same test examples.

    Attributes:
        change: mean of the second's error minus the first's, in the unit of the target; of several targets,
            of the mean over them, each in its standard deviation.
        half_width: of its 95 % interval.
        p: of Wilcoxon's signed-rank test.
        smaller: number of examples on which the second is nearer.
        larger: number of examples on which it is farther off.
    """

    change: float
    half_width: float
    p: float
    smaller: int
    larger: int


@dataclass(frozen=True)
class Difference:
    """All differences between two runs.

    Attributes:
        config: keys that differ, dotted; None where a run lacks one.
        metrics: by `split_name`; NaN where a run lacks one.
        cost: as recorded, in the units of `metrics.json`.
        environment: versions, device, code and data that differ.
        predictions: on the test split; None where they do not compare.
        reason: the reason why they do not.
        positive: the class that precision and recall of a binary task are of, both where the runs differ in
            it; None of another.
        targets: how many values are predicted for an example; 0 of classes and labels.
        of_labels: whether examples have any number of labels.
        intervals: by `split_name`, of both runs, as `metrics.json` has them; None where a run lacks one.
        by_output: of each class, label or target the figures on the test split, by name.
        paired: both accuracies on the same test examples; None of another task, or other examples.
    """

    config: Pairs
    metrics: Pairs
    cost: Pairs
    environment: Pairs
    predictions: Flips | Errors | None
    reason: str = ""
    positive: str | None = None
    targets: int = 0
    of_labels: bool = False
    intervals: Pairs = field(default_factory=dict)
    by_output: Mapping[str, Pairs] = field(default_factory=dict)
    paired: Paired | None = None


def difference(first: RunFolder, second: RunFolder) -> Difference:
    """Compare two runs by the files in their folders.

    Raises:
        CnnbenchError: a file in one of them is damaged.
    """
    both = (first.metrics, second.metrics)
    environments = (first.environment, second.environment)
    configs = [
        without_places(with_keywords(stored_config(run.config)), one.get("weights") or {})
        for run, one in zip((first, second), both, strict=True)
    ]
    predictions, reason = _predictions(first, second)
    return Difference(
        config=_differing(configs[0], configs[1], NO_DIFFERENCE),
        metrics=_figures(*(_with_sets(one) for one in both)),
        cost=_figures(*(flatten(one.get("cost", {})) for one in both)),
        environment=_differing(*environments, NOT_ENVIRONMENT),
        predictions=predictions,
        reason=reason,
        positive=" / ".join(dict.fromkeys(filter(None, map(positive_class, both)))) or None,
        targets=len(both[0].get("target_names", ())),
        of_labels=both[0].get("task") == "multilabel",
        intervals=_pairs(*(metrics.by_split_and_name(one.get("intervals", {})) for one in both)),
        by_output=_by_output(*(one.get("by_output", {}).get("test", {}) for one in both)),
        paired=paired_runs([first], [second]) if isinstance(predictions, Flips) else None,
    )


def _with_sets(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of all splits by `split_name`, and those of the sets that keep a promise."""
    names = {"coverage": "test_coverage", "mean_size": "test_set_size", "width": "test_range_width"}
    sets = result.get("sets") or {}
    found = metrics.by_split_and_name(result.get("metrics", {}))
    return {**found, **{title: sets[name] for name, title in names.items() if name in sets}}


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> Pairs:
    return {key: (first.get(key), second.get(key)) for key in {**first, **second}}


def _by_output(
    first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]
) -> dict[str, Pairs]:
    """Return the figures of the outputs that both have."""
    return {name: _figures(first[name], second[name]) for name in first if name in second}


def _differing(first: Mapping[str, Any], second: Mapping[str, Any], without: Sequence[str]) -> Pairs:
    """Return what differs; a key that one lacks, since it came later, is as good as null."""
    pairs = differing(first, second).items()
    return {key: pair for key, pair in pairs if key not in without and pair != (None, None)}


def _figures(first: Mapping[str, Any], second: Mapping[str, Any]) -> Pairs:
    return {key: (number(first.get(key)), number(second.get(key))) for key in {**first, **second}}


def _predictions(first: RunFolder, second: RunFolder) -> tuple[Flips | Errors | None, str]:
    for run in (first, second):
        if not run.predictions:
            return None, f"{run.path} has no predictions ({run.status})"
    tasks = {run.metrics.get("task") for run in (first, second)}
    data = [data_of_test(run) for run in (first, second)]
    targets = [run.predictions["y_true"] for run in (first, second)]
    if len(tasks) > 1 or data[0] != data[1] or not np.array_equal(targets[0], targets[1]):
        return None, "the test sets differ, so their predictions do not compare"
    one, other = (run.predictions["outputs"] for run in (first, second))
    if not len(one) == len(other) == len(targets[0]):
        raise CnnbenchError(f"the predictions of {first.path} or {second.path} do not fit their targets")
    if tasks == {"regression"}:
        return errors(targets[0], one, other), ""
    names = first.metrics.get("class_names") or []
    thresholds = [Decision.of_result(run.metrics).thresholds for run in (first, second)]
    compared = flips_of_labels if tasks == {"multilabel"} else flips
    return compared(targets[0], one, other, names, thresholds), ""


def flips(
    y_true: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    names: Sequence[str],
    thresholds: Sequence[metrics.Thresholds] = (None, None),
) -> Flips:
    """Compare two classifiers on the same examples.

    The test is McNemar's (1947, Psychometrika 12, 153–157), in its exact form.

    Args:
        y_true: ``(n,)`` class indices.
        first: ``(n, classes)`` probabilities, or ``(n, 1)`` of class 1.
        second: the same.
        names: of the classes.
        thresholds: of each, as `Decision` has them.
    """
    both = zip((first, second), thresholds, strict=True)
    right = [metrics.predicted_classes(*one) == y_true for one in both]
    classes = [
        (
            str(names[index]) if index < len(names) else str(index),
            int((y_true == index).sum()),
            int(right[0][y_true == index].sum()),
            int(right[1][y_true == index].sum()),
        )
        for index in np.unique(y_true).astype(int)
    ]
    return _flips(right, classes)


def flips_of_labels(
    y_true: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    names: Sequence[str],
    thresholds: Sequence[metrics.Thresholds] = (None, None),
) -> Flips:
    """Compare two models on the same examples, which count as right where all labels are.

    Args:
        y_true: ``(n, labels)`` 0 or 1.
        first: probabilities of the same shape.
        second: the same.
        names: of the labels.
        thresholds: of each, as `Decision` has them.
    """
    pairs = zip((first, second), thresholds, strict=True)
    right = [metrics.predicted_labels(*one) == y_true for one in pairs]
    counts = zip(names, *(one.sum(axis=0).tolist() for one in right), strict=True)
    labels = [(str(name), len(y_true), *both) for name, *both in counts]
    return _flips([one.all(axis=1) for one in right], labels)


def _flips(right: Sequence[np.ndarray], classes: Sequence[tuple[str, int, int, int]]) -> Flips:
    from scipy.stats import binomtest

    gained, lost = np.flatnonzero(right[1] & ~right[0]), np.flatnonzero(right[0] & ~right[1])
    changed = len(gained) + len(lost)
    p = float(binomtest(len(gained), changed).pvalue) if changed else 1.0
    return Flips(gained.tolist(), lost.tolist(), p, classes)


def errors(y_true: np.ndarray, first: np.ndarray, second: np.ndarray) -> Errors:
    """Compare two regressions on the same examples, by the differences of their absolute errors.

    The interval is Student's; the test is the signed-rank test of Wilcoxon (1945, Biometrics Bulletin 1,
    80–83), which a few large errors do not decide.

    Args:
        y_true: ``(n,)`` or ``(n, targets)`` values.
        first: ``(n, targets)`` predicted values.
        second: the same.
    """
    from scipy.stats import wilcoxon

    y_true = y_true.reshape(len(y_true), -1)
    sizes = [np.abs(outputs - y_true) for outputs in (first, second)]
    if y_true.shape[1] > 1:  # of different units
        deviation = y_true.std(axis=0)
        sizes = [size / np.where(deviation > 0, deviation, 1.0) for size in sizes]
    sizes = [size.mean(axis=1) for size in sizes]
    change = sizes[1].astype(float) - sizes[0]
    p = float(wilcoxon(change).pvalue) if np.any(change) else 1.0
    if not np.isfinite(change).all():
        p = math.nan
    return Errors(
        float(change.mean()), half_width(change), p, int((change < 0).sum()), int((change > 0).sum())
    )
