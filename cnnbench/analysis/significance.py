"""Significance tests: which groups of repeated measurements differ from the best of them.

The best group is chosen by the same values that are then compared, so testing every other group against it
at 5 % would claim a difference far too often. Both procedures are therefore for all pairs of groups:
whichever is best, the probability of any false claim stays at 5 %.

- `tukey_tests`, for several groups of like spread, uses the studentized range of their means. The model is
  value = group + seed with one spread. Where no two groups share a seed it is value = group, and the
  test is Tukey's HSD, as in `scipy.stats.tukey_hsd`, which has no seeds. The error rate is exact if every
  group has the same seeds. Sources: Tukey 1953, "The problem of multiple comparisons" (Collected Works VIII);
  for groups that lack some seeds Kramer 1957, Biometrics 13, 13–18; Hayter 1984, Annals of Statistics 12, 61.
- `pairwise_tests`, for two groups, unlike spreads, or seeds that only some share, uses scipy's t-tests: a
  pair is tested by seed where both have the same seeds or three in common (Student 1908, Biometrika 6,
  1–25), else by Welch's test (1947, Biometrika 34, 28–35). The correction for all pairs is Holm's (1979,
  Scandinavian Journal of Statistics 6, 65–70). The error rate is exact for two groups with the same seeds,
  else on the safe side.

Spreads are unlike where Bartlett's test (1937, Proc. Royal Society A 160, 268–282) of the residuals says so:
one group that diverges for some seeds would hide every difference between the others.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

Sample = Mapping[Hashable, float]  # from seed, or seed and fold, to value
LEVEL = 0.05
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
UNLIKE = 0.01  # spreads are unlike where p of Bartlett's test is below
MOST_INTEGRALS = 16  # of the studentized range, 15 ms each; p is interpolated between them
SMALLEST = 1e-12  # scipy's integrals are not exact below
ENOUGH = 3  # seeds in common, for a test by seed


@dataclass(frozen=True)
class Verdict:
    """One group beside the best.

    Attributes:
        difference: by how much the best is better, in the unit of the values; negative where the best is so
            only through seeds that the other group lacks.
        margin: half the width of the interval of `difference`; NaN without a test.
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
    """All groups beside the best.

    Attributes:
        best: its index; None where no group has a finite mean.
        verdicts: one per group; that of the best is without a test.
        test: the name of the procedure; empty where none was possible.
    """

    best: int | None
    verdicts: Sequence[Verdict]
    test: str


def half_width(values: Sequence[float], overlap: float = 0.0) -> float:
    """Return half the width of the mean's 95 % interval (Student's t); NaN for one value.

    Args:
        values: independent, or of the folds of cross-validations.
        overlap: of folds; see `judge`.
    """
    if len(values) < 2:
        return math.nan
    from scipy.special import stdtrit

    deviation = float(np.std(values, ddof=1))
    return float(stdtrit(len(values) - 1, 1 - LEVEL / 2)) * deviation * math.sqrt(1 / len(values) + overlap)


