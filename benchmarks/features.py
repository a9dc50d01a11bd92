"""The cost of a frozen backbone's features: `features_of` against a plain `model.predict` of the backbone.

    python benchmarks/features.py [--backbone MobileNet] [--size 224] [--pictures 10000] [--probe | --memory]

Pictures are CIFAR-10's, which the backbone sees at `--size`. The contenders take turns on new pictures, a few
hundred at a time, so that other work of the machine falls on all: read the ratios. On a busy machine only the
ratio of processor time means much. `--probe` also trains a linear probe on the features of each. With
`--memory` two processes compute the features of 1,000 pictures and of all, and say their peaks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cnnbench.data.sources.cifar import cifar10
from cnnbench.models.transfer import split_at_features, transfer
from cnnbench.system import PeakMemory
from cnnbench.training import device, features

TURN = 500  # pictures
PENALTIES = (0.001, 0.003, 0.01)  # C of the linear probe


class Seconds(NamedTuple):
    wall: float
    cpu: float  # of all threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--backbone", default="MobileNet")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CNNBENCH_CACHE"] = cache
        features.WORTH = 0  # bfloat16 is tried
        if arguments.memory:
            compare_memory(arguments.pictures)
        elif arguments.peak:
            compute_alone(arguments)
        else:
            compare(arguments)


def extractor_of(arguments: argparse.Namespace) -> keras.Model:
    own = {"alpha": 0.25} if arguments.backbone == "MobileNet" else {}
    shape, size = (32, 32, 3), arguments.size
    model = transfer(shape, 10, arguments.backbone, image_size=size, backbone_arguments=own)
    return split_at_features(model)[0]


def compare(arguments: argparse.Namespace) -> None:
    machine = device.prepare_machine(seed=0, deterministic=False, device="auto", precision="float32")
    extractor, dataset = extractor_of(arguments), cifar10()
    x, y = dataset.train.x[: arguments.pictures], dataset.train.y[: arguments.pictures]
    contenders: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "predict": lambda x: extractor.predict(x, verbose=0),
        "float32": lambda x: features.features_of(extractor, x, precision="float32"),
        "auto": lambda x: features.features_of(extractor, x),
    }
    for contender in contenders.values():
        contender(dataset.test.x[:TURN])  # traced, and bfloat16 tried
    name = features._name(extractor, x.dtype)
    chosen = features._settled(extractor, name, x) or "float32"
    print(
        f"{machine.device}; {arguments.backbone} at {arguments.size}, {len(x):,} pictures; auto is {chosen}"
    )

    seconds: dict[str, list[Seconds]] = {name: [] for name in contenders}
    found: dict[str, list[np.ndarray]] = {name: [] for name in contenders}
    turns = [x[start : start + TURN] for start in range(0, len(x), TURN)]
    for number, turn in enumerate(turns):
        order = list(contenders)[number % 3 :] + list(contenders)[: number % 3]
        for one in order if chosen != "float32" else [name for name in order if name != "auto"]:
            began = Seconds(time.perf_counter(), time.process_time())
            found[one].append(contenders[one](turn))
            seconds[one].append(Seconds(time.perf_counter() - began.wall, time.process_time() - began.cpu))
    print(f"{'':<10}{'pictures/s':>12}{'× predict':>11}{'by CPU time':>13}{'change':>10}")
    plain = np.concatenate(found["predict"])
    for one, times in seconds.items():
        if times:
            pairs = list(zip(seconds["predict"], times, strict=True))
            wall, cpu = median(a.wall / b.wall for a, b in pairs), median(a.cpu / b.cpu for a, b in pairs)
            rate = TURN / median(turn.wall for turn in times)
            change = np.abs(np.concatenate(found[one]) - plain).mean() / plain.std()
            print(f"{one:<10}{rate:>12,.0f}{wall:>11.2f}{cpu:>13.2f}{change:>10.1e}")
    if arguments.probe:
        probe({one: np.concatenate(parts) for one, parts in found.items() if parts}, y)


def probe(found: dict[str, np.ndarray], y: np.ndarray) -> None:
    """Train on one half of the pictures, and measure on the other, for some penalties."""
    half = len(y) // 2
    for penalty in PENALTIES:
        right = {}
        for name, x in found.items():
            model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=200))
            model.fit(x[:half], y[:half])
            right[name] = model.score(x[half:], y[half:])
            if name == "auto":  # as a run does: trained in bfloat16, measured in float32
                right["auto, then float32"] = model.score(found["float32"][half:], y[half:])
        print(f"C={penalty}: " + ", ".join(f"{name} {accuracy:.4f}" for name, accuracy in right.items()))


def compare_memory(pictures: int) -> None:
    peaks = {}
    own = [argument for argument in sys.argv[1:] if argument != "--memory"]
    for count in (1000, pictures):
        command = [sys.executable, str(Path(__file__)), *own, "--peak", "--pictures", str(count)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[count] = int(said.splitlines()[-1])
        print(f"{count:,} pictures: {peaks[count] / 1e6:,.0f} MB at most", flush=True)
    print(f"ratio {peaks[pictures] / peaks[1000]:.3f}")


def compute_alone(arguments: argparse.Namespace) -> None:
    """Compute features of pictures in a mapped file, and print the peak of memory in bytes."""
    extractor = extractor_of(arguments)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", cifar10().train.x)
        x = np.load(Path(folder) / "x.npy", mmap_mode="r")[: arguments.pictures]
        peak = PeakMemory()
        features.features_of(extractor, x)
        print(peak.bytes())


if __name__ == "__main__":
    main()
