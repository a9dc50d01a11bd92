"""Whether the stored checkpoint still gives the recorded figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cnnbench.files import sha256
from cnnbench.results import RunFolder
from cnnbench.spec import RunSpec
from cnnbench.trained import load_dataset, load_model, measure, require_finished

# Another machine adds in another order; more than this is another model or other data.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Verdict:
    """Outcome of a verification.

    Attributes:
        rows: split and metric, recorded value, measured value, whether they agree.
        complaints: what differs besides figures: the file's hash, the data's fingerprint.
    """

    rows: list[tuple[str, float, float, bool]]
    complaints: list[str]

    @property
    def passed(self) -> bool:
        return not self.complaints and all(row[-1] for row in self.rows)


def verify(folder: RunFolder, spec: RunSpec) -> Verdict:
    """Evaluate the stored file on the recorded splits.

    Args:
        folder: of a finished run.
        spec: made from the folder's config.

    Raises:
        CnnbenchError: the run has no finished checkpoint, or the file cannot be loaded.
    """
    require_finished(folder)
    dataset = load_dataset(spec)
    complaints = []
    recorded_data = folder.environment.get("dataset", {}).get("fingerprint")
    if recorded_data != dataset.fingerprint:
        complaints.append(
            f"the data differ: fingerprint {dataset.fingerprint[:12]}, recorded {str(recorded_data)[:12]}"
        )
    if sha256(folder.best_model) != folder.best.get("sha256"):
        complaints.append("best.keras is not the file that best.json describes (SHA-256 differs)")

    model = load_model(folder, spec, anywhere=False)
    rows = []
    for split in ("val", "test"):
        recorded: dict[str, Any] = folder.metrics["metrics"].get(split, {})
        if not recorded:
            continue
        _, measured = measure(model, dataset, split, spec.training.batch_size)
        for name, value in recorded.items():
            stored = math.nan if value is None else value  # NaN and infinity stand as null in the file
            agrees = math.isclose(stored, measured[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            same = agrees or not (math.isfinite(stored) or math.isfinite(measured[name]))
            rows.append((f"{split} {name}", stored, measured[name], same))
    return Verdict(rows, complaints)
