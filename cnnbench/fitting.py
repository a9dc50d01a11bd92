"""All of a run's training, each phase of it by Keras's `fit`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cnnbench import diagnose, engine
from cnnbench.callbacks import BestCheckpoint, Recorder, TrainingDivergedError, has_finite_weights
from cnnbench.datasets.core import Split
from cnnbench.feed import Feed
from cnnbench.models.transfer import FEATURES, split_at_features, unfreeze
from cnnbench.results import RunFolder
from cnnbench.spec import Training

log = logging.getLogger("cnnbench")


@dataclass(frozen=True)
class Fitting:
    """What stays the same from phase to phase.

    Attributes:
        model: the whole one, compiled.
        train, val: its feeds; `val` is None without a validation split.
        training: epochs, caching, fine-tuning.
        compile: compiles a model as the config says, with this learning rate (None: the configured one).
        recorder: comes before every other callback.
        callbacks: the configured ones.
        class_weight: by class index, or None.
        folder: keeps the best checkpoint, and the step that broke a training.
    """

    model: keras.Model
    train: Feed
    val: Feed | None
    training: Training
    compile: Callable[[keras.Model, float | None], None]
    recorder: Recorder
    callbacks: Sequence[keras.callbacks.Callback]
    class_weight: Mapping[int, float] | None
    folder: RunFolder

    @property
    def checkpoints(self) -> list[BestCheckpoint]:
        return [callback for callback in self.callbacks if isinstance(callback, BestCheckpoint)]

    def run(self) -> None:
        """Train; the folder then holds the best checkpoint.

        Raises:
            TrainingDivergedError: the loss turned NaN or infinite; it says why.
            RuntimeError: no epoch had a finite monitored value.
        """
        for checkpoint in self.checkpoints:
            checkpoint.write = self.folder.write_best
        if self.training.cache_features and can_cache(self.model) and self.train.augment is None:
            self._fit_head()
        else:
            self._fit(self.model, self.train, self.val, 0, self.training.epochs)
        self._keep_last()
        if self.training.fine_tuning is not None:
            self._fine_tune()
            self._keep_last()
        if not self.folder.best_model.exists():
            monitor = self.checkpoints[0].monitor
            raise RuntimeError(f"no epoch had a finite {monitor} and finite weights: there is no best model")

    def _fit_head(self) -> None:
        """Train what stands on a frozen backbone, whose features are computed once."""
        extractor, head = split_at_features(self.model)
        feeds = [feed and cached_features(extractor, feed) for feed in (self.train, self.val)]
        log.info("features computed once: %s values per example", extractor.output_shape[-1])
        self.compile(head, None)
        for checkpoint in self.checkpoints:
            checkpoint.whole = self.model
        self._fit(head, feeds[0], feeds[1], 0, self.training.epochs)
        for checkpoint in self.checkpoints:
            checkpoint.whole = None

    def _fine_tune(self) -> None:
        """Go on from the best epoch with a part of the backbone unfrozen."""
        settings = self.training.fine_tuning
        assert settings is not None
        self.model.set_weights(engine.load(self.folder.best_model).get_weights())
        unfreeze(self.model, settings.from_layer)
        self.compile(self.model, settings.learning_rate)
        done = len(self.folder.history)
        self._fit(self.model, self.train, self.val, done, done + settings.epochs)

    def _fit(self, model: keras.Model, train: Any, val: Any, first: int, last: int) -> None:
        self.recorder.feed = train
        try:
            model.fit(
                train.dataset,
                shuffle=False,  # the feed does
                initial_epoch=first,
                epochs=last,
                validation_data=val and val.dataset,
                class_weight=self.class_weight,
                callbacks=[self.recorder, *self.callbacks],
                verbose=0,
            )
        except TrainingDivergedError as error:
            raise self._explained(error, model, train) from error

    def _keep_last(self) -> None:
        """Without a checkpoint callback the last weights are the result."""
        if not self.checkpoints:
            if not has_finite_weights(self.model):
                raise TrainingDivergedError("the last step left weights that are NaN or infinite")
            history = self.folder.history
            info = {"epoch": len(history), "monitor": None, "value": None, "metrics": history[-1]}
            self.folder.write_best(self.model.save, info)

    def _explained(
        self, error: TrainingDivergedError, model: keras.Model, feed: Feed
    ) -> TrainingDivergedError:
        log.warning("%s; looking for the step that broke it", error)
        bad = diagnose.find_bad_step(model, feed, self.recorder.before_epoch, self.class_weight)
        if bad is None:
            return error
        self.folder.write_bad_step(model.save, bad.x, bad.y)
        diagnosis = diagnose.examine(model, bad.x, bad.y)
        explained = TrainingDivergedError(
            f"{error}: in step {bad.step} {diagnosis.sentence}. What to do: {diagnosis.advice}"
        )
        explained.diagnosis = {"epoch": bad.epoch, "step": bad.step, **diagnosis.as_dict()}
        return explained


def can_cache(model: keras.Model) -> bool:
    """Whether everything below the features is frozen, so that they never change."""
    names = [layer.name for layer in model.layers]
    if FEATURES not in names:
        return False
    return not any(layer.trainable_weights for layer in model.layers[: names.index(FEATURES)])


def cached_features(extractor: keras.Model, feed: Feed) -> Feed:
    """A feed of features in the place of a feed of images, with the same targets and the same order."""
    in_order = Feed(feed.split, engine.evaluation_batch(feed.batch_size))
    features = np.asarray(extractor.predict(in_order.dataset, verbose=0), dtype=np.float32)
    return Feed(Split(features, feed.split.y), feed.batch_size, feed.seed, column=feed.column)
