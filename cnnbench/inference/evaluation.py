"""The best checkpoint measured again: on a split, on another data set, or to verify what is recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cnnbench.config import with_values
from cnnbench.data import Dataset
from cnnbench.errors import CnnbenchError
from cnnbench.inference.load import differences, load_dataset, load_model, measure_split, require_finished
from cnnbench.inference.recomputation import recompute
from cnnbench.reporting import number
from cnnbench.runs import RunFolder, RunSpec
from cnnbench.system import plain, sha256

if TYPE_CHECKING:
    from rich.table import Table

SPLITS = ("val", "test")
# How far a figure may be from the recorded one, relative to it: on the same device, on another. Within one
# device only the order of sums differs; another one has other kernels, and a GPU multiplies float32 with 10
# bits of fraction (TF32). More is another model or other data.
BOUNDS = {"float32": (1e-5, 2e-3), "mixed_bfloat16": (1e-3, 5e-3), "mixed_float16": (1e-3, 5e-3)}
# Metrics that count decisions, of which an output within its bound may turn some.
DECISIONS = ("accuracy", "precision", "recall", "f1", "correlation", "kappa")


@dataclass(frozen=True)
class Evaluation:
    """Figures of one checkpoint on one split.

    Attributes:
        run: the run folder.
        dataset: the data set's name.
        split: `val` or `test`.
        examples: in that split.
        metrics: loss and final metrics.
        recorded: what the run has recorded for its own split of that name; may be empty.
        notes: one line for each thing that makes the comparison of the two less than obvious.
    """

    run: str
    dataset: str
    split: str
    examples: int
    metrics: dict[str, float]
    recorded: dict[str, float]
    notes: tuple[str, ...] = ()


def evaluate_checkpoint(
    folder: RunFolder,
    spec: RunSpec,
    split: str = "test",
    own_data: Literal["must", "may", "no"] = "no",
) -> Evaluation:
    """Measure the best checkpoint.

    Args:
        folder: of a finished run.
        spec: made from the folder's config; its data set may be another one.
        split: `val` or `test`.
        own_data: whether the data must be those of the run, or may be, with a note where they are not.

    Raises:
        CnnbenchError: the run has no finished checkpoint, there is no such split, the data set does not
            fit the model, or the data of the run are others by now.
    """
    require_finished(folder)
    dataset = load_dataset(spec) if split == "val" or folder.identity is None else spec.dataset()
    if split not in dataset.splits:
        raise CnnbenchError(
            f"{dataset.name} has no {split} split here: validation_fraction is 0", "use --split test"
        )
    notes = fit_or_refuse(dataset, folder.metrics)
    others = [] if own_data == "no" else differences(folder, dataset, split)
    if others and own_data == "must":
        raise CnnbenchError(
            f"these are not the data of {folder.path} any more: {others[0]}",
            f"put them back, or name those to measure on: cnnbench evaluate {folder.path} dataset.KEY=VALUE",
        )
    model = load_model(folder, spec)
    _, figures = measure_split(model, dataset, split, spec.training)
    return Evaluation(
        run=str(folder.path),
        dataset=dataset.name,
        split=split,
        examples=len(dataset.splits[split]),
        metrics=figures,
        recorded=folder.metrics["metrics"].get(split, {}),
        notes=(*dataset.notes, *notes, *(f"not the run's own: {text}" for text in others)),
    )


def fit_or_refuse(dataset: Dataset, recorded: Mapping[str, Any]) -> list[str]:
    """Compare a data set with what a run was trained for (the content of its `metrics.json`).

    Returns:
        what is worth knowing though it fits.

    Raises:
        CnnbenchError: its task, the shape of its examples or the number of its classes is another.
    """
    if dataset.task != recorded["task"]:
        raise CnnbenchError(f"{dataset.name} is a {dataset.task} task, but this run's is {recorded['task']}")
    wanted = tuple(recorded["input_shape"])
    if dataset.input_shape != wanted:
        here, there = ("×".join(map(str, shape)) for shape in (dataset.input_shape, wanted))
        raise CnnbenchError(f"{dataset.name} has examples of {here}, but this model takes {there}")
    names = tuple(recorded["class_names"])
    if len(dataset.class_names) != len(names):
        raise CnnbenchError(
            f"{dataset.name} has {len(dataset.class_names)} classes, but this model knows {len(names)}"
        )
    pairs = enumerate(zip(dataset.class_names, names, strict=True))
    differing = next(((index, here, there) for index, (here, there) in pairs if here != there), None)
    if differing is None:
        return []
    index, here, there = differing
    return [
        f"classes are matched by their index, but their names differ: "
        f"{index} is {here!r} in this data set and {there!r} in the run"
    ]


def chooses_dataset(typed: Sequence[str]) -> bool:
    """Whether `dataset=…` is among what was typed; without it, keys change the run's own data set.

    Raises:
        CnnbenchError: something else than `dataset=…`, `dataset.key=…` and `data_dir=…` was typed.
    """
    for text in typed:
        key = text.partition("=")[0]
        if "=" not in text or not (key in ("dataset", "data_dir") or key.startswith("dataset.")):
            raise CnnbenchError(
                f"evaluate takes only dataset=…, dataset.key=… and data_dir=…, not {text!r}",
                "everything else is decided by the run",
            )
    return any(text.startswith("dataset=") for text in typed)


def with_keys(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config with some keys of its data set changed.

    Not composed anew from what was typed for the run: in a stranger's folder that could be anything.

    Raises:
        CnnbenchError: there is no such key.
    """
    if "data_dir" in values and "data_dir" in config["dataset"]:  # written down resolved, in both places
        values = {"dataset.data_dir": values["data_dir"], **values}
    return with_values(config, values)


