"""What a `_target_` of a config may be, and which keywords it takes.

The config is checked before TensorFlow is imported, yet `keras.optimizers.Adam` cannot be imported
without it. So the target is followed through the syntax trees of the modules on the way: imports are
chased to the definition, and keyword arguments of base classes are added while a class takes
`**kwargs`. This also tells where a target really lives, which is what the allow-list must judge:
`keras.src.utils.file_utils.os.system` is not Keras.
"""

from __future__ import annotations

import ast
import collections.abc
import importlib.util
import math
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field, TypeAdapter

from cnnbench.config.messages import validated
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
# In an allowed room, but they read, write, delete or send where the config says; the run folder has the same.
REFUSED = (
    "BackupAndRestore", "CSVLogger", "IndexLookup", "IntegerLookup", "ModelCheckpoint", "OrbaxCheckpoint",
    "RemoteMonitor", "StringLookup", "TensorBoard", "TextVectorization",
)  # fmt: skip
# In these rooms other functions lock files or look for a network; one that a config may name returns this.
RETURNS = {
    "cnnbench.data.augmentation": "Augmentation",
    "cnnbench.data.images": "Dataset",
    "cnnbench.data.sources": "Dataset",
    "cnnbench.models": "keras.Model",
}
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
UNKNOWN = object()  # a default or annotation that the source alone does not tell
NAMESPACE = {**vars(typing), **vars(collections.abc), "Field": pydantic.Field, "Path": Path, "np": None}


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
            require_package(f"callbacks.{name}", *NEEDS[target])


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


# -- Signatures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """One keyword of a target: its type and default, each UNKNOWN where the source does not tell."""

    annotation: Any
    default: Any
    required: bool


@dataclass(frozen=True)
class Signature:
    """Keywords of a callable.

    Attributes:
        path: where it is defined, e.g. `keras.src.optimizers.adam.Adam`.
        parameters: by name.
        open: it takes further keywords that nobody can list.
        returns: what a function says that it returns; empty where it does not say, None of a class.
    """

    path: str
    parameters: dict[str, Parameter]
    open: bool
    returns: str | None


Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class _Module:
    name: str
    directory: Path | None  # of a package: where its submodules are
    names: dict[str, ast.stmt | str]  # definition, assignment, or the dotted path it was imported from


def signature(target: str) -> Signature:
    """Follow `target` to its definition.

    Raises:
        CnnbenchError: there is no such module or name.
    """
    module, definition = _find(target)
    try:
        parameters, is_open = _parameters(module, definition)
    except RecursionError:  # `from x import A; class A(A)`: here the names alone do not tell
        parameters, is_open = {}, True
    returns = None
    if isinstance(definition, ast.FunctionDef):
        returns = ast.unparse(definition.returns) if definition.returns else ""
    return Signature(f"{module.name}.{definition.name}", parameters, is_open, returns)


def public_names(target: str) -> list[str]:
    """Names beside the last part of `target`, for a suggestion."""
    module, _ = _walk(target.rpartition(".")[0])
    public = {k: v for k, v in module.names.items() if not k.startswith("_")} if module else {}
    # What is defined there; in a package that only collects (`keras.optimizers`), what is imported.
    return [name for name, value in public.items() if isinstance(value, Definition)] or list(public)


def _find(target: str, seen: tuple[str, ...] = ()) -> tuple[_Module, Definition]:
    if target in seen:
        raise CnnbenchError(f"_target_ {target} leads back to itself")
    module, rest = _walk(target)
    if module is None:
        raise CnnbenchError(f"_target_ {target}: there is no module {target.partition('.')[0]!r}")
    if not rest:
        raise CnnbenchError(f"_target_ {target} is a module", "name a function or a class in it")
    found = module.names.get(rest[0])
    if isinstance(found, str):
        return _find(".".join([found, *rest[1:]]), (*seen, target))
    if isinstance(found, Definition) and len(rest) == 1:
        return module, found
    raise CnnbenchError(f"_target_ {target}: {module.name} has no function or class {'.'.join(rest)!r}")


def _walk(dotted: str) -> tuple[_Module | None, list[str]]:
    """The deepest module on the way to `dotted`, and the names that are left."""
    parts = dotted.split(".")
    module = _top_module(parts[0])
    used = 1
    while module is not None and module.directory is not None and used < len(parts):
        path = _module_file(module.directory, parts[used])
        if path is None:
            break
        module = _parse(f"{module.name}.{parts[used]}", path)
        used += 1
    return module, parts[used:]


