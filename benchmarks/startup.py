"""The seconds from the first import to the end of the first training step, in parts.

    python benchmarks/startup.py [--repeats 5] [OVERRIDE…]

Each repeat is a process of its own that ends after its first steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

PARTS = {
    "config": "imports of ours, the config composed and checked",
    "data": "the data set, loaded and split",
    "import": "import tensorflow",
    "first step": "from there to the end of the first step: build, trace, run",
}


def inside(line: list[str]) -> None:
    """Make one run up to its first step, and print the parts."""
    began = time.perf_counter()
    from cnnbench.config.composition import compose, named_config, spec_from
    from cnnbench.runs.spec import Observer
    from cnnbench.system import startup
    from cnnbench.training import run

    seen: dict[str, float] = {}
    importing = startup.import_tensorflow

    def imported(*given: Any) -> None:
        seen["data"] = time.perf_counter()
        importing(*given)
        seen["import"] = time.perf_counter()

    class First(Observer):
        def step(self, *_: Any, **__: Any) -> None:
            seen["first step"] = time.perf_counter()
            raise KeyboardInterrupt

    startup.import_tensorflow = imported  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        spec = spec_from(named_config(compose(line), {}), Path(folder), line)
        seen["config"] = time.perf_counter()
        with suppress(KeyboardInterrupt):
            run.run(spec, First())
    order = [began, *(seen[part] for part in PARTS)]
    print(json.dumps(dict(zip(PARTS, (b - a for a, b in pairwise(order)), strict=True))))


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        inside([*sys.argv[2:], "name=startup", "training.steps_per_execution=1"])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_intermixed_args()
    found = []
    for _ in range(given.repeats):
        command = [sys.executable, __file__, "--inside", *given.overrides]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append(json.loads(output.splitlines()[-1]))
    for part, text in PARTS.items():
        values = [one[part] for one in found]
        print(f"{part:10} {median(values):.2f} s ({min(values):.2f} to {max(values):.2f})  {text}")


if __name__ == "__main__":
    main()
