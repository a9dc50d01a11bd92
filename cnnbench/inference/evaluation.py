"""Evaluation of the best checkpoint on a split of its own or another data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnnbench.config import with_values
from cnnbench.data import Dataset, Split, Trained, listed
from cnnbench.errors import CnnbenchError
from cnnbench.inference.load import differences, load_dataset, load_model, require_finished
from cnnbench.inference.robustness import Asked, Robustness, measure_robustness
from cnnbench.inference.tables import columns_of, recoded
from cnnbench.renamed import current_name
from cnnbench.reporting import between, number
from cnnbench.runs import (
    OBJECTIVE,
    CalibrationRow,
    Coverage,
    Interval,
    RunFolder,
    RunSpec,
    conformal,
    in_words,
    metrics,
    reliability,
)
from cnnbench.system import plain

if TYPE_CHECKING:
    from rich.table import Table

TABLE, MANIFEST = "cnnbench.data.sources.table_file.table", "cnnbench.data.images.manifest.manifest"
TYPED = (TABLE, MANIFEST, "cnnbench.data.sources.arrays.arrays")  # whose task the targets say
SPLITS = ("val", "test")


@dataclass(frozen=True)
class Evaluation:
    """Figures of one checkpoint on one split.

    Attributes:
        run: the run folder.
        dataset: the data set's name.
        split: `val` or `test`.
        examples: in that split.
        metrics: loss and final metrics.
        recorded: figures of the run's own split of that name; may be empty.
        intervals: of the figures, were as many other examples drawn.
        by_output: of classes, several labels or targets, the figures of each, by name.
        calibration: of the probabilities, as in `metrics.json`; null for regression.
        sets: how the sets of classes, or ranges of values, of a run with `training.calibration.coverage` keep
            their promise here; null without, and of the validation split, which has chosen the model.
        robustness: what corrupted pictures cost; null unless `corruption=…` asks.
        positive: the class that precision and recall are of; null unless the task is binary.
        notes: one line for each thing to know when the two are compared.
    """

    run: str
    dataset: str
    split: str
    examples: int
    metrics: dict[str, float]
    recorded: dict[str, float]
    intervals: dict[str, Interval] = field(default_factory=dict)
    by_output: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: CalibrationRow | None = None
    sets: Coverage | None = None
    robustness: Robustness | None = None
    positive: str | None = None
    notes: tuple[str, ...] = ()


def evaluate_checkpoint(
    folder: RunFolder,
    spec: RunSpec,
    split: str = "test",
    own_data: Literal["must", "may", "no"] = "no",
    corruptions: Asked | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure the best checkpoint.

    Args:
        folder: of a finished run.
        spec: made from the folder's config; its data set may be another one.
        split: `val` or `test`.
        own_data: the data must be those of the run; may be, with a note where they are not; or are others.
        corruptions: of pictures, which are measured, too.
        told: hears how many of how many corruptions are done.

    Raises:
        CnnbenchError: the run has no finished checkpoint, there is no such split, the data set does not
            fit the model, or the data of the run are others by now.
    """
    require_finished(folder)
    is_drawn = (
        split == "val" or folder.identity is None or (own_data != "no" and spec.training.fold is not None)
    )
    model = None
    node = spec.config.get("dataset", {})
    target = current_name(str(node.get("_target_")))
    given: dict[str, Any] = {}  # what is known of other data, and need not be inferred from them
    if own_data != "must" and target in TYPED and node.get("task") is None:
        given["task"] = folder.metrics["task"]
    if own_data != "must" and target == TABLE:
        model = load_model(folder, spec)
        if columns := columns_of(model):
            given["trained"] = Trained(columns, tuple(folder.metrics["class_names"]))
    spec = replace(spec, dataset=partial(spec.dataset, **given))
    is_other = own_data == "no" and node != folder.config.get("dataset")
    if is_other:  # whose validation split has chosen nothing, and is measured whole
        calibration = spec.training.calibration.model_copy(update={"coverage": None})
        spec = replace(spec, training=spec.training.model_copy(update={"calibration": calibration}))
    dataset = load_dataset(spec) if is_drawn else spec.dataset()
    dataset = replace(dataset, calibration=None)  # which is not measured
    if split not in dataset.splits:
        raise CnnbenchError(
            f"{dataset.name} has no {split} split here: validation_fraction is 0", "use --split test"
        )
    strange = list[str]()
    if dataset.columns:  # which the model says how to read
        model = model or load_model(folder, spec)
        dataset, strange = recoded(dataset, columns_of(model))
    dataset = _with_classes_of(dataset, folder.metrics, must=target == MANIFEST)
    dtype = folder.environment.get("dataset", {}).get("dtype")
    notes = [*fit_or_refuse(dataset, folder.metrics, dtype), *strange]
    others = [] if own_data == "no" else differences(folder, dataset, split)
    if others and own_data == "must":
        raise CnnbenchError(
            f"these are not the data of {folder.path} any more: {others[0]}",
            f"put them back, or name those to measure on: cnnbench evaluate {folder.path} dataset.KEY=VALUE",
        )
    model = model or load_model(folder, spec)
    names, decision, measured = dataset.class_names or dataset.targets, folder.decision, dataset.splits[split]
    thresholds = decision.thresholds
    from cnnbench.training import measure_split

    outputs, figures, intervals = measure_split(model, dataset, split, spec.training, thresholds)
    reliable = reliability(dataset.task, measured.y, outputs)
    sets = None
    if decision.conformal and (split == "test" or is_other):
        sets = conformal.coverage_of(
            decision.conformal, dataset.task, measured.y, outputs, measured.groups, thresholds
        )
    robustness = None
    if corruptions is not None:
        from cnnbench.training import evaluation_batch, forward_graph

        forward = forward_graph(model)
        robustness = measure_robustness(
            lambda pictures: np.asarray(forward(pictures)),
            measured,
            decision,
            corruptions,
            figures[OBJECTIVE[dataset.task]],
            evaluation_batch(spec.training.examples_per_step, dataset.input_shape),
            told,
        )
    return Evaluation(
        run=str(folder.path),
        dataset=dataset.name,
        split=split,
        examples=len(measured),
        metrics=figures,
        recorded=folder.metrics["metrics"].get(split, {}),
        intervals=intervals,
        by_output=metrics.by_output(dataset.task, measured.y, outputs, names, thresholds),
        calibration=None if reliable is None else reliable.row(),
        sets=sets,
        robustness=robustness,
        positive=dataset.class_names[1] if dataset.task == "binary" else None,
        notes=(*dataset.notes, *notes, *(f"not the run's own: {text}" for text in others)),
    )


