"""The spec of one run: plain values and factories, without Hydra and TensorFlow.

`config.composition.run_spec` makes a `RunSpec` from a composed config; a notebook may fill one by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from cnnbench.data import Dataset, of_fold, with_calibration, with_validation
from cnnbench.runs import conformal

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
Device = Literal["auto", "cpu", "gpu"]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Factory = Callable[..., Any]
AVERAGE = "average"  # in the place of a fold's number: the average of the models of all


class Expected(BaseModel):
    """What a recipe promises, measured with at least three seeds.

    Attributes:
        metric: of the best checkpoint, e.g. `test_accuracy`.
        low, high: mean ± three standard deviations over the seeds.
        minutes: of training, on the machine where it was measured (two cores).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    metric: str
    low: float
    high: float
    minutes: float


class FineTuning(BaseModel):
    """A second phase for a pretrained backbone, from the best epoch of the first.

    Attributes:
        from_layer: the first layer to train, or the beginning of its name; `half` for the upper half of the
            backbone's layers, `all` for the whole backbone.
        epochs: at most, after those of the first phase.
        learning_rate: of the head, the highest of its schedule; smaller than in the first phase.
        schedule: of the phase, to its last step.
        warmup_epochs: of `cosine` and `triangular`: a linear rise from 0.
        layer_decay: each block of the backbone has so many times the learning rate, and decoupled weight
            decay, of the one above it; the first below the head, of the head's.
        l2_sp: decoupled decay of the backbone's weights towards those that the run began with (L2-SP),
            times the learning rate as weight decay is.
        unfreeze_epochs: train one block more after each so many epochs, from the top; null: all at once.
        max_steps: end the phase after so many steps, within an epoch if it must be; null: with an epoch.
        weight_decay: decoupled, of the phase; null: the optimizer's own.
        from_examples: the fewest training examples with which there is a second phase.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    from_layer: str
    epochs: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    schedule: Literal["constant", "cosine", "triangular"] = "constant"
    warmup_epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    l2_sp: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    unfreeze_epochs: Annotated[int, Field(ge=1)] | None = None
    max_steps: Annotated[int, Field(ge=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    from_examples: Annotated[int, Field(ge=1)] = 1


class Calibration(BaseModel):
    """What is settled on the validation split when the best checkpoint is stored.

    Attributes:
        temperature: divide the logits by one number that is fitted (Guo et al. 2017).
        threshold: what a binary task's, or each label's, threshold is chosen for: `f1`,
            `balanced_accuracy`, `precision=0.9` (with the highest recall), `recall=0.95` (with the highest
            precision), `cost=5` (of a missed one, in false alarms); null is 0.5.
        coverage: the promised share of sets of classes that hold the true one (conformal prediction); null:
            no sets are made.
        share: of the validation split, held out from everything else for `coverage`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    temperature: bool = False
    threshold: str | None = None
    coverage: Annotated[float, Field(gt=0, lt=1)] | None = None
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Training(BaseModel):
    """The group `training`.

    Attributes:
        epochs: upper limit; early stopping may end sooner.
        max_steps: end the first phase after so many steps, within an epoch if it must be; schedules end with
            it. null: with an epoch.
        max_minutes: of the whole run, from its data to its pictures: as many epochs as fit into it, `epochs`
            at most, are planned when a few steps have been timed, and written into the run's config.
        batch_size: examples per step; `auto` takes the largest power of two from 16 to 1,024 that fits into
            memory, leaves an epoch 20 steps and, on a CPU, makes training faster.
        precision: Keras dtype policy; `auto` takes bfloat16 on a GPU that has it, and on a processor that has
            it where a probe of the network gains, else float32.
        validation_fraction: part of the training split held out for choosing the best epoch; 0 for none.
            Ignored where the data set brings a validation split of its own.
        folds: cross-validation: as many runs as folds, each of which holds another fold out and measures on
            it, and the average of their models. The folds are drawn by the seed: several seeds repeat them.
        fold: which of them, from 0; `average` for the average of their models; null is a run for each.
        examples: use only this many training examples (smoke runs); null for all.
        metrics: further figures of the validation split after each epoch, `val_NAME` in the history, and of
            every split at the end; a callback may monitor them. See `runs.metrics.CHOICES`.
        class_weight: `balanced` weighs each example by the rarity of its class; of several labels, each label
            of an example by how rarely it is so, had or lacked.
        sampling: `balanced` lets an epoch have every class equally often, rare examples several times.
        scale_targets: regression: let the network predict standardised targets, each by its own mean and
            deviation; predictions and metrics stay in the target's own unit. `auto` does for every
            regression.
        cache_features: compute the features of a frozen backbone once, where nothing is augmented.
        fine_tuning: a second phase for `model=transfer`.
        save_minutes: how often the state of the training is saved for `resume`, within epochs too; null after
            each epoch, unless that took more than 2 % of the time.
        steps_per_execution: steps between two looks at metrics and keyboard; `auto` aims at 0.2 to 1 s.
        resident: keep the examples in the memory of the GPU; null does where half of what is free suffices.
        jit_compile: compile steps by XLA; null does on a GPU where the run is long enough to earn it.
        calibration: of the probabilities, thresholds and sets, on the validation split.
        test_time_augmentation: predict the mean over views of each image: `mirror`, or `mirror_translate`.
        distribute: `mirrored` trains on all GPUs of the machine, each with an equal part of every batch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    epochs: Annotated[int, Field(ge=1)] = 20
    max_steps: Annotated[int, Field(ge=1)] | None = None
    max_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 64
    precision: Precision = "auto"
    validation_fraction: Fraction = 0.1
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] | Literal["average"] | None = None
    examples: Annotated[int, Field(ge=10)] | None = None
    metrics: list[str] | None = None
    class_weight: Literal["balanced"] | None = None
    sampling: Literal["balanced"] | None = None
    scale_targets: bool | Literal["auto"] = False
    cache_features: bool = True
    fine_tuning: FineTuning | None = None
    save_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    steps_per_execution: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    resident: bool | None = None
    jit_compile: bool | None = None
    calibration: Calibration = Calibration()
    test_time_augmentation: Literal["mirror", "mirror_translate"] | None = None
    distribute: Literal["mirrored"] | None = None

    @property
    def examples_per_step(self) -> int:
        """The batch size as a number, which for `auto` is the default until it is chosen."""
        return 64 if self.batch_size == "auto" else self.batch_size

    @field_validator("distribute", mode="before")
    @classmethod
    def _on_one_machine(cls, value: Any, others: ValidationInfo) -> Any:
        if value == "multi_worker":
            raise PydanticCustomError(
                "multi_worker",
                "one training over several machines is not offered, since Keras's fit cannot feed it; "
                "mirrored takes all GPUs of one machine, and a sweep may use a cluster",
            )
        if value == "mirrored" and others.data.get("batch_size") == "auto":
            raise PydanticCustomError(
                "shared_batch",
                "training.batch_size=auto is chosen for one device; give the number for all of them together",
            )
        if value == "mirrored" and others.data.get("steps_per_execution") not in ("auto", 1):
            raise PydanticCustomError(
                "chained_steps",
                "Keras cannot chain steps that several devices share; use steps_per_execution=1 or auto",
            )
        return value


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides the result of one training.

    Attributes:
        name: `<model>_<dataset>`, for the folder and the tables.
        run_dir: where the results go; made by the run, must not exist or be empty. None: a new folder below
            `outputs/`.
        dataset: `dataset()` → `Dataset`.
        model: `model(input_shape=, outputs=)` → uncompiled `keras.Model` that ends in raw outputs (logits).
        optimizer: `optimizer(learning_rate=)` → `keras.optimizers.Optimizer`.
        learning_rate: a number, or `learning_rate(steps_per_epoch=, epochs=)` → number or Keras schedule.
        loss: `loss()` → Keras loss; None takes the standard one of the task.
        augmentation: `augmentation()` → `Augmentation`; None for none.
        plugins: modules or .py files of the user's own, to be imported before a model is built or loaded.
        callbacks: by name, each `callback()` → `keras.callbacks.Callback`.
        trackers: by name, each `tracker()` → `cnnbench.reporting.trackers.Tracker`.
        rehearses: the training that this run only tries with a few steps: XLA is chosen as it would be for
            that, and nothing is remembered. None for a run of its own.
        ends_at: when a search is over, in seconds since 1970: then training stops, and what it has found is
            measured. None for never.
        config: the resolved config as plain values, to be written down.
        overrides: what the user typed.
        notes: what was chosen when the config was composed, and why; the summary says so.
    """

    name: str
    run_dir: Path | None
    dataset: Callable[..., Dataset]
    model: Factory
    optimizer: Factory
    learning_rate: float | Factory
    loss: Factory | None = None
    loss_tasks: tuple[str, ...] = ()
    augmentation: Factory | None = None
    callbacks: Mapping[str, Factory] = field(default_factory=dict)
    trackers: Mapping[str, Factory] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    rehearses: Training | None = None
    ends_at: float | None = None
    seed: int = 0
    deterministic: bool = False
    device: Device = "auto"
    plugins: tuple[str, ...] = ()
    objective: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The run folder, which has been chosen by then."""
        assert self.run_dir is not None
        return self.run_dir

    def drawn(self, source: Dataset) -> Dataset:
        """Return a data set with the splits of this run: those of its fold, validation included."""
        training, fold = self.training, self.training.fold
        if fold == AVERAGE:
            return with_validation(source, 0, None, self.seed)
        if training.folds is not None and isinstance(fold, int):
            source = of_fold(source, training.folds, fold, self.seed)
        drawn = with_validation(source, training.validation_fraction, training.examples, self.seed)
        coverage, share = training.calibration.coverage, training.calibration.share
        if coverage is None:
            return drawn
        conformal.refuse_task(drawn.task, drawn.outputs)
        return with_calibration(drawn, share, conformal.least_examples(coverage), self.seed)

    def as_config(self) -> dict[str, Any]:
        """Write down what can be of a spec that was not made from a config: enough to tell runs apart."""
        named = {
            name: getattr(value, "__qualname__", repr(value))
            for name in ("dataset", "model", "optimizer", "learning_rate", "loss", "augmentation")
            if (value := getattr(self, name)) is not None
        }
        plain = {name: getattr(self, name) for name in ("seed", "deterministic", "device")}
        return {"made_in": "python", **plain, **named, "training": self.training.model_dump()}


@dataclass(frozen=True)
class Summary:
    """What is known when the training begins."""

    name: str
    dataset: str
    splits: Mapping[str, int]
    input_shape: tuple[int, ...]
    outputs: int
    model: str
    parameters: int
    flops: int
    device: str
    precision: str
    engine: str
    epochs: int
    steps: int
    batch_size: int
    folder: Path
    task: str = ""


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
        folder: the run folder.
        status: `done`; anything else was raised.
        objective: name of the metric that a sweep ranks by.
        value: its value.
        metrics: the content of `metrics.json`.
    """

    folder: Path
    status: str
    objective: str
    value: float
    metrics: Mapping[str, Any]


