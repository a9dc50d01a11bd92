"""The models of what the group `sweep` of a config says, of a stored search, and of a forecast."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from cnnbench.config import has_key

Scalar = bool | int | float | str | None


def _variable(key: str) -> str:
    """Refuse keys that a stranger's preset must not vary: code, Hydra's own, several keys in one text."""
    if re.fullmatch(r"[\w./-]+", key) is None or re.split(r"[./]", key)[0] in ("hydra", "plugins"):
        raise PydanticCustomError("not_variable", "a key of the config, other than plugins and hydra")
    return key


Variable = Annotated[str, AfterValidator(_variable)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(_Model):
    """What a search varies: a number from `low` to `high`, both included, or one of `choices`.

    Attributes:
        key: a key or a group of the config.
        log: search by factors instead of differences, as for a learning rate.
        step: take only `low` plus multiples of it.
    """

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
        """The extreme values, or all choices: where these are valid, every value is."""
        return [self.low, self.high] if self.choices is None else self.choices


class Search(_Model):
    """What Optuna is asked for.

    Attributes:
        space: the parameters; where any key is typed with several values, only the typed ones.
        trials: the number of runs, those that are stopped early included.
        minutes: after which no run is begun, and those under way stop and measure what they have found; null
            for no limit.
        sampler: the method that proposes values.
        pruner: the method that stops poor runs early, by the objective after each epoch.
        min_epochs: the epochs that every run is given.
        reduction_factor: `asha` and `hyperband` let one of so many runs go on to the next rung.
        seed: the seed of the sampler.
    """

    space: Annotated[list[Parameter], Field(min_length=1)]
    trials: Annotated[int, Field(ge=1)] = 30
    minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    sampler: Annotated[str, Field(pattern="^(tpe|random|qmc|gp|cmaes)$")] = "tpe"
    pruner: Annotated[str, Field(pattern="^(asha|hyperband|median|none)$")] = "hyperband"
    min_epochs: Annotated[int, Field(ge=1)] = 1
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Plan(_Model):
    """The group `sweep` of a config.

    Attributes:
        grid: values by config key or group; a key that was typed keeps the typed values.
        zip: lists of keys whose values go side by side instead of each with each.
        exclude: combinations that are left out: by key one value, or a list of them.
        search: a search in place of a grid.
        resume: the folder of a sweep that the same line has made.
    """

    grid: dict[Variable, Annotated[list[Any], Field(min_length=1)]] = {}
    zip: list[Annotated[list[str], Field(min_length=2)]] = []
    exclude: list[Annotated[dict[str, Scalar | list[Scalar]], Field(min_length=1)]] = []
    search: Search | None = None
    resume: str | None = None


# -- A stored search -------------------------------------------------------------------------------


class Base(_Model):
    """A config that the values of a search go into.

    Attributes:
        choices: the option of each group in the space.
        overrides: what was typed for it.
        config: resolved and checked.
    """

    choices: dict[str, Any]
    overrides: list[str]
    config: dict[str, Any]

    def varies(self, key: str) -> bool:
        """Tell whether this config has the key: some keys belong to one model only."""
        return key in self.choices or has_key(self.config, key)


class StoredSearch(_Model):
    """All that a search needs to go on, whatever becomes of the YAML.

    Attributes:
        settings: what was asked for.
        objective: the metric that is compared, e.g. `val_accuracy`.
        epochs: the most epochs of a run.
        bases: one for each combination of options of groups in the space.
    """

    settings: Search
    objective: str
    epochs: int
    bases: list[Base]


# -- Before a run ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rehearsal:
    """What a run takes on this machine.

    Attributes:
        parameters: the number of the model's weights.
        flops: floating-point operations of its forward pass for one example.
        once_seconds: the time for all that happens once: data, building, tracing, features, evaluation,
            figures. Without the import of TensorFlow, which a sweep does not repeat.
        epoch_seconds: the time of one epoch with its validation, for each phase (training, fine-tuning).
        peak_memory_bytes: the most resident memory.
        device: the GPU that computes; None on a CPU.
        engine: how steps are executed there, as the summary of a run says it.
        peak_gpu_memory_bytes: the most that TensorFlow takes there at once: examples, weights, activations.
        steps: of an epoch.
    """

    parameters: int
    flops: int
    once_seconds: float
    epoch_seconds: Sequence[float]
    peak_memory_bytes: int
    device: str | None = None
    engine: str | None = None
    peak_gpu_memory_bytes: int | None = None
    steps: int = 1


@dataclass(frozen=True)
class RangeTest:
    """What a range test of the learning rate has found.

    Attributes:
        phase: that was tested, `training` or `fine_tuning`.
        suggestion: a tenth of `lowest`; null where the loss never fell.
        lowest: the rate at which the smoothed loss is lowest; of several seeds the geometric mean, as the
            others are.
        steepest: where it falls the fastest.
        diverged: where the test ended, since the loss rose to a multiple of the lowest or was not finite;
            null where it did not.
        suggestions: of each seed in which the loss fell.
        rates: the learning rate of each step.
        losses: the smoothed loss of each step, its mean over the seeds.
    """

    phase: str
    suggestion: float | None
    lowest: float | None
    steepest: float | None
    diverged: float | None
    suggestions: Sequence[float]
    rates: Sequence[float]
    losses: Sequence[float]


@dataclass(frozen=True)
class Forecast:
    """What is known of one job before it runs.

    Attributes:
        number, overrides, folder: as of `Job`.
        parameters, flops, peak_memory_bytes: as of `Rehearsal`; None where the job would fail.
        device, engine, peak_gpu_memory_bytes: as of `Rehearsal`; None where it would fail, and on a CPU.
        free_gpu_memory_bytes: of the GPU before anything was tried; None where nothing tells.
        epoch_seconds: the estimated time of an epoch.
        seconds: the estimated time of the whole run, `training.max_minutes` at most; early stopping may end
            it sooner.
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
    device: str | None = None
    engine: str | None = None
    peak_gpu_memory_bytes: int | None = None
    free_gpu_memory_bytes: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class ProbedBackbone:
    """A backbone, or the pixels themselves, under a linear model of its features.

    Attributes:
        name: as `model.backbone` takes it; `pixels` for pictures of 16 pixels a side.
        size: pixels per side that it sees.
        features: that it gives for a picture.
        score: cross-validated.
        low, high: the 95 % interval of that.
        seconds: of one picture in a batch; null of pixels.
        bytes: of its weights.
        difference: by how much the first is better; 0 of the first.
        margin: half the width of the interval of the difference; null where it has none.
        p: of the difference, corrected for all pairs; null where there is none.
        is_worse: whether the difference is real.
    """

    name: str
    size: int
    features: int
    score: float
    low: float
    high: float
    seconds: float | None
    bytes: int
    difference: float = 0.0
    margin: float | None = None
    p: float | None = None
    is_worse: bool = False


