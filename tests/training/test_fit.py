"""The phases of a training: a head on cached features, fine-tuning, and what explains a divergence."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

from cnnbench.data.batches import Feed
from cnnbench.data.dataset import Split
from cnnbench.data.sources.synthetic import synthetic
from cnnbench.models.transfer import split_at_features, transfer
from cnnbench.nn.layers import soft_relu_naive
from cnnbench.nn.schedules import cosine
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.spec import FineTuning, Observer, RunSpec, Training
from cnnbench.training import device, diagnose, fit, run
from cnnbench.training.callbacks import BestCheckpoint, Deadline
from cnnbench.training.features import cached_features
from cnnbench.training.fit import compile_for_fine_tuning
from cnnbench.training.model import can_cache

SMALL = partial(transfer, backbone="MobileNet", weights=None, backbone_arguments={"alpha": 0.25}, dropout=0.0)


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    return RunSpec(
        name="transfer_synthetic",
        run_dir=tmp_path / "run",
        dataset=partial(synthetic, examples=60, classes=3, size=32, channels=3),
        model=SMALL,
        optimizer=keras.optimizers.Adam,
        learning_rate=0.01,
        callbacks={"checkpoint": partial(BestCheckpoint, monitor="val_loss", mode="min")},
        training=Training(epochs=2, batch_size=16, precision="float32"),
    )


def test_a_head_on_cached_features_trains_as_the_whole_model_does(spec: RunSpec, tmp_path: Path) -> None:
    cached = run.run(spec)
    training = spec.training.model_copy(update={"cache_features": False})
    whole = run.run(replace(spec, run_dir=tmp_path / "whole", training=training))
    for split in ("val", "test"):
        expected = whole.metrics["metrics"][split]["loss"]
        assert cached.metrics["metrics"][split]["loss"] == pytest.approx(expected, rel=1e-3)


def test_what_is_saved_is_the_whole_model_and_not_its_head(spec: RunSpec) -> None:
    result = run.run(spec)
    model = keras.models.load_model(RunFolder(result.folder).best_model)
    assert model.input_shape == (None, 32, 32, 3)


def test_an_unfrozen_backbone_is_not_cached() -> None:
    assert can_cache(SMALL((32, 32, 3), 2))
    assert not can_cache(SMALL((32, 32, 3), 2, trainable_from="conv_pw_13"))
    assert not can_cache(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))


def test_cached_features_keep_order_and_targets() -> None:
    model = SMALL((32, 32, 3), 2)
    extractor, _ = split_at_features(model)
    images = np.random.default_rng(0).integers(0, 255, (10, 32, 32, 3), dtype=np.uint8)
    feed = Feed(Split(images, np.arange(10)), batch_size=4, seed=3)
    features = cached_features(extractor, feed)
    direct = extractor.predict(images, verbose=0)
    for x, y in features.dataset:
        np.testing.assert_allclose(x, direct[y.numpy()], rtol=1e-4, atol=1e-5)
    orders = [np.concatenate([y.numpy() for _, y in f.dataset]) for f in (feed, features)]
    np.testing.assert_array_equal(*orders)


def test_fine_tuning_goes_on_from_the_best_epoch_with_its_own_learning_rate(spec: RunSpec) -> None:
    tuning = FineTuning(from_layer="conv_pw_13", epochs=2, learning_rate=0.0001)
    training = spec.training.model_copy(update={"fine_tuning": tuning})
    history = RunFolder(run.run(replace(spec, training=training)).folder).history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert [row["learning_rate"] for row in history] == pytest.approx([0.01, 0.01, 0.0001, 0.0001])


@pytest.fixture
def lively_weights(tmp_path: Path) -> str:
    """Weights under which a signal survives: in inference mode, random ones let it fade to 1e-17."""
    backbone = keras.applications.MobileNet(
        weights=None, include_top=False, alpha=0.25, input_shape=(32, 32, 3)
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(0.01 * np.ones(layer.moving_variance.shape))
    backbone.save_weights(tmp_path / "lively.weights.h5")
    return str(tmp_path / "lively.weights.h5")


def test_fine_tuning_changes_the_backbone_and_leaves_batch_normalisation(
    spec: RunSpec, lively_weights: str
) -> None:
    spec = replace(spec, model=partial(SMALL, weights=lively_weights))
    tuning = FineTuning(from_layer="conv_pw_13", epochs=1, learning_rate=0.1)
    training = spec.training.model_copy(update={"epochs": 1, "fine_tuning": tuning})
    result = run.run(replace(spec, callbacks={}, training=training))
    tuned = keras.models.load_model(RunFolder(result.folder).best_model)
    device.prepare_machine(spec.seed, False, "auto", "float32")
    fresh = spec.model(input_shape=(32, 32, 3), outputs=3)

    def differs(layer: str) -> bool:
        pairs = zip(tuned.get_layer(layer).get_weights(), fresh.get_layer(layer).get_weights(), strict=True)
        return any(not np.array_equal(a, b) for a, b in pairs)

    assert differs("conv_pw_13")
    assert not differs("conv_pw_12")
    assert not differs("conv_pw_13_bn")


def tuned(spec: RunSpec, **keys: object) -> RunSpec:
    """A run without a checkpoint callback, so that what it leaves are the last weights."""
    tuning = FineTuning(from_layer="conv_pw_11", epochs=3, learning_rate=0.01, **keys)
    training = spec.training.model_copy(update={"epochs": 1, "fine_tuning": tuning})
    return replace(spec, callbacks={}, training=training, deterministic=True)


class Break(Observer):
    """Ends a run as a crash would, when an epoch begins."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_started(self, epoch: int) -> None:
        if epoch == self.epoch:
            raise RuntimeError("crashed")


