"""Training of a run, each phase of it by Keras's `fit`."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cnnbench.data import Feed
from cnnbench.models import split_at_features, trained_blocks, unfreeze
from cnnbench.nn import Rate, load_checkpoint, schedules, set_rates
from cnnbench.runs import FineTuning, RunFolder, Speed, Training, budget, length, metrics, span
from cnnbench.system import Interruption
from cnnbench.training import diagnose
from cnnbench.training.callbacks import (
    BestCheckpoint,
    Deadline,
    Recorder,
    TrainingDivergedError,
    Unfreezing,
    ValidationMetrics,
)
from cnnbench.training.chunks import (
    Chunks,
    Engine,
    build_metrics,
    compiled_if_worth,
    evaluate_in_chunks,
    train_in_chunks,
)
from cnnbench.training.features import cached_features, with_features
from cnnbench.training.measure import forward_graph
from cnnbench.training.model import can_cache
from cnnbench.training.resume import State, StateSaver, restore

if TYPE_CHECKING:
    from cnnbench.training.build import Built

log = logging.getLogger("cnnbench")
FIRST, FINE_TUNING = "training", "fine_tuning"  # the phases, each with a compilation of its own
# A plan by time: seconds of the steps that are timed in each phase, at most, and their share of the run;
# epochs of them, where one is a single chunk; examples of a forward pass. What comes after the training:
# reading the checkpoint, in times of its writing, and pictures; all with some room.
TIMED_SECONDS, TIMED_SHARE, TIMED_EPOCHS, FORWARD = 2.0, 0.02, 20, 64
LOADS, PICTURE_SECONDS, ROOM = 8, 6.0, 1.25


@dataclass(frozen=True)
class Fitting:
    """Training of one run: the parts that stay the same from phase to phase.

    Attributes:
        model: the whole model, compiled.
        train, val: its feeds; `val` is None without a validation split.
        task: of the data set.
        training: epochs, metrics, caching, fine-tuning.
        compile: compiles a model as the config says, with this learning rate or a function that makes a
            schedule (None: the configured one).
        recorder: comes before every other callback.
        callbacks: the configured ones.
        saver: comes after every other callback.
        interruption: notices a wish to stop.
        engine: how steps are executed.
        folder: keeps the best checkpoint, and the step that broke a training.
        rehearses: the training that this one tries; None for one of its own.
        deadlines: by phase, of a training whose time is limited.
        features: precision of those to train on, as `features_of` takes it.
    """

    model: keras.Model
    train: Feed
    val: Feed | None
    task: str
    training: Training
    compile: Callable[[keras.Model, Any], None]
    recorder: Recorder
    callbacks: Sequence[keras.callbacks.Callback]
    saver: StateSaver
    interruption: Interruption
    engine: Engine
    folder: RunFolder
    rehearses: Training | None = None
    deadlines: Mapping[str, Deadline] = field(default_factory=dict)
    features: str = "float32"

    @property
    def checkpoints(self) -> list[BestCheckpoint]:
        return [callback for callback in self.callbacks if isinstance(callback, BestCheckpoint)]

    def run(self, state: State | None = None) -> None:
        """Train; the folder then holds the best checkpoint.

        Args:
            state: to continue from, or None.

        Raises:
            TrainingDivergedError: the loss turned NaN or infinite; it says why.
            RuntimeError: no epoch had a finite monitored value.
        """
        for checkpoint in self.checkpoints:
            checkpoint.write = self.folder.write_best
        tuning = self.training.fine_tuning
        anchors = anchors_of(self.model, tuning) if tuning is not None else {}
        if state is not None:
            self.saver.seconds_before = state.position.seconds
        if state is None or state.position.phase == FIRST:
            if self.training.cache_features and can_cache(self.model) and self.train.augment is None:
                self._fit_head(state)
            else:
                self._fit(self.model, self.train, self.val, FIRST, 0, self._limits, state)
            self._keep_last()
        if tuning is not None:
            if (deadline := self.deadlines.get(FINE_TUNING)) is not None and deadline.is_over:
                log.warning("no fine-tuning: %s is over", deadline.of)
            else:
                self._fine_tune(tuning, anchors, state)
                self._keep_last()
        if not self.folder.best_model.exists():
            monitor = self.checkpoints[0].monitor
            raise RuntimeError(f"no epoch had a finite {monitor} and finite weights: there is no best model")

    def _fit_head(self, state: State | None) -> None:
        """Train the head on a frozen backbone, whose features are computed once."""
        extractor, head = split_at_features(self.model)
        train = cached_features(extractor, self.train, self.features)
        val = self.val and cached_features(extractor, self.val, "float32")  # as best.keras computes them
        log.info("features computed once: %s values per example", extractor.output_shape[-1])
        self.compile(head, None)
        for checkpoint in self.checkpoints:
            checkpoint.whole = self.model
        self._fit(head, train, val, FIRST, 0, self._limits, state)
        for checkpoint in self.checkpoints:
            checkpoint.whole = None

    @property
    def _limits(self) -> tuple[int, int | None]:
        return self.training.epochs, self.training.max_steps

    def _fine_tune(self, settings: FineTuning, anchors: Mapping[str, Any], state: State | None) -> None:
        """Continue from the best epoch with a part of the backbone unfrozen."""
        if state is not None and state.position.phase != FINE_TUNING:
            state = None
        self.model.set_weights(load_checkpoint(self.folder.best_model).get_weights())
        blocks, shares = compile_for_fine_tuning(
            self.model, settings, self.train.steps, self.compile, anchors
        )
        done = len(self.folder.history)
        if state is not None and state.position.first is not None:
            done = state.position.first
        callbacks = []
        if settings.unfreeze_epochs is not None:

            def tell(trained: int) -> None:
                names = trained, len(blocks), blocks[trained - 1][0].name
                log.info("fine-tuning: %s of %s blocks of the backbone are trained, down to %s", *names)

            callbacks.append(Unfreezing(shares, done, settings.unfreeze_epochs, tell))
        if shares or settings.layer_decay < 1:
            log.info(_blocks_in_words(settings, self.train.steps, blocks), extra={"notice": True})
        limits = settings.epochs, settings.max_steps
        self._fit(self.model, self.train, self.val, FINE_TUNING, done, limits, state, callbacks)

    def _fit(
        self,
        model: keras.Model,
        train: Any,
        val: Any,
        phase: str,
        first: int,
        limits: tuple[int, int | None],
        state: State | None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        """Train as many epochs, or steps, as `limits` says, from epoch `first` or from `state` on.

        A part of an epoch takes a `fit` of its own, since Keras counts a data set's steps once.
        """
        epochs, extra = span(*limits, train.steps)
        last = first + epochs
        begin = step = 0
        if state is not None:
            restore(model, state)
            at = state.position
            if phase != FIRST:  # counted from where the phase began, which only the state knows
                last = at.until
            last = max(last, at.epoch)  # fewer epochs may have been accepted as a change
            begin, step = at.epoch, at.step
        is_ended = state is not None and state.position.stopped
        parts = [(train, begin, begin)] if is_ended else _parts(train, max(begin, first), step, last, extra)
        chunks = None
        if self.engine.resident:
            chunks = self._chunks(model, train, val, phase, last - first)
        elif len(parts) > 1:
            build_metrics(model, train.dataset.element_spec)  # they go on, too
        self.saver.begin(phase, first, last, state, [end for *_, end in parts[:-1]])
        limited = [self.deadlines[phase]] if phase in self.deadlines else []
        every = _Callbacks(
            [
                *self._chosen_metrics(val),
                self.recorder,
                *callbacks,
                *self.callbacks,
                *limited,
                self.saver,
            ],
            model=model,
            add_history=True,
            epochs=last,
        )
        every.begin()
        for feed, begin, end in parts:
            self._fit_part(model, feed, val, begin, end, every, chunks)
            if model.stop_training:
                break
            if end < last and self.saver.latest:
                # At the end of `fit` an optimizer may put averages in the place of the weights.
                diagnose.restore(model, self.saver.latest)
        every.end()
        for deadline in limited:
            if deadline.stopped is not None:
                log.warning("stopped in epoch %s of %s: %s is over", deadline.stopped, last, deadline.of)

    def _chunks(self, model: keras.Model, train: Feed, val: Feed | None, phase: str, epochs: int) -> Chunks:
        """Let a model train and be evaluated by chunks; what is not the whole run's decides on XLA anew."""
        if isinstance(chunks := model.train_function, Chunks):  # of a run before
            if val is not None:
                model.test_function.feed = val
            return chunks
        engine, tried = self.engine, self.rehearses
        if tried is not None:
            epochs = tried.epochs if phase == FIRST or tried.fine_tuning is None else tried.fine_tuning.epochs
        if engine.network and (phase, model) != (FIRST, self.model):
            told = (phase, train.batch_size)
            engine = compiled_if_worth(engine, model, epochs * train.steps, *told, remembers=tried is None)
        if tried is not None:
            engine = replace(engine, network="")  # nor are the seconds of its compilation remembered
        chunks = train_in_chunks(model, train, engine)
        if val is not None:
            chunks.meanwhile.append(evaluate_in_chunks(model, val, engine).trace)
        return chunks

    def _chosen_metrics(self, val: Feed | None) -> list[keras.callbacks.Callback]:
        wanted = dict.fromkeys([metrics.OBJECTIVE[self.task], *(self.training.metrics or ())])
        names = [name for name in wanted if name not in metrics.TRAINED[self.task]]
        return [ValidationMetrics(val, self.task, names)] if names and val is not None else []

    def _fit_part(
        self,
        model: keras.Model,
        train: Any,
        val: Any,
        begin: int,
        end: int,
        callbacks: _Callbacks,
        chunks: Chunks | None,
    ) -> None:
        self.recorder.feed = train
        if chunks is not None:
            chunks.feed = train
        try:
            with self.interruption.patient():
                model.fit(
                    train.numbers if chunks else train.dataset,
                    shuffle=False,  # the feed does
                    initial_epoch=begin,
                    epochs=end,
                    validation_data=val and (val.numbers if chunks else val.dataset),
                    callbacks=callbacks,
                    verbose=0,
                )
        except TrainingDivergedError as error:
            raise self._explained(error, model, train) from error

    def _keep_last(self) -> None:
        """Store the last weights as the result where there is no checkpoint callback."""
        if not self.checkpoints:
            if not diagnose.has_finite_weights(self.model):
                raise TrainingDivergedError("the last step left weights that are NaN or infinite")
            epoch, history = self._kept_epoch(), self.folder.history
            averaged = epoch is None and bool(getattr(self.model.optimizer, "use_ema", False))
            if averaged:
                log.warning(
                    "the weights that are kept are averages over the steps: the final figures are theirs, "
                    "val_ columns of the history are of the weights that were averaged"
                )
            epoch = epoch or len(history)
            info = {"epoch": epoch, "monitor": None, "value": None, "metrics": history[epoch - 1]}
            self.folder.write_best(self.model.save, {**info, "averaged": averaged})

    def _kept_epoch(self) -> int | None:
        """Return the epoch whose weights a callback, as `EarlyStopping`, has restored; None for none."""
        for callback in reversed(self.callbacks):
            kept = getattr(callback, "best_weights", None)
            if kept is None or not getattr(callback, "restore_best_weights", False):
                continue
            weights = callback.model.get_weights()
            if all(np.array_equal(one, other) for one, other in zip(weights, kept, strict=True)):
                return int(callback.best_epoch) + 1
        return None

    def _explained(
        self, error: TrainingDivergedError, model: keras.Model, feed: Feed
    ) -> TrainingDivergedError:
        if model.distribute_strategy.num_replicas_in_sync > 1:  # a step alone is computed on one device
            advice = "the same run without training.distribute says which tensor was the first"
            return TrainingDivergedError(f"{error}; {advice}")
        log.warning("%s; looking for the step that broke it", error)
        bad = diagnose.find_bad_step(model, feed, self.recorder.before_epoch)
        if bad is None:
            return error
        self.folder.bad_step.write(model.save, bad.x, bad.y)
        diagnosis = diagnose.examine(model, bad.x, bad.y)
        explained = TrainingDivergedError(
            f"{error}: in step {bad.step} {diagnosis.sentence}. What to do: {diagnosis.advice}"
        )
        explained.diagnosis = {"epoch": bad.epoch, "step": bad.step, **diagnosis.as_dict()}
        return explained


