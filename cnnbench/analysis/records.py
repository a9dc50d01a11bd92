"""Run folders read once, for verbs that look at many, and the config keys in which they differ."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeGuard

from cnnbench.errors import CnnbenchError, shown
from cnnbench.renamed import stored_config
from cnnbench.runs import DONE, UNREADABLE, RunFolder, places_in, without_places

# The columns of cost, and where `metrics.json` has them.
COSTS = {
    "parameters": ("parameters",),
    "flops": ("flops_per_example",),
    "seconds": ("seconds", "fit"),
    "examples_per_second": ("examples_per_second",),
    "latency": ("latency_seconds",),
    "memory": ("peak_memory_bytes",),
}
NULL = "null"  # as text; a key that a config lacks counts as this
LARGEST = 1e150  # no figure of a run is beyond; squares and sums of many still have room
# What a file with other types, sizes or keys than a run writes may raise, wherever it is looked at.
GARBLED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class Record:
    """What is known of one run.

    Attributes:
        folder: of the run.
        status: as of the run; `unreadable` where a file of it cannot be read, or lacks or garbles something.
        reason: why it is not `done`.
        config: empty where unreadable.
        metrics: as in the folder; empty where unreadable.
    """

    folder: RunFolder
    status: str
    reason: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def compared(self) -> dict[str, Any]:
        """The config without its places; in that of a file of weights stands what the file holds."""
        known = self.metrics.get("weights")
        return without_places(self.config, known if isinstance(known, Mapping) else None)

    @cached_property
    def data(self) -> str:
        """What tells its data from those in another place; empty where its config alone says which they are.

        Without a fingerprint, as in runs of version 0.1.0, that is the place.
        """
        found = {
            key: value
            for key, value in places_in(self.config).items()
            if key.startswith("dataset.") and not key.endswith("cache_dir")
        }
        return str(self.metrics.get("data") or text_of(found)) if found else ""

    @property
    def seed(self) -> int:
        return int(number(self.config.get("seed", 0)))

    @property
    def objective(self) -> str:
        return str(self.metrics["objective"])

    @property
    def value(self) -> float:
        """Of the objective; NaN where it was not finite."""
        return number(self.metrics["value"])

    @property
    def test(self) -> dict[str, float]:
        """The final test metrics."""
        return {name: number(value) for name, value in self.metrics["metrics"]["test"].items()}

    @property
    def best_epoch(self) -> int | None:
        """None where it is not recorded."""
        epoch = self.metrics.get("best_epoch")
        return None if epoch is None else int(number(epoch))

    @property
    def cost(self) -> dict[str, float]:
        """By the names of `COSTS`: count, FLOPs of one example, seconds, bytes; NaN what is not recorded."""
        found: dict[str, float] = {}
        for name, keys in COSTS.items():
            value: Any = self.metrics["cost"]
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            found[name] = number(value)
        return found


def number(value: Any) -> float:
    """Return a recorded figure; what was NaN or infinite stands as null in a file of JSON.

    Raises:
        ArithmeticError, TypeError, ValueError: no run has recorded that.
    """
    found = math.nan if value is None else float(value)
    if not math.isfinite(found):
        return math.nan
    if abs(found) > LARGEST:
        raise ValueError(f"{found} is no figure of a run")
    return found


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a config goes with other numbers; one beyond all floats is but a text."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > sys.float_info.max
    )


def read_records(runs: Sequence[RunFolder]) -> list[Record]:
    """One record for each run."""
    return [_read(run) for run in runs]


def _read(run: RunFolder) -> Record:
    try:
        config, metrics = stored_config(run.quick_config), run.metrics
        text_of(flatten(config))
        status = str(metrics["status"]) if "status" in metrics else run.status
        if status != DONE:
            return Record(run, status, run.reason, config, metrics)
        record = Record(run, status, "", config, metrics)
        _ = (record.seed, record.objective, record.value, record.test, record.cost, record.best_epoch)
        _ = (len(record.test), str(metrics["name"]))
    except CnnbenchError as error:
        return Record(run, UNREADABLE, error.message)
    except GARBLED as error:
        reason = shown(repr(error))
        return Record(run, UNREADABLE, f"metrics.json or config.yaml lacks or garbles something: {reason}")
    return record


# -- Configs ---------------------------------------------------------------------------------------


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
