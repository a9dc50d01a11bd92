"""Fashion-MNIST (Zalando Research, 2017): articles of clothing, 28×28 grey, 60,000 + 10,000."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cnnbench.datasets.core import Dataset, Split
from cnnbench.datasets.files import Source, find
from cnnbench.datasets.idx import layouts, read_splits
from cnnbench.errors import CnnbenchError

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SOURCE = Source(
    name="Fashion-MNIST",
    layouts=layouts("fashion-mnist", "FashionMNIST/raw"),
    keras_name="fashion_mnist",
    host="storage.googleapis.com",
    remedy="on Debian: apt install dataset-fashion-mnist",
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
            out and splits the 60,000 with scikit-learn's `train_test_split(test_size=, random_state=)`.
        split_seed: the `random_state` of that; without meaning when `test_size` is None.

    Raises:
        CnnbenchError: the files are nowhere and cannot be downloaded, or are damaged; or nothing is left
            on one side of the split.
    """
    found = find(SOURCE, data_dir)
    train, test = read_splits(found.paths)
    if test_size is not None:
        train, test = _split(train, test_size, split_seed)
    return Dataset(
        name="fashion_mnist",
        task="multiclass",
        train=train,
        test=test,
        class_names=CLASS_NAMES,
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
