"""The ingredients of the public speed records, each as an option of any model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import Outcome

from cnnbench.data.augmentation.operations import augmentation
from cnnbench.data.batches import Feed
from cnnbench.data.dataset import Split
from cnnbench.data.sources.digits import digits
from cnnbench.errors import CnnbenchError
from cnnbench.inference.layers import class_activation
from cnnbench.models.airbench import airbench
from cnnbench.models.cnn import cnn
from cnnbench.models.fast import fast_cnn
from cnnbench.models.mlp import mlp
from cnnbench.models.resnet import resnet, wide_resnet
from cnnbench.models.vgg import vgg
from cnnbench.nn import checkpoints, optimizers, schedules
from cnnbench.nn.layers import Dirac, PatchWhitening
from cnnbench.nn.optimizers import HOOKS, Muon
from cnnbench.nn.test_time import MeanOfViews, TestTimeViews, with_test_time_augmentation
from cnnbench.training import kernels
from cnnbench.training import model as model_module
from cnnbench.training.build import adapt
from cnnbench.training.kernels import use_fast_kernels, use_fast_update

Cli = Callable[..., Outcome]
SHAPE = (16, 16, 3)
FAMILIES: dict[Any, dict[str, Any]] = {
    airbench: {"filters": (8, 8)},
    cnn: {"filters": (8,), "dense_units": (8,)},
    fast_cnn: {"stem_filters": 8, "filters": (8,)},
    resnet: {"depth": 8},
    wide_resnet: {"depth": 10, "width": 1},
    vgg: {"depth": 11, "width": 4, "dense_units": (8,)},
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(0)


def images(count: int = 48) -> np.ndarray:
    """Smooth images, whose neighbouring pixels are alike as those of photographs."""
    noise = np.random.default_rng(0).normal(size=(count, *SHAPE))
    smooth = sum(np.roll(noise, (i, j), (1, 2)) for i in range(3) for j in range(3))
    return np.clip(128 + 20 * smooth, 0, 255).astype(np.uint8)


# ---------------------------------------------------------------- all of it together


def test_a_run_with_all_of_it_gives_its_figures_in_plain_keras(
    run_cli: Cli, folder: Path, tmp_path: Path, verified_here: None
) -> None:
    line = (
        *(
            "dataset=digits",
            "model=airbench",
            "model.filters=[8,8]",
            "optimizer=muon",
            "loss=label_smoothing",
        ),
        *(
            "augmentation=flip_crop",
            "augmentation.horizontal_flip=alternating",
            "augmentation.crop_padding=1",
        ),
        *("training=smoke", "training.test_time_augmentation=mirror_translate", "training.epochs=2"),
        *("optimizer.use_ema=true", "optimizer.ema_momentum=0.8", "optimizer.ema_overwrite_frequency=5"),
        "device=cpu",
    )
    outcome = run_cli(*line, "run_dir=run")
    assert outcome.exit_code == 0, outcome.err
    test = digits().test
    np.savez(tmp_path / "test.npz", x=test.x, y=test.y)
    code = """
