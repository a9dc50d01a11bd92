"""Chunks of steps, each one program, which Keras's `fit` calls as a model's train and test function.

A step of a small network takes a GPU less time than its launch from Python, or from the executor of a graph.
So the examples lie on the device, and XLA makes one program of many steps: gather, augmentation, forward and
backward pass, update. An epoch is cut into equal chunks. What is left, with a last batch that may be smaller,
runs without XLA, as a graph for batches of any size: it needs no program of its own, and every layer sees the
examples that there are. Without XLA, as on a CPU, that graph runs all steps.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench.data import Examples, Feed, Split
from cnnbench.errors import first_line
from cnnbench.nn import layers_of
from cnnbench.runs import RunSpec
from cnnbench.system import cache_folder, clear_caches, gpu_memory_free, make_room, recall, remember
from cnnbench.training.device import Machine
from cnnbench.training.steps import digest, outline

log = logging.getLogger("cnnbench")
_as_it_is = tf.autograph.experimental.do_not_convert  # translating a function takes 30 ms
CANNOT_COMPILE = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.NotFoundError)
DAMAGED = (tf.errors.OutOfRangeError, tf.errors.DataLossError)  # a program that was kept
UNKNOWN_FREE = 2**32  # bytes on a GPU that nobody can ask
COMPILED = "compilation"  # what is remembered: seconds, by network
# Seconds of a compilation where nothing is remembered, and what a step gains by it, measured on an H100 with
# networks of 14 to 75 layers. An augmentation counts as so many layers.
COMPILE_SECONDS, COMPILE_SECONDS_OF_LAYER, GAIN = 9.0, 0.25, 0.00025
LAYERS_OF_AUGMENTATION = 15
# Of runs of one process: models that are kept, and bytes of one's variables; whose parts compute what is all
# in their configs.
MODELS, BYTES, KNOWN = 4, 2**26, ("keras", "cnnbench")
_kept: OrderedDict[str, keras.Model] = OrderedDict()


@dataclass(frozen=True)
class Engine:
    """How the steps of a training are executed.

    Attributes:
        device: on which examples lie, as TensorFlow names it.
        resident: whether they do; else the host reads batches.
        xla: whether steps are compiled by XLA.
        why: it is, or it is not.
        network: digest of what is compiled, by which its seconds are remembered; empty where that was not
            asked.
        augments: whether examples are augmented.
    """

    device: str
    resident: bool
    xla: bool
    why: str = ""
    network: str = ""
    augments: bool = False

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("GPU")

    def describe(self) -> str:
        """Return what the summary of a run says of it; nothing on a CPU, where nothing is to choose."""
        xla = "XLA" if self.xla else "no XLA" if self.on_gpu else ""
        data = "data on the GPU" if self.resident else "data fed by the host"
        return ", ".join(filter(None, [data if self.on_gpu else "", xla]))


def choose_engine(
    spec: RunSpec,
    train: Split,
    model: keras.Model,
    machine: Machine,
    replicas: int,
    before: Mapping[str, Any] | None = None,
) -> Engine:
    """Choose how the steps of a run are executed.

    Args:
        spec: of the run.
        train: the training split.
        model: the whole network.
        machine: prepared for the run.
        replicas: devices that share a batch.
        before: the engine of a run that is resumed, as stored; on a GPU it stays compiled or not.
    """
    training, on_gpu, augments = spec.training, machine.on_gpu, spec.augmentation is not None
    device = "GPU:0" if on_gpu else "CPU:0"
    if replicas > 1:
        return Engine(device, resident=False, xla=False, why="several devices share each batch")
    resident = training.resident
    if resident is None:
        resident = fits(train.x) if on_gpu else isinstance(train.x, np.ndarray)
    engine = Engine(device, resident, bool(training.jit_compile), "as the config says", augments=augments)
    if training.jit_compile is not None:
        return engine
    if not on_gpu or spec.deterministic:
        return replace(engine, xla=False, why="deterministic=true" if on_gpu else "on a CPU it gains nothing")
    if before:
        return replace(engine, xla=bool(before["xla"]), why=str(before["why"]), network=before["network"])
    size, tried = training.examples_per_step, spec.rehearses
    steps = (tried or training).epochs * (len(train) // size)
    return compiled_if_worth(engine, model, steps, machine.precision, size, remembers=tried is None)


def compiled_if_worth(
    engine: Engine, model: keras.Model, steps: int, *told: Any, remembers: bool = True
) -> Engine:
    """Return the engine for a training, compiled where that saves more time than it takes.

    What short runs lose without it is remembered: when they would have gained what it takes, it is compiled.

    Args:
        engine: on a GPU.
        model: what is trained.
        steps: of the training.
        told: what else the time depends on, such as precision and batch size.
        remembers: what is lost without it; a rehearsal loses nothing.
    """
    layers = len(model.layers) + (LAYERS_OF_AUGMENTATION if engine.augments else 0)
    network = digest(outline(model), len(model.trainable_weights), engine.augments, *told)
    known = recall(COMPILED, network)
    seconds, lost = COMPILE_SECONDS + layers * COMPILE_SECONDS_OF_LAYER, 0.0
    if isinstance(known, dict):
        seconds, lost = known.get("seconds", seconds), known.get("lost", 0.0)
    gain = steps * layers * GAIN
    if gain + lost <= seconds and remembers:
        remember(COMPILED, network, {"seconds": seconds, "lost": lost + gain})
    why = f"about {seconds:.0f} s to compile, about {gain:.1f} s gained in {steps:,} steps"
    if lost:
        why += f", {lost:.1f} s lost by shorter runs before"
    return replace(engine, xla=gain + lost > seconds, why=why, network=network)


def fits(x: Examples) -> bool:
    """Tell whether examples take at most half of the GPU's free memory; those of a file are joined there."""
    size, free = math.prod(x.shape) * x.dtype.itemsize, gpu_memory_free()
    return 2 * size * (1 if isinstance(x, np.ndarray) else 2) <= (UNKNOWN_FREE if free is None else free)


