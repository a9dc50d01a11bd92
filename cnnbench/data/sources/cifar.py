"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 32×32 colour photographs, 50,000 + 10,000.

Read from the unpacked folders directly: Keras's loader insists on the 170 MB archive, even where the
unpacked folder is there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnnbench.data.dataset import Dataset, Split
from cnnbench.data.fetch import Layout, Source, find
from cnnbench.data.reading import damaged, read_pickle

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_CIFAR100_NAMES.split())
PIXELS = 3 * 32 * 32
MOST_LABEL = 255  # they are kept as bytes


def cifar10(data_dir: str | None = None) -> Dataset:
    """Load CIFAR-10, official split: x ``(50000, 32, 32, 3)`` and ``(10000, 32, 32, 3)`` uint8, 10 classes.

    Args:
        data_dir: looked in first, for ``cifar-10-batches-py/`` (also below ``cifar-10-batches-py-target/``).

    Raises:
        CnnbenchError: the files are nowhere and cannot be downloaded, or are damaged.
    """
    batches = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    found = find(_source("CIFAR-10", "cifar10", "cifar-10-batches-py", batches), data_dir)
    return Dataset(
        name="cifar10",
        task="multiclass",
        train=_read_split(found.paths[:-1], "labels"),
        test=_read_split(found.paths[-1:], "labels"),
        class_names=CIFAR10_CLASSES,
        notes=found.notes,
    )


def cifar100(data_dir: str | None = None) -> Dataset:
    """Load CIFAR-100 with its fine labels, official split; arrays as CIFAR-10's, 100 classes.

    Args:
        data_dir: looked in first, for ``cifar-100-python/`` (also below ``cifar-100-python-target/``).

    Raises:
        CnnbenchError: the files are nowhere and cannot be downloaded, or are damaged.
    """
    found = find(_source("CIFAR-100", "cifar100", "cifar-100-python", ["train", "test"]), data_dir)
    return Dataset(
        name="cifar100",
        task="multiclass",
        train=_read_split(found.paths[:1], "fine_labels"),
        test=_read_split(found.paths[1:], "fine_labels"),
        class_names=CIFAR100_CLASSES,
        notes=found.notes,
    )


def _source(name: str, keras_name: str, folder: str, files: list[str]) -> Source:
    return Source(
        name=name,
        layouts=tuple(
            Layout(f"{parent}{folder}/", tuple(f"{parent}{folder}/{file}" for file in files))
            for parent in ("", f"{folder}-target/")  # the second is where Keras unpacks
        ),
        keras_name=keras_name,
        host="www.cs.toronto.edu",
    )


def _read_split(paths: tuple[Path, ...], label_key: str) -> Split:
    """Read batches of equal size into one array, one batch at a time: all of them at once need twice."""
    x = y = np.empty(0, np.uint8)
    for i, path in enumerate(paths):
        pixels, labels = _read_batch(path, label_key)
        size = len(labels)
        if i == 0:
            x = np.empty((len(paths) * size, 32, 32, 3), np.uint8)
            y = np.empty(len(paths) * size, np.uint8)
        if len(x) != len(paths) * size:
            raise damaged(path, f"{size} images, {len(x) // len(paths)} in {paths[0].name}")
        planes = pixels.reshape(-1, 3, 32, 32)
        for channel in range(3):  # on disk: all of red, then green, then blue
            x[i * size : (i + 1) * size, ..., channel] = planes[:, channel]
        y[i * size : (i + 1) * size] = labels
    return Split(x, y)


def _read_batch(path: Path, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    batch = read_pickle(path)
    pixels = batch.get("data")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (PIXELS,):
        raise damaged(path, f"no array 'data' of unsigned bytes with {PIXELS} columns")
    try:
        labels = np.asarray(batch.get(label_key))
    except ValueError as error:  # lists of unequal lengths
        raise damaged(path, f"no list '{label_key}' of class indices") from error
    if labels.dtype.kind not in "ui" or (labels.size and not 0 <= labels.min() <= labels.max() <= MOST_LABEL):
        raise damaged(path, f"no list '{label_key}' of class indices")
    if labels.shape != (len(pixels),):
        raise damaged(path, f"{len(pixels)} images and labels of shape {labels.shape}")
    return pixels, labels
