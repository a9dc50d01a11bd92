"""Groups against the best of them by a t-test for each pair: nothing is assumed of the others.

A pair is tested on its differences by seed where both have the same seeds, or at least three in common
(Student 1908, Biometrika 6, 1–25), else by Welch's test (1947, Biometrika 34, 28–35). The correction is
Holm's (1979, Scandinavian Journal of Statistics 6, 65–70) over all pairs, so the best may be chosen by the
same values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnbench.comparison.tukey import Floats

ENOUGH = 3  # seeds in common


@dataclass(frozen=True)
class Row:
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


def against(table: Floats, best: int, level: float) -> tuple[Floats, Floats, Floats, str]:
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


def _row(table: Floats, row: int) -> Row:
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
    return Row(differences, errors, freedom, paired, np.where(errors > rounding, p, np.nan))


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
