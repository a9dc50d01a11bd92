"""Diagnosis of a loss that turned NaN or infinite: the step, and the first tensor that broke."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench.data import Feed
from cnnbench.nn import TableColumns

# Columns or activations beyond this overflow in an exponential of float32 (at 88.7), or soon after.
LARGE = 80.0


@dataclass(frozen=True)
class TensorRange:
    """Range of the values of a tensor.

    Attributes:
        kind: `input`, `target`, `layer`, `loss` or `gradient`.
        name: of the layer or variable.
        low, high: of its finite values; NaN where it has none.
        bad: number of values that are NaN or infinite.
        size: number of values.
    """

    kind: str
    name: str
    low: float
    high: float
    bad: int
    size: int

    @property
    def label(self) -> str:
        return self.kind if self.kind == self.name else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Diagnosis:
    """Tensors of one training step in the order of computation.

    Attributes:
        tensors: input, target, each layer's output, loss, gradients from the last layer to the first.
        first: the first with a value that is not finite; None where all are finite.
        advice: a remedy.
    """

    tensors: Sequence[TensorRange]
    first: TensorRange | None
    advice: str

    @property
    def sentence(self) -> str:
        if self.first is None:
            return "repeated alone, this step is finite"
        given = self.tensors[0]
        return (
            f"the {self.first.label} first had values that are NaN or infinite ({self.first.bad:,} of "
            f"{self.first.size:,}); inputs range from {given.low:.4g} to {given.high:.4g}"
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "first": self.first.label if self.first else None,
            "sentence": self.sentence,
            "advice": self.advice,
            "tensors": [asdict(tensor) for tensor in self.tensors],
        }


@dataclass(frozen=True)
class BadStep:
    """First step after which the loss or a weight was not finite; the model has its state before it."""

    epoch: int
    step: int
    x: np.ndarray
    y: np.ndarray


def snapshot(model: keras.Model) -> list[np.ndarray]:
    """Copy the weights, the optimizer's variables and the random states of dropout."""
    return [np.array(variable) for variable in _state(model)]


def restore(model: keras.Model, values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(_state(model), values, strict=True):
        variable.assign(value)


def _state(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def has_finite_weights(model: keras.Model) -> bool:
    return all(np.isfinite(weight).all() for weight in model.get_weights() if weight.dtype.kind == "f")


def find_bad_step(model: keras.Model, feed: Feed, before_epoch: Sequence[np.ndarray]) -> BadStep | None:
    """Repeat an epoch step by step up to the one that breaks it.

    Args:
        model: compiled; it ends in the state before the bad step.
        feed: its `epoch` is the one to repeat.
        before_epoch: a `snapshot` from its beginning, or from where the feed begins in it.

    Returns:
        None where the epoch does not break again, as a GPU adds in another order each time.
    """
    restore(model, before_epoch)
    model.steps_per_execution = 1
    model.make_train_function(force=True)
    watch = _Watch()
    model.fit(
        feed.dataset,
        shuffle=False,
        initial_epoch=feed.epoch,
        epochs=feed.epoch + 1,
        callbacks=[watch],
        verbose=0,
    )
    if watch.bad_step is None:
        return None
    restore(model, watch.before)
    x, y, *_ = next(feed.dataset.skip(watch.bad_step).take(1).as_numpy_iterator())
    return BadStep(feed.epoch + 1, feed.first + watch.bad_step + 1, x, y)


class _Watch(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.bad_step: int | None = None
        self.before: list[np.ndarray] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.bad_step is None:
            self.before = snapshot(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        finite = np.isfinite(float((logs or {})["loss"])) and has_finite_weights(self.model)
        if self.bad_step is None and not finite:
            self.bad_step = batch
            self.model.stop_training = True


def examine(model: keras.Model, x: np.ndarray, y: np.ndarray) -> Diagnosis:
    """Compute one training step and keep every tensor on the way; the weights stay as they are.

    Args:
        model: compiled.
        x: one batch of inputs.
        y: its targets.
    """
    before = snapshot(model)
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    probe = keras.Model(model.inputs[0], [layer.output for layer in layers])
    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(probe(tf.convert_to_tensor(x), training=True))
        loss = model.compute_loss(x, tf.convert_to_tensor(y), outputs[-1])
    gradients = tape.gradient(loss, model.trainable_variables)
    restore(model, before)  # dropout has drawn, and batch normalisation has moved its averages

    tensors = [_range("input", "input", x), _range("target", "target", y)]
    tensors += [_range("layer", layer.name, output) for layer, output in zip(layers, outputs, strict=False)]
    tensors.append(_range("loss", "loss", loss))
    pairs = zip(reversed(model.trainable_variables), reversed(gradients), strict=True)
    tensors += [_range("gradient", variable.path, g) for variable, g in pairs if g is not None]
    may_lack = any(isinstance(layer, TableColumns) for layer in layers)  # which fills what is missing
    first = next((one for one in tensors if one.bad and not (may_lack and one.kind == "input")), None)
    return Diagnosis(tensors, first, "; ".join(_advices(tensors, first)))


def _range(kind: str, name: str, tensor: Any) -> TensorRange:
    values = np.asarray(keras.ops.convert_to_numpy(tensor), dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (float("nan"), float("nan"))
    return TensorRange(kind, name, low, high, int(values.size - finite.size), int(values.size))


def _advices(tensors: Sequence[TensorRange], first: TensorRange | None) -> Iterator[str]:
    if first is None:
        yield "run it again; with deterministic=true it would end the same way each time"
        return
    if first.kind in ("input", "target"):
        yield f"the {first.kind}s themselves hold NaN or infinity: clean the data"
        return
    position = tensors.index(first)
    reached = max(
        (abs(v) for t in tensors[2:position] for v in (t.low, t.high) if t.kind == "layer"), default=0.0
    )
    if max(abs(tensors[0].low), abs(tensors[0].high)) > LARGE and reached > LARGE:
        yield f"values reach {reached:.3g} before it: scale the inputs (model.normalization=true)"
    if first.kind in ("layer", "gradient"):
        yield "use a stable form of an activation with an exponential (soft_relu, not soft_relu_naive)"
    if first.kind == "loss":
        yield "outputs or targets are too large for this loss: scale targets (training.scale_targets=true)"
    yield "lower optimizer.learning_rate, or cut gradients with optimizer.clipnorm=1"
