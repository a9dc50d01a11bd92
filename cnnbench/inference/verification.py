"""Verification of a finished run: Keras's own `evaluate` and `predict` against the recorded figures.

They run in a process of their own, without the graph by which a run measures, so that a fault in it shows.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench import data, system
from cnnbench.config import spec_from
from cnnbench.errors import CnnbenchError
from cnnbench.inference.evaluation import SPLITS
from cnnbench.inference.load import differences, load_dataset, require_finished
from cnnbench.runs import RunFolder, RunSpec, metrics, positive_class

# How far a figure may be from the recorded one, relative to it: on the same device, and on another. On one
# device only the order of sums differs; another has other kernels, and a GPU multiplies float32 with 10 bits
# of fraction (TF32).
BOUNDS = {"float32": (1e-5, 2e-3), "mixed_bfloat16": (1e-3, 5e-3), "mixed_float16": (1e-3, 5e-3)}
# Metrics that count decisions, some of which a difference of outputs within the bound may turn.
DECISIONS = ("accuracy", "precision", "recall", "f1", "correlation", "kappa", "hamming")
KERAS_BATCH = 32  # of `evaluate`, where none is given
# The child gets the folders of this process, so that the same code answers.
CHILD = f"import sys; sys.path[:] = sys.argv[1:]; import {__name__} as child; child.answer_task()"


@dataclass(frozen=True)
class Verdict:
    """Outcome of a verification.

    Attributes:
        rows: split and metric, recorded value, measured value, whether they agree.
        positive: the class that precision and recall of a binary task are of; None of another.
        complaints: differences besides figures: of the file's hash, the data's fingerprint, the precision.
        notes: the tolerance, where it is not the narrowest, and its reason.
    """

    rows: list[tuple[str, float, float, bool]]
    complaints: list[str]
    notes: list[str] = field(default_factory=list)
    positive: str | None = None

    @property
    def passed(self) -> bool:
        return not self.complaints and all(row[-1] for row in self.rows)


def verify(folder: RunFolder, spec: RunSpec) -> Verdict:
    """Compare the recorded figures with what Keras computes from the stored file.

    Args:
        folder: of a finished run.
        spec: made from the folder's config.

    Raises:
        CnnbenchError: the run has no finished checkpoint, or the file cannot be loaded.
    """
    require_finished(folder)
    dataset = load_dataset(spec)
    complaints = differences(folder, dataset)
    if system.sha256(folder.best_model) != folder.best.get("sha256"):
        complaints.append("best.keras is not the file that best.json describes (SHA-256 differs)")

    recorded = {name: figures for name in SPLITS if (figures := folder.metrics["metrics"].get(name))}
    splits = [name for name in recorded if name in dataset.splits]
    complaints += [f"there is no {name} split any more" for name in recorded if name not in splits]
    trained_on = str(folder.environment.get("device", ""))
    precision = str(folder.environment.get("precision", "float32"))
    narrow, wide = BOUNDS.get(precision, BOUNDS["float32"])
    found = recompute(folder, spec, splits, "cpu" if trained_on.startswith("CPU") else "auto", narrow)
    if found.precision != precision:
        complaints.append(f"best.keras computes in {found.precision}, recorded is {precision}")
    notes, bound = [], narrow
    if _without_cores(found.device) != _without_cores(trained_on):
        bound = wide
        notes.append(f"another device: {found.device}; the run's was {trained_on or 'not recorded'}")
    if bound != BOUNDS["float32"][0]:
        notes.append(f"figures in {precision} may differ by {bound:g} of their value here")
    rows = []
    for split in splits:
        undecided, smallest = found.undecided[split]
        for name, value in recorded[split].items():
            stored = math.nan if value is None else value  # NaN and infinity stand as null in the file
            measured = _number(found.figures[split].get(name))
            turned = undecided / smallest if any(word in name for word in DECISIONS) else 0.0
            allowed = bound + (turned if bound != BOUNDS["float32"][0] else 0.0)
            agrees = math.isclose(stored, measured, rel_tol=bound, abs_tol=min(allowed, 1.0))
            same = agrees or not (math.isfinite(stored) or math.isfinite(measured))
            rows.append((f"{split} {name}", stored, measured, same))
    return Verdict(rows, complaints, notes, positive_class(folder.metrics))


def _without_cores(device: str) -> str:
    return device.partition(",")[0] if device.startswith("CPU") else device


def _number(value: float | None) -> float:
    return math.nan if value is None else value


# -- Recomputation ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recomputed:
    """Figures of a stored checkpoint, computed by Keras.

    Attributes:
        device: where they were computed, as text.
        precision: of the stored model, a dtype policy of Keras.
        figures: loss and final metrics by split.
        undecided: by split, the number of examples that a change of an output by `close` could turn,
            and the size of the smallest class.
    """

    device: str
    precision: str
    figures: Mapping[str, Mapping[str, float]]
    undecided: Mapping[str, tuple[int, int]]


def recompute(folder: RunFolder, spec: RunSpec, splits: list[str], device: str, close: float) -> Recomputed:
    """Measure the best checkpoint in a new process.

    Args:
        folder: of a finished run.
        spec: made from the folder's config.
        splits: names of those to measure.
        device: `auto` or `cpu`.
        close: a difference of outputs.

    Raises:
        CnnbenchError: the data or the checkpoint cannot be read, or the process has failed.
    """
    with tempfile.TemporaryDirectory(prefix="cnnbench-") as place:
        answer = Path(place) / "answer.json"
        task = {
            "run": str(folder.path.absolute()),
            "config": system.plain(spec.config),
            "splits": splits,
            "device": device,
            "close": close,
            "answer": str(answer),
        }
        done = subprocess.run(
            [sys.executable, "-P", "-c", CHILD, *sys.path],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        said = answer.read_text(encoding="utf-8") if answer.exists() else ""
    if not said:
        reason = next(reversed(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
        raise CnnbenchError(f"Keras's evaluate of {folder.best_model} failed: {reason}")
    found = json.loads(said)
    if "error" in found:
        raise CnnbenchError(found["error"], found["hint"])
    return Recomputed(**found)


def answer_task() -> None:
    """Answer, in the child process, the task that `recompute` writes to standard input."""
    task = json.load(sys.stdin)
    try:
        found = asdict(_recomputed(task))
    except CnnbenchError as error:
        found = {"error": error.message, "hint": error.hint}
    system.write_json(Path(task["answer"]), found)


def _recomputed(task: Mapping[str, Any]) -> Recomputed:
    folder = RunFolder(Path(task["run"]))
    spec = spec_from(task["config"], folder.path)
    dataset = load_dataset(spec)
    system.import_tensorflow(spec.plugins)
    from cnnbench.nn import layers_of, load_checkpoint
    from cnnbench.training import prepare_machine

    precision = folder.environment.get("precision", spec.training.precision)
    machine = prepare_machine(spec.seed, spec.deterministic, task["device"], precision)
    model = load_checkpoint(folder.best_model)
    figures, undecided = {}, {}
    for name in task["splits"]:
        split = dataset.splits[name]
        batches = _batches(split, column=dataset.outputs == 1)
        by_keras = model.evaluate(batches, verbose=0, return_dict=True)
        outputs = np.asarray(model.predict(batches, verbose=0), dtype=np.float32)
        chosen, thresholds = spec.training.metrics or (), folder.decision.thresholds
        by_us = metrics.compute(dataset.task, split.y, outputs, chosen, thresholds)
        if thresholds is not None:  # of which Keras's metrics know nothing
            by_keras = {"loss": by_keras["loss"]}
        figures[name] = {"loss": by_keras["loss"], **{key: by_keras.get(key, by_us[key]) for key in by_us}}
        undecided[name] = _undecided(dataset.task, split.y, outputs, task["close"], thresholds)
    # A model, or a layer without weights, may be loaded with the policy of this process.
    layers = [layer for layer in layers_of(model) if layer.weights and not hasattr(layer, "layers")]
    policies = {layer.dtype_policy.name for layer in layers}
    mixed = sorted(policy for policy in policies if policy.startswith("mixed"))
    return Recomputed(machine.device, mixed[0] if mixed else "float32", figures, undecided)


def _batches(split: data.Split, column: bool) -> Any:
    import keras

    class Batches(keras.utils.PyDataset):
        """Raw examples in order; a mapped file is read piece by piece."""

        def __len__(self) -> int:
            return -(-len(split) // KERAS_BATCH)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            rows = np.arange(index * KERAS_BATCH, min((index + 1) * KERAS_BATCH, len(split)))
            y = split.y[rows]
            return split.x[rows], y[:, None] if column else y

    return Batches()


def _undecided(
    task: str, y_true: np.ndarray, outputs: np.ndarray, close: float, thresholds: metrics.Thresholds
) -> tuple[int, int]:
    """Count examples between two classes, or labels, by less than `close`, and those of the smallest."""
    if task == "regression":
        return 0, len(y_true)
    from_threshold = np.abs(outputs - metrics.cuts(thresholds))
    if task == "multilabel":
        undecided = from_threshold <= close
        having = y_true.sum(axis=0)
        return int(undecided.sum()), int(having[having > 0].min(initial=len(y_true)))
    if outputs.shape[1] == 1:
        gaps = 2 * from_threshold[:, 0]
    else:
        largest = np.sort(outputs, axis=1)[:, -2:]
        gaps = largest[:, 1] - largest[:, 0]
    return int((gaps <= 2 * close).sum()), int(np.unique(y_true, return_counts=True)[1].min())