@dataclass(frozen=True)
class CurvePoint:
    """The score of the first with a part of the pictures.

    Attributes:
        examples: that it has learnt from.
        score: the mean of several draws.
        deviation: the standard error that other draws would show.
    """

    examples: int
    score: float
    deviation: float


@dataclass(frozen=True)
class Outlook:
    """What more pictures would bring, as far as the learning curve tells.

    Attributes:
        examples: as many pictures as are thought of.
        now: the score with those that were used.
        low, middle, high: the score then: 2.5 %, 50 % and 97.5 % of all curves, by how well they fit.
    """

    examples: int
    now: float
    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Probe:
    """What a linear model makes of the features of each backbone, on the training split alone.

    Attributes:
        dataset: its name.
        task: of it.
        metric: that is cross-validated.
        examples: pictures that were used.
        of: pictures that there are.
        folds: of the cross-validation.
        ranked: the best first.
        test: by which differences were judged; empty where there was nothing to compare.
        curve: of the first, the smallest part first.
        outlook: null where there are too few pictures for a learning curve.
        answer: what more pictures would bring, in a sentence.
        next: the line to type next.
        notes: what should be known, a line each.
    """

    dataset: str
    task: str
    metric: str
    examples: int
    of: int
    folds: int
    ranked: Sequence[ProbedBackbone]
    test: str
    curve: Sequence[CurvePoint]
    outlook: Outlook | None
    answer: str
    next: str
    notes: Sequence[str]


# -- What the doctor finds -------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One thing that may be wrong with one or two examples.

    Attributes:
        kind: `wrong label`, `leak`, `near-duplicate`, `outlier`, `blank`, `dark`, `blurred` or `tiny`.
        split: of the example.
        example: its name, or `row 12`.
        label: its target.
        other_split, other: the example that it equals, or that shows the same; empty for one alone.
        other_label: its target.
        suggested: the target that a model finds instead; empty where it is not about the target.
        score: what the kind is measured by, as `why` says.
        why: in words.
        action: what `fixes.csv` does about it: `exclude`, `group`, or nothing.
        row, other_row: in the split, from 0.
    """

    kind: str
    split: str
    example: str
    label: str
    other_split: str
    other: str
    other_label: str
    suggested: str
    score: float
    why: str
    action: str
    row: int
    other_row: int | None = None


@dataclass(frozen=True)
class ClassOverlap:
    """Two classes that are taken for each other.

    Attributes:
        first, second: their names.
        share: of the examples of both, how many are taken for the other class.
        examples: how many.
    """

    first: str
    second: str
    share: float
    examples: int


@dataclass(frozen=True)
class ShortcutRow:
    """How well something that should not matter tells the classes.

    Attributes:
        by: what it is.
        score: balanced accuracy, out of fold.
        chance: that of guessing.
        verdict: `shortcut`, `some` or `none`.
    """

    by: str
    score: float
    chance: float
    verdict: str


@dataclass(frozen=True)
class Doctor:
    """What is wrong with a data set, as far as that can be told without knowing the truth.

    Attributes:
        dataset: its name.
        task: what is predicted.
        examples: by split.
        features: what labels and neighbours were judged by: a backbone, `pixels` or `columns`.
        metric: by which a linear model of them was measured, out of fold.
        score: its value.
        findings: one for each thing, those of a kind together.
        counts: of the findings, by kind.
        overlaps: classes that are taken for each other.
        shortcuts: what tells the classes without looking at them.
        flagged: examples with a finding.
        share: of all examples.
        limit: of that share; null for none.
        passed: whether the share is within the limit, and no shortcut was found.
        fixes: the table that was written; empty where there is nothing to fix.
        page: the HTML page.
        next: what to type to see what the fixes are worth; empty where there are none.
        notes: a line for each thing to know.
    """

    dataset: str
    task: str
    examples: dict[str, int]
    features: str
    metric: str
    score: float
    findings: list[Finding]
    counts: dict[str, int]
    overlaps: list[ClassOverlap]
    shortcuts: list[ShortcutRow]
    flagged: int
    share: float
    limit: float | None
    passed: bool
    fixes: str
    page: str
    next: list[str]
    notes: list[str]
