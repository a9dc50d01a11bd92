"""Random changes of training images, in graph operations that cost little beside the training itself.

    changed = augmentation(crop_padding=4, horizontal_flip=True).for_data((32, 32, 3), 10, "multiclass")
    images, labels = changed(images, labels, seed)  # in `tf.data.Dataset.map` or in a compiled step

Everything is index arithmetic over a whole batch: crop, flips, translation, cutout and CutMix only decide
which pixel of the batch lands where, and a single gather carries them out. Keras's layers take tens of
milliseconds a batch, this takes less than one (rotation and scale, which interpolate, below two).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cnnbench.augmentation.operations import Augmentation

__all__ = ["Augmentation", "augmentation"]

Pixels = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Alpha = Annotated[float, Field(ge=0, le=100)]


def augmentation(
    crop_padding: Pixels = 0,
    crop_mode: Literal["zero", "reflect"] = "zero",
    horizontal_flip: bool | Literal["alternating"] = False,
    vertical_flip: bool = False,
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0,
    translation: Fraction = 0.0,
    scale: Fraction = 0.0,
    cutout: Pixels = 0,
    cutout_fill: Literal["mean", "zero"] = "mean",
    brightness: Fraction = 0.0,
    contrast: Fraction = 0.0,
    mixup: Alpha = 0.0,
    cutmix: Alpha = 0.0,
) -> Augmentation:
    """Choose operations; 0 or false leaves one out. Each example of a batch gets draws of its own.

    They apply in this order: brightness and contrast, geometry (with flips), cutout, mixing.

    Args:
        crop_padding: pixels around the image, out of which a crop of the image's size is taken.
        crop_mode: what lies outside the image, for crop, translation, rotation and scale: black, or the
            image mirrored at its edge pixels.
        horizontal_flip: left to right, with probability 1/2; or `alternating`: half of the images in the
            first epoch, the other half in the next, and so on (Jordan 2024): each is soon seen both ways.
        vertical_flip: upside down, with probability 1/2.
        rotation: degrees, the most either way, bilinear.
        translation: fraction of the side, the most either way, in whole pixels; with `crop_padding` too the
            image is shifted by up to the sum of both.
        scale: by a factor of 1 - `scale` to 1 + `scale`, bilinear.
        cutout: side in pixels of a square whose centre is anywhere in the image, so that a part of it may
            lie outside (DeVries & Taylor 2017).
        cutout_fill: the image's own mean colour, or black.
        brightness: pixels times 1 - `brightness` to 1 + `brightness`.
        contrast: distance from the image's mean times 1 - `contrast` to 1 + `contrast`.
        mixup: alpha of the Beta distribution of the blend with another image (Zhang et al. 2018).
        cutmix: alpha of the Beta distribution of the share of a rectangle that another image fills (Yun et
            al. 2019). With `mixup` too, each batch takes one of the two by a toss of a coin.
    """
    return Augmentation(**locals())
