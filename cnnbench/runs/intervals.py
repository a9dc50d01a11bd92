"""Intervals around the figures of a split: what another draw of as many examples might have given.

They speak of the examples alone. How much another seed changes a figure is for `compare` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cnnbench.runs import metrics

LEVEL = 0.95
DRAWS = 1000  # of the bootstrap, where each is a sum of counts
FEW_DRAWS = 200  # where each is a computation of its own: enough for a deviation, not for a quantile
MOST_UNITS = 2000  # that are drawn: more examples are put together at random, whose sums vary as theirs do
MOST_CELLS = 40_000  # of a confusion matrix that is drawn anew
MOST_PRODUCTS = 50_000_000  # examples × labels × DRAWS
MOST_VALUES = 2_000_000  # examples × labels, or examples in all draws of FEW_DRAWS
WILSON, STUDENT, DELONG, BOOTSTRAP = "Wilson", "Student", "DeLong", "bootstrap"

Floats = np.ndarray


@dataclass(frozen=True)
class Interval:
    """Where a figure lies at 95 %, were the examples drawn anew.

    Attributes:
        low: its lower end.
        high: its upper end.
        method: Wilson (1927) of a share of independent examples; Student's of a mean; DeLong (1988) of the
            area under the ROC curve; bootstrap: percentiles of 1,000 draws, or, of what is costly to compute,
            1.96 deviations of 200. With groups, groups are drawn instead of examples.
    """

    low: float
    high: float
    method: str


def intervals_of(
    task: str,
    y_true: Floats,
    outputs: Floats,
    figures: Mapping[str, float],
    losses: Floats | None = None,
    groups: Floats | None = None,
    thresholds: metrics.Thresholds = None,
) -> dict[str, Interval]:
    """Return the interval of each figure that has one; too few examples, or too many values, have none.

    Args:
        task: of the data set.
        y_true: as of `metrics.compute`.
        outputs: as of `metrics.compute`, finite.
        figures: of these examples, by name.
        losses: of each example ``(n,)``, without what regularizers add; None: the loss has no interval.
        groups: of each example ``(n,)``: what belongs together is drawn together.
        thresholds: by which the figures were computed, as of `metrics.compute`.
    """
    if len(y_true) < 2 or not np.isfinite(outputs).all():
        return {}
    drawn = _Draws(len(y_true), groups)
    if drawn.units < 2:
        return {}
    kinds = {"regression": _of_values, "multilabel": _of_labels}
    found = _of_losses(losses, figures, drawn)
    found |= kinds.get(task, _of_classes)(task, y_true, outputs, figures, drawn, thresholds)
    left = {name: value for name, value in figures.items() if name not in found}
    found |= _of_anything(task, y_true, outputs, left, drawn, thresholds)
    # Where nothing differs from draw to draw, as where all are right, there is nothing to draw from.
    return {
        name: found[name] for name in figures if name in found and found[name].low < found[name].high < np.inf
    }


def share_interval(hits: Floats, groups: Floats | None = None) -> Interval:
    """Return the interval of a share of examples: Wilson's, or with groups by drawing these.

    Args:
        hits: ``(n,)`` whether each example counts.
        groups: of each example ``(n,)``.
    """
    return _of_share(hits, _Draws(len(hits), groups))


def mean_interval(values: Floats, groups: Floats | None = None) -> Interval:
    """Return the interval of a mean over examples: Student's, or with groups by drawing these.

    Args:
        values: ``(n,)``, two at least.
        groups: of each example ``(n,)``.
    """
    return _of_mean(values, _Draws(len(values), groups))


class _Draws:
    """Draws of examples with replacement, or of whole groups of them.

    Args:
        examples: how many there are.
        groups: of each example; None: each stands alone.
    """

    def __init__(self, examples: int, groups: Floats | None) -> None:
        self.alone = groups is None
        self.unit = np.arange(examples) if groups is None else np.unique(groups, return_inverse=True)[1]
        self.units = int(self.unit.max()) + 1
        self.alone = self.alone or self.units == examples
        if self.units > MOST_UNITS:
            self.unit = self.generator().permutation(self.units)[self.unit] % MOST_UNITS
            self.units = MOST_UNITS

    def generator(self) -> np.random.Generator:
        """Return the same numbers for every metric and every time: an interval is no matter of luck."""
        return np.random.default_rng(0)

    def sums(self, values: Floats) -> Floats:
        """Return the sums ``(draws, columns)`` over what is drawn, of values ``(n, columns)``."""
        totals = np.zeros((self.units, values.shape[1]))
        np.add.at(totals, self.unit, values)
        generator, every = self.generator(), np.full(self.units, 1 / self.units)
        return np.asarray(generator.multinomial(self.units, every, DRAWS) @ totals)

    def weights(self) -> Floats:
        """Return how often each example is in each draw ``(draws, n)``."""
        counts = self.generator().multinomial(self.units, np.full(self.units, 1 / self.units), DRAWS)
        return np.asarray(counts[:, self.unit], float)

    def rows(self) -> Iterator[Floats]:
        """Return the indices of the examples of one draw after the other."""
        generator = self.generator()
        members = np.split(np.argsort(self.unit, kind="stable"), np.cumsum(np.bincount(self.unit))[:-1])
        for _ in range(FEW_DRAWS):
            chosen = generator.integers(self.units, size=self.units)
            yield np.concatenate([members[unit] for unit in chosen])


def _of_losses(losses: Floats | None, figures: Mapping[str, float], drawn: _Draws) -> dict[str, Interval]:
    """Return the interval of the loss: of its mean, moved by what regularizers add to each."""
    if losses is None or "loss" not in figures or not np.isfinite(losses).all():
        return {}
    found = _of_mean(losses.astype(np.float64), drawn)
    added = figures["loss"] - float(losses.mean())
    return {"loss": Interval(found.low + added, found.high + added, found.method)}


def _of_mean(values: Floats, drawn: _Draws) -> Interval:
    from scipy import stats

    if not drawn.alone:
        sums = drawn.sums(np.stack([values, np.ones(len(values))], axis=1))
        return _percentiles(sums[:, 0] / sums[:, 1])
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Interval(float(values.mean()) - half, float(values.mean()) + half, STUDENT)


def _percentiles(values: Floats) -> Interval:
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(np.nan, np.nan, BOOTSTRAP)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), BOOTSTRAP)


def _of_share(hits: Floats, drawn: _Draws, among: Floats | None = None) -> Interval:
    """Return the interval of the share of hits, of all examples or among some."""
    from scipy import stats

    among = np.ones(len(hits), bool) if among is None else among
    if drawn.alone:
        count = int(among.sum())
        if not count:
            return Interval(np.nan, np.nan, WILSON)
        found = stats.binomtest(int((hits & among).sum()), count).proportion_ci(LEVEL, "wilson")
        return Interval(float(found.low), float(found.high), WILSON)
    sums = drawn.sums(np.stack([hits & among, among], axis=1).astype(float))
    with np.errstate(invalid="ignore"):
        return _percentiles(sums[:, 0] / sums[:, 1])


# -- Classes ---------------------------------------------------------------------------------------


def _of_classes(
    task: str,
    y_true: Floats,
    outputs: Floats,
    figures: Mapping[str, float],
    drawn: _Draws,
    thresholds: metrics.Thresholds,
) -> dict[str, Interval]:
    truth, said = y_true.reshape(-1).astype(int), metrics.predicted_classes(outputs, thresholds)
    found = {"accuracy": _of_share(truth == said, drawn)}
    if task == "binary":
        found["precision"] = _of_share(truth == 1, drawn, said == 1)
        found["recall"] = _of_share(said == 1, drawn, truth == 1)
        if "roc_auc" in figures and drawn.alone:
            found["roc_auc"] = _of_roc(truth == 1, outputs.reshape(-1))
    for name in figures:
        if top := metrics.TOP.fullmatch(name):
            of_truth = outputs[np.arange(len(truth)), truth]
            found[name] = _of_share((outputs > of_truth[:, None]).sum(axis=1) < int(top[1]), drawn)
    wanted = [name for name in figures if name in _OF_COUNTS and name not in found]
    classes = max(int(truth.max()), int(said.max())) + 1
    if wanted and classes**2 <= MOST_CELLS:
        counts = _confusions(truth, said, classes, drawn)
        found |= {name: _percentiles(_OF_COUNTS[name](counts)) for name in wanted}
    return found


def _confusions(truth: Floats, said: Floats, classes: int, drawn: _Draws) -> Floats:
    """Return confusion matrices ``(draws, classes, classes)`` of draws of the examples."""
    used, place, sizes = np.unique(truth * classes + said, return_inverse=True, return_counts=True)
    counts = np.zeros((DRAWS, classes**2))
    if drawn.alone:  # as many of each cell as chance gives, without drawing a single example
        counts[:, used] = drawn.generator().multinomial(len(truth), sizes / len(truth), DRAWS)
    else:
        counts[:, used] = drawn.sums(np.eye(len(used))[place])
    return counts.reshape(DRAWS, classes, classes)


def _by_class(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Return right ones, true ones and predicted ones ``(draws, classes)``."""
    return np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2), counts.sum(axis=1)


