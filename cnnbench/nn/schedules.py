"""Learning-rate schedules in epochs; the run supplies the number of steps."""

from __future__ import annotations

from typing import Annotated, Any

import keras
from keras import ops
from pydantic import Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@keras.saving.register_keras_serializable("cnnbench")
class OfUpdates(keras.optimizers.schedules.LearningRateSchedule):
    """Schedule by updates of the weights, where several steps make one update.

    Args:
        schedule: of the learning rate, by updates.
        every: steps whose gradients are accumulated for one update.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, every: int) -> None:
        self.schedule, self.every = schedule, every

    def __call__(self, step: Any) -> Any:
        return self.schedule(ops.floor_divide(step, self.every))

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "every": self.every}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OfUpdates:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["every"])


def constant(initial_learning_rate: Positive) -> float:
    """Return the same learning rate throughout."""
    return float(initial_learning_rate)  # Keras takes no whole number


def exponential_decay(
    initial_learning_rate: Positive,
    decay_steps: Annotated[int, Field(ge=1)],
    decay_rate: Positive,
    staircase: bool = False,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return ``initial_learning_rate * decay_rate ** (step / decay_steps)``; `staircase` floors that."""
    return keras.optimizers.schedules.ExponentialDecay(
        initial_learning_rate, decay_steps, decay_rate, staircase
    )


def cosine(
    steps_per_epoch: int,
    epochs: float,
    initial_learning_rate: Positive,
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0,
    final_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a linear warm-up from 0, then half a cosine to the last step (Loshchilov & Hutter 2017).

    Args:
        steps_per_epoch: given by the run.
        epochs: given by the run; a fraction where it ends within one.
        initial_learning_rate: the highest, reached after the warm-up.
        warmup_epochs: its length; at most the whole training.
        final_fraction: of `initial_learning_rate`, at the end.
    """
    total, warmup = _steps(steps_per_epoch, epochs, warmup_epochs)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else initial_learning_rate,
        decay_steps=total - warmup,
        alpha=final_fraction,
        warmup_target=initial_learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def triangular(
    steps_per_epoch: int,
    epochs: float,
    initial_learning_rate: Positive,
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0,
    final_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a linear warm-up from 0, then a straight line down to the last step.

    Args:
        steps_per_epoch: given by the run.
        epochs: given by the run; a fraction where it ends within one.
        initial_learning_rate: the highest, reached after the warm-up.
        warmup_epochs: its length; at most the whole training.
        final_fraction: of `initial_learning_rate`, at the end.
    """
    total, warmup = _steps(steps_per_epoch, epochs, warmup_epochs)
    return Triangular(initial_learning_rate, warmup, total, final_fraction)


def _steps(steps_per_epoch: int, epochs: float, warmup_epochs: float) -> tuple[int, int]:
    """Return the steps of the whole training, and of its warm-up, which leaves at least one."""
    total = round(steps_per_epoch * epochs)
    return total, min(round(warmup_epochs * steps_per_epoch), total - 1)


@keras.saving.register_keras_serializable("cnnbench")
class Triangular(keras.optimizers.schedules.LearningRateSchedule):
    """Schedule of `triangular`, in steps."""

    def __init__(self, highest: float, warmup: int, total: int, final_fraction: float) -> None:
        self.highest, self.warmup, self.total, self.final_fraction = highest, warmup, total, final_fraction

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        # Half a step later, so that neither the first nor the last step has a rate of 0.
        past = ops.clip((step + 0.5 - self.warmup) / (self.total - self.warmup), 0.0, 1.0)
        rate = 1.0 - (1.0 - self.final_fraction) * past
        return self.highest * (ops.minimum((step + 0.5) / self.warmup, rate) if self.warmup else rate)

    def get_config(self) -> dict[str, Any]:
        return {
            "highest": self.highest,
            "warmup": self.warmup,
            "total": self.total,
            "final_fraction": self.final_fraction,
        }
