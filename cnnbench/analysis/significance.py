"""Which groups of repeated measurements differ from the best of them, at an error rate that holds for all.

The best group is chosen by the same values that it is then compared with, so testing every other group
against it at 5 % would find a "difference" far more often where there is none. Both procedures here are
therefore for all pairs of groups: whichever comes out best, the probability of any false claim stays at 5 %.

- Several groups of like spread: the studentized range of their means, see `tukey_tests`. The error rate is
  exact if every group has the same seeds.
- Two groups, groups of unlike spread, seeds that only some groups share: a t-test for each pair, corrected
  by Holm, see `pairwise_tests`. It is exact for two groups with the same seeds, else on the safe side.

Spreads are unlike where Bartlett's test (1937, Proc. Royal Society A 160, 268–282) of what is left of the
values beside group and seed says so: one group that diverges for some seeds would otherwise hide every
difference between the others.

The model of the first is value = group + seed, with one spread for all; where no two groups share a seed,
value = group, and the procedure is Tukey's HSD. In both, a group is found to differ from the best exactly
where the range of the group means is too large for groups that are all the same, so the best may be chosen
by the same values. Sources: Tukey 1953, "The problem of multiple comparisons" (unpublished; in his
Collected Works VIII); for groups that lack some seeds Kramer 1957, Biometrics 13, 13–18, on the safe side
by Hayter 1984, Annals of Statistics 12, 61–75.

The second assumes nothing of other groups. A pair is tested on its differences by seed where both have the
same seeds, or at least three in common (Student 1908, Biometrika 6, 1–25), else by Welch's test (1947,
Biometrika 34, 28–35). The correction is Holm's (1979, Scandinavian Journal of Statistics 6, 65–70) over all
pairs, so here, too, the best may be chosen by the same values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

Sample = Mapping[int, float]  # from seed to value
LEVEL = 0.05
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
UNLIKE = 0.01  # p of Bartlett's test, below which spreads are not taken for one
MOST_INTEGRALS = 16  # of the studentized range, 15 ms each; between them p is interpolated
SMALLEST = 1e-12  # scipy's integrals are not exact below
ENOUGH = 3  # seeds in common


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
    model = fit_additive(table) if len(samples) > 2 else None
    if model is not None and model.alike:
        differences, margins, p = tukey_tests(model, best, LEVEL, with_p)
        test = "Tukey's test, paired by seed" if model.paired else "Tukey's HSD"
    else:
        differences, margins, p, test = pairwise_tests(table, best, LEVEL)
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


# -- Groups of like spread: the studentized range --------------------------------------------------


@dataclass(frozen=True)
class AdditiveModel:
    """The additive model of a table by least squares.

    Attributes:
        effects: ``(groups,)``, of each group, up to a constant.
        shape: ``(groups, groups)``; times the variance, the covariances of the effects.
        centred: ``(groups, seeds)`` values minus the effect of their group, NaN where there is no value.
        residuals: the same minus the effect of their seed.
        freedom: degrees of freedom of the residuals.
        paired: whether seeds are in the model.
        rounding: residuals up to this are none: the values come from sums of floating-point numbers.
    """

    effects: Floats
    shape: Floats
    centred: Floats
    residuals: Floats
    freedom: int
    paired: bool
    rounding: float

    @property
    def alike(self) -> bool:
        """Whether the groups may have one spread."""
        rest = self.residuals
        if self.paired and len(rest) > 3:
            # Against the median over groups: the mean carries the noise of one group into all others.
            rest = self.centred - np.nanmedian(self.centred, axis=0)
        rows = [row[~np.isnan(row)] for row in rest]
        still = [bool(np.ptp(row) <= self.rounding) for row in rows]
        if any(still):
            return all(still)
        from scipy.stats import bartlett

        return bool(bartlett(*rows).pvalue >= UNLIKE)


def fit_additive(table: Floats) -> AdditiveModel | None:
    """Least squares of value = group + column, or of value = group where no column has two values.

    Args:
        table: ``(groups, seeds)``, NaN where there is no value; two values or more in each row.

    Returns:
        None where only some groups share seeds, so that the model cannot compare all of them.
    """
    present = ~np.isnan(table)
    paired = bool((present.sum(axis=0) > 1).any())
    if paired and not _connected(present):
        return None
    # Without pairs, all values lie in one block, whose effect is the constant of the model.
    blocks = present.astype(float) if paired else present.sum(axis=1, keepdims=True).astype(float)
    totals = np.where(present, table, 0.0) if paired else np.nansum(table, axis=1, keepdims=True)
    groups, sizes = len(table), blocks.sum(axis=0)
    # The equations of the groups alone, those of the blocks eliminated.
    matrix = np.diag(blocks.sum(axis=1)) - blocks / sizes @ blocks.T
    right = totals.sum(axis=1) - blocks @ (totals.sum(axis=0) / sizes)
    shape = np.linalg.inv(matrix + 1 / groups)  # any constant would do: only differences are used
    effects = shape @ right
    centred = table - effects[:, None]
    residuals = centred - (totals.sum(axis=0) - blocks.T @ effects) / sizes
    freedom = int(present.sum()) - groups - len(sizes) + 1
    rounding = float(64 * np.finfo(float).eps * np.nanmax(np.abs(table)))
    return AdditiveModel(effects, shape, centred, residuals, freedom, paired, rounding)


def _connected(present: np.ndarray) -> bool:
    """Whether every two groups can be compared through seeds that groups share."""
    reached = np.arange(len(present)) == 0
    while True:
        further = present[:, present[reached].any(axis=0)].any(axis=1)
        if (further == reached).all():
            return bool(reached.all())
        reached = further


def tukey_tests(model: AdditiveModel, best: int, level: float, with_p: bool) -> tuple[Floats, Floats, Floats]:
    """Every group against one, corrected for all pairs.

    Returns:
        ``(groups,)`` estimated differences, best minus group; half the width of their simultaneous
        intervals; p of each. NaN for the best, and for all where the residuals are none.
    """
    differences = model.effects[best] - model.effects
    others = np.arange(len(differences)) != best
    margins, p = np.full(len(differences), np.nan), np.full(len(differences), np.nan)
    differences[np.abs(differences) <= model.rounding] = 0.0
    if model.freedom < 1 or np.nanmax(np.abs(model.residuals)) <= model.rounding:
        return differences, margins, p
    diagonal = np.diag(model.shape)
    variance = np.nansum(model.residuals**2) / model.freedom
    # The studentized range has the error of one mean below it, not that of a difference.
    errors = np.sqrt(variance * (diagonal[best] + diagonal - 2 * model.shape[best])[others] / 2)
    margins[others] = _critical(level, len(differences), model.freedom) * errors
    if with_p:
        p[others] = _p(np.abs(differences[others]) / errors, len(differences), model.freedom)
    return differences, margins, p


def _p(ratios: Floats, groups: int, freedom: int) -> Floats:
    from scipy.stats import studentized_range

    points = np.unique(ratios)
    if len(points) > MOST_INTEGRALS:
        points = np.quantile(points, np.linspace(0, 1, MOST_INTEGRALS))
    logs = np.log(np.clip(studentized_range.sf(points, groups, freedom), SMALLEST, 1))
    return np.asarray(np.exp(np.interp(ratios, points, logs)))


@cache
def _critical(level: float, groups: int, freedom: int) -> float:
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - level, groups, freedom))


# -- Pairs: t-tests --------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairRow:
    """One group against all, each ``(groups,)``.

    Attributes:
        differences: that one minus each.
        errors: standard errors of these.
        freedom: their degrees of freedom.
        paired: whether a pair is tested by seed.
        p: two-sided, not corrected; NaN where there is no spread.
    """

    differences: Floats
    errors: Floats
    freedom: Floats
    paired: np.ndarray
    p: Floats


def pairwise_tests(table: Floats, best: int, level: float) -> tuple[Floats, Floats, Floats, str]:
    """Every group against one, corrected for all pairs.

    Args:
        table: ``(groups, seeds)``, NaN where there is no value; two values or more in each row.
        best: the index of that one.
        level: of the test.

    Returns:
        ``(groups,)`` differences, best minus group; half the width of their intervals; p of each, both NaN
        for the best and where there is no spread; what was done, in words.
    """
    from scipy.special import stdtrit

    groups = len(table)
    rows = [_row(table, row) for row in range(groups)]
    upper = np.triu_indices(groups, 1)
    corrected = np.full((groups, groups), np.nan)
    corrected[upper] = holm(np.stack([row.p for row in rows])[upper])
    row = rows[best]
    p = np.where(np.isnan(corrected[best]), corrected[:, best], corrected[best])
    # By as much as the correction has raised p, so that the interval and p say the same.
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(row.p > 0, np.maximum(p / row.p, 1), len(upper[0]))
    margins = np.where(np.isnan(p), np.nan, -stdtrit(row.freedom, level / (2 * times)) * row.errors)
    paired = np.delete(row.paired, best)
    test = "paired t-test" if paired.all() else "t-tests, paired where seeds are shared"
    test = test if paired.any() else "Welch's t-test"
    return row.differences, margins, p, test if groups == 2 else f"{test}, Holm's correction"


def _row(table: Floats, row: int) -> PairRow:
    from scipy.special import stdtr

    sizes = (~np.isnan(table)).sum(axis=1)
    distances = table[row] - table
    shared = (~np.isnan(distances)).sum(axis=1)
    paired = (shared >= ENOUGH) | ((shared == sizes) & (shared == sizes[row]))
    squares = _variance(table) / sizes  # standard errors of the means, squared
    means = np.nansum(table, axis=1) / sizes
    rounding = 64 * np.finfo(float).eps * np.nanmax(np.abs(table))
    with np.errstate(divide="ignore", invalid="ignore"):
        both = squares + squares[row]
        freedom = both**2 / (squares**2 / (sizes - 1) + squares[row] ** 2 / (sizes[row] - 1))
        freedom = np.where(paired, shared - 1, freedom)
        errors = np.sqrt(np.where(paired, _variance(distances) / shared, both))
        differences = np.where(paired, np.nansum(distances, axis=1) / shared, means[row] - means)
        differences[np.abs(differences) <= rounding] = 0.0
        p = 2 * stdtr(freedom, -np.abs(differences) / errors)
    return PairRow(differences, errors, freedom, paired, np.where(errors > rounding, p, np.nan))


def _variance(table: Floats) -> Floats:
    """``(rows,)`` sample variances of what is not NaN."""
    count = (~np.isnan(table)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.nansum(table, axis=1) / count
        return np.asarray(np.nansum((table - means[:, None]) ** 2, axis=1) / (count - 1))


def holm(p: Floats) -> Floats:
    """Correct ``(n,)`` p-values step by step, the smallest first; NaN is no comparison and stays."""
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