def _mean_over(values: Floats, counted: Floats) -> Floats:
    return np.asarray(np.where(counted, values, 0).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1))


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part, dtype=float), where=whole > 0))


def _balanced_accuracy(counts: Floats) -> Floats:
    right, true, _ = _by_class(counts)
    return _mean_over(_ratio(right, true), true > 0)


def _f1(counts: Floats) -> tuple[Floats, Floats]:
    """Return f1 of each class ``(draws, classes)``, and which classes are there, or are predicted."""
    right, true, said = _by_class(counts)
    return _ratio(2 * right, true + said), true + said > 0


_OF_COUNTS: dict[str, Callable[[Floats], Floats]] = {
    "balanced_accuracy": _balanced_accuracy,
    "f1": lambda counts: np.where(_f1(counts)[1], _f1(counts)[0], np.nan)[:, 1],
    "f1_macro": lambda counts: _mean_over(*_f1(counts)),
}


def _of_roc(positive: Floats, scores: Floats) -> Interval:
    """Return DeLong's interval of the area under the ROC curve, on the scale of its logit within 0 and 1."""
    from scipy import stats

    many, few = scores[positive].astype(np.float64), scores[~positive].astype(np.float64)
    if min(len(many), len(few)) < 2:
        return Interval(np.nan, np.nan, DELONG)
    ranks = stats.rankdata(np.concatenate([many, few]))
    above = (ranks[: len(many)] - stats.rankdata(many)) / len(few)  # the share of the others below each
    below = 1 - (ranks[len(many) :] - stats.rankdata(few)) / len(many)
    area = float(above.mean())
    variance = float(above.var(ddof=1)) / len(many) + float(below.var(ddof=1)) / len(few)
    if not 0 < area < 1 or not variance:
        return Interval(np.nan, np.nan, DELONG)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * variance**0.5 / (area * (1 - area))
    ends = np.log(area / (1 - area)) + np.array([-half, half])
    low, high = 1 / (1 + np.exp(-ends))
    return Interval(float(low), float(high), DELONG)


