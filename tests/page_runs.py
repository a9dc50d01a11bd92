"""Run folders as runs leave them, written by hand for the tests of pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.runs.folder import RunFolder

CONFIG: dict[str, Any] = {
    "seed": 0,
    "model": {"_target_": "cnnbench.models.cnn.cnn", "filters": [8], "dropout": 0.0},
    "optimizer": {"_target_": "keras.optimizers.Adam", "learning_rate": 0.001},
}


def history(value: float, epochs: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "loss": 1 / epoch,
            "accuracy": value,
            "val_loss": 2 / epoch,
            "val_accuracy": value * epoch / epochs,
            "learning_rate": 0.001,
            "seconds": 0.5,
            "examples_per_second": 1000.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def figures_of(value: float | None, seed: int, parameters: int, seconds: float, name: str) -> dict[str, Any]:
    return {
        "status": "done",
        "name": name,
        "task": "multiclass",
        "class_names": ["cat", "dog"],
        "seed": seed,
        "objective": "val_accuracy",
        "value": value,
        "metrics": {
            "train": {"loss": 0.25, "accuracy": 0.875},
            "val": {"loss": 0.5, "accuracy": value},
            "test": {"loss": 0.625, "accuracy": 0.5, "f1_macro": 0.375},
        },
        "best_epoch": 3,
        "epochs": 4,
        "cost": {
            "parameters": parameters,
            "flops_per_example": 2_000_000,
            "examples_per_second": 1000.0,
            "latency_seconds": 0.002,
            "peak_memory_bytes": 10**9,
            "checkpoint_bytes": 50_000,
            "seconds": {"data": 0.25, "fit": seconds},
        },
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:01:00+00:00",
    }


def write_run(
    path: Path,
    value: float | None = 0.75,
    seed: int = 0,
    parameters: int = 1000,
    seconds: float = 8.0,
    dropout: float | str = 0.0,
    overrides: Sequence[str] = (),
    notes: Sequence[str] = (),
    name: str = "cnn_pets",
    epochs: int = 4,
) -> RunFolder:
    """Write the folder of a finished run."""
    run = RunFolder.create(path)
    run.write_config({**CONFIG, "seed": seed, "model": {**CONFIG["model"], "dropout": dropout}}, overrides)
    run.write_environment(
        {
            "python": "3.11",
            "device": "CPU",
            "versions": {"keras": "3.15"},
            "git": None,
            "code": "0123456789abcdef",
            "dataset": {
                "name": "pets",
                "splits": {"train": 80},
                "notes": list(notes),
                "fingerprint": "f" * 8,
            },
            "command": ["cnnbench", *overrides],
        }
    )
    for row in history(value or 0.0, epochs):
        run.append_history(row)
    run.write_metrics(figures_of(value, seed, parameters, seconds, name))
    return run


def write_failed(path: Path, cause: str, overrides: Sequence[str] = ()) -> RunFolder:
    run = RunFolder.create(path)
    run.write_config(CONFIG, overrides)
    run.write_end("cnn_pets", 0, {"status": "failed", "cause": cause})
    return run


def write_sweep(folder: Path) -> None:
    """Write three configs of two seeds (the best, the cheapest, one that is neither), and a failure."""
    for number, (value, parameters, dropout) in enumerate(
        [(0.9, 3000, 0.0), (0.8, 1000, 0.25), (0.7, 2000, 0.5)]
    ):
        for seed in (0, 1):
            write_run(
                folder / f"run_{number}{seed}",
                value + seed / 100,
                seed,
                parameters,
                dropout=dropout,
                overrides=[f"model.dropout={dropout}", f"seed={seed}"],
            )
    write_failed(folder / "run_bad", "the loss became nan in epoch 1", ["seed=7"])
