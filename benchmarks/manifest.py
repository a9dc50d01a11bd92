"""How long a table of pictures takes: a million rows read and checked, and pictures decoded beside a folder.

    python benchmarks/manifest.py [FOLDER]

makes a million empty files and 50,000 pictures in a temporary folder below FOLDER (4 GB and 1.1 million
inodes for some minutes), and prints

- seconds and the highest memory of a process that reads the table of a million rows and checks columns,
  labels, splits, doubles and whether each file is there, without opening one;
- seconds of decoding the 50,000 pictures by their folder and by a table, in turn, and the ratio of the
  medians of three each. On a busy machine only the seconds of a core mean much.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROWS, FOLDERS, PICTURES, TURNS = 1_000_000, 1000, 50_000, 3
CHECK = """
import json, resource, sys, time
from cnnbench.data.images.manifest import checked
before, worked = time.perf_counter(), time.process_time()
known = checked(sys.argv[1])
seconds = [time.perf_counter() - before, time.process_time() - worked]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps([len(known.rows), *seconds, peak]))
"""
LOAD = """
import sys, time
from cnnbench.data.images.folder import image_folder
from cnnbench.data.images.manifest import manifest
load, place, cache = {"folder": image_folder, "table": manifest}[sys.argv[1]], sys.argv[2], sys.argv[3]
before, worked = time.perf_counter(), time.process_time()
data = load(place, size=32, cache_dir=cache)
print(time.perf_counter() - before, time.process_time() - worked, data.train.fingerprint)
"""


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def million(top: Path) -> None:
    top.mkdir()
    with (top / "labels.csv").open("w", encoding="utf-8") as table:
        table.write("image,label,split\n")
        for folder in range(FOLDERS):
            (top / f"{folder:04d}").mkdir()
            for number in range(ROWS // FOLDERS):
                name = f"{folder:04d}/picture_{number:06d}.jpg"
                (top / name).touch()
                table.write(f"{name},class_{number % 10},{'test' if folder % 5 == 0 else 'train'}\n")
    rows, seconds, worked, peak = json.loads(run(CHECK, top / "labels.csv"))
    print(
        f"{rows:,} rows read and checked: {seconds:.1f} s ({worked:.1f} s of a core), {peak:.2f} GiB at most"
    )


def beside_a_folder(top: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["image,label"]
    for number in range(PICTURES):
        name = f"class_{number % 10}/{number:06d}.jpg"
        (top / name).parent.mkdir(exist_ok=True, parents=True)
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(top / name, quality=90)
        rows.append(f"{name},{name.partition('/')[0]}")
    table = top.with_suffix(".csv")
    table.write_text("\n".join([rows[0], *(f"{top.name}/{row}" for row in sorted(rows[1:]))]))
    taken: dict[str, list[list[float]]] = {"folder": [], "table": []}
    found = set()
    for turn in range(TURNS + 1):  # the first reads the files from the disk
        for kind, place in (("folder", top), ("table", table))[:: 1 if turn % 2 else -1]:
            *seconds, fingerprint = run(LOAD, kind, place, top.with_name(f"cache-{kind}-{turn}")).split()
            taken[kind].append([float(one) for one in seconds])
            found.add(fingerprint)
    for what, index in (("", 0), (" of a core", 1)):
        folder, by_table = (statistics.median(one[index] for one in runs[1:]) for runs in taken.values())
        ratio = f"{by_table / folder:.3f}"
        print(f"{PICTURES:,} pictures: folder {folder:.1f} s{what}, table {by_table:.1f} s{what}: {ratio}")
    print("the same examples" if len(found) == 1 else "OTHER EXAMPLES")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        started = time.perf_counter()
        million(Path(folder) / "million")
        beside_a_folder(Path(folder) / "pictures")
        print(f"{time.perf_counter() - started:.0f} s in all")
