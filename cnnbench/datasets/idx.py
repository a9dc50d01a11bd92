"""The idx format of MNIST and Fashion-MNIST, and what the two data sets have in common.

Format: two zero bytes, a type code (8 = unsigned byte), the number of axes, the length of each axis as
big-endian 32-bit integers, then the values (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np

from cnnbench.datasets.core import Split
from cnnbench.datasets.files import Layout
from cnnbench.datasets.reading import damaged, reading

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
UNSIGNED_BYTE = 8
MOST_AXES = 3


def layouts(folder: str, torch_folder: str) -> tuple[Layout, ...]:
    """Return the layouts of the four files: gzipped in `folder`, or as torchvision unpacks them."""
    return (
        Layout(f"{folder}/*.gz", tuple(f"{folder}/{file}.gz" for file in FILES)),
        Layout(f"{torch_folder}/*-ubyte", tuple(f"{torch_folder}/{file}" for file in FILES)),
    )


def read_splits(paths: tuple[Path, ...]) -> tuple[Split, Split]:
    """Return train and test from the four files in the order of `FILES`; see `image_split`."""
    x_train, y_train, x_test, y_test = (read_idx(path) for path in paths)
    return image_split(x_train, y_train, paths[0]), image_split(x_test, y_test, paths[2])


def image_split(x: np.ndarray, y: np.ndarray, path: Path) -> Split:
    """Return grey images ``(n, height, width)`` as a split of ``(n, height, width, 1)``.

    Raises:
        CnnbenchError: images or labels have another number of axes or another type, or they are no pairs.
    """
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