def test_blocks_are_unfrozen_one_by_one_and_a_crash_between_changes_nothing(
    spec: RunSpec, tmp_path: Path, lively_weights: str
) -> None:
    spec = replace(spec, model=partial(SMALL, weights=lively_weights))
    keys = {"unfreeze_epochs": 2, "layer_decay": 0.5, "l2_sp": 0.1, "schedule": "cosine"}
    spec = tuned(spec, **keys)
    whole = keras.models.load_model(RunFolder(run.run(spec).folder).best_model)
    before = keras.applications.MobileNet(
        weights=lively_weights, include_top=False, alpha=0.25, input_shape=(32, 32, 3)
    )
    changed = {
        name: not np.array_equal(whole.get_layer(name).get_weights(), before.get_layer(name).get_weights())
        for name in ("conv_pw_13", "conv_pw_12", "conv_pw_11", "conv_pw_10")
    }  # of three epochs the top block has all, the next one the last
    assert changed == {"conv_pw_13": True, "conv_pw_12": True, "conv_pw_11": False, "conv_pw_10": False}
    assert RunFolder(tmp_path / "run").history[-1]["learning_rate"] < 1e-4  # a cosine to the end
    broken = replace(spec, run_dir=tmp_path / "broken")
    with pytest.raises(RuntimeError, match="crashed"):
        run.run(broken, Break(4))  # the second block has just been unfrozen
    again = keras.models.load_model(RunFolder(run.run(broken, resume=True).folder).best_model)
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_lower_blocks_are_trained_more_slowly_and_decay_holds_them(
    spec: RunSpec, tmp_path: Path, lively_weights: str
) -> None:
    spec = replace(spec, model=partial(SMALL, weights=lively_weights))
    backbone = keras.applications.MobileNet(
        weights=lively_weights, include_top=False, alpha=0.25, input_shape=(32, 32, 3)
    )

    def moved(name: str, **keys: object) -> dict[str, float]:
        result = run.run(replace(tuned(spec, **keys), run_dir=tmp_path / name))
        model = keras.models.load_model(RunFolder(result.folder).best_model)
        layers = ("conv_pw_11", "conv_pw_13")
        pairs = {layer: (model.get_layer(layer), backbone.get_layer(layer)) for layer in layers}
        return {
            layer: float(np.abs(one.get_weights()[0] - other.get_weights()[0]).mean())
            for layer, (one, other) in pairs.items()
        }

    alike, slower, held = moved("alike"), moved("slower", layer_decay=0.1), moved("held", l2_sp=30.0)
    assert slower["conv_pw_11"] < 0.1 * alike["conv_pw_11"]
    assert slower["conv_pw_11"] < 0.3 * slower["conv_pw_13"]
    assert held["conv_pw_11"] < 0.8 * alike["conv_pw_11"]


