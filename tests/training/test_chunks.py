"""Chunks of steps: the same training as by Keras's own steps, in as few programs as promised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, Outcome, own_model

from cnnbench.data import Feed, Split
from cnnbench.data.augmentation.operations import augmentation
from cnnbench.data.batches import _taker_of_16_bits, _taker_of_bytes
from cnnbench.runs import Training
from cnnbench.runs.folder import RunFolder
from cnnbench.training import chunks as module
from cnnbench.training import fit
from cnnbench.training import model as parts
from cnnbench.training.chunks import Chunks, Engine, evaluate_in_chunks, train_in_chunks
from cnnbench.training.device import Machine

Cli = Callable[..., Outcome]
SHAPE, CLASSES = (6, 6, 3), 3
ON_CPU = Engine("CPU:0", resident=True, xla=False)
BY_XLA = Engine("CPU:0", resident=True, xla=True)


class Epochs(keras.callbacks.Callback):
    """What a run's recorder does for the feed."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.feed = feed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.feed.epoch = epoch


def examples(count: int) -> Split:
    drawn = np.random.default_rng(0)
    return Split(drawn.integers(0, 255, (count, *SHAPE)).astype(np.uint8), drawn.integers(0, CLASSES, count))


def network(chained: int, soft_labels: bool = False) -> keras.Model:
    """A compiled network of everything that depends on which examples are in a batch; no dropout."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input(SHAPE)
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, activity_regularizer=keras.regularizers.L2(0.01))(x)
    x = layers.Flatten()(layers.BatchNormalization()(x))
    model = parts.with_activation(keras.Model(inputs, layers.Dense(CLASSES)(x)), "multiclass")
    loss = keras.losses.CategoricalCrossentropy() if soft_labels else "sparse_categorical_crossentropy"
    metrics = parts.training_metrics("multiclass", soft_labels)
    parts.compile_with(model, keras.optimizers.Adam(0.01), loss, metrics, chained, jit_compile=False)
    return model


def history(
    engine: Engine | None,
    count: int = 33,
    chained: int = 2,
    augment: Any = None,
    class_weight: Mapping[int, float] | None = None,
) -> tuple[dict[str, list[float]], Chunks | None]:
    """Train for three epochs, by Keras's own steps, with its own class weights, where `engine` is None."""
    model, split = network(chained, soft_labels=parts.mixes(augment)), examples(count)
    weights = None
    if engine and class_weight:
        weights = np.array([class_weight[label] for label in split.y.tolist()])
    train, val = Feed(split, 8, 1, augment, weights=weights), None if augment else Feed(examples(9), 4)
    given = {"epochs": 3, "shuffle": False, "verbose": 0, "callbacks": [Epochs(train)]}
    if engine is None:
        data = val and val.dataset
        fitted = model.fit(train.dataset, validation_data=data, class_weight=class_weight, **given)
        return fitted.history, None
    trained = train_in_chunks(model, train, engine)
    if val is not None:
        evaluate_in_chunks(model, val, engine)
    return model.fit(train.numbers, validation_data=val and val.numbers, **given).history, trained


# 33 examples in batches of 8: the last batch has one; 5 are fewer than a batch.
@pytest.mark.parametrize("count", [32, 33, 5])
@pytest.mark.parametrize("chained", [1, 2, 100])
def test_chunks_train_as_keras_does_to_the_last_bit(count: int, chained: int) -> None:
    assert history(ON_CPU, count, chained)[0] == history(None, count, chained)[0]


@pytest.mark.parametrize("count", [32, 33, 5])
def test_xla_trains_the_same_to_rounding(count: int) -> None:
    found, trained = history(BY_XLA, count)
    expected, _ = history(None, count)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-4, atol=2e-5)
    assert trained is not None
    assert (trained.compile_seconds is not None) == (count > 8)


def test_partners_of_mixup_are_examples_of_the_same_batch() -> None:
    augment = augmentation(horizontal_flip="alternating", mixup=0.4, cutmix=1.0)
    augment = augment.for_data(SHAPE, CLASSES, "multiclass")
    expected, _ = history(None, augment=augment)
    for engine, rounding in ((ON_CPU, 1e-6), (BY_XLA, 2e-4)):
        found, _ = history(engine, augment=augment)
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=rounding)


def test_weights_of_examples_are_those_of_keras() -> None:
    weights = {0: 0.5, 1: 1.0, 2: 3.0}
    expected = history(None, class_weight=weights)[0]
    assert history(ON_CPU, class_weight=weights)[0] == expected
    by_xla = history(BY_XLA, class_weight=weights)[0]
    np.testing.assert_allclose(by_xla["loss"], expected["loss"], rtol=2e-4)
    assert history(ON_CPU)[0]["loss"] != expected["loss"]


