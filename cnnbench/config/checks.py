"""Checks of a resolved config, all that needs neither data nor TensorFlow nor Hydra."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from cnnbench import models, runs
from cnnbench.config.components import ALLOWED, allowed_signature, check_node
from cnnbench.config.messages import validated
from cnnbench.config.signatures import UNKNOWN
from cnnbench.data import Task
from cnnbench.errors import CnnbenchError, nearest, shown
from cnnbench.runs import (
    Aim,
    Calibration,
    Device,
    Expected,
    FineTuning,
    Training,
    check_calibrated,
    conformal,
    metrics,
)
from cnnbench.system import module_name

TRANSFER = "cnnbench.models.transfer.transfer"
TASK: TypeAdapter[Task | None] = TypeAdapter(Task | None)
TASKS: TypeAdapter[list[Task]] = TypeAdapter(list[Task])
FIXES: TypeAdapter[str | None] = TypeAdapter(Annotated[str, Field(min_length=1)] | None)


class RunConfig(BaseModel):
    """The whole config: run-level keys with types and ranges, groups as they come."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    deterministic: bool
    device: Device
    name: Annotated[str, Field(pattern=r"^[\w.-]*\w[\w.-]*$", max_length=100)] | None = None
    run_dir: Annotated[str, Field(min_length=1)] | None
    data_dir: Annotated[str, Field(min_length=1)] | None
    objective: str | None
    plugins: list[str]
    expected: Expected | None = None
    training: Training
    model: dict[str, Any]
    dataset: dict[str, Any]
    optimizer: dict[str, Any]
    loss: dict[str, Any]
    augmentation: dict[str, Any]
    callbacks: dict[str, dict[str, Any] | None]


def check_everything(config: Mapping[str, Any]) -> RunConfig:
    """Check a resolved config as far as it goes without data and without TensorFlow.

    Raises:
        CnnbenchError: for the first thing that is wrong.
    """
    run_config: RunConfig = validated(RunConfig, config, "")
    allowed = (*ALLOWED, *(module_name(plugin) for plugin in run_config.plugins))
    for group in ("model", "dataset", "optimizer"):
        if "_target_" not in config[group]:
            raise CnnbenchError(f"{group} has no _target_", f"choose an option: cnnbench list {group}")
    for group in ("loss", "augmentation"):
        odd = set(config[group]) - {"_target_", "tasks"}
        if odd and "_target_" not in config[group]:
            text = f"this {group} takes no keys, but there is {group}.{min(odd)}"
            raise CnnbenchError(text, f"choose an option that has it: cnnbench list {group}")
    for group in ("model", "dataset", "optimizer", "loss", "augmentation"):
        check_node(group, config[group], allowed)
    _check_learning_rate(config)
    _check_averages(run_config)
    for name, node in run_config.callbacks.items():
        if node is not None:
            _check_callback(f"callbacks.{name}", node, allowed, run_config)
    validated(FIXES, run_config.dataset.get("fixes"), runs.FIXES)
    task: Task | None = validated(TASK, run_config.dataset.get("task"), "dataset.task")
    tasks: list[Task] = validated(TASKS, run_config.loss.get("tasks", []), "loss.tasks")
    if task and tasks and task not in tasks:
        raise CnnbenchError(
            f"this loss is for {' or '.join(tasks)}, but the task of this data set is {task}",
            "use loss=auto, or see cnnbench list loss",
        )
    _check_training(run_config)
    _check_mixing(run_config)
    if run_config.objective is not None:
        _check_objective(run_config)
    return run_config


def _check_learning_rate(config: Mapping[str, Any]) -> None:
    rate = config["optimizer"].get("learning_rate")
    if isinstance(rate, Mapping) and "_target_" in rate:
        is_schedule = not str(rate["_target_"]).endswith(".constant")
        for name, node in config["callbacks"].items():
            if is_schedule and node and str(node.get("_target_")).endswith(".ReduceLROnPlateau"):
                raise CnnbenchError(
                    f"callbacks.{name} cannot change a learning rate that a schedule sets",
                    f"use optimizer/learning_rate=constant, or callbacks.{name}=null",
                )
        return
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise CnnbenchError(
            f"optimizer.learning_rate={shown(rate)} is not a number above 0",
            "a number, or a schedule: cnnbench list optimizer/learning_rate",
        )


