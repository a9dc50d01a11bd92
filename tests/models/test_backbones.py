"""Pretrained backbones: ours against torch, own files, and what is known of all without Keras."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import torch_files as made
import torch_networks
from conftest import Outcome
from data_files import write_cifar10
from safetensors.numpy import save_file

from cnnbench.errors import CnnbenchError
from cnnbench.models import catalogue, pretrained, stored, weights
from cnnbench.models.transfer import split_at_features, transfer

Cli = Callable[..., Outcome]
Arrays = dict[str, np.ndarray]
FIXTURES = Path(__file__).parents[1] / "fixtures"
OURS = sorted(pretrained.OURS)
PUBLISHED = json.loads((FIXTURES / "backbones.json").read_text(encoding="utf-8"))


def entry(name: str) -> catalogue.Backbone:
    return catalogue.find(name)


def network(name: str, size: int, include_top: bool = False) -> keras.Model:
    return pretrained.OURS[name].make(keras.Input((size, size, 3)), include_top=include_top)


def random_state(name: str) -> Arrays:
    """Arrays of every name and shape of a published file, filled with other numbers."""
    rng, names, arrays = np.random.default_rng(1), pretrained.OURS[name].names(), {}
    for layer in network(name, 64, include_top=True).layers:
        for weight in layer.weights:
            value = rng.normal(size=weight.shape).astype("float32")
            part = {"gamma": "weight", "kernel": "weight", "moving_mean": "running_mean", "beta": "bias"}
            if weight.name in ("gamma", "moving_variance"):
                value = rng.uniform(0.5, 1.0, weight.shape).astype("float32")
            elif weight.name == "kernel":
                fan = np.prod(weight.shape[: 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1])
                value *= np.float32(1 / np.sqrt(fan))
                order = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (3, 2, 0, 1)
                value = value.transpose(order if value.ndim == 4 else (1, 0))
            else:
                value *= np.float32(0.1)
            arrays[f"{names[layer.name]}.{part.get(weight.name, weight.name)}"] = value
    renamed = {key.replace("moving_variance", "running_var"): value for key, value in arrays.items()}
    return {key: np.ascontiguousarray(value) for key, value in renamed.items()}


@pytest.fixture(scope="session")
def states() -> Mapping[str, Arrays]:
    return {
        name: random_state(name) for name in ("EfficientNetLite0", "EfficientNetLite2", "TorchMobileNetV2")
    }


def outputs(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(model(x, training=False))


# -- Ours ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["EfficientNetLite0", "EfficientNetLite2", "TorchMobileNetV2"])
@pytest.mark.parametrize("size", [(64, 64), (75, 50)], ids=str)
def test_ours_compute_what_torch_computes(
    name: str, size: tuple[int, int], states: Mapping[str, Arrays]
) -> None:
    pytest.importorskip("torch")
    function = torch_networks.mobilenet_v2 if name == "TorchMobileNetV2" else torch_networks.efficientnet_lite
    x = np.random.default_rng(2).normal(size=(2, *size, 3)).astype("float32")
    expected = function(states[name], x)
    for include_top, values in zip((False, True), expected, strict=True):
        model = pretrained.OURS[name].make(keras.Input((*size, 3)), include_top=include_top)
        pretrained.load_torch(model, states[name], pretrained.OURS[name].names())
        np.testing.assert_allclose(outputs(model, x), values, atol=1e-4, rtol=1e-4)
        assert np.abs(values).max() > 0.1


def test_torch_computes_what_is_kept_of_it() -> None:
    """The networks of `torch_networks` are those of the packages: they give the numbers of other programs."""
    pytest.importorskip("torch")
    for name in OURS:
        function = (
            torch_networks.mobilenet_v2 if name == "TorchMobileNetV2" else torch_networks.efficientnet_lite
        )
        features, logits = function(published_state(name), deterministic(entry(name).size))
        assert_published(name, features, logits)


def published_state(name: str) -> Arrays:
    path = entry(name).path()
    if path is None:
        pytest.skip(f"{entry(name).package} is not installed")
    return weights.read(path)


def deterministic(size: int) -> np.ndarray:
    """A tensor that is the same everywhere."""
    return np.sin(np.arange(size * size * 3) * 0.37).reshape(1, size, size, 3).astype("float32")


def assert_published(name: str, features: np.ndarray, logits: np.ndarray) -> None:
    """Compare with numbers of torchvision, and of the authors of EfficientNet-Lite's conversion."""
    kept, pooled = PUBLISHED[name], features.mean((1, 2))[0]
    np.testing.assert_allclose(pooled[::160], kept["features"], atol=1e-4)
    np.testing.assert_allclose(pooled.sum(), kept["features_sum"], rtol=1e-4)
    np.testing.assert_allclose(logits[0, ::125], kept["logits"], atol=1e-4)
    assert logits[0].argmax() == kept["class"]


