"""What `metrics.json` holds; `cnnbench schema metrics.json` prints it as JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic takes that of `typing` from Python 3.12 on

from cnnbench.data import Task


class Cost(TypedDict):
    """What the best checkpoint and its training cost.

    Attributes:
        parameters: of the model.
        flops_per_example: of the forward pass.
        examples_per_second: of the training, over all epochs.
        latency_seconds: of one example alone.
        peak_memory_bytes: of the process, since before the model was made.
        peak_gpu_memory_bytes: where a GPU was used.
        checkpoint_bytes: of the file `best.keras`.
        seconds: by part of the run: `data`, `import`, `build`, `fit`, `evaluate`, `figures`, `report`; `plan`
            where its time is limited, `calibrate` where something is settled on the validation split, `sets`
            where these are made.
    """

    parameters: int
    flops_per_example: int | None
    examples_per_second: float
    latency_seconds: float
    peak_memory_bytes: int | None
    peak_gpu_memory_bytes: NotRequired[int]
    checkpoint_bytes: int
    seconds: dict[str, float]


class FoldSizes(TypedDict):
    """The sizes of a fold and of the rest.

    Attributes:
        examples: that were held out and measured.
        others: that were trained on, with those for choosing the epoch.
    """

    examples: int
    others: int


class Spent(TypedDict):
    """The time of a run that was limited.

    Attributes:
        minutes: that were allowed.
        planned_epochs: of each phase, with a fraction where it was to end within one.
        planned_seconds: of the whole run.
        seconds: that it took, up to the page.
    """

    minutes: float
    planned_epochs: list[float]
    planned_seconds: float
    seconds: float


class IntervalRow(TypedDict):
    """Where a figure lies at 95 %, were the examples of its split drawn anew; seeds are another matter.

    Attributes:
        low: its lower end.
        high: its upper end.
        method: `Wilson` of a share, `Student` of a mean, `DeLong` of the area under a ROC curve; `bootstrap`
            of all else, and of examples in groups, which are drawn whole.
    """

    low: float
    high: float
    method: str


class CalibrationRow(TypedDict):
    """Whether the probabilities of a split come true as often as they say.

    Attributes:
        ece: expected calibration error, in 15 bins of equal width.
        by_chance: what perfectly calibrated probabilities of as many examples show on average.
        by_chance_95: what only one in twenty draws of such examples exceeds.
    """

    ece: float
    by_chance: float
    by_chance_95: float


class DecisionRow(TypedDict):
    """What was settled on the validation split; `best.keras` carries it.

    Attributes:
        temperature: that the logits are divided by within the model; null where none was fitted.
        aim: what the thresholds were chosen for; null where none was.
        thresholds: by the name of the positive class, or of each label: a probability above it is a yes.
        uncalibrated: by split, the figures without any of this: loss and ECE at temperature 1, decisions at
            0.5.
        remarks: one line for each thing that could not be had.
    """

    temperature: float | None
    aim: str | None
    thresholds: Mapping[str, float]
    uncalibrated: Mapping[str, Mapping[str, float]]
    remarks: Sequence[str]


class MemberRow(TypedDict):
    """One of the models of which an average is made.

    Attributes:
        run: its folder, as an absolute path.
        name: of the run.
        seed: of the run.
        sha256: of its stored model.
        loss: that it was trained with, as in its config.
        metrics: its figures on the test split of the average; of a fold, that is not its own.
        intervals: of these figures.
    """

    run: str
    name: str
    seed: int
    sha256: str
    loss: object
    metrics: Mapping[str, float]
    intervals: Mapping[str, IntervalRow]


class Coverage(TypedDict):
    """How the sets of classes, or ranges of values, of `training.calibration.coverage` keep their promise.

    Attributes:
        promised: share of examples whose truth is inside.
        calibrated_on: how many validation examples, which had chosen nothing, said how large they must be.
        examples: on which it is checked.
        coverage: share of these whose truth is inside.
        low: lower end of the 95 % interval of that.
        high: its upper end.
        method: of the interval.
        by_chance: between which shares 95 % of the draws of calibration and test would lie, were the promise
            kept exactly; lacking where examples belong to groups.
        kept: whether `coverage` is not below that; lacking with it.
        mean_size: classes of a set.
        sizes: how many sets have no class, one, two, …
        answers: how many sets are the class alone that is decided for; a threshold may decide for the other.
        accuracy_of_single: share of these that are right; lacking where there are none.
        width: of a range of values.
    """

    promised: float
    calibrated_on: int
    examples: int
    coverage: float
    low: float
    high: float
    method: str
    by_chance: NotRequired[list[float]]
    kept: NotRequired[bool]
    mean_size: NotRequired[float]
    sizes: NotRequired[list[int]]
    answers: NotRequired[int]
    accuracy_of_single: NotRequired[float]
    width: NotRequired[float]


class RunMetrics(TypedDict):
    """A finished run.

    Attributes:
        status: `done`.
        name: of the run, from its config.
        task: what the outputs mean.
        class_names: by class index, or of the labels; empty for regression. Of two classes the second is the
            positive one, which `precision`, `recall`, `f1` and `average_precision` are of.
        target_names: of a regression; lacking for classes, and in runs of 0.1.0.
        input_shape: of one example, without the batch.
        seed: of everything random.
        objective: name of the metric that runs are ranked by.
        value: of the objective.
        metrics: by split and name; those of `train` are means over the best epoch. The `test` split of a fold
            is what it holds out; the average of folds has `fold`, each example by the model that has not seen
            it, and `test`, that of the data set.
        by_output: of classes, labels or several targets, the figures of each: by split, name and metric.
            `support` is the number of examples of the class, or that have the label. Lacking for one target,
            and for classes in runs of 0.1.0 and 0.2.0.
        intervals: by split and name, of the figures that have one; lacking in runs of 0.1.0 and 0.2.0.
        calibration: by split, of probabilities; lacking for regression, and in runs of 0.1.0 and 0.2.0.
        decision: lacking where neither temperature nor threshold was asked for.
        sets: on the test split, of the sets of classes or ranges of values; lacking without
            `training.calibration.coverage`.
        data: the digest of the data; lacking in runs of 0.1.0.
        weights: the digest of each file of weights that the model began with; lacking in runs of 0.1.0.
        changes: one text for each change that a resumed run accepted; lacking in runs of 0.1.0.
        best_epoch: the one whose weights are kept, from 1 on.
        best_by: what it has, such as `lowest val_loss`; lacking without a checkpoint, and in runs of 0.1.0.
        epochs: how many were trained, the last one maybe in part.
        budget: of `training.max_minutes`.
        stopped_by: whose time ended the training before its epochs; lacking where none did.
        fold: sizes, of a run that is a fold.
        average_of: the folders of the folds, or of the members of an ensemble, whose average this is.
        members: the same runs, with their figures; lacking in runs of 0.1.0 and 0.2.0.
        largest_difference: between an output of the stored average and the mean of its members'.
        cost: counts, seconds and bytes.
        started: ISO 8601, with the offset of the time zone.
        finished: the same.
    """

    status: Literal["done"]
    name: str
    task: Task
    class_names: Sequence[str]
    target_names: NotRequired[Sequence[str]]
    input_shape: Sequence[int]
    seed: int
    objective: str
    value: float
    metrics: Mapping[str, Mapping[str, float]]
    by_output: NotRequired[Mapping[str, Mapping[str, Mapping[str, float]]]]
    intervals: NotRequired[Mapping[str, Mapping[str, IntervalRow]]]
    calibration: NotRequired[Mapping[str, CalibrationRow]]
    decision: NotRequired[DecisionRow]
    sets: NotRequired[Coverage]
    data: NotRequired[str]
    weights: NotRequired[Mapping[str, str]]
    changes: NotRequired[list[str]]
    best_epoch: int
    best_by: NotRequired[str]
    epochs: int
    budget: NotRequired[Spent]
    stopped_by: NotRequired[str]
    fold: NotRequired[FoldSizes]
    average_of: NotRequired[list[str]]
    members: NotRequired[list[MemberRow]]
    largest_difference: NotRequired[float]
    cost: Cost
    started: str
    finished: str


class EndedMetrics(TypedDict):
    """A run that has ended without a result; `failure.json` says more.

    Attributes:
        status: what became of it.
        reason: in one line.
        finished: ISO 8601, with the offset of the time zone.
        name: of the run, from its config.
        seed: of everything random.
    """

    status: Literal["failed", "interrupted", "pruned"]
    reason: str
    finished: str
    name: str
    seed: int
