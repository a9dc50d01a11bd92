"""Components: what a `_target_` of a config may be, and the values that its keywords may have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

from cnnbench.config.signatures import UNKNOWN, Parameter, Signature, public_names, signature
from cnnbench.errors import CnnbenchError, nearest, shown
from cnnbench.system import require_package

TRACKERS = ("cnnbench.reporting.trackers.MLflow", "cnnbench.reporting.trackers.TensorBoard")
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
            "data.augmentation", "data.images", "data.sources", "models", "nn.layers", "nn.losses",
            "nn.optimizers", "nn.schedules", "training.callbacks",
        )
    ),
    *TRACKERS,
)  # fmt: skip
# Extras that a target needs: the module, and which extra brings it.
NEEDS = {"cnnbench.reporting.trackers.MLflow": ("mlflow", "mlflow")}
# These classes of allowed packages read, write or send where the config says. The run folder holds the same.
REFUSED = (
    "BackupAndRestore", "CSVLogger", "IndexLookup", "IntegerLookup", "ModelCheckpoint", "OrbaxCheckpoint",
    "RemoteMonitor", "StringLookup", "TensorBoard", "TextVectorization",
)  # fmt: skip
# A config may name functions of these packages only if they return this: others lock files or use a network.
RETURNS = {
    "cnnbench.data.augmentation": "Augmentation",
    "cnnbench.data.images": "Dataset",
    "cnnbench.data.sources": "Dataset",
    "cnnbench.models": "keras.Model",
}
# The run passes these keywords; a config cannot set them.
GIVEN_BY_RUN = {
    "model": ("input_shape", "outputs"),
    "optimizer": ("learning_rate",),
    "optimizer.learning_rate": ("steps_per_epoch", "epochs"),
}
# For the checks here, and for the run, not for the target.
NOT_KEYWORDS = {"loss": ("tasks",), "dataset": ("task", "fixes")}
OF_EVERY_OPTION = {"dataset": {"fixes": None}}  # keys that the run reads, whatever the target


def is_tracker(node: Mapping[str, Any]) -> bool:
    """Tell whether a node of `callbacks` only follows the run, and takes no part in the training."""
    return node.get("_target_") in TRACKERS


def refuse_missing(callbacks: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Refuse callbacks whose extra is not installed. A run that is only read or resumed goes without.

    Raises:
        CnnbenchError: one is not installed.
    """
    for name, node in callbacks.items():
        target = str((node or {}).get("_target_"))
        if target in NEEDS:
            require_package(f"callbacks.{name}", *NEEDS[target])


# -- Keywords that a config leaves out -----------------------------------------------------------------


