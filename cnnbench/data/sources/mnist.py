"""MNIST and Fashion-MNIST (28×28 grey, 60,000 + 10,000), and a reader of the idx format of both.

Format: two zero bytes, a type code (8 = unsigned byte), the number of axes, the length of each axis as
big-endian 32-bit integers, then the values (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from cnnbench.data.dataset import Dataset, Split
from cnnbench.data.fetch import Found, Layout, Source, find
from cnnbench.data.reading import damaged, read_npz, reading
from cnnbench.errors import CnnbenchError

IDX_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip
UNSIGNED_BYTE = 8
MOST_AXES = 3
MNIST_NPZ = Layout("mnist.npz", ("mnist.npz",))
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def idx_layouts(folder: str, torch_folder: str) -> tuple[Layout, ...]:
    """Return the layouts of the four files: gzipped in `folder`, or as torchvision unpacks them."""
    return (
        Layout(f"{folder}/*.gz", tuple(f"{folder}/{file}.gz" for file in IDX_FILES)),
        Layout(f"{torch_folder}/*-ubyte", tuple(f"{torch_folder}/{file}" for file in IDX_FILES)),
    )


def read_splits(found: Found) -> tuple[Split, Split]:
    """Return the training and the test split, each of x ``(n, 28, 28, 1)`` uint8 and y ``(n,)``."""
    if found.layout is MNIST_NPZ:
        paths = found.paths * len(IDX_FILES)
        arrays = read_npz(paths[0], "x_train", "y_train", "x_test", "y_test")
    else:
        paths, arrays = found.paths, [read_idx(path) for path in found.paths]
    x_train, y_train, x_test, y_test = arrays
    return _image_split(x_train, y_train, paths[0]), _image_split(x_test, y_test, paths[2])


def _image_split(x: np.ndarray, y: np.ndarray, path: Path) -> Split:
    is_pair = x.ndim == 3 and y.shape == x.shape[:1]
    if not is_pair or x.dtype != np.uint8 or y.dtype.kind not in "ui":
        raise damaged(path, f"images are {x.dtype} {x.shape} and labels {y.dtype} {y.shape}")
    return Split(x[..., np.newaxis], y)


def read_idx(path: Path) -> np.ndarray:
    """Return the unsigned bytes of an idx file, gzipped if its name says so; the array is read-only.

    Raises:
        CnnbenchError: the file is damaged, cut off or of another type.
    """
    with reading(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        data = file.read()
    axes = data[3] if len(data) > 3 else 0
    header = 4 + 4 * axes
    if data[:3] != bytes([0, 0, UNSIGNED_BYTE]) or not 0 < axes <= MOST_AXES or len(data) < header:
        raise damaged(path, "it is not an idx file of unsigned bytes")
    shape = tuple(int(length) for length in np.frombuffer(data, ">u4", count=axes, offset=4))
    if len(data) != header + math.prod(shape):
        raise damaged(path, f"{len(data) - header} values where its header says {shape}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _source(name: str, layouts: tuple[Layout, ...], remedy: str = "") -> Source:
    keras_name = name.lower().replace("-", "_")
    return Source(name, layouts, keras_name, host="storage.googleapis.com", remedy=remedy)


def mnist(data_dir: str | None = None) -> Dataset:
    """Load MNIST, official split: x ``(60000, 28, 28, 1)`` and ``(10000, 28, 28, 1)`` uint8, 10 classes.

    Args:
        data_dir: looked in first, for ``mnist.npz`` or ``mnist/*.gz``.

    Raises:
        CnnbenchError: the files are nowhere and cannot be downloaded, or are damaged.
    """
    found = find(_source("MNIST", (MNIST_NPZ, *idx_layouts("mnist", "MNIST/raw"))), data_dir)
    train, test = read_splits(found)
    return Dataset(
        name="mnist",
        task="multiclass",
        train=train,
        test=test,
        class_names=tuple("0123456789"),
        notes=found.notes,
    )


def fashion_mnist(
    data_dir: str | None = None,
    test_size: Annotated[float, Field(gt=0, lt=1)] | None = None,
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 42,
) -> Dataset:
    """Load Fashion-MNIST: x ``(n, 28, 28, 1)`` uint8, 10 classes.

    Args:
        data_dir: looked in first, for ``fashion-mnist/*.gz``.
        test_size: None takes the official 60,000 + 10,000. A fraction leaves the official test images
            out and splits the 60,000 with scikit-learn's `train_test_split`.
        split_seed: the `random_state` of that split; not used when `test_size` is None.

    Raises:
        CnnbenchError: the files are nowhere and cannot be downloaded, or are damaged; or nothing is left
            on one side of the split.
    """
    layouts = idx_layouts("fashion-mnist", "FashionMNIST/raw")
    remedy = "on Debian: apt install dataset-fashion-mnist"
    found = find(_source("Fashion-MNIST", layouts, remedy), data_dir)
    train, test = read_splits(found)
    if test_size is not None:
        train, test = _split(train, test_size, split_seed)
    return Dataset(
        name="fashion_mnist",
        task="multiclass",
        train=train,
        test=test,
        class_names=FASHION_CLASSES,
        notes=found.notes,
    )


def _split(examples: Split, test_size: float, seed: int) -> tuple[Split, Split]:
    from sklearn.model_selection import train_test_split

    try:
        x_train, x_test, y_train, y_test = train_test_split(
            examples.x, examples.y, test_size=test_size, random_state=seed
        )
    except ValueError as error:  # e.g. 0.999999 of 60,000: nothing left to train on
        raise CnnbenchError(f"test_size={test_size}: {error}", hint="for example test_size=0.2") from error
    return Split(x_train, y_train), Split(x_test, y_test)
