r"""The epochs that stopping poor runs early saves, and the score that it costs: a search with and without it.

    python benchmarks/search.py model=mlp dataset=fashion_mnist training.examples=6000 \
        training.validation_fraction=0.5 device=cpu

The validation split must be large: 2 of 144 digits are 1.4 points already.

For each seed both searches draw from the same random sequence. As the sampler is random, both have the same
values, and differ only in the stopping.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

SPACE = (
    "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))",
    "training.batch_size=32,64,128",
    "model.dropout=interval(0.0,0.5)",
)


class Outcome(NamedTuple):
    epochs: int
    best: float
    stopped: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of every run, e.g. dataset=digits model=cnn")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--pruner", default="hyperband")
    given = parser.parse_intermixed_args()
    for seed in range(given.seeds):
        found = {pruner: search(given, pruner, seed) for pruner in ("none", given.pruner)}
        whole, pruned = found["none"], found[given.pruner]
        saved = 1 - pruned.epochs / whole.epochs
        print(
            f"seed {seed}: {whole.epochs} epochs, best {whole.best:.4f}; stopping {pruned.stopped} of "
            f"{given.trials} runs early {pruned.epochs} epochs ({saved:.0%} saved), "
            f"best {pruned.best:.4f} ({100 * (pruned.best - whole.best):+.2f} points)",
            flush=True,
        )


def search(given: argparse.Namespace, pruner: str, seed: int) -> Outcome:
    """Run one search; every run goes through all of its epochs unless the search stops it."""
    settings = (f"trials={given.trials}", f"sampler={given.sampler}", f"pruner={pruner}", f"seed={seed}")
    with tempfile.TemporaryDirectory() as temporary:
        line = ["sweep=search", *(f"sweep.search.{setting}" for setting in settings), *SPACE]
        line += [f"training.epochs={given.epochs}", "callbacks.early_stopping=null", *given.overrides]
        command = [sys.executable, "-m", "cnnbench", *line, f"run_dir={temporary}/sweep"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        runs = list(Path(temporary).glob("sweep/*/metrics.json"))
        metrics = [json.loads(path.read_text()) for path in runs]
        epochs = sum((path.parent / "history.jsonl").read_bytes().count(b"\n") for path in runs)
    done = [entry["value"] for entry in metrics if entry["status"] == "done"]
    return Outcome(epochs, max(done), sum(entry["status"] == "pruned" for entry in metrics))


if __name__ == "__main__":
    main()
