"""The batches of one split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from cnnbench.datasets.core import Examples, Split

Augment = Callable[[Any, Any, Any], tuple[Any, Any]]


class Feed:
    """The batches of one split, for `fit`, `evaluate` and `predict`.

    The examples stay in memory once, as they are (uint8 pixels); what travels is indices. With a seed the
    order of an epoch depends on that seed and the epoch's number alone, so that a run that goes on in
    epoch 7 meets the batches that it would have met.

    Args:
        split: examples and targets.
        batch_size: the last batch of an epoch may be smaller.
        seed: shuffle by it; None keeps the order.
        augment: from images, labels and a seed ``(2,)`` to both, augmented; the seed depends on the run's
            seed, the epoch and the batch alone.
        column: targets as ``(batch, 1)``, the shape of a single output: a loss that subtracts ``(batch,)``
            from it would compare everything with everything, and say nothing.

    Attributes:
        split, batch_size, seed, augment, column: as given.
        examples, steps: of one epoch.
        epoch: the next one to be drawn, from 0; whoever drives the training sets it.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int | None = None,
        augment: Augment | None = None,
        column: bool = False,
    ) -> None:
        self.column = column
        self.split, self.batch_size, self.seed, self.augment = split, batch_size, seed, augment
        self.examples = len(split)
        self.steps = -(-self.examples // batch_size)
        self.epoch = 0
        with tf.device("CPU:0"):
            targets = tf.constant(split.y)
            take = _reader(split.x)

        def batches(order: Any, epoch: Any) -> tf.data.Dataset:
            numbers = tf.data.Dataset.range(self.steps, output_type=tf.int32)
            return numbers.map(
                lambda number: (
                    order[number * batch_size : (number + 1) * batch_size],
                    tf.stack([tf.constant((seed or 0) % 2**31, tf.int32), epoch * self.steps + number]),
                )
            )

        def examples(indices: Any, batch_seed: Any) -> Any:
            x, y = take(indices), tf.gather(targets, indices)
            if augment:
                x, y = augment(x, y, batch_seed)
            return (x, y[:, None]) if column else (x, y)

        def order(_: Any) -> Any:
            # Asked for when an epoch begins. (A `from_generator` complains when the program ends in one.)
            indices, epoch = tf.numpy_function(self._order, [], (tf.int32, tf.int32), stateful=True)
            return tf.ensure_shape(indices, (self.examples,)), tf.ensure_shape(epoch, ())

        orders = tf.data.Dataset.range(1).map(order)
        options = tf.data.Options()
        options.deterministic = True
        batched = orders.flat_map(batches).map(examples, num_parallel_calls=2)
        known = batched.apply(tf.data.experimental.assert_cardinality(self.steps))
        self.dataset = known.prefetch(2).with_options(options)

    @property
    def augmented(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
        """From images and labels to images as a training step may see them; None without augmentation."""
        augment = self.augment
        if augment is None:
            return None
        return lambda x, y: np.asarray(
            augment(tf.constant(x), tf.constant(y), tf.constant([self.seed or 0, 0]))[0]
        )

    def _order(self) -> tuple[np.ndarray, np.int32]:
        order = np.arange(self.examples, dtype=np.int32)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        return order, np.int32(self.epoch)


def _reader(x: Examples) -> Callable[[Any], Any]:
    """A function from indices to examples: from memory, or from a mapped file through numpy."""
    if isinstance(x, np.ndarray):
        resident = tf.constant(x)
        return lambda indices: tf.gather(resident, indices)

    def read(indices: Any) -> Any:
        examples = tf.numpy_function(x.__getitem__, [indices], x.dtype)
        return tf.ensure_shape(examples, (None, *x.shape[1:]))

    return read
