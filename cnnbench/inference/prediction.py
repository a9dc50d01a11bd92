"""Predictions for inputs that a user names: pictures, arrays and tables."""

from __future__ import annotations

import csv
import math
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, Protocol, cast

import numpy as np
from typing_extensions import TypedDict

from cnnbench import reporting
from cnnbench.data import (
    IMAGE_SUFFIXES,
    Recipe,
    TooLargeError,
    UnreadableError,
    decode,
    inputs_among,
    is_system_folder,
    pillow_warnings,
    size_of,
    special_file,
)
from cnnbench.errors import first_line
from cnnbench.runs import Decision, RunFolder, conformal

BATCH = 64
CHANNELS = (1, 3)  # of a picture: grey, or red, green and blue
ARRAYS, TABLES = (".npy", ".npz"), (".csv",)
ARRAY_NAMES = ("x", "x_test", "inputs")  # in an .npz with several arrays
MAX_PIXELS = 89_478_485  # from here on Pillow suspects a decompression bomb
MUCH_LARGER = 4  # times the height or width of the network's input
IDLE_SECONDS = 0.2  # slowly typed paths are answered one by one


@dataclass(frozen=True)
class Prediction:
    """Prediction for one input: `error`, or what the task has.

    Attributes:
        path: of the input.
        label: the class with the highest probability; of two classes, by the threshold.
        probability: of that class.
        probabilities: of every class or label, by name, the highest first.
        labels: of several, those with a probability above their threshold, the highest first.
        set: of a run with `training.calibration.coverage`, the classes that it cannot rule out, the most
            probable first; where it is not `label` alone, the model abstains.
        value: of a regression with one target.
        low: of such a run, the lower end of the range around `value`.
        high: its upper end.
        values: of a regression with several, by name.
        error: reason why there is no prediction.
    """

    path: str
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    labels: list[str] | None = None
    set: list[str] | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    values: dict[str, float] | None = None
    error: str | None = None


def predict(model: Any, decision: Decision, batches: Iterable[list[Item]]) -> Iterator[list[Prediction]]:
    """Predict every item, in order, with one batch at a time in memory.

    Args:
        model: a loaded checkpoint.
        decision: how its outputs become answers.
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
                else answer(item.name, decision, np.asarray(next(outputs), np.float64))
                for item, example in zip(batch, read, strict=True)
            ]


class Shrunk:
    """The pictures that are much larger than a network's input, which it was not trained to see shrunk.

    Args:
        shape: of the model's input, without the batch.
        trained_on: name of the data set.
    """

    def __init__(self, shape: Sequence[int], trained_on: str) -> None:
        self._shape, self._trained_on = shape, trained_on
        self._found: list[tuple[str, str]] = []  # of several threads

    def look_at(self, path: Path) -> None:
        """Take notice of a picture that could be decoded."""
        height, width, colours = size_of(path)
        if max(height / self._shape[0], width / self._shape[1]) >= MUCH_LARGER:
            self._found.append((str(path), _picture(height, width, colours)))

    @property
    def remark(self) -> str:
        """One line for all of them; empty for none."""
        if not self._found:
            return ""
        path, size = min(self._found)
        more = f"; {len(self._found) - 1} more like it" if len(self._found) > 1 else ""
        (height, width, colours) = self._shape
        small = _picture(height, width, colours)
        return f"{path}: {size}, shrunk to {small}: this run was trained on {self._trained_on}{more}"


def _picture(height: int, width: int, colours: int) -> str:
    return f"{width}×{height} {'grey' if colours == 1 else 'colour'}"


class Remarkable(Protocol):
    """What takes notice of inputs.

    Attributes:
        remark: one line for all of them; empty for none.
    """

    @property
    def remark(self) -> str: ...


def remarked(
    answers: Iterator[list[Prediction]], noticed: Iterable[Remarkable | None]
) -> Iterator[list[Prediction]]:
    """Yield all answers, and print at their end what is to be said of the inputs."""
    yield from answers
    for one in noticed:
        if one is not None and one.remark:
            reporting.stderr().print(f"warning: {one.remark}", markup=False, emoji=False, style="yellow")


def _read(item: Item) -> np.ndarray | str:
    try:
        return item.read().astype(np.float32)
    except TooLargeError as error:
        return f"{error}; --max-pixels={error.pixels} allows it" if error.pixels else str(error)
    except UnreadableError as error:
        return str(error)


def answer(path: str, decision: Decision, outputs: np.ndarray) -> Prediction:
    """Interpret a model's outputs ``(outputs,)`` for one example."""
    task, names, given = decision.task, decision.names, outputs[None]
    if not np.isfinite(outputs).all():
        return Prediction(path, error="the model's output is NaN or infinite")
    if task == "regression" and len(outputs) > 1:
        return Prediction(path, values=dict(zip(names, outputs.tolist(), strict=True)))
    if task == "regression":
        ends = conformal.ranges(decision.conformal, given)[0].tolist() if decision.conformal else (None, None)
        return Prediction(path, value=float(outputs[0]), low=ends[0], high=ends[1])
    if task == "binary":
        outputs = np.array([1 - outputs[0], outputs[0]])
    order = np.argsort(-outputs, kind="stable")  # of two equal ones the first, as argmax has it
    probabilities = {names[index]: float(outputs[index]) for index in order}
    if task == "multilabel":
        yes = decision.labels(given)[0]
        labels = [names[index] for index in order if yes[index]]
        return Prediction(path, probabilities=probabilities, labels=labels)
    label, possible = names[decision.classes(given)[0]], None
    if decision.conformal:
        inside = conformal.sets(decision.conformal, given)[0]
        possible = [names[index] for index in order if inside[index]]
    return Prediction(path, label, probabilities[label], probabilities, set=possible)