class Observer:
    """Whoever hears how a run goes; this one does nothing."""

    def started(self, summary: Summary) -> None: ...

    def epoch_started(self, epoch: int) -> None:
        """Hear that an epoch begins; the first is 1."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hear that so many steps of the epoch are done; `metrics` are running means."""

    def epoch_ended(self, entry: Mapping[str, float]) -> None: ...

    def measured(self, metrics: Mapping[str, Any]) -> None:
        """Hear the final figures, as in `metrics.json`; pictures and page are still to be drawn."""

    def finished(self, result: RunResult) -> None: ...

    def failed(self, status: str) -> None:
        """Hear that the run has `failed`, was `interrupted` or `pruned`."""


class Observers(Observer):
    """Several, each told in turn."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = observers

    def started(self, summary: Summary) -> None:
        for observer in self.observers:
            observer.started(summary)

    def epoch_started(self, epoch: int) -> None:
        for observer in self.observers:
            observer.epoch_started(epoch)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        for observer in self.observers:
            observer.step(step, metrics)

    def epoch_ended(self, entry: Mapping[str, float]) -> None:
        for observer in self.observers:
            observer.epoch_ended(entry)

    def measured(self, metrics: Mapping[str, Any]) -> None:
        for observer in self.observers:
            observer.measured(metrics)

    def finished(self, result: RunResult) -> None:
        for observer in self.observers:
            observer.finished(result)

    def failed(self, status: str) -> None:
        for observer in self.observers:
            observer.failed(status)
