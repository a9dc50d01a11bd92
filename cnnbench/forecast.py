"""What is known of a run before it runs. No TensorFlow: it is measured by another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rehearsal:
    """What a run takes on this machine.

    Attributes:
        parameters: of the model.
        flops: of its forward pass for one example.
        once_seconds: all that happens once: data, building, tracing, features, evaluation, figures. Without
            the import of TensorFlow, which a sweep does not repeat.
        epoch_seconds: of one epoch of each phase (training, fine-tuning), with its validation.
        peak_memory_bytes: the most resident memory.
    """

    parameters: int
    flops: int
    once_seconds: float
    epoch_seconds: Sequence[float]
    peak_memory_bytes: int


@dataclass(frozen=True)
class Forecast:
    """What is known of one job before it runs.

    Attributes:
        number: its place in the sweep.
        overrides: what was typed, for this job.
        folder: its name in the sweep's folder.
        parameters, flops: of the model; None, like all below, where the job would fail.
        epoch_seconds: of an epoch, estimated.
        seconds: of the whole run, estimated; early stopping may end it sooner.
        peak_memory_bytes: the most resident memory.
        error: why it would fail, in one line.
    """

    number: int
    overrides: Sequence[str]
    folder: str | None = None
    parameters: int | None = None
    flops: int | None = None
    epoch_seconds: float | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    error: str | None = None
