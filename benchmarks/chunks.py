"""Examples per second of `fit` by chunks of steps, on the GPU or the CPU that is here; random pictures.

    python benchmarks/chunks.py [N3:64 ResNet-20:128 airbench:1000 ...] [--no-xla] [--profile]

Each network and batch size has one line: seconds of the first chunk, most of them for compiling, and of the
first epoch; the median of the epochs after it; microseconds of a step; validation of 5,000 examples. With
--profile another says how long the kernels of a step take, which needs CUPTI.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from cnnbench import config
from cnnbench.data import Feed, Split
from cnnbench.training import model as parts
from cnnbench.training.build import adapt
from cnnbench.training.chunks import Chunks, Engine, evaluate_in_chunks, train_in_chunks
from cnnbench.training.measure import count_flops, evaluation_batch

sys.path.insert(0, str(Path(__file__).parent))
from bench import CPU, GPU, LINES, described

SHAPE, CLASSES, TRAIN, VAL = (32, 32, 3), 10, 45_000, 5_000


class Clock(keras.callbacks.Callback):
    """Seconds of training and of validation, by epoch."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.feed, self.training, self.validation = feed, [], []
        self.at = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.feed.epoch, self.at = epoch, time.perf_counter()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.training.append(time.perf_counter() - self.at)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.validation.append(time.perf_counter() - self.at - self.training[-1])


def measure(name: str, batch: int, xla: bool, epochs: int) -> Chunks:
    """Train, print the line, and return what has trained."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    given = config.compose([*LINES[name], f"training.batch_size={batch}"])
    spec = config.run_spec(given, given.hydra.runtime.choices, [])
    drawn = np.random.default_rng(0)
    x = drawn.integers(0, 256, (TRAIN + VAL, *SHAPE)).astype(np.uint8)
    y = drawn.integers(0, CLASSES, TRAIN + VAL)
    augment = spec.augmentation and spec.augmentation().for_data(SHAPE, CLASSES, "multiclass")
    keras.config.set_dtype_policy("mixed_bfloat16" if on_gpu else "float32")
    model = parts.with_activation(spec.model(input_shape=SHAPE, outputs=CLASSES), "multiclass")
    adapt(model, Split(x[:VAL], y[:VAL]))
    train = Feed(Split(x[VAL:], y[VAL:]), batch, 0, augment)
    val = Feed(Split(x[:VAL], y[:VAL]), evaluation_batch(batch, SHAPE))
    chained = parts.steps_per_execution("auto", count_flops(model), batch, TRAIN // batch, on_gpu)
    loss, metrics = parts.make_loss(spec, "multiclass", augment), parts.training_metrics("multiclass")
    if parts.mixes(augment):
        metrics = parts.training_metrics("multiclass", soft_labels=True)
    parts.compile_with(model, parts.make_optimizer(spec, train.steps, None), loss, metrics, chained, False)
    engine = Engine("GPU:0" if on_gpu else "CPU:0", resident=True, xla=xla)
    chunks = train_in_chunks(model, train, engine)
    chunks.meanwhile.append(evaluate_in_chunks(model, val, engine).trace)
    clock = Clock(train)
    model.fit(
        train.numbers, validation_data=val.numbers, epochs=epochs, shuffle=False, verbose=0, callbacks=[clock]
    )
    seconds, first = median(clock.training[1:]), chunks.compile_seconds or 0.0
    rate, step = TRAIN / seconds, 1e6 * seconds / train.steps
    print(
        f"{f'{name}, {batch}':16} {chained:4} steps a chunk, the first {first:5.1f} s, first epoch "
        f"{clock.training[0]:5.1f} s; {rate:9,.0f} examples/s, {step:7,.0f} us a step; validation "
        f"{1000 * median(clock.validation[1:]):.0f} ms",
        flush=True,
    )
    return chunks


def profile(chunks: Chunks) -> None:
    """Print how long the kernels of a step take, of one chunk by XLA."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    count = chunks.steps * chunks.feed.batch_size
    given = [tf.constant(chunks.feed.order[:count]), tf.constant(0), tf.constant(0)]
    began = time.perf_counter()
    float(chunks._compiled(*given)["loss"])
    alone = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        float(chunks._compiled(*given)["loss"])
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    kernels = sorted(
        (line.timestamp_ns * 1000 + event.offset_ps, event.duration_ps)
        for plane in space.planes
        if "GPU" in plane.name
        for line in plane.lines
        if line.name.startswith("Stream")
        for event in line.events
    )
    busy = end = 0
    for start, duration in kernels:
        busy += max(0, start + duration - max(start, end))
        end = max(end, start + duration)
    each = len(kernels) / chunks.steps
    taken, whole = busy / 1e6 / chunks.steps, 1e6 * alone / chunks.steps
    print(f"{'':16} {each:.0f} kernels a step, {taken:,.0f} us busy of {whole:,.0f} us", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = ["N3:64", "N3:512", "ResNet-20:128", "ResNet-20:512", "airbench:1000"]
    parser.add_argument("what", nargs="*", default=default, metavar="NETWORK:BATCH")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--no-xla", action="store_true")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    print(described(GPU if gpus else CPU), flush=True)
    for item in given.what:
        name, batch = item.split(":")
        chunks = measure(name, int(batch), not given.no_xla, given.epochs)
        if given.profile:
            profile(chunks)


if __name__ == "__main__":
    main()
