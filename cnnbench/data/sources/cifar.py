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
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
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
MOST_LABEL = 255  # labels are kept as bytes


def cifar10(data_dir: str | None = None) -> Dataset:
    """Load CIFAR-10, official split: x ``(50000, 32, 32, 3)`` and ``(10000, 32, 32, 3)`` uint8, 10 classes.

    Args:
        data_dir: looked in first, for ``cifar-10-batches-py/`` (also below ``cifar-10-batches-py-target/``).

    Raises:
        CnnbenchError: the files are nowhere and cannot be downloaded, or are damaged.
    """
    batches = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
    return _load("CIFAR-10", "cifar-10-batches-py", batches, "labels", CIFAR10_CLASSES, data_dir)


def cifar100(data_dir: str | None = None) -> Dataset:
    """Load CIFAR-100 with its fine labels, official split; arrays as CIFAR-10's, 100 classes.

    Args:
        data_dir: looked in first, for ``cifar-100-python/`` (also below ``cifar-100-python-target/``).

    Raises:
        CnnbenchError: the files are nowhere and cannot be downloaded, or are damaged.
    """
    files = ("train", "test")
    return _load("CIFAR-100", "cifar-100-python", files, "fine_labels", CIFAR100_CLASSES, data_dir)


def _load(
    title: str,
    folder: str,
    files: tuple[str, ...],
    labels: str,
    classes: tuple[str, ...],
    data_dir: str | None,
) -> Dataset:
    """Read the batches of one of the two sets; the last file is the test split."""
    name = title.replace("-", "").lower()  # as Keras calls it
    layouts = tuple(
        Layout(f"{place}/", tuple(f"{place}/{file}" for file in files))
        for place in (folder, f"{folder}-target/{folder}")  # the second is where Keras unpacks
    )
    found = find(Source(title, layouts, keras_name=name, host="www.cs.toronto.edu"), data_dir)
    *batches, test = (_read_batch(path, labels) for path in found.paths)
    first = len(batches[0][1])
    for path, (x, _) in zip(found.paths[:-1], batches, strict=True):
        if len(x) != first:
            raise damaged(path, f"{len(x)} images, {first} in {files[0]}")
    x_train, y_train = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return Dataset(
        name=name,
        task="multiclass",
        train=Split(x_train, y_train),
        test=Split(*test),
        class_names=classes,
        notes=found.notes,
    )


def _read_batch(path: Path, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images ``(n, 32, 32, 3)`` and labels ``(n,)`` of one file, both uint8."""
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
    planes = pixels.reshape(-1, 3, 32, 32)  # all of red, then green, then blue
    return np.stack([planes[:, channel] for channel in range(3)], axis=-1), labels.astype(np.uint8)
