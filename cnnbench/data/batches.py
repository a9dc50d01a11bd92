"""The feed: batches of one split as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
import tensorflow as tf

from cnnbench.data.dataset import Examples, Split

Augment = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
_as_it_is = tf.autograph.experimental.do_not_convert  # translating a function takes 30 ms


class Feed:
    """The batches of one split, for `fit`, `evaluate` and `predict`.

    The examples stay in memory once, as they are (uint8 pixels), and batches are drawn by indices. With a
    seed the order of an epoch depends on the seed and the epoch's number alone, so that a resumed run draws
    the same batches.

    Args:
        split: examples and targets.
        batch_size: the last batch of an epoch may be smaller.
        seed: of the shuffling; None keeps the order.
        augment: maps images, labels, a seed ``(2,)`` and turns ``(batch,)`` to augmented images and labels.
            The seed depends on the run's seed, the epoch and the batch alone. The turn of an example
            alternates between 0 and 1 from epoch to epoch, and begins with either.
        column: give targets as ``(batch, 1)``, the shape of a single output; a loss would broadcast
            ``(batch,)`` against it.
        parts: each batch can be cut into this many equal ones. An epoch leaves out fewer examples than that,
            with a seed others each time.

    Attributes:
        split, batch_size, seed, augment, column: as given.
        examples, steps: of one epoch.
        epoch: the next one to be drawn, from 0; set by the training.
        first: the step at which each epoch begins.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int | None = None,
        augment: Augment | None = None,
        column: bool = False,
        parts: int = 1,
    ) -> None:
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.augment, self.column = augment, column
        self.examples = len(split) - len(split) % parts
        self.steps = -(-self.examples // batch_size)
        self.first = 0
        self._order = _Order(len(split), self.examples, seed)
        with tf.device("CPU:0"):
            self._take, self._targets = _reader(split.x), tf.constant(split.y)
            self.dataset = self._batches()

    def rest(self, first: int) -> Feed:
        """Return a feed of the same batches from step `first` of each epoch on."""
        shorter = copy(self)
        shorter.first = first
        with tf.device("CPU:0"):
            shorter.dataset = shorter._batches()
        return shorter

    @property
    def epoch(self) -> int:
        return self._order.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._order.epoch = epoch

    @property
    def augmented(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
        """A function from images and labels to augmented images; None without augmentation."""
        augment = self.augment
        if augment is None:
            return None
        return lambda x, y: np.asarray(
            augment(tf.constant(x), tf.constant(y), tf.constant([self.seed or 0, 0]), None)[0]
        )

    def _batches(self) -> tf.data.Dataset:
        # Local names, because TensorFlow keeps what it traces, `self` too, as long as the process.
        examples, batch_size, first, steps = self.examples, self.batch_size, self.first, self.steps
        order, take, targets = self._order, self._take, self._targets
        augment, column = self.augment, self.column
        seed = (self.seed or 0) % 2**31

        def draw(_: Any) -> Any:
            # Called when an epoch begins. (`from_generator` complains if the program ends within one.)
            indices, epoch = tf.numpy_function(order, [], (tf.int32, tf.int32), stateful=True)
            return tf.ensure_shape(indices, (examples,)), tf.ensure_shape(epoch, ())

        def cut(indices: Any, epoch: Any) -> tf.data.Dataset:
            # Without `map`, whose function TensorFlow would trace again in every epoch, for 20 ms.
            numbers = tf.data.Dataset.range(first, steps, output_type=tf.int32)
            return tf.data.Dataset.zip(numbers, tf.data.Dataset.from_tensors((indices, epoch)).repeat())

        def gather(number: Any, drawn: Any) -> Any:
            order_of_epoch, epoch = drawn
            indices = order_of_epoch[number * batch_size : (number + 1) * batch_size]
            x, y = take(indices), tf.gather(targets, indices)
            if augment:
                batch_seed = tf.stack([tf.constant(seed, tf.int32), epoch * steps + number])
                turns = (tf.gather(order.first_turns, indices) + epoch) % 2
                x, y = augment(x, y, batch_seed, turns)
            return (x, y[:, None]) if column else (x, y)

        options = tf.data.Options()
        options.deterministic = True
        # There is nothing to tune, and an epoch would end only when the tuner next wakes up, which doubles
        # the time of a short epoch at worst.
        options.autotune.enabled = False
        if self.seed is None and augment is None:  # all epochs are alike
            cuts = cut(tf.range(examples), tf.constant(0))
        else:
            cuts = tf.data.Dataset.range(1).map(_as_it_is(draw)).flat_map(_as_it_is(cut))
        # An augmentation of the user's own may need AutoGraph.
        batches = cuts.map(gather if augment else _as_it_is(gather), num_parallel_calls=2)
        counted = batches.apply(tf.data.experimental.assert_cardinality(steps - first))
        return counted.prefetch(2).with_options(options)


class _Order:
    """The order of examples, epoch by epoch.

    It holds no examples, because TensorFlow keeps what a `numpy_function` calls as long as the process.
    """

    def __init__(self, size: int, taken: int, seed: int | None) -> None:
        self.size, self.taken, self.seed, self.epoch = size, taken, seed, 0

    @property
    def first_turns(self) -> np.ndarray:
        """0 or 1 for each example, drawn by the seed: its turn in the first epoch."""
        drawn = np.random.default_rng([self.seed or 0, self.size]).integers(0, 2, self.size)
        return drawn.astype(np.int32)

    def __call__(self) -> tuple[np.ndarray, np.int32]:
        order = np.arange(self.size, dtype=np.int32)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        return order[: self.taken], np.int32(self.epoch)


def _reader(x: Examples) -> Callable[[Any], Any]:
    """Return a function from indices to examples, in memory or, by numpy, in a mapped file."""
    if isinstance(x, np.ndarray):
        resident = tf.constant(x)
        return lambda indices: tf.gather(resident, indices)

    def read(indices: Any) -> Any:
        examples = tf.numpy_function(x.__getitem__, [indices], x.dtype)
        return tf.ensure_shape(examples, (None, *x.shape[1:]))

    return read
