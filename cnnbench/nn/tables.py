"""The first layer of a network for a table, which takes the rows as they are in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("cnnbench")
class TableColumns(keras.layers.Layer):
    """Layer that fills missing values and gives each category a value of 0 or 1.

    A row ``(batch, columns)`` has numbers and codes of categories; what is missing is NaN, or a code that
    there is not. It is filled with what `adapt` measures on training rows: the median of numbers, the most
    frequent category. ``(batch, values)`` then has the numbers as they are, and after them one value for each
    category of each column.

    Args:
        names: of the columns.
        categories: of each column, in the order of their codes; none for numbers.
    """

    def __init__(self, names: Sequence[str], categories: Sequence[Sequence[str]], **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})  # under every precision: codes are whole numbers
        self.names = [str(name) for name in names]
        self.categories = [[str(one) for one in of_column] for of_column in categories]
        counts = [len(of_column) for of_column in self.categories]
        self._numbers = np.array([index for index, count in enumerate(counts) if not count], np.int32)
        self._repeated = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self._codes = np.concatenate([np.arange(count) for count in counts], dtype=np.float32)
        self._above = np.array([-0.5 if count else -np.inf for count in counts], np.float32)
        self._below = np.array([count - 0.5 if count else np.inf for count in counts], np.float32)

    @property
    def width(self) -> int:
        """Values that a row becomes."""
        return len(self._numbers) + len(self._codes)

    def build(self, input_shape: Any) -> None:
        self.fill = self.add_weight(
            name="fill", shape=(len(self.names),), initializer="zeros", trainable=False
        )

    def adapt(self, x: np.ndarray) -> list[str]:
        """Measure what missing values are filled with.

        Args:
            x: ``(n, columns)`` training rows.

        Returns:
            one line, if there are missing values; else none.
        """
        filled, told = np.zeros(len(self.names), np.float32), []
        for index, (name, categories) in enumerate(zip(self.names, self.categories, strict=True)):
            known = x[:, index][~np.isnan(x[:, index])]
            if categories:
                filled[index] = np.bincount(known.astype(np.int64), minlength=len(categories)).argmax()
            elif len(known):
                filled[index] = np.median(known)
            if len(known) < len(x):
                by = categories[int(filled[index])] if categories else f"{filled[index]:g}"
                told.append(f"{name} with {by} ({len(x) - len(known):,} of {len(x):,} train rows lack it)")
        self.fill.assign(filled)
        return [f"missing values are filled in the model: {'; '.join(told)}"] if told else []

    def call(self, inputs: Any) -> Any:
        # By itself: where the condition is another, the conversion to ONNX multiplies by 0, which leaves NaN.
        rows = ops.where(ops.isnan(inputs), self.fill, inputs)
        is_known = ops.logical_and(rows > self._above, rows < self._below)
        rows = ops.where(is_known, rows, self.fill)
        parts = []
        if len(self._numbers):
            parts.append(ops.take(rows, self._numbers, axis=1))
        if len(self._codes):
            same = ops.equal(ops.take(rows, self._repeated, axis=1), self._codes)
            parts.append(ops.cast(same, "float32"))
        return ops.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "names": self.names, "categories": self.categories}
