"""Calibration: whether probabilities come true as often as they say, and what is settled to make them useful.

A temperature makes them believable (Guo et al. 2017, *On Calibration of Modern Neural Networks*); a threshold
says from which probability on the answer is yes. Both are chosen on a validation split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnbench.errors import CnnbenchError, nearest
from cnnbench.runs import metrics
from cnnbench.runs.schema import CalibrationRow

BINS = 15  # of equal width, as in most papers
DRAWS, MOST_GROUPS = 1000, 2000  # of the noise floor
WIDEST = 20.0  # a temperature is not looked for beyond it, nor below its inverse
PARTS = 5  # of the examples, each of which is left out once
PLAIN_AIMS = ("f1", "balanced_accuracy")
NUMBERED_AIMS = ("precision", "recall", "cost")
AIMS = (*PLAIN_AIMS, "precision=0.9", "recall=0.95", "cost=5")

Array = np.ndarray


def check_calibrated(name: str, task: str | None) -> None:
    """Refuse `training.calibration.NAME` for a task that has no such thing; `task` None: not known yet.

    Raises:
        CnnbenchError: it is of values, or a threshold of several classes.
    """
    if task == "regression":
        raise CnnbenchError(
            f"training.calibration.{name} is for probabilities, but the task of this data set is regression",
            "leave it out",
        )
    if name == "threshold" and task == "multiclass":
        raise CnnbenchError(
            "training.calibration.threshold is for two classes or for labels; of several classes the most "
            "probable is taken",
            "leave it out",
        )


# -- Reliability -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reliability:
    """How often probabilities come true, in bins of equal width.

    Attributes:
        said: mean probability ``(bins,)`` of each bin that has an example.
        came: share ``(bins,)`` of the examples that came true.
        count: examples ``(bins,)``.
        ece: expected calibration error, the mean over examples of `said` − `came`, without its sign.
        by_chance: mean ECE of perfectly calibrated probabilities of as many examples.
        by_chance_95: what only one in twenty such draws exceeds.
    """

    said: Array
    came: Array
    count: Array
    ece: float
    by_chance: float
    by_chance_95: float

    def row(self) -> CalibrationRow:
        """Return it as `metrics.json` has it."""
        return {"ece": self.ece, "by_chance": self.by_chance, "by_chance_95": self.by_chance_95}


def reliability(task: str, y_true: Array, outputs: Array) -> Reliability | None:
    """Compare probabilities with what came true; None for regression, and where one is not finite.

    Of several classes it is the probability of the predicted one, and whether it is right; of two that of
    class 1; of several labels that of every label of every example.

    Args:
        task: of the data set.
        y_true: as of `metrics.compute`.
        outputs: as of `metrics.compute`.
    """
    if task == "regression" or not len(y_true) or not np.isfinite(outputs).all():
        return None
    said, came = _events(task, y_true, outputs)
    place = np.minimum((said * BINS).astype(np.intp), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    sums, hits = (np.bincount(place, values, minlength=BINS) for values in (said, came))
    chance = _errors_by_chance(said, place, sums)
    used = count > 0
    return Reliability(
        sums[used] / count[used],
        hits[used] / count[used],
        count[used],
        float(np.abs(sums - hits).sum() / len(said)),
        float(chance.mean()),
        float(np.quantile(chance, 0.95)),
    )


def _events(task: str, y_true: Array, outputs: Array) -> tuple[Array, Array]:
    """Return probabilities ``(events,)`` float64, and whether each event came true."""
    said = outputs.reshape(len(outputs), -1).astype(np.float64)
    if task == "multiclass":
        return said.max(axis=1), said.argmax(axis=1) == y_true.reshape(-1)
    return said.reshape(-1), y_true.reshape(-1) > 0.5


def _errors_by_chance(said: Array, place: Array, sums: Array) -> Array:
    """Return the ECE ``(draws,)`` of examples that come true as often as they say.

    Each is drawn by itself; of many, those of one bin that say nearly the same are drawn together.
    """
    order = np.argsort(said, kind="stable")  # within the bins, which are in the same order
    rank = np.arange(len(said)) * min(len(said), MOST_GROUPS) // len(said)
    _, group = np.unique(place[order] * (MOST_GROUPS + 1) + rank, return_inverse=True)
    sizes = np.bincount(group)
    means = np.clip(np.bincount(group, said[order]) / sizes, 0, 1)
    random, shape = np.random.default_rng(0), (DRAWS, len(sizes))
    hits = random.binomial(sizes, means, shape) if sizes.max() > 1 else (random.random(shape) < means) * 1
    of_bins, first = np.unique(place[order][np.flatnonzero(np.diff(group, prepend=-1))], return_index=True)
    came = np.add.reduceat(hits, first, axis=1)
    return np.asarray(np.abs(came - sums[of_bins]).sum(axis=1) / len(said))


# -- Temperature -----------------------------------------------------------------------------------


def fit_temperature(task: str, y_true: Array, logits: Array, groups: Array | None = None) -> float | None:
    """Return the number that logits are best divided by: the one with the lowest cross-entropy.

    It must pay on examples that it was not fitted on, too: a fifth of them, five times, by more than one
    standard error. Where every answer is right, any smaller number would be better, and the first mistake
    elsewhere would cost without limit.

    Args:
        task: of the data set, with probabilities.
        y_true: as of `metrics.compute`.
        logits: of the same shape as the outputs, before softmax or sigmoid.
        groups: of each example ``(n,)``, which go wrong together: no group is in two of the parts.

    Returns:
        the temperature; None where 1 is as good, or no answer is wrong; of fewer than five groups, too, and
        where the best would lie outside of what is looked for.
    """
    z = logits.astype(np.float64)
    said = metrics.predicted_classes(z, (0.0,)) if task != "multilabel" else z > 0
    if (said == y_true.reshape(said.shape)).all():
        return None
    unit = np.arange(len(z)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    units = int(unit.max()) + 1
    if units < PARTS:
        return None
    part = (np.random.default_rng(0).permutation(units) % PARTS)[unit]
    gains = _losses(task, y_true, z, 1.0)
    for one in range(PARTS):
        out = part == one
        gains[out] -= _losses(task, y_true[out], z[out], _best_temperature(task, y_true[~out], z[~out]))
    of_units = np.bincount(unit, gains)
    if not of_units.mean() > of_units.std(ddof=1) / np.sqrt(units):
        return None
    found = _best_temperature(task, y_true, z)
    return found if abs(np.log(found)) < np.log(WIDEST) - 1e-3 else None


def _best_temperature(task: str, y_true: Array, z: Array) -> float:
    from scipy.optimize import minimize_scalar

    end = float(np.log(WIDEST))
    found = minimize_scalar(
        lambda log: _losses(task, y_true, z, float(np.exp(log))).sum(),
        bounds=(-end, end),
        method="bounded",
        options={"xatol": 1e-7},
    )
    return float(np.exp(found.x))


def _losses(task: str, y_true: Array, z: Array, temperature: float) -> Array:
    """Return the cross-entropy ``(n,)`` of each example, of labels the sum over them."""
    scaled = z / temperature
    if task == "multiclass":
        scaled -= scaled.max(axis=1, keepdims=True)
        of_truth = scaled[np.arange(len(scaled)), y_true.reshape(-1).astype(np.intp)]
        return np.asarray(np.log(np.exp(scaled).sum(axis=1)) - of_truth)
    each = np.logaddexp(0, np.where(y_true.reshape(scaled.shape) > 0.5, -1, 1) * scaled)
    return np.asarray(each.reshape(len(z), -1).sum(axis=1))


def probabilities_of(task: str, logits: Array, temperature: float = 1.0) -> Array:
    """Return the probabilities of logits, in the same shape and type."""
    from scipy import special

    scaled = logits / np.asarray(temperature, logits.dtype)
    return np.asarray(special.softmax(scaled, axis=1) if task == "multiclass" else special.expit(scaled))


def untempered(task: str, outputs: Array, temperature: float) -> Array:
    """Return the probabilities that a model would give without its temperature, in the same shape."""
    from scipy import special

    tiny = float(np.finfo(np.float32).tiny)
    said = outputs.astype(np.float64)
    if task == "multiclass":
        return np.asarray(special.softmax(temperature * np.log(np.maximum(said, tiny)), axis=1))
    return np.asarray(special.expit(temperature * special.logit(np.clip(said, tiny, 1 - 2**-25))))


# -- Threshold -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aim:
    """What a threshold is chosen for.

    Attributes:
        name: `f1`, `balanced_accuracy`: the highest; `precision`: the highest recall with at least that
            precision; `recall`: the highest precision with at least that recall; `cost`: the lowest sum of
            false alarms and of missed ones, each of which costs that many false alarms.
        value: of the last three.
    """

    name: str
    value: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Aim:
        """Read an aim as it is typed, such as `precision=0.9`.

        Raises:
            CnnbenchError: there is no such aim, or its number is missing or out of range.
        """
        name, sign, number = text.partition("=")
        if name in PLAIN_AIMS and not sign:
            return cls(name)
        if name not in NUMBERED_AIMS:
            hint = nearest(text, AIMS) if name not in PLAIN_AIMS else f"leave out ={number}"
            raise CnnbenchError(f"training.calibration.threshold={text}: there is no such aim", hint)
        try:
            value = float(number)
        except ValueError:
            value = np.nan
        if not (0 < value < np.inf and (name == "cost" or value < 1)):
            wanted = "a number above 0" if name == "cost" else "a number between 0 and 1"
            example = next(one for one in AIMS if one.startswith(name))
            raise CnnbenchError(
                f"training.calibration.threshold={text}: {name} needs {wanted}",
                f"training.calibration.threshold={example}",
            )
        return cls(name, value)

    def threshold(self, y_true: Array, probabilities: Array) -> tuple[float, bool] | None:
        """Return the best threshold of examples, and whether it reaches what was asked for.

        It lies in the middle between two probabilities, rounded to float32; of equally good ones the nearest
        to 0.5 is taken.

        Args:
            y_true: ``(n,)`` 0 or 1.
            probabilities: ``(n,)`` of 1.

        Returns:
            None where all examples are of one kind.
        """
        is_one = y_true.reshape(-1) > 0.5
        positives = int(is_one.sum())
        negatives = len(is_one) - positives
        if not positives or not negatives:
            return None
        order = np.argsort(probabilities, kind="stable")
        values = probabilities[order].astype(np.float32)
        cuts = np.array([0, *(np.flatnonzero(np.diff(values)) + 1), len(values)])  # from each on it is a yes
        hits = positives - np.concatenate([[0], np.cumsum(is_one[order])])[cuts]
        alarms = negatives - (cuts - (positives - hits))
        ends = np.concatenate([[0.0], values, [1.0]]).astype(np.float32)
        below, above = ends[cuts], ends[cuts + 1]
        middle = ((below.astype(np.float64) + above) / 2).astype(np.float32)
        thresholds = np.where(middle < above, middle, below)
        possible = (thresholds < above) | (cuts == len(values))  # a probability of 0 is never above it
        best, reached = self._best(hits / positives, hits, alarms, negatives, possible)
        chosen = best[np.argmin(np.abs(thresholds[best] - 0.5))]
        return float(thresholds[chosen]), bool(reached)

    def _best(
        self, recall: Array, hits: Array, alarms: Array, negatives: int, possible: Array
    ) -> tuple[Array, bool]:
        """Return the places of the best cuts, and whether they reach the number of the aim."""
        precision = hits / np.maximum(hits + alarms, 1)
        enough = possible
        if self.name == "f1":
            first = second = 2 * hits / (hits + alarms + hits[0])
        elif self.name == "balanced_accuracy":
            first = second = recall + 1 - alarms / negatives
        elif self.name == "cost":
            first = second = -(alarms + self.value * (hits[0] - hits))
        elif self.name == "recall":
            enough, first, second = possible & (recall >= self.value), precision, recall
        else:
            enough, first, second = possible & (precision >= self.value), recall, precision
        reached = bool(enough.any())
        if not reached:  # as near as there is
            enough, first, second = possible, second, first
        places = np.flatnonzero(enough)
        places = places[first[places] >= first[places].max() - 1e-12]
        return places[second[places] >= second[places].max() - 1e-12], reached
