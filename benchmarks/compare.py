"""The seconds of `cnnbench compare` over many runs, start-up included.

    python benchmarks/compare.py [--runs 1000] [--seeds 3] [--repeats 5] [--keep FOLDER]

The folders hold the files of a finished run of the default config, with figures drawn at random; every group
has a learning rate of its own, as after a random search.
"""

from __future__ import annotations

import argparse
import copy
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from cnnbench.config.composition import compose, plain_config
from cnnbench.runs.folder import RunFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each group")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="make the runs here, and leave them")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = given.keep or Path(temporary)
        make_runs(place, given.runs, given.seeds)
        command = [sys.executable, "-m", "cnnbench", "compare", str(place)]
        seconds = []
        for _ in range(given.repeats):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
    print(f"{given.runs} runs: median {median(seconds):.2f} s, best {min(seconds):.2f} s of {given.repeats}")


def make_runs(place: Path, runs: int, seeds: int) -> None:
    """Write `runs` folders below `place`."""
    draw = random.Random(0)
    base = {**plain_config(compose(["dataset=digits"])), "name": "cnn_digits"}
    rate = 0.0
    for number in range(runs):
        if number % seeds == 0:
            rate = 10 ** draw.uniform(-4, -1)
        write_run(RunFolder.create(place / f"{number:04d}_cnn_digits"), base, number % seeds, rate, draw)


def write_run(folder: RunFolder, base: dict[str, Any], seed: int, rate: float, draw: random.Random) -> None:
    config = copy.deepcopy(base) | {"seed": seed, "run_dir": str(folder.path)}
    config["optimizer"]["learning_rate"]["initial_learning_rate"] = rate
    folder.write_config(config, [f"optimizer.learning_rate.initial_learning_rate={rate}", f"seed={seed}"])
    value = draw.gauss(0.97, 0.01)
    figures = {"loss": 0.1, "accuracy": value, "balanced_accuracy": value, "f1_macro": value}
    folder.write_metrics(
        {
            "status": "done",
            "name": "cnn_digits",
            "task": "multiclass",
            "class_names": [str(digit) for digit in range(10)],
            "input_shape": [8, 8, 1],
            "seed": seed,
            "objective": "val_accuracy",
            "value": value,
            "metrics": {"train": {"loss": 0.1, "accuracy": 0.99}, "val": figures, "test": figures},
            "cost": {
                "parameters": 52_000,
                "flops_per_example": 1_300_000,
                "examples_per_second": draw.gauss(9000, 500),
                "latency_seconds": 5e-4,
                "peak_memory_bytes": 8e8,
                "seconds": {"fit": draw.gauss(4, 0.5)},
            },
        }
    )


if __name__ == "__main__":
    main()
