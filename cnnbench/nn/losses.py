"""Losses and metrics that Keras lacks, registered with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import keras
from keras import ops
from pydantic import Field


def for_task(task: str, soft_labels: bool = False) -> keras.losses.Loss:
    """Return the standard loss of a task; with `soft_labels` class labels may be shares of the classes."""
    if task == "multiclass" and soft_labels:
        return SmoothedCrossentropy(0.0)
    return {
        "multiclass": keras.losses.SparseCategoricalCrossentropy,
        "binary": keras.losses.BinaryCrossentropy,
        "multilabel": keras.losses.BinaryCrossentropy,
        "regression": keras.losses.MeanSquaredError,
    }[task]()


def huber(threshold: Annotated[float, Field(gt=0)] = 1.0) -> keras.losses.Loss:
    """Return half the squared error up to `threshold` (units of the target), linear beyond (Huber 1964)."""
    # Not keras.losses.Huber, which forgets its delta in a stored model.
    return ThresholdHuber(threshold, name="huber")


@keras.saving.register_keras_serializable("cnnbench")
class ThresholdHuber(keras.losses.Loss):
    """Huber loss of the study note: half the squared error up to `threshold`, linear beyond.

    Args:
        threshold: units of the target.
    """

    def __init__(
        self, threshold: Annotated[float, Field(gt=0)] = 1.0, name: str = "threshold_huber", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.threshold = threshold

    def call(self, y_true: Any, y_pred: Any) -> Any:
        # Targets of (batch,) would be broadcast to (batch, batch).
        y_true = ops.reshape(ops.cast(y_true, y_pred.dtype), ops.shape(y_pred))
        error = ops.absolute(y_true - y_pred)
        quadratic = ops.square(error) / 2
        linear = self.threshold * (error - self.threshold / 2)
        return ops.mean(ops.where(error <= self.threshold, quadratic, linear), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}


def create_huber(threshold: Annotated[float, Field(gt=0)] = 1.0) -> keras.losses.Loss:
    """Return a Huber loss for a threshold, which unlike the note's closure reloads by itself."""
    return ThresholdHuber(threshold)


