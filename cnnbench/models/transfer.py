"""Transfer learning: a pretrained backbone with a new head.

The model is one flat graph in four parts: inputs and preprocessing, backbone, the pooled `features`, head.
The pooling layer's name marks the border; `unfreeze` and `split_at_features` need no more than the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import keras
from keras import layers
from pydantic import Field

from cnnbench.errors import CnnbenchError, nearest
from cnnbench.models import pretrained, stored
from cnnbench.models.blocks import BatchNormalization, Momentum, dense_stack, require_images

Positive = Annotated[int, Field(ge=1)]
FEATURES = "features"
ALL = "all"
POOLING = {"average": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}


def transfer(
    input_shape: Sequence[int],
    outputs: int,
    backbone: str = "MobileNetV2",
    weights: str | None = "imagenet",
    image_size: Positive | None = None,
    trainable_from: str | None = None,
    pooling: Literal["average", "max"] = "average",
    scale_features: bool = False,
    dense_units: Sequence[Positive] = (),
    activation: str = "relu",
    batch_normalization: BatchNormalization = False,
    momentum: Momentum = 0.9,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    backbone_arguments: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Build a backbone without its top, frozen or partly so, then pooling and a new head.

    Images are resized and preprocessed inside the model, grey ones repeated to three channels. Dropout and
    stochastic depth that a backbone has (EfficientNet, ConvNeXt) stay active in training, frozen or not.

    Args:
        input_shape: ``(height, width, 1 or 3)`` of pixels 0…255.
        outputs: width of the last layer.
        backbone: a name of `cnnbench backbones` (EfficientNetLite0, TorchMobileNetV2, and all models of
            `keras.applications`: MobileNetV2, ResNet50, …); a file of weights, which are recognised; a
            `.keras` model, taken as far as its last feature maps and given pixels 0…255; or the folder of
            a preset of KerasHub.
        weights: `imagenet`, None for random ones, or a file: backbone weights as `.h5` or `.weights.h5`, or
            a `.keras` model with this backbone, such as the best checkpoint of another run; for ours
            `.pth`, `.safetensors` or `.npz`, too. Keras's own files for EfficientNetB0 to B7 belong into
            ``$KERAS_HOME/models``: only as `imagenet` do they get the scaling that they were trained with.
        image_size: pixels per side that the backbone sees; None: the images' own size, but not less than
            the backbone's minimum.
        trainable_from: see `unfreeze`.
        pooling: over all pixels of the last feature maps.
        dense_units: of hidden layers in the head; may be empty.
        activation: of these, Keras name.
        batch_normalization: of these.
        momentum: of the running averages of batch normalisation, per step; of the backbone's too.
        scale_features: to mean 0 and deviation 1, measured by the run on the training split; for a frozen
            backbone and a linear head.
        dropout: before each dense layer, the last too, as a fraction.
        backbone_arguments: further keywords of the application, such as ``{"alpha": 0.25}``.

    Raises:
        CnnbenchError: the data are not images, or a name, a size or the weights do not fit.
    """
    require_images("transfer", input_shape)
    found = stored.origin(backbone, weights)
    if input_shape[2] not in (1, 3):
        raise CnnbenchError(
            f"model=transfer needs images with 1 or 3 channels, not {input_shape[2]}", "use model=cnn"
        )
    height, width = _size(found.name, image_size, input_shape)
    x = keras.Input(shape=tuple(input_shape), name="inputs")
    if (height, width) != tuple(input_shape[:2]):
        x = layers.Resizing(height, width, interpolation="bilinear", dtype="float32", name="resizing")(x)
    if input_shape[2] == 1:
        x = layers.Concatenate(name="grey_to_rgb", dtype="float32")([x, x, x])
    if found.stored:
        base = stored.build(found.name, x)
    else:
        x = pretrained.preprocess(x, found.name)
        base = pretrained.build(found.name, x, found.weights, backbone_arguments or {})
    # In float32 under every precision: features may be kept and trained on.
    x = POOLING[pooling](dtype="float32", name=FEATURES)(base.output)
    if scale_features:
        x = layers.Normalization(axis=-1, dtype="float32", name="features_scaling")(x)
    x = dense_stack(x, dense_units, activation, batch_normalization, dropout, momentum)
    if dropout:
        x = layers.Dropout(dropout, name="outputs_dropout")(x)
    x = layers.Dense(outputs, name="outputs")(x)
    model = keras.Model(base.inputs[0], x, name=f"transfer_{Path(found.name).stem}")
    for layer in _backbone(model):
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum
    unfreeze(model, trainable_from)
    return model


