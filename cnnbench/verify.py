"""Whether the stored checkpoint still gives the recorded figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cnnbench.errors import CnnbenchError
from cnnbench.results import DONE, RunFolder, sha256
from cnnbench.spec import RunSpec

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
    from cnnbench.datasets.splits import with_validation
    from cnnbench.run import evaluate
    from cnnbench.startup import import_tensorflow

    if folder.status != DONE or not folder.best_model.is_file():
        raise CnnbenchError(f"{folder.path} has no finished run to verify (status: {folder.status})")
    dataset = with_validation(
        spec.dataset(), spec.training.validation_fraction, spec.training.examples, spec.seed
    )
    complaints = []
    recorded_data = folder.environment.get("dataset", {}).get("fingerprint")
    if recorded_data != dataset.fingerprint:
        complaints.append(
            f"the data differ: fingerprint {dataset.fingerprint[:12]}, recorded {str(recorded_data)[:12]}"
        )
    if sha256(folder.best_model) != folder.best.get("sha256"):
        complaints.append("best.keras is not the file that best.json describes (SHA-256 differs)")

    import_tensorflow()
    from cnnbench import engine
    from cnnbench.feed import Feed

    engine.prepare(spec.seed, spec.deterministic, spec.device, spec.training.precision)
    model = engine.load(folder.best_model)
    rows = []
    for split in ("val", "test"):
        recorded: dict[str, Any] = folder.metrics["metrics"].get(split, {})
        if not recorded:
            continue
        outputs = engine.predict(
            model, Feed(dataset.splits[split], engine.evaluation_batch(spec.training.batch_size))
        )
        measured = evaluate(model, dataset, split, outputs)
        for name, value in recorded.items():
            agrees = math.isclose(value, measured[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            rows.append((f"{split} {name}", value, measured[name], agrees))
    return Verdict(rows, complaints)
