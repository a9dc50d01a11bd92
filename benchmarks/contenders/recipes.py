"""What every contender trains: data and recipes, in numpy alone, since their environments differ."""

from __future__ import annotations

import argparse
import gzip
import json
import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

STARTED = time.perf_counter()


@dataclass(frozen=True)
class Recipe:
    """One network on one data set.

    Attributes:
        data: `fashion_mnist` or `cifar10`.
        batch_size: examples per step.
        line: the same for cnnbench.
        dense_units: of the classifier of the note's CNN; None for ResNet-20.
        epochs: of the whole recipe: as the note trains, or where early stopping ends it.
    """

    data: str
    batch_size: int
    line: tuple[str, ...]
    dense_units: int | None
    epochs: int


RECIPES = {
    "N2": Recipe("fashion_mnist", 32, ("experiment=notes/fashion_cnn", "dataset.test_size=null"), 64, 10),
    "N3": Recipe("cifar10", 64, ("experiment=notes/cifar10_cnn", "callbacks.early_stopping=null"), 128, 18),
    "ResNet-20": Recipe(
        "cifar10",
        128,
        (
            "model=resnet",
            "dataset=cifar10",
            "optimizer=sgd",
            "optimizer.learning_rate.initial_learning_rate=0.05",
            "training.batch_size=128",
            "callbacks.early_stopping=null",
        ),
        None,
        10,
    ),
}
LEARNING_RATE, DECAY_RATE, DECAY_STEPS = 0.01, 0.9, 10_000  # Adam, of the note's networks
RESNET_LEARNING_RATE, MOMENTUM = 0.05, 0.9  # SGD, Nesterov
VALIDATION = 0.1


@dataclass(frozen=True)
class Given:
    recipe: Recipe
    folder: Path
    epochs: int
    examples: int | None
    seed: int
    mode: str | None


def given(modes: Sequence[str] = ()) -> Given:
    """The command line of a contender: network, folder of the data sets, epochs, examples, batch size, seed.

    Args:
        modes: of a contender with several, of which `--mode` names one.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("network", choices=RECIPES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--examples", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    if modes:
        parser.add_argument("--mode", choices=modes, required=True)
    found = parser.parse_args()
    recipe = RECIPES[found.network]
    recipe = replace(recipe, batch_size=found.batch_size or recipe.batch_size)
    mode = found.mode if modes else None
    return Given(recipe, found.data, found.epochs, found.examples, found.seed, mode)


def report(throughputs: list[float], accuracy: float, **more: str | int) -> None:
    """The last line of a contender: median examples per second after the first epoch, test accuracy."""
    rate = float(np.median(throughputs[1:] or throughputs))
    print(json.dumps({"examples_per_second": rate, "accuracy": float(accuracy), **more}))


Arrays = tuple[np.ndarray, np.ndarray]


def load(wanted: Given) -> tuple[Arrays, Arrays, Arrays]:
    """Training, validation and test split: images ``(n, height, width, channels)`` uint8, labels int64."""
    read = {"fashion_mnist": _fashion_mnist, "cifar10": _cifar10}[wanted.recipe.data]
    train, test = read(wanted.folder)
    order = np.random.default_rng(wanted.seed).permutation(len(train[0]))
    kept = order[: wanted.examples] if wanted.examples else order
    held = round(VALIDATION * len(kept))
    parts = kept[held:], kept[:held]
    return *((train[0][part], train[1][part]) for part in parts), test  # type: ignore[return-value]


def _fashion_mnist(folder: Path) -> tuple[Arrays, Arrays]:
    return tuple((_idx(folder, f"{part}-images-idx3"), _idx(folder, f"{part}-labels-idx1").astype(np.int64))
                 for part in ("train", "t10k"))  # type: ignore[return-value]  # fmt: skip


def _idx(folder: Path, name: str) -> np.ndarray:
    path = next(folder.rglob(f"{name}-ubyte.gz"))
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, 4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    return values[..., None] if axes == 3 else values


def _cifar10(folder: Path) -> tuple[Arrays, Arrays]:
    place = next(folder.rglob("data_batch_1")).parent
    batches = [_batch(place / f"data_batch_{number}") for number in range(1, 6)]
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    return (images, labels), _batch(place / "test_batch")


def _batch(path: Path) -> Arrays:
    with path.open("rb") as file:
        content: Mapping[bytes, Any] = pickle.load(file, encoding="bytes")
    images = content[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.asarray(content[b"labels"], np.int64)
