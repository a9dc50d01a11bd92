"""The judgement of a preset: its score here beside the score that it promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnbench.errors import CnnbenchError
from cnnbench.runs import Expected


@dataclass(frozen=True)
class Verdict:
    """A measured score beside a promised band, and the minutes of training that it took here."""

    expected: Expected
    value: float
    minutes: float

    @property
    def reproduced(self) -> bool:
        return self.expected.low <= self.value <= self.expected.high

    @property
    def sentence(self) -> str:
        expected = self.expected
        where = "within" if self.reproduced else ("below" if self.value < expected.low else "above")
        return (
            f"{expected.metric} {self.value:.4f} is {where} {expected.low:.4f} to {expected.high:.4f}; "
            f"{self.minutes:.1f} minutes of training, {expected.minutes:g} where it was measured"
        )


def judge_recipe(expected: Expected, metrics: Mapping[str, Any]) -> Verdict:
    """Compare the content of a run's `metrics.json` with what its recipe promises.

    Raises:
        CnnbenchError: the promised metric is not there.
    """
    split, _, name = expected.metric.partition("_")
    try:
        value = metrics["metrics"][split][name]
    except KeyError:
        raise CnnbenchError(f"expected.metric={expected.metric} is not a metric of this run") from None
    return Verdict(expected, float(value), metrics["cost"]["seconds"]["fit"] / 60)