def with_dataset(config: Mapping[str, Any], other: Mapping[str, Any], task: str) -> dict[str, Any]:
    """A run's config with the data set of another.

    Raises:
        CnnbenchError: the tasks differ; said here because the check of the loss would blame the loss.
    """
    named = other["dataset"].get("task", task)
    if named != task:
        raise CnnbenchError(f"that data set is a {named} task, but this run's is {task}")
    return {**config, "dataset": other["dataset"], "data_dir": other["data_dir"]}


def evaluation_as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as plain values; what is not a number is null."""
    return dict(plain(asdict(evaluation)))


def evaluation_table(evaluation: Evaluation) -> Table:
    """One metric a line, beside what the run has recorded for its own data."""
    from rich.markup import escape
    from rich.table import Table

    title = f"{evaluation.dataset}: {evaluation.split} split, {evaluation.examples:,} examples"
    table = Table(title=escape(title))
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column(f"the run's own {evaluation.split} split", justify="right")
    for name, value in evaluation.metrics.items():
        table.add_row(name, number(value), number(evaluation.recorded.get(name)))
    return table


# -- Verify ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Outcome of a verification.

    Attributes:
        rows: split and metric, recorded value, measured value, whether they agree.
        complaints: what differs besides figures: the file's hash, the data's fingerprint, the precision.
        notes: what the figures were judged by, where that is not the narrowest.
    """

    rows: list[tuple[str, float, float, bool]]
    complaints: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.complaints and all(row[-1] for row in self.rows)


def verify(folder: RunFolder, spec: RunSpec) -> Verdict:
    """Let Keras evaluate the stored file on the recorded splits, in a process of its own.

    Args:
        folder: of a finished run.
        spec: made from the folder's config.

    Raises:
        CnnbenchError: the run has no finished checkpoint, or the file cannot be loaded.
    """
    require_finished(folder)
    dataset = load_dataset(spec)
    complaints = differences(folder, dataset)
    if sha256(folder.best_model) != folder.best.get("sha256"):
        complaints.append("best.keras is not the file that best.json describes (SHA-256 differs)")

    recorded: dict[str, dict[str, Any]] = folder.metrics["metrics"]
    splits = [split for split in SPLITS if recorded.get(split) and split in dataset.splits]
    complaints += [
        f"there is no {split} split any more"
        for split in SPLITS
        if recorded.get(split) and split not in splits
    ]
    trained_on = str(folder.environment.get("device", ""))
    precision = str(folder.environment.get("precision", "float32"))
    narrow, wide = BOUNDS.get(precision, BOUNDS["float32"])
    found = recompute(folder, spec, splits, "cpu" if trained_on.startswith("CPU") else "auto", narrow)
    if found.precision != precision:
        complaints.append(f"best.keras computes in {found.precision}, recorded is {precision}")
    notes, bound = [], narrow
    if _without_cores(found.device) != _without_cores(trained_on):
        bound = wide
        notes.append(f"another device: {found.device}; the run's was {trained_on or 'not recorded'}")
    if bound != BOUNDS["float32"][0]:
        notes.append(f"figures in {precision} may differ by {bound:g} of their value here")
    rows = []
    for split in splits:
        undecided, smallest = found.undecided[split]
        for name, value in recorded[split].items():
            stored = math.nan if value is None else value  # NaN and infinity stand as null in the file
            measured = _number(found.figures[split].get(name))
            turned = undecided / smallest if any(word in name for word in DECISIONS) else 0.0
            allowed = bound + (turned if bound != BOUNDS["float32"][0] else 0.0)
            agrees = math.isclose(stored, measured, rel_tol=bound, abs_tol=min(allowed, 1.0))
            same = agrees or not (math.isfinite(stored) or math.isfinite(measured))
            rows.append((f"{split} {name}", stored, measured, same))
    return Verdict(rows, complaints, notes)


def _without_cores(device: str) -> str:
    return device.partition(",")[0] if device.startswith("CPU") else device


def _number(value: float | None) -> float:
    return math.nan if value is None else value
