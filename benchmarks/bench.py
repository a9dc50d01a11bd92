"""A comparison of cnnbench with other ways to train small networks: same data, network, recipe and steps.

    make bench                         # three networks, three epochs each, five repeats: two to three hours
    make bench ARGS="--networks N3 --repeats 1 --examples 10000"
    make bench ARGS=--full             # whole recipes, once: time to the others' final accuracy; hours

Networks, data, steps and recipes are the same. cnnbench standardises pixels, the others divide them by 255;
initial weights are each library's own, and each keeps its best epoch. Contenders take turns within each
repeat. Every figure is of a whole process; ratios are of medians. The results are `outputs/bench/table.md`,
`bench.png` and `measurements.json`. Fashion-MNIST and CIFAR-10 must lie in $CNNBENCH_DATA or below
/usr/share/datasets.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
CONTENDERS = HERE / "contenders"
sys.path.insert(0, str(CONTENDERS))
from recipes import RECIPES  # noqa: E402  numpy alone

OURS, NOTE, PLAIN, TUNED, LIGHTNING, LOOP = (
    "cnnbench", "plain Keras", "plain PyTorch", "tuned PyTorch", "Lightning", "TensorFlow loop",
)  # fmt: skip
SCRIPTS = {
    NOTE: "keras_note.py",
    PLAIN: "torch_plain.py",
    TUNED: "torch_tuned.py",
    LIGHTNING: "lightning_trainer.py",
    LOOP: "tf_loop.py",
}
# Our own recipes for what others reach with theirs: epochs are added until the same score is reached.
QUICK = {
    "fashion_mnist": ("experiment=best/fashion_seconds",),
    "cifar10": ("experiment=best/cifar10_seconds",),
}
SHOWN = {"examples_per_second": "training examples per second", "seconds": "whole command, seconds"}
Measured = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--contenders", nargs="+", default=[OURS, *SCRIPTS])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--examples", type=int, help="of the training split; for a try")
    parser.add_argument("--full", action="store_true", help="each network's whole recipe, once")
    parser.add_argument("--peers", type=Path, default=Path(".venv-bench/bin/python"), help="has PyTorch")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    content: Measured = {
        "peak": json.loads(_run([sys.executable, str(CONTENDERS / "peak.py")])[0]),
        "runs": [],
    }
    for network in given.networks:
        for repeat in range(1 if given.full else given.repeats):
            for name in given.contenders:
                epochs = RECIPES[network].epochs if given.full else given.epochs
                found = measure(name, network, epochs, given, repeat)
                content["runs"].append(found)
                print(json.dumps(found), flush=True)
        if given.full:
            content["runs"] += quick(network, content["runs"], given)
        # After each network, so that no measurement is lost.
        (given.output / "measurements.json").write_text(json.dumps(content, indent=1))
    text = table(content)
    (given.output / "table.md").write_text(text)
    draw(content, given.output / "bench.png")
    print(text)


def measure(name: str, network: str, epochs: int, given: argparse.Namespace, seed: int) -> Measured:
    """Measure one whole process of one contender."""
    told = {"contender": name, "network": network, "epochs": epochs, "repeat": seed}
    if name == OURS:
        line = [*RECIPES[network].line, f"training.epochs={epochs}"]
        if given.examples:
            line.append(f"training.examples={given.examples}")
        found = ours(line, seed)
        _PRECISIONS[network] = found["precision"]
        return {**told, **found}
    python = str(given.peers) if name in (PLAIN, TUNED, LIGHTNING) else sys.executable
    command = [python, str(CONTENDERS / SCRIPTS[name]), network, "--data", str(data(network))]
    command += ["--epochs", str(epochs), "--seed", str(seed)]
    if given.examples:
        command += ["--examples", str(given.examples)]
    output, seconds, memory = _run(command, json.dumps({"precision": _precision(network)}))
    return {**told, **json.loads(output.splitlines()[-1]), "seconds": seconds, "memory": memory}


def ours(line: list[str], seed: int) -> Measured:
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        command = [sys.executable, "-m", "cnnbench", *line, f"seed={seed}", f"run_dir={run}"]
        _, seconds, memory = _run(command)
        metrics = json.loads((run / "metrics.json").read_text())
        precision = json.loads((run / "environment.json").read_text())["precision"]
        rows = [json.loads(row) for row in (run / "history.jsonl").read_text().splitlines()]
    accuracy = metrics["metrics"]["test"]["accuracy"]
    rate = median(row["examples_per_second"] for row in rows[1:] or rows)  # as of the others
    return {
        "examples_per_second": rate, "accuracy": accuracy, "seconds": seconds, "memory": memory,
        "precision": precision,
    }  # fmt: skip


_PRECISIONS: dict[str, str] = {}


def _precision(network: str) -> str:
    """Return the precision of our last run of the network: the loop by hand computes in the same one."""
    return _PRECISIONS.get(network, "float32")


def quick(network: str, runs: list[Measured], given: argparse.Namespace) -> list[Measured]:
    """Measure our own recipe with the fewest epochs that reach the final score of the best of the others."""
    others = [run for run in runs if run["network"] == network and run["contender"] not in (OURS, LOOP)]
    wanted = max(run["accuracy"] for run in others)
    found: list[Measured] = []
    for epochs in (1, 2, 4, 6, 8, 12, 16):
        found.append({
            "contender": "cnnbench, own recipe", "network": network, "epochs": epochs, "repeat": 0,
            **ours([*QUICK[RECIPES[network].data], f"training.epochs={epochs}"], 0),
        })  # fmt: skip
        print(json.dumps(found[-1]), flush=True)
        if found[-1]["accuracy"] >= wanted:
            break
    return found


def data(network: str) -> Path:
    """Return the folder with a network's data set."""
    known = [Path(place) for place in (os.environ.get("CNNBENCH_DATA"), "/usr/share/datasets") if place]
    name = {"fashion_mnist": "train-images-idx3-ubyte.gz", "cifar10": "data_batch_1"}[RECIPES[network].data]
    for folder in known:
        if next(folder.rglob(name), None):
            return folder
    raise SystemExit(f"{RECIPES[network].data} lies in none of {', '.join(map(str, known))}")


