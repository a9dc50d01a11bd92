"""Configs side by side: the keys that differ, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

NULL = "null"  # as text; a key that a config lacks counts as this


def flatten(config: Mapping[str, Any], without: Sequence[str] = ()) -> dict[str, Any]:
    """Values by dotted keys, but not those of the top level that are in `without`."""
    return _flatten({key: value for key, value in config.items() if key not in without}, "")


def _flatten(config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def text_of(value: Any) -> str:
    """The same text for the same value."""
    return json.dumps(value, sort_keys=True, default=str)


def differing_keys(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Those that have several values, in flat configs of texts."""
    values: dict[str, set[str]] = {}
    times: dict[str, int] = {}
    for config in configs:
        for key, text in config.items():
            values.setdefault(key, set()).add(text)
            times[key] = times.get(key, 0) + 1
    return [
        key
        for key, found in values.items()
        if len(found | ({NULL} if times[key] < len(configs) else set())) > 1
    ]


def told_apart_by(differing: Sequence[str], configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Of the keys that differ those worth showing, in flat configs of texts."""
    return [key for key in differing if not _goes_without_saying(key, set(differing), configs)]


def _goes_without_saying(key: str, differing: set[str], configs: Sequence[Mapping[str, str]]) -> bool:
    """Whether a differing key came along with the option that was chosen, whose name is shown anyway."""
    if f"{key}._target_" in differing:  # a number in some configs, an object in others
        return True
    target = f"{key.rpartition('.')[0]}._target_"
    if key == target or target not in differing:
        return False
    values: dict[str, set[str]] = {}
    for config in configs:
        values.setdefault(config.get(target, NULL), set()).add(config.get(key, NULL))
    return all(len(found) == 1 for found in values.values())


def readable(config: Mapping[str, Any], keys: Sequence[str], name: str) -> dict[str, Any]:
    """The values of `keys`; of an option its name, under the name of its group.

    Args:
        config: flat.
        keys: those to show.
        name: of the run, shown where there are no keys.
    """
    shown: dict[str, Any] = {}
    for key in keys:
        group, _, last = key.rpartition(".")
        if last == "_target_":
            target = config.get(key)
            shown[group] = str(target).rpartition(".")[2] if target else config.get(group, "–")
        else:
            shown[key] = config.get(key)
    return shown or {"run": name}


def short(value: Any) -> str:
    """A value as text; of a number with many digits, as searches draw them, the first four."""
    return f"{value:.4g}" if isinstance(value, float) and len(repr(value)) > 8 else str(value)


def dataset_names(configs: Sequence[Any]) -> list[str]:
    """A name for each config of a data set, with what differs where the names alone do not tell."""
    flat = [flatten(config) if isinstance(config, Mapping) else {} for config in configs]
    names = [str(config.get("_target_", "")).rpartition(".")[2] for config in flat]
    shown = []
    for name, config in zip(names, flat, strict=True):
        alike = [other for other_name, other in zip(names, flat, strict=True) if other_name == name]
        keys = [key for key in config if len({text_of(other.get(key)) for other in alike}) > 1]
        pairs = ", ".join(f"{key}={config[key]}" for key in keys)
        shown.append(f"{name} ({pairs})" if pairs else name)
    return shown