def train_in_chunks(model: keras.Model, feed: Feed, engine: Engine) -> Chunks:
    """Let the `fit` of a compiled model train by chunks; it then takes the `numbers` of the feed as data.

    Args:
        model: compiled.
        feed: of the training split.
        engine: how its steps are executed.
    """
    chunks = Chunks(model, feed, engine, model.train_step, engine.xla)
    build_metrics(model, chunks.batch)
    model.train_function = chunks
    return chunks


def evaluate_in_chunks(model: keras.Model, feed: Feed, engine: Engine) -> Chunks:
    """Let the `evaluate` of a compiled model, and of its `fit`, take the `numbers` of the feed as data."""
    # Batches are large: XLA would gain little, and take seconds.
    model.test_function = Chunks(model, feed, engine, model.test_step, xla=False)
    return model.test_function  # type: ignore[no-any-return]


def build_metrics(model: keras.Model, batch: tuple[tf.TensorSpec, ...]) -> None:
    """Make the variables of loss and metrics, which Keras would make within the loop, where it cannot."""

    def update(outputs: Any, x: Any, y: Any, weights: Any = None) -> Any:
        model.compute_loss(x, y, outputs, weights)
        return model.compute_metrics(x, y, outputs, weights)

    outputs = tf.TensorSpec(model.outputs[0].shape, model.outputs[0].dtype)
    tf.function(_as_it_is(update)).get_concrete_function(outputs, *batch)


