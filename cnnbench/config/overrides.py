"""Overrides: grids of them, the text that a shell hands over, and values by dotted keys."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from cnnbench.errors import CnnbenchError, nearest

# `key=value`, whatever the value.
ASSIGNMENT = re.compile(r"((?:\+\+?|~)?[A-Za-z_][\w./@:$-]*)=(.*)", re.DOTALL)
# Keys of names and places: their values are texts or lists of texts.
TEXT = re.compile(
    r"name|run_dir|data_dir|plugins|dataset\.(root|test_root|labels|group|data_dir|cache_dir|fixes)|model\.(weights|backbone)"
    r"|callbacks\.\w+\.experiment|sweep\.resume"
)
# How values begin that Hydra's grammar takes for more than text.
STRUCTURE = re.compile(r"[\[{('\"]|(int|str|bool|float|choice|range|interval|tag|sort|shuffle|glob)\s*\(")
PIECE = re.compile(r"""(?:'[^']*'|"[^"]*"|[^,])+""")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def combinations(
    axes: Mapping[str, Sequence[str]], zipped: Sequence[Sequence[str]] = ()
) -> list[tuple[str, ...]]:
    """Combine all values of all keys, the last key fastest; zipped keys step together.

    Args:
        axes: the values of each key, as overrides.
        zipped: groups of keys.

    Raises:
        CnnbenchError: a zipped key has no values, another number than its partners, or two groups.
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


def is_excluded(excluded: Mapping[str, Any], values_of: Mapping[str, Sequence[Any]]) -> bool:
    """Tell whether a run has one of the excluded values for every key of an exclusion.

    Args:
        excluded: by key a value, or a list of them.
        values_of: by key the values of a run; an option may go by two names.
    """
    return all(
        any(value in (wanted if isinstance(wanted, list) else [wanted]) for value in values_of[key])
        for key, wanted in excluded.items()
    )


# -- What a shell hands over -----------------------------------------------------------------------


def as_text(typed: str, value: Any, is_readable: bool) -> str | None:
    """Quote the value of an override that is meant as text, but which Hydra's grammar takes otherwise.

    Such a value is one that the grammar cannot read and that does not begin like a list, a mapping, a
    quotation or a function: `dataset.root=my pics (2024)`. A name or a place may also begin so, or look like
    a number: `run_dir=2024_01`.

    Args:
        typed: one argument.
        value: as the grammar reads it.
        is_readable: the grammar can read it.

    Returns:
        the quoted override; None where it is to stay as it is.
    """
    match = ASSIGNMENT.fullmatch(typed)
    if match is None:
        return None
    key, text = match.groups()
    is_place = TEXT.fullmatch(key.lstrip("+")) is not None
    if is_readable and not (is_place and isinstance(value, bool | int | float)):
        return None
    if key.lstrip("+") == "plugins" and (listed := re.fullmatch(r"\s*\[(.*)\]\s*", text, re.DOTALL)):
        return f"{key}=[{','.join(map(_text_of_piece, PIECE.findall(listed[1])))}]"
    if not is_readable and not is_place and STRUCTURE.match(text):
        return None
    pieces = PIECE.findall(text)
    # Commas separate values, as they do where the grammar reads them.
    return f"{key}={quoted(text) if len(pieces) < 2 else ','.join(map(_text_of_piece, pieces))}"


def _text_of_piece(piece: str) -> str:
    text = piece.strip()
    is_quoted = len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]
    return text if is_quoted else quoted(text)


def with_home(node: Any) -> Any:
    """Copy a node with the home for `~` at the beginning of a text, at any depth."""
    if isinstance(node, Mapping):
        return {key: with_home(value) for key, value in node.items()}
    if isinstance(node, list):
        return [with_home(value) for value in node]
    is_in_home = isinstance(node, str) and (node == "~" or node.startswith(("~/", "~\\")))
    return str(Path(node).expanduser()) if is_in_home else node


def numbers_as_numbers(config: Mapping[str, Any], key: str = "") -> Any:
    """Copy a config with numbers for texts that are written like one, except in names, places and data."""
    if isinstance(config, Mapping):
        return {
            name: numbers_as_numbers(node, f"{key}.{name}" if key else name) for name, node in config.items()
        }
    if isinstance(config, list):
        return [numbers_as_numbers(node, key) for node in config]
    is_number = isinstance(config, str) and NUMBER.fullmatch(config)
    if not is_number or TEXT.fullmatch(key) or key.startswith("dataset."):
        return config
    return int(config) if re.fullmatch(r"[-+]?\d+", config) else float(config)


def override(key: str, value: Any) -> str:
    """Return `key=value` as Hydra reads it back."""
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
    """Quote a text for Hydra's override grammar."""
    # Backslashes mean themselves there, except before a quote.
    escaped = re.sub(r"(\\+)(?='|\Z)", r"\1\1", text).replace("'", "\\'")
    return f"'{escaped}'"


# -- Dotted keys -----------------------------------------------------------------------------------


def has_key(config: Mapping[str, Any], key: str) -> bool:
    """Tell whether a config has a dotted key such as `optimizer.learning_rate`."""
    *parents, name = key.split(".")
    return name in _node(config, parents)


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key that the config has."""
    *parents, name = key.split(".")
    return _node(config, parents)[name]


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a config with other values of dotted keys.

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
    """Return the mapping to which the parents lead; an empty one where they lead nowhere."""
    for parent in parents:
        config = config.get(parent) if isinstance(config, Mapping) else None
    return config if isinstance(config, dict) else {}