def _module_file(directory: Path, name: str) -> Path | None:
    candidates = (directory / name / "__init__.py", directory / f"{name}.py")
    return next((path for path in candidates if path.is_file()), None)


def _top_module(name: str) -> _Module | None:
    try:
        spec = importlib.util.find_spec(name)  # of a top-level name: looks, does not import
    except ValueError:  # a name without a spec
        return None
    if name == "__main__" or spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return _parse(name, Path(spec.origin))


@cache
def _parse(name: str, path: Path) -> _Module:
    is_package = path.name == "__init__.py"
    package = name if is_package else name.rpartition(".")[0]
    names: dict[str, ast.stmt | str] = {}
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise CnnbenchError(f"{path}, line {error.lineno}: {error.msg}") from error
    for statement in _statements(tree.body):
        if isinstance(statement, Definition):
            names[statement.name] = statement
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            names[statement.targets[0].id] = statement
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                dotted = alias.name if alias.asname else alias.name.partition(".")[0]
                names.setdefault(alias.asname or dotted, dotted)
        elif isinstance(statement, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - statement.level + 1]
            source = ".".join(
                [*(base if statement.level else []), *([statement.module] if statement.module else [])]
            )
            for alias in statement.names:
                names.setdefault(alias.asname or alias.name, f"{source}.{alias.name}")
    return _Module(name, path.parent if is_package else None, names)


def _statements(body: list[ast.stmt]) -> typing.Iterator[ast.stmt]:
    """Top-level statements, those under `if` and `try` too: the first branch is met first and wins."""
    for statement in body:
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements(statement.body)
            yield from _statements(statement.orelse)
        else:
            yield statement


def _parameters(module: _Module, definition: Definition) -> tuple[dict[str, Parameter], bool]:
    if isinstance(definition, ast.FunctionDef):
        return _of_function(module, definition, skip_self=False)
    init = next((s for s in definition.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    parameters, takes_more = _of_function(module, init, skip_self=True) if init else ({}, True)
    if not takes_more:
        return parameters, False
    # The keywords go on to the base classes; without any, what is left over is refused there.
    is_open = False
    for base in definition.bases:
        try:
            base_module, base_definition = _find(_resolve(module, ast.unparse(base)))
        except CnnbenchError:  # defined by a call or in C: nobody can list its keywords
            is_open = True
            continue
        inherited, base_open = _parameters(base_module, base_definition)
        parameters = {**inherited, **parameters}
        is_open |= base_open
    return parameters, is_open


def _of_function(
    module: _Module, function: ast.FunctionDef, *, skip_self: bool
) -> tuple[dict[str, Parameter], bool]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = list(zip(positional, [*defaults, *arguments.defaults], strict=True))[1 if skip_self else 0 :]
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    parameters = {
        argument.arg: Parameter(
            annotation=_evaluate(module, argument.annotation),
            default=_literal(default),
            required=default is None,
        )
        for argument, default in pairs
    }
    return parameters, arguments.kwarg is not None


def _literal(node: ast.expr | None) -> Any:
    try:
        return UNKNOWN if node is None else ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def _evaluate(module: _Module, node: ast.expr | None) -> Any:
    """The type that an annotation names, as far as it needs nothing but typing and aliases beside it."""
    if node is None:
        return UNKNOWN
    namespace = dict(NAMESPACE)
    for name in {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & set(module.names):
        alias_module, alias = module, module.names[name]
        if isinstance(alias, str):
            if alias.partition(".")[0] in sys.stdlib_module_names:
                continue
            found, rest = _walk(alias)
            if found is None or len(rest) != 1 or rest[0] not in found.names:
                continue
            alias_module, alias = found, found.names[rest[0]]
        if isinstance(alias, ast.Assign):
            namespace[name] = _evaluate(alias_module, alias.value)
    try:
        annotation = eval(ast.unparse(node), namespace)  # source of an allowed package, never config text
    except (NameError, AttributeError, TypeError, SyntaxError):
        return UNKNOWN
    return UNKNOWN if annotation is None else annotation


def _resolve(module: _Module, dotted: str) -> str:
    first, _, rest = dotted.partition(".")
    found = module.names.get(first)
    start = found if isinstance(found, str) else f"{module.name}.{first}"
    return f"{start}.{rest}" if rest else start