def test_a_training_may_end_within_an_epoch_and_its_schedule_with_it(spec: RunSpec, tmp_path: Path) -> None:
    tuning = FineTuning(
        from_layer="conv_pw_13", epochs=9, learning_rate=0.01, schedule="triangular", max_steps=3
    )
    training = spec.training.model_copy(update={"epochs": 9, "max_steps": 5, "fine_tuning": tuning})
    spec = replace(spec, training=training, learning_rate=partial(cosine, initial_learning_rate=0.01))
    folder = RunFolder(run.run(spec).folder)  # of 3 steps an epoch
    assert [row["epoch"] for row in folder.history] == [1, 2, 3]
    assert folder.history[1]["learning_rate"] == pytest.approx(0.0, abs=1e-7)
    assert folder.history[2]["learning_rate"] < 0.003
    crash = replace(spec, run_dir=tmp_path / "crash")
    with pytest.raises(RuntimeError, match="crashed"):
        run.run(crash, Break(2))
    again = RunFolder(run.run(crash, resume=True).folder)
    assert [row["loss"] for row in again.history] == [row["loss"] for row in folder.history]


def test_fine_tuning_waits_for_enough_examples(spec: RunSpec) -> None:
    tuning = FineTuning(from_layer="half", epochs=1, learning_rate=0.0001, from_examples=100)
    training = spec.training.model_copy(update={"epochs": 1, "fine_tuning": tuning})
    folder = RunFolder(run.run(replace(spec, training=training)).folder)
    assert len(folder.history) == 1
    examples = len(spec.drawn(spec.dataset()).train)
    note = (
        f"no fine-tuning: {examples} training examples, and it takes 100 (training.fine_tuning.from_examples)"
    )
    assert note in folder.environment["dataset"]["notes"]
    enough = training.model_copy(
        update={"fine_tuning": tuning.model_copy(update={"from_examples": examples})}
    )
    settled = run.settled_training(replace(spec, training=enough), spec.drawn(spec.dataset()))
    assert settled.training.fine_tuning is not None
    assert not settled.notes


