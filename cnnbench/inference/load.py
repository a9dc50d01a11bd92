"""A finished run taken up again: it may come from a stranger, and its config names code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnnbench import data, nn, reporting
from cnnbench.config import refuse_links, require_own, spec_from, without_strange_cache
from cnnbench.errors import CnnbenchError
from cnnbench.runs import CONFIG, DONE, RunFolder, RunSpec
from cnnbench.system import import_tensorflow


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


def load_dataset(spec: RunSpec) -> data.Dataset:
    """The data set with the splits that the run had, validation included."""
    training = spec.training
    return data.with_validation(spec.dataset(), training.validation_fraction, training.examples, spec.seed)


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
    from cnnbench.training import prepare_machine

    device = "auto" if anywhere and spec.device == "gpu" else spec.device
    prepare_machine(spec.seed, spec.deterministic, device, spec.training.precision)
    return nn.load_checkpoint(folder.best_model)


def measure_split(
    model: Any, dataset: data.Dataset, split: str, batch_size: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Outputs ``(n, outputs)`` for every example of a split, and the loss and final metrics from them."""
    from cnnbench.training import evaluate_outputs, evaluation_batch, forward_graph, predict_outputs

    examples = dataset.splits[split]
    forward = forward_graph(model)
    outputs = predict_outputs(forward, data.Feed(examples, evaluation_batch(batch_size)))
    return outputs, evaluate_outputs(model, dataset.task, examples.y, outputs)


def stored_spec(
    folder: RunFolder,
    trust_plugins: bool = False,
    changed: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> RunSpec:
    """The spec of a run, from what is written down in its folder.

    Args:
        folder: of the run.
        trust_plugins: import what it names, and write where it says, though this user has not typed it on
            this machine.
        changed: from its config to the one that is meant.

    Raises:
        CnnbenchError: its plugins are not trusted; it holds links to elsewhere; its config is wrong.
    """
    refuse_links(folder.path)
    config = folder.config
    if not trust_plugins:
        require_own(config, folder.path)
        config = without_strange_cache(config)
        if config != folder.config:
            text = f"{folder.path}: its cache_dir is not used, for you have never named that folder here"
            reporting.stderr().print(text, markup=False, style="yellow")
    try:
        return spec_from(changed(config), folder.path, folder.overrides)
    except CnnbenchError as error:  # cut short, perhaps, or written by another version
        raise CnnbenchError(f"{folder.path / CONFIG}: {error.message}", error.hint) from error
