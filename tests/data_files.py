"""Tiny data sets in the formats of the real ones, as they lie in a `data_dir`, and folders of pictures."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnbench.data.sources.mnist import IDX_FILES


def images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx_folder(folder: Path, train: int = 30, test: int = 10, *, packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    arrays = [
        images(train, 28, 28),
        np.arange(train) % 10,
        images(test, 28, 28, seed=1),
        np.arange(test) % 10,
    ]
    for name, array in zip(IDX_FILES, arrays, strict=True):
        data = idx_bytes(array.astype(np.uint8))
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
    return folder


def cifar_batch(n: int, label_key: str, seed: int, *, as_bytes: bool) -> dict[Any, Any]:
    batch = {"data": images(n, 3072, seed=seed), label_key: [i % 10 for i in range(n)]}
    return {key.encode(): value for key, value in batch.items()} if as_bytes else dict(batch)


def write_cifar10(root: Path, n: int = 4, *, protocol: int = 2, as_bytes: bool = True) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        batch = cifar_batch(n, "labels", seed, as_bytes=as_bytes)
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    return folder


def write_cifar100(root: Path) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, n in (("train", 12), ("test", 4)):
        batch = cifar_batch(n, "fine_labels", n, as_bytes=True) | {b"coarse_labels": [0] * n}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def write_california(root: Path, n: int = 700, unit: float = 1, **replaced: np.ndarray) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    arrays = {
        "x": unit * rng.normal(size=(n, 8)).astype(np.float32),
        "y": rng.uniform(15e3, 5e5, n).astype(np.float32),
    }
    path = root / "california_housing.npz"
    np.savez(path, **(arrays | replaced))
    return path


def write_mnist_npz(root: Path) -> Path:
    path = root / "mnist.npz"
    labels = np.arange(20, dtype=np.uint8) % 10
    np.savez(path, x_train=images(20, 28, 28), y_train=labels, x_test=images(10, 28, 28), y_test=labels[:10])
    return path


def write_everything(root: Path) -> None:
    write_cifar10(root)
    write_cifar100(root)
    write_idx_folder(root / "fashion-mnist")
    write_mnist_npz(root)
    write_california(root)


def write_scans(root: Path) -> Path:
    """Write four pictures of each of 16 patients, in a folder for each of two classes."""
    for patient in range(16):
        place = root / ("ill" if patient % 2 else "well")
        place.mkdir(parents=True, exist_ok=True)
        for i in range(4):
            Image.new("RGB", (16, 16), (100 * (patient % 2), patient, i)).save(
                place / f"patient{patient}_{i}.png"
            )
    return root


def write_pictures(root: Path, *classes: str, count: int = 20) -> Path:
    """Write pictures of 16×16 pixels, those of a class of one kind of colour, in a folder for each class."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            colour = (40 + 160 * number // max(len(classes) - 1, 1), 5 * i, 100)
            Image.new("RGB", (16, 16), colour).save(root / name / f"{i}.png")
    return root
