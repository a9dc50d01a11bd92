"""From the splits that a data set has to those that a run needs."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np

from cnnbench.datasets.core import Dataset, Split
from cnnbench.errors import CnnbenchError


def with_validation(dataset: Dataset, fraction: float, examples: int | None, seed: int) -> Dataset:
    """Shorten the training split to `examples`, and hold a part of it out unless the data set did.

    Raises:
        CnnbenchError: `dataset` is none, or nothing is left on one side.
    """
    from sklearn.model_selection import train_test_split

    if not isinstance(dataset, Dataset):  # somebody's own function
        raise CnnbenchError(
            f"the function of the data set gave a {type(dataset).__name__}",
            "it must return a cnnbench.datasets.core.Dataset",
        )
    train = dataset.train

    def classes(y: np.ndarray, second: int) -> np.ndarray | None:
        # In proportion to the classes, where each has an example for either side.
        counts = np.unique(y, return_counts=True)[1]
        smaller = min(second, len(y) - second)
        return y if dataset.task != "regression" and counts.min() > 1 and len(counts) <= smaller else None

    if examples is not None and examples < len(train):
        rest = len(train) - examples
        keep, _ = train_test_split(
            np.arange(len(train)), test_size=rest, random_state=seed, stratify=classes(train.y, rest)
        )
        train = train.take(keep)
    if dataset.val is not None or fraction == 0:
        return replace(dataset, train=train)
    held = math.ceil(fraction * len(train))
    if round(fraction * len(train)) < 1 or held == len(train):
        side, change = ("training", "smaller") if held == len(train) else ("validation", "larger")
        raise CnnbenchError(
            f"training.validation_fraction={fraction} of {len(train)} examples leaves none for {side}",
            f"use a {change} fraction",
        )
    fit, held_out = train_test_split(
        np.arange(len(train)), test_size=held, random_state=seed, stratify=classes(train.y, held)
    )
    return replace(dataset, train=train.take(np.sort(fit)), val=train.take(np.sort(held_out)))


def leaks(dataset: Dataset) -> list[str]:
    """One line for each pair of splits that share equal examples, and one for equal examples of two labels.

    By content. Images in a mapped file are not read for this: their files' digests are known.
    """
    digests = {
        name: found for name, split in dataset.splits.items() if (found := _digests(split)) is not None
    }
    seen = {name: set(values) for name, values in digests.items()}
    shared = []
    for first, second in (("train", "test"), ("val", "test"), ("train", "val")):
        if first in seen and second in seen:
            count = sum(digest in seen[first] for digest in digests[second])
            if count:
                share = f"{count:,} of {len(digests[second]):,} {second} examples"
                shared.append(f"{dataset.name}: {share} are also in {first}")
    return shared + _contradictions(dataset, digests)


def _digests(split: Split) -> list[bytes] | None:
    if isinstance(split.x, np.ndarray):
        return [hashlib.sha256(example.tobytes()).digest() for example in split.x]
    known = split.x.digests
    return None if known is None else list(known[split.x.indices].tolist())


def _contradictions(dataset: Dataset, digests: dict[str, list[bytes]]) -> list[str]:
    """Equal inputs with different labels, over all splits; for values that is nothing strange."""
    if dataset.task == "regression":
        return []
    labels: dict[bytes, set[int]] = {}
    for name, values in digests.items():
        split = dataset.splits[name]
        if isinstance(split.x, np.ndarray):  # of image files the data set itself has told, with their names
            for digest, label in zip(values, split.y.tolist(), strict=True):
                labels.setdefault(digest, set()).add(int(label))
    torn = [sorted(several) for several in labels.values() if len(several) > 1]
    if not torn:
        return []
    classes = " and ".join(dataset.class_names[label] for label in torn[0][:2])
    return [f"{dataset.name}: equal inputs with different labels: {len(torn):,}; one is both {classes}"]


def class_weights(dataset: Dataset) -> dict[int, float]:
    """Each class's weight: the number of examples over the classes' number times the class's own examples."""
    from sklearn.utils.class_weight import compute_class_weight

    if dataset.task == "regression":
        raise CnnbenchError(
            "training.class_weight is for classes, but this task is regression", "set it to null"
        )
    present = np.unique(dataset.train.y)
    weights = compute_class_weight("balanced", classes=present, y=dataset.train.y)
    return {int(index): float(weight) for index, weight in zip(present, weights, strict=True)}