class _Callbacks(keras.callbacks.CallbackList):
    """List of callbacks for which a training begins and ends once, however many calls of `fit` it takes."""

    def begin(self) -> None:
        super().on_train_begin()

    def end(self) -> None:
        super().on_train_end()

    def on_train_begin(self, logs: Any = None) -> None:
        """Ignore the call by `fit`; see `begin`."""

    def on_train_end(self, logs: Any = None) -> None:
        """Ignore the call by `fit`; see `end`."""


# -- What the phases take --------------------------------------------------------------------------


def phase_speeds(built: Built, training: Training) -> tuple[list[Speed], float]:
    """Time a few steps of each phase of a training, and leave the model's weights as they were.

    The model is compiled otherwise afterwards: compile it anew.

    Args:
        built: for the run, and not trained yet.
        training: with `max_minutes`.

    Returns:
        the speed of each phase, and the seconds that evaluation and pictures will take.
    """
    model, train, val = built.model, built.train, built.held_out.get("val")
    kept = [np.array(variable) for variable in model.variables]
    trainable = [layer.trainable for layer in model.layers]
    limit = min(TIMED_SECONDS, TIMED_SHARE * 60 * (training.max_minutes or math.inf))
    forward = _seconds_of_one(model, train)
    validated = len(val.split) if val is not None else 0
    is_stored = any(isinstance(one, BestCheckpoint) for one in built.callbacks.values())
    storing = _storing_seconds(model)
    stored = storing if is_stored else 0.0
    epoch = forward * validated + stored
    if training.cache_features and can_cache(model) and train.augment is None:
        extractor, head = split_at_features(model)
        once = _seconds_of_one(extractor, train) * (len(train.split) + validated)
        features = np.zeros((len(train.split), extractor.output_shape[-1]), np.float32)
        built.compile(head)
        speed = _speed(head, with_features(train, features), built.engine, limit)
        speeds = [replace(speed, once=speed.once + once, epoch=stored)]
    else:
        speeds = [replace(_speed(model, train, built.engine, limit), epoch=epoch)]
    if training.fine_tuning is not None:
        compile_for_fine_tuning(model, training.fine_tuning, train.steps, built.compile, {})
        speeds.append(replace(_speed(model, train, built.engine, limit), epoch=epoch))
    for layer, before in zip(model.layers, trainable, strict=True):
        layer.trainable = before
    for variable, value in zip(model.variables, kept, strict=True):
        variable.assign(value)
    measured = sum(len(feed.split) for feed in built.held_out.values())
    after = ROOM * (forward * measured + LOADS * storing) + PICTURE_SECONDS
    return speeds, after


