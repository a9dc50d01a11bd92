"""Linear probes: how well a linear model tells targets from features, cross-validated.

Classes are told apart by multinomial logistic regression, labels by one logistic regression each, values by
ridge regression. scipy's L-BFGS makes all fits of a cross-validation at once, which share the examples.
Features are turned to their principal axes: there the curvature is nearly diagonal, and bounded by that of
all examples (Böhning 1992, Annals of the Institute of Statistical Mathematics 44, 197–200), and so few steps
are needed. The penalty is chosen inside each fold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cnnbench import runs
from cnnbench.analysis.significance import LEVEL

PENALTIES = tuple(4.0**power for power in range(2, -6, -1))  # 16 to 0.001, the strongest first
PATIENCE = 2  # penalties in a row that are worse than an earlier one; the weak ones that follow take longest
MOST_STEPS = 100
PRECISION = 1e-4  # of the sum of all losses, at which a fit is done
SMALLEST = 1e-6  # variance of a principal axis, as a part of the largest, that float32 can tell from none
MOST_BLOCKS = 50
# By which the variance of a cross-validated score is larger than that of its examples alone. 1.0 to 1.6 was
# found by simulation and on disjoint parts of CIFAR-10; `make simulate` tells how often intervals are right.
OVERLAP = 1.5
OVERLAP_OF_ERRORS = 2.0  # of a regression, where each column has but a few examples
# An upper bound of the curvature of each loss in its linear outputs.
CURVATURE = {"multiclass": 0.5, "binary": 0.25, "multilabel": 0.25, "regression": 1.0}


@dataclass(frozen=True)
class Axes:
    """Features on their principal axes: standardised, and turned.

    No target is used for it, and a turn changes no fit, for the penalty is the same in all directions.

    Attributes:
        values: ``(n, axes)`` float32.
        squares: ``(axes,)`` their sums of squares.
        columns: of the features.
    """

    values: np.ndarray
    squares: np.ndarray
    columns: int

    @classmethod
    def of(cls, features: np.ndarray) -> Axes:
        """Turn features ``(n, columns)``; columns that never change are left out."""
        spread = features.std(axis=0, dtype=np.float64)
        kept = spread > SMALLEST * max(float(spread.max()), 1e-30)
        columns = features[:, kept]
        scaled = ((columns - columns.mean(axis=0, dtype=np.float64)) / spread[kept]).astype(np.float32)
        wide = scaled.shape[1] > len(scaled)
        squares, vectors = np.linalg.eigh(scaled @ scaled.T if wide else scaled.T @ scaled)
        known = squares > SMALLEST * squares[-1] if len(squares) else np.zeros(0, bool)
        squares, vectors = squares[known], vectors[:, known]
        values = vectors * np.sqrt(squares) if wide else scaled @ vectors
        return cls(values, squares.astype(np.float64), max(scaled.shape[1], 1))

    def take(self, rows: np.ndarray) -> Axes:
        """Return some examples, on the axes of all."""
        values = self.values[rows]
        return Axes(values, np.square(values, dtype=np.float64).sum(axis=0), self.columns)


def fit_linear(
    axes: Axes,
    y: np.ndarray,
    task: str,
    seen: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
    classes: int | None = None,
) -> Iterator[np.ndarray]:
    """Fit several linear models to parts of the same examples; yield the outputs of each for all examples.

    Args:
        axes: features of n examples.
        y: ``(n,)`` class indices, 0 or 1, or values; ``(n, labels)`` 0 or 1; ``(n, targets)`` values.
        task: of the data set.
        seen: ``(fits, n)`` how much each example counts in each fit; 0 where it is not seen.
        penalties: of squared weights, from the strongest on; in the unit of the features' own variance.
        classes: of a multiclass task; None for those up to the highest in y.

    Yields:
        for each penalty ``(fits, n, outputs)``: probabilities, or values.
    """
    from scipy.optimize import minimize

    targets, scale, shift = _targets(y, task, classes)
    fits, width = len(seen), targets.shape[1]
    used = seen.any(axis=0)
    counts = seen.T[used].astype(np.float32)[:, :, None]  # (used, fits, 1)
    values, wanted = axes.values[used], targets[used][:, None]
    shape = (values.shape[1] + 1, fits, width)  # the last row is the constant, which bears no penalty
    weights = np.zeros(shape)
    bound = CURVATURE[task] * float(seen.max())

    def outputs_of(linear: np.ndarray) -> np.ndarray:
        if task == "multiclass":
            linear -= linear.max(axis=-1, keepdims=True)
            np.exp(linear, out=linear)
            linear /= linear.sum(axis=-1, keepdims=True)
        elif task != "regression":
            linear = 1 / (1 + np.exp(-np.clip(linear, -60, 60)))
        return linear

    def linear_of(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        flat = weights.astype(np.float32).reshape(shape[0], -1)
        found: np.ndarray = (values @ flat[:-1] + flat[-1]).reshape(-1, fits, width)
        return found

    for penalty in penalties:
        alpha = penalty * axes.columns
        curvature = np.append(bound * axes.squares + alpha, bound * len(values))
        step = 1 / np.sqrt(curvature)[:, None, None]

        def loss(flat: np.ndarray, step: np.ndarray = step, alpha: float = alpha) -> tuple[float, np.ndarray]:
            own = flat.reshape(shape) * step
            outputs = outputs_of(linear_of(values, own))
            error = outputs - wanted
            if task == "regression":
                total = 0.5 * np.sum(counts * np.square(error), dtype=np.float64)
            else:
                likely = np.where(wanted > 0.5, outputs, 1 if task == "multiclass" else 1 - outputs)
                total = -np.sum(counts * np.log(np.maximum(likely, 1e-30)), dtype=np.float64)
            error *= counts
            slope = np.empty(shape)
            slope[:-1] = (values.T @ error.reshape(len(values), -1)).reshape(-1, fits, width)
            slope[-1] = error.sum(axis=0)
            slope[:-1] += alpha * own[:-1]
            total += 0.5 * alpha * float(np.square(own[:-1]).sum())
            return total, (slope * step).reshape(-1)

        options = {"maxiter": MOST_STEPS, "ftol": PRECISION, "gtol": 0.0}
        found = minimize(loss, (weights / step).reshape(-1), jac=True, method="L-BFGS-B", options=options)
        weights = found.x.reshape(shape) * step
        outputs = outputs_of(linear_of(axes.values, weights)).transpose(1, 0, 2)
        yield outputs * scale + shift if task == "regression" else outputs


def _targets(y: np.ndarray, task: str, classes: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets ``(n, outputs)`` float32, and scale and shift of those of a regression."""
    one = np.ones(1, np.float32)
    if task == "multiclass":
        return np.eye(classes or int(y.max()) + 1, dtype=np.float32)[y.astype(np.intp)], one, 0 * one
    columns = y.reshape(len(y), -1).astype(np.float32)
    if task != "regression":
        return columns, one, 0 * one
    shift, scale = columns.mean(axis=0), columns.std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    return (columns - shift) / scale, scale, shift


