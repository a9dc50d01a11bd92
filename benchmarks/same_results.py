"""A comparison of two versions of the code, bit by bit, over five deterministic runs of each.

    python benchmarks/same_results.py OLD [NEW]         # commits; without NEW the working tree
    python benchmarks/same_results.py 6ea84ba --keep /tmp/same

Weights of `best.keras`, `history.jsonl` and the numbers of `metrics.json` must be equal, except times, memory
and file sizes. Pictures are compared pixel by pixel; those that differ are put side by side in the folder of
`--keep`. The run of N3 needs CIFAR-10 (`CNNBENCH_DATA`); without it that run is left out and named. The exit
code is 0 where all is equal, else 1.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ALWAYS = ("deterministic=true", "device=cpu", "seed=3")
RUNS = {
    "digits_cnn": ("training.epochs=3",),
    "n3": ("experiment=notes/cifar10_cnn", "training.examples=2000", "training.epochs=3"),
    "cached_features": (
        "dataset=synthetic", "dataset.size=32", "dataset.channels=3", "dataset.examples=400",
        "model=transfer", "model.backbone=MobileNet", "model.weights=null",
        "model.backbone_arguments={alpha: 0.25}", "model.dense_units=[16]", "training.epochs=3",
    ),
    "own_loss": (
        "dataset=diabetes", "model=mlp", "model.units=[16]", "loss=create_huber", "loss.threshold=20",
        "training.scale_targets=false", "training.epochs=5",
    ),
    "muon_averages": (
        "augmentation=digits", "optimizer=muon", "optimizer.use_ema=true",
        "optimizer.ema_overwrite_frequency=5", "training.epochs=3",
    ),
}  # fmt: skip
# Figures that differ between any two runs, and the size of a file that names classes by their modules.
NOT_COMPARED = {
    "started", "finished", "seconds", "examples_per_second", "latency_seconds", "peak_memory_bytes",
    "checkpoint_bytes",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", nargs="?", help="a commit; without it the working tree")
    parser.add_argument("--keep", type=Path, help="a folder for the runs and the pictures that differ")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="some of the runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        found = [compare(name, options.old, options.new, place.resolve()) for name in options.only]
    return 0 if all(found) else 1


def compare(name: str, old: str, new: str | None, place: Path) -> bool:
    folders = [run(name, commit, place / (commit or "working-tree") / name) for commit in (old, new)]
    if None in folders:
        print(f"{name}: left out, its data are not here")
        return True
    first, second = (folder for folder in folders if folder)
    differing = [
        what
        for what, read in (("weights", weights), ("history.jsonl", history), ("metrics.json", figures))
        if read(first) != read(second)
    ]
    pictures = differing_pictures(first, second, place / "pictures" / name)
    print(f"{name}: {'differs in ' + ', '.join(differing) if differing else 'equal'}; pictures: {pictures}")
    return not differing


def run(name: str, commit: str | None, folder: Path) -> Path | None:
    """Return the folder of the run of a commit's code; one that `--keep` has already is not made again."""
    if (folder / "metrics.json").exists() and commit:
        return folder
    code = ROOT if commit is None else unpacked(commit, folder.parent / "code")
    command = [sys.executable, "-m", "cnnbench", *RUNS[name], *ALWAYS, f"run_dir={folder}"]
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    done = subprocess.run(
        command,
        cwd=code,
        env={**os.environ, "PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 2 and "was not found" in done.stderr:
        return None
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return folder


def unpacked(commit: str, folder: Path) -> Path:
    if not folder.is_dir():
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
    return folder


def weights(folder: Path) -> dict[str, bytes]:
    """Return every array of the best checkpoint, by its place in the file."""
    found: dict[str, bytes] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item).tobytes()

    with zipfile.ZipFile(folder / "best.keras") as archive:
        file = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(file, "r") as stored:
        stored.visititems(keep)
    return found


def history(folder: Path) -> list[Any]:
    rows = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [without_clock(json.loads(row)) for row in rows]


def figures(folder: Path) -> Any:
    return without_clock(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))


def without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_clock(item) for key, item in value.items() if key not in NOT_COMPARED}
    return value


def differing_pictures(first: Path, second: Path, place: Path) -> str:
    """Return how many pictures there are and how many differ; write these beside their twins into `place`."""
    names = sorted({path.name for folder in (first, second) for path in (folder / "figures").glob("*.png")})
    differing = []
    for name in names:
        pair = [folder / "figures" / name for folder in (first, second)]
        if not all(path.exists() for path in pair):
            differing.append(f"{name} (only one has it)")
            continue
        images = [Image.open(path).convert("RGB") for path in pair]
        if images[0].size != images[1].size or images[0].tobytes() != images[1].tobytes():
            differing.append(name)
            place.mkdir(parents=True, exist_ok=True)
            sheet = Image.new(
                "RGB", (images[0].width + images[1].width + 10, max(i.height for i in images)), "red"
            )
            sheet.paste(images[0], (0, 0))
            sheet.paste(images[1], (images[0].width + 10, 0))
            sheet.save(place / name)
    return (
        f"{len(names)} equal"
        if not differing
        else f"{len(differing)} of {len(names)} differ: {', '.join(differing)}"
    )


if __name__ == "__main__":
    sys.exit(main())