class _Pace(keras.callbacks.Callback):
    """Time chunks of steps, and stop when those after the first have taken so many seconds."""

    def __init__(self, limit: float, last: int) -> None:
        super().__init__()
        self.limit, self.last = limit, last
        self.began = self._chunk_began = budget.clock()
        self._first = 0
        self.chunks: list[tuple[int, float]] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._first, self._chunk_began = batch, budget.clock() if self.chunks else self.began

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        steps = min(batch + 1, self.last) - self._first
        self.chunks.append((steps, budget.clock() - self._chunk_began))
        if len(self.chunks) > 1 and sum(seconds for _, seconds in self.chunks[1:]) >= self.limit:
            self.model.stop_training = True

    @property
    def speed(self) -> Speed:
        (count, first), *later = self.chunks
        step = median(seconds / steps for steps, seconds in later)
        return Speed(max(0.0, first - count * step), step, 0.0)


def _speed(model: keras.Model, train: Feed, engine: Engine, limit: float) -> Speed:
    """Time steps of a compiled model: the first ones, and then more for `limit` seconds."""
    if engine.resident:
        train_in_chunks(model, train, replace(engine, network=""))
    pace = _Pace(limit, train.steps)
    model.fit(
        train.numbers if engine.resident else train.dataset,
        shuffle=False,
        epochs=TIMED_EPOCHS,
        callbacks=[pace],
        verbose=0,
    )
    return pace.speed


