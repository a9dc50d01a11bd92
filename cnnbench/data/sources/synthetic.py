"""Generated images of any size and number of classes: for smoke runs, tests and timing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import Field

from cnnbench.data.dataset import Dataset, Split, Task
from cnnbench.errors import CnnbenchError
from cnnbench.system import require_memory

PLACE = ("row", "column", "radius")  # of a blob, in pixels: the targets of a regression
CELLS = 4  # a class is a pattern of 4 × 4 cells, which stays visible under the noise
# From generator, patterns and a count to a function that makes a part of the images, and their targets.
Draw = Callable[[np.random.Generator, np.ndarray, int], tuple[Callable[[slice], np.ndarray], np.ndarray]]
BLOCK_VALUES = 2**22  # pixel values made at once, to bound the memory of the floats


def synthetic(
    examples: Annotated[int, Field(ge=10)] = 1000,
    classes: Annotated[int, Field(ge=2, le=1000)] = 4,
    size: Annotated[int, Field(ge=CELLS, le=1024)] = 16,
    channels: Annotated[int, Field(ge=1, le=16)] = 1,
    noise: Annotated[float, Field(ge=0, le=1)] = 0.2,
    task: Task | None = None,
    targets: Annotated[int, Field(ge=1, le=len(PLACE))] = 2,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:
    """Make images of `classes` random patterns, each shifted a little, of varying contrast, with noise.

    A fifth of the examples is the test split; each split has the classes in equal numbers (within one).
    Two classes make a binary task, more a multiclass one. In a multilabel task patterns lie over each other,
    each in a third of the images. A regression has a bright blob instead, whose place and size are targets.

    Args:
        examples: training and test images together, at least five times `classes`.
        classes: how many patterns; of a regression, none.
        size: height and width in pixels.
        channels: 1 for grey, 3 for colour.
        noise: standard deviation of the Gaussian noise, as a part of the range of pixel values.
        task: None: by the number of classes.
        targets: of a regression: row, column and radius of the blob, in pixels, so many of them.
        seed: decides everything; equal arguments give equal bytes.

    Returns:
        x ``(n, size, size, channels)`` uint8; y ``(n,)`` int64, ``(n, classes)`` uint8 of several labels, or
        ``(n,)`` or ``(n, targets)`` float32 of a regression.

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
    task = task or ("binary" if classes == 2 else "multiclass")
    of_task: dict[str, Draw] = {"multilabel": _overlaid, "regression": partial(_blobs, targets)}
    draw = of_task.get(task, _shifted)
    train, test = (_make_split(rng, patterns, count, noise, draw) for count in (examples - tests, tests))
    is_regression = task == "regression"
    return Dataset(
        name="synthetic",
        task=task,
        train=train,
        test=test,
        class_names=() if is_regression else tuple(f"class_{i}" for i in range(classes)),
        target_names=PLACE[:targets] if is_regression else (),
    )


def _make_split(
    rng: np.random.Generator, patterns: np.ndarray, count: int, noise: float, draw: Draw
) -> Split:
    images_of, y = draw(rng, patterns, count)
    x = np.empty((count, *patterns.shape[1:]), np.uint8)
    block = max(1, BLOCK_VALUES // patterns[0].size)
    for start in range(0, count, block):
        images = images_of(slice(start, min(start + block, count)))
        images += noise * rng.standard_normal(images.shape, np.float32)
        x[start : start + block] = np.clip(255 * (images + 0.5), 0, 255)
    return Split(x, y)


def _shifted(
    rng: np.random.Generator, patterns: np.ndarray, count: int
) -> tuple[Callable[[slice], np.ndarray], np.ndarray]:
    """Draw one pattern for each image."""
    y = rng.permutation(np.arange(count) % len(patterns))
    return lambda part: _images(rng, patterns, y[part]), y


def _images(rng: np.random.Generator, patterns: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a pattern for each label, shifted by up to half a cell and of varying contrast."""
    size = patterns.shape[1]
    most, steps = size // 8, np.arange(size)
    rows, columns = ((steps + rng.integers(-most, most + 1, (len(labels), 1))) % size for _ in "yx")
    images = patterns[labels[:, None, None], rows[:, :, None], columns[:, None, :]]
    return np.asarray(images * rng.uniform(0.7, 1, (len(labels), 1, 1, 1)).astype(np.float32))


def _overlaid(
    rng: np.random.Generator, patterns: np.ndarray, count: int
) -> tuple[Callable[[slice], np.ndarray], np.ndarray]:
    """Draw any number of patterns for each image: every one in a third of them, independently."""
    classes = len(patterns)
    y = np.stack([rng.permutation(np.arange(count) % 3 == 0) for _ in range(classes)], axis=1)

    def images_of(part: slice) -> np.ndarray:
        had = y[part, :, None, None, None]
        every = (_images(rng, patterns, np.full(len(had), label)) for label in range(classes))
        return np.asarray(sum(had[:, label] * images for label, images in enumerate(every)))

    return images_of, y.astype(np.uint8)


def _blobs(
    targets: int, rng: np.random.Generator, patterns: np.ndarray, count: int
) -> tuple[Callable[[slice], np.ndarray], np.ndarray]:
    """Draw a bright blob for each image, whose row, column and radius are the targets."""
    size, channels = patterns.shape[1], patterns.shape[3]
    places = rng.uniform(0, size - 1, (count, 2))
    radii = rng.uniform(size / 16, size / 6, (count, 1))
    y = np.concatenate([places, radii], axis=1).astype(np.float32)

    def images_of(part: slice) -> np.ndarray:
        row, column, radius = (y[part, at, None, None] for at in range(3))
        steps = np.arange(size, dtype=np.float32)
        distances = (steps[:, None] - row) ** 2 + (steps - column) ** 2
        blobs = np.exp(-distances / (2 * radius**2)) - 0.5
        return np.repeat(blobs[..., None], channels, axis=-1)

    return images_of, y[:, 0] if targets == 1 else y[:, :targets]
