"""`make bench`: who is measured on which device, and the table. No measurement is taken here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import bench  # noqa: E402

SMI = """#!/bin/sh
case "$1" in *driver_version) echo "NVIDIA H100 80GB HBM3, 580.95.05";; *) echo 0;; esac
"""


@pytest.fixture
def has_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.name == "nt":
        pytest.skip("the stand-in is a shell script")
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.fixture
def bench_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[list[str]]]:
    """Run `bench.py` with processes that only say what they were told; return their lines."""

    def call(*line: str, on_gpu: bool = False) -> list[list[str]]:
        told: list[list[str]] = []

        def run(command: list[str], device: str, given: str = "") -> tuple[str, float, int]:
            told.append([device, *command])
            if command[-1].endswith("peak.py"):
                return json.dumps({"matrix product, float32": 1e12}), 1.0, 0
            for folder in [Path(word.removeprefix("run_dir=")) for word in command if "run_dir=" in word]:
                folder.mkdir()
                cost = {"peak_gpu_memory_bytes": 2e9} if on_gpu else {}
                metrics = {"metrics": {"test": {"accuracy": 0.9}}, "cost": cost}
                (folder / "metrics.json").write_text(json.dumps(metrics))
                (folder / "environment.json").write_text(json.dumps({"precision": "float32"}))
                rows = [json.dumps({"examples_per_second": rate}) + "\n" for rate in (10, 3000)]
                (folder / "history.jsonl").write_text("".join(rows))
            found = {"examples_per_second": 1500.0, "accuracy": 0.8} | ({"gpu_memory": 4e9} if on_gpu else {})
            return json.dumps(found), 30.0, 10**9

        monkeypatch.setattr(bench, "_run", run)
        monkeypatch.setattr(bench, "data", lambda network: tmp_path)
        monkeypatch.setattr(sys, "argv", ["bench.py", "--output", str(tmp_path / "out"), *line])
        bench.main()
        return told

    return call


def cells(tmp_path: Path) -> dict[tuple[str, str], list[str]]:
    lines = (tmp_path / "out" / "table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return {(row[0], row[1]): row[2:] for row in rows}


def test_without_a_gpu_its_contenders_are_left_out_with_one_line(
    bench_of: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_of("--repeats", "1")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == ("left out without a GPU: airbench; cnnbench, XLA; PyTorch, eager; PyTorch, CUDA graph")
    table = cells(tmp_path)
    names = {name.split(",")[0] for _, name in table} - {"contender", "---"}
    cpu = {"cnnbench", "plain Keras", "plain PyTorch", "tuned PyTorch", "Lightning", "TensorFlow loop"}
    assert names == cpu
    assert table["N3, 3 epochs", "cnnbench, float32"] == ["3,000", "30.0", "0.900", "1.00"]
    assert table["N3, 3 epochs", "plain Keras"] == [
        "1,500 [2.00 ×]",
        "30.0 [1.00 ×]",
        "0.800",
        "1.00 [1.00 ×]",
    ]
    text = (tmp_path / "out" / "table.md").read_text()
    assert text.startswith(f"Device: {bench.described('cpu')}.\n")
    assert "as published" not in text.lower()


def test_on_a_gpu_the_table_names_it_with_its_driver_and_has_what_others_published(
    bench_of: Callable[..., Any], has_gpu: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = bench_of("--repeats", "1", "--batch-size", "512", on_gpu=True)
    left_out = "left out on a GPU: plain PyTorch; tuned PyTorch; Lightning; TensorFlow loop"
    assert capsys.readouterr().out.splitlines()[0] == left_out
    text, table = (tmp_path / "out" / "table.md").read_text(), cells(tmp_path)
    assert text.startswith("Device: NVIDIA H100 80GB HBM3, driver 580.95.05; ")
    assert table["network", "contender"][-1] == "of the GPU, GB"
    assert table["N3, 3 epochs", "PyTorch, CUDA graph"][-1] == "4.00 [2.00 ×]"
    assert table["airbench, 2 epochs", "cnnbench, float32"][-1] == "2.00"
    assert table["airbench, 9.9 epochs", "airbench94.py, as published"] == ["–", "3.83", "0.940", "–", "–"]
    assert "https://github.com/KellerJordan/cifar10-airbench" in text
    assert not [key for key in table if key[0].startswith("airbench") and "PyTorch" in key[1]]
    graph = next(line for line in told if "graph" in line)
    assert graph[-2:] == ["--batch-size", "512"]
    ours = next(line for line in told if "training.jit_compile=true" in line)
    assert {"device=gpu", "training.batch_size=512", "training.epochs=3"} < set(ours)
    of_airbench = next(line for line in told if "experiment=best/cifar10_94" in line)
    assert not [word for word in of_airbench if word.startswith("training.")]  # the whole recipe


def test_a_gpu_is_left_alone_where_the_cpu_is_asked_for(
    bench_of: Callable[..., Any], has_gpu: None, tmp_path: Path
) -> None:
    told = bench_of("--device", "cpu", "--repeats", "1", "--networks", "N2")
    assert {device for device, *_ in told} == {"cpu"}
    assert "H100" not in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.skipif(os.name == "nt", reason="os.wait4 is of POSIX")
@pytest.mark.parametrize(("device", "seen"), [("cpu", ""), ("gpu", "3")])
def test_a_process_sees_the_gpu_or_none(device: str, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    asks = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    assert bench._run([sys.executable, "-c", asks], device)[0] == f"{seen}\n"


def test_who_computes_without_the_gpu_is_no_contender_of_it(
    bench_of: Callable[..., Any], has_gpu: None
) -> None:
    with pytest.raises(SystemExit, match="plain Keras computed without the GPU"):
        bench_of("--contenders", "plain Keras", "--repeats", "1", on_gpu=False)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("--device", "gpu"), "there is no GPU here"),
        (("--contenders", "PyTorch, eager"), "nothing is left to measure"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    line: tuple[str, ...], said: str, bench_of: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        bench_of(*line)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_what_the_doctor_is_measured_by_is_planted(tmp_path: Path) -> None:
    import doctor
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("training_set", 40), ("test_set", 12)):
        for number in range(count):
            place = tmp_path / "all" / split / ("a", "b")[number % 2] / f"{split}{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(place)
    planted = doctor.plant(tmp_path / "all", tmp_path / "one", 3, pictures=30, flips=6)
    assert (len(planted.flipped), len(planted.copied)) == (6, 4)
    assert not planted.flipped & planted.copied
    for name in planted.flipped:  # an even number is an a, wherever it lies
        _, label, file = name.split("/")
        assert (tmp_path / "one" / name).is_file()
        assert label != ("a", "b")[int(file.removeprefix("training_set").removesuffix(".png")) % 2]
    assert len([*(tmp_path / "one").glob("train/*/*")]) == 30
    assert len([*(tmp_path / "one").glob("test/*/again_*.jpg")]) == 4
    again = doctor.plant(tmp_path / "all", tmp_path / "two", 3, pictures=30, flips=6)
    assert again == planted


def test_the_order_of_the_probe_is_compared_with_that_of_fine_tuning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from types import SimpleNamespace

    import numpy as np
    import probe

    from cnnbench.data import Dataset, Split

    def pictures() -> Dataset:
        split = Split(np.zeros((2100, 4, 4, 3), np.uint8), np.arange(2100) % 10)
        return Dataset("drawn", "multiclass", split, split, class_names=list("abcdefghij"))

    seen: list[list[str]] = []

    def ranked(*line: str, backbones: list[str]) -> SimpleNamespace:
        with np.load(line[1].partition("=")[2]) as arrays:
            assert len(arrays["x_train"]) == len(arrays["y_train"]) in (1000, 1500)
            assert len(arrays["x_test"]) == len(arrays["y_test"]) == probe.TESTED
        scores = [*zip(backbones, (0.7, 0.8, 0.9), strict=True), ("pixels", 0.3)]
        return SimpleNamespace(
            ranked=[SimpleNamespace(name=name, score=score, is_worse=score < 0.75) for name, score in scores]
        )

    def run(*line: str) -> SimpleNamespace:
        seen.append(list(line))
        accuracy = {"A": 0.8, "B": 0.75, "C": 0.9}[line[4].removeprefix("model.backbone=")]
        return SimpleNamespace(metrics={"test_accuracy": accuracy})

    monkeypatch.setattr(probe, "cifar10", pictures)
    monkeypatch.setattr(probe, "fashion_mnist", pictures)
    monkeypatch.setattr(probe, "first_layer", lambda backbone: f"first of {backbone}")
    monkeypatch.setattr(probe.api, "probe", ranked)
    monkeypatch.setattr(probe.api, "run", run)
    output = tmp_path / "probe.json"
    monkeypatch.setattr(
        sys, "argv", ["probe", "--backbones", "A", "B", "C", "--seeds", "2", "--output", str(output)]
    )
    probe.main()
    told = capsys.readouterr().out
    assert told.count("Kendall's tau 0.33") == 2  # one of three pairs is the other way round
    assert told.count("really behind C by the probe: A\n") == 2
    assert told.count("of these 1 of 1 are behind it when fine-tuned") == 2
    assert len(seen) == 2 * 3 * 2
    assert "training.fine_tuning={from_layer: first of A, epochs: 5," in seen[0][5]
    assert json.loads(output.read_text())["cifar10"]["fine_tuned"] == {"A": 0.8, "B": 0.75, "C": 0.9}