def _seconds_of_one(model: keras.Model, feed: Feed) -> float:
    """Return the seconds of a forward pass for one example."""
    forward, x = forward_graph(model), feed.split.x[:FORWARD]
    forward(x)
    began = budget.clock()
    np.asarray(forward(x))
    return (budget.clock() - began) / len(x)


def _storing_seconds(model: keras.Model) -> float:
    with TemporaryDirectory(prefix="cnnbench-plan-") as folder:
        began = budget.clock()
        model.save(Path(folder) / "timed.keras")
        return budget.clock() - began


# -- Parts of phases -------------------------------------------------------------------------------


def _parts(train: Feed, begin: int, step: int, last: int, extra: int) -> list[tuple[Feed, int, int]]:
    """Return feeds, each with the epochs from which and to which it is trained on.

    Args:
        train: the whole feed.
        begin: finished epochs.
        step: finished steps of the next one.
        last: the last epoch.
        extra: steps of the last epoch where it is not whole, else 0.
    """
    parts: list[tuple[Feed, int, int]] = []
    whole = last - bool(extra)
    if step and begin < last:
        parts.append((train.part(step, extra if begin == whole else None), begin, begin + 1))
        begin += 1
    if begin < whole or (not parts and begin == last):
        parts.append((train, begin, whole if begin < whole else begin))
        begin = max(begin, whole)
    if begin < last:
        parts.append((train.part(0, extra), begin, last))
    return parts


