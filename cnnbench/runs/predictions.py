"""Tables of what a run says of its test split: every example, and those that it got wrong."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from cnnbench.runs import conformal, metrics

MOST_CLASSES = 100  # of which each has a column of probabilities; `predictions.npz` has those of any number
SEPARATOR = "; "  # between the labels of an example


@dataclass(frozen=True)
class Predictions:
    """Outputs of a model for the examples of a split, beside the truth.

    Attributes:
        task: of the data set.
        y_true: ``(n,)`` class indices or values, ``(n, labels)`` 0 or 1, ``(n, targets)`` values.
        outputs: probabilities ``(n, classes)``, ``(n, 1)`` (of the second class) or ``(n, labels)``; values
            ``(n, targets)`` of a regression.
        names: of the classes or labels, or of the targets.
        examples: the files or rows that the examples come from; None: they are numbered from 0.
        thresholds: of a yes, as `Decision` has them.
        conformal: of the run's `Decision`: a set of classes, or a range, is beside each prediction.
    """

    task: str
    y_true: np.ndarray
    outputs: np.ndarray
    names: Sequence[str]
    examples: Sequence[str] | None = None
    thresholds: metrics.Thresholds = None
    conformal: Mapping[str, Any] = field(default_factory=dict)

    def write(self, file: IO[str], mistakes_only: bool = False) -> int:
        """Write a row for each example as CSV; of the mistakes alone, the worst first.

        A mistake is a wrong class, or an example with a wrong label; the worst is the one whose truth is
        least probable. A regression is never quite right: its largest errors come first, of several targets
        those that are largest beside the target's deviation.

        Returns:
            the number of rows.
        """
        headings, columns, order = self._columns()
        rows = order if mistakes_only else np.arange(len(self.y_true))
        names = self.examples
        table = csv.writer(file)
        table.writerow(["example", *headings])
        for row in rows.tolist():
            table.writerow([row if names is None else names[row], *(column[row] for column in columns)])
        return len(rows)

    def _columns(self) -> tuple[list[str], list[list[str]], np.ndarray]:
        """Return headings and columns, and the rows of the mistakes, the worst first."""
        if self.task == "regression":
            return self._of_values()
        return self._of_labels() if self.task == "multilabel" else self._of_classes()

    def _of_classes(self) -> tuple[list[str], list[list[str]], np.ndarray]:
        outputs = metrics.class_probabilities(self.outputs)
        truth, said = (
            self.y_true.reshape(-1).astype(int),
            metrics.predicted_classes(self.outputs, self.thresholds),
        )
        every = np.arange(len(truth))
        probability, of_truth = outputs[every, said], outputs[every, truth]
        wrong = np.flatnonzero(said != truth)
        order = wrong[np.lexsort((-probability[wrong], of_truth[wrong]))]
        headings = ["truth", "prediction", "probability", "probability_of_truth"]
        columns: list[list[str]] = [
            [self.names[index] for index in truth.tolist()],
            [self.names[index] for index in said.tolist()],
            _numbers(probability),
            _numbers(of_truth),
        ]
        if self.conformal:
            headings.append("set")
            columns.append([self._listed(row) for row in conformal.sets(self.conformal, self.outputs)])
        if outputs.shape[1] <= MOST_CLASSES:
            headings += [f"probability_{name}" for name in self.names]
            columns += [_numbers(column) for column in outputs.T]
        return headings, columns, order

    def _of_labels(self) -> tuple[list[str], list[list[str]], np.ndarray]:
        outputs = self.outputs.astype(np.float64)
        truth, said = self.y_true > 0.5, metrics.predicted_labels(self.outputs, self.thresholds) > 0
        of_truth = np.where(truth, outputs, 1 - outputs).min(axis=1)  # of the label that is furthest off
        wrong = np.flatnonzero((truth != said).any(axis=1))
        headings = ["truth", "prediction", "missed", "false", "probability_of_truth"]
        sides = (truth, said, truth & ~said, said & ~truth)
        columns: list[list[str]] = [[self._listed(row) for row in side] for side in sides]
        columns.append(_numbers(of_truth))
        headings += [f"probability_{name}" for name in self.names]
        columns += [_numbers(column) for column in outputs.T]
        return headings, columns, wrong[np.argsort(of_truth[wrong], kind="stable")]

    def _listed(self, has: np.ndarray) -> str:
        return SEPARATOR.join(self.names[index] for index in np.flatnonzero(has).tolist())

    def _of_values(self) -> tuple[list[str], list[list[str]], np.ndarray]:
        said = self.outputs.astype(np.float64)
        truth = self.y_true.astype(np.float64).reshape(said.shape)
        errors = said - truth
        names = self.names if said.shape[1] > 1 else ("",)
        headings: list[str] = []
        columns: list[list[str]] = []
        for index, name in enumerate(names):
            for kind, values in (("truth", truth), ("prediction", said), ("error", errors)):
                headings.append(f"{kind}_{name}" if name else kind)
                columns.append(_numbers(values[:, index]))
        if self.conformal:
            headings += ["low", "high"]
            columns += [_numbers(ends) for ends in conformal.ranges(self.conformal, said).T]
        deviations = truth.std(axis=0) if said.shape[1] > 1 else np.ones(1)
        far = np.abs(errors) / np.where(deviations > 0, deviations, 1)
        return headings, columns, np.argsort(-np.nan_to_num(far.max(axis=1), nan=np.inf), kind="stable")


def _numbers(values: Iterable[float]) -> list[str]:
    """Write numbers with six digits: as many as float32 has."""
    return [f"{value:.6g}" for value in values]