class ErrorRow(TypedDict):
    """An input without a prediction.

    Attributes:
        path: of the input.
        error: why.
    """

    path: str
    error: str


class ValueRow(TypedDict):
    """The prediction of a regression.

    Attributes:
        path: of the input.
        value: that is predicted.
        low: lower end of the range that holds the truth as often as promised; lacking without
            `training.calibration.coverage`.
        high: its upper end.
    """

    path: str
    value: float
    low: NotRequired[float]
    high: NotRequired[float]


class ValuesRow(TypedDict):
    """The prediction of a regression with several targets.

    Attributes:
        path: of the input.
        values: that are predicted, by the name of the target.
    """

    path: str
    values: dict[str, float]


class LabelsRow(TypedDict):
    """The labels of an input.

    Attributes:
        path: of the input.
        labels: those with a probability above its threshold, the highest first; may be empty.
        probabilities: of every label, by name, the highest first.
    """

    path: str
    labels: list[str]
    probabilities: dict[str, float]


_Named = TypedDict("_Named", {"class": str})  # no name in Python


class ClassRow(_Named):
    """The class of an input.

    Attributes:
        path: of the input.
        class: the one decided for: the most probable, or of two classes by the threshold.
        probability: of that class.
        probabilities: of every class, by name, the highest first.
        set: the classes that cannot be ruled out, the most probable first: they hold the true one as often as
            promised; lacking without `training.calibration.coverage`.
        abstains: whether the set is another than `class` alone; lacking with it.
    """

    path: str
    probability: float
    probabilities: dict[str, float]
    set: NotRequired[list[str]]
    abstains: NotRequired[bool]


PredictionRow = ErrorRow | ValueRow | ValuesRow | LabelsRow | ClassRow