def _check_averages(config: RunConfig) -> None:
    """Refuse averages that Keras puts in place at the end, when the best epoch is stored already."""
    if not config.optimizer.get("use_ema") or config.optimizer.get("ema_overwrite_frequency"):
        return
    for name, node in config.callbacks.items():
        if node and str(node.get("_target_")).endswith(("BestCheckpoint", "ModelCheckpoint")):
            raise CnnbenchError(
                f"optimizer.use_ema: averages come at the end, but callbacks.{name} stores an epoch before",
                f"callbacks.{name}=null: the averages are the result; or optimizer.ema_overwrite_frequency=5",
            )


def _check_callback(path: str, node: Mapping[str, Any], allowed: Sequence[str], config: RunConfig) -> None:
    if "_target_" not in node:
        raise CnnbenchError(f"{path} has no _target_", "choose an option: cnnbench list callbacks")
    found = allowed_signature(path, str(node["_target_"]), allowed)
    if "monitor" in found.parameters:
        monitor = node.get("monitor", found.parameters["monitor"].default)
        if monitor is UNKNOWN:
            raise CnnbenchError(f"{path} does not say what it monitors", f"add +{path}.monitor=val_loss")
        _check_monitor(f"{path}.monitor", str(monitor), config)
        if "mode" in found.parameters and node.get("mode") not in ("min", "max"):
            raise CnnbenchError(
                f"{path} does not say its mode", f"add {path}.mode=min or max; it is never guessed"
            )
        expected = "max" if metrics.larger_is_better(str(monitor)) else "min"
        if node.get("mode", expected) != expected and monitor != "learning_rate":
            raise CnnbenchError(
                f"{path}: {monitor} is better when {'larger' if expected == 'max' else 'smaller'}, "
                f"but the mode is {node['mode']}",
                f"use {path}.mode={expected}",
            )
    check_node(path, node, allowed)


def _check_monitor(path: str, monitor: str, config: RunConfig) -> None:
    if monitor.startswith("test"):
        raise CnnbenchError(
            f"{path}={monitor}: the test split must not influence the training", "monitor a val_… metric"
        )
    task = str(config.dataset.get("task"))
    trained = metrics.TRAINED.get(task)
    names = {"loss", *(trained or {name for task in metrics.TRAINED.values() for name in task})}
    ranked_by = {metrics.OBJECTIVE[task]} if trained else set(metrics.OBJECTIVE.values())
    chosen = {f"val_{name}" for name in {*(config.training.metrics or ()), *ranked_by}}
    # An option of `dataset` may bring a validation split of its own; then the fraction says nothing.
    if config.training.validation_fraction > 0 or "_target_" not in config.dataset:
        names |= {f"val_{name}" for name in names} | chosen
    elif monitor.startswith("val_"):
        raise CnnbenchError(
            f"{path}={monitor}, but training.validation_fraction=0 leaves no validation split",
            "hold a part out, or monitor loss",
        )
    if monitor not in names:
        raise CnnbenchError(
            f"{path}={monitor} will not exist", _choosing(monitor, config) or nearest(monitor, names)
        )


def _choosing(name: str, config: RunConfig) -> str:
    """Return a hint for a metric of the task that only has to be chosen; empty for any other."""
    metric, task = name.removeprefix("val_"), config.dataset.get("task")
    tasks = metrics.tasks_of(metric)
    fits = task in tasks if task else bool(tasks)
    return f"choose it: training.metrics=[{metric}]" if fits and name != metric else ""


def _check_training(config: RunConfig) -> None:
    training, task = config.training, config.dataset.get("task")
    metrics.check_chosen(training.metrics or (), task)
    _check_calibration(config)
    if training.scale_targets is True and task not in (None, "regression"):
        raise CnnbenchError(
            f"training.scale_targets is for regression, but the task of this data set is {task}",
            "set it to false",
        )
    if training.class_weight and task == "regression":
        raise CnnbenchError(
            "training.class_weight is for classes, but the task of this data set is regression",
            "set it to null",
        )
    if training.sampling and task not in (None, "binary", "multiclass"):
        raise CnnbenchError(
            f"training.sampling is for one class an example, but the task of this data set is {task}",
            "set it to null",
        )
    if training.sampling and training.class_weight:
        raise CnnbenchError(
            "training.sampling and training.class_weight both make up for rare classes: twice too much",
            "use one of the two",
        )
    if training.fold is not None and training.folds is None:
        raise CnnbenchError(
            f"training.fold={training.fold} is one of several folds", "say of how many: training.folds=5"
        )
    if isinstance(training.fold, int) and training.fold >= (training.folds or 0):
        raise CnnbenchError(
            f"training.fold={training.fold}, but the folds are 0 to {(training.folds or 0) - 1}",
            "leave it out for a run of each",
        )
    target = str(config.model["_target_"])
    if target == TRANSFER:
        models.catalogue.check(config.model)
    if training.fine_tuning and target.startswith("cnnbench.") and not target.endswith(".transfer"):
        raise CnnbenchError(
            "training.fine_tuning is for a pretrained backbone", "use model=transfer, or set it to null"
        )
    if training.fine_tuning is not None:
        _check_fine_tuning(training.fine_tuning, config)


