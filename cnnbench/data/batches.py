"""The feed: batches of one split as a `tf.data.Dataset`."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from cnnbench.data.dataset import Split

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
        parallel: batches of `dataset` that are read at once, and that wait.
        weights: ``(n,)``, how much each example counts; batches are then of three, the weights last.
        balanced: an epoch has every class equally often, give or take one example, and so the examples of a
            rare one several times; it is as long as without. It needs a seed.

    Attributes:
        split, batch_size, seed, augment, column, weights, balanced: as given.
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
        parallel: int = 2,
        weights: np.ndarray | None = None,
        balanced: bool = False,
    ) -> None:
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.augment, self.column, self.weights, self.balanced = augment, column, weights, balanced
        self.examples = len(split) - len(split) % parts
        self.steps = -(-self.examples // batch_size)
        self.first, self.last = 0, self.steps
        self.parallel = parallel
        self._order = _Order(len(split), self.examples, seed, split.y if balanced else None)
        self._readers: dict[tuple[str, bool], Reader] = {}  # shared with `part`

    def part(self, first: int, last: int | None = None) -> Feed:
        """Return a feed of the same batches from step `first` of each epoch to `last`, or to its end."""
        shorter = copy(self)
        shorter.__dict__.pop("dataset", None)
        shorter.first, shorter.last = first, last or self.steps
        return shorter

    @property
    def epoch(self) -> int:
        return self._order.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._order.epoch = epoch

    @property
    def order(self) -> np.ndarray:
        """Indices ``(examples,)`` int32 of the examples in the order of `epoch`."""
        return self._order()[0]

    @property
    def form(self) -> tuple[Any, ...]:
        """What a graph that reads this feed depends on, beside the augmentation and the device."""
        x, y = self.split.x, self.split.y
        form = (x.shape, str(x.dtype), y.shape, str(y.dtype), self.batch_size, self.steps)
        return *form, self.column, self.weights is None

    @property
    def numbers(self) -> tf.data.Dataset:
        """The numbers of the steps of an epoch, for a training that reads the batches itself."""
        return tf.data.Dataset.range(self.first, self.last)

    @property
    def augmented(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
        """A function from images and labels to augmented images; None without augmentation."""
        augment = self.augment
        if augment is None:
            return None
        return lambda x, y: np.asarray(
            augment(tf.constant(x), tf.constant(y), tf.constant([self.seed or 0, 0]), None)[0]
        )

    def reader(self, device: str, resident: bool) -> Reader:
        """Return what reads a batch in a graph; the same one for the same device, with one copy of the data.

        Args:
            device: on which the targets lie.
            resident: whether the examples do, too; else numpy reads them for each batch.
        """
        if (known := self._readers.get((device, resident))) is not None:
            return known
        with tf.device(device):
            examples, take = _taker(self.split, resident)
            turns = self._order.first_turns if self.augment else np.zeros(0, np.int32)
            seed = np.int32((self.seed or 0) % 2**31)
            arrays = (examples, *map(tf.constant, (self.split.y, turns, seed)))
            if self.weights is not None:
                arrays = (*arrays, tf.constant(self.weights, tf.float32))
        made = Reader(arrays, take, self.augment, self.steps, self.column)
        self._readers[device, resident] = made
        return made

    @cached_property
    def dataset(self) -> tf.data.Dataset:
        """The batches, epoch after epoch: each iteration is one of `epoch`."""
        # Local names, because TensorFlow keeps what it traces, `self` too, as long as the process.
        examples, batch_size, first, last = self.examples, self.batch_size, self.first, self.last
        order, augment = self._order, self.augment

        def draw(_: Any) -> Any:
            # Called when an epoch begins. (`from_generator` complains if the program ends within one.)
            indices, epoch = tf.numpy_function(order, [], (tf.int32, tf.int32), stateful=True)
            return tf.ensure_shape(indices, (examples,)), tf.ensure_shape(epoch, ())

        def cut(indices: Any, epoch: Any) -> tf.data.Dataset:
            # Without `map`, whose function TensorFlow would trace again in every epoch, for 20 ms.
            numbers = tf.data.Dataset.range(first, last, output_type=tf.int32)
            return tf.data.Dataset.zip(numbers, tf.data.Dataset.from_tensors((indices, epoch)).repeat())

        options = tf.data.Options()
        options.deterministic = True
        # There is nothing to tune, and an epoch would end only when the tuner next wakes up, which doubles
        # the time of a short epoch at worst.
        options.autotune.enabled = False
        with tf.device("CPU:0"):
            read = self.reader("CPU:0", isinstance(self.split.x, np.ndarray))

            def gather(number: Any, drawn: Any) -> Any:
                order_of_epoch, epoch = drawn
                indices = order_of_epoch[number * batch_size : (number + 1) * batch_size]
                return read(indices, epoch, number, *read.arrays)

            if self.seed is None and augment is None:  # all epochs are alike
                cuts = cut(tf.range(examples), tf.constant(0))
            else:
                cuts = tf.data.Dataset.range(1).map(_as_it_is(draw)).flat_map(_as_it_is(cut))
            # An augmentation of the user's own may need AutoGraph.
            batches = cuts.map(gather if augment else _as_it_is(gather), num_parallel_calls=self.parallel)
            counted = batches.apply(tf.data.experimental.assert_cardinality(last - first))
            return counted.prefetch(self.parallel).with_options(options)


@dataclass(frozen=True)
class Reader:
    """What reads a batch of a feed in a graph.

    A graph takes the arrays as arguments, so that it can read another feed's of the same form.

    Attributes:
        arrays: all examples, their targets, their turns in the first epoch (empty without augmentation), and
            the feed's seed; their weights, if there are any.
        take: from all examples and indices to some.
        augment: as of the feed, or None.
        steps: of an epoch.
        column: whether targets are given as ``(batch, 1)``.
    """

    arrays: tuple[tf.Tensor, ...]
    take: Callable[[Any, Any], Any]
    augment: Augment | None
    steps: int
    column: bool

    def __call__(
        self,
        indices: Any,
        epoch: Any,
        number: Any,
        examples: Any,
        targets: Any,
        turns: Any,
        seed: Any,
        weights: Any = None,
    ) -> tuple[Any, ...]:
        """Return examples, targets and, if there are any, weights of the batch that is step `number`."""
        x, y = self.take(examples, indices), tf.gather(targets, indices)
        if self.augment:
            of_batch = tf.stack([seed, epoch * self.steps + number])
            x, y = self.augment(x, y, of_batch, (tf.gather(turns, indices) + epoch) % 2)
        y = y[:, None] if self.column else y
        return (x, y) if weights is None else (x, y, tf.gather(weights, indices))


class _Order:
    """The order of examples, epoch by epoch.

    It holds no examples, because TensorFlow keeps what a `numpy_function` calls as long as the process.

    Args:
        size: number of examples.
        taken: of an epoch.
        seed: of the shuffling; None keeps the order.
        y: ``(size,)`` classes that an epoch has equally often; None has each example once.
    """

    def __init__(self, size: int, taken: int, seed: int | None, y: np.ndarray | None = None) -> None:
        self.size, self.taken, self.seed, self.epoch = size, taken, seed, 0
        self._members = [np.flatnonzero(y == label) for label in np.unique(y)] if y is not None else []

    @property
    def first_turns(self) -> np.ndarray:
        """0 or 1 for each example, drawn by the seed: its turn in the first epoch."""
        drawn = np.random.default_rng([self.seed or 0, self.size]).integers(0, 2, self.size)
        return drawn.astype(np.int32)

    def __call__(self) -> tuple[np.ndarray, np.int32]:
        order = np.arange(self.size, dtype=np.int32)
        if self.seed is not None:
            rng = np.random.default_rng([self.seed, self.epoch])
            order = rng.permutation(self._balanced(rng) if self._members else order)
        return order[: self.taken], np.int32(self.epoch)

    def _balanced(self, rng: np.random.Generator) -> np.ndarray:
        """Return ``(size,)`` indices, of every class equally many and of each example of one class, too."""
        classes = len(self._members)
        counts = self.size // classes + rng.permutation(np.arange(classes) < self.size % classes)
        drawn = [
            np.concatenate([np.repeat(own, count // len(own)), rng.permutation(own)[: count % len(own)]])
            for own, count in zip(self._members, counts, strict=True)
        ]
        return np.concatenate(drawn).astype(np.int32)


def _taker(split: Split, resident: bool) -> tuple[tf.Tensor, Callable[[Any, Any], Any]]:
    """Return all examples, and a function from them and indices to some.

    Those in a mapped file that are not to lie on the device are read by numpy; there are none to return.
    """
    x = split.x
    if resident:
        whole = isinstance(x, np.ndarray)
        examples = tf.constant(x) if whole else tf.concat(list(map(tf.constant, split.pieces())), 0)
        if "GPU" in examples.device and x.dtype in (np.uint8, np.uint16):
            return _taker_of_bytes(examples) if x.dtype == np.uint8 else _taker_of_16_bits(examples)
        return examples, tf.gather

    def read(_: Any, indices: Any) -> Any:
        examples = tf.numpy_function(x.__getitem__, [indices], x.dtype)
        return tf.ensure_shape(examples, (None, *x.shape[1:]))

    return tf.constant(0), read


def _taker_of_bytes(examples: tf.Tensor) -> tuple[tf.Tensor, Callable[[Any, Any], Any]]:
    """Return bytes eight by eight, which TensorFlow has a kernel to gather on a GPU, and what gathers them.

    Without one it would fetch all examples from there for each batch.
    """
    shape = examples.shape[1:]
    rows = tf.reshape(examples, (len(examples), -1))
    rows = tf.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))
    length, width = math.prod(shape), rows.shape[1]

    def take(words: Any, indices: Any) -> Any:
        taken = tf.reshape(tf.bitcast(tf.gather(words, indices), tf.uint8), (-1, width))
        return tf.reshape(taken[:, :length], (-1, *shape))

    return tf.bitcast(tf.reshape(rows, (len(rows), -1, 8)), tf.int64), take


def _taker_of_16_bits(examples: tf.Tensor) -> tuple[tf.Tensor, Callable[[Any, Any], Any]]:
    """Return 16-bit values as bytes eight by eight, and what gathers them."""
    words, take = _taker_of_bytes(tf.bitcast(examples, tf.uint8))
    return words, lambda words, indices: tf.bitcast(take(words, indices), tf.uint16)
