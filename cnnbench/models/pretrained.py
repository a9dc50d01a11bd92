"""Pretrained backbones, ours and of `keras.applications`: scaling in the model, weights without a network."""

from __future__ import annotations

import hashlib
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import keras
import numpy as np
from keras import layers

from cnnbench.data import fetch
from cnnbench.errors import CnnbenchError, nearest, one_line
from cnnbench.models import catalogue, efficientnet, mobilenet
from cnnbench.models import weights as files
from cnnbench.nn import check_weights

# Pixels per side below which Keras refuses to build; the others take 32.
MINIMUM_SIZE = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}
# What Keras raises of weights that do not fit, or are damaged.
DAMAGE = (ValueError, TypeError, OSError, KeyError, *files.OF_ARCHIVES)
GIVEN = (
    "include_top",
    "weights",
    "input_tensor",
    "input_shape",
    "pooling",
    "classes",
    "classifier_activation",
    "name",
)


@dataclass(frozen=True)
class Network:
    """A backbone that we build ourselves, from weights of torch.

    Attributes:
        make: from scaled pixels to the model, with `include_top` if wanted.
        names: of its layers in torch's file.
        mean: what is subtracted from pixels 0…255, one for each channel.
        deviation: what they are divided by then.
    """

    make: Callable[..., keras.Model]
    names: Callable[[], dict[str, str]]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


OURS = {
    **{
        f"EfficientNetLite{version}": Network(
            partial(efficientnet.efficientnet_lite, version=version),
            partial(efficientnet.torch_names, version),
            (efficientnet.MEAN,) * 3,
            (efficientnet.DEVIATION,) * 3,
        )
        for version in efficientnet.FACTORS
    },
    "TorchMobileNetV2": Network(
        mobilenet.torch_mobilenet_v2, mobilenet.torch_names, mobilenet.MEAN, mobilenet.DEVIATION
    ),
}


def application(backbone: str) -> Callable[..., keras.Model]:
    """Return the function of `keras.applications` that builds a backbone.

    Raises:
        CnnbenchError: there is no such backbone, or it is none of Keras's.
    """
    entry = catalogue.find(backbone)
    if entry.application is None:
        raise CnnbenchError(f"{backbone} is not of keras.applications")
    found: Callable[..., keras.Model] = getattr(keras.applications, entry.application)
    return found


def minimum_size(backbone: str) -> int:
    """Return the smallest height and width that the backbone takes, in pixels."""
    return MINIMUM_SIZE.get(backbone, 32)


def preprocess(x: Any, backbone: str) -> Any:
    """Scale RGB pixels 0…255 by layers that can be saved and do the same as its `preprocess_input`."""
    if backbone in OURS:
        mean, deviation = np.array(OURS[backbone].mean), np.array(OURS[backbone].deviation)
        scale, offset = (1 / deviation).tolist(), (-mean / deviation).tolist()
        return layers.Rescaling(scale, offset, dtype="float32", name="preprocessing")(x)
    function = sys.modules[application(backbone).__module__].preprocess_input
    # It is affine and keeps the channels apart, so four pixels determine it.
    offset = function(np.zeros((1, 1, 1, 3)))[0, 0, 0]
    factors = (function(255 * np.eye(3).reshape(3, 1, 1, 3)).reshape(3, 3) - offset) / 255
    if np.array_equal(factors, np.eye(3)) and not offset.any():
        return x  # the backbone scales by itself
    if not factors[0, 0]:
        x = keras.ops.flip(x, axis=-1)  # RGB to BGR
        factors = factors[::-1]
    if not np.array_equal(factors, np.diag(factors.diagonal())):
        raise NotImplementedError(f"preprocess_input of {backbone} mixes the channels")
    scale = factors.diagonal().tolist()
    return layers.Rescaling(scale, offset.tolist(), dtype="float32", name="preprocessing")(x)


def build(backbone: str, x: Any, weights: str | None, arguments: Mapping[str, Any]) -> keras.Model:
    """Build the backbone without its top on a preprocessed tensor: one flat model from its inputs on.

    Args:
        backbone: a name in the catalogue.
        x: ``(batch, height, width, 3)``, preprocessed.
        weights: `imagenet`, None or a file: one that Keras can load, or for ours one of torch's.
        arguments: further keywords of the application.

    Raises:
        CnnbenchError: a keyword that it does not take, weights that cannot be found or do not fit.
    """
    if backbone in OURS:
        return _build_ours(backbone, x, weights, arguments)
    make = application(backbone)
    arguments = {**dict(catalogue.find(backbone).arguments), **arguments}
    known = [name for name in inspect.signature(make).parameters if name not in GIVEN]
    for name in arguments:
        if name not in known:
            raise CnnbenchError(
                f"model.backbone_arguments.{name}: {backbone} takes no {name}", nearest(name, known)
            )
    path = None if weights in (None, "imagenet") else _file(str(weights))
    try:
        with warnings.catch_warnings(), _get_file_that_explains():
            # Sizes other than the published ones rightly take the weights of 224×224.
            warnings.filterwarnings("ignore", message=".*Weights for input shape")
            model = make(
                include_top=False,
                weights=None if path else weights,
                input_tensor=x,
                input_shape=tuple(x.shape[1:]),
                **arguments,
            )
            if path is not None:
                _load(model, path)
    except DAMAGE as error:
        if weights is None:
            raise CnnbenchError(
                f"model.backbone={backbone} cannot be built: {one_line(error, 300)}"
            ) from error
        raise _unfitting(weights, backbone, error) from error
    return _with_fixed_normalization(model) if weights else model


def _file(weights: str) -> Path:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise CnnbenchError(f"model.weights={weights} is no file", "imagenet, null or the path of a file")
    return path


