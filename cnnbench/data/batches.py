"""The batches of one split."""

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

    The examples stay in memory once, as they are (uint8 pixels); what travels is indices. With a seed the
    order of an epoch depends on that seed and the epoch's number alone, so that a run that goes on in
    epoch 7 meets the batches that it would have met.

    Args:
        split: examples and targets.
        batch_size: the last batch of an epoch may be smaller.
        seed: shuffle by it; None keeps the order.
        augment: from images, labels, a seed ``(2,)`` and turns ``(batch,)`` to both, augmented. The seed
            depends on the run's seed, the epoch and the batch alone; the turn of an example is 0 and 1 in one
            epoch after the other, and begins with either.
        column: targets as ``(batch, 1)``, the shape of a single output: a loss that subtracts ``(batch,)``
            from it would compare everything with everything, and say nothing.
        parts: every batch can be cut into so many equal ones: an epoch leaves out fewer examples than
            that, with a seed others each time.

    Attributes:
        split, batch_size, seed, augment, column: as given.
        examples, steps: of one epoch.
        epoch: the next one to be drawn, from 0; whoever drives the training sets it.
        first: the step with which its epochs begin.
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
        self.column = column
        self.split, self.batch_size, self.seed, self.augment = split, batch_size, seed, augment
        self.examples = len(split) - len(split) % parts
        self.steps = -(-self.examples // batch_size)
        self.first = 0
        self._order = _Order(len(split), self.examples, seed)
        with tf.device("CPU:0"):
            self._take, self._targets = _reader(split.x), tf.constant(split.y)
            self.dataset = self._batches()

    def rest(self, first: int) -> Feed:
        """The same examples in the same order, from step `first` of each epoch on."""
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
        """From images and labels to images as a training step may see them; None without augmentation."""
        augment = self.augment
        if augment is None:
            return None
        return lambda x, y: np.asarray(
            augment(tf.constant(x), tf.constant(y), tf.constant([self.seed or 0, 0]), None)[0]
        )

    def _batches(self) -> tf.data.Dataset:
        # Local names: `self` in what TensorFlow traces would live as long as the process.
        examples, batch_size, first, steps = self.examples, self.batch_size, self.first, self.steps
        order, take, targets = self._order, self._take, self._targets
        augment, column = self.augment, self.column
        seed = (self.seed or 0) % 2**31

        def draw(_: Any) -> Any:
            # Asked for when an epoch begins. (A `from_generator` complains when the program ends in one.)
            indices, epoch = tf.numpy_function(order, [], (tf.int32, tf.int32), stateful=True)
            return tf.ensure_shape(indices, (examples,)), tf.ensure_shape(epoch, ())

        def cut(indices: Any, epoch: Any) -> tf.data.Dataset:
            # Not by a `map` in here: TensorFlow would make its function anew in every epoch, for 20 ms.
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
        # Nothing here is left to it, and an epoch would end only when it next wakes up: after 10, 30, 70 ms
        # and so on, which doubles the time of an epoch at worst.
        options.autotune.enabled = False
        if self.seed is None and augment is None:  # every epoch alike: nothing to ask for
            cuts = cut(tf.range(examples), tf.constant(0))
        else:
            cuts = tf.data.Dataset.range(1).map(_as_it_is(draw)).flat_map(_as_it_is(cut))
        # What augments may be somebody's own, with an `if` for AutoGraph.
        batches = cuts.map(gather if augment else _as_it_is(gather), num_parallel_calls=2)
        known = batches.apply(tf.data.experimental.assert_cardinality(steps - first))
        return known.prefetch(2).with_options(options)


class _Order:
    """The order of one epoch.

    TensorFlow keeps what a `numpy_function` calls for as long as the process lives: this, not the feed
    with its examples.
    """

    def __init__(self, size: int, taken: int, seed: int | None) -> None:
        self.size, self.taken, self.seed, self.epoch = size, taken, seed, 0

    @property
    def first_turns(self) -> np.ndarray:
        """0 or 1 for each example, by the seed; see `Feed`."""
        drawn = np.random.default_rng([self.seed or 0, self.size]).integers(0, 2, self.size)
        return drawn.astype(np.int32)

    def __call__(self) -> tuple[np.ndarray, np.int32]:
        order = np.arange(self.size, dtype=np.int32)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        return order[: self.taken], np.int32(self.epoch)


def _reader(x: Examples) -> Callable[[Any], Any]:
    """A function from indices to examples: from memory, or from a mapped file through numpy."""
    if isinstance(x, np.ndarray):
        resident = tf.constant(x)
        return lambda indices: tf.gather(resident, indices)

    def read(indices: Any) -> Any:
        examples = tf.numpy_function(x.__getitem__, [indices], x.dtype)
        return tf.ensure_shape(examples, (None, *x.shape[1:]))

    return read
