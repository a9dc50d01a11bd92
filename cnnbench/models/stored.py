"""Backbones in files and folders of one's own: what they are, and how they become a part of a model."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import keras
from keras import layers

from cnnbench.errors import CnnbenchError, one_line
from cnnbench.models import catalogue, efficientnet, mobilenet, weights
from cnnbench.nn import check_weights, load_checkpoint

MODEL, PRESET = ".keras", "config.json"
POOLING = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.Flatten)


@dataclass(frozen=True)
class Origin:
    """What builds a backbone, and where its weights come from.

    Attributes:
        name: in the catalogue, or the path of a stored model or of a preset of KerasHub.
        weights: `imagenet`, None for random ones, or a file.
        stored: it is the model in that place, and not one that is built by its name.
    """

    name: str
    weights: str | None
    stored: bool = False


def origin(backbone: str, given: str | None) -> Origin:
    """Find out what `model.backbone` names.

    Args:
        backbone: a name, a file or a folder.
        given: `model.weights`: for a file, `imagenet` stands for what is in the file.

    Raises:
        CnnbenchError: there is no such name or file, or it is not known what the file holds.
    """
    if not catalogue.is_place(backbone):
        return Origin(catalogue.find(backbone).name, given)
    path = Path(backbone).expanduser()
    if path.is_dir() and not (path / PRESET).is_file():
        raise CnnbenchError(f"model.backbone={backbone} is no preset of KerasHub: it has no {PRESET}")
    if not path.exists():
        raise CnnbenchError(f"model.backbone={backbone}: there is no such file", "cnnbench backbones")
    if path.is_dir() or path.suffix == MODEL:
        if given != "imagenet":
            raise CnnbenchError(
                f"model.backbone={backbone} brings its weights, so model.weights={given} has no place",
                "leave model.weights out",
            )
        return Origin(str(path), given, stored=True)
    name = _recognised(path)
    return Origin(name, str(path) if given == "imagenet" else given)


def _recognised(path: Path) -> str:
    """Return the name of the backbone whose weights are in a file, by their names and shapes."""
    if path.suffix == ".h5":
        try:
            check_weights(path)
            found = _in_hdf5(path)
        except weights.DAMAGE as error:
            reason = one_line(error, 200)
            raise CnnbenchError(f"{path} cannot be read: {reason}", "it may be damaged") from error
    else:
        found = _in_arrays(weights.read(path))
    if found is None:
        raise CnnbenchError(
            f"model.backbone={path}: these are weights of no backbone that is known",
            "say of which: model.backbone=NAME model.weights=FILE; cnnbench backbones lists the names",
        )
    return found


def _in_arrays(arrays: Mapping[str, Any]) -> str | None:
    """Recognise torch's weights of one of ours: the names of a few layers, and how wide the last block is."""
    version = efficientnet.version_of(arrays)
    if version is not None:
        return f"EfficientNetLite{version}"
    return "TorchMobileNetV2" if mobilenet.fits(arrays) else None


def _in_hdf5(path: Path) -> str | None:
    """Recognise weights of `keras.applications` without top by their number, which no two of them share."""
    numbers = 0

    def count(name: str, item: Any) -> None:
        nonlocal numbers
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer") and "seed_gen" not in name:
            numbers += item.size

    with h5py.File(path, "r") as file:
        file.visititems(count)
    known = (one for one in catalogue.BACKBONES if one.application is not None)
    return next((one.name for one in known if one.parameters == numbers), None)


# -- Stored models ---------------------------------------------------------------------------------


def build(place: str, x: Any) -> keras.Model:
    """Build the stored model, as far as its last feature maps, on pixels: one flat model from its inputs on.

    Args:
        place: a `.keras` file, or the folder of a preset of KerasHub.
        x: ``(batch, height, width, 3)``, pixels 0…255.

    Raises:
        CnnbenchError: it is refused, is damaged, or has no feature maps.
    """
    path = Path(place)
    if path.is_dir():
        base, x = _preset(path, x)
    else:
        base = load_checkpoint(path)
    if len(base.inputs) != 1 or len(base.inputs[0].shape) != 4 or base.inputs[0].shape[-1] != x.shape[-1]:
        raise CnnbenchError(
            f"model.backbone={place} takes {base.inputs[0].shape[1:]}, and not pictures of 3 channels"
        )
    copy = _Copy()
    try:
        copy.follow(base, x)
    except (ValueError, TypeError) as error:
        reason = one_line(error, 200)
        raise CnnbenchError(f"model.backbone={place} cannot be built on these pictures: {reason}") from error
    if copy.end is None:
        raise CnnbenchError(f"model.backbone={place} has no feature maps: it is no convolutional network")
    copy.take_weights()
    return keras.Model(keras.utils.get_source_inputs(x)[0], copy.end)


