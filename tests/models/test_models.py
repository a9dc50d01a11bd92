"""Every family: what it builds, how large it is, that it survives a file, and how it refuses.

Models are called, not predicted with: `predict` would compile each of them, most of a test's time.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cnnbench.config.composition import compose, plain_config, spec_from
from cnnbench.config.groups import CONF_DIR
from cnnbench.data import fetch
from cnnbench.data.dataset import Split
from cnnbench.errors import CnnbenchError
from cnnbench.models import pretrained
from cnnbench.models.cnn import cnn
from cnnbench.models.fast import fast_cnn
from cnnbench.models.mlp import mlp
from cnnbench.models.resnet import resnet, wide_resnet
from cnnbench.models.transfer import backbone_end, split_at_features, transfer, unfreeze
from cnnbench.models.vgg import vgg
from cnnbench.training import model as model_module
from cnnbench.training.build import adapt

QUARTER = {"alpha": 0.25}
FAMILIES = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": lambda shape, outputs: resnet(shape, outputs, depth=8),
    "resnet with projections": lambda shape, outputs: resnet(shape, outputs, depth=8, shortcut="projection"),
    "wide_resnet": lambda shape, outputs: wide_resnet(shape, outputs, depth=10, width=1, dropout=0.3),
    "vgg": lambda shape, outputs: vgg(shape, outputs, depth=11, width=8),
    "fast": fast_cnn,
    "transfer": lambda shape, outputs: transfer(
        shape, outputs, "MobileNet", None, backbone_arguments=QUARTER
    ),
    "transfer in BGR": lambda shape, outputs: transfer(shape, outputs, "VGG16", None),
}
SHAPES = [(28, 28, 1), (32, 32, 3), (8, 8, 1)]
BACKBONES = {  # parameters without top, as in Keras's documentation or its own count
    "MobileNet": 3_228_864,
    "MobileNetV2": 2_257_984,
    "EfficientNetV2B0": 5_919_312,
    "ResNet50": 23_587_712,
    "VGG16": 14_714_688,
}
APPLICATIONS = [name for name in dir(keras.applications) if name[0].isupper()]
ONE_OF_EACH_MODULE = {
    sys.modules[getattr(keras.applications, name).__module__]: name for name in APPLICATIONS
}


@pytest.fixture(autouse=True)
def _fresh_session():
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)


def pixels(shape, examples=2):
    return np.random.default_rng(0).integers(0, 256, (examples, *shape)).astype("float32")


def outputs_of(model, x):
    return np.asarray(model(x, training=False))


def trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def mobilenet(weights=None, shape=(32, 32, 3), **keywords):
    return transfer(shape, 3, "MobileNet", weights, backbone_arguments=QUARTER, **keywords)


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_finite_raw_outputs_and_survives_a_file(family, shape, tmp_path):
    model = FAMILIES[family](shape, 5)
    x = pixels(shape)
    outputs = outputs_of(model, x)

    assert outputs.shape == (2, 5)
    assert np.isfinite(outputs).all()
    assert model.layers[-1].name == "outputs"
    assert model.layers[-1].activation is keras.activations.linear
    assert not layers_of(model, keras.Model), "the graph is flat"

    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs_of(keras.models.load_model(tmp_path / "model.keras"), x), outputs)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"mlp"}))
def test_a_table_is_refused_by_everything_but_the_mlp(family):
    with pytest.raises(CnnbenchError, match=r"needs images.*\(8,\).*model=mlp"):
        FAMILIES[family]((8,), 1)


@pytest.mark.parametrize("option", sorted((CONF_DIR / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_option_has_a_short_first_line_for_the_list(option):
    first = option.read_text(encoding="utf-8").splitlines()[0]

    assert first.startswith("# ")
    assert len(first) <= 87


# Parameter counts


@pytest.mark.parametrize(
    ("depth", "shortcut", "count"),
    [
        (20, "identity", 269_722),  # the paper: 0.27 M
        (32, "identity", 464_154),  # 0.46 M
        (44, "identity", 658_586),  # 0.66 M
        (56, "identity", 853_018),  # 0.85 M
        (20, "projection", 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)),
    ],
)
def test_a_resnet_is_as_large_as_in_the_paper(depth, shortcut, count):
    assert trainable(resnet((32, 32, 3), 10, depth, shortcut=shortcut)) == count


@pytest.mark.parametrize(("depth", "width", "count"), [(16, 4, 2_748_890), (28, 10, 36_479_194)])
def test_a_wide_resnet_is_as_large_as_in_the_paper(depth, width, count):  # 2.7 M, 36.5 M
    assert trainable(wide_resnet((32, 32, 3), 10, depth, width)) == count


@pytest.mark.parametrize(("depth", "convolutions"), [(11, 8), (13, 10), (16, 13), (19, 16)])
def test_a_vgg_has_the_convolutions_of_its_depth(depth, convolutions):
    assert len(layers_of(vgg((32, 32, 3), 10, depth, width=4), keras.layers.Conv2D)) == convolutions


def test_vgg16_without_normalisation_has_the_convolutions_of_keras_s_vgg16():
    assert vgg(
        (32, 32, 3), 10, 16, batch_normalization=False, normalization=False, dense_units=()
    ).count_params() == (BACKBONES["VGG16"] + 512 * 10 + 10)


@pytest.mark.parametrize(
    ("family", "keywords", "known"),
    [(resnet, {"depth": 21}, "20"), (wide_resnet, {"depth": 20}, "28"), (vgg, {"depth": 12}, "11")],
)
def test_a_depth_that_does_not_exist_is_refused_with_those_that_do(family, keywords, known):
    with pytest.raises(CnnbenchError, match=known) as refused:
        family((32, 32, 3), 10, **keywords)
    assert f"depth={keywords['depth']}" in refused.value.message


# Options


def test_the_identity_shortcut_takes_every_second_pixel_and_adds_zero_channels():
    model = resnet((8, 8, 3), 2, depth=8, width=2)
    before, after = model.get_layer("stage_1_block_1_out"), model.get_layer("stage_2_block_1_widen")
    a, b = (
        np.asarray(t) for t in keras.Model(model.inputs[0], [before.output, after.output])(pixels((8, 8, 3)))
    )

    np.testing.assert_array_equal(b[..., 1:3], a[:, ::2, ::2])
    assert not b[..., [0, 3]].any()


def test_a_vgg_leaves_out_poolings_that_would_leave_nothing():
    names = [layer.name for layer in vgg((8, 8, 1), 2, 11, width=4).layers]

    assert [name for name in names if name.startswith("pool")] == ["pool_1", "pool_2", "pool_3"]


@pytest.mark.parametrize("family", [resnet, wide_resnet])
def test_stem_strides_shrink_large_images_at_once(family):
    model = family((64, 64, 3), 2, **({"depth": 8} if family is resnet else {"depth": 10}), stem_strides=4)

    assert model.get_layer("stem").output.shape[1:3] == (16, 16)


def test_the_fast_cnn_takes_10_to_40_mega_operations_for_an_image():
    cost = pytest.importorskip("cnnbench.training.measure")

    for shape in ((32, 32, 3), (28, 28, 1)):
        assert 10e6 < cost.count_flops(fast_cnn(shape, 10)) < 40e6


def test_the_fast_cnn_can_do_without_its_extras():
    model = fast_cnn(
        (28, 28, 1), 2, 4, (8, 8, 8), residual=False, pooling="average", activation="gelu", dropout=0.1
    )

    assert len(layers_of(model, keras.layers.Conv2D)) == 4
    assert layers_of(model, keras.layers.GlobalAveragePooling2D)
    assert layers_of(model, keras.layers.Dropout)[0].rate == 0.1


@pytest.mark.parametrize(
    ("keywords", "size"),
    [
        ({}, (3, 3, 6)),
        ({"padding": "valid"}, (1, 1, 6)),
        ({"strides": 2, "pooling": None}, (3, 3, 6)),
        ({"strides": 2}, (1, 1, 6)),  # 12 → 6 → 3 → 2 → 1
        ({"pooling": None}, (12, 12, 6)),
        ({"pool_size": 3, "pooling": "average"}, (1, 1, 6)),
    ],
    ids=str,
)
def test_cnn_options_decide_the_size_that_is_flattened(keywords, size):
    model = cnn((12, 12, 3), 2, filters=(4, 6), **keywords)

    assert model.get_layer("flatten").input.shape[1:] == size


@pytest.mark.parametrize("keywords", [{"padding": "valid"}, {"pool_size": 5}, {"filters": (4,) * 4}], ids=str)
def test_a_cnn_that_would_shrink_images_to_nothing_says_in_which_stage(keywords):
    with pytest.raises(CnnbenchError, match=r"stage \d would shrink"):
        cnn((8, 8, 1), 2, **{"filters": (4, 4), **keywords})


@pytest.mark.parametrize(
    ("batch_normalization", "order"),
    [
        (True, ["Dense", "BatchNormalization", "Activation"]),
        ("after_activation", ["Dense", "Activation", "BatchNormalization"]),
        (False, ["Dense", "Activation"]),
    ],
)
def test_dense_layers_are_normalised_where_asked_and_keep_a_bias_where_it_counts(batch_normalization, order):
    model = mlp((6,), 2, (4,), batch_normalization=batch_normalization, dropout=0.5, normalization=False)

    assert [type(layer).__name__ for layer in model.layers] == ["InputLayer", "Dropout", *order, "Dense"]
    assert model.get_layer("dense_1").use_bias == (batch_normalization is not True)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"transfer", "transfer in BGR"}))
def test_the_run_adapts_the_inputs_of_every_family_that_is_not_pretrained(family):
    model = FAMILIES[family]((12, 12, 3), 2)
    x = np.random.default_rng(0).integers(0, 256, (64, 12, 12, 3), dtype=np.uint8)
    adapt(model, Split(x, np.zeros(64, dtype="int64")))
    scaled = np.asarray(
        keras.Model(model.inputs[0], model.get_layer("normalization").output)(x.astype("float32"))
    )

    np.testing.assert_allclose(scaled.mean(axis=(0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(axis=(0, 1, 2)), 1, atol=1e-3)


# Transfer learning: preprocessing and sizes


@pytest.mark.parametrize("module", ONE_OF_EACH_MODULE, ids=lambda module: module.__name__.rpartition(".")[2])
def test_preprocessing_in_the_model_is_that_of_the_application(module):
    x = pixels((5, 7, 3), 4)
    inputs = keras.Input(x.shape[1:])
    layers = keras.Model(inputs, pretrained.preprocess(inputs, ONE_OF_EACH_MODULE[module]) + 0)

    np.testing.assert_allclose(outputs_of(layers, x), module.preprocess_input(x.copy()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backbone", APPLICATIONS)
def test_the_minimum_size_is_the_one_that_keras_insists_on(backbone):
    with pytest.raises(ValueError, match=f"at least {pretrained.minimum_size(backbone)}x"):
        getattr(keras.applications, backbone)(weights=None, include_top=False, input_shape=(1, 1, 3))


@pytest.mark.parametrize(
    ("shape", "image_size", "seen"),
    [
        ((32, 32, 3), None, (32, 32)),
        ((8, 8, 1), None, (32, 32)),
        ((20, 40, 3), None, (32, 40)),
        ((32, 32, 3), 48, (48, 48)),
    ],
)
def test_images_are_resized_only_where_the_backbone_or_the_user_wants_it(shape, image_size, seen):
    model = mobilenet(shape=shape, image_size=image_size)

    assert model.get_layer("preprocessing").output.shape[1:] == (*seen, 3)
    assert bool(layers_of(model, keras.layers.Resizing)) == (seen != shape[:2])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_frozen_backbone_leaves_only_the_head_to_train(backbone):
    model = transfer((28, 28, 1), 10, backbone, None)
    channels = model.get_layer(backbone_end(model)).output.shape[-1]

    assert model.count_params() == BACKBONES[backbone] + 10 * channels + 10
    assert trainable(model) == 10 * channels + 10
    assert outputs_of(model, pixels((28, 28, 1))).shape == (2, 10)


def test_features_are_those_of_the_application_on_its_own(tmp_path):
    base = keras.applications.ResNet50(
        weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg"
    )
    base.save_weights(tmp_path / "base.weights.h5")
    extractor, _ = split_at_features(transfer((32, 32, 3), 2, "ResNet50", str(tmp_path / "base.weights.h5")))
    x = pixels((32, 32, 3))
    expected = outputs_of(base, keras.applications.resnet.preprocess_input(x.copy()))

    np.testing.assert_allclose(outputs_of(extractor, x), expected, rtol=1e-4, atol=1e-4)


# Transfer learning: what is trained


def test_half_of_a_backbone_is_its_upper_half():
    model = mobilenet(trainable_from="half")
    trained = [block for block in range(1, 14) if model.get_layer(f"conv_pw_{block}").trainable]
    assert trained == [*range(trained[0], 14)]
    assert 6 <= len(trained) <= 8


@pytest.mark.parametrize("trainable_from", [None, "conv_dw_13", "all"])
def test_batch_normalisation_of_the_backbone_stays_in_inference_mode(trainable_from):
    model = mobilenet(trainable_from=trainable_from)
    x = pixels((32, 32, 3))
    until = keras.Model(model.inputs[0], model.get_layer("features").output)
    same = np.array_equal(np.asarray(until(x, training=True)), outputs_of(until, x))

    assert same == (trainable_from != "all")
    assert any(layer.trainable for layer in layers_of(model, keras.layers.BatchNormalization)) != same


def test_unfreezing_begins_at_the_named_layer_and_can_be_taken_back(tmp_path):
    built = mobilenet(trainable_from="conv_dw_13", dense_units=(4,), batch_normalization=True)
    model = model_module.with_activation(built, "multiclass")
    head = 256 * 4 + 2 * 4 + 4 * 3 + 3
    last_block = 3 * 3 * 256 + 256 * 256

    assert trainable(model) == head + last_block
    assert model.get_layer("dense_1_bn").trainable
    unfreeze(model, None)
    assert trainable(model) == head
    unfreeze(model, "conv_pw_13")
    assert trainable(model) == head + 256 * 256
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert trainable(loaded) == head + 256 * 256
    unfreeze(loaded, "all")
    assert trainable(loaded) == head + sum(
        int(np.prod(v.shape)) for v in loaded.variables if "conv" in v.path and "moving" not in v.path
    )


def test_the_beginning_of_a_name_means_the_first_layer_with_it_and_not_another_number():
    model = transfer((32, 32, 3), 2, "MobileNetV2", None, trainable_from="block_1")

    assert model.get_layer("block_1_expand").trainable
    assert not model.get_layer("expanded_conv_project").trainable
    unfreeze(model, "block_16")
    assert model.get_layer("block_16_expand").trainable
    assert not model.get_layer("block_15_expand").trainable


def test_training_the_head_on_kept_features_trains_the_model():
    model = model_module.with_activation(mobilenet(dropout=0.0), "multiclass")
    extractor, head = split_at_features(model)
    x, y = pixels((32, 32, 3), 12), np.arange(12) % 3
    before = outputs_of(model, x)
    features = outputs_of(extractor, x)
    np.testing.assert_allclose(outputs_of(head, features), before, rtol=1e-5, atol=1e-6)

    head.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    head.fit(features, y, batch_size=6, epochs=2, verbose=0)

    assert not np.allclose(outputs_of(model, x), before, atol=1e-4)
    np.testing.assert_allclose(outputs_of(model, x), outputs_of(head, features), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(outputs_of(extractor, x), features)


def test_the_model_survives_a_file_after_it_was_cut(tmp_path):
    model = model_module.with_activation(mobilenet(), "multiclass")
    split_at_features(model)
    x = pixels((32, 32, 3))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    _, head = split_at_features(loaded)

    np.testing.assert_array_equal(outputs_of(loaded, x), outputs_of(model, x))
    assert [layer.name for layer in head.layers][1:] == ["outputs_dropout", "outputs", "predictions"]


def test_only_a_transfer_model_has_a_backbone():
    with pytest.raises(CnnbenchError, match="no pretrained backbone"):
        split_at_features(cnn((8, 8, 1), 2))


# Transfer learning: weights


def test_weights_are_read_from_every_kind_of_file(tmp_path):
    base = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(64, 64, 3), alpha=0.25)
    base.save_weights(tmp_path / "base.weights.h5")
    base.save(tmp_path / "base.keras")
    kernel = base.get_layer("conv_pw_13").get_weights()[0]
    mobilenet(str(tmp_path / "base.keras"), dense_units=(4,)).save(tmp_path / "run.keras")

    for name in ("base.weights.h5", "base.keras", "run.keras"):
        model = mobilenet(str(tmp_path / name), (28, 28, 1))
        np.testing.assert_array_equal(model.get_layer("conv_pw_13").get_weights()[0], kernel)


@pytest.mark.parametrize(
    "case", ["another width", "another backbone", "broken.weights.h5", "broken.h5", "broken.txt"]
)
def test_a_file_that_does_not_fit_is_refused(case, tmp_path):
    path = tmp_path / (case if "." in case else "other.weights.h5")
    if case == "another width":
        keras.applications.MobileNet(weights=None, include_top=False, alpha=0.5).save_weights(path)
    elif case == "another backbone":
        vgg((32, 32, 3), 2, 11, width=2).save_weights(path)
    else:
        path.write_text("no weights")

    with pytest.raises(CnnbenchError, match=r"cannot be loaded into MobileNet.*same backbone"):
        mobilenet(str(path))


def test_a_file_that_lacks_layers_is_refused_although_keras_only_warns(tmp_path):
    full = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.25)
    part = keras.Model(full.inputs[0], full.get_layer("conv_pw_12_relu").output)
    part.save_weights(tmp_path / "part.weights.h5")

    with pytest.raises(CnnbenchError, match="cannot be loaded"):
        mobilenet(str(tmp_path / "part.weights.h5"))


def test_missing_imagenet_weights_are_named_with_their_folder_before_a_download_is_tried(folder, tmp_path):
    with pytest.raises(CnnbenchError) as missing:
        transfer((28, 28, 1), 10, "MobileNet", backbone_arguments=QUARTER)

    assert "mobilenet_2_5_224_tf_no_top.h5" in missing.value.message
    assert str(tmp_path / "keras_home" / "models") in missing.value.message
    assert "storage.googleapis.com cannot be reached" in missing.value.message
    assert "https://storage.googleapis.com/" in missing.value.hint


def test_a_download_that_fails_is_an_error_in_one_line(folder, monkeypatch):
    def fail(*_, **__):
        raise Exception("URL fetch failure\non it")  # noqa: TRY002 - as Keras does

    monkeypatch.setattr(fetch, "can_connect", lambda host: True)
    utilities = sys.modules[keras.applications.MobileNet.__module__].file_utils
    monkeypatch.setattr(utilities, "get_file", fail)

    with pytest.raises(CnnbenchError, match="download failed: URL fetch failure on it"):
        transfer((32, 32, 3), 10, "VGG16")
    assert utilities.get_file is fail


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_imagenet_weights_are_taken_from_a_keras_home_that_cannot_be_written(folder, tmp_path, monkeypatch):
    path = tmp_path / "keras_home" / "models" / "mobilenet_2_5_224_tf_no_top.h5"
    path.parent.mkdir(parents=True)
    base = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.25)
    base.save(path)  # the old format, as that of the published file
    monkeypatch.setattr(fetch.os, "access", lambda *_: False)
    model = transfer((28, 28, 1), 10, "MobileNet", backbone_arguments=QUARTER)

    kernel = "conv_pw_13"
    np.testing.assert_array_equal(
        model.get_layer(kernel).get_weights()[0], base.get_layer(kernel).get_weights()[0]
    )


def test_a_weights_file_with_a_wrong_hash_is_kept_and_reported(folder, tmp_path):
    path = tmp_path / "keras_home" / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path.parent.mkdir(parents=True)
    path.write_text("damaged")

    with pytest.raises(CnnbenchError, match="is not the file that Keras publishes"):
        transfer((32, 32, 3), 10, "VGG16")
    assert path.read_text() == "damaged"


def test_statistics_among_the_loaded_weights_are_not_measured_again(tmp_path):
    base = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(32, 32, 3))
    statistics = next(layer for layer in base.layers if isinstance(layer, keras.layers.Normalization))
    statistics.set_weights([np.float32([0.4, 0.5, 0.6]), np.float32([0.04, 0.05, 0.06]), np.array(1)])
    base.save_weights(tmp_path / "base.weights.h5")
    model = transfer((32, 32, 3), 2, "EfficientNetB0", str(tmp_path / "base.weights.h5"))
    x = pixels((32, 32, 3))
    adapt(model, Split(x.astype("uint8"), np.zeros(2, dtype="int64")))
    extractor, _ = split_at_features(model)

    expected = outputs_of(base, x).mean(axis=(1, 2))
    np.testing.assert_allclose(outputs_of(extractor, x), expected, rtol=1e-3, atol=1e-4)


# Transfer learning: refusals


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"backbone": "MobilNet"},
            r"MobilNet is no backbone that is known.*did you mean MobileNet\?",
        ),
        ({"backbone": "ResNet-50"}, r"did you mean ResNet50\?"),
        ({"backbone_arguments": {"alfa": 1}}, r"backbone_arguments\.alfa.*did you mean alpha\?"),
        ({"backbone_arguments": {"include_top": True}}, "takes no include_top"),
        ({"trainable_from": "conv_dw_77"}, r"trainable_from=conv_dw_77.*did you mean conv_dw_7\?"),
        ({"image_size": 16}, "too small for MobileNet.*at least 32"),
        ({"weights": "image_net"}, "image_net is no file.*imagenet"),
        ({"backbone_arguments": {"alpha": "wide"}}, "cannot be built"),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused_with_the_nearest_name(keywords, message):
    with pytest.raises(CnnbenchError, match=message):
        transfer((32, 32, 3), 2, **{"backbone": "MobileNet", "weights": None, **keywords})


def test_four_channels_are_refused():
    with pytest.raises(CnnbenchError, match="1 or 3 channels, not 4"):
        mobilenet(shape=(32, 32, 4))


@pytest.mark.real_data
def test_the_published_weights_of_mobilenet_give_the_features_of_the_application(monkeypatch, tmp_path):
    homes = [os.environ.get("KERAS_HOME"), str(Path(os.environ.get("CNNBENCH_DATA", "-")).parent)]
    name = "mobilenet_2_5_224_tf_no_top.h5"
    published = next(
        (path for home in homes if home and (path := Path(home) / "models" / name).is_file()), None
    )
    if published is None:
        pytest.skip(f"no {name} beside CNNBENCH_DATA or in KERAS_HOME")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / name).symlink_to(published.absolute())
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    extractor, _ = split_at_features(transfer((96, 96, 3), 2, "MobileNet", backbone_arguments=QUARTER))
    base = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(96, 96, 3), alpha=0.25)
    base.load_weights(published)
    x = pixels((96, 96, 3))
    expected = outputs_of(base, keras.applications.mobilenet.preprocess_input(x.copy())).mean(axis=(1, 2))

    assert extractor.count_params() == 218_544
    np.testing.assert_allclose(outputs_of(extractor, x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("family", "keywords", "said"),
    [
        (cnn, {"kernel_regularizer": keras.losses.Huber()}, "model.kernel_regularizer=.* is no regularizer"),
        (mlp, {"kernel_regularizer": keras.layers.Dense(3)}, "model.kernel_regularizer=.* is no regularizer"),
        (mlp, {"embedding": 3}, "model.embedding=3 is no layer"),
        (mlp, {"embedding": "relu"}, "model.embedding=relu is no layer"),
    ],
)
def test_an_object_of_another_kind_is_refused(family, keywords, said):
    with pytest.raises(CnnbenchError, match=said):
        family((8, 8, 1), 3, **keywords)


def test_a_regularizer_may_be_a_name_or_an_object():
    for regularizer in ("l2", keras.regularizers.L2(0.01)):
        model = mlp((8,), 1, kernel_regularizer=regularizer)
        assert isinstance(model.get_layer("dense_1").kernel_regularizer, keras.regularizers.L2)


# ---------------------------------------------------------------- batch normalisation's averages


def normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.mark.parametrize(
    ("make", "keywords"),
    [
        (cnn, {}),
        (mlp, {}),
        (vgg, {"depth": 11, "width": 4}),
        (resnet, {"depth": 8, "shortcut": "projection"}),
        (wide_resnet, {"depth": 10, "width": 1}),
        (fast_cnn, {}),
        (
            transfer,
            {
                "backbone": "MobileNetV2",
                "weights": None,
                "backbone_arguments": {"alpha": 0.35},
                "dense_units": (4,),
                "batch_normalization": True,
            },
        ),
    ],
)
def test_its_momentum_is_for_small_data_sets_too_and_may_be_set(make: Any, keywords: Any) -> None:
    for given, expected in (({}, 0.9), ({"momentum": 0.5}, 0.5)):
        found = normalizations(make((32, 32, 3), 3, **keywords, **given))
        assert found
        assert {layer.momentum for layer in found} == {expected}


NOTES = sorted(path.stem for path in (CONF_DIR / "experiment" / "notes").glob("*.yaml"))


@pytest.mark.parametrize("name", NOTES)
def test_the_study_note_keeps_the_momentum_of_keras(name: str) -> None:
    config = plain_config(compose([f"experiment=notes/{name}"]))
    has_one = config["model"]["batch_normalization"] or config["model"].get("dense_batch_normalization")
    if has_one or config["model"]["_target_"].endswith("transfer"):
        assert config["model"]["momentum"] == 0.99


def test_a_config_of_the_time_before_there_was_such_a_key_means_what_it_meant(tmp_path: Path) -> None:
    config = plain_config(compose(["model=mlp", "dataset=digits"]))
    assert config["model"]["momentum"] == 0.9
    del config["model"]["momentum"]
    spec = spec_from(config, tmp_path)
    assert spec.config["model"]["momentum"] == 0.99
    assert {layer.momentum for layer in normalizations(spec.model(input_shape=(8, 8, 1), outputs=3))} == {
        0.99
    }
    without = plain_config(compose(["model=mlp", "~model.momentum"]))  # as in a YAML of somebody's own
    assert without["model"]["momentum"] == 0.9


def test_the_default_run_looks_right_from_the_fifth_epoch_on(run_cli: Any, folder: Path) -> None:
    assert run_cli("device=cpu", "run_dir=run").exit_code == 0
    history = [json.loads(line) for line in (folder / "run" / "history.jsonl").read_text().splitlines()]
    assert len(history) >= 5
    assert min(row["val_accuracy"] for row in history[4:]) >= 0.9