def compile_for_fine_tuning(
    model: keras.Model,
    settings: FineTuning,
    steps: int,
    compile: Callable[[keras.Model, Any], None],
    anchors: Mapping[str, Any],
) -> tuple[list[list[Any]], list[Any]]:
    """Unfreeze a part of the backbone, and compile the model with the learning rate of each of its blocks.

    Args:
        model: of `models.transfer`.
        settings: of the phase.
        steps: of an epoch.
        compile: as of `Fitting`.
        anchors: as of `anchors_of`.

    Returns:
        the blocks that are trained, the top one first, and of each the variable by which its learning rate
        is multiplied; none where they are all trained from the first step on.
    """
    unfreeze(model, settings.from_layer)
    epochs = length(settings.epochs, settings.max_steps, steps)
    is_constant = settings.schedule == "constant"
    compile(model, settings.learning_rate if is_constant else partial(_schedule, settings, epochs))
    if settings.weight_decay is not None:
        # Within the one that scales losses, where there is one.
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        optimizer.weight_decay = settings.weight_decay
    blocks = trained_blocks(model, settings.from_layer)
    is_gradual = settings.unfreeze_epochs is not None
    shares = [keras.Variable(1.0, trainable=False, name="share") for _ in blocks] if is_gradual else []
    rates = {}
    for place, block in enumerate(blocks):
        factor, share = settings.layer_decay ** (place + 1), shares[place] if shares else None
        for variable in (one for layer in block for one in layer.trainable_weights):
            rates[variable.path] = Rate(factor, share, settings.l2_sp, anchors.get(variable.path))
    set_rates(model.optimizer, [rates.get(one.path, Rate()) for one in model.trainable_variables])
    return blocks, shares


def _blocks_in_words(settings: FineTuning, steps: int, blocks: Sequence[Sequence[Any]]) -> str:
    trained = len(blocks)
    text = f"fine-tuning: {trained} blocks of the backbone"
    if settings.unfreeze_epochs is not None:
        epochs, _ = span(settings.epochs, settings.max_steps, steps)
        trained = min(trained, -(-epochs // settings.unfreeze_epochs))
        text += f", {trained} of which are unfrozen in {epochs} epochs"
    rates = [settings.learning_rate * settings.layer_decay**place for place in (1, trained)]
    names = blocks[0][0].name, blocks[trained - 1][0].name
    return f"{text}; learning rates from {rates[0]:.2g} ({names[0]}) to {rates[1]:.2g} ({names[1]})"


def _schedule(settings: FineTuning, epochs: float, steps: int, _: float) -> Any:
    """Return the schedule of the phase, for epochs of so many updates; those given are of the first phase."""
    make = schedules.cosine if settings.schedule == "cosine" else schedules.triangular
    return make(steps, epochs, settings.learning_rate, settings.warmup_epochs)


def anchors_of(model: keras.Model, settings: FineTuning) -> dict[str, Any]:
    """Return copies of the backbone's weights, by path, to which fine-tuning is to hold them.

    Args:
        model: with the weights that the run begins with.
        settings: of the phase.
    """
    if not settings.l2_sp:
        return {}
    layers = [layer for block in trained_blocks(model, settings.from_layer) for layer in block]
    return {
        one.path: keras.Variable(keras.ops.convert_to_numpy(one), trainable=False, name="anchor")
        for layer in layers
        for one in layer.weights
        if one.dtype.startswith("float")
    }
