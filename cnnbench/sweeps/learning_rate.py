"""The range test of a learning rate (Smith 2017): it rises with every step until the loss diverges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np

from cnnbench import system
from cnnbench.data import Feed
from cnnbench.errors import CnnbenchError
from cnnbench.models import split_at_features
from cnnbench.nn import load_checkpoint
from cnnbench.runs import RunFolder, RunSpec
from cnnbench.sweeps.schema import RangeTest
from cnnbench.training import (
    Built,
    build_run,
    cached_features,
    can_cache,
    choose_batch_size,
    compile_for_fine_tuning,
    network,
    prepare_machine,
    run,
    strategy,
    train_in_chunks,
)

FINE_TUNING = "fine_tuning"
LOW, HIGH = 1e-6, 10.0
STEPS, FEWEST, MOST_EPOCHS = 150, 60, 10  # of a test; fewer of small data, or they are seen too often
SMOOTHING = 0.9  # share of the loss so far in each smoothed one
DIVERGED = 4.0  # times the lowest smoothed loss
WARM = 10  # steps before which nothing is concluded
SAFE = 10.0  # times below the rate with the lowest loss
FALLEN = 0.98  # of the first loss; a lowest one above has not fallen


def find_learning_rate(spec: RunSpec, phase: str, seeds: int, tell: Callable[[str], object]) -> RangeTest:
    """Test the learning rate of a run from its own weights, on its own batches.

    Args:
        spec: of the run; no folder is made.
        phase: `training`, or `fine_tuning`, which begins with the head that the training has made.
        seeds: each tests other weights, batches and, where it is drawn, another validation split.
        tell: is told what is done next.
    """
    curves = []
    for number in range(seeds):
        tell(f"seed {spec.seed + number}")
        curves.append(_curve(replace(spec, seed=spec.seed + number), phase, tell))
    return judge(phase, curves)


def judge(phase: str, curves: Sequence[Sequence[tuple[float, float]]]) -> RangeTest:
    """Suggest a learning rate.

    Args:
        phase: that was tested.
        curves: of each seed the learning rate and the loss of each step, in order; a loss that is not finite
            ends it.
    """
    found = [_points(curve) for curve in curves]
    tests = [one for one in found if one is not None]
    size = min(len(curve) for curve in curves)
    smoothed = [_smoothed([loss for _, loss in curve]) for curve in curves]

    def middle(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.exp(np.mean(np.log(known)))) if known else None

    lowest, steepest = (middle([one[name] for one in tests]) for name in ("lowest", "steepest"))
    suggestion = None if lowest is None else float(f"{lowest / SAFE:.2g}")
    return RangeTest(
        phase=phase,
        suggestion=suggestion,
        lowest=lowest,
        steepest=steepest,
        diverged=middle([one["diverged"] for one in tests]),
        suggestions=[float(f"{one['lowest'] / SAFE:.2g}") for one in tests],
        rates=[rate for rate, _ in curves[0][:size]],
        losses=np.mean([one[:size] for one in smoothed], axis=0).tolist(),
    )


def _points(curve: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """Return the rates of the lowest loss, its steepest fall and where it diverges; None without a fall."""
    rates, losses = (np.array(values) for values in zip(*curve, strict=True))
    smoothed = _smoothed(losses)
    finite = np.isfinite(smoothed)
    count = len(finite) if finite.all() else int(finite.argmin())
    if count <= WARM:
        return None
    lowest = WARM + int(np.argmin(smoothed[WARM:count]))
    if smoothed[lowest] >= FALLEN * np.mean(losses[:WARM]):
        return None
    slopes = np.gradient(_smoothed(smoothed[:count])[: lowest + 1], np.log(rates[: lowest + 1]))
    steepest = WARM + int(np.argmin(slopes[WARM:]))
    diverged = count < len(rates) or smoothed[count - 1] > DIVERGED * smoothed[lowest]
    return {
        "lowest": float(rates[lowest]),
        "steepest": float(rates[steepest]),
        "diverged": float(rates[count - 1]) if diverged else None,
    }


def _smoothed(losses: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return exponential averages of the losses so far, corrected for having begun at 0."""
    averages, average = [], 0.0
    for step, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        averages.append(average / (1 - SMOOTHING**step))
    return np.array(averages)


