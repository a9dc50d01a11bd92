"""`cnnbench visualize`: which pictures there are, and that the heat lies where it must."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from inspection_runs import spec_of, trained
from keras import layers
from PIL import Image

from cnnbench.errors import CnnbenchError
from cnnbench.inference import layers as layers_module
from cnnbench.inference.prediction import answer
from cnnbench.inference.visualization import Examples, _caption, visualize
from cnnbench.reporting import INK, ORANGE
from cnnbench.reporting.figures import canvas, inside
from cnnbench.runs import Decision
from cnnbench.runs.folder import RunFolder

LAYERS = ("conv_1", "pool_1", "conv_2", "pool_2")
ALL = {
    *(f"feature_maps_{name}" for name in LAYERS),
    "feature_maps",
    "filters_conv_1",
    "class_activation_maps",
}


def copy_of(kind: str, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(trained(kind).path, tmp_path / kind)))


def draw(folder: RunFolder, **keywords: Any) -> dict[str, Path]:
    paths = [Path(line) for line in visualize(folder, spec_of(folder), **keywords)]
    return {path.stem: path for path in paths}


def texts(figure: Any) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


@pytest.mark.parametrize("kind", ["multiclass", "binary"])
def test_every_layer_has_its_picture(kind: str, tmp_path: Path) -> None:
    folder = copy_of(kind, tmp_path)
    pictures = draw(folder, count=5)
    assert set(pictures) == ALL
    for path in pictures.values():
        assert path.parent == folder.path / "figures"
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert 300 < picture.width <= 1600
            assert len(np.unique(np.asarray(picture))) > 20  # something is on it


def test_one_layer_to_another_folder(tmp_path: Path) -> None:
    folder = copy_of("multiclass", tmp_path)
    before = set((folder.path / "figures").iterdir())
    pictures = draw(folder, layer="conv_2", output=tmp_path / "new" / "place")
    assert set(pictures) == {"feature_maps_conv_2", "class_activation_maps"}
    assert {path.stem for path in (tmp_path / "new" / "place").iterdir()} == set(pictures)
    assert set((folder.path / "figures").iterdir()) == before


def test_one_s_own_picture(run_cli: Any, tmp_path: Path) -> None:
    Image.effect_noise((30, 20), 60).save(tmp_path / "사진.png")
    folder = copy_of("multiclass", tmp_path)
    done = run_cli(
        "visualize", str(folder.path), str(tmp_path / "사진.png"), "--output", str(tmp_path / "out")
    )
    assert done.exit_code == 0
    assert done.err == ""
    assert {Path(line).stem for line in done.out.splitlines()} == ALL


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("multiclass", ["--layer", "conv_3"], "did you mean conv_"),
        ("multiclass", ["--layer", "dense_1"], "no such layer, or it has no feature maps"),
        ("multiclass", ["broken.png"], "broken.png: not an image"),
        ("multiclass", ["--examples", "0"], "'0' is not a number from 1 on"),
        ("regression", [], "rows of 10 numbers"),
    ],
)
def test_wrong_input(run_cli: Any, folder: Path, kind: str, arguments: list[str], message: str) -> None:
    (folder / "broken.png").write_text("no picture")
    done = run_cli("visualize", str(trained(kind).path), *arguments)
    assert done.exit_code == 2
    assert message in done.err
    assert done.out == ""


def test_without_convolutions_the_first_weights_are_shown(tmp_path: Path) -> None:
    assert set(draw(copy_of("mlp", tmp_path))) == {"weights_dense_1"}


# -- the network --------------------------------------------------------------------------------


def spot_model(sign: float = 1.0) -> keras.Model:
    """Class 0 for a bright upper left, class 1 for a dark one: `sign` of a 1×1 convolution, then a sum."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 1, name="conv", kernel_initializer="ones")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    raw = layers.Dense(2, name="outputs")(x)
    model = keras.Model(inputs, layers.Activation("softmax", name="predictions")(raw))
    model.get_layer("outputs").set_weights([np.array([[sign, 0], [sign, 0]]), np.zeros(2)])
    return model


