"""Dotted keys: a config flat, and the keys in which two configs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every value by its dotted key; lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differing(
    first: Mapping[str, Any], second: Mapping[str, Any], missing: Any = None
) -> dict[str, tuple[Any, Any]]:
    """Return both values of each dotted key in which two configs differ, `missing` where one lacks it."""
    one, other = flatten(first), flatten(second)
    return {
        key: (one.get(key, missing), other.get(key, missing))
        for key in {**one, **other}
        if (key in one) != (key in other) or text_of(one[key]) != text_of(other[key])
    }


def text_of(value: Any) -> str:
    """Return the same text for the same value."""
    return json.dumps(value, sort_keys=True, default=str)
