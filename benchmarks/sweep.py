"""The seconds of a sweep and of the same runs in a process each, and of a run besides its training.

    python benchmarks/sweep.py [--seeds 3] [--epochs 5] [--separate 6] [hydra/launcher=joblib]

The sweep: 2 models × 4 learning rates × the seeds on digits. Only some of the
separate processes are made, of both models in turn, half before the sweep and half after it; their median
stands for all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

MODELS = ("mlp", "cnn")
RATES = (0.0003, 0.001, 0.003, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--separate", type=int, default=6, help="processes of their own to time")
    parser.add_argument("overrides", nargs="*", help="of the sweep")
    given = parser.parse_args()
    runs = len(MODELS) * len(RATES) * given.seeds
    training = f"training.epochs={given.epochs}"
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        separate = [_alone(place, number, training) for number in range(given.separate // 2)]
        rates, seeds = ",".join(map(str, RATES)), ",".join(map(str, range(given.seeds)))
        varied = (f"model={','.join(MODELS)}", f"optimizer.learning_rate={rates}", f"seed={seeds}")
        whole = _timed("-m", *varied, training, *given.overrides, f"run_dir={place / 'sweep'}")
        separate += [_alone(place, number, training) for number in range(len(separate), given.separate)]
        finished = [json.loads(path.read_text()) for path in sorted(place.glob("sweep/*/metrics.json"))]
        assert len(finished) == runs, "a run has failed"
    one = median(separate)
    print(f"{runs} runs in one sweep: {whole:.1f} s")
    print(f"a process each: {runs} × {one:.1f} s = {runs * one:.0f} s")
    print(f"ratio {runs * one / whole:.1f}; {min(separate) * runs / whole:.1f} by the fastest process")
    if given.overrides:
        return  # several runs at once: no time lies between two
    between = [_spent(before, after) for before, after in itertools.pairwise(finished)]
    print("besides training, from the second run on:", end=" ")
    print(f"median {median(between):.2f} s, most {max(between):.2f} s")
    names = [name for name in finished[-1]["cost"]["seconds"] if name != "fit"]
    for name in names:
        print(f"  {name}: {median(entry['cost']['seconds'][name] for entry in finished[1:]):.3f} s")


def _spent(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Return the seconds from the end of one run to that of the next, without its training."""
    ends = [datetime.fromisoformat(entry["finished"]) for entry in (before, after)]
    return (ends[1] - ends[0]).total_seconds() - after["cost"]["seconds"]["fit"]


def _alone(place: Path, number: int, training: str) -> float:
    model, rate = MODELS[number % 2], RATES[number % len(RATES)]
    line = (f"model={model}", f"optimizer.learning_rate={rate}", training, f"run_dir={place / str(number)}")
    return _timed(*line)


def _timed(*line: str) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "cnnbench", *line]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
