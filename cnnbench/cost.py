"""What a model costs: operations, latency, memory."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def flops(model: keras.Model) -> int:
    """Floating-point operations of one example's forward pass; a multiply-add counts as two."""
    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    graph = tf.function(lambda *inputs: model(inputs[0], training=False)).get_concrete_function(*specs).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    log = logging.getLogger("tensorflow")
    level = log.level
    log.setLevel(logging.ERROR)  # that this API is old is no news to the user
    try:
        return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)
    finally:
        log.setLevel(level)


def latency(forward: Callable[[Any], Any], example: np.ndarray, repeats: int = 30) -> float:
    """Median seconds from one example in memory to its output by a graph, after a warm-up."""
    batch = tf.constant(example[None])
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        forward(batch).numpy()
        times.append(time.perf_counter() - start)
    return float(np.median(times[3:]))


class PeakMemory:
    """Most resident memory of this process since the object was made, in bytes."""

    def __init__(self) -> None:
        # Resets the kernel's high-water mark; elsewhere it is the peak of the process's whole life.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        status = Path("/proc/self/status")
        if status.is_file():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) * 1024
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