def test_whose_time_ended_the_first_phase_is_known_after_a_crash_in_the_second(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = FineTuning(from_layer="conv_pw_13", epochs=3, learning_rate=0.01)
    training = spec.training.model_copy(update={"epochs": 5, "save_minutes": 1e-9, "fine_tuning": tuning})
    spec = replace(spec, training=training)
    over = Deadline(lambda: 1.0, 0.0, "the time of a test")
    with monkeypatch.context() as patch:
        patch.setattr(run, "deadlines", lambda *_: {fit.FIRST: over})
        with pytest.raises(RuntimeError, match="crashed"):
            run.run(spec, Break(3))  # the second epoch of the second phase
    result = run.run(spec, resume=True)
    assert result.metrics["epochs"] == 4
    assert result.metrics["stopped_by"] == "the time of a test"


def test_fine_tuning_has_a_weight_decay_of_its_own() -> None:
    def compiled(decay: float | None) -> float:
        model = SMALL((32, 32, 3), 2)
        settings = FineTuning(from_layer="half", epochs=1, learning_rate=0.1, weight_decay=decay)

        def compile_it(part: keras.Model, rate: float) -> None:
            part.compile(keras.optimizers.AdamW(rate, weight_decay=2.0))

        compile_for_fine_tuning(model, settings, 1, compile_it, {})
        return float(model.optimizer.weight_decay)

    assert compiled(0.05) == 0.05
    assert compiled(None) == 2.0


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_targets_that_are_scaled_where_there_are_some_are_those_of_a_regression(
    spec: RunSpec, task: str
) -> None:
    dataset = spec.drawn(synthetic(examples=60, size=8, task=task))
    training = spec.training.model_copy(update={"scale_targets": "auto"})
    settled = run.settled_training(replace(spec, training=training), dataset)
    assert settled.training.scale_targets is (task == "regression")


def test_fine_tuning_of_a_layer_that_is_not_there_names_the_nearest(spec: RunSpec) -> None:
    tuning = FineTuning(from_layer="conv_pw_99", epochs=1, learning_rate=0.1)
    training = spec.training.model_copy(update={"epochs": 1, "fine_tuning": tuning})
    with pytest.raises(Exception, match="conv_pw_99"):
        run.run(replace(spec, training=training))


def naive_model() -> keras.Model:
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(3, activation=soft_relu_naive, kernel_initializer="ones", name="hidden")(
        inputs
    )
    model = keras.Model(inputs, keras.layers.Dense(1, name="outputs")(hidden))
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_the_first_tensor_that_is_not_finite_is_named() -> None:
    x = np.array([[1.0, 2.0], [100.0, 3.0]], np.float32)
    diagnosis = diagnose.examine(naive_model(), x, np.zeros((2, 1), np.float32))
    assert diagnosis.first is not None
    assert diagnosis.first.label == "layer hidden"
    assert (diagnosis.first.bad, diagnosis.first.size) == (3, 6)
    assert "inputs range from 1 to 100" in diagnosis.sentence


def test_an_input_that_is_not_finite_is_the_first() -> None:
    x = np.array([[np.nan, 2.0]], np.float32)
    diagnosis = diagnose.examine(naive_model(), x, np.zeros((1, 1), np.float32))
    assert diagnosis.first is not None
    assert diagnosis.first.kind == "input"
    assert "clean the data" in diagnosis.advice


def test_a_gradient_can_be_the_first() -> None:
    # exp(88) is finite, and so is its logarithm; the gradient of where() is 0 * infinity at 100.
    @keras.saving.register_keras_serializable("tests")
    def piecewise(z: object) -> object:
        return keras.ops.where(z > 30, z, keras.ops.log1p(keras.ops.exp(z)))

    inputs = keras.Input((1,))
    model = keras.Model(
        inputs, keras.layers.Dense(1, activation=piecewise, kernel_initializer="ones", name="hidden")(inputs)
    )
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    diagnosis = diagnose.examine(model, np.array([[100.0]], np.float32), np.zeros((1, 1), np.float32))
    assert diagnosis.first is not None
    assert diagnosis.first.kind == "gradient"


def test_a_finite_step_has_no_first_and_examining_changes_nothing() -> None:
    model = naive_model()
    before = diagnose.snapshot(model)
    diagnosis = diagnose.examine(model, np.ones((4, 2), np.float32), np.zeros((4, 1), np.float32))
    assert diagnosis.first is None
    for old, new in zip(before, diagnose.snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_bad_step_is_found_and_the_model_is_as_it_was_before_it() -> None:
    x = np.ones((8, 2), np.float32)
    x[5] = 100
    feed = Feed(Split(x, np.zeros(8, np.float32)), batch_size=2, column=True)
    model = naive_model()
    before = diagnose.snapshot(model)
    bad = diagnose.find_bad_step(model, feed, before)
    assert bad is not None
    assert (bad.epoch, bad.step) == (1, 3)
    np.testing.assert_array_equal(bad.x, x[4:6])
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert not all(np.array_equal(a, b) for a, b in zip(before, diagnose.snapshot(model), strict=True))