@keras.saving.register_keras_serializable("cnnbench")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy with label smoothing (Szegedy et al. 2016, section 7) of class indices or mixed labels.

    Keras smooths only one-hot targets; this takes ``y_true`` ``(batch,)`` indices or ``(batch, classes)``
    shares that sum to 1 (mixup, CutMix), and ``y_pred`` ``(batch, classes)`` probabilities.
    """

    def __init__(
        self,
        label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        name: str = "smoothed_crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        shares = _shares(y_true, y_pred)
        return keras.losses.categorical_crossentropy(shares, y_pred, label_smoothing=self.label_smoothing)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("cnnbench")
class BalancedCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of several labels, each of which counts by whether an example has it.

    ``y_true`` is ``(batch, labels)``, 0 or 1 or, where labels are mixed, between them; ``y_pred`` ``(batch,
    labels)`` probabilities.

    Args:
        weights: for each label, how much it counts that an example lacks it, and that it has it.
    """

    def __init__(
        self, weights: Sequence[Sequence[float]], name: str = "balanced_crossentropy", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.weights = [[float(one) for one in pair] for pair in weights]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        shares = ops.cast(y_true, y_pred.dtype)
        lacking, having = (
            ops.convert_to_tensor([pair[side] for pair in self.weights], y_pred.dtype) for side in (0, 1)
        )
        # Not of a copy of the outputs: Keras takes the values before their sigmoid, which do not round to 1.
        losses = ops.binary_crossentropy(shares, y_pred)
        return ops.mean((lacking + shares * (having - lacking)) * losses, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weights": self.weights}


@keras.saving.register_keras_serializable("cnnbench")
class LabelsF1(keras.metrics.F1Score):
    """F1 over all labels of all examples together; mixed labels count as had from above 0.5."""

    def __init__(self, name: str = "f1_micro", dtype: Any = None) -> None:
        super().__init__(average="micro", threshold=0.5, name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        had = ops.cast(ops.cast(y_true, "float32") > 0.5, self.dtype)
        return super().update_state(had, y_pred, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable("cnnbench")
class TargetsRmse(keras.metrics.Metric):
    """Mean over several targets of the root mean squared error of each.

    Keras's own takes the root of the mean over all of them, which one target in a large unit decides alone.

    Args:
        targets: how many.
    """

    def __init__(self, targets: int, name: str = "rmse", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.targets = targets
        self.squares = self.add_variable((targets,), "zeros", name="squares")
        self.examples = self.add_variable((), "zeros", name="examples")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        squares = ops.square(ops.cast(y_pred, self.dtype) - ops.cast(y_true, self.dtype))
        weights = ops.ones_like(squares[:, 0])
        if sample_weight is not None:
            weights = ops.reshape(ops.cast(sample_weight, self.dtype), (-1,))
        self.squares.assign_add(ops.sum(squares * weights[:, None], axis=0))
        self.examples.assign_add(ops.sum(weights))

    def result(self) -> Any:
        return ops.mean(ops.sqrt(ops.divide_no_nan(self.squares, self.examples)))

    def get_config(self) -> dict[str, Any]:
        return {"targets": self.targets, "name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable("cnnbench")
class FocalCrossentropy(keras.losses.Loss):
    """Focal loss (Lin et al. 2017): cross-entropy in which well classified examples count less.

    The cross-entropy of an example is multiplied by ``(1 - p) ** gamma``, where ``p`` is what the model gives
    to the true class. ``y_true`` and ``y_pred`` are as of `SmoothedCrossentropy`; or, of one output, both
    ``(batch, 1)``; or, `by_label`, ``(batch, labels)`` 0 or 1 and the probability of each label.

    Args:
        gamma: 0 is plain cross-entropy.
        alpha: weight of class 1, or of a label that is there; that of the others is 1 - alpha. None gives
            both 1. Not for one class of several, for which class weights are.
        by_label: outputs are labels that do not exclude each other; set by the task.
    """

    def __init__(
        self,
        gamma: Annotated[float, Field(ge=0)] = 2.0,
        alpha: Annotated[float, Field(gt=0, lt=1)] | None = None,
        by_label: bool = False,
        name: str = "focal_crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.gamma, self.alpha, self.by_label = gamma, alpha, by_label

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if self.by_label or y_pred.shape[-1] == 1:
            return keras.losses.binary_focal_crossentropy(
                ops.reshape(ops.cast(y_true, y_pred.dtype), ops.shape(y_pred)),
                y_pred,
                apply_class_balancing=self.alpha is not None,
                alpha=self.alpha or 0.5,
                gamma=self.gamma,
            )
        shares = _shares(y_true, y_pred)
        return keras.losses.categorical_focal_crossentropy(shares, y_pred, alpha=1.0, gamma=self.gamma)

    def get_config(self) -> dict[str, Any]:
        own = {"gamma": self.gamma, "alpha": self.alpha, "by_label": self.by_label}
        return {**super().get_config(), **own}


def focal(
    gamma: Annotated[float, Field(ge=0)] = 2.0, alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
) -> keras.losses.Loss:
    """Return the focal loss: well classified examples count less (`gamma`), class 1 more (`alpha`)."""
    return FocalCrossentropy(gamma, alpha)


@keras.saving.register_keras_serializable("cnnbench")
class MixedAccuracy(keras.metrics.MeanMetricWrapper):
    """Share of examples whose largest label share is the largest output.

    The same as Keras's accuracies where labels are not mixed. ``y_true`` is ``(batch,)`` class indices or
    ``(batch, classes)`` shares, ``y_pred`` ``(batch, classes)``; with one output both are ``(batch,)`` or
    ``(batch, 1)`` probabilities of class 1, which is taken from above 0.5.
    """

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(_agreement, name=name, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype}


def _agreement(y_true: Any, y_pred: Any) -> Any:
    """Return ``(batch,)`` 1 where label and output agree, else 0."""
    if len(y_pred.shape) == 1 or y_pred.shape[-1] == 1:
        labels = ops.cast(ops.reshape(y_true, (-1,)), "float32")
        agree = ops.equal(labels > 0.5, ops.reshape(y_pred, (-1,)) > 0.5)
    else:
        true = ops.argmax(y_true, axis=-1) if _is_mixed(y_true) else _indices(y_true)
        agree = ops.equal(ops.cast(true, "int32"), ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
    return ops.cast(agree, "float32")


def _shares(y_true: Any, y_pred: Any) -> Any:
    """Return labels as ``(batch, classes)`` shares."""
    if _is_mixed(y_true):
        return ops.cast(y_true, y_pred.dtype)
    return ops.one_hot(_indices(y_true), ops.shape(y_pred)[-1], dtype=y_pred.dtype)


def _is_mixed(y_true: Any) -> bool:
    """Tell whether labels are shares of classes; ``(batch, 1)`` is a column of indices."""
    return len(y_true.shape) == 2 and y_true.shape[-1] != 1


def _indices(y_true: Any) -> Any:
    return ops.cast(ops.reshape(y_true, (-1,)), "int32")