class Chunks:
    """Function from Keras's iterator to the running metrics, which carries out the next chunk of steps.

    Args:
        model: compiled; its `steps_per_execution` are the steps of a chunk.
        feed: what is read, in order.
        engine: how.
        step: what is done with a batch: examples, targets and, if there are any, weights.
        xla: whether full steps are compiled.

    Attributes:
        feed: as given; a feed of the rest of its epochs may take its place.
        batch: specification of a batch, of any size.
        compile_seconds: of the first chunk by XLA, most of them for compiling; None before.
        meanwhile: what is done in a thread beside XLA, which leaves Python alone for seconds.
    """

    def __init__(
        self, model: keras.Model, feed: Feed, engine: Engine, step: Callable[[Any], object], xla: bool
    ) -> None:
        self.feed, self.steps = feed, int(model.steps_per_execution)
        self._network = engine.network
        size, number = feed.batch_size, tf.TensorSpec((), tf.int32)
        self.compile_seconds: float | None = None
        self.meanwhile: list[Callable[[], object]] = (
            [self.trace] if feed.examples % (size * self.steps) else []
        )
        self._iterator: Any = None
        self._next = 0
        self._order = np.zeros(0, np.int32)
        self._device = engine.device
        specs = [tf.TensorSpec(one.shape, one.dtype) for one in self._arrays]
        read = tf.function(
            feed.reader(engine.device, resident=True),
            input_signature=[tf.TensorSpec((None,), tf.int32), number, number, *specs],
            # There are kernels for a GPU to gather examples, but not to change bytes, which XLA can. What a
            # user's own augmentation does runs where TensorFlow has kernels for it.
            jit_compile=engine.on_gpu and type(feed.augment).__module__.startswith("cnnbench."),
            # An augmentation of the user's own may need AutoGraph.
            autograph=feed.augment is not None,
        )
        self.batch = tuple(
            tf.TensorSpec(one.shape, one.dtype) for one in read.get_concrete_function().structured_outputs
        )

        def program(length: int | None, count: int | None) -> Any:
            """Return steps with batches of a length, or of any; a number of steps, or as many as is said."""

            @_as_it_is
            def run(indices: Any, epoch: Any, first: Any, *given: Any) -> Any:
                said, arrays = given[: -len(specs)], given[-len(specs) :]

                def one(number: Any) -> tuple[Any]:
                    begin = number * size
                    rows = tf.slice(indices, [begin], [length]) if length else indices[begin : begin + size]
                    batch = read(rows, epoch, first + number, *arrays)
                    if length:
                        batch = tuple(tf.ensure_shape(one, (length, *one.shape[1:])) for one in batch)
                    step(batch)
                    return (number + 1,)

                steps = said[0] if count is None else count
                tf.while_loop(lambda number: number < steps, one, [tf.constant(0)])
                return model.get_metrics_result()

            indices = tf.TensorSpec((length and count and length * count,), tf.int32)
            signature = [indices, number, number, *([number] if count is None else []), *specs]
            return tf.function(run, input_signature=signature, jit_compile=count is not None)

        self._plain = program(None, None)
        # Within a program of XLA the number of steps is a constant, or the host would be asked after each
        # whether there is another.
        self._compiled: Any = program(size, self.steps) if xla else None

    def __call__(self, iterator: Any) -> Any:
        if iterator is not self._iterator:  # Keras makes one for each epoch
            self._iterator, self._next, self._order = iterator, self.feed.first, self.feed.order
        size, first = self.feed.batch_size, self._next
        indices = self._order[first * size : min(first + self.steps, self.feed.last) * size]
        self._next += self.steps
        given = [tf.constant(one) for one in (indices, np.int32(self.feed.epoch), np.int32(first))]
        if self._compiled is None or len(indices) < self.steps * size:
            return self._run(self._plain, *given, tf.constant(-(-len(indices) // size)))
        if self.compile_seconds is not None:
            return self._run(self._compiled, *given)
        try:
            return self._compile(given)
        except CANNOT_COMPILE as error:
            text = "XLA cannot compile the steps of this training, which run without it: %s"
            log.warning(text, first_line(error))
            self._compiled = None
            return self._run(self._plain, *given, tf.constant(self.steps))

    def _compile(self, given: Sequence[tf.Tensor]) -> Any:
        """Carry out the first chunk, which XLA compiles, and trace the other programs meanwhile."""
        began = time.perf_counter()
        self._compiled.get_concrete_function()
        beside = Thread(target=self._trace_others)
        beside.start()
        try:
            logs = self._run(self._compiled, *given)
        finally:
            beside.join()
        self.compile_seconds = time.perf_counter() - began
        log.info("XLA: the first chunk of %s steps took %.1f s", self.steps, self.compile_seconds)
        if self._network:
            remember(COMPILED, self._network, {"seconds": self.compile_seconds})
        if (folder := cache_folder("xla")) is not None:
            make_room(folder, 0)
        return logs

    def trace(self) -> None:
        """Trace the program for what is left of an epoch."""
        self._plain.get_concrete_function()

    def _trace_others(self) -> None:
        for trace in self.meanwhile:
            try:
                trace()
            except Exception as error:  # noqa: BLE001  it comes again where the program is called
                log.debug("a program could not be traced ahead: %s", first_line(error))

    @property
    def _arrays(self) -> tuple[tf.Tensor, ...]:
        return self.feed.reader(self._device, resident=True).arrays

    def _run(self, function: Any, *given: Any) -> Any:
        given = (*given, *self._arrays)
        try:
            return function(*given)
        except (*DAMAGED, tf.errors.InvalidArgumentError) as error:
            known = isinstance(error, DAMAGED) or "Serialized cache" in str(error)
            if not known or not clear_caches(["xla"]):
                raise
            log.info("programs that XLA kept are damaged, and made anew: %s", first_line(error))
            return function(*given)


# -- Programs that runs share ----------------------------------------------------------------------
#
# To trace a small network takes longer than to train it, and a program is bound to the variables of its
# model. So a model stays when its run has ended, and a run of the same process whose own would be traced
# to the same program takes it instead, with all variables set to those of its own. That is what a resumed
# run does with those of a file.


def program_name(model: keras.Model, parts: Sequence[Any], *told: Any) -> str | None:
    """Return a name that models share whose programs are the same; None where that cannot be known.

    Args:
        model: compiled.
        parts: what else takes part in the training: callbacks, augmentation.
        told: what else goes into the programs; its text says all.
    """
    parts = [*layers_of(model), model.optimizer, *parts]
    config = {"model": model.get_config(), "compiled": model.get_compile_config()}
    if not all(type(one).__module__.partition(".")[0] in KNOWN for one in parts if one is not None):
        return None
    if not all(map(_is_known, _objects(config))):
        return None
    size = sum(_bytes(one) for one in (*model.variables, *model.optimizer.variables))
    if size > BYTES:
        return None
    settings = config["compiled"]["optimizer"]["config"]
    if isinstance(settings.get("learning_rate"), float):  # it is a variable
        settings["learning_rate"] = None
    return digest(json.dumps(config, sort_keys=True, default=repr), list(map(repr, told)))


def _bytes(variable: Any) -> int:
    return int(tf.TensorShape(variable.shape).num_elements() * tf.as_dtype(variable.dtype).size)


def _objects(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every serialized object in a config; tensors and tuples come from no module."""
    if isinstance(config, Mapping):
        if "class_name" in config and "module" in config:
            yield config
        for inner in config.values():
            yield from _objects(inner)
    elif isinstance(config, list | tuple):
        for inner in config:
            yield from _objects(inner)


def _is_known(config: Mapping[str, Any]) -> bool:
    if str(config.get("registered_name")).startswith("cnnbench>"):
        return True
    return str(config["module"] or "").partition(".")[0] in KNOWN


def take(name: str | None, model: keras.Model) -> keras.Model:
    """Return the model that is kept under a name, with the values of `model`; `model` where there is none."""
    kept = _kept.pop(name, None) if name else None
    if kept is None:
        return model
    for before, now in zip(_state(kept), _state(model), strict=True):
        before.assign(now)
    kept.reset_metrics()
    return kept


def keep(name: str | None, model: keras.Model) -> None:
    """Keep a model, whose training has ended well, for the next run with programs of that name."""
    if name is None:
        return
    _kept[name] = model
    while len(_kept) > MODELS:
        _kept.popitem(last=False)


def _state(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables, *statistics(model)]


def hold_statistics(model: keras.Model) -> None:
    """Put the statistics of adapted `Normalization` layers into variables: Keras has constants of a graph."""
    for layer in _adapted(model):
        layer.mean, layer.variance = (
            tf.Variable(one, trainable=False) for one in (layer.mean, layer.variance)
        )


def statistics(model: keras.Model) -> list[tf.Variable]:
    """Return the variables with the statistics of adapted layers, and those of their faster kernels."""
    return [
        one
        for layer in _adapted(model)
        for one in (layer.mean, layer.variance, *getattr(layer.call, "statistics", ()))
    ]


def _adapted(model: keras.Model) -> Iterator[Any]:
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.Normalization) and layer.built and layer.input_mean is None:
            yield layer
