"""Everything about a config that can be checked before TensorFlow is imported. No Hydra in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cnnbench import metrics
from cnnbench.errors import CnnbenchError, nearest
from cnnbench.signatures import UNKNOWN, Parameter, Signature, public_names, signature
from cnnbench.spec import Device, Expected, Training
from cnnbench.startup import module_name

# Where a `_target_` may be defined. Not all of Keras: `keras.utils.get_file` is no part of a model.
ALLOWED = (
    *(
        f"keras.src.{room}"
        for room in (
            "activations", "applications", "callbacks", "constraints", "initializers", "layers", "losses",
            "metrics", "optimizers", "regularizers",
        )
    ),
    *(
        f"cnnbench.{room}"
        for room in ("augmentation", "callbacks", "datasets", "layers", "losses", "models", "schedules")
    ),
)  # fmt: skip
# In an allowed room, but they write, delete or send where the config says; the run folder has the same.
REFUSED = ("BackupAndRestore", "CSVLogger", "ModelCheckpoint", "RemoteMonitor", "TensorBoard")
# What the data decide is passed by the run; a config cannot set it.
GIVEN_BY_RUN = {
    "model": ("input_shape", "outputs"),
    "optimizer": ("learning_rate",),
    "optimizer.learning_rate": ("steps_per_epoch", "epochs"),
}
NOT_KEYWORDS = {"loss": ("tasks",), "dataset": ("task",)}  # for the checks here, not for the target
WITHOUT_VALIDATION = ("loss", "learning_rate")


class RunConfig(BaseModel):
    """The whole config: run-level keys with types and ranges, groups as they come."""

    model_config = ConfigDict(extra="forbid")

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    deterministic: bool
    device: Device
    run_dir: str | None
    data_dir: str | None
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


def check(config: Mapping[str, Any]) -> RunConfig:
    """Check a resolved config as far as it goes without data and without TensorFlow.

    Raises:
        CnnbenchError: for the first thing that is wrong.
    """
    run_config: RunConfig = _validated(RunConfig, config, "")
    allowed = (*ALLOWED, *(module_name(plugin) for plugin in run_config.plugins))
    for group in ("model", "dataset", "optimizer"):
        if "_target_" not in config[group]:
            raise CnnbenchError(f"{group} has no _target_", f"choose an option: cnnbench list {group}")
    for group in ("model", "dataset", "optimizer", "loss", "augmentation"):
        _check_node(group, config[group], allowed)
    _check_learning_rate(config)
    for name, node in run_config.callbacks.items():
        if node is not None:
            _check_callback(f"callbacks.{name}", node, allowed, run_config)
    task = run_config.dataset.get("task")
    tasks = run_config.loss.get("tasks", [])
    if task and tasks and task not in tasks:
        raise CnnbenchError(
            f"this loss is for {' or '.join(tasks)}, but the task of this data set is {task}",
            "use loss=auto, or see cnnbench list loss",
        )
    _check_mixing(run_config)
    if run_config.objective is not None:
        _check_objective(run_config)
    return run_config


def _check_node(path: str, node: Any, allowed: Sequence[str]) -> None:
    """Check the target of a node and of every node in it."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            _check_node(f"{path}[{index}]", item, allowed)
    if not isinstance(node, Mapping):
        return
    keywords = {k: v for k, v in node.items() if k not in ("_target_", *NOT_KEYWORDS.get(path, ()))}
    for name, value in keywords.items():
        _check_node(f"{path}.{name}", value, allowed)
    if "_target_" in node:
        _check_keywords(path, keywords, _allowed_signature(path, str(node["_target_"]), allowed))


def _allowed_signature(path: str, target: str, allowed: Sequence[str]) -> Signature:
    top = target.partition(".")[0]
    if top not in {place.partition(".")[0] for place in allowed}:
        raise CnnbenchError(
            f"{path}._target_={target}: a config may only name keras, cnnbench and plugins",
            f"if you trust that code: plugins=[{top}]",
        )
    try:
        found = signature(target)
    except CnnbenchError as error:
        names = public_names(target)
        hint = error.hint or (nearest(target.rpartition(".")[2], names) if 0 < len(names) < 60 else "")
        raise CnnbenchError(f"{path}: {error.message}", hint) from error
    if not any(found.path == place or found.path.startswith(f"{place}.") for place in allowed):
        raise CnnbenchError(
            f"{path}._target_={target} is {found.path}, which is no part of a model, data set or training",
            "a config may name layers, losses, optimizers, callbacks, … but not every function",
        )
    if found.path.startswith("keras.") and found.path.rpartition(".")[2] in REFUSED:
        raise CnnbenchError(
            f"{path}._target_={target} may write or send anything anywhere",
            "every run keeps history.csv and best.keras; or subclass it in a plugin of your own",
        )
    return found


def _check_keywords(path: str, keywords: Mapping[str, Any], target: Signature) -> None:
    given = GIVEN_BY_RUN.get(path, ())
    hidden = () if path == "optimizer" else given  # its learning rate is configured, and made by the run
    for name, value in keywords.items():
        if name in hidden:
            raise CnnbenchError(
                f"{path}.{name} is decided by the data and the training", f"remove {path}.{name}"
            )
        if name.startswith("_"):
            raise CnnbenchError(
                f"{path}.{name} is not a keyword", "of Hydra's keys only _target_ is used here"
            )
        parameter = target.parameters.get(name)
        if parameter is not None:
            _check_value(f"{path}.{name}", value, parameter)
        elif not target.open:
            raise CnnbenchError(
                f"{path}.{name}: {target.path} takes no {name}",
                nearest(name, set(target.parameters) - set(hidden)),
            )
    for name, parameter in target.parameters.items():
        if parameter.required and name not in keywords and name not in given:
            raise CnnbenchError(f"{path} lacks {name}, which {target.path} needs", f"add +{path}.{name}=…")


