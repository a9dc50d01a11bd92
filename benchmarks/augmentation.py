"""The cost of augmentation: training throughput of the note's CIFAR-10 network (N3) with and without it.

    python benchmarks/augmentation.py [--dataset synthetic|cifar10] [--repeats 7] [--steps 100] [OPTION…]

Every repeat trains without and with an option in turn, so that other work of the machine falls on both:
read the ratios, not the images per second. On a busy machine only the ratio of processor time means much;
it bounds the throughput where training keeps every core busy, as it does on a CPU.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import yaml

from cnnbench.config.groups import CONF_DIR
from cnnbench.data.augmentation.operations import Augmentation, augmentation
from cnnbench.data.batches import Feed
from cnnbench.data.dataset import Dataset, Split
from cnnbench.data.sources.cifar import cifar10
from cnnbench.data.sources.synthetic import synthetic
from cnnbench.models.cnn import cnn
from cnnbench.nn.losses import MixedAccuracy, SmoothedCrossentropy
from cnnbench.training import device
from cnnbench.training import model as model_module
from cnnbench.training.build import adapt

BATCH = 64


class Seconds(NamedTuple):
    wall: float
    cpu: float  # of all threads


def main() -> None:
    options = sorted(path.stem for path in (CONF_DIR / "augmentation").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("options", nargs="*", metavar="OPTION", help=", ".join(options))
    parser.add_argument("--dataset", choices=["synthetic", "cifar10"], default="synthetic")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100, help="in one measurement")
    arguments = parser.parse_args()

    examples = arguments.steps * BATCH
    if arguments.dataset == "cifar10":
        dataset = cifar10()
    else:
        dataset = synthetic(examples=examples * 5 // 4 + 10, classes=10, size=32, channels=3)
    split = dataset.train.take(np.arange(examples))
    machine = device.prepare_machine(seed=0, deterministic=False, device="auto", precision="float32")
    print(f"{machine.device}; {dataset.name}, batch {BATCH}, {arguments.steps} steps, medians of the repeats")

    chosen = arguments.options or [name for name in options if name != "none"]
    plain = trainer(dataset, split, load("none", dataset))
    trainers = {name: trainer(dataset, split, load(name, dataset)) for name in chosen}
    pairs: dict[str, list[tuple[Seconds, Seconds]]] = {name: [] for name in chosen}
    for _ in range(arguments.repeats):
        for name, train in trainers.items():
            pairs[name].append((plain(), train()))

    print(f"{'option':<12}{'none, img/s':>12}{'with, img/s':>12}{'with/none':>11}{'by CPU time':>13}  what")
    for name in chosen:
        rates = (examples / median(run.wall for run in runs) for runs in zip(*pairs[name], strict=True))
        print(
            f"{name:<12}{next(rates):>12,.0f}{next(rates):>12,.0f}"
            f"{median(before.wall / after.wall for before, after in pairs[name]):>11.2f}"
            f"{median(before.cpu / after.cpu for before, after in pairs[name]):>13.2f}"
            f"  {load(name, dataset).describe()}"
        )


def load(option: str, dataset: Dataset) -> Augmentation:
    node = yaml.safe_load((CONF_DIR / "augmentation" / f"{option}.yaml").read_text())
    node.pop("_target_", None)
    return augmentation(**node).for_data(dataset.input_shape, dataset.outputs, dataset.task)


def trainer(dataset: Dataset, split: Split, augment: Augmentation) -> Callable[[], Seconds]:
    """Return a function that trains once over the split and gives the seconds; it is compiled and warm."""
    keras.utils.set_random_seed(0)
    built = cnn(
        dataset.input_shape,
        dataset.outputs,
        padding="valid",
        batch_normalization=False,
        dense_batch_normalization="after_activation",
    )
    adapt(built, split)
    model = model_module.with_activation(built, dataset.task)
    mixes = augment.mixes_labels
    model.compile(
        optimizer=keras.optimizers.Adam(0.001),
        loss=SmoothedCrossentropy(0.0) if mixes else keras.losses.SparseCategoricalCrossentropy(),
        metrics=[MixedAccuracy()] if mixes else model_module.training_metrics(dataset.task),
        steps_per_execution=50,
        jit_compile=False,
    )
    batches = Feed(split, BATCH, seed=0, augment=augment if augment.changes_pixels else None).dataset

    def train() -> Seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        model.fit(batches, epochs=1, shuffle=False, verbose=0)
        return Seconds(time.perf_counter() - wall, time.process_time() - cpu)

    train()
    return train


if __name__ == "__main__":
    main()