def _with_classes_of(dataset: Dataset, recorded: Mapping[str, Any], must: bool) -> Dataset:
    """Return a data set with the classes or labels in the order of the run's, matched by name.

    Args:
        dataset: another one than the run's.
        recorded: content of `metrics.json`.
        must: the names are what the user wrote for each example; else classes of quite other names are left
            as they are.

    Raises:
        CnnbenchError: some are none of the run's.
    """
    here, names = dataset.class_names, tuple(recorded["class_names"])
    if dataset.task != recorded["task"] or not names or here == names:
        return dataset
    unknown = [name for name in here if name not in names]
    if unknown and not must and len(here) == len(names) == len(unknown):
        return dataset
    plural = "labels" if dataset.task == "multilabel" else "classes"
    if unknown and (must or len(unknown) < len(here)):
        raise CnnbenchError(
            f"{dataset.name}: {listed(unknown)} is none of the run's {plural} {listed(names)}",
            "leave these examples out, or write the names as the run has them",
        )
    if unknown or (dataset.task == "multilabel" and len(here) < len(names)):
        return dataset  # refused for their number
    index = np.array([names.index(name) for name in here])

    def of_run(split: Split) -> Split:
        y = split.y[:, np.argsort(index)] if split.y.ndim > 1 else index[split.y.astype(np.intp)]
        return replace(split, y=y.astype(split.y.dtype))

    val = None if dataset.val is None else of_run(dataset.val)
    train, test = of_run(dataset.train), of_run(dataset.test)
    return replace(dataset, class_names=names, train=train, val=val, test=test)


