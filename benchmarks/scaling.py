"""The growth of cost: time per epoch with the examples, memory with the size of a folder of images.

    python benchmarks/scaling.py [--repeats 3] [--files 10000 100000]

Time: `model=cnn` on synthetic images of CIFAR's size. Memory: `dataset=image_folder` on generated JPEGs of
32×32 pixels, decoded at 32, two epochs on all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

EXAMPLES = (1_000, 5_000, 20_000, 50_000)
CLASSES = 10


def train(*line: str, **environment: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        fixed = (
            "callbacks.early_stopping=null",
            "device=cpu",
            "training.precision=float32",
            f"run_dir={run}",
        )
        command = [sys.executable, "-m", "cnnbench", *line, *fixed]
        told = {**os.environ, **environment}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=told)
        history = [json.loads(row) for row in (run / "history.jsonl").read_text().splitlines()]
        return {"history": history, "memory": json.loads((run / "metrics.json").read_text())["cost"]}


def times(repeats: int) -> None:
    per_example = {}
    for examples in EXAMPLES:
        epochs = 1 + max(2, 40_000 // examples)
        line = (
            "model=cnn",
            "dataset=synthetic",
            "dataset.size=32",
            "dataset.channels=3",
            "dataset.classes=10",
        )
        sizes = (f"dataset.examples={round(examples / 0.72)}", f"training.epochs={epochs}")
        found = [train(*line, *sizes, "callbacks.checkpoint=null")["history"] for _ in range(repeats)]
        rates = [row["examples_per_second"] for history in found for row in history[1:]]
        per_example[examples] = 1e6 / median(rates)
        print(f"{examples:7,} examples: {per_example[examples]:.0f} µs each", flush=True)
    spread = max(per_example.values()) / min(per_example.values()) - 1
    print(f"time per example differs by {spread:.0%} at most")


def memory(counts: list[int]) -> None:
    peaks = {}
    with tempfile.TemporaryDirectory() as temporary:
        for count in counts:
            root = Path(temporary) / str(count)
            write_images(root, count)
            line = ("model=cnn", "dataset=image_folder", f"dataset.root={root}", "dataset.size=32")
            told = {"CNNBENCH_CACHE": f"{temporary}/cache"}
            train(*line, "training.epochs=1", **told)  # decodes
            found = train(*line, "training.epochs=2", **told)
            peaks[count] = found["memory"]["peak_memory_bytes"] / 1e9
            print(f"{count:7,} files: {peaks[count]:.2f} GB at most", flush=True)
    print(f"memory differs by {max(peaks.values()) / min(peaks.values()) - 1:.0%} at most")


def write_images(root: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for name in range(CLASSES):
        (root / f"class_{name}").mkdir(parents=True)
    for number in range(count):
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"class_{number % CLASSES}" / f"{number:06d}.jpg", quality=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--files", type=int, nargs="*", default=[10_000, 100_000])
    given = parser.parse_args()
    if given.repeats:
        times(given.repeats)
    if given.files:
        memory(given.files)


if __name__ == "__main__":
    main()
