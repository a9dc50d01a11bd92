"""A finished run taken up again: its data set, its best checkpoint, and what that gives on a split."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnbench.datasets.core import Dataset
from cnnbench.datasets.splits import with_validation
from cnnbench.errors import CnnbenchError
from cnnbench.results import RunFolder
from cnnbench.run_files import DONE
from cnnbench.spec import RunSpec
from cnnbench.startup import import_tensorflow


def require_finished(folder: RunFolder) -> None:
    """Refuse a run without a best checkpoint and final figures, before anything slow is done.

    Raises:
        CnnbenchError: it failed, was interrupted or still runs, or its checkpoint is gone.
    """
    if folder.status != DONE:
        raise CnnbenchError(f"{folder.path} has no finished run (status: {folder.status})")
    if not folder.best_model.is_file():
        raise CnnbenchError(
            f"{folder.best_model} is missing", "the checkpoint cannot be made anew: run again"
        )


def load_dataset(spec: RunSpec) -> Dataset:
    """The data set with the splits that the run had, validation included."""
    training = spec.training
    return with_validation(spec.dataset(), training.validation_fraction, training.examples, spec.seed)


def load_model(folder: RunFolder, spec: RunSpec, *, anywhere: bool = True) -> Any:
    """The best checkpoint, after TensorFlow has been started as the run had it.

    Args:
        folder: of a finished run.
        spec: made from the folder's config.
        anywhere: what was trained with `device=gpu` may be used on a machine without one.

    Raises:
        CnnbenchError: the file cannot be loaded.
    """
    import_tensorflow(spec.plugins)
    from cnnbench import engine

    device = "auto" if anywhere and spec.device == "gpu" else spec.device
    engine.prepare(spec.seed, spec.deterministic, device, spec.training.precision)
    return engine.load(folder.best_model)


def measure(model: Any, dataset: Dataset, split: str, batch_size: int) -> tuple[np.ndarray, dict[str, float]]:
    """Outputs ``(n, outputs)`` for every example of a split, and the loss and final metrics from them."""
    from cnnbench import engine
    from cnnbench.feed import Feed

    examples = dataset.splits[split]
    forward = engine.forward(model)
    outputs = engine.predict(forward, Feed(examples, engine.evaluation_batch(batch_size)))
    return outputs, engine.evaluate(model, dataset.task, examples.y, outputs)
