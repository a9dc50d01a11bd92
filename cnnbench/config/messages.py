"""Messages: pydantic's first complaint about a value, in one line with the key as typed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from cnnbench.errors import CnnbenchError, nearest, shown

# What pydantic calls by its Python name.
IN_YAML = {"a valid dictionary": "a mapping", "an instance": "a list"}
PYTHON = re.compile(r"(a valid dictionary)( or instance of \w+)?|(an instance) of Sequence")


def validated(kind: Any, value: Any, path: str) -> Any:
    """Validate a value by a model or a `TypeAdapter`.

    Raises:
        CnnbenchError: the first complaint, with the key as the user would type it.
    """
    try:
        return kind.validate_python(value) if isinstance(kind, TypeAdapter) else kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        # Of a union each member complains, under its own name; the key is what the user can find again.
        inside = [part for part in first["loc"] if isinstance(part, int) or part in _keys(value)]
        where = ".".join(str(part) for part in ([path] if path else []) + inside)
        if first["type"] == "missing":
            raise CnnbenchError(f"{'.'.join(map(str, first['loc']))} is missing from the config") from None
        if first["type"] == "extra_forbidden":
            name = str(first["loc"][-1])
            raise CnnbenchError(
                f"there is no key {'.'.join(map(str, [*([path] if path else []), *first['loc']]))}",
                nearest(name, _fields(kind, first["loc"])),
            ) from None
        said = PYTHON.sub(lambda found: IN_YAML[found[1] or found[3]], first["msg"])
        raise CnnbenchError(f"{where}={shown(first['input'])}: {said[:1].lower()}{said[1:]}") from None


def _keys(value: Any) -> set[Any]:
    """Return the keys of a mapping at any depth."""
    if isinstance(value, Mapping):
        return set(value) | {key for item in value.values() for key in _keys(item)}
    return set()


def _fields(model: type[BaseModel], location: Sequence[Any]) -> set[str]:
    for part in location[:-1]:
        if isinstance(part, int):  # of a list, whose type was looked through one step before
            continue
        found = _model_in(model.model_fields[part].annotation)
        if found is None:
            return set()
        model = found
    return set(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in `Model`, `Model | None` or `list[Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
