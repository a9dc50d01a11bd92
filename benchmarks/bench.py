"""A comparison of cnnbench with other ways to train small networks: same data, network, recipe and steps.

    make bench                         # three networks, three epochs each, five repeats: two to three hours
    make bench ARGS="--networks N3 --repeats 1 --examples 10000"
    make bench ARGS=--full             # whole recipes, once: time to the others' final accuracy; hours
    make bench ARGS="--device gpu --batch-size 512"   # a GPU is taken without asking; cpu leaves it out

Networks, data, steps and recipes are the same. cnnbench standardises pixels, the others divide them by 255;
initial weights are each library's own, and each keeps its best epoch. Contenders take turns within each
repeat. Every figure is of a whole process; ratios are of medians. The results are `outputs/bench/table.md`,
`bench.png` and `measurements.json`. Fashion-MNIST and CIFAR-10 must lie in $CNNBENCH_DATA or below
/usr/share/datasets. `airbench` is our whole recipe for 94 % on CIFAR-10, beside what Jordan's has published.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cnnbench import system

SCRIPTS = Path(__file__).parent / "contenders"
sys.path.insert(0, str(SCRIPTS))
from recipes import RECIPES  # noqa: E402  numpy alone

CPU, GPU = "cpu", "gpu"


@dataclass(frozen=True)
class Contender:
    """One way to train the networks.

    Attributes:
        devices: on which it is measured.
        script: in `contenders/`; None for cnnbench.
        more: its own arguments, or overrides.
        in_pytorch: runs in the environment of the peers.
    """

    devices: tuple[str, ...]
    script: str | None = None
    more: tuple[str, ...] = ()
    in_pytorch: bool = False


OURS, COMPILED, LOOP = "cnnbench", "cnnbench, XLA", "TensorFlow loop"
CONTENDERS = {
    OURS: Contender((CPU, GPU)),
    COMPILED: Contender((GPU,), more=("training.jit_compile=true",)),  # however short the run
    "plain Keras": Contender((CPU, GPU), "keras_note.py"),
    "plain PyTorch": Contender((CPU,), "torch_plain.py", in_pytorch=True),
    "tuned PyTorch": Contender((CPU,), "torch_tuned.py", in_pytorch=True),
    "Lightning": Contender((CPU,), "lightning_trainer.py", in_pytorch=True),
    LOOP: Contender((CPU,), "tf_loop.py"),
    "PyTorch, eager": Contender((GPU,), "torch_gpu.py", ("--mode", "eager"), in_pytorch=True),
    "PyTorch, CUDA graph": Contender((GPU,), "torch_gpu.py", ("--mode", "graph"), in_pytorch=True),
}
AIRBENCH = "airbench"
LINES = {**{name: recipe.line for name, recipe in RECIPES.items()}, AIRBENCH: ("experiment=best/cifar10_94",)}
NETWORKS = {CPU: list(RECIPES), GPU: [*RECIPES, AIRBENCH]}
# What others say of their scripts: script, epochs, seconds, test accuracy.
PUBLISHED = [
    ("airbench94.py", "9.9", 3.83, 0.9401),
    ("airbench94_compiled.py", "9.9", 3.09, 0.9401),
    ("airbench94_muon.py", "8", 2.59, 0.9401),
]
SOURCE = (
    "As published: https://github.com/KellerJordan/cifar10-airbench (README.md and the head of each script), "
    "on one NVIDIA A100; seconds are of training and evaluation alone, without start and compilation."
)
# Our own recipes for what others reach with theirs: epochs are added until the same score is reached.
QUICK = {
    "fashion_mnist": ("experiment=best/fashion_seconds",),
    "cifar10": ("experiment=best/cifar10_seconds",),
}
SHOWN = {"examples_per_second": "training examples per second", "seconds": "whole command, seconds"}
Measured = dict[str, Any]


def main() -> None:
    given = parsed()
    given.output.mkdir(parents=True, exist_ok=True)
    content: Measured = {
        "device": described(given.device),
        "peak": json.loads(_run([sys.executable, str(SCRIPTS / "peak.py")], given.device)[0]),
        "runs": [],
    }
    for network in given.networks:
        for repeat in range(1 if given.full else given.repeats):
            for name in [one for one in given.contenders if trains(one, network)]:
                epochs = RECIPES[network].epochs if given.full and network in RECIPES else given.epochs
                found = measure(name, network, epochs, given, repeat)
                content["runs"].append(found)
                print(json.dumps(found), flush=True)
        if given.full and network in RECIPES:
            content["runs"] += quick(network, content["runs"], given)
        # After each network, so that no measurement is lost.
        (given.output / "measurements.json").write_text(json.dumps(content, indent=1))
    text = table(content)
    (given.output / "table.md").write_text(text)
    draw(content, given.output / "bench.png")
    print(text)


def parsed() -> argparse.Namespace:
    """Read the command line; what is not for the device is left out, with one line that says so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--device", choices=["auto", CPU, GPU], default="auto", help="auto: a GPU where one is"
    )
    for flag, known in (("--networks", NETWORKS[GPU]), ("--contenders", list(CONTENDERS))):
        listed = "; ".join(known)
        parser.add_argument(flag, nargs="+", choices=known, default=known, metavar="NAME", help=listed)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--examples", type=int, help="of the training split; for a try")
    parser.add_argument(
        "--batch-size", type=int, help="of all networks but airbench; else that of each recipe"
    )
    parser.add_argument("--full", action="store_true", help="each network's whole recipe, once")
    parser.add_argument("--peers", type=Path, default=Path(".venv-bench/bin/python"), help="has PyTorch")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench"))
    given = parser.parse_args()
    there = system.gpus_and_drivers()
    if given.device == "auto":
        given.device = GPU if there else CPU
    if given.device == GPU and not there:
        parser.error("there is no GPU here, or no nvidia-smi that names it: use --device cpu")
    wanted = [*given.networks, *given.contenders]
    given.networks = [name for name in given.networks if name in NETWORKS[given.device]]
    given.contenders = [name for name in given.contenders if given.device in CONTENDERS[name].devices]
    if left_out := [name for name in wanted if name not in (*given.networks, *given.contenders)]:
        where = "on a GPU" if given.device == GPU else "without a GPU"
        print(f"left out {where}: {'; '.join(left_out)}", flush=True)
    if not any(trains(name, network) for name in given.contenders for network in given.networks):
        parser.error("nothing is left to measure")
    return given


