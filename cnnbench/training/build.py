"""Assembly of a run's training: the compiled model, the feeds of its splits and the callbacks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench import models, nn
from cnnbench.data import Dataset, Fact, Feed, Split, example_weights, label_weights
from cnnbench.errors import CnnbenchError
from cnnbench.runs import RunSpec
from cnnbench.system import PeakMemory, usable_cores, weights_that_fit
from cnnbench.training import model as parts
from cnnbench.training.chunks import Engine, choose_engine, hold_statistics, program_name, take
from cnnbench.training.device import Machine, forget_gpu_peak, shared_batch, synchronize
from cnnbench.training.features import features_of
from cnnbench.training.kernels import use_fast_kernels
from cnnbench.training.measure import count_flops, loss_batch
from cnnbench.training.steps import built_in_best

log = logging.getLogger("cnnbench")
PIECE = 2048  # features at a time
WHITENING_PIECES = 20  # of 256 images, each with hundreds of patches
ROUNDING = float(np.finfo(np.float32).eps)  # by which a value that never changes may seem to
EXACT_SUMS = 256  # squares of bytes that float32 adds up without rounding: 256 · 255² < 2²⁴


@dataclass(frozen=True)
class Built:
    """Everything that a training needs before its first step.

    Attributes:
        model: the whole model, compiled.
        machine: device and precision.
        engine: how steps are executed.
        train: the feed of the training split.
        held_out: the feeds of the other splits, by name.
        callbacks: the configured ones, by name.
        compile: compiles the model, or a part of it, as the config says.
        size: `parameters`, and `flops_per_example` of the forward pass.
        memory: peak since before the model was made.
        remarks: one line for each finding about the data.
        program: name of what the steps are traced to; None where no other run can share it.
    """

    model: keras.Model
    machine: Machine
    engine: Engine
    train: Feed
    held_out: Mapping[str, Feed]
    callbacks: Mapping[str, keras.callbacks.Callback]
    compile: Compilation
    size: Mapping[str, int]
    memory: PeakMemory
    remarks: tuple[str, ...] = ()
    program: str | None = None


@dataclass(frozen=True)
class Compilation:
    """Settings by which a model, or its head alone, is compiled.

    Attributes:
        spec: of the run.
        task: of the data set.
        augment: augmentation of the training images, or None.
        steps: of an epoch.
        whole_steps: those of a whole batch, one at least.
        machine: device and precision.
        engine: how steps are executed.
        replicas: number of devices that share a batch.
        model: the whole model.
        flops: of its forward pass in training, for one example.
        label_weights: of several labels, as of `data.label_weights`; None where all count alike.
    """

    spec: RunSpec
    task: str
    augment: Any
    steps: int
    whole_steps: int
    machine: Machine
    engine: Engine
    replicas: int
    model: keras.Model
    flops: int
    label_weights: np.ndarray | None

    def __call__(self, part: keras.Model, learning_rate: parts.Rate | None = None) -> None:
        """Compile `part` with this learning rate or schedule; None takes the configured one."""
        spec, on_gpu, alone = self.spec, self.machine.on_gpu, self.replicas == 1
        parts.compile_with(
            part,
            optimizer=parts.build(
                "optimizer", partial(parts.make_optimizer, spec, self.steps, learning_rate)
            ),
            loss=parts.build(
                "loss", partial(parts.make_loss, spec, self.task, self.augment, self.label_weights)
            ),
            metrics=parts.training_metrics(
                self.task, parts.mixes(self.augment), outputs=self.model.outputs[0].shape[-1]
            ),
            steps_per_execution=parts.steps_per_execution(
                spec.training.steps_per_execution
                if alone
                else 1,  # Keras chains none that several devices share
                self.flops if part is self.model else count_flops(part),
                spec.training.examples_per_step,
                self.whole_steps,
                on_gpu,
            ),
            jit_compile=self.engine.xla and not self.engine.resident,
        )
        nn.require_registered(part)  # now, and not when the trained model is loaded again
        if not on_gpu and alone and not self.engine.xla:  # which fuses operations itself
            use_fast_kernels(part)


def build_run(
    spec: RunSpec,
    dataset: Dataset,
    settled: str,
    machine: Machine,
    replicas: int,
    before: Mapping[str, Any] | None = None,
) -> Built:
    """Make and compile the model of a run, in the scope of its devices.

    Args:
        spec: of the run.
        dataset: split as the run needs it.
        settled: precision from the config, or of the run that is resumed.
        machine: prepared for it.
        replicas: number of devices that share a batch.
        before: the engine of a run that is resumed, as stored.

    Raises:
        CnnbenchError: a value of the config does not fit the data, or the model does not fit into memory.
    """
    training, batch_size, memory = spec.training, spec.training.examples_per_step, PeakMemory()
    forget_gpu_peak()
    with weights_that_fit():
        built, machine = built_in_best(network(spec, dataset), spec, settled, dataset, machine)
    views = training.test_time_augmentation
    model = parts.with_activation(
        nn.with_test_time_augmentation(built, views),
        dataset.task,
        dataset.train.y if training.scale_targets else None,
    )
    if training.fine_tuning is not None:
        models.check_layer(model, training.fine_tuning.from_layer)
    cached = parts.features_precision(spec) if training.cache_features and parts.can_cache(model) else None
    remarks = adapt(model, dataset.train, cached)
    synchronize(model, replicas)
    if replicas == 1:
        hold_statistics(model)
    flops = count_flops(model)
    augmentation = parts.build("augmentation", spec.augmentation) if spec.augmentation else None
    augment = augmentation and augmentation.for_data(dataset.input_shape, dataset.outputs, dataset.task)
    weights = example_weights(dataset, balanced := training.class_weight == "balanced")
    if weights is not None and parts.mixes(augment):
        raise CnnbenchError(
            "the examples have weights, and mixup and cutmix make one example of two",
            "use augmentation.mixup=0 and augmentation.cutmix=0, or leave the weights out",
        )
    of_labels = label_weights(dataset) if balanced and dataset.task == "multilabel" else None
    loss = parts.build("loss", partial(parts.make_loss, spec, dataset.task, augment, of_labels))
    column, most = dataset.outputs == 1, loss_batch(model, loss, batch_size)
    engine = choose_engine(spec, dataset.train, model, machine, replicas, before)
    parallel = usable_cores() if machine.on_gpu else 2  # a CPU that trains has no more to give
    train = Feed(
        dataset.train,
        batch_size,
        spec.seed,
        augment,
        column,
        parts=replicas,
        parallel=parallel,
        weights=weights,
        balanced=training.sampling == "balanced",
    )
    held_out = {
        # The test split is for the stored model, which is on one device.
        name: Feed(split, shared_batch(most, len(split), replicas if name == "val" else 1), column=column)
        for name, split in dataset.splits.items()
        if name != "train"
    }
    callbacks = {name: parts.build(f"callback {name}", make) for name, make in spec.callbacks.items()}
    trained = count_flops(built) if views else flops  # on one view
    whole = max(1, train.examples // batch_size)
    compilation = Compilation(
        spec, dataset.task, augment, train.steps, whole, machine, engine, replicas, model, trained, of_labels
    )
    compilation(model)
    size = {"parameters": model.count_params(), "flops_per_example": flops}
    name = None
    if engine.resident and training.fine_tuning is None and training.max_minutes is None:
        told = [machine, engine.xla, spec.deterministic, model.steps_per_execution, augment, train.form]
        told += [held_out["val"].form] if "val" in held_out else []
        told += [None if of_labels is None else of_labels.tolist()]
        name = program_name(model, [augment, *callbacks.values()], *told)
    model = take(name, model)
    return Built(
        model,
        machine,
        engine,
        train,
        held_out,
        callbacks,
        replace(compilation, model=model),
        size,
        memory,
        tuple(remarks),
        name,
    )


def network(spec: RunSpec, dataset: Dataset) -> Callable[[], keras.Model]:
    """Return what builds the network of a run for its data, without activation at the end.

    For a table with categories or missing values it begins with the layer that takes rows as they are.
    """
    if not dataset.columns:
        make = partial(spec.model, input_shape=dataset.input_shape, outputs=dataset.outputs)
        return partial(parts.build, "model", make)

    def of_rows() -> keras.Model:
        columns = dataset.columns
        first = nn.TableColumns(
            [column.name for column in columns], [column.categories for column in columns], name="columns"
        )
        return nn.put_first(
            spec.model(input_shape=(first.width,), outputs=dataset.outputs), first, (None, len(columns))
        )

    return partial(parts.build, "model", of_rows)


# -- Adaptation of layers to the training split -----------------------------------------------------


def adapt(model: keras.Model, split: Split, features: str | None = None) -> list[str]:
    """Measure on training examples what `TableColumns`, `Normalization` and `PatchWhitening` layers keep.

    A layer that is not adapted silently does nothing. Its input may be any tensor of the model.

    Args:
        model: its layers before the features, if it has any, stay as they are.
        split: for training.
        features: precision of features that are computed once, as `features_of` takes it; None computes
            them here for a layer that takes them.

    Returns:
        one line about missing values, and one for each `Normalization` with inputs that never change. These
        are centred only: divided by a deviation of 0, any other value would become millions.
    """
    remarks: list[str] = []
    for layer in model.layers:
        if isinstance(layer, nn.TableColumns):  # first of all: the others see what it fills
            remarks += map(Fact, layer.adapt(split.x[:]))
            continue
        is_whitening = isinstance(layer, nn.PatchWhitening)
        is_normalization = isinstance(layer, keras.layers.Normalization) and layer.input_mean is None
        if is_normalization and _sees_channels_of_bytes(layer, model, split):
            remarks += _told(layer, _adapt_to_bytes(layer, split))
        elif is_normalization and features is not None and _sees_features(layer, model):
            extractor, _ = models.split_at_features(model)
            known = features_of(extractor, split.x, split.digests, features)
            batches = (known[start : start + PIECE] for start in range(0, len(known), PIECE))
            remarks += _told(layer, _adapt_to_features(layer, map(tf.constant, batches)))
        elif is_normalization or is_whitening:
            until = keras.Model(model.inputs[0], layer.input)
            # As a graph, a few hundred at a time: run eagerly, every tensor on the way stays in memory.
            forward = tf.function(lambda x, until=until: until(x, training=False), reduce_retracing=True)
            pieces = split.pieces(256, most=WHITENING_PIECES if is_whitening else None)
            batches = (forward(tf.cast(piece, "float32")) for piece in pieces)
            if is_whitening:
                layer.adapt(batches)
            elif _sees_features(layer, model):
                remarks += _told(layer, _adapt_to_features(layer, batches))
            else:
                # What other layers have computed may differ by their rounding.
                rounding = 0.0 if layer.input is model.inputs[0] else ROUNDING
                remarks += _told(layer, _adapt_to_batches(layer, batches, rounding))
        elif any(
            isinstance(inner, keras.layers.Normalization) and inner.input_mean is None
            for inner in getattr(layer, "layers", [])
        ):
            log.warning("the Normalization inside %s is not adapted: it does nothing", layer.name)
    return remarks


def _told(layer: Any, constant: np.ndarray) -> list[str]:
    count = int(constant.sum())
    if not count:
        return []
    inputs = f"{count:,} of {constant.size:,} inputs {'never changes' if count == 1 else 'never change'}"
    return [f"{layer.name}: {inputs} in train, so centred and not divided by a deviation of 0"]


def _sees_channels_of_bytes(layer: Any, model: keras.Model, split: Split) -> bool:
    return layer.input is model.inputs[0] and split.x.dtype == np.uint8 and tuple(layer.axis) in ((3,), (-1,))


def _sees_features(layer: Any, model: keras.Model) -> bool:
    return any(one.name == models.FEATURES and layer.input is one.output for one in model.layers)


def _adapt_to_bytes(layer: Any, split: Split) -> np.ndarray:
    """Set exact mean and variance of each channel of raw pixels, in an eighth of Keras's time.

    Returns:
        which channels never change.
    """
    channels = split.x.shape[-1]
    sums, squares = np.zeros((2, math.prod(split.x.shape[1:])))
    for piece in split.pieces(EXACT_SUMS):
        rows = piece.reshape(len(piece), -1).astype(np.float32)
        sums += rows.sum(axis=0)
        squares += np.einsum("ij,ij->j", rows, rows)
    pixels = len(split) * len(sums) / channels
    mean, square = (total.reshape(-1, channels).sum(axis=0) / pixels for total in (sums, squares))
    # Whole numbers below 2⁵³: without variance, the two are equal to the last bit.
    constant = np.asarray(square == mean**2)
    layer.set_weights([mean, np.where(constant, 1.0, square - mean**2), np.zeros(())])
    layer.finalize_state()
    return constant


def _adapt_to_batches(layer: Any, batches: Iterable[tf.Tensor], rounding: float) -> np.ndarray:
    """Adapt as Keras does, except for inputs that never change by more than `rounding` times their value.

    Returns:
        which of the layer's values never change.
    """
    low, high = np.float32(np.inf), np.float32(-np.inf)

    def watched() -> Iterator[tf.Tensor]:
        nonlocal low, high
        for batch in batches:
            kept = {axis % batch.ndim for axis in layer.axis}
            others = [axis for axis in range(batch.ndim) if axis not in kept]
            low = np.minimum(low, tf.reduce_min(batch, others).numpy())
            high = np.maximum(high, tf.reduce_max(batch, others).numpy())
            yield batch

    layer.adapt(watched())
    constant = np.asarray(high - low <= rounding * np.maximum(abs(low), abs(high)))
    if constant.any():  # else not a bit is touched
        mean, variance, count = layer.get_weights()
        layer.set_weights([np.where(constant, low, mean), np.where(constant, 1.0, variance), count])
        layer.finalize_state()
    return constant


def _adapt_to_features(layer: Any, batches: Iterable[tf.Tensor]) -> np.ndarray:
    """Adapt to features of a backbone, none of which is divided by less than the deviation of the median one.

    A feature that one training picture in a hundred has, and faintly, deviates by next to nothing; in another
    picture it would be hundreds of deviations, and alone decide what the head answers.

    Returns:
        which features never change.
    """
    constant = _adapt_to_batches(layer, batches, ROUNDING)
    mean, variance, count = layer.get_weights()
    if not constant.all():
        least = np.median(variance[..., ~constant.reshape(-1)])
        layer.set_weights([mean, np.where(constant, 1.0, np.maximum(variance, least)), count])
        layer.finalize_state()
    return constant
