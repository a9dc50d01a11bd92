"""How much a model loses by corrupted pictures: 15 kinds at 5 severities, in the measured split alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.data import CORRUPTIONS, SEVERITIES, Split, check_corruption, corrupted
from cnnbench.errors import CnnbenchError
from cnnbench.reporting import between, number
from cnnbench.runs import OBJECTIVE, Decision, Interval, intervals_of, mean_interval, metrics, share_interval

if TYPE_CHECKING:
    from rich.table import Table

KEYS = ("corruption", "severity")
ALL = "all"
RANGE = re.compile(r"\[?(\d+)(?:\.\.|-)(\d+)\]?")  # of severities: 1..5
SEED = 0  # the same for every run, so that runs compare


@dataclass(frozen=True)
class Asked:
    """Which corruptions are measured.

    Attributes:
        kinds: of `data.CORRUPTIONS`.
        severities: from 1 to 5.
    """

    kinds: Sequence[str]
    severities: Sequence[int] = SEVERITIES


@dataclass(frozen=True)
class CorruptedFigure:
    """A figure of corrupted pictures.

    Attributes:
        corruption: its kind; null of the mean over all kinds.
        severity: from 1 to 5; null of the mean over those that were measured.
        value: of the metric.
        interval: were as many other pictures drawn; null where the metric has none.
    """

    corruption: str | None
    severity: int | None
    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Robustness:
    """What a model loses by corrupted pictures.

    Attributes:
        metric: that is measured.
        clean: its value for the pictures as they are.
        mean: over all kinds and severities.
        kinds: the mean of each kind over its severities.
        each: of every kind and severity.
    """

    metric: str
    clean: float
    mean: CorruptedFigure
    kinds: tuple[CorruptedFigure, ...]
    each: tuple[CorruptedFigure, ...]


def asked(typed: Sequence[str]) -> tuple[tuple[str, ...], Asked | None]:
    """Take `corruption=…` and `severity=…` out of a line.

    Returns:
        the rest, and what is to be measured; None without corruptions.

    Raises:
        CnnbenchError: there is no such kind or severity, a severity without a corruption, or a key twice.
    """
    pairs: dict[str, str] = {}
    for text in typed:
        name, _, value = text.partition("=")
        if name in pairs:
            raise CnnbenchError(
                f"{name}= is typed twice: {pairs[name]} and {value}",
                "name several in one: corruption=fog,snow severity=1,3",
            )
        if name in KEYS:
            pairs[name] = value
    rest = tuple(text for text in typed if text.partition("=")[0] not in KEYS)
    if "corruption" not in pairs:
        if "severity" in pairs:
            raise CnnbenchError(
                "severity=… is of a corruption, and none is named", "corruption=all measures every kind"
            )
        return rest, None
    named = _listed(pairs["corruption"])
    for kind in named:
        if kind != ALL:
            check_corruption(kind)
    kinds = [kind for kind in CORRUPTIONS if kind in named or ALL in named]
    if not kinds:
        raise CnnbenchError("corruption= names none", "corruption=all measures every kind")
    return rest, Asked(kinds, _severities(pairs["severity"]) if "severity" in pairs else SEVERITIES)


def _listed(text: str) -> list[str]:
    return [part for part in re.split(r"[,\s]+", text.strip("[] ")) if part]


def _severities(text: str) -> list[int]:
    ends = RANGE.fullmatch(text)
    parts = [str(one) for one in range(int(ends[1]), int(ends[2]) + 1)] if ends else _listed(text)
    known = {str(one): one for one in SEVERITIES}
    if not parts or any(part not in known for part in parts):
        raise CnnbenchError(
            f"severity={text} is none from 1 to 5", "severity=3, severity=1,3,5 or severity=1..5"
        )
    return sorted({known[part] for part in parts})


def measure_robustness(
    predict: Callable[[np.ndarray], np.ndarray],
    split: Split,
    decision: Decision,
    what: Asked,
    clean: float,
    batch: int,
    told: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Measure a model on corrupted pictures.

    Args:
        predict: from pictures to outputs ``(n, outputs)``.
        split: with the pictures as they are, uint8 of 1 or 3 channels.
        decision: how outputs become answers.
        what: to measure.
        clean: the figure of the pictures as they are.
        batch: how many pictures are corrupted and predicted together.
        told: hears how many of how many kinds and severities are done.

    Raises:
        CnnbenchError: the examples are no such pictures.
    """
    if len(split.x.shape) != 4 or split.x.dtype != np.uint8 or split.x.shape[3] not in (1, 3):
        raise CnnbenchError(
            "corruption=… is for pictures of 8 bits in grey or colour, which this data set has not",
            "leave it out",
        )
    metric = OBJECTIVE[decision.task]
    each: list[CorruptedFigure] = []
    hits: list[np.ndarray] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for kind in what.kinds:
            for severity in what.severities:
                pieces = _corrupted(split, kind, severity, batch, pool)
                outputs = np.concatenate([predict(piece) for piece in pieces])
                value, around, right = _figure(metric, split, decision, outputs)
                each.append(CorruptedFigure(kind, severity, value, around))
                hits += [] if right is None else [right]
                if told is not None:
                    told(len(each), len(what.kinds) * len(what.severities))
    mean = partial(_mean, each, hits, split.groups)
    kinds = tuple(mean(kind) for kind in what.kinds)
    return Robustness(metric, clean, mean(None), kinds, tuple(each))