# -- Labels and values -----------------------------------------------------------------------------


def _of_labels(
    task: str,
    y_true: Floats,
    outputs: Floats,
    figures: Mapping[str, float],
    drawn: _Draws,
    thresholds: metrics.Thresholds,
) -> dict[str, Interval]:
    truth, said = y_true > 0.5, metrics.predicted_labels(outputs, thresholds) > 0
    found = {"subset_accuracy": _of_share((truth == said).all(axis=1), drawn)}
    if drawn.units * truth.shape[1] <= MOST_VALUES:
        labels = truth.shape[1]
        sums = drawn.sums(np.hstack([truth & said, truth, said]).astype(float))
        right, true, predicted = (sums[:, at * labels : (at + 1) * labels] for at in range(3))
        total = _ratio(2 * right.sum(axis=1), (true + predicted).sum(axis=1))
        found["f1_micro"] = _percentiles(total)
        each = _ratio(2 * right, true + predicted)
        found["f1_macro"] = _percentiles(_mean_over(each, true + predicted > 0))
    if "mean_average_precision" in figures and outputs.size * DRAWS <= MOST_PRODUCTS:
        weights = drawn.weights()
        each = np.stack([_average_precision(*pair, weights) for pair in zip(truth.T, outputs.T, strict=True)])
        with np.errstate(invalid="ignore"):
            found["mean_average_precision"] = _percentiles(np.nanmean(each, axis=0))
    return found


