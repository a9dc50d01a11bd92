"""What the machine can do at most, by TensorFlow: matrix products and a convolution, in both precisions.

A GPU computes a float32 product from numbers of 19 bits (TF32), as TensorFlow lets it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

ON_GPU = bool(tf.config.list_physical_devices("GPU"))
SIDE, IMAGES = (8192, 1024) if ON_GPU else (2048, 64)  # some milliseconds each
PIXELS, CHANNELS = 32, 128


def rate(operations: float, compute: Callable[[], Any], repeats: int = 7) -> float:
    """Floating-point operations per second of the fastest of some repeats."""
    run, best = tf.function(compute), float("inf")
    run()
    for _ in range(repeats):
        tf.test.experimental.sync_devices()
        began = time.perf_counter()
        run()
        tf.test.experimental.sync_devices()  # a GPU is only told what to do
        best = min(best, time.perf_counter() - began)
    return operations / best


def main() -> None:
    found = {}
    for precision in ("float32", "bfloat16"):
        matrix = tf.cast(tf.random.normal((SIDE, SIDE)), precision)
        images = tf.cast(tf.random.normal((IMAGES, PIXELS, PIXELS, CHANNELS)), precision)
        kernel = tf.cast(tf.random.normal((3, 3, CHANNELS, CHANNELS)), precision)
        found[f"matrix product, {precision}"] = rate(2.0 * SIDE**3, lambda m=matrix: tf.matmul(m, m))
        operations = 2.0 * IMAGES * PIXELS**2 * 9 * CHANNELS**2
        found[f"convolution, {precision}"] = rate(
            operations, lambda x=images, k=kernel: tf.nn.conv2d(x, k, 1, "SAME")
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
