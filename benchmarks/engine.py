"""The cost of single parts of a training step: batch normalisation, precision, activation.

    python benchmarks/engine.py [--repeats 5] [--networks cnn resnet airbench]

Contenders take turns. Each has one line: median examples per second, range, ratio to the first of its kind.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from cnnbench.models.airbench import airbench
from cnnbench.models.cnn import cnn
from cnnbench.models.resnet import resnet
from cnnbench.nn import losses
from cnnbench.training import model as model_module
from cnnbench.training.kernels import use_fast_kernels

SHAPE, CLASSES = (32, 32, 3), 10
NETWORKS: dict[str, tuple[Callable[..., keras.Model], int]] = {
    "cnn": (lambda **given: cnn(SHAPE, CLASSES, filters=(32, 64, 128), convolutions=2, **given), 128),
    "resnet": (lambda **given: resnet(SHAPE, CLASSES, **given), 128),
    "airbench": (lambda **given: airbench(SHAPE, CLASSES, **given), 500),
}
CONTENDERS: dict[str, tuple[str, bool, str]] = {  # precision, fused, activation
    "float32": ("float32", False, "relu"),
    "float32, fused": ("float32", True, "relu"),
    "bfloat16": ("mixed_bfloat16", False, "relu"),
    "bfloat16, fused": ("mixed_bfloat16", True, "relu"),
    "bfloat16, fused, silu": ("mixed_bfloat16", True, "silu"),
    "bfloat16, fused, gelu": ("mixed_bfloat16", True, "gelu"),
}


def step_of(network: str, contender: str) -> Callable[[], Any]:
    """Return a compiled training step of a network."""
    make, batch = NETWORKS[network]
    policy, fused, activation = CONTENDERS[contender]
    keras.config.set_dtype_policy(policy)
    model = model_module.with_activation(make(activation=activation), "multiclass")
    if fused:
        use_fast_kernels(model)
    model_module.compile_with(model, keras.optimizers.SGD(0.01), losses.for_task("multiclass"), [], 1, False)
    x = tf.cast(tf.random.uniform((batch, *SHAPE), 0, 256, tf.int32), tf.uint8)
    y = tf.random.uniform((batch,), 0, CLASSES, tf.int32)
    return tf.function(lambda: model.train_step((x, y)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    given = parser.parse_args()
    for network in given.networks:
        steps = {name: step_of(network, name) for name in CONTENDERS}
        for step in steps.values():
            step()
        rates: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(given.repeats):
            for name, step in steps.items():
                began = time.perf_counter()
                step()
                step()
                rates[name].append(2 * NETWORKS[network][1] / (time.perf_counter() - began))
        first = median(next(iter(rates.values())))
        for name, found in rates.items():
            spread = f"({min(found):,.0f} to {max(found):,.0f})"
            middle = median(found)
            print(
                f"{network:10} {name:24} {middle:7,.0f} examples/s {spread:20} {middle / first:.2f} ×",
                flush=True,
            )


if __name__ == "__main__":
    main()
