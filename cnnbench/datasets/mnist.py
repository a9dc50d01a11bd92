"""MNIST (LeCun, Cortes and Burges, 1998): handwritten digits, 28×28 grey, 60,000 + 10,000."""

from __future__ import annotations

from cnnbench.datasets.core import Dataset
from cnnbench.datasets.files import Layout, Source, find
from cnnbench.datasets.idx import image_split, layouts, read_splits
from cnnbench.datasets.reading import read_npz

KERAS_LAYOUT = Layout("mnist.npz", ("mnist.npz",))
SOURCE = Source(
    name="MNIST",
    layouts=(KERAS_LAYOUT, *layouts("mnist", "MNIST/raw")),
    keras_name="mnist",
    host="storage.googleapis.com",
)


def mnist(data_dir: str | None = None) -> Dataset:
    """Load MNIST, official split: x ``(60000, 28, 28, 1)`` and ``(10000, 28, 28, 1)`` uint8, 10 classes.

    Args:
        data_dir: looked in first, for ``mnist.npz`` or ``mnist/*.gz``.

    Raises:
        CnnbenchError: the files are nowhere and cannot be downloaded, or are damaged.
    """
    found = find(SOURCE, data_dir)
    if found.layout is KERAS_LAYOUT:
        path = found.paths[0]
        x_train, y_train, x_test, y_test = read_npz(path, "x_train", "y_train", "x_test", "y_test")
        train, test = image_split(x_train, y_train, path), image_split(x_test, y_test, path)
    else:
        train, test = read_splits(found.paths)
    return Dataset(
        name="mnist",
        task="multiclass",
        train=train,
        test=test,
        class_names=tuple("0123456789"),
        notes=found.notes,
    )