def objects_in(node: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each mapping with a `_target_` at any depth of a plain config, after its dotted key."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from objects_in(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from objects_in(value, f"{key}[{index}]")


def known_signature(node: Mapping[str, Any]) -> Signature | None:
    """Return the signature of an object of a config; None where there is nothing of that name."""
    try:
        return signature(str(node["_target_"]))
    except CnnbenchError:  # the check of the config says so, with what was probably meant
        return None


def keywords_left_out(key: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords that an object of a config could have, with the defaults of its signature.

    Args:
        key: of the object in the config, dotted.
        node: the object, with its `_target_`.
    """
    return _left_out(key, node, known_signature(node))


def _left_out(key: str, node: Mapping[str, Any], found: Signature | None) -> dict[str, Any]:
    skipped = {*node, *GIVEN_BY_RUN.get(key, ())}
    defaults = {**({} if found is None else found.defaults()), **OF_EVERY_OPTION.get(key, {})}
    return {name: value for name, value in defaults.items() if name not in skipped}


def with_keywords(config: Any, signatures: dict[str, Signature | None] | None = None) -> Any:
    """Copy a plain config whose training, and objects of cnnbench and Keras, have every key that they lack.

    So the config of an earlier version compares with one of today.

    Args:
        config: of a run.
        signatures: those that earlier configs needed, by target; more are added. Reading one takes as long as
            reading a run.
    """
    known = {} if signatures is None else signatures
    copy = deepcopy(config)
    for key, node in [*objects_in(copy)]:
        target = str(node["_target_"])
        if target.startswith(("cnnbench.", "keras.")):
            if target not in known:
                known[target] = known_signature(node)
            node.update(_left_out(key, node, known[target]))
    if isinstance(copy, dict) and isinstance(copy.get("training"), dict):
        from cnnbench.runs import Training  # `--cfg job` needs no pydantic

        copy["training"] = {**Training().model_dump(), **copy["training"]}
    return copy


# -- Checks ----------------------------------------------------------------------------------------


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
    """Accept of Keras only public classes: its functions build anything by name, or work on tensors."""
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
    from pydantic import TypeAdapter

    from cnnbench.config.messages import validated

    name = path.rpartition(".")[2]
    is_keras = parameter.module.name.startswith("keras.")  # also where a class of ours inherits it
    if isinstance(value, Mapping) and "_target_" in value:  # an object by then; its own keywords are checked
        has_plain_default = isinstance(parameter.default, bool | int | float | str) and not takes_object
        is_number = is_keras and name in _keras_types()
        if is_number or has_plain_default or parameter.annotation not in (UNKNOWN, Any):
            raise CnnbenchError(f"{path} takes no object", "write a value, without _target_")
    elif parameter.annotation is not UNKNOWN:
        if _converted(value, validated(TypeAdapter(parameter.annotation), value, path)):
            # The target gets what was typed: `off` is text, and as such true.
            raise CnnbenchError(
                f"{path}={shown(value)} is of the wrong type", "write true, false, 3, 0.5 or 'text'"
            )
    elif is_keras:
        _check_keras_value(
            path, value, parameter.default, is_layer=target.path.startswith("keras.src.layers.")
        )
        if name in _keras_types() and (value is not None or parameter.default is not None):
            validated(_keras_types()[name], value, path)


def _check_keras_value(path: str, value: Any, default: Any, is_layer: bool) -> None:
    """Hold a value against its default, since Keras annotates nothing and fails in mid-training."""
    wanted, fits = "", True
    if isinstance(default, bool):
        wanted, fits = "boolean", isinstance(value, bool | None)
    elif isinstance(default, int | float):
        is_pair = is_layer and isinstance(value, list) and value  # `strides`
        wanted, fits = "number", all(_is_number(number) for number in (value if is_pair else [value]))
    if not fits:
        raise CnnbenchError(f"{path}={shown(value)} is not a {wanted}", f"its default is {default}")


@cache
def _keras_types() -> dict[str, Any]:
    """Return types and ranges of keywords of Keras's optimizers and callbacks, those that are not None."""
    from typing import Annotated

    from pydantic import Field, TypeAdapter

    part = TypeAdapter(Annotated[float, Field(strict=True, ge=0, le=1)])
    length = TypeAdapter(Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)])
    count = TypeAdapter(Annotated[int, Field(strict=True, ge=1)])
    return {
        **dict.fromkeys(("beta_1", "beta_2", "rho", "momentum", "ema_momentum"), part),
        **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"), length),
        **dict.fromkeys(("ema_overwrite_frequency", "gradient_accumulation_steps"), count),
        "weight_decay": TypeAdapter(Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]),
        "baseline": TypeAdapter(Annotated[float, Field(strict=True, allow_inf_nan=False)]),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _converted(value: Any, validated: Any) -> bool:
    """Tell whether pydantic had to turn a text into a number, a number into a truth or the like."""
    if isinstance(value, list) and isinstance(validated, Sequence) and not isinstance(validated, str):
        return any(_converted(*pair) for pair in zip(value, validated, strict=True))
    kinds = [(isinstance(v, str), isinstance(v, bool)) for v in (value, validated)]
    return kinds[0] != kinds[1] or (isinstance(value, float) and type(validated) is int)
