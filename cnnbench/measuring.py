"""The figures that count: of the stored best checkpoint, not of the model in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnbench import cost, engine, metrics
from cnnbench.datasets.core import Dataset
from cnnbench.feed import Feed
from cnnbench.results import RunFolder


@dataclass(frozen=True)
class Measured:
    """What the best checkpoint is worth.

    Attributes:
        figures: final metrics by split; those of `train` are means over the best epoch.
        outputs: of the model, by split.
        costs: examples per second of the training, seconds for one example alone, bytes.
    """

    figures: Mapping[str, Mapping[str, float]]
    outputs: Mapping[str, np.ndarray]
    costs: Mapping[str, Any]


def measure(
    folder: RunFolder, dataset: Dataset, held_out: Mapping[str, Feed], memory: cost.PeakMemory
) -> Measured:
    """Load `best.keras`, evaluate it on each split that is held out, keep what it says of the test split.

    Args:
        folder: of the run, trained.
        dataset: as it was trained with.
        held_out: the feeds of its validation and test split.
        memory: watched since the training began.
    """
    model = engine.load(folder.best_model)
    forward = engine.forward(model)
    best = folder.best
    followed = ("loss", *metrics.TRAINED[dataset.task])
    figures = {"train": {name: best["metrics"][name] for name in followed}}
    outputs = {}
    for name, feed in held_out.items():
        outputs[name] = engine.predict(forward, feed)
        figures[name] = engine.evaluate(model, dataset.task, dataset.splits[name].y, outputs[name])
    costs = {
        "examples_per_second": float(np.median([row["examples_per_second"] for row in folder.history])),
        "latency_seconds": cost.latency(forward, dataset.test.x[0]),
        "peak_memory_bytes": memory.bytes(),
        "checkpoint_bytes": folder.best_model.stat().st_size,
    }
    folder.write_predictions(y_true=dataset.test.y, outputs=outputs["test"])
    return Measured(figures, outputs, costs)
