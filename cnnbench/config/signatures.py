"""Signatures of classes and functions, read from their source, so that nothing is imported for them.

`keras.optimizers.Adam` cannot be imported without TensorFlow, which takes seconds. So a name is followed
through the syntax trees of the modules on the way to its definition. That also tells where the thing really
lives, which is what must be judged: `keras.src.utils.file_utils.os.system` is not Keras.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from cnnbench.errors import CnnbenchError

UNKNOWN = object()  # a default or a type that the source alone does not tell
Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: dotted.
        directory: of a package: where its submodules are.
        names: what each top-level name is: a definition, an assignment, or the dotted name of an import.
    """

    name: str
    directory: Path | None
    names: dict[str, ast.stmt | str]

    @property
    def file(self) -> str:
        """The path from the folder in which its package lies, such as `keras/src/optimizers/adam.py`."""
        return f"{self.name.replace('.', '/')}{'/__init__' if self.directory else ''}.py"


@dataclass(frozen=True)
class Parameter:
    """One keyword of a class or function.

    Attributes:
        default: UNKNOWN where it is no literal, or where there is none.
        required: it has no default.
        may_differ: a base class takes it, and the class may give it another value than this default.
    """

    module: Module
    argument: ast.arg
    default: Any
    required: bool
    may_differ: bool = False

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.module.file}:{self.argument.lineno}"

    @cached_property
    def annotation(self) -> Any:
        """The type; UNKNOWN where there is none, or where it needs more than typing and aliases beside it."""
        try:
            return _evaluated(self.module, self.argument.annotation)
        except RecursionError:  # `T = list[T]`
            return UNKNOWN


@dataclass(frozen=True)
class Signature:
    """The keywords of a class or function.

    Attributes:
        path: where it is defined, e.g. `keras.src.optimizers.adam.Adam`.
        parameters: by name.
        open: it takes further keywords, which its source does not list.
        returns: the type that a function says it returns; empty where it says none, None for a class.
    """

    path: str
    parameters: dict[str, Parameter]
    open: bool
    returns: str | None

    def defaults(self) -> dict[str, Any]:
        """Return the defaults that are literals, by keyword, tuples as lists.

        Those to which the class may give its base another value are left out.
        """
        return {
            name: _as_yaml(one.default)
            for name, one in self.parameters.items()
            if one.default is not UNKNOWN and not one.may_differ
        }


def _as_yaml(value: Any) -> Any:
    return [_as_yaml(item) for item in value] if isinstance(value, list | tuple) else value


def signature(target: str) -> Signature:
    """Follow `target` to its definition and read its keywords.

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
    """Return the names beside the last part of `target`, for a suggestion."""
    module, _ = _walk(target.rpartition(".")[0])
    public = {k: v for k, v in module.names.items() if not k.startswith("_")} if module else {}
    # Definitions; in a package that only collects them (`keras.optimizers`) everything that is imported.
    return [name for name, value in public.items() if isinstance(value, Definition)] or list(public)


# -- Modules ---------------------------------------------------------------------------------------


def _find(target: str, seen: tuple[str, ...] = ()) -> tuple[Module, Definition]:
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


def _walk(dotted: str) -> tuple[Module | None, list[str]]:
    """Return the deepest module on the way to `dotted`, and the names that are left."""
    parts = dotted.split(".")
    module = _top_module(parts[0])
    used = 1
    while module is not None and module.directory is not None and used < len(parts):
        folder = module.directory
        files = (folder / parts[used] / "__init__.py", folder / f"{parts[used]}.py")
        path = next((path for path in files if path.is_file()), None)
        if path is None:
            break
        module = _parse(f"{module.name}.{parts[used]}", path, path.stat().st_mtime_ns)
        used += 1
    return module, parts[used:]


def _top_module(name: str) -> Module | None:
    try:
        spec = importlib.util.find_spec(name)  # of a top-level name: looks, does not import
    except ValueError:  # a name without a spec
        return None
    if name == "__main__" or spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    return _parse(name, path, path.stat().st_mtime_ns)


@cache
def _parse(name: str, path: Path, written: int) -> Module:
    """Read a source file, again where it was `written` since."""
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
            parents = package.split(".")
            base = parents[: len(parents) - statement.level + 1] if statement.level else []
            source = ".".join([*base, *([statement.module] if statement.module else [])])
            for alias in statement.names:
                names.setdefault(alias.asname or alias.name, f"{source}.{alias.name}")
    return Module(name, path.parent if is_package else None, names)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield top-level statements, those under `if` and `try` too: the first branch is met first and wins."""
    for statement in body:
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements(statement.body)
            yield from _statements(statement.orelse)
        else:
            yield statement


# -- Keywords --------------------------------------------------------------------------------------


def _parameters(module: Module, definition: Definition) -> tuple[dict[str, Parameter], bool]:
    if isinstance(definition, ast.FunctionDef):
        return _of_function(module, definition, skip=0)
    init = next((s for s in definition.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    parameters, takes_more = _of_function(module, init, skip=1) if init else ({}, True)
    if not takes_more:
        return parameters, False
    # Further keywords go to the base classes; where those do not take them either, they are refused.
    is_open = False
    for base in definition.bases:
        try:
            base_module, base_definition = _find(_resolved(module, ast.unparse(base)))
        except CnnbenchError:  # made by a call or written in C: its keywords are in no source
            is_open = True
            continue
        inherited, base_open = _parameters(base_module, base_definition)
        own = _values_for_bases(init) if init else set()
        for name, one in inherited.items():
            parameters.setdefault(name, replace(one, may_differ=own is None or name in own))
        is_open |= base_open
    return parameters, is_open


def _values_for_bases(init: ast.FunctionDef) -> set[str] | None:
    """Return the names for which a constructor may give its base classes a value; None for any.

    Those are all names in a call or in a text: `super().__init__(name="mine", **kwargs)`, `kwargs["name"]`.
    """
    names = set()
    for node in ast.walk(init):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".__init__") and node.args:
            return None
        if isinstance(node, ast.keyword) and node.arg:
            names.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return names


def _of_function(module: Module, function: ast.FunctionDef, skip: int) -> tuple[dict[str, Parameter], bool]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = list(zip(positional, [*defaults, *arguments.defaults], strict=True))[skip:]
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    parameters = {
        argument.arg: Parameter(module, argument, _literal(default), required=default is None)
        for argument, default in pairs
    }
    return parameters, arguments.kwarg is not None


def _literal(node: ast.expr | None) -> Any:
    try:
        return UNKNOWN if node is None else ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def _evaluated(module: Module, node: ast.expr | None) -> Any:
    if node is None:
        return UNKNOWN
    namespace = dict(_namespace())
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
            namespace[name] = _evaluated(alias_module, alias.value)
    try:
        annotation = eval(ast.unparse(node), namespace)  # source of an allowed package, never config text
    except (NameError, AttributeError, TypeError, SyntaxError):
        return UNKNOWN
    return UNKNOWN if annotation is None else annotation


@cache
def _namespace() -> dict[str, Any]:
    """Return the names that an annotation may use without anything being imported from its module."""
    import collections.abc
    import typing

    import pydantic  # `--cfg job` needs no types

    return {**vars(typing), **vars(collections.abc), "Field": pydantic.Field, "Path": Path, "np": None}


def _resolved(module: Module, dotted: str) -> str:
    first, _, rest = dotted.partition(".")
    found = module.names.get(first)
    start = found if isinstance(found, str) else f"{module.name}.{first}"
    return f"{start}.{rest}" if rest else start
