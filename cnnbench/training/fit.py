"""Training of a run, each phase of it by Keras's `fit`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from cnnbench.data import Feed
from cnnbench.models import split_at_features, unfreeze
from cnnbench.nn import load_checkpoint
from cnnbench.runs import FineTuning, RunFolder, Training, metrics
from cnnbench.system import Interruption
from cnnbench.training import diagnose
from cnnbench.training.callbacks import (
    BestCheckpoint,
    Recorder,
    TrainingDivergedError,
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
from cnnbench.training.features import cached_features
from cnnbench.training.model import can_cache
from cnnbench.training.resume import State, StateSaver, restore

log = logging.getLogger("cnnbench")
FIRST, FINE_TUNING = "training", "fine_tuning"  # the phases, each with a compilation of its own


@dataclass(frozen=True)
class Fitting:
    """Training of one run: the parts that stay the same from phase to phase.

    Attributes:
        model: the whole model, compiled.
        train, val: its feeds; `val` is None without a validation split.
        task: of the data set.
        training: epochs, metrics, caching, fine-tuning.
        compile: compiles a model as the config says, with this learning rate (None: the configured one).
        recorder: comes before every other callback.
        callbacks: the configured ones.
        saver: comes after every other callback.
        interruption: notices a wish to stop.
        engine: how steps are executed.
        folder: keeps the best checkpoint, and the step that broke a training.
        rehearses: the training that this one tries; None for one of its own.
        features: precision of those to train on, as `features_of` takes it.
    """

    model: keras.Model
    train: Feed
    val: Feed | None
    task: str
    training: Training
    compile: Callable[[keras.Model, float | None], None]
    recorder: Recorder
    callbacks: Sequence[keras.callbacks.Callback]
    saver: StateSaver
    interruption: Interruption
    engine: Engine
    folder: RunFolder
    rehearses: Training | None = None
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
        if state is not None:
            self.saver.seconds_before = state.position.seconds
        if state is None or state.position.phase == FIRST:
            if self.training.cache_features and can_cache(self.model) and self.train.augment is None:
                self._fit_head(state)
            else:
                self._fit(self.model, self.train, self.val, FIRST, 0, self.training.epochs, state)
            self._keep_last()
        if self.training.fine_tuning is not None:
            self._fine_tune(self.training.fine_tuning, state)
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
        self._fit(head, train, val, FIRST, 0, self.training.epochs, state)
        for checkpoint in self.checkpoints:
            checkpoint.whole = None

    def _fine_tune(self, settings: FineTuning, state: State | None) -> None:
        """Continue from the best epoch with a part of the backbone unfrozen."""
        if state is not None and state.position.phase != FINE_TUNING:
            state = None
        self.model.set_weights(load_checkpoint(self.folder.best_model).get_weights())
        unfreeze(self.model, settings.from_layer)
        self.compile(self.model, settings.learning_rate)
        done = len(self.folder.history)
        self._fit(self.model, self.train, self.val, FINE_TUNING, done, done + settings.epochs, state)

    def _fit(
        self,
        model: keras.Model,
        train: Any,
        val: Any,
        phase: str,
        first: int,
        last: int,
        state: State | None,
    ) -> None:
        """Train from epoch `first` to `last`, or from `state` to `last`.

        What is left of an epoch takes a `fit` of its own, since Keras counts a data set's steps once.
        """
        parts = [(train, first, last)]
        if state is not None:
            restore(model, state)
            at = state.position
            if phase != FIRST:  # counted from where the phase began, which only the state knows
                last = at.until
            last = max(last, at.epoch)  # fewer epochs may have been accepted as a change
            parts = [(train, at.epoch, at.epoch if at.stopped else last)]
            if at.step and at.epoch < last:
                parts = [(train.rest(at.step), at.epoch, at.epoch + 1), (train, at.epoch + 1, last)]
        chunks = None
        if self.engine.resident:
            chunks = self._chunks(model, train, val, phase, last - first)
        elif len(parts) > 1:
            build_metrics(model, train.dataset.element_spec)  # they go on, too
        self.saver.begin(phase, last, state)
        callbacks = _Callbacks(
            [*self._chosen_metrics(val), self.recorder, *self.callbacks, self.saver],
            model=model,
            add_history=True,
            epochs=last,
        )
        callbacks.begin()
        for feed, begin, end in parts:
            self._fit_part(model, feed, val, begin, end, callbacks, chunks)
            if model.stop_training:
                break
            if end < last and self.saver.latest:
                # At the end of `fit` an optimizer may put averages in the place of the weights.
                diagnose.restore(model, self.saver.latest)
        callbacks.end()

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
