"""Overrides as text and values: grids of them, quoting, dotted keys."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from cnnbench.errors import CnnbenchError, nearest


def combinations(
    axes: Mapping[str, Sequence[str]], zipped: Sequence[Sequence[str]] = ()
) -> list[tuple[str, ...]]:
    """Each with each, the last key fastest; zipped keys step together.

    Args:
        axes: the values of each key, as overrides.
        zipped: groups of keys.

    Raises:
        CnnbenchError: a zipped key has no values, or not as many as its partners, or two partners too many.
    """
    partners: dict[str, Sequence[str]] = {}
    for group in zipped:
        for key in group:
            if key not in axes:
                raise CnnbenchError(f"sweep.zip names {key}, which has no list of values", nearest(key, axes))
            if key in partners:
                raise CnnbenchError(f"sweep.zip names {key} twice", "put all partners into one list")
            partners[key] = group
        lengths = {key: len(axes[key]) for key in group}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise CnnbenchError(f"sweep.zip wants lists of one length: {counts}", "add or remove values")
    columns: list[list[tuple[str, ...]]] = []
    placed: set[str] = set()
    for key, values in axes.items():
        if key in placed:
            continue
        group = partners.get(key, [key])
        placed |= set(group)
        columns.append(
            list(zip(*(axes[one] for one in group), strict=True))
            if len(group) > 1
            else [(value,) for value in values]
        )
    return [tuple(itertools.chain(*job)) for job in itertools.product(*columns)]


def is_excluded(excluded: Mapping[str, Any], value_of: Mapping[str, Any]) -> bool:
    """Whether a run has one of the wanted values for every key of one exclusion."""
    return all(
        value_of[key] in wanted if isinstance(wanted, list) else value_of[key] == wanted
        for key, wanted in excluded.items()
    )


def override(key: str, value: Any) -> str:
    """`key=value` as Hydra reads it back."""
    return f"{key}={_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value if re.fullmatch(r"[A-Za-z_][\w/.-]*", value) else quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_text, value)) + "]"
    return json.dumps(value)


def quoted(text: str) -> str:
    """A value that Hydra's override grammar reads back as this text."""
    # Backslashes mean themselves there, except before a quote.
    escaped = re.sub(r"(\\+)(?='|\Z)", r"\1\1", text).replace("'", "\\'")
    return f"'{escaped}'"


# -- Dotted keys -----------------------------------------------------------------------------------


def has_key(config: Mapping[str, Any], key: str) -> bool:
    """Whether `optimizer.learning_rate` or the like is in it."""
    *parents, name = key.split(".")
    return name in _node(config, parents)


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """Return the value of `optimizer.learning_rate` or the like, which the config has."""
    *parents, name = key.split(".")
    return _node(config, parents)[name]


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with other values.

    Raises:
        CnnbenchError: there is no such key.
    """
    changed = deepcopy(dict(config))
    for key, value in values.items():
        *parents, name = key.split(".")
        node = _node(changed, parents)
        if name not in node:
            raise CnnbenchError(f"there is no key {key}", nearest(name, node))
        node[name] = value
    return changed


def _node(config: Any, parents: list[str]) -> dict[str, Any]:
    """The mapping that they lead to; an empty one where they lead nowhere."""
    for parent in parents:
        config = config.get(parent) if isinstance(config, Mapping) else None
    return config if isinstance(config, dict) else {}
