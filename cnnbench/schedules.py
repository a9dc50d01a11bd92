"""Learning-rate schedules in epochs, for which the run supplies the number of steps."""

from __future__ import annotations

from typing import Annotated

import keras
from pydantic import Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def constant(initial_learning_rate: Positive) -> float:
    """The same learning rate throughout."""
    return float(initial_learning_rate)  # Keras takes no whole number


def exponential_decay(
    initial_learning_rate: Positive,
    decay_steps: Annotated[int, Field(ge=1)],
    decay_rate: Positive,
    staircase: bool = False,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``; `staircase` floors the exponent."""
    return keras.optimizers.schedules.ExponentialDecay(
        initial_learning_rate, decay_steps, decay_rate, staircase
    )


def cosine(
    steps_per_epoch: int,
    epochs: int,
    initial_learning_rate: Positive,
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0,
    final_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up from 0, then half a cosine down to the last step (Loshchilov & Hutter 2017, one cycle).

    Args:
        steps_per_epoch: given by the run.
        epochs: given by the run.
        initial_learning_rate: the highest, reached after the warm-up.
        warmup_epochs: its length; at most the whole training.
        final_fraction: of `initial_learning_rate`, at the end.
    """
    total = steps_per_epoch * epochs
    warmup = min(round(warmup_epochs * steps_per_epoch), total - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else initial_learning_rate,
        decay_steps=total - warmup,
        alpha=final_fraction,
        warmup_target=initial_learning_rate if warmup else None,
        warmup_steps=warmup,
    )
