"""What the group `sweep` of a config says, and what is known of a run before it runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Scalar = bool | int | float | str | None


def _variable(key: str) -> str:
    """Of a preset, which may be somebody else's: neither code nor what Hydra does, nor more than one key."""
    if re.fullmatch(r"[\w./-]+", key) is None or re.split(r"[./]", key)[0] in ("hydra", "plugins"):
        raise PydanticCustomError("not_variable", "a key of the config, other than plugins and hydra")
    return key


Variable = Annotated[str, AfterValidator(_variable)]


class Parameter(BaseModel):
    """What a search varies: a number between `low` and `high`, both included, or one of `choices`.

    Attributes:
        key: of the config, or a group.
        log: whether a factor counts the same everywhere, as for a learning rate.
        step: the numbers are `low` and so many steps more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Variable
    choices: Annotated[list[Any], Field(min_length=1)] | None = None
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("wants either choices or low and high")
        return self

    @property
    def ends(self) -> list[Any]:
        """Values between which, or among which, all others are."""
        return [self.low, self.high] if self.choices is None else self.choices


class Search(BaseModel):
    """What Optuna is asked for.

    Attributes:
        space: config keys and groups; where any is typed with several values, these alone.
        trials: how many runs, poor ones that were stopped early included.
        sampler: how values are proposed.
        pruner: which runs are stopped early, by the objective after each epoch.
        min_epochs: no run is stopped before.
        reduction_factor: of `asha` and `hyperband`: of so many runs, one goes on to the next rung.
        seed: of the sampler.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: Annotated[list[Parameter], Field(min_length=1)]
    trials: Annotated[int, Field(ge=1)] = 30
    sampler: Annotated[str, Field(pattern="^(tpe|random|qmc|gp|cmaes)$")] = "tpe"
    pruner: Annotated[str, Field(pattern="^(asha|hyperband|median|none)$")] = "hyperband"
    min_epochs: Annotated[int, Field(ge=1)] = 1
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Plan(BaseModel):
    """The group `sweep` of a config.

    Attributes:
        grid: values by config key or group; a key that was typed has the typed ones.
        zip: keys whose values go side by side instead of each with each.
        exclude: combinations that are left out: each value, or one of several, by key.
        search: in place of a grid.
        resume: the folder of a sweep that the same line has made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    grid: dict[Variable, Annotated[list[Any], Field(min_length=1)]] = {}
    zip: list[Annotated[list[str], Field(min_length=2)]] = []
    exclude: list[Annotated[dict[str, Scalar | list[Scalar]], Field(min_length=1)]] = []
    search: Search | None = None
    resume: str | None = None


# -- Before it runs --------------------------------------------------------------------------------


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
