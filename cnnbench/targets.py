"""What a `_target_` of a config may be, and which keywords it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from cnnbench.errors import CnnbenchError, nearest, shown
from cnnbench.signatures import UNKNOWN, Parameter, Signature, public_names, signature
from cnnbench.startup import require
from cnnbench.validation import validated

TRACKERS = ("cnnbench.trackers.mlflow.MLflow", "cnnbench.trackers.tensorboard.TensorBoard")
# Where a `_target_` may be defined. Not all of Keras: `keras.utils.get_file` is no part of a model.
ALLOWED = (
    *(
        f"keras.src.{room}"
        for room in (
            "callbacks", "constraints", "initializers", "layers", "losses", "metrics", "optimizers",
            "regularizers",
        )
    ),
    *(
        f"cnnbench.{room}"
        for room in (
            "augmentation", "callbacks", "datasets", "layers", "losses", "models", "optimizers", "schedules",
        )
    ),
    *TRACKERS,
)  # fmt: skip
# Extras that a target needs: the module, and which extra brings it.
NEEDS = {"cnnbench.trackers.mlflow.MLflow": ("mlflow", "mlflow")}
# In an allowed room, but they read, write, delete or send where the config says; the run folder has the same.
REFUSED = (
    "BackupAndRestore", "CSVLogger", "IndexLookup", "IntegerLookup", "ModelCheckpoint", "OrbaxCheckpoint",
    "RemoteMonitor", "StringLookup", "TensorBoard", "TextVectorization",
)  # fmt: skip
# In these rooms other functions lock files or look for a network; one that a config may name returns this.
RETURNS = {
    "cnnbench.augmentation": "Augmentation", "cnnbench.datasets": "Dataset", "cnnbench.models": "keras.Model",
}  # fmt: skip
# What the data decide is passed by the run; a config cannot set it.
GIVEN_BY_RUN = {
    "model": ("input_shape", "outputs"),
    "optimizer": ("learning_rate",),
    "optimizer.learning_rate": ("steps_per_epoch", "epochs"),
}
_Part = TypeAdapter(Annotated[float, Field(strict=True, ge=0, le=1)])
_Length = TypeAdapter(Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)])
_Count = TypeAdapter(Annotated[int, Field(strict=True, ge=1)])
# Of Keras's optimizers and callbacks: None where that is the default.
KERAS = {
    **dict.fromkeys(("beta_1", "beta_2", "rho", "momentum", "ema_momentum"), _Part),
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"), _Length),
    **dict.fromkeys(("ema_overwrite_frequency", "gradient_accumulation_steps"), _Count),
    "weight_decay": TypeAdapter(Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]),
    "baseline": TypeAdapter(Annotated[float, Field(strict=True, allow_inf_nan=False)]),
}
NOT_KEYWORDS = {"loss": ("tasks",), "dataset": ("task",)}  # for the checks here, not for the target


def is_tracker(node: Mapping[str, Any]) -> bool:
    """Whether a node of `callbacks` is told of the run, and no part of the training."""
    return node.get("_target_") in TRACKERS


def refuse_missing(callbacks: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Look for the extras that callbacks need; a run that is only read or resumed goes without.

    Raises:
        CnnbenchError: one is not installed.
    """
    for name, node in callbacks.items():
        target = str((node or {}).get("_target_"))
        if target in NEEDS:
            require(f"callbacks.{name}", *NEEDS[target])