def test_one_program_trains_and_one_takes_what_is_left() -> None:
    _, trained = history(BY_XLA, count=8 * 5 + 3)
    assert trained is not None
    assert trained._compiled.experimental_get_tracing_count() == 1
    assert trained._plain.experimental_get_tracing_count() == 1
    _, without_rest = history(BY_XLA, count=32)
    assert without_rest is not None
    assert without_rest._plain.experimental_get_tracing_count() == 0


class Stop(keras.callbacks.Callback):
    """Stops within an epoch, after a chunk."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.stop_training = batch >= 3


@pytest.mark.parametrize("engine", [ON_CPU, BY_XLA], ids=["plain", "xla"])
def test_the_rest_of_an_epoch_is_that_of_the_whole(engine: Engine) -> None:
    feed = Feed(
        examples(8 * 9 + 1), 8, 1, augmentation(crop_padding=1).for_data(SHAPE, CLASSES, "multiclass")
    )
    given: dict[str, Any] = {"shuffle": False, "verbose": 0}
    whole, broken = network(2), network(2)
    train_in_chunks(whole, feed, engine)
    whole.fit(feed.numbers, **given)
    chunks = train_in_chunks(broken, feed, engine)
    broken.fit(feed.numbers, callbacks=[Stop()], **given)
    assert int(broken.optimizer.iterations) == 4
    chunks.feed = feed.part(4)
    broken.fit(chunks.feed.numbers, **given)
    assert int(broken.optimizer.iterations) == 10
    for found, expected in zip(broken.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def programs(monkeypatch: pytest.MonkeyPatch) -> list[Chunks]:
    made: list[Chunks] = []
    begin = Chunks.__init__

    def noted(self: Chunks, *given: Any, **named: Any) -> None:
        begin(self, *given, **named)
        made.append(self)

    monkeypatch.setattr(Chunks, "__init__", noted)
    return made


def traces(made: list[Chunks]) -> int:
    every = [program for chunks in made for program in (chunks._plain, chunks._compiled) if program]
    return sum(program.experimental_get_tracing_count() for program in every)


def test_a_run_has_two_programs_and_one_of_two_phases_four(
    run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs(monkeypatch)
    module._kept.clear()  # of runs before
    assert run_cli(*TINY, "training.epochs=3").exit_code == 0
    assert traces(made) == 2  # training and validation
    made.clear()
    asked: list[Any] = []
    monkeypatch.setattr(
        "cnnbench.training.build.choose_engine", lambda *given: Engine("CPU:0", True, False, "", "abc")
    )
    monkeypatch.setattr(fit, "compiled_if_worth", lambda engine, *told, **_: asked.append(told[1:]) or engine)
    backbone = ("backbone=MobileNet", "weights=null", "backbone_arguments={alpha:0.25}")
    phases = "training.fine_tuning={from_layer:conv_pw_13,epochs:2,learning_rate:1e-5}"
    line = [text for text in TINY if not text.startswith(("model.", "dataset.size"))]
    line += ["model=transfer", *(f"model.{text}" for text in backbone)]
    outcome = run_cli(*line, "dataset.size=32", "dataset.channels=3", phases, "training.epochs=2")
    assert outcome.exit_code == 0, outcome.err
    assert traces(made) == 4
    steps = made[0].feed.steps
    assert asked == [(2 * steps, "training", 32), (2 * steps, "fine_tuning", 32)]  # each decides anew


def test_the_host_feeds_where_it_is_asked_to_and_trains_the_same(run_cli: Cli, folder: Path) -> None:
    for name, resident in (("here", "null"), ("host", "false")):
        line = (*TINY, "training.epochs=2", f"training.resident={resident}", f"run_dir={name}")
        assert run_cli(*line).exit_code == 0
    here, host = (RunFolder(folder / name) for name in ("here", "host"))
    assert [row["loss"] for row in here.history] == [row["loss"] for row in host.history]
    assert (here.environment["engine"]["resident"], host.environment["engine"]["resident"]) == (True, False)


def test_what_xla_cannot_compile_runs_without_it_and_says_so(run_cli: Cli, folder: Path) -> None:
    source = """
import keras, tensorflow as tf

@keras.saving.register_keras_serializable("own")
class Sorted(keras.layers.Layer):
    def call(self, x):
        return tf.ensure_shape(tf.numpy_function(lambda a: a, [x], tf.float32), x.shape)