def _average_precision(truth: Floats, scores: Floats, weights: Floats) -> Floats:
    """Return the average precision ``(draws,)`` of a label, of examples that count as their weights say.

    NaN where a draw has no example with the label. Examples of one score count as if in some order.
    """
    order = np.argsort(-scores, kind="stable")
    taken = weights[:, order]
    right = taken * truth[order]
    precision = _ratio(right.cumsum(axis=1), taken.cumsum(axis=1))
    every = right.sum(axis=1)
    return np.where(every > 0, (right * precision).sum(axis=1) / np.maximum(every, 1), np.nan)


def _of_values(
    task: str,
    y_true: Floats,
    outputs: Floats,
    figures: Mapping[str, float],
    drawn: _Draws,
    thresholds: metrics.Thresholds,
) -> dict[str, Interval]:
    if outputs.ndim > 1 and outputs.shape[1] > 1:
        return {}
    truth = y_true.reshape(-1).astype(np.float64)
    errors = outputs.reshape(-1).astype(np.float64) - truth
    square = _of_mean(errors**2, drawn)
    if square.method == STUDENT and (
        mean := float((errors**2).mean())
    ):  # of its logarithm: squares are skewed
        wide = (square.high - mean) / mean
        square = Interval(mean / np.exp(wide), mean * np.exp(wide), STUDENT)
    found = {"mae": _of_mean(np.abs(errors), drawn), "mse": square}
    found["rmse"] = Interval(square.low**0.5, square.high**0.5, square.method)
    centred = truth - truth.mean()  # for the sums' precision
    sums = drawn.sums(np.stack([errors**2, centred, centred**2, np.ones(len(truth))], axis=1))
    spread = sums[:, 2] - sums[:, 1] ** 2 / sums[:, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        found["r2"] = _percentiles(np.where(spread > 0, 1 - sums[:, 0] / spread, np.nan))
    return found


def _of_anything(
    task: str,
    y_true: Floats,
    outputs: Floats,
    figures: Mapping[str, float],
    drawn: _Draws,
    thresholds: metrics.Thresholds,
) -> dict[str, Interval]:
    """Return the intervals of what has no quicker way, by a few draws of the examples."""
    names = [name for name in figures if name != "loss"]
    if not names or outputs.size * FEW_DRAWS > 10 * MOST_VALUES:
        return {}
    draws = [
        metrics.compute_named(task, y_true[rows], outputs[rows], names, thresholds) for rows in drawn.rows()
    ]
    found = {}
    for name in names:
        values = np.array([figures[name] for figures in draws if name in figures])
        if len(values) < FEW_DRAWS / 2:
            continue
        half = 1.96 * float(values.std(ddof=1))
        low, high = figures[name] - half, figures[name] + half
        if metrics.is_share(name):
            low, high = max(low, 0.0), min(high, 1.0)
        found[name] = Interval(low, high, BOOTSTRAP)
    return found
