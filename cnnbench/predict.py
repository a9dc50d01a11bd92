"""Classes and probabilities, or values, for inputs that come one after another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnbench.inputs import Item, Unreadable

BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What the model says about one input; either `error`, or `value`, or the other three.

    Attributes:
        path: of the input.
        label: the class with the highest probability.
        probability: of that class.
        probabilities: of every class, by name, the highest first.
        value: of a regression.
        error: why there is no answer.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    value: float | None = None
    error: str | None = None


def predict(
    model: Any, task: str, class_names: Sequence[str], batches: Iterable[list[Item]]
) -> Iterator[Prediction]:
    """Answer for every item, in order; never more than one batch in memory.

    Args:
        model: a loaded checkpoint.
        task: `multiclass`, `binary` or `regression`.
        class_names: by class index.
        batches: of items to read, by several threads, and to predict together.
    """
    with ThreadPoolExecutor() as pool:
        for batch in batches:
            read = list(pool.map(_read, batch))
            usable = [example for example in read if isinstance(example, np.ndarray)]
            outputs = iter(model.predict_on_batch(np.stack(usable)) if usable else ())
            for item, example in zip(batch, read, strict=True):
                if isinstance(example, str):
                    yield Prediction(item.name, error=example)
                else:
                    yield _answer(item.name, task, class_names, np.asarray(next(outputs), np.float64))


def _read(item: Item) -> np.ndarray | str:
    try:
        return item.read().astype(np.float32)
    except Unreadable as error:
        return str(error)


def _answer(path: str, task: str, class_names: Sequence[str], outputs: np.ndarray) -> Prediction:
    if not np.isfinite(outputs).all():
        return Prediction(path, error="the model's output is NaN or infinite")
    if task == "regression":
        return Prediction(path, value=float(outputs[0]))
    if task == "binary":
        outputs = np.array([1 - outputs[0], outputs[0]])
    order = np.argsort(-outputs, kind="stable")  # of two equal ones the first, as argmax has it
    probabilities = {class_names[index]: float(outputs[index]) for index in order}
    label = class_names[order[0]]
    return Prediction(path, label, probabilities[label], probabilities)


def json_line(prediction: Prediction) -> str:
    """One JSON object with the keys that apply, in one line."""
    if prediction.error is not None:
        content: dict[str, Any] = {"path": prediction.path, "error": prediction.error}
    elif prediction.value is not None:
        content = {"path": prediction.path, "value": prediction.value}
    else:
        content = {
            "path": prediction.path,
            "class": prediction.label,
            "probability": prediction.probability,
            "probabilities": prediction.probabilities,
        }
    line = json.dumps(content, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # a file name that is no text
        return json.dumps(content)
    return line


class Lines:
    """Predictions as aligned lines of text: path, class, probability, the next most probable classes.

    The lines come one at a time, so the column of paths is as wide as the widest so far.

    Args:
        class_names: by class index; empty for regression.
        top: how many classes to show, the first included.
    """

    def __init__(self, class_names: Sequence[str], top: int) -> None:
        from rich.cells import cell_len  # a Korean letter is two columns wide

        self._width = cell_len
        self._top = min(top, len(class_names))
        self._columns = [4, max([5, *map(cell_len, class_names)])]

    def heading(self, paths: Sequence[str]) -> str:
        """The first line, for columns that fit these paths."""
        self._columns[0] = max([self._columns[0], *map(self._width, paths)])
        if not self._top:
            return self._line("file", "value")
        following = f"then{'' if self._top > 2 else ''}" if self._top > 1 else ""
        return self._line("file", "class", "probability", following)

    def line(self, prediction: Prediction) -> str:
        """One prediction without an error."""
        self._columns[0] = max(self._columns[0], self._width(prediction.path))
        if prediction.value is not None:
            return self._line(prediction.path, f"{prediction.value:.6g}")
        others = list(prediction.probabilities.items())[1 : self._top]
        return self._line(
            prediction.path,
            prediction.label or "",
            f"{prediction.probability:11.2%}",
            ", ".join(f"{name} {probability:.2%}" for name, probability in others),
        )

    def _line(self, *cells: str) -> str:
        padded = [
            cell + " " * (width - self._width(cell))
            for cell, width in zip(cells, self._columns, strict=False)
        ]
        return "  ".join([*padded, *cells[len(padded) :]]).rstrip()
