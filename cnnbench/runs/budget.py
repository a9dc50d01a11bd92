"""The time of a run: how much is left of it, and how many steps fit into that."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnbench.errors import CnnbenchError
from cnnbench.runs.spec import Training

FILLED = 0.9  # of the time for training is planned; the rest is for a machine that turns slower
WHOLE = 10  # epochs, from which on no part of one is worth its evaluation, nor is a smaller part
clock: Callable[[], float] = time.perf_counter


def span(epochs: int, max_steps: int | None, steps: int) -> tuple[int, int]:
    """Return the epochs of a phase, and the steps of the last one where that is not whole, else 0.

    Args:
        epochs: at most.
        max_steps: of the phase, at most; None for no limit.
        steps: of an epoch.
    """
    whole, part = divmod(_total(epochs, max_steps, steps), steps)
    return whole + bool(part), part


def length(epochs: int, max_steps: int | None, steps: int) -> float:
    """Return the length of a phase in epochs, for a schedule; a whole number where it is one."""
    total = _total(epochs, max_steps, steps)
    return total / steps if total % steps else total // steps


def _total(epochs: int, max_steps: int | None, steps: int) -> int:
    return epochs * steps if max_steps is None else min(epochs * steps, max_steps)


def _worth(total: int, steps: int) -> int:
    """Return whole epochs of so many steps where a part of one would not be worth its evaluation."""
    whole, part = divmod(total, steps)
    return total if whole == 0 or (whole < WHOLE and part * WHOLE >= steps) else whole * steps


@dataclass
class Watch:
    """Seconds of a run.

    Attributes:
        before: of earlier processes.
        began: reading of the clock when this one began.
    """

    before: float = 0.0
    began: float = field(default_factory=lambda: clock())

    @property
    def seconds(self) -> float:
        """Seconds of the run so far."""
        return self.before + clock() - self.began


@dataclass(frozen=True)
class Speed:
    """What a phase of a training takes, in seconds.

    Attributes:
        once: before its first step is done: features, tracing, compilation.
        step: of a step.
        epoch: of what ends an epoch: validation, checkpoint.
    """

    once: float
    step: float
    epoch: float


@dataclass(frozen=True)
class Budget:
    """How a run spends its minutes.

    Attributes:
        minutes: of `training.max_minutes`.
        epochs, max_steps: of each phase, as planned.
        wanted: the epochs of each phase that the config allows.
        before: seconds until training began.
        ends: seconds of the run by which each phase ends, planned or not.
        planned_seconds: of the whole run.
    """

    minutes: float
    epochs: Sequence[int]
    max_steps: Sequence[int | None]
    wanted: Sequence[int]
    before: float
    ends: Sequence[float]
    planned_seconds: float

    @classmethod
    def of(
        cls, training: Training, steps: int, speeds: Sequence[Speed], before: float, after: float
    ) -> Budget:
        """Plan the phases of a training.

        Args:
            training: with `max_minutes`.
            steps: of an epoch.
            speeds: of the training and, if there is one, of the fine-tuning.
            before: seconds of the run so far.
            after: seconds of evaluation and pictures.

        Raises:
            CnnbenchError: not a single step fits.
        """
        assert training.max_minutes is not None
        tuning = training.fine_tuning
        limits = [(training.epochs, training.max_steps)]
        limits += [] if tuning is None else [(tuning.epochs, tuning.max_steps)]
        lengths = [length(*limit, steps) for limit in limits]
        wanted = [count * (steps * one.step + one.epoch) for count, one in zip(lengths, speeds, strict=True)]
        once = sum(one.once for one in speeds)
        window = 60 * training.max_minutes - before - after
        part = min(1.0, (FILLED * window - once) / sum(wanted))
        totals = [int(part * count * steps + 1e-6) for count in lengths]
        if min(totals) < 1:
            least = (before + after + (once + sum(one.step + one.epoch for one in speeds)) / FILLED) / 60
            raise CnnbenchError(
                f"training.max_minutes={training.max_minutes:g} leaves no time for a step of each phase: "
                f"about {before + after + once:.0f} s are for all else",
                f"training.max_minutes={1.2 * least:.2g} or more",
            )
        if part < 1:
            totals = [_worth(total, steps) for total in totals]
        spent = [
            one.once + total * one.step + -(-total // steps) * one.epoch
            for total, one in zip(totals, speeds, strict=True)
        ]
        shares = [sum(spent[: place + 1]) / sum(spent) for place in range(len(spent))]
        return cls(
            minutes=training.max_minutes,
            epochs=[-(-total // steps) for total in totals],
            max_steps=[total if total % steps else None for total in totals],
            wanted=[span(*limit, steps)[0] for limit in limits],
            before=before,
            ends=[before + share * window for share in shares],
            planned_seconds=before + sum(spent) + after,
        )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Budget:
        """Return the budget that a run has written down."""
        return cls(**{name: stored[name] for name in cls.__dataclass_fields__})

    def settled(self, training: Training) -> Training:
        """Return the training with the epochs and steps of the plan."""
        tuning = training.fine_tuning
        if tuning is not None:
            tuning = tuning.model_copy(update={"epochs": self.epochs[1], "max_steps": self.max_steps[1]})
        first = {"epochs": self.epochs[0], "max_steps": self.max_steps[0]}
        return training.model_copy(update={**first, "fine_tuning": tuning})

    def lengths(self, steps: int) -> list[float]:
        """Return the planned epochs of each phase, with a fraction where it ends within one.

        Args:
            steps: of an epoch.
        """
        return [length(*one, steps) for one in zip(self.epochs, self.max_steps, strict=True)]

    def sentence(self, steps: int) -> str:
        """Say what is planned.

        Args:
            steps: of an epoch.
        """
        both = zip(self.lengths(steps), self.wanted, ("", " of fine-tuning"), strict=False)
        told = " and ".join(f"{planned:.3g} of {wanted} epochs{name}" for planned, wanted, name in both)
        return (
            f"training.max_minutes={self.minutes:g}: {told} are planned, "
            f"about {self.planned_seconds / 60:.2g} minutes in all"
        )

    def repeated_by(self, training: Training) -> str:
        """Return the overrides that repeat the plan, whatever the speed of the machine.

        Args:
            training: as it was asked for.
        """
        settled = self.settled(training)
        texts = ["training.max_minutes=null", f"training.epochs={settled.epochs}"]
        texts += [f"training.max_steps={settled.max_steps}"] if settled.max_steps else []
        if settled.fine_tuning is not None:
            told = settled.fine_tuning.model_dump(exclude_defaults=True)
            keys = ",".join(f"{key}:{value}" for key, value in told.items())
            texts.append(f"'training.fine_tuning={{{keys}}}'")
        return " ".join(texts)