def _check_calibration(config: RunConfig) -> None:
    wanted, task = config.training.calibration, config.dataset.get("task")
    if wanted.temperature:
        check_calibrated("temperature", task)
    if wanted.threshold is not None:
        Aim.parse(wanted.threshold)
        check_calibrated("threshold", task)
    if wanted.coverage is None and wanted.share != Calibration().share:
        raise CnnbenchError(
            f"training.calibration.share={wanted.share:g} is of training.calibration.coverage, and none is "
            "promised",
            "add training.calibration.coverage=0.9, or leave it out",
        )
    if wanted.coverage is not None and task is not None:
        targets = config.dataset.get("targets")
        several = len(targets) if isinstance(targets, list | tuple) else targets
        conformal.refuse_task(task, several if isinstance(several, int) else 1)


def _check_fine_tuning(tuning: FineTuning, config: RunConfig) -> None:
    where = "training.fine_tuning"
    if tuning.warmup_epochs and tuning.schedule == "constant":
        raise CnnbenchError(
            f"{where}.warmup_epochs={tuning.warmup_epochs:g} belongs to a schedule, and the learning rate is "
            "constant",
            f"add schedule: cosine to {where}",
        )
    has_own_rates = tuning.layer_decay < 1 or tuning.l2_sp > 0 or tuning.unfreeze_epochs is not None
    if has_own_rates and str(config.optimizer["_target_"]).endswith(".Muon"):
        raise CnnbenchError(
            f"{where} trains blocks by rates of their own, and Muon holds kernels at one length anyhow",
            "use optimizer=adamw, or leave layer_decay, l2_sp and unfreeze_epochs out",
        )
    if tuning.l2_sp and "weights" in config.model and config.model["weights"] is None:
        raise CnnbenchError(
            f"{where}.l2_sp holds the backbone to pretrained weights, and model.weights is null",
            "use model.weights=imagenet, or leave l2_sp out",
        )
    for name, node in config.callbacks.items():
        is_plateau = node and str(node.get("_target_")).endswith(".ReduceLROnPlateau")
        if is_plateau and tuning.schedule != "constant":
            raise CnnbenchError(
                f"callbacks.{name} cannot change a learning rate that {where}.schedule sets",
                f"leave schedule out of {where}, or callbacks.{name}=null",
            )


def _check_mixing(config: RunConfig) -> None:
    mixing = [name for name in ("mixup", "cutmix") if config.augmentation.get(name)]
    if not mixing:
        return
    if str(config.loss.get("_target_")).endswith("SparseCategoricalCrossentropy"):
        raise CnnbenchError(
            f"augmentation.{mixing[0]} mixes labels, which this loss cannot read",
            "use loss=auto or label_smoothing",
        )
    if config.training.class_weight and config.dataset.get("task") != "multilabel":
        raise CnnbenchError(
            f"augmentation.{mixing[0]} mixes labels, so an example has no class for training.class_weight",
            "use one of the two",
        )


def _check_objective(config: RunConfig) -> None:
    task = config.dataset.get("task")
    finals = metrics.FINAL.get(str(task)) or {name for names in metrics.FINAL.values() for name in names}
    if str(config.objective).startswith("test"):
        raise CnnbenchError(
            f"objective={config.objective}: ranking by the test split is fitting to it",
            "use a val_… metric",
        )
    names = {f"val_{name}" for name in ("loss", *finals, *(config.training.metrics or ()))}
    if config.training.folds is not None:
        names |= {f"fold_{name}" for name in ("loss", *finals, *(config.training.metrics or ()))}
    if config.training.validation_fraction == 0:  # then only the training itself can be looked at
        names |= {"loss", *(name for task in metrics.TRAINED.values() for name in task)}
    if config.objective not in names:
        raise CnnbenchError(
            f"objective={config.objective} will not exist",
            _choosing(str(config.objective), config) or nearest(str(config.objective), names),
        )