def own(input_shape, outputs):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(outputs)(Sorted()(keras.layers.Flatten()(inputs))))
"""
    line = own_model(folder, "own", source)
    outcome = run_cli(*line, "training.jit_compile=true", "training.epochs=2", "run_dir=run")
    assert outcome.exit_code == 0, outcome.err
    assert "XLA cannot compile the steps of this training" in outcome.err
    assert len(RunFolder(folder / "run").history) == 2


def test_a_damaged_program_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[Any] = []
    monkeypatch.setattr(module, "clear_caches", lambda names: cleared.append(names) or 1)
    _, trained = history(ON_CPU)
    assert trained is not None
    failures = [tf.errors.OutOfRangeError(None, None, "Read less bytes than requested")]

    def run(*given: Any) -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert trained._run(run) == "done"
    assert cleared == [["xla"]]
    monkeypatch.setattr(module, "clear_caches", lambda names: 0)
    failures.append(tf.errors.OutOfRangeError(None, None, "an iterator of the user's own"))
    with pytest.raises(tf.errors.OutOfRangeError, match="own"):
        trained._run(run)


@pytest.mark.parametrize("shape", [(6, 6, 3), (5, 5, 1), (2, 4, 1), (7,)])
def test_bytes_gathered_as_words_are_the_same_bytes(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 256, (11, *shape)).astype(np.uint8)
    indices = np.array([3, 3, 10, 0], np.int32)
    words, take = _taker_of_bytes(tf.constant(x))
    np.testing.assert_array_equal(take(words, indices), x[indices])
    deep = x.astype(np.uint16) * 257 - np.uint16(3)
    words, take = _taker_of_16_bits(tf.constant(deep))
    np.testing.assert_array_equal(take(words, indices), deep[indices])


# ---------------------------------------------------------------- the choice


class Setting:
    """A run's spec, as far as the choice asks for it."""

    augmentation = None
    rehearses: Training | None = None

    def __init__(self, deterministic: bool = False, **training: Any) -> None:
        self.deterministic, self.training = deterministic, Training(**training)


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    known: dict[str, Any] = {}
    monkeypatch.setattr(module, "recall", lambda name, key: known.get(key))
    monkeypatch.setattr(module, "remember", lambda name, key, value: known.update({key: value}))
    monkeypatch.setattr(module, "gpu_memory_free", lambda: 10**6)
    return known


def choose(machine: str, setting: Setting, count: int = 6400, **given: Any) -> Engine:
    split = Split(np.zeros((count, *SHAPE), np.uint8), np.zeros(count, int))
    on = Machine(machine, machine == "GPU", "float32")
    return module.choose_engine(setting, split, network(1), on, given.pop("replicas", 1), **given)  # type: ignore[arg-type]


@pytest.mark.usefixtures("remembered")
def test_xla_is_for_runs_long_enough_on_a_gpu() -> None:
    assert not choose("CPU", Setting(epochs=1000)).xla
    short = choose("GPU", Setting(epochs=10))
    assert not short.xla
    assert "1,000 steps" in short.why
    assert choose("GPU", Setting(epochs=1000)).xla
    assert not choose("GPU", Setting(epochs=10**6, deterministic=True)).xla
    assert choose("GPU", Setting(epochs=1, jit_compile=True)).xla
    assert choose("CPU", Setting(epochs=1, jit_compile=True)).xla


def test_short_runs_compile_once_they_would_have_gained_it(remembered: dict[str, Any]) -> None:
    chosen = [choose("GPU", Setting(epochs=20)) for _ in range(5)]  # 10.75 s to compile, 3.5 s gained by each
    assert [engine.xla for engine in chosen] == [False, False, False, True, True]
    assert "lost by shorter runs before" in chosen[1].why
    remembered[chosen[0].network] = {"seconds": 2.0}  # as it took, and it is kept
    assert choose("GPU", Setting(epochs=20)).xla
    assert not choose("GPU", Setting(epochs=5)).xla


def test_a_rehearsal_is_compiled_as_what_it_stands_for_and_loses_nothing(remembered: dict[str, Any]) -> None:
    for epochs in (10, 1000):
        tried = Setting(epochs=4)
        tried.rehearses = Training(epochs=epochs)
        assert choose("GPU", tried).xla == (epochs == 1000)
    assert remembered == {}


@pytest.mark.usefixtures("remembered")
def test_a_resumed_run_goes_on_as_it_began() -> None:
    before = {"xla": True, "why": "it was long", "network": "abc"}
    assert choose("GPU", Setting(epochs=1), before=before).xla
    assert not choose("GPU", Setting(epochs=1, jit_compile=False), before=before).xla
    assert not choose("CPU", Setting(epochs=1), before=before).xla  # where a program of XLA is slow


@pytest.mark.usefixtures("remembered")
def test_examples_lie_on_the_gpu_where_they_leave_half_of_it_free() -> None:
    assert choose("GPU", Setting(), count=4000).resident  # 432 kB of 1 MB
    assert not choose("GPU", Setting(), count=5000).resident
    assert choose("GPU", Setting(resident=True), count=5000).resident
    assert not choose("GPU", Setting(resident=False)).resident
    assert not choose("GPU", Setting(), replicas=2).resident


def test_seconds_of_compiling_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(module, "remember", lambda *given: told.append(given))
    history(Engine("CPU:0", resident=True, xla=True, network="abc"))
    [(name, key, seconds)] = told
    assert (name, key) == ("compilation", "abc")
    assert seconds["seconds"] > 0
