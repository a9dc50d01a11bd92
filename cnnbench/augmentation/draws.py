"""Where chance comes in: everything random about a batch, from its seed."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# One row each of one table of uniform numbers. All are drawn whatever is switched on, which costs nothing:
# so an operation that is added changes nothing about the others.
NAMES = (
    "way_y", "way_x", "angle", "zoom", "cutout_y", "cutout_x", "brightness", "contrast",
    "mixup", "cutmix", "cutmix_y", "cutmix_x", "choice",
)  # fmt: skip


class Draws:
    """Uniform numbers of one batch, by name.

    Args:
        seed: ``(2,)`` int32.
        batch: how many examples.
    """

    def __init__(self, seed: Any, batch: Any) -> None:
        self.batch = batch
        # Whole numbers of Philox are the same on every device and under XLA; fractions are not. The seed is
        # its key as it is: TensorFlow's own functions scramble it first, which costs as much again.
        bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=(len(NAMES), batch),
            key=tf.reshape(tf.bitcast(seed, tf.uint64), (1,)),
            counter=tf.zeros(2, tf.uint64),
            alg=tf.random.Algorithm.PHILOX.value,
            dtype=tf.uint32,
        )
        # 23 of their bits: with 24, the largest times a count might round up to the count.
        table = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32) * 2.0**-23
        self._rows = dict(zip(NAMES, tf.unstack(table), strict=True))

    def __getitem__(self, name: str) -> Any:
        """``(batch,)`` in [0, 1)."""
        return self._rows[name]

    def spread(self, name: str, most: float) -> Any:
        """Between -most and most."""
        return (2 * self[name] - 1) * most

    def whole(self, name: str, count: int) -> Any:
        """int32 from 0 to count - 1."""
        return tf.cast(self[name] * count, tf.int32)

    def coin(self, name: str) -> Any:
        return self[name] < 0.5