def trains(name: str, network: str) -> bool:
    """Tell whether a contender trains a network: airbench is ours alone."""
    return network in RECIPES or CONTENDERS[name].script is None


def described(device: str) -> str:
    """Name GPU and driver, or the processor."""
    processor = f"{system.cpu_name()}, {system.usable_cores()} cores"
    return "; ".join([*system.gpus_and_drivers(), processor] if device == GPU else [processor])


def measure(name: str, network: str, epochs: int, given: argparse.Namespace, seed: int) -> Measured:
    """Measure one whole process of one contender."""
    told = {"contender": name, "network": network, "repeat": seed}
    if network in RECIPES:
        told["epochs"] = epochs
    contender = CONTENDERS[name]
    if contender.script is None:
        line = [*LINES[network], *contender.more]
        if network in RECIPES:  # else the whole recipe
            line.append(f"training.epochs={epochs}")
            line += [f"training.batch_size={given.batch_size}"] if given.batch_size else []
        if given.examples:
            line.append(f"training.examples={given.examples}")
        found = ours(line, seed, given.device)
        _PRECISIONS[network] = found["precision"]
    else:
        python = str(given.peers) if contender.in_pytorch else sys.executable
        command = [python, str(SCRIPTS / contender.script), network, *contender.more]
        command += ["--data", str(data(network)), "--epochs", str(epochs), "--seed", str(seed)]
        for flag, value in (("--examples", given.examples), ("--batch-size", given.batch_size)):
            command += [flag, str(value)] if value else []
        output, seconds, memory = _run(command, given.device, json.dumps({"precision": _precision(network)}))
        found = {**json.loads(output.splitlines()[-1]), "seconds": seconds, "memory": memory}
    if given.device == GPU and "gpu_memory" not in found:
        raise SystemExit(
            f"{name} computed without the GPU: see whether its TensorFlow or PyTorch is one for CUDA"
        )
    return {**found, **told}