def score(task: str, y: np.ndarray, outputs: np.ndarray) -> float:
    """Return the figure that runs of a task are ranked by; NaN where these examples leave it undefined."""
    name = runs.OBJECTIVE[task]
    return runs.metrics.compute_named(task, y, outputs, (name,)).get(name, float("nan"))


def cross_validate(
    axes: Axes, y: np.ndarray, task: str, fold: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return outputs ``(n, outputs)`` for each example by a linear model that has not seen its fold.

    The penalty of a fold is the best for its two neighbours, each predicted by a model that has seen neither
    that fold nor the neighbour: fits that lack two folds serve both.

    Args:
        axes: features of n examples.
        y: their targets, as of a `Split`.
        task: of the data set.
        fold: ``(n,)`` from 0, three folds or more.
        weights: ``(n,)`` how much each counts in a fit; None for all alike.
    """
    count = int(fold.max()) + 1
    held = [fold == number for number in range(count)]
    after = [(number + 1) % count for number in range(count)]
    seen = np.array(
        [*(~one for one in held), *(~(one | held[after[number]]) for number, one in enumerate(held))]
    )
    best, chosen, worse = np.full(count, np.inf), np.zeros(0), np.zeros(count, np.intp)
    for outputs in fit_linear(axes, y, task, seen * np.float32(1) * (1 if weights is None else weights)):
        if not len(chosen):
            chosen = np.empty(outputs.shape[1:], np.float32)
        for number, own in enumerate(held):
            if worse[number] == PATIENCE:
                continue
            worse[number] += 1
            before = number - 1 if number else count - 1
            inner = ((count + number, held[after[number]]), (count + before, held[before]))
            lost = sum(_loss(task, y[rows], outputs[fit, rows]) for fit, rows in inner)
            if lost < best[number]:
                best[number], worse[number] = lost, 0
                chosen[own] = outputs[number, own]
        if (worse == PATIENCE).all():
            break
    return chosen


def choose_penalty(
    axes: Axes,
    y: np.ndarray,
    task: str,
    known: int,
    seed: int,
    classes: int | None = None,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Return outputs for the examples after the first `known`, by a linear model of these alone.

    The penalty is the best where either half of the known ones predicts the other.

    Args:
        axes: features of n examples.
        y: their targets; nothing is learnt from those after the known ones.
        task: of the data set.
        known: how many come first.
        seed: of the halves.
        classes: of a multiclass task; None for those up to the highest in y.
        groups: ``(known,)``; none of them is halved, unless there is but one.
    """
    half = np.zeros(len(y), np.intp)
    half[:known] = 1 + _halves(y[:known], task, seed, groups)
    seen = np.stack([half > 0, half == 1, half == 2]).astype(np.float32)
    best, chosen, worse = math.inf, np.zeros(0), 0
    for outputs in fit_linear(axes, y, task, seen, classes=classes):
        lost = _loss(task, y[half == 2], outputs[1, half == 2]) + _loss(
            task, y[half == 1], outputs[2, half == 1]
        )
        worse = 0 if lost < best else worse + 1
        if lost < best:
            best, chosen = lost, outputs[0, known:]
        if worse == PATIENCE:
            break
    return chosen


def _halves(y: np.ndarray, task: str, seed: int, groups: np.ndarray | None) -> np.ndarray:
    """Return ``(n,)`` 0 or 1, the half of each example: of whole groups, with every class in both halves."""
    unit, first = np.arange(len(y)), np.arange(len(y))
    if groups is not None and len(np.unique(groups)) > 1:
        _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(first))
    if task in ("binary", "multiclass"):  # a group by its first example
        order = order[np.argsort(y[first[order]], kind="stable")]
    half = np.empty(len(first), np.intp)
    half[order] = np.arange(len(first)) % 2
    found: np.ndarray = half[unit]
    return found


