"""Single training steps, timed: which precision is faster, which size of batch pays, and which fits."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench import system
from cnnbench.data import Dataset, Feed
from cnnbench.errors import first_line
from cnnbench.nn import layers_of, losses
from cnnbench.runs import RunSpec
from cnnbench.system import has_bfloat16
from cnnbench.training.device import Machine, prepare_machine
from cnnbench.training.kernels import use_fast_kernels
from cnnbench.training.measure import count_flops
from cnnbench.training.model import compile_with, is_head_alone, with_activation

log = logging.getLogger("cnnbench")
WORTH = 1e12  # floating-point operations of a training, ten seconds or more: below, a probe costs too much
POLICIES = ("float32", "mixed_bfloat16")
GAIN = 0.9  # of the time of float32, at most
PROBE_SECONDS, PROBE_STEPS = 1.0, 20
SMALLEST, LARGEST = 16, 1024  # beyond, learning rates have to be found anew
LEAST_STEPS = 20  # of an epoch
WORTH_DOUBLING = 1.1  # in examples per second on a CPU
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


# -- Precision --------------------------------------------------------------------------------------


def built_in_best(
    build: Callable[[], keras.Model], spec: RunSpec, wanted: str, dataset: Dataset, machine: Machine
) -> tuple[keras.Model, Machine]:
    """Build a run's network; `auto` takes the precision that trains it faster on this processor.

    Args:
        build: makes the network, under the global dtype policy.
        spec: of the run.
        wanted: `auto`, or a settled precision.
        dataset: split.
        machine: prepared for `wanted`.

    Returns:
        the network, and the machine prepared for it.
    """
    model = build()
    can_choose = wanted == "auto" and not (machine.on_gpu or spec.deterministic or spec.training.distribute)
    if not can_choose or not has_bfloat16() or is_head_alone(spec, model):
        return model, machine
    passes = 3 * len(dataset.train) * spec.training.epochs
    # A weight is used in each place of an image at most; that is known without a trace of the network.
    at_most = 2 * model.count_params() * int(np.prod(dataset.input_shape[:-1]))
    if passes * at_most < WORTH or passes * (flops := count_flops(model)) < WORTH:
        return model, machine
    policy = _faster(build, dataset, spec.training.examples_per_step, [outline(model), flops])
    # Anew in any case: a probe draws random numbers, one that is remembered does not.
    machine = prepare_machine(spec.seed, spec.deterministic, spec.device, policy)
    return build(), machine


def outline(model: keras.Model) -> list[str]:
    """Return the kinds and sizes of the layers, which tell apart networks that take different times."""
    return [f"{type(layer).__name__} {layer.count_params()}" for layer in layers_of(model) if layer.built]


def digest(*told: Any) -> str:
    """Return a name for what a time depends on, and for the versions of TensorFlow and Keras."""
    text = json.dumps([*told, tf.__version__, keras.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _faster(build: Callable[[], keras.Model], dataset: Dataset, batch_size: int, told: Any) -> str:
    """Return the dtype policy, float32 or mixed bfloat16, that takes less time for a training step.

    It is measured once for each network and machine; runs that start at once wait for the first answer, so
    that all of a sweep have the same. Leaves the global policy on float32.
    """
    threads = os.environ.get(system.THREADS) or system.usable_cores()
    key = digest(told, dataset.input_shape, dataset.outputs, batch_size, system.cpu_name(), threads)
    times = measured_once(key, POLICIES, partial(_times, build, dataset, batch_size))
    plain, mixed = (times[policy] for policy in POLICIES)
    log.info("precision: a step takes %.1f ms in float32, %.1f ms in bfloat16", 1e3 * plain, 1e3 * mixed)
    return "mixed_bfloat16" if mixed <= GAIN * plain else "float32"


def _times(build: Callable[[], keras.Model], dataset: Dataset, batch_size: int) -> dict[str, float]:
    """Measure the fastest of some steps in each precision, in turn, since other programs may be at work."""
    times = dict.fromkeys(POLICIES, float("inf"))
    steps = {}
    for policy in POLICIES:
        try:
            steps[policy] = _step(build, policy, dataset, batch_size)
            steps[policy]()
        except Exception as error:  # noqa: BLE001  a user's layer may mix dtypes; the run says what is wrong
            log.info("precision: the network does not train in %s: %s", policy, first_line(error))
            steps.pop(policy, None)
    until = time.perf_counter() + PROBE_SECONDS
    for number in range(PROBE_STEPS):
        if number > 1 and time.perf_counter() > until:
            break
        for policy, step in steps.items():
            began = time.perf_counter()
            step()
            times[policy] = min(times[policy], time.perf_counter() - began)
    return times


def recalled(key: str, names: Sequence[str]) -> dict[str, float] | None:
    """Return what was measured under a key; None where nothing was, or not all of these numbers."""
    found = system.recall("precision", key)
    right = isinstance(found, dict) and all(isinstance(found.get(name), float) for name in names)
    return found if right else None


def measured_once(
    key: str, names: Sequence[str], measure: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Return what was measured on this machine, else measure and remember it.

    Runs that start at once wait for the first answer; without a cache each measures for itself.

    Args:
        key: tells what was measured, and where; see `digest`.
        names: of the numbers.
        measure: returns them.
    """
    found, folder = None, system.cache_folder()
    try:
        if folder is not None:
            with system.locked(folder / "precision.lock"):
                found = recalled(key, names)
                if found is None:
                    found = measure()
                    system.remember("precision", key, found)
    except OSError as error:  # no reason not to go on
        system.go_without_cache(error)
    return found or measure()


def _step(
    build: Callable[[], keras.Model], policy: str, dataset: Dataset, batch_size: int
) -> Callable[[], Any]:
    """Return a training step on the first batch."""
    return partial(training_step(build, policy, dataset), *first_examples(dataset, batch_size))


# -- Batch size -------------------------------------------------------------------------------------


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
        if chosen and not machine.on_gpu and rate < WORTH_DOUBLING * best:
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