def backbone_end(model: keras.Model) -> str:
    """Return the name of the layer that ends the backbone: its output is the features ``(batch, channels)``.

    Raises:
        CnnbenchError: it is no transfer model.
    """
    if all(layer.name != FEATURES for layer in model.layers):
        raise CnnbenchError(f"the model {model.name} has no pretrained backbone", "use model=transfer")
    return FEATURES


def unfreeze(model: keras.Model, from_layer: str | None) -> None:
    """Set which part of the backbone is trained. Compile the model afterwards.

    Batch normalisation keeps its ImageNet statistics: above `from_layer` too it stays in inference mode.

    Args:
        model: of `transfer`, with or without the task's activation, new or loaded.
        from_layer: the first layer to train, or the beginning of its name (`conv5`, `block_16`); None freezes
            the whole backbone; `all` trains all of it, batch normalisation included, as from random weights.

    Raises:
        CnnbenchError: there is no such layer.
    """
    backbone = _backbone(model)
    start = len(backbone)
    if from_layer == ALL:
        start = 0
    elif from_layer is not None:
        start = _position(from_layer, backbone)
    for index, layer in enumerate(backbone):
        is_normalization = isinstance(layer, layers.BatchNormalization)
        layer.trainable = index >= start and (from_layer == ALL or not is_normalization)


def split_at_features(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut the model in two at the features: extractor and head.

    The head has the model's own layers, so that training it trains the model. Features of a frozen backbone
    can be computed once (`extractor.predict`, in inference mode) and serve every epoch.
    """
    features = model.get_layer(backbone_end(model)).output
    extractor = keras.Model(model.inputs[0], features, name=f"{model.name}_extractor")
    return extractor, keras.Model(features, model.outputs[0], name=f"{model.name}_head")


def _backbone(model: keras.Model) -> list[Any]:
    """Return the layers before the features, in the order in which data flow through them."""
    names = [layer.name for layer in model.layers]
    return [
        n for n in model.layers[: names.index(backbone_end(model))] if not isinstance(n, layers.InputLayer)
    ]


def check_layer(model: keras.Model, from_layer: str) -> None:
    """Refuse a layer that `unfreeze` would not find, before hours of training.

    Raises:
        CnnbenchError: the model has no such layer, or no backbone.
    """
    if from_layer != ALL:
        _position(from_layer, _backbone(model), "training.fine_tuning.from_layer")


def _position(wanted: str, backbone: Sequence[Any], key: str = "model.trainable_from") -> int:
    names = [layer.name for layer in backbone]
    if wanted in names:
        return names.index(wanted)
    # `block_1` stands for block_1_expand, but not for block_16_expand.
    found = [i for i, name in enumerate(names) if name.startswith(wanted) and not name[len(wanted)].isdigit()]
    if not found:
        known = [n.name for n in backbone if n.weights and not isinstance(n, layers.BatchNormalization)]
        if len(known) > 60:  # more than anybody reads: their blocks
            known = sorted({name.rpartition("_")[0] or name for name in known})
        raise CnnbenchError(f"{key}={wanted} is no layer of the backbone", nearest(wanted, known))
    return found[0]


def _size(backbone: str, image_size: int | None, input_shape: Sequence[int]) -> tuple[int, int]:
    minimum = pretrained.minimum_size(backbone)
    if image_size is None:
        return max(input_shape[0], minimum), max(input_shape[1], minimum)
    if image_size < minimum:
        raise CnnbenchError(
            f"model.image_size={image_size} is too small for {backbone}", f"at least {minimum}, or null"
        )
    return image_size, image_size
