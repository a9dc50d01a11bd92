"""Groups of like spread against the best of them, by the studentized range.

The model is value = group + seed, with one spread for all; where no two groups share a seed, value = group,
and the procedure is Tukey's HSD. In both, a group is found to differ from the best exactly where the range of
the group means is too large for groups that are all the same, so the best may be chosen by the same values.

Sources: Tukey 1953, "The problem of multiple comparisons" (unpublished; in his Collected Works VIII); for
groups that lack some seeds Kramer 1957, Biometrics 13, 13–18, on the safe side by Hayter 1984, Annals of
Statistics 12, 61–75.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

UNLIKE = 0.01  # p of Bartlett's test, below which spreads are not taken for one
MOST_INTEGRALS = 16  # of the studentized range, 15 ms each; between them p is interpolated
SMALLEST = 1e-12  # scipy's integrals are not exact below


@dataclass(frozen=True)
class Model:
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


def fit(table: Floats) -> Model | None:
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
    return Model(effects, shape, centred, residuals, freedom, paired, rounding)


def _connected(present: np.ndarray) -> bool:
    """Whether every two groups can be compared through seeds that groups share."""
    reached = np.arange(len(present)) == 0
    while True:
        further = present[:, present[reached].any(axis=0)].any(axis=1)
        if (further == reached).all():
            return bool(reached.all())
        reached = further


def against(model: Model, best: int, level: float, with_p: bool) -> tuple[Floats, Floats, Floats]:
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