def _corrupted(
    split: Split, kind: str, severity: int, batch: int, pool: ThreadPoolExecutor
) -> Iterator[np.ndarray]:
    """Yield the corrupted pictures, a batch at a time; one is the same in every batch size."""
    for start in range(0, len(split), batch):
        pictures = np.asarray(split.x[start : start + batch])
        seeds = range(start, start + len(pictures))
        yield np.stack(
            list(pool.map(lambda one, row: corrupted(one, kind, severity, [SEED, row]), pictures, seeds))
        )


def _figure(
    metric: str, split: Split, decision: Decision, outputs: np.ndarray
) -> tuple[float, Interval | None, np.ndarray | None]:
    """Return the figure, its interval, and of classes which examples are right."""
    if metric == "accuracy":
        right = decision.classes(outputs) == split.y.reshape(-1)
        return float(right.mean()), share_interval(right, split.groups), right
    figures = metrics.compute_named(decision.task, split.y, outputs, [metric])
    around = intervals_of(decision.task, split.y, outputs, figures, None, split.groups)
    return figures[metric], around.get(metric), None


def _mean(
    each: Sequence[CorruptedFigure], hits: Sequence[np.ndarray], groups: np.ndarray | None, kind: str | None
) -> CorruptedFigure:
    """Return the mean of one kind, or of all; the pictures are the same, and so the unit of the interval."""
    of_kind = [index for index, one in enumerate(each) if kind in (None, one.corruption)]
    value = float(np.mean([each[index].value for index in of_kind]))
    around = None
    if len(of_kind) == 1:
        around = each[of_kind[0]].interval
    elif hits:
        around = mean_interval(np.mean([hits[index] for index in of_kind], axis=0), groups)
    return CorruptedFigure(kind, None, value, around)


def robustness_table(found: Robustness) -> Table:
    """Return a table with a line for each kind, the severities beside each other."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    severities = sorted({one.severity for one in found.each if one.severity is not None})
    title = f"{found.metric.replace('_', ' ')} with corrupted pictures, by severity"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in (*map(str, severities), "mean", "at 95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    text = partial(_text, is_share=metrics.is_share(found.metric))
    for one in found.kinds:
        cells = [text(cell.value) for cell in found.each if cell.corruption == one.corruption]
        table.add_row(one.corruption, *cells, text(one.value), _between(one))
    table.add_section()
    means = [
        float(np.mean([cell.value for cell in found.each if cell.severity == severity]))
        for severity in severities
    ]
    table.add_row(ALL, *map(text, means), text(found.mean.value), _between(found.mean))
    table.caption = f"{text(found.clean)} with the pictures as they are"
    return table


def _text(value: float, is_share: bool) -> str:
    """Write a figure; shares in few digits, so that a line has room in a terminal."""
    return f"{value:.3f}" if is_share else number(value)


def _between(one: CorruptedFigure) -> str:
    return between(None if one.interval is None else asdict(one.interval))
