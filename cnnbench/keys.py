"""Dotted keys of a config that is plain values."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from cnnbench.errors import CnnbenchError, nearest


def has_key(config: Mapping[str, Any], key: str) -> bool:
    """Whether `optimizer.learning_rate` or the like is in it."""
    *parents, name = key.split(".")
    return name in _node(config, parents)


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