def _loss(task: str, y: np.ndarray, outputs: np.ndarray) -> float:
    """Return the mean loss, by which a penalty is chosen: it tells more than a share of right answers."""
    if task == "regression":
        return float(np.mean((y.reshape(len(y), -1) - outputs) ** 2))
    if task == "multiclass":
        likely = outputs[np.arange(len(y)), y.astype(np.intp)]
    else:
        own = y.reshape(len(y), -1)
        likely = np.where(own > 0.5, outputs, 1 - outputs)
    return -float(np.mean(np.log(np.maximum(likely, 1e-12))))


# -- What a score is worth ---------------------------------------------------------------------------


def blocks_of(units: np.ndarray, seed: int) -> np.ndarray:
    """Return ``(n,)`` the block of each example, from 0; blocks are alike large, and of whole units.

    Args:
        units: ``(n,)``, equal for examples that belong together.
        seed: of the draw.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    filled = np.zeros(min(MOST_BLOCKS, len(sizes)))
    block = np.empty(len(sizes), np.intp)
    for one in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        block[one] = np.argmin(filled)
        filled[block[one]] += sizes[one]
    return block[unit]


def values_of_blocks(
    score_of: Callable[[np.ndarray], float], block: np.ndarray, is_share: bool = True
) -> np.ndarray:
    """Return what each block of examples makes of a score, ``(blocks,)``.

    Their mean is the score, and their spread tells its error: pseudo-values of a jackknife that leaves blocks
    out (Efron and Stein 1981, Annals of Statistics 9, 586–596), so that any score will do. That the models of
    a cross-validation come from examples, too, which most of them share, adds to the error by the overlap.

    Args:
        score_of: the score of some rows.
        block: ``(n,)`` of each example.
        is_share: whether the score lies between 0 and 1.
    """
    overlap = OVERLAP if is_share else OVERLAP_OF_ERRORS
    rows = np.arange(len(block))
    score, count = score_of(rows), int(block.max()) + 1
    without = np.array([score_of(rows[block != number]) for number in range(count)])
    found: np.ndarray = score - math.sqrt(overlap) * (count - 1) * (without - without.mean())
    return found


def interval(score: float, values: np.ndarray, examples: int, is_share: bool) -> tuple[float, float]:
    """Return the 95 % interval of a score.

    Of a share it is Wilson's (1927, Journal of the American Statistical Association 22, 209–212) for as many
    examples as its error is worth, so that it holds near 0 and 1; of an error, a factor on both sides.

    Args:
        score: of all examples.
        values: of the blocks.
        examples: that are independent of each other.
        is_share: whether the score lies between 0 and 1.
    """
    from scipy.special import stdtrit

    if len(values) < 2 or not np.isfinite([score, *values]).all():
        return math.nan, math.nan
    times = float(stdtrit(len(values) - 1, 1 - LEVEL / 2))
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    if not is_share:
        factor = math.exp(times * error / score) if score > 0 else 1.0
        return score / factor, score * factor
    worth = examples / OVERLAP
    if error > 0 and 0 < score < 1:
        worth = min(score * (1 - score) / error**2, worth)
    share = times**2 / worth
    half = math.sqrt(score * (1 - score) * share + share**2 / 4)
    ends = (score + share / 2 - half) / (1 + share), (score + share / 2 + half) / (1 + share)
    return max(ends[0], 0.0), min(ends[1], 1.0)