def spot(row: int, column: int) -> np.ndarray:
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[0, row : row + 2, column : column + 2] = 255
    return image


@pytest.mark.parametrize(("row", "column"), [(0, 0), (5, 1), (2, 6)])
def test_heat_lies_where_the_evidence_is(row: int, column: int) -> None:
    model = spot_model()
    (heat,), outputs = layers_module.class_activation(
        model, model.get_layer("conv"), spot(row, column), "multiclass"
    )
    assert outputs[0].argmax() == 0
    assert heat.shape == (8, 8)
    assert heat.max() == pytest.approx(1)
    assert heat[row : row + 2, column : column + 2].min() > 0.9
    assert heat.sum() == pytest.approx(4, rel=1e-3)


def test_what_speaks_against_the_class_is_cold() -> None:
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(1, 1, name="conv", kernel_initializer="ones")(inputs)
    raw = layers.Dense(1, name="outputs")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Activation("sigmoid", name="predictions")(raw))
    model.get_layer("outputs").set_weights([np.array([[1.0]]), np.array([0.0])])
    bright = spot(1, 1)
    (positive,), _ = layers_module.class_activation(model, model.get_layer("conv"), bright, "binary")
    assert positive.max() == pytest.approx(1)
    # Now the rest of the image makes it class 0, against which the spot speaks.
    model.get_layer("outputs").set_weights([np.array([[1.0]]), np.array([-100.0])])
    (negative,), outputs = layers_module.class_activation(model, model.get_layer("conv"), bright, "binary")
    assert outputs[0, 0] < 0.5
    assert negative.max() == 0


def test_heat_and_caption_are_of_the_class_that_is_decided_for() -> None:
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(1, 1, name="conv", kernel_initializer="ones")(inputs)
    raw = layers.Dense(1, name="outputs")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Activation("sigmoid", name="predictions")(raw))
    model.get_layer("outputs").set_weights([np.array([[0.001]]), np.array([-0.5])])  # sigmoid: 0.38
    conv = model.get_layer("conv")
    of_one, outputs = layers_module.class_activation(model, conv, spot(1, 1), "binary", threshold=0.3)
    of_zero, _ = layers_module.class_activation(model, conv, spot(1, 1), "binary")
    assert (of_one.max(), of_zero.max()) == (pytest.approx(1), 0)
    examples, two = Examples(spot(1, 1), ["dog"], True), Decision("binary", ("cat", "dog"), (0.3,))
    (_, (text, colour)) = _caption(examples, 0, answer("", two, outputs[0]), True, "")
    assert text.startswith("→ dog  3")
    assert colour == INK
    labels = Decision("multilabel", ("a", "dog"), (0.8, 0.1))
    (_, (text, colour)) = _caption(examples, 0, answer("", labels, np.array([0.7, 0.2])), True, "")
    assert (text, colour) == ("→ a  70.0%, not given", INK)
    (_, (_, colour)) = _caption(examples, 0, answer("", labels, np.array([0.9, 0.2])), True, "")
    assert colour == ORANGE


def test_heat_does_not_need_trainable_layers() -> None:
    model = spot_model()
    for layer in model.layers[:-2]:
        layer.trainable = False
    (heat,), _ = layers_module.class_activation(model, model.get_layer("conv"), spot(3, 3), "multiclass")
    assert heat.max() == pytest.approx(1)


def test_heat_of_many_is_that_of_each() -> None:
    model = spot_model()
    images = np.concatenate([spot(index % 7, 3) for index in range(layers_module.BATCH + 3)])
    heat, outputs = layers_module.class_activation(model, model.get_layer("conv"), images, "multiclass")
    assert len(heat) == len(outputs) == len(images)
    alone, _ = layers_module.class_activation(model, model.get_layer("conv"), images[-1:], "multiclass")
    assert heat[-1] == pytest.approx(alone[0], abs=1e-6)


