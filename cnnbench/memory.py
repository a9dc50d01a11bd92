"""Whether something fits into memory, asked before it is made: past that the kernel kills the process."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnbench.errors import CnnbenchError

FLOAT32 = 4  # bytes


class OutOfMemoryError(RuntimeError):
    """There was no memory for something that a training needs."""


def available() -> float:
    """Bytes that this machine can still give; infinity where it does not tell (all but Linux)."""
    info = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable: +(\d+) kB", info.read_text(), re.MULTILINE) if info.is_file() else None
    return int(found[1]) * 1024 if found else math.inf


def require(needed: float, what: str, hint: str) -> None:
    """Refuse what cannot fit.

    Raises:
        CnnbenchError: `needed` bytes are more than there are.
    """
    there = available()
    if needed > there:
        raise CnnbenchError(
            f"{what} would take {needed / 1e9:,.1f} GB of memory or more, and {there / 1e9:,.1f} GB are free",
            hint,
        )


@contextmanager
def weights_that_fit() -> Iterator[None]:
    """Within, a layer's weights are refused before they are made when all of them together cannot fit.

    Only lower bounds are known here: gradients, the optimizer and the batches come on top.
    """
    import keras

    make, total = keras.Layer.add_weight, 0.0

    def add_weight(layer: Any, shape: Any = None, *arguments: Any, **keywords: Any) -> Any:
        nonlocal total
        total += FLOAT32 * math.prod(shape or ())
        require(total, f"the model up to its layer {layer.name}", "make it smaller (model=…, --cfg job)")
        return make(layer, shape, *arguments, **keywords)

    keras.Layer.add_weight = add_weight
    try:
        yield
    finally:
        keras.Layer.add_weight = make


@contextmanager
def shortage_explained() -> Iterator[None]:
    """Within, what TensorFlow and numpy say of memory that they do not get becomes one line.

    Raises:
        OutOfMemoryError: there was not enough.
    """
    import tensorflow as tf

    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        found = re.search(r" tensor with shape\[[\d,]*\]", str(error))
        tensor = f" for a{found[0]}" if found else ""
        raise OutOfMemoryError(
            f"out of memory{tensor}: make the model or training.batch_size smaller"
        ) from error
