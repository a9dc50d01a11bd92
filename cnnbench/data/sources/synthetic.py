"""Generated images of any size and number of classes: for smoke runs, tests and timing."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from cnnbench.data.dataset import Dataset, Split
from cnnbench.errors import CnnbenchError
from cnnbench.system import require_memory

CELLS = 4  # a class is a pattern of 4 × 4 cells, which stays visible under the noise
BLOCK_VALUES = 2**22  # pixel values made at once, to bound the memory of the floats


def synthetic(
    examples: Annotated[int, Field(ge=10)] = 1000,
    classes: Annotated[int, Field(ge=2, le=1000)] = 4,
    size: Annotated[int, Field(ge=CELLS, le=1024)] = 16,
    channels: Annotated[int, Field(ge=1, le=16)] = 1,
    noise: Annotated[float, Field(ge=0, le=1)] = 0.2,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:
    """Make images of `classes` random patterns, each shifted a little, of varying contrast, with noise.

    A fifth of the examples is the test split; each split has the classes in equal numbers (within one).
    Two classes make a binary task, more a multiclass one.

    Args:
        examples: training and test images together, at least five times `classes`.
        classes: how many patterns.
        size: height and width in pixels.
        channels: 1 for grey, 3 for colour.
        noise: standard deviation of the Gaussian noise, as a part of the range of pixel values.
        seed: decides everything; equal arguments give equal bytes.

    Returns:
        x ``(n, size, size, channels)`` uint8, y ``(n,)`` int64.

    Raises:
        CnnbenchError: too few examples for a test split with every class, or too many for the memory.
    """
    require_memory(
        examples * size**2 * channels, f"dataset.examples={examples}", "use fewer, or smaller ones"
    )
    tests = examples // 5
    if tests < classes:
        raise CnnbenchError(
            f"examples={examples} are too few for classes={classes}: "
            f"the test split is a fifth and must have every class",
            hint=f"examples={5 * classes} or more",
        )
    rng = np.random.default_rng(seed)
    patterns = rng.uniform(-0.5, 0.5, (classes, CELLS, CELLS, channels)).astype(np.float32)
    cells = np.arange(size) * CELLS // size
    patterns = patterns[:, cells][:, :, cells]
    train, test = (_make_split(rng, patterns, count, noise) for count in (examples - tests, tests))
    return Dataset(
        name="synthetic",
        task="binary" if classes == 2 else "multiclass",
        train=train,
        test=test,
        class_names=tuple(f"class_{i}" for i in range(classes)),
    )


def _make_split(rng: np.random.Generator, patterns: np.ndarray, count: int, noise: float) -> Split:
    classes, size = patterns.shape[:2]
    y = rng.permutation(np.arange(count) % classes)
    x = np.empty((count, *patterns.shape[1:]), np.uint8)
    most = size // 8  # half a cell
    block = max(1, BLOCK_VALUES // patterns[0].size)
    for start in range(0, count, block):
        labels = y[start : start + block]
        steps = np.arange(size)
        rows, columns = ((steps + rng.integers(-most, most + 1, (len(labels), 1))) % size for _ in "yx")
        images = patterns[labels[:, None, None], rows[:, :, None], columns[:, None, :]]
        images *= rng.uniform(0.7, 1, (len(labels), 1, 1, 1)).astype(np.float32)
        images += noise * rng.standard_normal(images.shape, np.float32)
        x[start : start + block] = np.clip(255 * (images + 0.5), 0, 255)
    return Split(x, y)
