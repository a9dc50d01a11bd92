"""Which groups of repeated measurements differ from the best of them, at an error rate that holds for all.

The best group is chosen by the same values that it is then compared with, so testing every other group
against it at 5 % would find a "difference" far more often where there is none. Both procedures here are
therefore for all pairs of groups: whichever comes out best, the probability of any false claim stays at 5 %.

- Several groups of like spread: the studentized range of their means, see `tukey`. The error rate is exact
  if every group has the same seeds.
- Two groups, groups of unlike spread, seeds that only some groups share: a t-test for each pair, corrected by
  Holm, see `pairs`. It is exact for two groups with the same seeds, else on the safe side.

Spreads are unlike where Bartlett's test (1937, Proc. Royal Society A 160, 268–282) of what is left of the
values beside group and seed says so: one group that diverges for some seeds would otherwise hide every
difference between the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench.comparison import pairs, tukey
from cnnbench.comparison.tukey import Floats

Sample = Mapping[int, float]  # from seed to value

LEVEL = 0.05


@dataclass(frozen=True)
class Verdict:
    """One group beside the best.

    Attributes:
        difference: how much better the best is, in the values' unit; negative where it is the best only
            through seeds that the other group lacks.
        margin: half the width of the interval of `difference` at the level of the test; NaN without one.
        p: corrected for the number of comparisons; NaN without a test.
        reason: why there is no test, or empty.
    """

    difference: float
    margin: float = math.nan
    p: float = math.nan
    reason: str = ""

    @property
    def worse(self) -> bool:
        return self.difference > self.margin

    @property
    def indistinguishable(self) -> bool:
        return self.difference <= self.margin


@dataclass(frozen=True)
class Judgement:
    """What the groups are beside the best.

    Attributes:
        best: its index; None where no group has a finite mean.
        verdicts: one per group; that of the best is without a test.
        test: the name of the procedure; empty where none was possible.
    """

    best: int | None
    verdicts: Sequence[Verdict]
    test: str


def half_width(values: Sequence[float]) -> float:
    """Of the 95 % interval of the mean (Student's t); NaN for one value, and where one is not finite."""
    if len(values) < 2:
        return math.nan
    from scipy.special import stdtrit

    deviation = float(np.std(values, ddof=1))
    return float(stdtrit(len(values) - 1, 1 - LEVEL / 2)) * deviation / math.sqrt(len(values))


def judge(samples: Sequence[Sample], larger_is_better: bool, with_p: bool = True) -> Judgement:
    """Compare every group with the best.

    Args:
        samples: the groups, each with at least one value.
        larger_is_better: the direction of the values.
        with_p: False where the verdicts are enough, as in simulations: scipy integrates for 15 ms a group.
    """
    sign = 1.0 if larger_is_better else -1.0
    means = np.array([sign * np.mean(list(sample.values())) for sample in samples])
    finite = np.isfinite(means)
    if not finite.any():
        return Judgement(None, [Verdict(math.nan, reason="no figure")] * len(samples), "")
    best = int(np.argmax(np.where(finite, means, -np.inf)))
    reasons = [
        "no figure" if not known else "one run" if len(sample) < 2 else ""
        for known, sample in zip(finite, samples, strict=True)
    ]
    if reasons[best]:
        reasons = [reason or "the best has one run" for reason in reasons]
    verdicts = [
        Verdict(float(means[best] - mean), reason=reason) for mean, reason in zip(means, reasons, strict=True)
    ]
    tested = [index for index, reason in enumerate(reasons) if not reason]
    test = ""
    if len(tested) > 1:
        found, test = _compare([samples[index] for index in tested], tested.index(best), sign, with_p)
        for index, verdict in zip(tested, found, strict=True):
            verdicts[index] = verdict
    verdicts[best] = Verdict(0.0)
    return Judgement(best, verdicts, test)


def _compare(samples: Sequence[Sample], best: int, sign: float, with_p: bool) -> tuple[list[Verdict], str]:
    """Groups of at least two finite values against one of them, and by which procedure."""
    table = _table(samples)
    model = tukey.fit(table) if len(samples) > 2 else None
    if model is not None and model.alike:
        differences, margins, p = tukey.against(model, best, LEVEL, with_p)
        test = "Tukey's test, paired by seed" if model.paired else "Tukey's HSD"
    else:
        differences, margins, p, test = pairs.against(table, best, LEVEL)
    return [
        _verdict(float(sign * difference), float(margin), float(value))
        for difference, margin, value in zip(differences, margins, p, strict=True)
    ], test


def _verdict(difference: float, margin: float, p: float) -> Verdict:
    if math.isnan(margin) and difference != 0:
        return Verdict(difference, reason="no spread to judge by")
    return Verdict(difference, margin, p) if difference != 0 or margin > 0 else Verdict(0.0, 0.0, 1.0)


def _table(samples: Sequence[Sample]) -> Floats:
    """``(groups, seeds)`` values, NaN where there is none."""
    column = {
        seed: index for index, seed in enumerate(dict.fromkeys(s for sample in samples for s in sample))
    }
    table = np.full((len(samples), len(column)), np.nan)
    for row, sample in enumerate(samples):
        table[row, [column[seed] for seed in sample]] = list(sample.values())
    return table
