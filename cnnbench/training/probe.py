"""Probes of single training steps: how large a batch pays, and how large a one fits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from cnnbench import system
from cnnbench.data import Dataset, Feed
from cnnbench.nn import losses
from cnnbench.training.device import Machine
from cnnbench.training.kernels import use_fast_kernels
from cnnbench.training.model import compile_with, with_activation

log = logging.getLogger("cnnbench")
SMALLEST, LARGEST = 16, 1024  # beyond, learning rates have to be found anew
LEAST_STEPS = 20  # of an epoch
GAIN = 1.1  # in examples per second on a CPU, for which a batch is doubled
SECONDS, MOST_STEPS = 0.3, 10  # of a probe of one size, after the first step
ROOM = 1.25  # a GPU must have memory for so many times the batch

Step = Callable[[tf.Tensor, tf.Tensor], Any]


def training_step(build: Callable[[], keras.Model], policy: str, dataset: Dataset) -> Step:
    """Build a network in a precision, and return one step of its training by Adam as a graph.

    Leaves the global dtype policy on float32, and has drawn random numbers.
    """
    keras.config.set_dtype_policy(policy)
    try:
        model = with_activation(build(), dataset.task)
    finally:
        keras.config.set_dtype_policy("float32")
    compile_with(model, keras.optimizers.Adam(1e-4), losses.for_task(dataset.task), [], 1, False)
    use_fast_kernels(model)
    x, y = first_examples(dataset, 1)
    signature = [tf.TensorSpec((None, *one.shape[1:]), one.dtype) for one in (x, y)]
    return tf.function(lambda x, y: model.train_step((x, y)), input_signature=signature)  # type: ignore[no-any-return]


def first_examples(dataset: Dataset, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the first training examples, and their targets as the loss takes them."""
    x, y = tf.constant(dataset.train.x[:count]), tf.constant(dataset.train.y[:count])
    return x, y[:, None] if dataset.outputs == 1 else y


def choose_batch_size(build: Callable[[], keras.Model], dataset: Dataset, machine: Machine) -> int:
    """Choose the largest power of two that fits into memory and, on a CPU, still makes training faster.

    It leaves an epoch 20 steps, and is 16 at least and 1,024 at most. Draws random numbers and leaves the
    global dtype policy on float32: prepare the machine anew.

    Args:
        build: makes the network, under the global dtype policy.
        dataset: split.
        machine: where it computes.

    Raises:
        OutOfMemoryError: not even 16 examples fit.
    """
    step = training_step(build, machine.precision, dataset)
    chosen, best = 0, 0.0
    for size in _sizes(len(dataset.train)):
        began = system.PeakMemory().bytes()
        try:
            with system.shortage_explained(size):
                seconds = _seconds(step, dataset, size, machine.on_gpu)
        except system.OutOfMemoryError:
            if not chosen:
                raise
            log.info("training.batch_size: %d does not fit into memory", size)
            break
        rate = size / seconds
        log.info("training.batch_size: %d give %.0f examples/s", size, rate)
        if chosen and not machine.on_gpu and rate < GAIN * best:
            break
        chosen, best = size, rate
        taken = system.PeakMemory().bytes() - began
        if not machine.on_gpu and 2 * ROOM * taken > system.available_memory():
            break
    return chosen


def _sizes(examples: int) -> Iterator[int]:
    size = SMALLEST
    while size == SMALLEST or size <= min(LARGEST, examples // LEAST_STEPS):
        yield size
        size *= 2


def _seconds(step: Step, dataset: Dataset, size: int, on_gpu: bool) -> float:
    """Measure the fastest of some steps, after a first one; on a GPU only try a larger one for its memory."""
    x, y = first_examples(dataset, int(ROOM * size) if on_gpu else size)
    step(x, y)
    until, fastest = time.perf_counter() + SECONDS, float("inf")
    for number in range(MOST_STEPS):
        if number > 1 and time.perf_counter() > until:
            break
        began = time.perf_counter()
        step(x, y)
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


def largest_batch(model: keras.Model, feed: Feed) -> int:
    """Find the largest power of two of examples of which one training step fits; 0 where none does.

    Args:
        model: compiled; its weights are changed.
        feed: with the batch that does not fit.
    """
    size = 1 << ((feed.batch_size - 1).bit_length() - 1) if feed.batch_size > 1 else 0
    while size:
        smaller = Feed(feed.split, size, feed.seed, feed.augment, feed.column)
        try:
            with system.shortage_explained():
                tf.function(model.train_step)(next(iter(smaller.dataset)))
        except (system.OutOfMemoryError, tf.errors.OpError):  # a GPU may be unusable after a failed step
            size //= 2
        else:
            break
    return size