@pytest.mark.parametrize("name", OURS)
def test_the_published_weights_give_the_numbers_of_torch(name: str) -> None:
    state, size = published_state(name), entry(name).size
    found = []
    for include_top in (False, True):
        model = network(name, size, include_top)
        pretrained.load_torch(model, state, pretrained.OURS[name].names())
        found.append(outputs(model, deterministic(size)))
    assert_published(name, *found)


@pytest.mark.parametrize("name", OURS)
def test_ours_are_as_large_as_the_catalogue_says_and_have_one_name_for_each_layer(name: str) -> None:
    model = network(name, entry(name).size, include_top=True)
    with_weights = {layer.name for layer in model.layers if layer.weights}
    assert with_weights == set(pretrained.OURS[name].names())
    assert network(name, 64).count_params() == entry(name).parameters
    assert len(set(pretrained.OURS[name].names().values())) == len(with_weights)


def test_pixels_are_scaled_as_the_authors_did() -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype("float32")
    inputs = keras.Input((4, 4, 3))
    scaled = {
        name: outputs(keras.Model(inputs, pretrained.preprocess(inputs, name)), pixels) for name in OURS
    }
    np.testing.assert_allclose(scaled["EfficientNetLite0"], (pixels - 127) / 128, atol=1e-5)
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    np.testing.assert_allclose(scaled["TorchMobileNetV2"], (pixels / 255 - mean) / deviation, atol=1e-5)


# -- Files of one's own ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def files(states: Mapping[str, Arrays], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for name, arrays in states.items():
        made.write_state(folder / f"{name}.pth", arrays, legacy=name == "EfficientNetLite2")
    np.savez(folder / "EfficientNetLite0.npz", **states["EfficientNetLite0"])
    return folder


@pytest.mark.parametrize(
    "file",
    ["EfficientNetLite0.pth", "EfficientNetLite2.pth", "TorchMobileNetV2.pth", "EfficientNetLite0.npz"],
)
def test_a_file_of_torch_is_recognised_and_is_the_backbone(
    file: str, files: Path, states: Mapping[str, Arrays]
) -> None:
    name = file.partition(".")[0]
    model = transfer((48, 48, 3), 2, str(files / file))
    last = {"TorchMobileNetV2": ("Conv_1", "features.18.0")}.get(name, ("top_conv", "_conv_head"))
    kernel = model.get_layer(last[0]).get_weights()[0]
    np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), states[name][f"{last[1]}.weight"])
    assert model.name == f"transfer_{name}"


def test_safetensors_are_recognised(files: Path, states: Mapping[str, Arrays], tmp_path: Path) -> None:
    save_file(states["TorchMobileNetV2"], tmp_path / "mine.safetensors")
    assert stored.origin(str(tmp_path / "mine.safetensors"), "imagenet").name == "TorchMobileNetV2"


def test_a_block_is_a_name_to_train_from(files: Path) -> None:
    for file, block, first in (
        ("EfficientNetLite0.pth", "block6", "block6a_expand_conv"),
        ("TorchMobileNetV2.pth", "block_16", "block_16_expand"),
    ):
        model = transfer((48, 48, 3), 2, str(files / file), trainable_from=block)
        trained = [layer.name for layer in model.layers if layer.trainable and layer.weights]
        assert trained[0] == first
        assert not any("bn" in name.lower() for name in trained)


@pytest.mark.parametrize("case", ["another", "part", "shape", "more"])
def test_weights_that_do_not_fit_are_refused(case: str, states: Mapping[str, Arrays], tmp_path: Path) -> None:
    arrays = dict(states["EfficientNetLite0" if case != "another" else "TorchMobileNetV2"])
    if case == "part":
        del arrays["_blocks.3._bn1.running_var"]
    elif case == "shape":
        arrays["_bn0.bias"] = np.zeros(31, "float32")
    elif case == "more":
        arrays["_blocks.0._se_reduce.weight"] = np.zeros((2, 2), "float32")
    path = made.write_state(tmp_path / "w.pth", arrays)
    with pytest.raises(CnnbenchError, match=r"cannot be loaded into EfficientNetLite0") as refused:
        transfer((48, 48, 3), 2, "EfficientNetLite0", str(path))
    assert "\n" not in str(refused.value)