def _run(command: list[str], told: str = "") -> tuple[str, float, int]:
    """Run a command; return its output, its seconds, and the most bytes of memory that it took."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as output:
        given.write(told)
        given.seek(0)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        process = subprocess.Popen(
            command, stdin=given, stdout=output, stderr=subprocess.PIPE, env=environment
        )
        assert process.stderr is not None
        said = process.stderr.read().decode(errors="replace")
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{said[-2000:]}")
        output.seek(0)
        return output.read(), seconds, used.ru_maxrss * 1024


# -- what is shown --------------------------------------------------------------------------------


def table(content: Measured) -> str:
    """Return a table of medians with their range, and in brackets how many times better ours is."""
    peaks = ", ".join(f"{name} {rate / 1e12:.2f}e12" for name, rate in content["peak"].items())
    lines = [
        f"Peak of this machine, floating-point operations a second: {peaks}.", "",
        "| network | contender | examples/s | whole command, s | test accuracy | peak memory, GB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for network, name, runs in groups(content):
        us = next((r for n, c, r in groups(content) if (n, c) == (network, OURS)), runs)
        cells = [
            _cell(runs, us, "examples_per_second", ",.0f", 1, more_is_better=True),
            _cell(runs, us, "seconds", ".1f", 1, more_is_better=False),
            f"{median(run['accuracy'] for run in runs):.3f}",
            _cell(runs, us, "memory", ".2f", 1e9, more_is_better=False),
        ]
        precision = f", {runs[0]['precision']}" if "precision" in runs[0] else ""
        epochs = "1 epoch" if runs[0]["epochs"] == 1 else f"{runs[0]['epochs']} epochs"
        lines.append(f"| {network}, {epochs} | {name}{precision} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(
    runs: list[Measured], us: list[Measured], key: str, form: str, unit: float, *, more_is_better: bool
) -> str:
    values = sorted(run[key] / unit for run in runs)
    middle, mine = median(values), median(run[key] / unit for run in us)
    spread = f" ({values[0]:{form}} to {values[-1]:{form}})" if len(values) > 1 else ""
    ratio = mine / middle if more_is_better else middle / mine
    return f"{middle:{form}}{spread}" + (f" [{ratio:.2f} ×]" if runs is not us and runs != us else "")


def groups(content: Measured) -> list[tuple[str, str, list[Measured]]]:
    """Return network, contender and the contender's runs of one length, in the order of the measurements."""
    found: dict[tuple[str, str, int], list[Measured]] = {}
    for run in content["runs"]:
        found.setdefault((run["network"], run["contender"], run["epochs"]), []).append(run)
    return [(network, name, runs) for (network, name, _), runs in found.items()]


def draw(content: Measured, path: Path) -> None:
    """Draw examples per second and whole seconds of each contender, one row for each network."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(network for network, _, _ in groups(content)))
    figure = Figure(figsize=(11, 0.6 + 2.3 * len(networks)), layout="constrained")
    board = figure.subplots(len(networks), 2, squeeze=False)
    for row, network in enumerate(networks):
        mine = [(name, runs) for other, name, runs in groups(content) if other == network][::-1]
        for axes, (key, text) in zip(board[row], SHOWN.items(), strict=True):
            middles = [median(run[key] for run in runs) for _, runs in mine]
            lows = [m - min(run[key] for run in runs) for m, (_, runs) in zip(middles, mine, strict=True)]
            highs = [max(run[key] for run in runs) - m for m, (_, runs) in zip(middles, mine, strict=True)]
            colours = ["#0072B2" if name.startswith(OURS) else "#8A8A8A" for name, _ in mine]
            labels = [
                f"{name}, {runs[0]['epochs']} ep." if name.endswith("recipe") else name for name, runs in mine
            ]
            axes.barh(labels, middles, xerr=[lows, highs], color=colours, ecolor="#222222")
            axes.set_title(f"{network}: {text}", fontsize=10, loc="left")
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=9)
            for place, value in enumerate(middles):
                axes.annotate(f" {value:,.0f}", (0, place), va="center", fontsize=8, color="white")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
