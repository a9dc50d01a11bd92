"""How the outputs of a stored model become answers: kept in its own file, which may travel alone."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from cnnbench.errors import CnnbenchError, first_line
from cnnbench.runs import conformal, metrics

log = logging.getLogger("cnnbench")
METADATA, KEY = "metadata.json", "cnnbench"  # of a .keras file; Keras writes it, and reads it never
SCHEMA = 1
MOST_BYTES = 2**26  # of the metadata: a thousand names take some hundred thousand


@dataclass(frozen=True)
class Decision:
    """What is decided from outputs, and by which rule.

    Attributes:
        task: of the run.
        names: of the classes, labels or targets, in the order of the outputs.
        thresholds: a binary task's one, of the probability of class 1; of several labels, each label's. A
            probability above it is a yes. None: 0.5, or the most probable of several classes.
        aim: what the thresholds were chosen for on the validation split, as it was typed; None for 0.5.
        temperature: that the logits are divided by, within the model; None where it was not fitted.
        conformal: of sets of classes that hold the true one as often as promised; empty where there are none.
    """

    task: str
    names: tuple[str, ...]
    thresholds: tuple[float, ...] | None = None
    aim: str | None = None
    temperature: float | None = None
    conformal: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_result(cls, result: Mapping[str, Any]) -> Decision:
        """Return that of a run by its `metrics.json`, without the sets."""
        names = tuple(result["class_names"] or result.get("target_names") or ())
        settled = result.get("decision") or {}
        thresholds = tuple(settled.get("thresholds", {}).values()) or None
        return cls(result["task"], names, thresholds, settled.get("aim"), settled.get("temperature"))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Decision:
        """Return what `as_dict` was made of; keys of a later version are left out.

        Raises:
            ValueError: it is no decision.
        """
        from pydantic import TypeAdapter  # its own error is a ValueError, too

        known = {name: stored[name] for name in cls.__dataclass_fields__ if name in stored}
        decision: Decision = TypeAdapter(cls).validate_python(known)
        decision.check()
        return decision

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, of the schema that the file names."""
        return {"schema": SCHEMA, **asdict(self)}

    @property
    def thresholds_by_name(self) -> dict[str, float]:
        """The threshold of class 1, or of each label, by its name; empty where none was chosen."""
        chosen = self.thresholds or ()
        return dict(zip(self.names[-len(chosen) :], chosen, strict=True)) if chosen else {}

    def check(self) -> None:
        """Refuse what decides nothing.

        Raises:
            ValueError: there is no such task, or not as many finite thresholds as it needs.
        """
        if self.task not in metrics.FINAL:
            raise ValueError(f"there is no task {self.task!r}")
        if self.thresholds is None:
            return
        wanted = {"binary": 1, "multilabel": len(self.names)}.get(self.task, 0)
        if len(self.thresholds) != wanted or not np.isfinite(self.thresholds).all():
            raise ValueError(f"{len(self.thresholds)} thresholds where {wanted} finite ones belong")

    def with_sets(self, y_true: np.ndarray, outputs: np.ndarray, coverage: float) -> Decision:
        """Return it with sets, or ranges, as large as examples say that have chosen nothing.

        Args:
            y_true: of these examples, as of `metrics.compute`.
            outputs: of the model for them; where one is not finite, no sets are made, and a warning says so.
            coverage: that is promised.
        """
        if not np.isfinite(outputs).all():
            log.warning("no sets are made: the model gives NaN or infinity for calibration examples")
            return self
        return replace(self, conformal=conformal.calibrated(self.task, y_true, outputs, coverage))

    def classes(self, outputs: np.ndarray) -> np.ndarray:
        """Return the class ``(n,)`` that outputs ``(n, classes)``, or ``(n, 1)`` of class 1, decide for."""
        return metrics.predicted_classes(outputs, self.thresholds)

    def labels(self, outputs: np.ndarray) -> np.ndarray:
        """Return 0 or 1 ``(n, labels)`` uint8 for probabilities of labels."""
        return metrics.predicted_labels(outputs, self.thresholds)


def stored_decision(model: Path) -> Decision | None:
    """Read the decision of a `.keras` file, which may be a stranger's; None where it has none.

    Raises:
        CnnbenchError: the file is damaged, or what it says is no decision.
    """
    from pydantic import ValidationError

    try:
        stored = _metadata(model).get(KEY)
        return None if stored is None else Decision.from_dict(stored)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (BadZipFile, OSError, ValueError, TypeError, AttributeError) as error:
        reason = first_line(error)
    raise CnnbenchError(f"{model}: its decision cannot be read: {reason}", "the file may be damaged")


def _metadata(model: Path) -> Any:
    with ZipFile(model) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        if METADATA not in sizes:
            return {}
        if sizes[METADATA] > MOST_BYTES:
            raise ValueError(f"it has {sizes[METADATA]:,} bytes")
        return json.loads(archive.read(METADATA))


def save_decision(source: Path, decision: Decision, path: Path) -> None:
    """Write a copy of a `.keras` file that has this decision; whatever else it holds stays as it is."""
    with ZipFile(source) as old, ZipFile(path, "w") as new:
        for member in old.infolist():
            if member.filename != METADATA:
                with old.open(member) as content, new.open(member, "w") as copy:
                    shutil.copyfileobj(content, copy)
        metadata = json.loads(old.read(METADATA)) if METADATA in old.namelist() else {}
        new.writestr(METADATA, json.dumps({**metadata, KEY: decision.as_dict()}))
