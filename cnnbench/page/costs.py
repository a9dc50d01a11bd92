"""How the costs of a run are named and written on a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cnnbench.report import count, duration, number


@dataclass(frozen=True)
class Cost:
    """One of them.

    Attributes:
        label: its name, with its unit.
        text: writes a value.
        is_axis: less of it is better, so that a front of quality against it makes sense.
    """

    label: str
    text: Callable[[float], str]
    is_axis: bool = True


def _milliseconds(seconds: float) -> str:
    return f"{number(1000 * seconds)} ms"


def _bytes(size: float) -> str:
    return count(size, "B")


COSTS = {
    "seconds": Cost("training, seconds", duration),
    "parameters": Cost("parameters", count),
    "flops": Cost("FLOPs per example", count),
    "latency": Cost("latency of one example, seconds", _milliseconds),
    "memory": Cost("peak memory, bytes", _bytes),
    "examples_per_second": Cost("examples per second", number, is_axis=False),
}