class _Copy:
    """A copy of a model on other inputs, flat: models inside it are taken apart.

    Attributes:
        end: its last feature maps ``(batch, height, width, channels)`` before they are pooled.
    """

    def __init__(self) -> None:
        self.end: Any = None
        self.pairs: list[tuple[Any, Any]] = []
        self.pooled: set[int] = set()

    def follow(self, model: keras.Model, x: Any) -> Any:
        """Call a copy of each layer, from `x` on; return what the model ends with."""
        inputs = keras.utils.get_source_inputs(x)[0]

        def call(operation: Any, *args: Any, **keywords: Any) -> Any:
            args, keywords = keras.tree.map_structure(
                lambda value: x if value is inputs else value, (args, keywords)
            )
            if isinstance(operation, keras.Model):
                return self.follow(operation, args[0])
            return self._note(operation, args, operation(*args, **keywords))

        functional = keras.Model(model.inputs, model.outputs)  # of a Sequential, or a subclass
        keywords = {"clone_function": self._copied, "call_function": call}
        return keras.models.clone_model(functional, input_tensors=[inputs], **keywords).outputs[0]

    def take_weights(self) -> None:
        """Give each copy the weights of its original."""
        for layer, copy in self.pairs:
            copy.set_weights(layer.get_weights())

    def _copied(self, layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return layer
        copy = type(layer).from_config(layer.get_config())
        if isinstance(layer, layers.Layer):  # and no operation such as keras.ops.relu
            self.pairs.append((layer, copy))
        return copy

    def _note(self, operation: Any, args: tuple[Any, ...], made: Any) -> Any:
        """Remember feature maps, unless all they are made of is pooled; a gate's are multiplied again."""
        given = [value for value in keras.tree.flatten(args) if isinstance(value, keras.KerasTensor)]
        if isinstance(operation, POOLING) or all(id(value) in self.pooled for value in given):
            self.pooled.add(id(made))
        elif isinstance(made, keras.KerasTensor) and len(made.shape) == 4:
            self.end = made
        return made


# -- KerasHub --------------------------------------------------------------------------------------


def _preset(folder: Path, x: Any) -> tuple[keras.Model, Any]:
    """Return the backbone of a preset, and the pixels scaled as its own converter scales them."""
    if importlib.util.find_spec("keras_hub") is None:
        raise CnnbenchError(
            f"model.backbone={folder} is a preset of KerasHub, which is not installed",
            "pip install 'cnnbench[kerashub]'",
        )
    try:
        config = json.loads((folder / PRESET).read_text(encoding="utf-8"))
        for file in folder.glob("*.h5"):
            check_weights(file)
    except (ValueError, OSError, KeyError) as error:
        raise CnnbenchError(f"model.backbone={folder} is damaged: {error}") from error
    if not str(config.get("registered_name", "")).startswith("keras_hub>"):
        raise CnnbenchError(f"{folder / PRESET} names {config.get('registered_name')}, no part of KerasHub")
    import keras_hub

    place = str(folder.resolve())
    try:
        base = keras_hub.models.Backbone.from_preset(place)
        converter = None
        if (folder / "preprocessor.json").is_file() or (folder / "image_converter.json").is_file():
            converter = keras_hub.layers.ImageConverter.from_preset(place)
    except (ValueError, TypeError, KeyError, OSError) as error:
        reason = one_line(error, 200)
        raise CnnbenchError(f"model.backbone={folder} cannot be loaded by KerasHub: {reason}") from error
    if converter is not None and (converter.scale is not None or converter.offset is not None):
        scale, offset = (1.0 if converter.scale is None else converter.scale), converter.offset or 0.0
        x = layers.Rescaling(scale, offset, dtype="float32", name="preprocessing")(x)
    return base, x
