"""Regression on columns of numbers: California housing (1990 census, StatLib) and diabetes (Efron 2004)."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cnnbench.data.dataset import Dataset, Split
from cnnbench.data.fetch import Layout, Source, find
from cnnbench.data.reading import damaged, read_npz

CALIFORNIA = Source(
    name="California housing",
    layouts=(Layout("california_housing.npz", ("california_housing.npz",)),),
    keras_name="california_housing",
    host="storage.googleapis.com",
)
COLUMNS = 8


def california_housing(
    data_dir: str | None = None,
    version: Literal["large", "small"] = "large",
    target_unit: Annotated[float, Field(gt=0)] = 100_000.0,
    ratios: bool = False,
) -> Dataset:
    """Load California housing with the split of `keras.datasets.california_housing.load_data`.

    Args:
        data_dir: looked in first, for ``california_housing.npz``.
        version: ``large``: 16,512 + 4,128 districts; ``small``: 480 + 120, those of the first 600.
        target_unit: dollars that count as 1 in y; 100000 keeps the loss near 1.
        ratios: adds the logarithms of three ratios as columns: rooms per household, bedrooms per room and
            people per household. Networks learn ratios badly, and a district's totals say little.

    Returns:
        x ``(n, 8)`` float32, unscaled: longitude, latitude, median age, rooms, bedrooms, population,
        households, median income; ``(n, 11)`` with the ratios. y ``(n,)`` float32: the median house value
        in `target_unit` dollars.

    Raises:
        CnnbenchError: the file is nowhere and cannot be downloaded, or is damaged.
    """
    found = find(CALIFORNIA, data_dir)
    x, y = read_npz(found.paths[0], "x", "y")
    is_table = x.ndim == 2 and x.shape[1] == COLUMNS and y.shape == x.shape[:1]
    if not is_table or x.dtype.kind != "f" or y.dtype.kind != "f":
        raise damaged(found.paths[0], f"x is {x.dtype} {x.shape} and y {y.dtype} {y.shape}")
    if version == "small":
        x, y = x[:600], y[:600]
    order = np.arange(len(x))
    # Keras's own shuffle (its seed and generator), so that figures can be compared.
    np.random.RandomState(113).shuffle(order)
    with np.errstate(over="ignore", invalid="ignore"):  # `Dataset` refuses values that are not finite
        x = x[order].astype(np.float32, copy=False)
        y = (y[order] / target_unit).astype(np.float32)
        if ratios:
            rooms, bedrooms, people, households = np.maximum(x[:, 3:7], 1).T
            columns = (rooms / households, bedrooms / rooms, people / households)
            x = np.concatenate([x, np.log(np.stack(columns, axis=1))], axis=1)
    trained = int(len(x) * (1 - 0.2))
    return Dataset(
        name="california_housing",
        task="regression",
        train=Split(x[:trained], y[:trained]),
        test=Split(x[trained:], y[trained:]),
        notes=found.notes,
    )


def diabetes() -> Dataset:
    """Load scikit-learn's diabetes: x ``(353, 10)`` and ``(89, 10)`` float32, unscaled.

    y ``(n,)`` float32 is a measure of the disease's progression after one year, 25 to 346. The split is
    always the same (`random_state=0`).
    """
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    source = load_diabetes(scaled=False)
    x_train, x_test, y_train, y_test = train_test_split(
        source.data.astype(np.float32), source.target.astype(np.float32), test_size=0.2, random_state=0
    )
    return Dataset(
        name="diabetes",
        task="regression",
        train=Split(x_train, y_train),
        test=Split(x_test, y_test),
    )
