"""Classes and probabilities, or values, for inputs that come one after another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnbench.datasets.image_decoding import UnreadableError, pillow_warnings
from cnnbench.inputs import Item

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
) -> Iterator[list[Prediction]]:
    """Answer for every item, in order, a batch at a time; never more than one in memory.

    Args:
        model: a loaded checkpoint.
        task: `multiclass`, `binary` or `regression`.
        class_names: by class index.
        batches: of items to read, by several threads, and to predict together.
    """
    with pillow_warnings(), ThreadPoolExecutor() as pool:
        for batch in batches:
            read = list(pool.map(_read, batch))
            usable = [example for example in read if isinstance(example, np.ndarray)]
            outputs = iter(model.predict_on_batch(np.stack(usable)) if usable else ())
            yield [
                Prediction(item.name, error=example)
                if isinstance(example, str)
                else answer(item.name, task, class_names, np.asarray(next(outputs), np.float64))
                for item, example in zip(batch, read, strict=True)
            ]


def _read(item: Item) -> np.ndarray | str:
    try:
        return item.read().astype(np.float32)
    except UnreadableError as error:
        return str(error)


def answer(path: str, task: str, class_names: Sequence[str], outputs: np.ndarray) -> Prediction:
    """What a model's outputs ``(outputs,)`` for one example mean."""
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

    Batches come one after another, so the column of paths is as wide as the widest so far.

    Args:
        class_names: by class index; empty for regression.
        top: how many classes to show, the first included.
    """

    def __init__(self, class_names: Sequence[str], top: int) -> None:
        self._top = min(top, len(class_names))
        self._widths = [4, max([5, *map(_columns, class_names)])]
        self._headed = False

    def of(self, predictions: Sequence[Prediction]) -> list[str]:
        """The lines of one batch, those with an error left out; before the first, a heading."""
        answered = [prediction for prediction in predictions if prediction.error is None]
        self._widths[0] = max([self._widths[0], *(_columns(prediction.path) for prediction in answered)])
        heading = [] if self._headed or not answered else [self._line(*self._heading())]
        self._headed = self._headed or bool(answered)
        return [*heading, *(self._line(*self._cells(prediction)) for prediction in answered)]

    def _heading(self) -> tuple[str, ...]:
        if not self._top:
            return "file", "value"
        return "file", "class", "probability", *(("then",) if self._top > 1 else ())

    def _cells(self, prediction: Prediction) -> tuple[str, ...]:
        if prediction.value is not None:
            return prediction.path, f"{prediction.value:.6g}"
        others = list(prediction.probabilities.items())[1 : self._top]
        following = ", ".join(f"{name} {probability:.2%}" for name, probability in others)
        return prediction.path, prediction.label or "", f"{prediction.probability:11.2%}", following

    def _line(self, *cells: str) -> str:
        padded = [
            cell + " " * (width - _columns(cell)) for cell, width in zip(cells, self._widths, strict=False)
        ]
        return "  ".join([*padded, *cells[len(padded) :]]).rstrip()


def _columns(text: str) -> int:
    """The width of a text in a terminal, where a Korean letter takes two columns."""
    from rich.cells import cell_len

    return cell_len(text)