def fit_or_refuse(dataset: Dataset, recorded: Mapping[str, Any], dtype: str | None = None) -> list[str]:
    """Compare a data set with that of a run.

    Args:
        dataset: to measure on.
        recorded: content of `metrics.json`.
        dtype: of the examples that the run was trained on, if it is known.

    Returns:
        notes on a data set that fits.

    Raises:
        CnnbenchError: the task, shape or type of the examples, or the number of outputs differs.
    """
    if dataset.task != recorded["task"]:
        raise CnnbenchError(f"{dataset.name} is a {dataset.task} task, but this run's is {recorded['task']}")
    wanted = tuple(recorded["input_shape"])
    if dataset.input_shape != wanted:
        shown = ["×".join(map(str, shape)) for shape in (dataset.input_shape, wanted)]
        raise CnnbenchError(f"{dataset.name} has examples of {shown[0]}, but this model takes {shown[1]}")
    found = str(dataset.train.x.dtype)
    if dtype is not None and len(wanted) == 3 and found != dtype and "uint8" in (found, dtype):
        raise CnnbenchError(
            f"{dataset.name} has values of {found}, but this run was trained on {dtype}: another range",
            f"scale them as those of the run were, and save them as {dtype}",
        )
    kind = {"multilabel": "label", "regression": "target"}.get(dataset.task, "class")
    plural = "classes" if kind == "class" else f"{kind}s"
    here = dataset.targets if kind == "target" else dataset.class_names
    names = tuple(recorded.get("target_names", here) if kind == "target" else recorded["class_names"])
    if len(here) != len(names):
        raise CnnbenchError(f"{dataset.name} has {len(here)} {plural}, but this model knows {len(names)}")
    pairs = enumerate(zip(here, names, strict=True))
    differing = next(((index, pair) for index, pair in pairs if pair[0] != pair[1]), None)
    if differing is None:
        return []
    index, (ours, theirs) = differing
    return [
        f"{plural} are matched by their index, but their names differ: "
        f"{index} is {ours!r} in this data set and {theirs!r} in the run"
    ]


def chooses_dataset(typed: Sequence[str]) -> bool:
    """Tell whether `dataset=…` was typed; without it, keys change the run's own data set.

    Raises:
        CnnbenchError: anything but `dataset=…`, `dataset.key=…` and `data_dir=…` is left of what was typed.
    """
    for text in typed:
        key = text.partition("=")[0]
        if "=" not in text or not (key in ("dataset", "data_dir") or key.startswith("dataset.")):
            raise CnnbenchError(
                f"evaluate takes only dataset=…, dataset.key=…, data_dir=… and corruption=…, not {text!r}",
                "everything else is decided by the run",
            )
    return any(text.startswith("dataset=") for text in typed)


def with_keys(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a run's config with some keys of its data set changed.

    It is not composed anew from the run's overrides, which in a stranger's folder could be anything.

    Raises:
        CnnbenchError: there is no such key.
    """
    if "data_dir" in values and "data_dir" in config["dataset"]:  # written down resolved, in both places
        values = {"dataset.data_dir": values["data_dir"], **values}
    return with_values(config, values)


def with_dataset(config: Mapping[str, Any], other: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Copy a run's config with the data set of another config.

    Raises:
        CnnbenchError: the tasks differ, for which the check of the config would blame the loss.
    """
    named = other["dataset"].get("task") or task
    if named != task:
        raise CnnbenchError(f"that data set is a {named} task, but this run's is {task}")
    return {**config, "dataset": other["dataset"], "data_dir": other["data_dir"]}


def evaluation_as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the evaluation as plain values; NaN and infinity become None."""
    return dict(plain(asdict(evaluation)))


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return a table of one metric a line, beside the recorded figures of the run's own data."""
    from rich.markup import escape
    from rich.table import Table

    title = f"{evaluation.dataset}: {evaluation.split} split, {evaluation.examples:,} examples"
    table = Table(title=escape(title))
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("at 95 %", justify="right", no_wrap=True)
    table.add_column(f"the run's own {evaluation.split} split", justify="right")
    for name, value in evaluation.metrics.items():
        around = evaluation.intervals.get(name)
        table.add_row(
            escape(in_words(name, evaluation.positive)),
            number(value),
            between(asdict(around) if around else None),
            number(evaluation.recorded.get(name)),
        )
    return table