def _check_value(path: str, value: Any, parameter: Parameter) -> None:
    if isinstance(value, Mapping) and "_target_" in value:
        return  # an object by then; its own keywords are checked
    if parameter.annotation is not UNKNOWN:
        _validated(TypeAdapter(parameter.annotation), value, path)
        return
    # Keras annotates nothing, but a default tells enough to refuse `beta_1=high`.
    default = parameter.default
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    if (is_number and isinstance(value, str)) or (
        isinstance(default, bool) and not isinstance(value, bool | None)
    ):
        raise CnnbenchError(
            f"{path}={value} is not a {'number' if is_number else 'boolean'}", f"its default is {default}"
        )


def _check_learning_rate(config: Mapping[str, Any]) -> None:
    rate = config["optimizer"].get("learning_rate")
    if isinstance(rate, Mapping) and "_target_" in rate:
        is_schedule = not rate["_target_"].endswith(".constant")
        for name, node in config["callbacks"].items():
            if is_schedule and node and node["_target_"].endswith(".ReduceLROnPlateau"):
                raise CnnbenchError(
                    f"callbacks.{name} cannot change a learning rate that a schedule sets",
                    f"use optimizer/learning_rate=constant, or callbacks.{name}=null",
                )
        return
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0:
        raise CnnbenchError(
            f"optimizer.learning_rate={rate} is not a number above 0",
            "a number, or a schedule: cnnbench list optimizer/learning_rate",
        )


def _check_callback(path: str, node: Mapping[str, Any], allowed: Sequence[str], config: RunConfig) -> None:
    if "_target_" not in node:
        raise CnnbenchError(f"{path} has no _target_", "choose an option: cnnbench list callbacks")
    found = _allowed_signature(path, str(node["_target_"]), allowed)
    if "monitor" in found.parameters:
        monitor = node.get("monitor", found.parameters["monitor"].default)
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
    _check_node(path, node, allowed)


def _check_monitor(path: str, monitor: str, config: RunConfig) -> None:
    if monitor.startswith("test"):
        raise CnnbenchError(
            f"{path}={monitor}: the test split must not influence the training", "monitor a val_… metric"
        )
    trained = metrics.TRAINED.get(str(config.dataset.get("task")))
    names = {"loss", *(trained or {name for task in metrics.TRAINED.values() for name in task})}
    # An option of `dataset` may bring a validation split of its own; then the fraction says nothing.
    if config.training.validation_fraction > 0 or "_target_" not in config.dataset:
        names |= {f"val_{name}" for name in names}
    elif monitor.startswith("val_"):
        raise CnnbenchError(
            f"{path}={monitor}, but training.validation_fraction=0 leaves no validation split",
            "hold a part out, or monitor loss",
        )
    if monitor not in names:
        raise CnnbenchError(f"{path}={monitor} will not exist", nearest(monitor, names))


def _check_mixing(config: RunConfig) -> None:
    mixing = [name for name in ("mixup", "cutmix") if config.augmentation.get(name)]
    if not mixing:
        return
    if str(config.loss.get("_target_")).endswith("SparseCategoricalCrossentropy"):
        raise CnnbenchError(
            f"augmentation.{mixing[0]} mixes labels, which this loss cannot read",
            "use loss=auto or label_smoothing",
        )
    if config.training.class_weight:
        raise CnnbenchError(
            f"augmentation.{mixing[0]} mixes labels, so an example has no class for training.class_weight",
            "use one of the two",
        )


def _check_objective(config: RunConfig) -> None:
    task = config.dataset.get("task")
    finals = metrics.FINAL.get(str(task)) or {name for names in metrics.FINAL.values() for name in names}
    names = {f"{split}_{name}" for split in ("val", "test") for name in ("loss", *finals)}
    if config.objective not in names:
        raise CnnbenchError(
            f"objective={config.objective} will not exist", nearest(str(config.objective), names)
        )


def _validated(kind: Any, value: Any, path: str) -> Any:
    """Let pydantic judge; its first complaint, with the key as the user would type it."""
    try:
        return kind.validate_python(value) if isinstance(kind, TypeAdapter) else kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        # Of a union each member complains, under its own name; the key is what the user can find again.
        inside = [part for part in first["loc"] if isinstance(part, int) or part in _keys(value)]
        where = ".".join(str(part) for part in ([path] if path else []) + inside)
        if first["type"] == "missing":
            raise CnnbenchError(f"{first['loc'][-1]} is missing from the config") from None
        if first["type"] == "extra_forbidden":
            name = str(first["loc"][-1])
            raise CnnbenchError(
                f"there is no key {'.'.join(map(str, first['loc']))}",
                nearest(name, _fields(kind, first["loc"])),
            ) from None
        raise CnnbenchError(
            f"{where}={first['input']}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        ) from None


def _keys(value: Any) -> set[Any]:
    """Every mapping key at any depth."""
    if isinstance(value, Mapping):
        return set(value) | {key for item in value.values() for key in _keys(item)}
    return set()


def _fields(model: type[BaseModel], location: Sequence[Any]) -> set[str]:
    for part in location[:-1]:
        field = model.model_fields[str(part)].annotation
        if not (isinstance(field, type) and issubclass(field, BaseModel)):
            return set()
        model = field
    return set(model.model_fields)
