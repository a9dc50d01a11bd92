"""Records of runs: each folder read once, for verbs that look at many, and the config keys that differ."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeGuard

from cnnbench.config import with_keywords
from cnnbench.errors import CnnbenchError, shown
from cnnbench.renamed import stored_config
from cnnbench.runs import (
    AVERAGE,
    DONE,
    FIXES,
    UNREADABLE,
    RunFolder,
    flatten,
    places_in,
    text_of,
    without_places,
)

# The columns of cost, and where `metrics.json` has them.
COSTS = {
    "parameters": ("parameters",),
    "flops": ("flops_per_example",),
    "seconds": ("seconds", "fit"),
    "examples_per_second": ("examples_per_second",),
    "latency": ("latency_seconds",),
    "memory": ("peak_memory_bytes",),
}
NULL = "null"  # the text of a key that a config lacks
LARGEST = 1e150  # no figure of a run is larger; squares and sums of many still have room
# Errors that a file may raise whose types, sizes or keys are not those that a run writes.
GARBLED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class Record:
    """One run, as far as it could be read.

    Attributes:
        folder: of the run.
        status: of the run; `unreadable` where a file is damaged or lacks something.
        reason: the reason why it is not `done`.
        config: empty where unreadable.
        metrics: the content of `metrics.json`; empty where unreadable.
    """

    folder: RunFolder
    status: str
    reason: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def compared(self) -> dict[str, Any]:
        """The config without its places; a file of weights is replaced by the digest of its content."""
        known = self.metrics.get("weights")
        return without_places(self.config, known if isinstance(known, Mapping) else None)

    @property
    def dataset(self) -> str:
        """The part of it that says which data they are; what `dataset.fixes` made of them is compared."""
        found = self.compared.get("dataset")
        kept = {k: v for k, v in found.items() if k != "fixes"} if isinstance(found, Mapping) else found
        return text_of(kept)

    @cached_property
    def data(self) -> str:
        """The fingerprint of data that have a place, or without one, as in version 0.1.0, the place itself.

        It is empty where the config alone says which data they are.
        """
        found = {
            key: value
            for key, value in places_in(self.config).items()
            if key.startswith("dataset.") and not key.endswith("cache_dir") and key != FIXES
        }
        return str(self.metrics.get("data") or text_of(found)) if found else ""

    @property
    def seed(self) -> int:
        return int(number(self.config.get("seed", 0)))

    @property
    def fold(self) -> int | str | None:
        """The fold that it holds out; `average` for the average of their models; None for any other run."""
        training = self.config.get("training")
        found = training.get("fold") if isinstance(training, Mapping) else None
        return found if found is None or found == AVERAGE else int(number(found))

    @property
    def overlap(self) -> float:
        """How many examples its fold has for each of the others; 0 where it is no fold."""
        sizes = self.metrics.get("fold")
        return number(sizes["examples"]) / number(sizes["others"]) if sizes else 0.0

    @property
    def objective(self) -> str:
        return str(self.metrics["objective"])

    @property
    def value(self) -> float:
        """The value of the objective; NaN where it was not finite."""
        return number(self.metrics["value"])

    @property
    def test(self) -> dict[str, float]:
        """The final test metrics."""
        return {name: number(value) for name, value in self.metrics["metrics"]["test"].items()}

    @property
    def best_epoch(self) -> int | None:
        """The best epoch, from 1; None where it is not recorded."""
        epoch = self.metrics.get("best_epoch")
        return None if epoch is None else int(number(epoch))

    @property
    def cost(self) -> dict[str, float]:
        """Costs by the names of `COSTS`, in counts, seconds and bytes; NaN where not recorded."""
        found: dict[str, float] = {}
        for name, keys in COSTS.items():
            value: Any = self.metrics["cost"]
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            found[name] = number(value)
        return found


def number(value: Any) -> float:
    """Return a recorded figure; NaN for null, which stands for NaN and infinity in JSON.

    Raises:
        ArithmeticError, TypeError, ValueError: no run records such a value.
    """
    found = math.nan if value is None else float(value)
    if not math.isfinite(found):
        return math.nan
    if abs(found) > LARGEST:
        raise ValueError(f"{found} is no figure of a run")
    return found


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value can be compared with numbers; one beyond all floats is taken for a text."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > sys.float_info.max
    )


def read_records(runs: Sequence[RunFolder]) -> list[Record]:
    """Read one record for each run."""
    signatures: dict[str, Any] = {}
    return [_read(run, signatures) for run in runs]


def _read(run: RunFolder, signatures: dict[str, Any]) -> Record:
    try:
        config, metrics = with_keywords(stored_config(run.quick_config), signatures), run.metrics
        text_of(flatten(config))
        status = str(metrics["status"]) if "status" in metrics else run.status
        if status != DONE:
            return Record(run, status, run.reason, config, metrics)
        record = Record(run, status, "", config, metrics)
        _ = (record.seed, record.objective, record.value, record.test, record.cost, record.best_epoch)
        _ = (record.fold, record.overlap)
        _ = (len(record.test), str(metrics["name"]))
    except CnnbenchError as error:
        return Record(run, UNREADABLE, error.message)
    except GARBLED as error:
        reason = shown(repr(error))
        return Record(run, UNREADABLE, f"metrics.json or config.yaml lacks or garbles something: {reason}")
    return record


# -- Configs ---------------------------------------------------------------------------------------


def differing_keys(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the keys that have several values, in flat configs of texts."""
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
    """Return those of the differing keys that are worth showing, in flat configs of texts."""
    return [key for key in differing if not _goes_without_saying(key, set(differing), configs)]


def _goes_without_saying(key: str, differing: set[str], configs: Sequence[Mapping[str, str]]) -> bool:
    """Tell whether a differing key follows from the chosen option, whose name is shown."""
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
    """Return the values of keys; for an option its name, under the name of its group.

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
    """Write a value; a number with many digits, as a search draws them, with four."""
    return f"{value:.4g}" if isinstance(value, float) and len(repr(value)) > 8 else str(value)


def dataset_names(configs: Sequence[Any]) -> list[str]:
    """Return a name for each config of a data set, with the keys that differ where names are equal."""
    flat = [flatten(config) if isinstance(config, Mapping) else {} for config in configs]
    names = [str(config.get("_target_", "")).rpartition(".")[2] for config in flat]
    shown = []
    for name, config in zip(names, flat, strict=True):
        alike = [other for other_name, other in zip(names, flat, strict=True) if other_name == name]
        keys = [key for key in config if len({text_of(other.get(key)) for other in alike}) > 1]
        pairs = ", ".join(f"{key}={config[key]}" for key in keys)
        shown.append(f"{name} ({pairs})" if pairs else name)
    return shown