def check_node(path: str, node: Any, allowed: Sequence[str]) -> None:
    """Check the target of a node and of every node in it."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            check_node(f"{path}[{index}]", item, allowed)
    if not isinstance(node, Mapping):
        return
    keywords = {k: v for k, v in node.items() if k not in ("_target_", *NOT_KEYWORDS.get(path, ()))}
    for name, value in keywords.items():
        check_node(f"{path}.{name}", value, allowed)
    if "_target_" in node:
        _check_keywords(path, keywords, allowed_signature(path, str(node["_target_"]), allowed))


def allowed_signature(path: str, target: str, allowed: Sequence[str]) -> Signature:
    top = target.partition(".")[0]
    if top not in {place.partition(".")[0] for place in allowed}:
        raise CnnbenchError(
            f"{path}._target_={shown(target)}: a config may only name keras, cnnbench and plugins",
            f"if you trust that code: plugins=[{top}]",
        )
    try:
        found = signature(target)
    except CnnbenchError as error:
        names = public_names(target)
        hint = error.hint or (nearest(target.rpartition(".")[2], names) if 0 < len(names) < 60 else "")
        raise CnnbenchError(f"{path}: {error.message}", hint) from error
    if not any(_lies_in(place, found) for place in allowed) or not _is_a_part(found):
        raise CnnbenchError(
            f"{path}._target_={target} is {found.path}, which is no part of a model, data set or training",
            "a config may name layers, losses, optimizers, callbacks, … but not every function",
        )
    if found.path.startswith("keras.") and found.path.rpartition(".")[2] in REFUSED:
        raise CnnbenchError(
            f"{path}._target_={target} may read, write or send anything anywhere",
            "every run keeps history.csv and best.keras; or subclass it in a plugin of your own",
        )
    return found


def _lies_in(place: str, found: Signature) -> bool:
    return found.path == place or found.path.startswith(f"{place}.")


def _is_a_part(found: Signature) -> bool:
    """Of Keras the public classes: its functions make objects out of anything, or are meant for tensors."""
    if found.path.startswith("keras."):
        return found.returns is None and not found.path.rpartition(".")[2].startswith("_")
    return all(found.returns == made for place, made in RETURNS.items() if _lies_in(place, found))


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
            _check_value(f"{path}.{name}", value, parameter, target, takes_object=name in given)
        elif not target.open:
            raise CnnbenchError(
                f"{path}.{name}: {target.path} takes no {name}",
                nearest(name, set(target.parameters) - set(hidden)),
            )
    for name, parameter in target.parameters.items():
        if parameter.required and name not in keywords and name not in given:
            raise CnnbenchError(f"{path} lacks {name}, which {target.path} needs", f"add +{path}.{name}=…")


def _check_value(path: str, value: Any, parameter: Parameter, target: Signature, takes_object: bool) -> None:
    if isinstance(value, Mapping) and "_target_" in value:  # an object by then; its own keywords are checked
        known = target.path.startswith("keras.") and path.rpartition(".")[2] in KERAS
        plain = known or (isinstance(parameter.default, bool | int | float | str) and not takes_object)
        if plain or parameter.annotation not in (UNKNOWN, Any):
            raise CnnbenchError(f"{path} takes no object", "write a value, without _target_")
        return
    if parameter.annotation is not UNKNOWN:
        if _converted(value, validated(TypeAdapter(parameter.annotation), value, path)):
            # The target gets what was typed: `off` is text, and as such true.
            raise CnnbenchError(
                f"{path}={shown(value)} is of the wrong type", "write true, false, 3, 0.5 or 'text'"
            )
        return
    if target.path.startswith("keras."):
        _check_keras_value(path, value, parameter, target)


def _check_keras_value(path: str, value: Any, parameter: Parameter, target: Signature) -> None:
    """Keras annotates nothing, and fails in the middle of a training; names and defaults tell."""
    default, fits = parameter.default, True
    if isinstance(default, bool):
        wanted, fits = "boolean", isinstance(value, bool | None)
    elif isinstance(default, int | float):
        # `strides` of a layer may be a pair.
        is_pair = isinstance(value, list) and value and target.path.startswith("keras.src.layers.")
        wanted, fits = "number", all(_is_number(number) for number in (value if is_pair else [value]))
    if not fits:
        raise CnnbenchError(f"{path}={shown(value)} is not a {wanted}", f"its default is {default}")
    known = KERAS.get(path.rpartition(".")[2])
    if known is not None and (value is not None or default is not None):
        validated(known, value, path)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _converted(value: Any, validated: Any) -> bool:
    """Whether pydantic had to turn a text into a number, a number into a truth or the like."""
    if isinstance(value, list) and isinstance(validated, Sequence) and not isinstance(validated, str):
        return any(_converted(*pair) for pair in zip(value, validated, strict=True))
    kinds = [(isinstance(v, str), isinstance(v, bool)) for v in (value, validated)]
    return kinds[0] != kinds[1] or (isinstance(value, float) and type(validated) is int)