# -- One test ---------------------------------------------------------------------------------------


def _curve(spec: RunSpec, phase: str, tell: Callable[[str], object]) -> list[tuple[float, float]]:
    dataset = spec.drawn(spec.dataset())
    run.check_task(spec, dataset)
    spec = run.settled_training(spec, dataset)
    if phase == FINE_TUNING and spec.training.fine_tuning is None:
        raise CnnbenchError(f"this run has {spec.notes[-1]}", "training.fine_tuning.from_examples=1")
    weights = None
    if phase == FINE_TUNING:
        tell("training the head first")
        weights = _trained(spec)
    training = spec.training
    settled = training.precision
    machine = prepare_machine(spec.seed, spec.deterministic, spec.device, settled)
    if training.batch_size == "auto":
        spec = run.with_batch_size(spec, choose_batch_size(network(spec, dataset), dataset, machine))
        machine = prepare_machine(spec.seed, spec.deterministic, spec.device, settled)
    one_by_one = spec.training.model_copy(update={"steps_per_execution": 1})
    spec = replace(spec, training=one_by_one, rehearses=one_by_one)
    devices = strategy(training.distribute, spec.training.examples_per_step)
    with devices.scope(), system.shortage_explained(spec.training.examples_per_step):
        built = build_run(spec, dataset, settled, machine, devices.num_replicas_in_sync)
        return _ramped(spec, built, weights, tell)


def _trained(spec: RunSpec) -> list[np.ndarray]:
    """Return the weights with which fine-tuning begins."""
    training = spec.training.model_copy(update={"fine_tuning": None, "max_minutes": None})
    with TemporaryDirectory(prefix="cnnbench-lr-find-") as folder:
        place = Path(folder) / "run"
        run.run(replace(spec, run_dir=place, training=training, trackers={}))
        return load_checkpoint(RunFolder(place).best_model).get_weights()  # type: ignore[no-any-return]


def _ramped(
    spec: RunSpec, built: Built, weights: list[np.ndarray] | None, tell: Callable[[str], object]
) -> list[tuple[float, float]]:
    model, feed, training = built.model, built.train, spec.training
    steps = int(np.clip(MOST_EPOCHS * feed.steps, FEWEST, STEPS))

    def ramp(*_: Any) -> Any:
        return keras.optimizers.schedules.ExponentialDecay(LOW, steps - 1, HIGH / LOW)

    if weights is not None:
        assert training.fine_tuning is not None
        model.set_weights(weights)
        settings = training.fine_tuning.model_copy(update={"unfreeze_epochs": None, "l2_sp": 0.0})
        compile_for_fine_tuning(model, settings, feed.steps, lambda part, _: built.compile(part, ramp), {})
    else:
        if training.cache_features and can_cache(model) and feed.augment is None:
            tell("computing features")
            model_of_features, model = split_at_features(model)
            feed = cached_features(model_of_features, feed)
        built.compile(model, ramp)
    tell(f"{steps} steps")
    if built.engine.resident:
        train_in_chunks(model, feed, replace(built.engine, network=""))
    watched = _Ramp(feed, [LOW * (HIGH / LOW) ** (step / (steps - 1)) for step in range(steps)])
    model.fit(
        feed.numbers if built.engine.resident else feed.dataset,
        shuffle=False,
        epochs=-(-steps // feed.steps),
        callbacks=[watched],
        verbose=0,
    )
    return watched.curve


class _Ramp(keras.callbacks.Callback):
    """Note the loss of each step, and stop where it diverges.

    Args:
        feed: what is trained on.
        rates: of the steps.
    """

    def __init__(self, feed: Feed, rates: Sequence[float]) -> None:
        super().__init__()
        self.feed, self.rates = feed, rates
        self.curve: list[tuple[float, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.feed.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.curve.append((self.rates[len(self.curve)], float((logs or {})["loss"])))
        self.model.reset_metrics()  # the next is of one step, too
        smoothed = _smoothed([loss for _, loss in self.curve])
        is_over = len(self.curve) == len(self.rates) or not math.isfinite(smoothed[-1])
        is_high = len(self.curve) > WARM and smoothed[-1] > DIVERGED * smoothed[WARM:].min()
        if is_over or is_high:
            self.model.stop_training = True