def _unfitting(weights: str, backbone: str, error: Exception) -> CnnbenchError:
    return CnnbenchError(
        f"model.weights={weights} cannot be loaded into {backbone}: {one_line(error, 300)}",
        "weights must come from the same backbone with the same backbone_arguments and without its top",
    )


def _build_ours(backbone: str, x: Any, weights: str | None, arguments: Mapping[str, Any]) -> keras.Model:
    if arguments:
        raise CnnbenchError(f"model.backbone_arguments: {backbone} takes none", "leave it null")
    model = OURS[backbone].make(x)
    if weights is None:
        return model
    if weights == "imagenet":
        path = catalogue.find(backbone).required()
        catalogue.check_hash(path)
    else:
        path = _file(weights)
    if path.suffix in (".h5", ".keras"):
        load = partial(_load, model, path)
    else:
        load = partial(load_torch, model, files.read(path), OURS[backbone].names())
    try:
        load()
    except DAMAGE as error:
        raise _unfitting(str(path), backbone, error) from error
    return model


def load_torch(model: keras.Model, arrays: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Fill a model of ours with the arrays of torch's.

    Args:
        model: with or without its top.
        arrays: as `weights.read` returns them: kernels ``(outputs, inputs, height, width)``.
        names: what the arrays of each layer are called, without `.weight`, `.bias`, …

    Raises:
        ValueError: an array is missing, is left over, or has another shape.
    """
    known = {*names.values()}
    odd = [name for name in arrays if name.rpartition(".")[0] not in known]
    if odd:
        raise ValueError(f"the network has no {odd[0]}")
    for layer in model.layers:
        if not layer.weights:
            continue
        name = names[layer.name]
        if f"{name}.weight" not in arrays:
            raise ValueError(f"the file has no {name}.weight")
        if isinstance(layer, layers.BatchNormalization):
            values = [arrays[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
        elif isinstance(layer, layers.Dense):
            values = [arrays[f"{name}.weight"].T, arrays[f"{name}.bias"]]
        else:
            order = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
            values = [arrays[f"{name}.weight"].transpose(order)]
        layer.set_weights(values)


def _load(model: keras.Model, path: Path) -> None:
    check_weights(path)
    # Where a file lacks a layer, Keras keeps its weights and at most warns: zeros show that.
    kernels = [variable for variable in model.weights if len(variable.shape) > 1]
    for kernel in kernels:
        kernel.assign(keras.ops.zeros_like(kernel))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipping nested container")
        model.load_weights(path)
    missing = sum(not keras.ops.any(kernel) for kernel in kernels)
    if missing:
        raise ValueError(f"the file has nothing for {missing} of {len(kernels)} layers")


def _with_fixed_normalization(model: keras.Model) -> keras.Model:
    """Return the same model, its loaded `Normalization` layers made constant.

    EfficientNet keeps ImageNet's mean and variance among its weights; as constants they cannot be mistaken
    for a layer that still has to be adapted to the training split.
    """
    loaded = [n for n in model.layers if isinstance(n, layers.Normalization) and n.input_mean is None]
    if not loaded:
        return model

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if layer in loaded:
            statistics = (
                keras.ops.convert_to_numpy(layer.adapt_mean),
                keras.ops.convert_to_numpy(layer.adapt_variance),
            )
            config["mean"], config["variance"] = (value.tolist() for value in statistics)
        return type(layer).from_config(config)

    clone = keras.models.clone_model(model, clone_function=copy)
    for layer in model.layers:
        if layer.weights and layer not in loaded:
            clone.get_layer(layer.name).set_weights(layer.get_weights())
    return clone


@contextmanager
def _get_file_that_explains() -> Iterator[None]:
    """Replace the applications' `get_file` by one that says at once what is missing without a network.

    Keras's own tries to download for minutes, and deletes a file whose hash is wrong.
    """
    utilities = sys.modules[keras.applications.MobileNet.__module__].file_utils
    download = utilities.get_file

    def get_file(fname: str, origin: str, file_hash: str | None = None, **keywords: Any) -> str:
        home = fetch.keras_home()
        for folder in (*catalogue.folders(), fetch.writable_home() / "models"):
            if (folder / fname).is_file():
                return _checked(folder / fname, file_hash)
        missing = f"the weights file {fname} is not in {home / 'models'}"
        hint = f"put {origin} there, or model.weights=FILE; or take {catalogue.instead()}"
        host = urlsplit(origin).hostname or ""
        if not fetch.can_connect(host):
            raise CnnbenchError(f"{missing}, and {host} cannot be reached to download it", hint)
        writable = fetch.writable_home()
        path = writable / "models" / fname
        try:
            with fetch.fetching(writable) as place:
                if not path.is_file():  # nobody was faster
                    download(fname, origin, file_hash=file_hash, cache_dir=str(place), **keywords)
        except Exception as error:  # Keras raises a bare Exception when a download fails
            reason = one_line(error)
            raise CnnbenchError(f"{missing}, and Keras's download failed: {reason}", hint) from error
        return _checked(path, file_hash)

    utilities.get_file = get_file
    try:
        yield
    finally:
        utilities.get_file = download


def _checked(path: Path, file_hash: str | None) -> str:
    _check_hash(path, file_hash)
    check_weights(path)
    return str(path)


def _check_hash(path: Path, file_hash: str | None) -> None:
    if file_hash is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256" if len(file_hash) == 64 else "md5").hexdigest()
    if found != file_hash:
        raise CnnbenchError(
            f"{path} is not the file that Keras publishes under this name: hash {found}, not {file_hash}",
            "remove it to download it again, or give a file of your own as model.weights=FILE",
        )