def test_maps_are_those_that_the_next_layer_sees() -> None:
    model = spot_model()
    names = [layer.name for layer in layers_module.followed_by(model, model.get_layer("conv"))]
    assert names == ["bn", "relu"]
    image = spot(0, 0)
    (maps,), outputs = layers_module.maps_of(model, [model.get_layer("conv")], image)
    assert maps.shape == (1, 8, 8, 2)
    assert maps.min() == 0
    assert outputs == pytest.approx(model.predict(image, verbose=0))


def test_nothing_is_taken_along_where_the_way_divides() -> None:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    y = layers.Activation("relu")(x)
    model = keras.Model(inputs, layers.Add()([x, y]))
    assert layers_module.followed_by(model, model.get_layer("conv")) == []


def test_descriptions_say_kernel_stride_padding_and_sizes() -> None:
    inputs = keras.Input((9, 9, 3))
    x = layers.Conv2D(4, (3, 5), strides=2, padding="same", name="conv")(inputs)
    x = layers.DepthwiseConv2D(3, padding="valid", name="depthwise")(x)
    x = layers.MaxPooling2D(1, name="subsample")(x)
    x = layers.AveragePooling2D(2, name="pool")(x)
    model = keras.Model(inputs, x)
    conv, depthwise, pool = layers_module.convolutions_and_poolings(model)
    assert layers_module.describe_layer(conv) == "convolution 3×5, stride 2, padding same, 9×9×3 → 5×5×4"
    assert (
        layers_module.describe_layer(depthwise)
        == "depthwise convolution 3×3, stride 1, padding valid, 5×5×4 → 3×3×4"
    )
    assert layers_module.describe_layer(pool) == "average pooling 2×2, stride 2, padding valid, 3×3×4 → 1×1×4"
    assert layers_module.kernels_of(depthwise).shape == (3, 3, 4, 1)
    with pytest.raises(CnnbenchError, match="no such layer"):
        layers_module.layer_with_maps(model, "cnov")


# -- the pictures -------------------------------------------------------------------------------


def test_titles_are_on_the_pictures() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    stage = inside.Stage("conv_1", "convolution 3×3, stride 1, padding same", rng.normal(size=(16, 16, 70)))
    found = texts(inside.feature_maps(image, stage, "input: Kätzchen"))
    for text in ("conv_1: convolution 3×3, stride 1, padding same", "Kätzchen", "input 32×32×3", "64 of 70"):
        assert text in found
    stages = [inside.Stage(f"stage_1_block_{index}_conv_1", "", stage.maps) for index in range(20)]
    chain = inside.layer_chain(image, stages, "64 → 2", [("$cat_$", 0.9), ("χορός", 0.1)])
    for text in ("stage_1_block_0", "stage_1_block_19", "16×16×70", "64 → 2", "$cat_$ 90.0%", "χορός 10.0%"):
        assert text in texts(chain)
    for figure in (chain, inside.feature_maps(image, stage, "")):
        assert figure.get_figwidth() * figure.dpi <= 1600.1
        canvas.to_png(figure)


@pytest.mark.parametrize("size", [1, 7, 8, 28, 32, 64, 100, 224, 300])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_fits_on_the_sheet(size: int, channels: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, size, size, channels), dtype=np.uint8)
    maps = np.full((max(1, size // 2), max(1, size // 2), 3), np.nan)
    stage = inside.Stage("conv", "", maps)
    drawn = (
        inside.feature_maps(images[0], stage, ""),
        inside.layer_chain(images[0], [stage] * 9, "", [("a", 1.0)]),
        inside.class_activation_maps(images, np.zeros((7, size, size)), [[("a", "#222222")]] * 7, "", ""),
        inside.filters(rng.normal(size=(size, size, channels, 5)), "", ""),
    )
    for figure in drawn:
        assert figure.get_figwidth() * figure.dpi <= 1600.1
        canvas.to_png(figure)


def test_filters_are_drawn_on_one_scale() -> None:
    kernels = np.zeros((2, 2, 1, 2))
    kernels[..., 0] = 0.5
    pixels = np.asarray(Image.open(io.BytesIO(canvas.to_png(inside.filters(kernels, "", "")))))
    values = set(np.unique(pixels))
    assert {127, 255} <= values or {128, 255} <= values  # 0 is grey, the largest is white
