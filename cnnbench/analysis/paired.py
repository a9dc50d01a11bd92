"""What the test examples can tell: two models on the same ones, each example compared with itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench.runs import Decision, RunFolder

QUANTILE = 1.959964  # of the normal distribution, at 97.5 %
POWER = 0.841621  # … at 80 %
TASKS = ("multiclass", "binary")  # where an example is right or wrong


@dataclass(frozen=True)
class Paired:
    """Two accuracies on the same test examples; what another seed would give is another matter.

    Attributes:
        examples: how many there are.
        first: accuracy of the first; of several runs their mean.
        second: of the second.
        difference: the second minus the first.
        low: lower end of the 95 % interval of that, were as many other examples drawn.
        high: its upper end.
        needed: how many examples would tell such a difference, four times of five; null where there is none.
    """

    examples: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    needed: int | None

    @property
    def is_told(self) -> bool:
        """Whether the examples tell one from the other."""
        return self.low > 0 or self.high < 0


def paired_accuracies(first: np.ndarray, second: np.ndarray) -> Paired:
    """Compare how often two models are right, over the same examples.

    The interval is that of Bonett and Price (2012, Journal of Educational and Behavioral Statistics 37,
    479–488), a Wald interval after one example each way is added, which holds for few examples, too.

    Args:
        first: ``(n,)`` whether, or in which share of its runs, the first has each example right.
        second: the same of the second.
    """
    count = len(first)
    distances = second.astype(np.float64) - first
    difference = float(distances.mean())
    added = np.concatenate([distances, [1.0, -1.0]])
    centre, error = float(added.mean()), float(added.std()) / math.sqrt(count + 2)
    low, high = centre - QUANTILE * error, centre + QUANTILE * error
    needed = None
    if difference:
        needed = math.ceil((QUANTILE + POWER) ** 2 * float(distances.var()) / difference**2)
        # So few show less variance than there is.
        needed = max(needed, count + 1) if low <= 0 <= high else needed or count
    return Paired(
        examples=count,
        first=float(first.mean()),
        second=float(second.mean()),
        difference=difference,
        low=max(low, -1.0),
        high=min(high, 1.0),
        needed=needed,
    )


def paired_runs(first: Sequence[RunFolder], second: Sequence[RunFolder]) -> Paired | None:
    """Compare runs, or the means of several, by their stored predictions.

    Returns:
        None where they have no classes, no predictions, or not the same test examples.

    Raises:
        CnnbenchError: a file of a run is damaged.
    """
    if len({data_of_test(run) for run in (*first, *second)}) > 1:
        return None
    hits: list[np.ndarray] = []
    truth: np.ndarray | None = None
    for members in (first, second):
        right = []
        for run in members:
            stored = run.predictions
            if not stored or run.metrics.get("task") not in TASKS:
                return None
            y_true = stored["y_true"].reshape(-1)
            if truth is not None and not np.array_equal(truth, y_true):
                return None
            truth = y_true
            right.append(Decision.of_result(run.metrics).classes(stored["outputs"]) == y_true)
        hits.append(np.mean(right, axis=0))
    return paired_accuracies(*hits)


def data_of_test(run: RunFolder) -> str | None:
    """Return the fingerprint of the test split; of all data where a run of 0.1.0 has no other."""
    began = run.identity
    if began is None:
        found = run.environment.get("dataset", {}).get("fingerprint")
        return None if found is None else str(found)
    return began.drawn.get("test")