def ours(line: list[str], seed: int, device: str) -> Measured:
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        command = [
            sys.executable,
            "-m",
            "cnnbench",
            *line,
            f"device={device}",
            f"seed={seed}",
            f"run_dir={run}",
        ]
        _, seconds, memory = _run(command, device)
        metrics = json.loads((run / "metrics.json").read_text())
        precision = json.loads((run / "environment.json").read_text())["precision"]
        rows = [json.loads(row) for row in (run / "history.jsonl").read_text().splitlines()]
    accuracy = metrics["metrics"]["test"]["accuracy"]
    rate = median(row["examples_per_second"] for row in rows[1:] or rows)  # as of the others
    found = {
        "examples_per_second": rate, "accuracy": accuracy, "seconds": seconds, "memory": memory,
        "precision": precision, "epochs": len(rows),
    }  # fmt: skip
    on_gpu = metrics["cost"].get("peak_gpu_memory_bytes")
    return found if on_gpu is None else {**found, "gpu_memory": on_gpu}


_PRECISIONS: dict[str, str] = {}


def _precision(network: str) -> str:
    """Return the precision of our last run of the network: the loop by hand computes in the same one."""
    return _PRECISIONS.get(network, "float32")


def quick(network: str, runs: list[Measured], given: argparse.Namespace) -> list[Measured]:
    """Measure our own recipe with the fewest epochs that reach the final score of the best of the others."""
    mine = (OURS, COMPILED, LOOP)
    others = [run for run in runs if run["network"] == network and run["contender"] not in mine]
    if not others:
        return []
    wanted = max(run["accuracy"] for run in others)
    found: list[Measured] = []
    for epochs in (1, 2, 4, 6, 8, 12, 16):
        found.append({
            "contender": "cnnbench, own recipe", "network": network, "repeat": 0,
            **ours([*QUICK[RECIPES[network].data], f"training.epochs={epochs}"], 0, given.device),
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


def _run(command: list[str], device: str, told: str = "") -> tuple[str, float, int]:
    """Run a command on a device; return its output, its seconds, and the most bytes of memory it took."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as output:
        given.write(told)
        given.seek(0)
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == CPU else {}
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **hidden}
        process = subprocess.Popen(
            command, stdin=given, stdout=output, stderr=subprocess.PIPE, env=environment
        )
        assert process.stderr is not None
        with process.stderr:
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
    heads = ["network", "contender", *(head for head, *_ in _columns(content))]
    lines = [
        f"Device: {content['device']}.", "",
        f"Its peak, floating-point operations a second: {peaks}.", "",
        f"| {' | '.join(heads)} |", f"| {' | '.join(['---'] * len(heads))} |",
    ]  # fmt: skip
    for network, name, runs in groups(content):
        us = next((r for n, c, r in groups(content) if (n, c) == (network, OURS)), runs)
        cells = [_cell(runs, us, *column) for _, *column in _columns(content)]
        precision = f", {runs[0]['precision']}" if "precision" in runs[0] else ""
        epochs = "1 epoch" if runs[0]["epochs"] == 1 else f"{runs[0]['epochs']} epochs"
        lines.append(f"| {network}, {epochs} | {name}{precision} | {' | '.join(cells)} |")
    if any(run["network"] == AIRBENCH for run in content["runs"]):
        empty = " – |" * (len(heads) - 5)
        lines += [
            f"| {AIRBENCH}, {epochs} epochs | {name}, as published | – | {seconds} | {accuracy:.3f} |{empty}"
            for name, epochs, seconds, accuracy in PUBLISHED
        ]
        lines += ["", SOURCE]
    return "\n".join(lines) + "\n"


def _columns(content: Measured) -> list[tuple[str, str, str, float, bool | None]]:
    """Return head, key, form, unit of each column, and whether more is better; None shows no ratio."""
    columns: list[tuple[str, str, str, float, bool | None]] = [
        ("examples/s", "examples_per_second", ",.0f", 1, True),
        ("whole command, s", "seconds", ".1f", 1, False),
        ("test accuracy", "accuracy", ".3f", 1, None),
        ("peak memory, GB", "memory", ".2f", 1e9, False),
    ]
    if any("gpu_memory" in run for run in content["runs"]):
        columns.append(("of the GPU, GB", "gpu_memory", ".2f", 1e9, False))
    return columns


def _cell(
    runs: list[Measured], us: list[Measured], key: str, form: str, unit: float, more_is_better: bool | None
) -> str:
    values = sorted(run[key] / unit for run in runs)
    middle, mine = median(values), median(run[key] / unit for run in us)
    if more_is_better is None:
        return f"{middle:{form}}"
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