def judge(
    samples: Sequence[Sample], larger_is_better: bool, with_p: bool = True, overlap: float = 0.0
) -> Judgement:
    """Compare every group with the best.

    Args:
        samples: the groups, each with at least one value.
        larger_is_better: the direction of the values.
        with_p: False where the verdicts are enough, as in simulations: scipy integrates for 15 ms a group.
        overlap: of values of folds, how many examples one holds out for each that it trains on. The training
            sets overlap, so that the values vary less than their mean does; its variance is taken as
            ``1 / values + overlap`` times theirs, by Nadeau and Bengio (2003, Machine Learning 52, 239–281).
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
        found, test = _compare(
            [samples[index] for index in tested], tested.index(best), sign, with_p, overlap
        )
        for index, verdict in zip(tested, found, strict=True):
            verdicts[index] = verdict
    verdicts[best] = Verdict(0.0)
    return Judgement(best, verdicts, test)


def _compare(
    samples: Sequence[Sample], best: int, sign: float, with_p: bool, overlap: float
) -> tuple[list[Verdict], str]:
    """Test groups of at least two finite values against one of them; return the name of the test, too."""
    table = _table(samples)
    model = fit_additive(table) if len(samples) > 2 and not overlap else None
    if model is not None and model.alike:
        differences, margins, p = tukey_tests(model, best, LEVEL, with_p)
        test = "Tukey's test, paired by seed" if model.paired else "Tukey's HSD"
    else:
        differences, margins, p, test = pairwise_tests(table, best, LEVEL, overlap)
    return [
        _verdict(float(sign * difference), float(margin), float(value))
        for difference, margin, value in zip(differences, margins, p, strict=True)
    ], test


def _verdict(difference: float, margin: float, p: float) -> Verdict:
    if math.isnan(margin) and difference != 0:
        return Verdict(difference, reason="no spread to judge by")
    return Verdict(difference, margin, p) if difference != 0 or margin > 0 else Verdict(0.0, 0.0, 1.0)


def _table(samples: Sequence[Sample]) -> Floats:
    """Return the ``(groups, seeds)`` values, NaN where there is none."""
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
        effects: ``(groups,)`` of the groups, up to a constant.
        shape: ``(groups, groups)``; times the variance, the covariances of the effects.
        centred: ``(groups, seeds)`` values minus the effect of their group, NaN where there is no value.
        residuals: the same minus the effect of their seed.
        freedom: degrees of freedom of the residuals.
        paired: true where seeds are in the model.
        rounding: residuals up to this are taken for zero.
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
        """True where the groups may have one spread."""
        rest = self.residuals
        if self.paired and len(rest) > 3:
            # Residuals from the median over groups: the mean carries the noise of one group into all others.
            rest = self.centred - np.nanmedian(self.centred, axis=0)
        rows = [row[~np.isnan(row)] for row in rest]
        still = [bool(np.ptp(row) <= self.rounding) for row in rows]
        if any(still):
            return all(still)
        from scipy.stats import bartlett

        return bool(bartlett(*rows).pvalue >= UNLIKE)


def fit_additive(table: Floats) -> AdditiveModel | None:
    """Fit value = group + column by least squares, or value = group where no column has two values.

    Args:
        table: ``(groups, seeds)``, NaN where there is no value; two values or more in each row.

    Returns:
        None where only some groups share seeds, so that the model cannot compare all of them.
    """
    present = ~np.isnan(table)
    paired = bool((present.sum(axis=0) > 1).any())
    if paired and not _connected(present):
        return None
    # Without pairs all values lie in one block, whose effect is the constant of the model.
    blocks = present.astype(float) if paired else present.sum(axis=1, keepdims=True).astype(float)
    totals = np.where(present, table, 0.0) if paired else np.nansum(table, axis=1, keepdims=True)
    groups, sizes = len(table), blocks.sum(axis=0)
    # The normal equations of the groups, those of the blocks eliminated.
    matrix = np.diag(blocks.sum(axis=1)) - blocks / sizes @ blocks.T
    right = totals.sum(axis=1) - blocks @ (totals.sum(axis=0) / sizes)
    shape = np.linalg.inv(matrix + 1 / groups)  # any constant will do: only differences are used
    effects = shape @ right
    centred = table - effects[:, None]
    residuals = centred - (totals.sum(axis=0) - blocks.T @ effects) / sizes
    freedom = int(present.sum()) - groups - len(sizes) + 1
    rounding = float(64 * np.finfo(float).eps * np.nanmax(np.abs(table)))
    return AdditiveModel(effects, shape, centred, residuals, freedom, paired, rounding)


def _connected(present: np.ndarray) -> bool:
    """Tell whether any two groups can be compared through a chain of shared seeds."""
    reached = np.arange(len(present)) == 0
    while True:
        further = present[:, present[reached].any(axis=0)].any(axis=1)
        if (further == reached).all():
            return bool(reached.all())
        reached = further


def tukey_tests(model: AdditiveModel, best: int, level: float, with_p: bool) -> tuple[Floats, Floats, Floats]:
    """Test every group against one by the studentized range, corrected for all pairs.

    Returns:
        ``(groups,)`` estimated differences, best minus group; half the width of their simultaneous
        intervals; p of each, both NaN for the best, and for all where the residuals are zero.
    """
    differences = model.effects[best] - model.effects
    others = np.arange(len(differences)) != best
    margins, p = np.full(len(differences), np.nan), np.full(len(differences), np.nan)
    differences[np.abs(differences) <= model.rounding] = 0.0
    if model.freedom < 1 or np.nanmax(np.abs(model.residuals)) <= model.rounding:
        return differences, margins, p
    diagonal = np.diag(model.shape)
    variance = np.nansum(model.residuals**2) / model.freedom
    # The studentized range is divided by the error of one mean, not of a difference.
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


def pairwise_tests(
    table: Floats, best: int, level: float, overlap: float = 0.0
) -> tuple[Floats, Floats, Floats, str]:
    """Test every group against one, corrected for all pairs.

    Args:
        table: ``(groups, seeds)``, NaN where there is no value; two values or more in each row.
        best: the index of that one.
        level: of the test.
        overlap: of folds; see `judge`.

    Returns:
        ``(groups,)`` differences, best minus group; half the width of their intervals; p of each, both NaN
        for the best and where there is no spread; the name of the test.
    """
    from scipy.special import stdtrit

    groups = len(table)
    first, second = np.triu_indices(groups, 1)
    differences, errors, freedom, p, paired = _t_tests(table[first], table[second], overlap)
    corrected = holm(p)
    # The interval is widened by as much as p was raised, so that both say the same.
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(p > 0, np.maximum(corrected / p, 1), len(p))
    margins = np.where(np.isnan(p), np.nan, -stdtrit(freedom, level / (2 * times)) * errors)
    mine = (first == best) | (second == best)
    others = np.where(first == best, second, first)[mine]
    found = np.full((3, groups), np.nan)
    signed = np.where(first == best, differences, -differences)
    found[:, others] = signed[mine], margins[mine], corrected[mine]
    found[0, best] = 0.0
    paired = paired[mine]
    test = "paired t-test" if paired.all() else "t-tests, paired where seeds are shared"
    test = test if paired.any() else "Welch's t-test"
    if overlap:
        test = "corrected resampled t-test (Nadeau and Bengio) of folds"
    return found[0], found[1], found[2], test if groups == 2 else f"{test}, Holm's correction"


def _t_tests(
    one: Floats, other: Floats, overlap: float = 0.0
) -> tuple[Floats, Floats, Floats, Floats, np.ndarray]:
    """Test the rows of two ``(pairs, seeds)`` tables against each other, by scipy's t-tests.

    Returns:
        ``(pairs,)`` differences of the means, their standard errors and degrees of freedom, p (NaN where
        there is no spread), and whether a pair is tested by seed.
    """
    from scipy.special import stdtr, stdtrit
    from scipy.stats import ttest_ind, ttest_rel

    distances = one - other
    shared, *sizes = ((~np.isnan(values)).sum(axis=1) for values in (distances, one, other))
    paired = (shared >= ENOUGH) | ((shared == sizes[0]) & (shared == sizes[1]))
    half, freedom, p = np.full((3, len(one)), np.nan)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # scipy warns of values without spread, which are dealt with below
        means = np.nanmean(one, axis=1) - np.nanmean(other, axis=1)
        differences = np.where(paired, np.nanmean(distances, axis=1), means)
        for rows, test in ((paired, ttest_rel), (~paired, partial(ttest_ind, equal_var=False))):
            if rows.any():
                result = test(one[rows], other[rows], axis=1, nan_policy="omit")
                low, high = result.confidence_interval(1 - LEVEL)
                half[rows], freedom[rows], p[rows] = (high - low) / 2, result.df, result.pvalue
        errors = half / stdtrit(freedom, 1 - LEVEL / 2)
        if overlap:
            errors *= np.sqrt(1 + np.where(paired, shared, np.max(sizes, axis=0)) * overlap)
            p = 2 * stdtr(freedom, -np.abs(differences) / errors)
    rounding = 64 * np.finfo(float).eps * np.nanmax(np.abs([one, other]))
    differences[np.abs(differences) <= rounding] = 0.0
    return differences, errors, freedom, np.where(errors > rounding, p, np.nan), paired


def holm(p: Floats) -> Floats:
    """Correct ``(n,)`` p-values step by step, the smallest first; NaN is no comparison and stays."""
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