def prediction_as_json(prediction: Prediction) -> PredictionRow:
    """Return the keys that apply, for programs."""
    if prediction.error is not None:
        return {"path": prediction.path, "error": prediction.error}
    if prediction.value is not None:
        value: ValueRow = {"path": prediction.path, "value": prediction.value}
        if prediction.low is not None and prediction.high is not None:
            value |= {"low": prediction.low, "high": prediction.high}
        return value
    if prediction.values is not None:
        return {"path": prediction.path, "values": prediction.values}
    if prediction.labels is not None:
        labels, probabilities = prediction.labels, prediction.probabilities
        return {"path": prediction.path, "labels": labels, "probabilities": probabilities}
    row: ClassRow = {
        "path": prediction.path,
        "class": str(prediction.label),
        "probability": cast("float", prediction.probability),
        "probabilities": prediction.probabilities,
    }
    if prediction.set is not None:
        row |= {"set": prediction.set, "abstains": prediction.set != [prediction.label]}
    return row


class Lines:
    """Aligned lines of predictions: path, class and probability, or labels; then the most probable others.

    Of a regression, path and values. A column is as wide as the widest cell of the batches so far.

    Args:
        task: of the run.
        names: of the classes, labels or targets.
        top: number of classes or labels to show; of labels at least those that are given.
        with_sets: show the set of classes that cannot be ruled out, or the range around a value.
    """

    def __init__(self, task: str, names: Sequence[str], top: int, with_sets: bool = False) -> None:
        self._top = min(top, len(names))
        headings = ["class", "probability"] if task != "multilabel" else ["labels"]
        headings += ["set"] * with_sets
        if task == "regression":
            headings = list(names) if len(names) > 1 else ["value", *["low", "high"] * with_sets]
        elif self._top > 1:
            headings.append("then")
        self._heading = ["file", *headings]
        self._is_right = [task == "regression" and column > 0 for column in range(len(self._heading))]
        self._widths = [_columns(heading) for heading in self._heading]
        if task in ("multiclass", "binary"):
            self._widths[1] = max([self._widths[1], *map(_columns, names)])
        self._headed = False

    def of(self, predictions: Sequence[Prediction]) -> list[str]:
        """Return the lines of one batch without its errors; the first batch gets a heading."""
        rows = [self._cells(prediction) for prediction in predictions if prediction.error is None]
        self._widths = [
            max([width, *(_columns(row[column]) for row in rows)])
            for column, width in enumerate(self._widths)
        ]
        heading = [] if self._headed or not rows else [self._line(self._heading)]
        self._headed = self._headed or bool(rows)
        return [*heading, *map(self._line, rows)]

    def _cells(self, prediction: Prediction) -> list[str]:
        if prediction.value is not None:
            ends = [end for end in (prediction.low, prediction.high) if end is not None]
            return [prediction.path, *(f"{number:.6g}" for number in (prediction.value, *ends))]
        if prediction.values is not None:
            return [prediction.path, *(f"{value:.6g}" for value in prediction.values.values())]
        shown = {name: f"{name} {share:.2%}" for name, share in prediction.probabilities.items()}
        if prediction.labels is None:
            given = [prediction.label or ""]
            cells = [prediction.path, *given, f"{prediction.probability:11.2%}"]
            if prediction.set is not None:
                cells.append(", ".join(prediction.set) or "none")
        else:
            given = [*prediction.labels]
            cells = [prediction.path, ", ".join(shown[name] for name in given) or "none"]
        others = [text for name, text in shown.items() if name not in given]
        return [*cells, ", ".join(others[: max(0, self._top - len(given))])][: len(self._heading)]

    def _line(self, cells: Sequence[str]) -> str:
        padded = []
        for cell, width, is_right in zip(cells, self._widths, self._is_right, strict=True):
            space = " " * (width - _columns(cell))
            padded.append(space + cell if is_right else cell + space)
        return "  ".join(padded).rstrip()


def _columns(text: str) -> int:
    """Return the width of a text in a terminal, where a Korean letter takes two columns."""
    from rich.cells import cell_len

    return cell_len(text)


