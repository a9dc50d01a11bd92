"""Which runs a comparison is made of, and in which order its groups are shown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from cnnbench.comparison.compare import Comparison, Group, Ranking
from cnnbench.comparison.differing import flatten
from cnnbench.comparison.records import COSTS, Record
from cnnbench.errors import CnnbenchError, nearest
from cnnbench.files import load_yaml
from cnnbench.metrics import larger_is_better
from cnnbench.run_files import DAMAGED


def select(records: Sequence[Record], filters: Sequence[str]) -> list[Record]:
    """The runs whose configs have the wanted values; what cannot be read stays, to be told.

    Args:
        records: of all runs.
        filters: `key=value` or `key=value,value`; of a group its option: `model=cnn`.

    Raises:
        CnnbenchError: no run has such a key, or such a value.
    """
    kept = list(records)
    flat = {record.folder.path: flatten(record.config) for record in records}
    for text in filters:
        key, equals, wanted = text.partition("=")
        if not equals:
            raise CnnbenchError(f"cannot read the filter {text!r}", "write --filter key=value,value")
        found = {path: _value(config, key) for path, config in flat.items()}
        if all(value is None for value in found.values()):
            known = {_shown(key) for config in flat.values() for key in config}
            raise CnnbenchError(f"no run has the config key {key}", nearest(key, known))
        values = re.split(r",(?![^\[]*\])", wanted)
        kept = [
            record
            for record in kept
            if record.status == DAMAGED or any(_same(found[record.folder.path], value) for value in values)
        ]
        if all(record.status == DAMAGED for record in kept):
            present = sorted({str(value[0]) for value in found.values() if value is not None})
            raise CnnbenchError(f"no run has {text}", f"{key} is one of: {', '.join(present)}")
    return kept


def _value(config: Mapping[str, Any], key: str) -> tuple[Any] | None:
    """The value of a key in a flat config; of a group the name of its option."""
    if key in config:
        return (config[key],)
    target = config.get(f"{key}._target_")
    return (str(target).rpartition(".")[2],) if target else None


def _shown(key: str) -> str:
    return key.removesuffix("._target_")


def _same(found: tuple[Any] | None, wanted: str) -> bool:
    if found is None:
        return False
    value = found[0]
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    try:
        return str(value) == wanted or bool(value == load_yaml(wanted))
    except yaml.YAMLError:
        return False


def order(comparison: Comparison, key: str) -> Comparison:
    """The same, its groups by a column: the better, the cheaper or the smaller first.

    Raises:
        CnnbenchError: there is no such column.
    """
    return replace(comparison, rankings=[_order(ranking, key) for ranking in comparison.rankings])


def _order(ranking: Ranking, key: str) -> Ranking:
    columns = [columns_of(group) for group in ranking.groups]
    known = dict.fromkeys(name for column in columns for name in column)
    if key not in known:
        raise CnnbenchError(f"there is no column {key}", nearest(key, known))
    is_score = key == ranking.objective or key.startswith("test_")
    down = key == "examples_per_second" or (is_score and larger_is_better(key))

    def place(index: int) -> tuple[int, float, str]:
        value = columns[index].get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return (1, 0.0, str(value))
        return (2, 0.0, "") if math.isnan(value) else (0, -value if down else value, "")

    places = sorted(range(len(columns)), key=place)
    return replace(ranking, groups=[ranking.groups[index] for index in places])


def columns_of(group: Group) -> dict[str, Any]:
    """Everything of a group that it can be sorted by, by its name."""
    return {
        "rank": group.rank,
        **group.differs,
        "runs": len(group.runs),
        group.objective: group.mean,
        **{f"test_{name}": value for name, value in group.test.items()},
        **{name: group.cost[name] for name in COSTS},
    }
