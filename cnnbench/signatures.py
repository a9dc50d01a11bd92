"""What a dotted target accepts, read from its source without importing it.

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
import sys
import typing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pydantic

from cnnbench.errors import CnnbenchError

UNKNOWN = object()  # a default or annotation that the source alone does not tell
NAMESPACE = {**vars(typing), **vars(collections.abc), "Field": pydantic.Field, "Path": Path, "np": None}


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
