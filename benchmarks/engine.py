"""The cost of single parts of a training step: batch normalisation, precision, activation.

    python benchmarks/engine.py [--repeats 5] [--networks cnn resnet airbench n2 n3] [--without]

`--without` compares training by all faster kernels with training by all but one of them, in both precisions.

Contenders take turns. Each has one line: median examples per second, range, ratio to the first of its kind.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from cnnbench.models.airbench import airbench
from cnnbench.models.cnn import cnn
from cnnbench.models.resnet import resnet
from cnnbench.nn import losses
from cnnbench.training import kernels
from cnnbench.training import model as model_module
from cnnbench.training.kernels import use_fast_kernels

SHAPE, CLASSES = (32, 32, 3), 10
NETWORKS: dict[str, tuple[Callable[..., keras.Model], int]] = {
    "cnn": (lambda **given: cnn(SHAPE, CLASSES, filters=(32, 64, 128), convolutions=2, **given), 128),
    "resnet": (lambda **given: resnet(SHAPE, CLASSES, **given), 128),
    "airbench": (lambda **given: airbench(SHAPE, CLASSES, **given), 500),
    "n2": (lambda **given: note((28, 28, 1), 64, **given), 32),
    "n3": (lambda **given: note(SHAPE, 128, **given), 64),
}
OPTIMIZERS = {
    "airbench": lambda: keras.optimizers.SGD(0.01),
    "resnet": lambda: keras.optimizers.SGD(0.01, 0.9),
}
CONTENDERS: dict[str, tuple[str, bool, str]] = {  # precision, fused, activation
    "float32": ("float32", False, "relu"),
    "float32, fused": ("float32", True, "relu"),
    "bfloat16": ("mixed_bfloat16", False, "relu"),
    "bfloat16, fused": ("mixed_bfloat16", True, "relu"),
    "bfloat16, fused, silu": ("mixed_bfloat16", True, "silu"),
    "bfloat16, fused, gelu": ("mixed_bfloat16", True, "gelu"),
}


PARTS = {  # what each of the faster kernels is for, and the function that offers it
    "pixels' rows": "_normalization",
    "batch normalisation": "_batch_normalization",
    "kernels' gradient": "_convolution",
    "update": "use_fast_update",
}


def note(shape: tuple[int, int, int], units: int, **given: Any) -> keras.Model:
    """Build the network of the study note's N2 or N3."""
    model = cnn(
        shape,
        CLASSES,
        filters=(32, 64),
        padding="valid",
        batch_normalization=False,
        dense_batch_normalization="after_activation",
        dense_units=(units,),
        **given,
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt(tf.random.uniform((16, *shape), 0, 256))
    return model


@contextmanager
def left_out(part: str | None) -> Iterator[None]:
    """Let the faster kernels be without one of them."""
    if part is None:
        yield
    else:
        with mock.patch.object(kernels, PARTS[part], return_value=None):
            yield


def step_of(
    network: str, policy: str, fused: bool, activation: str = "relu", without: str | None = None
) -> Callable[[], Any]:
    """Return a compiled training step of a network."""
    make, batch = NETWORKS[network]
    keras.config.set_dtype_policy(policy)
    model = model_module.with_activation(make(activation=activation), "multiclass")
    optimizer = OPTIMIZERS.get(network, lambda: keras.optimizers.Adam(0.001))()
    model_module.compile_with(model, optimizer, losses.for_task("multiclass"), [], 1, False)
    if fused:
        with left_out(without):
            use_fast_kernels(model)
    x = tf.cast(tf.random.uniform((batch, *model.input_shape[1:]), 0, 256, tf.int32), tf.uint8)
    y = tf.random.uniform((batch,), 0, CLASSES, tf.int32)
    return tf.function(lambda: model.train_step((x, y)))


def contenders(network: str, without: bool) -> dict[str, Callable[[], Any]]:
    """Return the steps to compare; the first of each kind is what the others are compared with."""
    if not without:
        return {name: step_of(network, *told) for name, told in CONTENDERS.items()}
    return {
        f"{policy.removeprefix('mixed_')}, {'all' if part is None else f'not {part}'}": step_of(
            network, policy, fused=True, without=part
        )
        for policy in ("float32", "mixed_bfloat16")
        for part in (None, *PARTS)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--steps", type=int, default=2, help="of each contender in a turn")
    parser.add_argument("--without", action="store_true", help="leave out one faster kernel after the other")
    given = parser.parse_args()
    for network in given.networks:
        steps = contenders(network, given.without)
        for step in steps.values():
            step()
        rates: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(given.repeats):
            for name, step in steps.items():
                began = time.perf_counter()
                for _ in range(given.steps):
                    step()
                seconds = time.perf_counter() - began
                rates[name].append(given.steps * NETWORKS[network][1] / seconds)
        first = 0.0
        for name, found in rates.items():
            if not first or (given.without and name.endswith(", all")):
                first = median(found)
            spread = f"({min(found):,.0f} to {max(found):,.0f})"
            middle = median(found)
            print(
                f"{network:10} {name:34} {middle:7,.0f} examples/s {spread:20} {middle / first:.2f} ×",
                flush=True,
            )


if __name__ == "__main__":
    main()