def test_a_stored_model_is_taken_as_it_is_without_its_top(tmp_path: Path) -> None:
    """With a model inside a model, a gate of squeeze-and-excitation, and a top that keeps its dimensions."""
    inner_inputs = keras.Input((None, None, 4))
    y = keras.layers.Conv2D(4, 3, padding="same", name="inner_conv")(inner_inputs)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(y)
    gate = keras.layers.Conv2D(4, 1, activation="sigmoid", name="excite")(gate)
    inner = keras.Model(inner_inputs, keras.layers.Multiply(name="gated")([y, gate]), name="inner")
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(4, 3, 2, padding="same", name="first")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    maps = keras.ops.relu(inner(x))
    y = keras.layers.GlobalAveragePooling2D(keepdims=True)(maps)
    whole = keras.Model(inputs, keras.layers.Flatten()(keras.layers.Conv2D(9, 1, name="top")(y)))
    whole.get_layer("norm").moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    whole.save(tmp_path / "mine.keras")

    model = transfer((40, 36, 3), 2, str(tmp_path / "mine.keras"), trainable_from="inner_conv")
    extractor, _ = split_at_features(model)
    names = [layer.name for layer in model.layers]
    assert {"inner_conv", "excite", "norm"} <= set(names)
    assert "top" not in names
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    trained = [layer.name for layer in extractor.layers if layer.trainable and layer.weights]
    assert trained == ["inner_conv", "excite"]
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 40, 36, 3)).astype("float32")
    expected = outputs(keras.Model(inputs, maps), pixels).mean((1, 2))
    np.testing.assert_allclose(outputs(extractor, pixels), expected, atol=1e-5)
    model.save(tmp_path / "run.keras")
    again = keras.models.load_model(tmp_path / "run.keras")
    np.testing.assert_allclose(outputs(again, pixels), outputs(model, pixels), atol=1e-6)


def test_the_checkpoint_of_a_run_is_a_backbone_for_another(tmp_path: Path) -> None:
    first = transfer((32, 32, 3), 5, "MobileNet", None, backbone_arguments={"alpha": 0.25}, dense_units=(4,))
    first.save(tmp_path / "best.keras")
    second = transfer((32, 32, 3), 2, str(tmp_path / "best.keras"))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    expected, found = (outputs(split_at_features(model)[0], pixels) for model in (first, second))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), "and not pictures"),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]),
            "no feature maps",
        ),
    ],
    ids=["numbers", "dense"],
)
def test_a_stored_model_without_feature_maps_is_refused(
    model: Callable[[], keras.Model], said: str, tmp_path: Path
) -> None:
    model().save(tmp_path / "m.keras")
    with pytest.raises(CnnbenchError, match=said):
        transfer((32, 32, 3), 2, str(tmp_path / "m.keras"))


@pytest.mark.parametrize(
    ("name", "said"), [("text.h5", "text.h5 cannot be read"), ("a.onnx", "a file of an unknown kind")]
)
def test_a_file_of_another_kind_is_said_to_be_one(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("no weights")
    with pytest.raises(CnnbenchError, match=said):
        stored.origin(name, "imagenet")


def test_files_that_are_not_what_they_seem_are_refused(tmp_path: Path, files: Path) -> None:
    made.write_state(tmp_path / "other.pth", {"conv.weight": np.zeros((2, 3, 3, 3), "float32")})
    (tmp_path / "preset").mkdir()
    for backbone, given, said in (
        (tmp_path / "other.pth", "imagenet", r"weights of no backbone .*model\.backbone=NAME"),
        (tmp_path / "gone.pth", "imagenet", "there is no such file"),
        (tmp_path / "preset", "imagenet", "no preset of KerasHub"),
    ):
        with pytest.raises(CnnbenchError, match=said):
            stored.origin(str(backbone), given)
    (tmp_path / "m.keras").touch()
    with pytest.raises(CnnbenchError, match=r"model\.weights=None has no place"):
        stored.origin(str(tmp_path / "m.keras"), None)
    assert stored.origin(str(files / "TorchMobileNetV2.pth"), None).weights is None


def test_a_preset_of_kerashub_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"registered_name": "keras_hub>ResNetBackbone"}')
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CnnbenchError, match=r"pip install 'cnnbench\[kerashub\]'"):
        transfer((32, 32, 3), 2, str(tmp_path))


