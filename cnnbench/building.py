"""From a spec's factories to objects, with what only the data can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnnbench.datasets.core import Dataset
from cnnbench.errors import CnnbenchError
from cnnbench.spec import RunSpec


def check_task(spec: RunSpec, dataset: Dataset) -> None:
    """What could not be checked before the data set said its task."""
    if spec.training.scale_targets and dataset.task != "regression":
        raise CnnbenchError(
            f"training.scale_targets is for regression, not for {dataset.task}",
            "set it to false",
        )
    if spec.loss_tasks and dataset.task not in spec.loss_tasks:
        raise CnnbenchError(
            f"this loss is for {' or '.join(spec.loss_tasks)}, but {dataset.name} is {dataset.task}",
            "use loss=auto",
        )


def optimizer(spec: RunSpec, steps_per_epoch: int, learning_rate: float | None) -> Any:
    rate = learning_rate if learning_rate is not None else spec.learning_rate
    return spec.optimizer(
        learning_rate=rate(steps_per_epoch, spec.training.epochs) if callable(rate) else rate
    )


def loss(spec: RunSpec, task: str, augment: Any) -> Any:
    if spec.loss is not None:
        return spec.loss()
    from cnnbench import losses

    return losses.for_task(task, soft_labels=mixes(augment))


def mixes(augment: Any) -> bool:
    return augment is not None and bool(augment.mixes_labels)


def build(what: str, make: Callable[[], Any]) -> Any:
    """Call a factory; what Keras says against its values is the user's to mend, not a crash."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CnnbenchError(
            f"cannot build the {what}: {reason}", f"check the keys of {what} (--cfg job)"
        ) from error