# -- Inputs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """One input that is read later.

    Attributes:
        name: the file's path as given; of an array `path[index]`, of a table `path:line`.
        read: returns one example in the shape of the model's input; raises `UnreadableError`.
    """

    name: str
    read: Callable[[], np.ndarray]


def picture_reader(
    shape: Sequence[int], dataset: Mapping[str, Any], shrunk: Shrunk | None = None, dtype: str = "uint8"
) -> Callable[[Path], np.ndarray]:
    """Return a function from a picture file to an example, prepared as the training examples were.

    Args:
        shape: of the model's input, without the batch.
        dataset: the run's config of the data set; `resize`, `max_pixels` and `bits` are used.
        shrunk: takes notice of the pictures.
        dtype: of the training examples; arrays of another one than bytes have another range than pictures.

    Returns:
        a function to uint8 of that shape, which raises `UnreadableError`.
    """
    if len(shape) != 3 or shape[2] not in CHANNELS:
        reason = f"the model takes {_text(shape)}, which no picture has; give .npy, .npz or .csv"
        return lambda path: refuse(reason)
    if dtype != "uint8" and str(dataset.get("_target_")).endswith(".arrays"):
        reason = f"the run was trained on arrays of {dtype}, and a picture has 0 to 255; give .npy or .npz"
        return lambda path: refuse(reason)
    most = int(dataset.get("max_pixels") or MAX_PIXELS)
    recipe = Recipe(shape[0], shape[1], shape[2], dataset.get("resize", "stretch"), most, dataset.get("bits"))

    def read(path: Path) -> np.ndarray:
        pixels = decode(path, recipe)[0]
        if shrunk is not None:
            shrunk.look_at(path)
        return pixels

    return read


def items(
    arguments: Iterable[str],
    stdin: Iterable[str],
    shape: Sequence[int],
    picture: Callable[[Path], np.ndarray],
    table: Callable[[str], Iterator[Item] | None] | None = None,
) -> Iterator[Item]:
    """Yield every input that the arguments name, in order, without reading it.

    Args:
        arguments: files; folders, of which all pictures are taken, also from folders inside; and `-`, which
            stands for paths in lines of `stdin`.
        stdin: read line by line, as items are asked for.
        shape: of the model's input, without the batch.
        picture: from a file to an example of that shape; raises `UnreadableError`.
        table: of a model of tables, from a file to the items in its rows; None for what is no table.
    """
    for argument in arguments:
        if argument == "-":
            lines = (line.rstrip("\r\n") for line in stdin)
            yield from items((line for line in lines if line and line != "-"), stdin, shape, picture, table)
        elif Path(argument).is_dir():
            yield from _of_folder(argument, picture)
        elif table is not None and (rows := table(argument)) is not None:
            yield from rows
        elif argument.lower().endswith(ARRAYS):
            yield from _of_array(argument, shape)
        elif argument.lower().endswith(TABLES):
            yield from _of_table(argument, shape)
        else:
            yield Item(argument, partial(picture, Path(argument)))


def batches(source: Iterator[Item], size: int) -> Iterator[list[Item]]:
    """Yield up to `size` items at a time, fewer where the next one does not come at once (a slow pipe)."""
    waiting: queue.Queue[Item | BaseException | None] = queue.Queue(maxsize=size)
    threading.Thread(target=_pump, args=(source, waiting), daemon=True).start()
    batch: list[Item] = []
    while True:
        try:
            item = waiting.get(timeout=IDLE_SECONDS if batch else None)
        except queue.Empty:
            yield batch
            batch = []
            continue
        if isinstance(item, BaseException):
            raise item
        if item is not None:
            batch.append(item)
        if batch and (item is None or len(batch) == size):
            yield batch
            batch = []
        if item is None:
            return


def _pump(source: Iterator[Item], waiting: queue.Queue[Item | BaseException | None]) -> None:
    """Put every item and a final None into the queue, or an exception, to be raised by the reader."""
    try:
        for item in source:
            waiting.put(item)
        waiting.put(None)
    except BaseException as error:  # noqa: BLE001
        waiting.put(error)


def _of_folder(folder: str, picture: Callable[[Path], np.ndarray]) -> Iterator[Item]:
    for place, folders, files in os.walk(folder):
        if RunFolder(Path(place)).has_run:
            folders.clear()
            yield Item(place, partial(refuse, "the folder of a run, whose figures are no inputs"))
            continue
        folders[:] = sorted(name for name in folders if not is_system_folder(name))
        for name in sorted(files):
            # Hidden ones are no pictures: `._cat.jpg` is what macOS leaves beside cat.jpg.
            if name.lower().endswith(tuple(IMAGE_SUFFIXES)) and not name.startswith("."):
                yield Item(str(Path(place, name)), partial(picture, Path(place, name)))


def refuse(reason: str) -> np.ndarray:
    """Read an item that has no example, by raising why."""
    raise UnreadableError(reason)


def _of_array(name: str, shape: Sequence[int]) -> Iterator[Item]:
    try:
        _refuse_special(name)
        rows = _load(name)
    except (OSError, ValueError, EOFError) as error:
        yield Item(name, partial(refuse, _reason(error)))
        return
    wanted = tuple(shape)
    grey = wanted[:-1] if wanted[-1:] == (1,) else None
    if rows.shape in (wanted, grey):
        rows = rows[None]
    turned = rows.shape[-3:] == (wanted[-1], *wanted[:-1]) and rows.ndim in (3, 4)
    if turned and len(wanted) == 3 and rows.shape[1:] not in (wanted, grey):
        text = f"{name}: {_text(rows.shape)} is read as channels, height, width"
        reporting.stderr().print(text, markup=False, emoji=False)
        rows = np.moveaxis(rows if rows.ndim == 4 else rows[None], -3, -1)
    if rows.dtype.kind not in "fiub" or rows.shape[1:] not in (wanted, grey):
        reason = f"has {rows.dtype} of {_text(rows.shape)}, but the model takes batches of {_text(wanted)}"
        yield Item(name, partial(refuse, reason))
        return
    for index in range(len(rows)):
        yield Item(f"{name}[{index}]", partial(_row, rows, index, wanted))


def _refuse_special(name: str) -> None:
    if special := special_file(Path(name)):
        raise ValueError(f"{special}, not a file")


def _row(rows: np.ndarray, index: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rows[index], np.float32).reshape(shape)


def _load(name: str) -> np.ndarray:
    if name.lower().endswith(".npy"):
        return np.asanyarray(np.load(name, mmap_mode="r", allow_pickle=False))
    with np.load(name, allow_pickle=False) as arrays:
        if not arrays.files:
            raise ValueError("has no array")
        known = [key for key in ARRAY_NAMES if key in arrays.files]
        chosen = known[0] if known else inputs_among(arrays.files)
        if chosen is None and len(arrays.files) > 1:
            raise ValueError(f"has the arrays {', '.join(arrays.files)}; name the one to predict x")
        return np.asarray(arrays[chosen or arrays.files[0]])


def _of_table(name: str, shape: Sequence[int]) -> Iterator[Item]:
    try:
        _refuse_special(name)
        with Path(name).open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(",;\t", key=first.count))
            for cells in rows:
                if cells and not (rows.line_num == 1 and _is_heading(cells)):
                    yield Item(f"{name}:{rows.line_num}", partial(_numbers, cells, tuple(shape)))
    except (OSError, ValueError, csv.Error) as error:
        yield Item(name, partial(refuse, _reason(error)))


def _is_heading(cells: list[str]) -> bool:
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return True
    return False


def _numbers(cells: list[str], shape: tuple[int, ...]) -> np.ndarray:
    if len(cells) != math.prod(shape):
        raise UnreadableError(f"has {len(cells)} columns, but the model takes {math.prod(shape)}")
    try:
        return np.array([float(cell) for cell in cells], np.float32).reshape(shape)
    except ValueError as error:
        raise UnreadableError(str(error)) from error


def _text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)
