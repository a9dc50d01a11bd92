"""Construction of a model, its loss and its optimizer from the factories of a spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from cnnbench import models, nn
from cnnbench.errors import CnnbenchError, first_line
from cnnbench.runs import RunSpec
from cnnbench.system import usable_cores


def make_optimizer(spec: RunSpec, steps_per_epoch: int, learning_rate: float | None) -> Any:
    """Build an optimizer with its schedule, which counts updates where gradients are accumulated."""
    rate = learning_rate if learning_rate is not None else spec.learning_rate
    epochs = spec.training.epochs
    made = spec.optimizer(learning_rate=rate(steps_per_epoch, epochs) if callable(rate) else rate)
    every = getattr(made, "gradient_accumulation_steps", None) or 1
    if every == 1 or not callable(rate):
        return made
    schedule = rate(-(-steps_per_epoch // every), epochs)
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        schedule = nn.schedules.OfUpdates(schedule, every)
    return spec.optimizer(learning_rate=schedule)


def make_loss(spec: RunSpec, task: str, augment: Any, label_weights: np.ndarray | None = None) -> Any:
    """Build the loss; `label_weights` ``(labels, 2)`` are for the standard one of several labels."""
    if label_weights is not None:
        return nn.losses.BalancedCrossentropy(label_weights.tolist())
    if spec.loss is not None:
        loss = spec.loss()
        if isinstance(loss, nn.losses.FocalCrossentropy):
            if task == "multiclass" and loss.alpha is not None:
                raise CnnbenchError(
                    f"loss.alpha={loss.alpha} weighs class 1 of two, but this task is multiclass",
                    "loss.alpha=null; training.class_weight=balanced weighs several",
                )
            loss.by_label = task == "multilabel"
        return loss
    return nn.losses.for_task(task, soft_labels=mixes(augment))


def can_cache(model: keras.Model) -> bool:
    """Tell whether everything below the features is frozen, so that they never change."""
    names = [layer.name for layer in model.layers]
    if models.FEATURES not in names or any(isinstance(layer, nn.TestTimeViews) for layer in model.layers):
        return False
    return not any(layer.trainable_weights for layer in model.layers[: names.index(models.FEATURES)])


def is_head_alone(spec: RunSpec, model: keras.Model) -> bool:
    """Tell whether a run trains on features that are computed once, and nothing else."""
    training = spec.training
    has_features = training.cache_features and spec.augmentation is None and training.fine_tuning is None
    return bool(has_features) and can_cache(model)


def features_precision(spec: RunSpec) -> str:
    """Return the precision in which features to train on may be computed; see `features.features_of`."""
    exact = spec.deterministic or spec.training.precision == "float32" or spec.training.distribute
    return "float32" if exact else "auto"


def mixes(augment: Any) -> bool:
    return augment is not None and bool(augment.mixes_labels)


def build(what: str, make: Callable[[], Any]) -> Any:
    """Call a factory; an error of Keras about its values becomes wrong input of the user."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        text, hint = f"cannot build the {what}: {first_line(error)}", f"check the keys of {what} (--cfg job)"
        raise CnnbenchError(text, hint) from error


def steps_per_execution(wanted: int | str, flops: int, batch_size: int, steps: int, on_gpu: bool) -> int:
    """Return the number of steps to chain between two looks at metrics and keyboard.

    Args:
        wanted: a number, or `auto`: about 0.4 s, by the floating-point operations of a step (three times the
            forward pass) and the rate that such a device reaches with small networks.
        flops: of the forward pass for one example.
        batch_size: examples per step.
        steps: per epoch, the upper limit.
        on_gpu: the model runs on a GPU.
    """
    if wanted != "auto":
        return int(wanted)
    rate, launch = (5e13, 0.0005) if on_gpu else (5e10 * usable_cores(), 0.001)
    seconds = 3 * flops * batch_size / rate + launch
    most = int(np.clip(0.4 / seconds, 1, steps))
    # As few steps as possible that are no chunk of this length; of several such lengths the longest.
    return min(range(most, most // 2, -1), key=lambda length: steps % length)


def with_activation(model: keras.Model, task: str, targets: np.ndarray | None = None) -> keras.Model:
    """Add the activation of the task to raw outputs, in float32 under every precision.

    Args:
        model: ends in raw outputs.
        task: of the data set.
        targets: of the training split, for a network that predicts them standardised, each by its own mean
            and variance; a last layer brings its outputs back to their unit.
    """
    activation = {"multiclass": "softmax", "regression": "linear"}.get(task, "sigmoid")
    outputs = keras.layers.Activation(activation, dtype="float32", name="predictions")(model.outputs[0])
    if targets is not None:
        several = targets.ndim > 1
        unscale = keras.layers.Normalization(
            axis=-1 if several else None,
            mean=targets.mean(axis=0).tolist() if several else float(targets.mean()),
            variance=targets.var(axis=0).tolist() if several else float(targets.var()),
            invert=True,
            dtype="float32",
            name="target_scale",
        )
        outputs = unscale(outputs)
    # The tensor, not a list of it: else the stored model warns when it is called with an array.
    return keras.Model(model.inputs[0], outputs, name=model.name)


def compile_with(
    model: keras.Model, optimizer: Any, loss: Any, metrics: Any, steps_per_execution: int, jit_compile: bool
) -> None:
    model.compile(
        optimizer=optimizer,
        loss=loss,
        metrics=metrics,
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    model.optimizer.build(model.trainable_variables)  # so that its state is all there from the first step on


def training_metrics(task: str, soft_labels: bool = False, outputs: int = 1) -> list[keras.metrics.Metric]:
    """Return the metrics followed during training, with the names of `cnnbench.runs.metrics.TRAINED`.

    Args:
        task: of the data set.
        soft_labels: targets may be shares of the classes (MixUp, CutMix).
        outputs: of the model.
    """
    if task == "multilabel":
        return [nn.LabelsF1()]
    if task == "regression":
        of_one = keras.metrics.RootMeanSquaredError(name="rmse")
        return [
            keras.metrics.MeanAbsoluteError(name="mae"),
            of_one if outputs == 1 else nn.TargetsRmse(outputs),
        ]
    if soft_labels:
        return [nn.MixedAccuracy(name="accuracy")]
    if task == "binary":
        return [keras.metrics.BinaryAccuracy(name="accuracy")]
    return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
