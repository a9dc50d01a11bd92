"""scikit-learn's digits: 1,797 handwritten digits, 8×8 grey, part of the package (UCI, Alpaydin 1998)."""

from __future__ import annotations

import numpy as np

from cnnbench.data.dataset import Dataset, Split

TO_BYTES = 15  # pixels are 0 to 16; times 15 they fill the range of uint8, up to 240


def digits() -> Dataset:
    """Load the digits: x ``(1437, 8, 8, 1)`` and ``(360, 8, 8, 1)`` uint8, 10 classes, always the same split.

    The test split is a fifth, stratified by class (`random_state=0`).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    images = (source.images * TO_BYTES).astype(np.uint8)[..., np.newaxis]
    x_train, x_test, y_train, y_test = train_test_split(
        images, source.target, test_size=0.2, random_state=0, stratify=source.target
    )
    return Dataset(
        name="digits",
        task="multiclass",
        train=Split(x_train, y_train),
        test=Split(x_test, y_test),
        class_names=tuple("0123456789"),
    )
