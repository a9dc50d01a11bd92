"""Run folders read once, for verbs that look at many: what cannot be read becomes a reason, not an error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnbench.comparison.alike import AlikeFiles
from cnnbench.errors import CnnbenchError
from cnnbench.results import RunFolder
from cnnbench.run_files import DAMAGED, DONE

# The columns of cost, and where `metrics.json` has them.
COSTS = {
    "parameters": ("parameters",),
    "flops": ("flops_per_example",),
    "seconds": ("seconds", "fit"),
    "examples_per_second": ("examples_per_second",),
    "latency": ("latency_seconds",),
    "memory": ("peak_memory_bytes",),
}


@dataclass(frozen=True)
class Record:
    """What is known of one run.

    Attributes:
        folder: of the run.
        status: as of the run; `damaged` where a file of it cannot be read or lacks something.
        reason: why it is not `done`.
        config: empty where damaged.
        metrics: as in the folder; empty where damaged.
    """

    folder: RunFolder
    status: str
    reason: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

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
    """What was NaN or infinite stands as null in a file of JSON."""
    return math.nan if value is None else float(value)


def read_records(runs: Sequence[RunFolder]) -> list[Record]:
    """One record for each run."""
    files = AlikeFiles()
    return [_read(run, files) for run in runs]


def _read(run: RunFolder, files: AlikeFiles) -> Record:
    try:
        config, metrics = run.config_by(files.read), run.metrics
        status = str(metrics["status"]) if "status" in metrics else run.status
        if status != DONE:
            reason = metrics.get("reason") or run.failure.get("cause") or "no cause recorded"
            return Record(run, status, str(reason), config, metrics)
        record = Record(run, status, "", config, metrics)
        _ = (record.seed, record.objective, record.value, record.test, record.cost, str(metrics["name"]))
    except CnnbenchError as error:
        return Record(run, DAMAGED, error.message)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return Record(run, DAMAGED, f"metrics.json or config.yaml lacks or garbles something: {error!r}")
    return record
