"""What several labels and several targets reach: three questions with a known answer.

    python benchmarks/tasks.py [--epochs 20] [--examples 8000]

- Digits as ten 0/1 columns against digits as classes: the same network, seeds and epochs. The class is the
  most probable label.
- Tiles of 2×2 CIFAR-10 pictures, the labels those of the pictures: mean average precision, beside that of
  chance, which is the share of the examples that have a label.
- CIFAR-10 pictures turned by an angle, whose sine and cosine are the targets: r2, and the mean error in
  degrees.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import numpy as np

from cnnbench import api
from cnnbench.data.dataset import Dataset, Split
from cnnbench.data.sources.cifar import cifar10
from cnnbench.data.sources.digits import digits

SEEDS = (0, 1, 2)
TESTS = 2000  # tiles and turned pictures of the test split


def digits_as_labels() -> Dataset:
    """Return the digits with a 0/1 column for each class."""
    known = digits()
    splits = {
        name: Split(split.x, np.eye(10, dtype=np.uint8)[split.y]) for name, split in known.splits.items()
    }
    return Dataset("digits as labels", "multilabel", **splits, class_names=known.class_names)


def tiles(examples: int = 8000, data_dir: str | None = None) -> Dataset:
    """Return tiles of four pictures, half their size, and which classes are in each."""
    known, rng = cifar10(data_dir), np.random.default_rng(0)

    def split(part: Split, count: int) -> Split:
        chosen = rng.choice(len(part), (count, 4))
        small = part.x[chosen.reshape(-1)].reshape(-1, 16, 2, 16, 2, 3).mean(axis=(2, 4)).round()
        small = small.astype(np.uint8).reshape(count, 2, 2, 16, 16, 3)
        y = np.zeros((count, 10), np.uint8)
        np.put_along_axis(y, part.y[chosen], 1, axis=1)
        return Split(small.transpose(0, 1, 3, 2, 4, 5).reshape(count, 32, 32, 3), y)

    parts = {"train": split(known.train, examples), "test": split(known.test, TESTS)}
    return Dataset("CIFAR-10 tiles", "multilabel", **parts, class_names=known.class_names)


def turned(examples: int = 8000, data_dir: str | None = None) -> Dataset:
    """Return pictures turned by an angle, cut to the circle that stays inside, and its sine and cosine."""
    from PIL import Image

    known, rng = cifar10(data_dir), np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32] - 15.5
    outside = (rows**2 + columns**2 > 15.5**2)[..., None]

    def split(part: Split, count: int) -> Split:
        angles = rng.uniform(0, 360, count)
        pictures = [
            np.asarray(Image.fromarray(x).rotate(angle, Image.Resampling.BILINEAR))
            for x, angle in zip(part.x[:count], angles, strict=True)
        ]
        turns = np.radians(angles)
        y = np.stack([np.sin(turns), np.cos(turns)], axis=1).astype(np.float32)
        return Split(np.where(outside, 0, np.stack(pictures)).astype(np.uint8), y)

    parts = {"train": split(known.train, examples), "test": split(known.test, TESTS)}
    return Dataset("turned CIFAR-10", "regression", **parts, target_names=("sine", "cosine"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--examples", type=int, default=8000, help="tiles, and turned pictures, to train on")
    given = parser.parse_args()
    line = ["model=cnn", f"training.epochs={given.epochs}"]
    with TemporaryDirectory() as place:
        for name, task in (("as classes", None), ("as ten labels", digits_as_labels)):
            reached = []
            for seed in SEEDS:
                spec = api.compose("dataset=digits", *line, f"seed={seed}", f"run_dir={place}/{name}{seed}")
                run = api.run(replace(spec, dataset=task) if task else spec, verbose=False)
                stored = run.files.predictions
                y = stored["y_true"].argmax(axis=1) if task else stored["y_true"]
                reached.append(float((stored["outputs"].argmax(axis=1) == y).mean()))
            print(f"digits {name}: test accuracy {mean(reached):.4f} ± {stdev(reached):.4f}", flush=True)

        for make in (tiles, turned):
            run_dir = f"run_dir={place}/{make.__name__}"
            spec = api.compose("dataset=cifar10", *line, "optimizer/learning_rate=cosine", run_dir)
            run = api.run(replace(spec, dataset=partial(make, examples=given.examples)), verbose=False)
            stored = run.files.predictions
            if make is tiles:
                chance = stored["y_true"].mean()
                found = run.metrics["test_mean_average_precision"]
                print(f"tiles: mean average precision {found:.4f}, by chance {chance:.4f}", flush=True)
            else:
                angles = [np.arctan2(*np.transpose(stored[key])) for key in ("outputs", "y_true")]
                apart = np.degrees(np.abs((angles[0] - angles[1] + np.pi) % (2 * np.pi) - np.pi))
                print(f"turned: r2 {run.metrics['test_r2']:.4f}, off by {apart.mean():.1f}°, by chance 90°")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from tasks import main  # so that the functions have a module that a run can name

    main()
