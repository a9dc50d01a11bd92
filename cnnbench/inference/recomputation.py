"""The figures of a stored checkpoint by Keras's own `evaluate` and `predict`, in a process of their own.

A run measures by a graph of ours; nothing of that is used here, so that a fault in it is found.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench import data, system
from cnnbench.config import spec_from
from cnnbench.errors import CnnbenchError
from cnnbench.inference.load import load_dataset
from cnnbench.runs import RunFolder, RunSpec, metrics

# With the folders of this process, so that the same code answers.
CHILD = f"import sys; sys.path[:] = sys.argv[1:]; import {__name__} as child; child.answer_task()"
KERAS_BATCH = 32  # of `evaluate`, where none is given


@dataclass(frozen=True)
class Recomputed:
    """What Keras says of a stored checkpoint.

    Attributes:
        device: on which it was computed, for people.
        precision: of the stored model, a dtype policy of Keras.
        figures: by split: loss and final metrics.
        undecided: by split: examples whose decision a change of an output by `close` could turn, of how many
            in the smallest class.
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
    """Do in the child what `recompute` asks for on standard input."""
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
        by_us = metrics.compute(dataset.task, split.y, outputs, spec.training.metrics or ())
        figures[name] = {"loss": by_keras["loss"], **{key: by_keras.get(key, by_us[key]) for key in by_us}}
        undecided[name] = _undecided(dataset.task, split.y, outputs, task["close"])
    # A model, or a layer without weights, may be loaded with the policy of this process.
    layers = [layer for layer in layers_of(model) if layer.weights and not hasattr(layer, "layers")]
    policies = {layer.dtype_policy.name for layer in layers}
    mixed = sorted(policy for policy in policies if policy.startswith("mixed"))
    return Recomputed(machine.device, mixed[0] if mixed else "float32", figures, undecided)


def _batches(split: data.Split, column: bool) -> Any:
    import keras

    class Batches(keras.utils.PyDataset):
        """Raw examples in their order; a mapped file is read piece by piece."""

        def __len__(self) -> int:
            return -(-len(split) // KERAS_BATCH)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            rows = np.arange(index * KERAS_BATCH, min((index + 1) * KERAS_BATCH, len(split)))
            y = split.y[rows]
            return split.x[rows], y[:, None] if column else y

    return Batches()


def _undecided(task: str, y_true: np.ndarray, outputs: np.ndarray, close: float) -> tuple[int, int]:
    """Examples between two classes by less than `close`, and the size of the smallest class."""
    if task == "regression":
        return 0, len(y_true)
    if outputs.shape[1] == 1:
        gaps = np.abs(2 * outputs[:, 0] - 1)
    else:
        largest = np.sort(outputs, axis=1)[:, -2:]
        gaps = largest[:, 1] - largest[:, 0]
    return int((gaps <= 2 * close).sum()), int(np.unique(y_true, return_counts=True)[1].min())