import sys
import cnnbench.nn, keras
import numpy as np
data = np.load(sys.argv[2])
model = keras.models.load_model(sys.argv[1])
print(model.evaluate(data["x"], data["y"], verbose=0, return_dict=True)["accuracy"])
"""
    arguments = [sys.executable, "-c", code, str(folder / "run" / "best.keras"), str(tmp_path / "test.npz")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reported = json.loads((folder / "run" / "metrics.json").read_text())["metrics"]["test"]
    assert float(done.stdout) == pytest.approx(reported["accuracy"], abs=1e-6)
    assert run_cli("verify", "run").exit_code == 0


# ---------------------------------------------------------------- whitening


def test_whitened_patches_are_uncorrelated_and_of_variance_one() -> None:
    model = cnn(SHAPE, 3, filters=(4,), normalization="whitening")
    adapt(model, Split(images(), np.zeros(48)))
    layer = model.get_layer("whitening")
    x = keras.Model(model.inputs, layer.output).predict(images(), verbose=0).reshape(-1, 24)
    np.testing.assert_allclose(x[:, :12], -x[:, 12:], atol=1e-4)
    # Around 0, not around their mean: that of the pixels is 0 already.
    np.testing.assert_allclose(x[:, :12].T @ x[:, :12] / len(x), np.eye(12), atol=0.02)
    assert [weight.name for weight in layer.trainable_weights] == ["bias"]


@pytest.mark.parametrize("family", FAMILIES)
def test_whitening_is_an_option_of_every_family_and_survives_a_file(family: Any, tmp_path: Path) -> None:
    model = family(SHAPE, 3, normalization="whitening", **FAMILIES[family])
    adapt(model, Split(images(), np.zeros(48)))
    model.save(tmp_path / "model.keras")
    outputs = checkpoints.load_checkpoint(tmp_path / "model.keras").predict(images(), verbose=0)
    assert np.isfinite(outputs).all()
    np.testing.assert_array_equal(outputs, model.predict(images(), verbose=0))


def test_a_table_has_no_patches() -> None:
    with pytest.raises(CnnbenchError, match="images"):
        mlp((5,), 3, normalization="whitening")


# ---------------------------------------------------------------- identity initialisation


@pytest.mark.parametrize(("channels", "filters"), [(4, 6), (6, 4), (4, 4)])
def test_dirac_kernels_pass_channels_on(channels: int, filters: int) -> None:
    layer = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=Dirac(0))
    x = np.random.default_rng(0).normal(size=(2, 5, 5, channels)).astype(np.float32)
    passed = min(channels, filters)
    outputs = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(outputs[..., :passed], x[..., :passed], atol=1e-6)
    assert outputs[..., passed:].any() == (filters > channels)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_initializer_is_an_option_of_every_family(family: Any) -> None:
    model = family(SHAPE, 3, kernel_initializer="dirac", **FAMILIES[family])
    kernels = [layer.kernel.numpy() for layer in model.layers if type(layer) is keras.layers.Conv2D]
    assert kernels
    for kernel in (one for one in kernels if one.shape[0] == 3):
        assert kernel[1, 1, 0, 0] == 1
        assert not kernel[0, :, :, 0].any()
    with pytest.raises(ValueError, match="nonsense"):
        family(SHAPE, 3, kernel_initializer="nonsense", **FAMILIES[family])


# ---------------------------------------------------------------- flips in turn


def test_alternating_flips_show_each_image_both_ways_in_two_epochs() -> None:
    x = np.arange(20, dtype=np.uint8)[:, None, None, None] + np.array([0, 100], np.uint8)[None, None, :, None]
    made = augmentation(horizontal_flip="alternating").for_data((1, 2, 1), 20, "multiclass")
    feed = Feed(Split(x, np.arange(20)), 8, seed=3, augment=made)

    def flipped(epoch: int) -> np.ndarray:
        feed.epoch = epoch
        shown = {
            int(y): bool(img[0, 0, 0] >= 100)
            for xs, ys in feed.dataset
            for img, y in zip(xs, ys, strict=True)
        }
        return np.array([shown[number] for number in range(20)])

    first = flipped(0)
    assert 0 < first.sum() < 20
    assert (flipped(1) == ~first).all()
    assert (flipped(2) == first).all()


def test_alternating_flips_go_with_crops() -> None:
    made = augmentation(horizontal_flip="alternating", crop_padding=1).for_data((3, 3, 1), 2, "multiclass")
    x = np.tile(np.array([10, 20, 30], np.uint8)[None, None, :, None], (40, 3, 1, 1))
    turned = np.arange(40) % 2
    shown, _ = made(
        tf.constant(x), tf.zeros(40, tf.int32), tf.constant([0, 1]), tf.constant(turned, tf.int32)
    )
    seen = {(int(turn), tuple(row)) for turn, row in zip(turned, shown[:, 1, :, 0].numpy(), strict=True)}
    ways = {(10, 20, 30), (0, 10, 20), (20, 30, 0)}
    assert {row for turn, row in seen if turn == 0} == ways
    assert {row for turn, row in seen if turn == 1} == {way[::-1] for way in ways}


# ---------------------------------------------------------------- learning rate


def test_triangular_rises_and_falls_in_straight_lines() -> None:
    schedule = schedules.triangular(10, 4, 0.8, warmup_epochs=1, final_fraction=0.25)
    rates = np.array([float(schedule(step)) for step in range(40)])
    assert rates.argmax() in (9, 10)
    assert rates.max() == pytest.approx(0.8, rel=0.06)
    np.testing.assert_allclose(np.diff(rates[:9]), 0.08, rtol=1e-4)
    np.testing.assert_allclose(np.diff(rates[11:]), -0.8 * 0.75 / 30, rtol=1e-3)
    assert rates[-1] == pytest.approx(0.2 + 0.8 * 0.75 / 60, rel=1e-4)
    plain = schedules.triangular(10, 4, 0.8)
    assert float(plain(0)) == pytest.approx(0.8 * (1 - 0.5 / 40))
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert float(again(17)) == float(schedule(17))


# ---------------------------------------------------------------- averages of the weights


def test_averaged_weights_are_the_result_and_lookahead_learns(run_cli: Cli, folder: Path) -> None:
    line = ("model=mlp", "dataset=digits", "device=cpu", "training.epochs=4")
    plain = ("callbacks.checkpoint=null", "callbacks.early_stopping=null")
    averaged, lookahead = (
        "optimizer.use_ema=true",
        ("optimizer.ema_momentum=0.8", "optimizer.ema_overwrite_frequency=5"),
    )
    found = {}
    for name, more in {
        "plain": plain,
        "averaged": (*plain, averaged),
        "lookahead": (averaged, *lookahead),
    }.items():
        assert run_cli(*line, *more, f"run_dir={name}").exit_code == 0
        found[name] = json.loads((folder / name / "metrics.json").read_text())["metrics"]["test"]
    assert found["averaged"]["loss"] != found["plain"]["loss"]
    assert found["lookahead"]["loss"] not in (found["plain"]["loss"], found["averaged"]["loss"])
    assert found["lookahead"]["accuracy"] > 0.75
    outcome = run_cli(*line, averaged)
    assert outcome.exit_code == 2
    assert "callbacks.checkpoint=null" in outcome.err


# ---------------------------------------------------------------- Muon


def trained_step(**settings: Any) -> tuple[keras.Model, Muon, list[np.ndarray]]:
    model = cnn(SHAPE, 3, filters=(8,), dense_units=(4,), batch_normalization=False)
    optimizer = Muon(0.1, **settings)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    before = [variable.numpy() for variable in model.trainable_variables]
    model.fit(images(), np.arange(48) % 3, batch_size=48, verbose=0)
    return model, optimizer, before


def test_muon_moves_a_convolution_along_an_orthogonal_matrix_and_holds_its_length() -> None:
    model, _, before = trained_step()
    kernel, old = model.trainable_variables[0].numpy(), before[0]
    held = old * np.sqrt(8) / np.linalg.norm(old)
    moved = (held - kernel).reshape(-1, 8) / 0.1
    # Three iterations bring all singular values near 1, not onto it.
    values = np.linalg.svd(moved, compute_uv=False)
    assert values.max() < 1.4
    assert (values > 0.3).sum() >= 6


def test_muon_leaves_all_else_to_adam() -> None:
    model, optimizer, before = trained_step(adam_lr_ratio=0.01)
    for variable, old in list(zip(model.trainable_variables, before, strict=True))[1:]:
        # Adam's first step is the learning rate in size, whatever the gradient.
        moved = np.abs(variable.numpy() - old)
        assert moved.max() <= 0.1 * 0.01 * 1.01
        assert moved.max() > 0.1 * 0.01 * 0.5 or not moved.any()
    assert optimizer._should_use_adamw(model.trainable_variables[0]) is False
    _, excluding, _ = trained_step(exclude_layers=["conv_1"])
    assert all(velocity is not None for velocity in excluding.adam_velocities)


def test_muon_leaves_all_else_to_sgd_where_it_is_asked_to() -> None:
    variables = [keras.Variable(np.full(shape, 2.0)) for shape in ((3, 3, 4, 8), (8, 3), (8,))]
    optimizer = Muon(
        0.1, all_else="sgd", sgd_lr_ratio=5.0, sgd_momentum=0.5, bias_lr_scale=0.1, adam_weight_decay=0.2
    )
    expected = {1: np.full((8, 3), 2.0), 2: np.full(8, 2.0)}
    gathered = 0.0
    for gradient in (1.0, -3.0):
        optimizer.apply([tf.fill(one.shape, gradient) for one in variables], variables)
        gathered = gradient + 0.5 * gathered
        for place, rate in ((1, 0.5), (2, 0.05)):
            decayed = expected[place] * (1 - 0.1 * 0.2)
            expected[place] = decayed - rate * (gradient + 0.5 * gathered)  # Nesterov's
    for place, values in expected.items():
        np.testing.assert_allclose(variables[place].numpy(), values, rtol=1e-5)
    assert np.linalg.norm(variables[0].numpy()) == pytest.approx(np.sqrt(8), rel=0.2)  # a kernel as ever


def test_biases_have_a_learning_rate_of_their_own() -> None:
    weight, bias = keras.Variable(np.zeros((8, 3))), keras.Variable(np.zeros(8))
    Muon(0.1, adam_lr_ratio=0.01, bias_lr_scale=4.0).apply([tf.ones((8, 3)), tf.ones(8)], [weight, bias])
    np.testing.assert_allclose(weight.numpy(), -0.001, rtol=1e-4)  # Adam's first step
    np.testing.assert_allclose(bias.numpy(), -0.004, rtol=1e-4)


def test_muon_leaves_depthwise_kernels_to_adam_and_bears_float16() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        kernel, depthwise = keras.Variable(np.ones((3, 3, 4, 4))), keras.Variable(np.ones((3, 3, 4, 1)))
        optimizer = Muon(0.1)
        optimizer.build([kernel, depthwise])
        assert optimizer._should_use_adamw(depthwise)
        gradients = [tf.fill(variable.shape, 1e-6) for variable in (kernel, depthwise)]
        optimizer.apply(gradients, [kernel, depthwise])
        assert np.isfinite(kernel.numpy()).all()
    finally:
        keras.config.set_dtype_policy("float32")


def test_muon_survives_a_file(tmp_path: Path) -> None:
    model, optimizer, _ = trained_step(
        momentum=0.7, all_else="sgd", sgd_lr_ratio=2.0, sgd_momentum=0.5, bias_lr_scale=3.0
    )
    model.save(tmp_path / "model.keras")
    again = checkpoints.load_checkpoint(tmp_path / "model.keras").optimizer
    assert isinstance(again, Muon)
    assert again.get_config() == optimizer.get_config()
    for one, other in zip(again.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- views at test time


@pytest.mark.parametrize("views", ["mirror", "mirror_translate"])
def test_a_prediction_is_the_mean_over_views(views: Any, tmp_path: Path) -> None:
    built = fast_cnn(SHAPE, 3, stem_filters=8, filters=(8,))
    model = with_test_time_augmentation(built, views)
    x = images(5).astype(np.float32)

    def mirrored(batch: np.ndarray) -> np.ndarray:
        return (built.predict(batch, verbose=0) + built.predict(batch[:, :, ::-1], verbose=0)) / 2

    expected = mirrored(x)
    if views == "mirror_translate":
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        shifted = (mirrored(padded[:, :16, :16]) + mirrored(padded[:, 2:, 2:])) / 2
        expected = (expected + shifted) / 2
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(
        checkpoints.load_checkpoint(tmp_path / "model.keras").predict(x, verbose=0), expected, atol=1e-5
    )


def test_views_are_not_shown_in_training_and_no_layer_stands_in_two_graphs() -> None:
    built = resnet(SHAPE, 3, depth=8)
    model = with_test_time_augmentation(built, "mirror")
    keras.utils.set_random_seed(1)
    expected = built(images(4).astype(np.float32), training=True)
    outputs = model(images(4).astype(np.float32), training=True)
    np.testing.assert_allclose(outputs, expected, atol=1e-4)
    assert all(len(layer._inbound_nodes) == 1 for layer in model.layers)
    assert with_test_time_augmentation(built, None) is built
    with pytest.raises(CnnbenchError, match="images"):
        with_test_time_augmentation(mlp((5,), 3), "mirror")


def arithmetic() -> keras.Model:
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3)(inputs) * 2.0 + 1.0
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


def in_sequence() -> keras.Model:
    return keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(3)])


@pytest.mark.parametrize("make", [arithmetic, in_sequence])
def test_views_are_for_models_of_any_make(make: Callable[[], keras.Model]) -> None:
    built = make()
    x = images(3).astype(np.float32)
    expected = (built.predict(x, verbose=0) + built.predict(x[:, :, ::-1], verbose=0)) / 2
    np.testing.assert_allclose(
        with_test_time_augmentation(built, "mirror").predict(x, verbose=0), expected, rtol=1e-4
    )


def test_views_keep_features_from_being_computed_once(run_cli: Cli, folder: Path) -> None:
    line = ("dataset=digits", "model=transfer", "model.backbone=MobileNetV3Small", "model.weights=null")
    outcome = run_cli(
        *line, "training=smoke", "training.test_time_augmentation=mirror", "device=cpu", "run_dir=run"
    )
    assert outcome.exit_code == 0, outcome.err
    assert "features computed once" not in (folder / "run" / "cnnbench.log").read_text()


def test_grad_cam_of_a_model_with_views_looks_at_the_image_as_it_lies() -> None:
    built = model_module.with_activation(fast_cnn(SHAPE, 3, stem_filters=8, filters=(8,)), "multiclass")
    x = images(20).astype(np.float32)
    model = with_test_time_augmentation(built, "mirror")
    heat, outputs = class_activation(model, model.get_layer("stage_1"), x, "multiclass")
    assert heat.shape == (20, *SHAPE[:2])
    assert outputs.shape == (20, 3)


def test_views_say_what_they_are_made_of() -> None:
    for layer in (TestTimeViews("mirror_translate"), MeanOfViews("mirror_translate"), PatchWhitening(3)):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()


# ---------------------------------------------------------------- fast kernels


@pytest.mark.parametrize("keywords", [{}, {"scale": False}, {"center": False}])
def test_fused_batch_normalisation_is_keras_s_own(keywords: dict[str, bool], tmp_path: Path) -> None:
    def network() -> keras.Model:
        inputs = keras.Input((6, 6, 4))
        x = keras.layers.Conv2D(5, 3, kernel_initializer=Dirac(1))(inputs)
        x = keras.layers.BatchNormalization(momentum=0.8, **keywords)(x)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
        x = keras.layers.BatchNormalization()(x)  # of no feature maps: stays as it is
        model = keras.Model(inputs, keras.layers.Dense(2, kernel_initializer="ones")(x))
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        return model

    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, (24, 6, 6, 4)).astype(np.float32), rng.normal(size=(24, 2)).astype(np.float32)
    plain, fused = network(), network()
    assert use_fast_kernels(fused) == 1
    for model in (plain, fused):
        model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    for one, other in zip(plain.get_weights(), fused.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
    fused.save(tmp_path / "model.keras")
    stored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(stored.predict(x, verbose=0), fused.predict(x, verbose=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "is_fast"),
    [
        (lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 3, 0.5)), True),
        (lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5, use_ema=True), True),
        (lambda: keras.optimizers.SGD(0.05, momentum=0.9), True),
        (lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.1), True),
        (lambda: keras.optimizers.SGD(0.05), False),
        (lambda: keras.optimizers.Adam(0.01, amsgrad=True), False),
        (lambda: keras.optimizers.Lion(0.01), False),
    ],
)
def test_an_update_by_one_kernel_is_keras_s_own(
    make: Callable[[], Any], is_fast: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (24, 2)), rng.normal(size=(24, 1)).astype(np.float32)
    found = []
    for fast in (False, True):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential(
            [keras.Input((2,)), layers.Embedding(9, 3), layers.Flatten(), layers.Dense(1)]  # sparse gradients
        )
        model.compile(make(), "mse", jit_compile=False)
        if fast:
            assert use_fast_update(model.optimizer) == is_fast
        model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        found.append([*model.get_weights(), *(np.asarray(value) for value in model.optimizer.variables)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model.keras")
    stored = keras.models.load_model(tmp_path / "model.keras")
    assert stored.optimizer.get_config() == model.optimizer.get_config()


def test_normalisation_by_rows_is_keras_s_own_bit_by_bit() -> None:
    inputs = keras.Input(SHAPE)
    layer = keras.layers.Normalization()
    model = keras.Model(inputs, layer(inputs))
    layer.adapt(images().astype(np.float32))
    x = images(5)
    expected = model(x).numpy()
    assert use_fast_kernels(model) == 1
    np.testing.assert_array_equal(tf.function(model)(x), expected)
    assert tf.function(model).get_concrete_function(tf.TensorSpec((None, *SHAPE))).output_shapes.rank == 4


def test_a_convolution_inside_a_layer_of_somebody_s_stays_as_it_is() -> None:
    class Block(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = keras.layers.Conv2D(128, 3, padding="same", use_bias=False)

        def call(self, inputs: Any) -> Any:
            return self.inner(inputs)

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        inputs = keras.Input((4, 4, 128))
        assert use_fast_kernels(keras.Model(inputs, Block()(inputs))) == 0
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_frozen_layer_is_not_moved_by_the_fused_kernel() -> None:
    model = resnet(SHAPE, 3, depth=8)
    use_fast_kernels(model)
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    layer.trainable = False
    before = layer.moving_mean.numpy()
    model(images(4).astype(np.float32), training=True)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), before)


def test_kernels_of_wide_convolutions_on_small_images_get_the_gradient_of_keras() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:

        def network() -> keras.Model:
            inputs = keras.Input((4, 4, 128))
            x = keras.layers.Conv2D(128, 3, padding="same", use_bias=False, kernel_initializer=Dirac(1))(
                inputs
            )
            return keras.Model(inputs, keras.layers.GlobalAveragePooling2D(dtype="float32")(x))

        x = tf.constant(np.random.default_rng(0).normal(size=(16, 4, 4, 128)), tf.float32)
        found = []
        for is_fast in (False, True):
            model = network()
            assert not is_fast or use_fast_kernels(model) == 1
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(model(x, training=True) ** 2)
            found.append(tape.gradient(loss, [model.trainable_variables[0], x]))
        for one, other in zip(*found, strict=True):
            assert np.abs(one).max() > 0
            np.testing.assert_allclose(one, other, atol=0.02 * float(np.abs(one).max()))
    finally:
        keras.config.set_dtype_policy("float32")


# ---------------------------------------------------------------- a Keras that lacks something


def fitted(model: keras.Model) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 8, 8, 3)).astype(np.float32), rng.normal(size=(24, 2)).astype(np.float32)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return list(model.get_weights())


def compiled(optimizer: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = cnn((8, 8, 3), 2, filters=(4,), dense_units=(4,))
    model.compile(optimizer, "mse", jit_compile=False)
    return model


@pytest.mark.parametrize(
    ("missing", "optimizer"),
    [
        ("_get_variable_index", keras.optimizers.Adam),
        ("_momentums", keras.optimizers.Adam),
        ("_velocities", keras.optimizers.AdamW),
        ("momentums", partial(keras.optimizers.SGD, momentum=0.9)),
    ],
)
def test_without_an_attribute_of_an_optimizer_it_is_keras_s_own(
    missing: str, optimizer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lacking(owner: Any, name: str) -> Any:
        if name == missing:
            raise AttributeError(f"{type(owner).__name__} has no attribute {name}")
        return getattr(owner, name)

    expected = fitted(compiled(optimizer(0.01)))
    monkeypatch.setattr(kernels, "_private", lacking)
    monkeypatch.setattr(kernels, "_told", set())
    model = compiled(optimizer(0.01))
    assert use_fast_update(model.optimizer)
    for one, other in zip(fitted(model), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert missing in warning


@pytest.mark.parametrize(
    ("owner", "missing"),
    [
        (keras.layers.BatchNormalization, "synchronized"),
        (keras.layers.BatchNormalization, "input_spec"),
        (keras.layers.Conv2D, "dilation_rate"),
        (keras.layers.Normalization, "get_build_config"),
    ],
)
def test_without_an_attribute_of_a_layer_it_is_keras_s_own(
    owner: Any, missing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(self: Any) -> Any:
        raise AttributeError(f"{owner.__name__} has no attribute {missing}")

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        expected = fitted(compiled("sgd"))
        model = compiled("sgd")
        monkeypatch.setattr(kernels, "_told", set())
        with monkeypatch.context() as patched:
            patched.setattr(owner, missing, property(gone), raising=False)
            use_fast_kernels(model)
        found = fitted(model)
    finally:
        keras.config.set_dtype_policy("float32")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.05, atol=0.01)
    assert [r.getMessage() for r in caplog.records if missing in r.getMessage()]
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("hook", HOOKS)
def test_without_its_hooks_muon_is_keras_s_own(
    hook: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"momentum": 0.6, "ns_steps": 3, "adam_lr_ratio": 0.05, "adam_beta_2": 0.99}
    plain = keras.optimizers.Muon(0.01, **settings, adam_weight_decay=0.0, weight_decay=None, rms_rate=None)
    expected = fitted(compiled(plain))
    # A Keras that calls it otherwise.
    monkeypatch.setattr(optimizers, "HOOKS", (*(h for h in HOOKS if h != hook), f"{hook}_of_old"))
    for one, other in zip(fitted(compiled(Muon(0.01))), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert f"no Muon.{hook}_of_old" in caplog.records[0].getMessage()


def test_no_other_module_asks_keras_for_what_it_does_not_promise() -> None:
    """All is asked for by `kernels._private`, or is a hook of Muon."""
    found = []
    for path in (Path(kernels.__file__).parents[1]).rglob("*.py"):
        if path.parent.name not in ("training", "nn", "models", "inference"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if re.search(r"\b(layer|model|optimizer|tensor|variable)s?\._[a-z]", line):
                found.append(f"{path.name}:{number}: {line.strip()}")
    assert found == []