def test_a_preset_of_kerashub_is_a_backbone(tmp_path: Path) -> None:
    hub = pytest.importorskip("keras_hub")
    base = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
    )
    base.save_to_preset(str(tmp_path / "preset"))
    model = transfer((32, 32, 3), 2, str(tmp_path / "preset"))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    found = outputs(split_at_features(model)[0], pixels)
    np.testing.assert_allclose(found, outputs(base, pixels).mean((1, 2)), atol=1e-4)


# -- Files of Keras's names ------------------------------------------------------------------------


def publish(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    """Put a file of the real name, shapes and order of layers there, with other numbers and another hash."""
    monkeypatch.setattr(pretrained, "_check_hash", lambda path, file_hash: None)
    keras.utils.set_random_seed(0)
    make = pretrained.application(name)
    base = make(include_top=False, weights=None, input_shape=(32, 32, 3), **dict(entry(name).arguments))
    folder.mkdir(parents=True, exist_ok=True)
    write_as_published(base, folder / entry(name).file)
    return base


def write_as_published(base: keras.Model, path: Path) -> None:
    """Write weights as Keras 2 did: a group for each layer, and lists of their names, in their order."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in base.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.6"
        for layer in base.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=value)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("ResNet50", "keras_home/models"),
        ("VGG16", "file"),
        ("MobileNet_025", "mirror"),
        ("MobileNet_025", "mirror/models"),
        ("MobileNet_025", "file"),
    ],
)
def test_the_files_that_keras_names_are_loaded_from_where_they_lie(
    name: str, where: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = publish(name, tmp_path / where, monkeypatch)
    path = tmp_path / where / entry(name).file
    if where.startswith("mirror"):
        monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "mirror"))
    if where == "file":
        assert stored.origin(str(path), "imagenet").name == name
        model = transfer((32, 32, 3), 10, name, str(path))
    else:
        assert entry(name).path() == path
        model = transfer((32, 32, 3), 10, name)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    inputs = keras.Input((32, 32, 3))
    scaled = outputs(keras.Model(inputs, pretrained.preprocess(inputs, name) + 0), pixels)
    expected = outputs(base, scaled).mean((1, 2))
    np.testing.assert_allclose(outputs(split_at_features(model)[0], pixels), expected, rtol=1e-3, atol=1e-4)


def test_a_preset_of_the_note_runs_on_the_file_that_keras_names(
    run_cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path / "data", n=40)
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "data"))
    publish("VGG16", tmp_path / "keras_home" / "models", monkeypatch)
    short = ("training.epochs=1", "training.examples=40", "device=cpu")
    outcome = run_cli("experiment=notes/cifar10_vgg16_augmented", *short, "run_dir=run")
    assert outcome.exit_code == 0, outcome.err
    verified = run_cli("verify", "run")
    assert verified.exit_code == 0, verified.out + verified.err


@pytest.mark.parametrize("name", ["ResNet50", "EfficientNetLite1"])
def test_where_weights_are_not_to_be_had_one_line_says_what_is(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNBENCH_BACKBONES", "none")
    with pytest.raises(CnnbenchError) as missing:
        transfer((32, 32, 3), 10, name)
    assert entry(name).file in missing.value.message
    assert "pip install 'cnnbench[pretrained]'" in missing.value.hint
    (tmp_path / "keras_home" / "models").mkdir(parents=True)
    (tmp_path / "keras_home" / "models" / entry("MobileNet_025").file).touch()
    with pytest.raises(CnnbenchError, match=r"model\.backbone=MobileNet_025, which is here"):
        transfer((32, 32, 3), 10, name)


# -- The catalogue ---------------------------------------------------------------------------------


def test_the_catalogue_has_every_application_once() -> None:
    names = [backbone.name for backbone in catalogue.BACKBONES]
    assert len(set(names)) == len(names)
    applications = {name for name in dir(keras.applications) if name[0].isupper()}
    assert applications == {backbone.application for backbone in catalogue.BACKBONES} - {None}
    assert applications <= set(names)
    counts = [backbone.parameters for backbone in catalogue.BACKBONES if backbone.application]
    assert len(set(counts)) == len(counts)  # by which weights in HDF5 are recognised


@pytest.mark.parametrize("name", ["MobileNet_025", "MobileNetV2", "MobileNetV2_035", "ResNet50", "VGG16"])
def test_files_and_numbers_of_parameters_are_those_of_keras(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def get_file(fname: str, *_: object, **__: object) -> str:
        asked.append(fname)
        raise OSError("asked for")

    utilities = pretrained.sys.modules[keras.applications.MobileNet.__module__].file_utils
    monkeypatch.setattr(utilities, "get_file", get_file)
    make, keywords = pretrained.application(name), dict(entry(name).arguments)
    with pytest.raises(OSError, match="asked for"):
        make(include_top=False, input_shape=(224, 224, 3), **keywords)
    assert asked == [entry(name).file]
    base = make(include_top=False, weights=None, input_shape=(64, 64, 3), **keywords)
    assert base.count_params() == entry(name).parameters


def test_a_file_with_another_content_than_its_name_says_is_refused(tmp_path: Path, files: Path) -> None:
    content = (files / "TorchMobileNetV2.pth").read_bytes()
    good = tmp_path / f"mine-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    good.write_bytes(content)
    catalogue.check_hash(good)
    shutil.copy(good, tmp_path / "mine-00000000.pth")
    with pytest.raises(CnnbenchError, match="not the file that was published"):
        catalogue.check_hash(tmp_path / "mine-00000000.pth")


def test_packages_are_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = entry("EfficientNetLite0")
    package = tmp_path / "fake" / str(one.package)
    (package / one.folder).mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / one.folder / one.file).touch()
    monkeypatch.syspath_prepend(tmp_path / "fake")
    monkeypatch.delenv("CNNBENCH_BACKBONES", raising=False)
    assert one.path() == package / one.folder / one.file
    assert one in catalogue.here()
    monkeypatch.setenv("CNNBENCH_BACKBONES", "none")
    assert one.path() is None


def test_an_unknown_name_is_refused_before_tensorflow(run_python: Cli, folder: Path) -> None:
    code = (
        "import sys; from cnnbench.cli.main import main; "
        "sys.argv = ['cnnbench', 'model=transfer', 'model.backbone=EficientNetLite0']; code = main(); "
        "print(code, {'tensorflow', 'keras'} & set(sys.modules))"
    )
    outcome = run_python(code)
    assert "did you mean EfficientNetLite0?" in outcome.err
    assert outcome.out.split() == ["2", "set()"]


def test_the_list_names_what_is_here_first_and_how_to_get_the_rest(
    run_cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNBENCH_BACKBONES", "none")
    monkeypatch.setenv("COLUMNS", "80")
    path = tmp_path / "keras_home" / "models" / entry("MobileNet_025").file
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(2_108_140))
    outcome = run_cli("backbones", "--json", "told.json")
    assert outcome.exit_code == 0
    told = json.loads(Path("told.json").read_text())
    first, *rest = told["backbones"]
    assert (first["name"], first["path"], first["bytes"]) == ("MobileNet_025", str(path), 2_108_140)
    assert not any(row["path"] for row in rest)
    lines = outcome.out.splitlines()
    assert next(n for n, line in enumerate(lines) if "MobileNet_025" in line) < next(
        n for n, line in enumerate(lines) if "EfficientNetLite0" in line
    )
    assert "pip install 'cnnbench[pretrained]'" in outcome.out
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)
    one = run_cli("backbones", "ResNet50")
    assert entry("ResNet50").file in one.out
    assert run_cli("backbones", "ResNet5").exit_code == 2


def test_a_file_for_the_backbone_is_a_place_whose_content_counts(files: Path, tmp_path: Path) -> None:
    from cnnbench import runs

    path = tmp_path / "mine.pth"
    shutil.copy(files / "TorchMobileNetV2.pth", path)
    config = {"model": {"backbone": str(path), "weights": "imagenet"}, "dataset": {}}
    assert runs.places_in(config) == {"model.backbone": str(path)}
    before = runs.weights_digests(config)
    path.write_bytes(path.read_bytes() + b"x")
    assert runs.weights_digests(config) != before
    assert runs.weights_digests({"model": {"backbone": "ResNet50"}, "dataset": {}}) == {}
