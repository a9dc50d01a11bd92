"""The batches of one split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from cnnbench.datasets.core import Examples, Split


class Feed:
    """The batches of one split, for `fit`, `evaluate` and `predict`.

    The examples stay in memory once, as they are (uint8 pixels); what travels is indices. With a seed the
    order of an epoch depends on that seed and the epoch's number alone, so that a run that goes on in
    epoch 7 meets the batches that it would have met.

    Args:
        split: examples and targets.
        batch_size: the last batch of an epoch may be smaller.
        seed: shuffle by it; None keeps the order.

    Attributes:
        epoch: the next one to be drawn, from 0; whoever drives the training sets it.
    """

    def __init__(self, split: Split, batch_size: int, seed: int | None = None) -> None:
        self.examples = len(split)
        self.steps = -(-self.examples // batch_size)
        self.epoch = 0
        self._seed = seed
        with tf.device("CPU:0"):
            y = tf.constant(split.y)
            take = _reader(split.x)

        def batches(order: Any) -> tf.data.Dataset:
            starts = tf.data.Dataset.range(0, self.examples, batch_size)
            return starts.map(lambda start: order[start : start + batch_size])

        orders = tf.data.Dataset.from_generator(
            self._orders, output_signature=tf.TensorSpec((self.examples,), tf.int32)
        )
        gathered = orders.flat_map(batches).map(
            lambda indices: (take(indices), tf.gather(y, indices)), num_parallel_calls=2
        )
        options = tf.data.Options()
        options.deterministic = True
        known = gathered.apply(tf.data.experimental.assert_cardinality(self.steps))
        self.dataset = known.prefetch(2).with_options(options)

    def _orders(self) -> Any:
        if self._seed is None:
            yield np.arange(self.examples, dtype=np.int32)
        else:
            yield np.random.default_rng([self._seed, self.epoch]).permutation(self.examples).astype(np.int32)


def _reader(x: Examples) -> Callable[[Any], Any]:
    """A function from indices to examples: from memory, or from a mapped file through numpy."""
    if isinstance(x, np.ndarray):
        resident = tf.constant(x)
        return lambda indices: tf.gather(resident, indices)

    def read(indices: Any) -> Any:
        examples = tf.numpy_function(x.__getitem__, [indices], x.dtype)
        return tf.ensure_shape(examples, (None, *x.shape[1:]))

    return read
