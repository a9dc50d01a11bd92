"""The augmentation of a batch: its settings, and the operations that draw all from one seed.

    changed = augmentation(crop_padding=4, horizontal_flip=True).for_data((32, 32, 3), 10, "multiclass")
    images, labels = changed(images, labels, seed)  # in `tf.data.Dataset.map` or in a compiled step

Crop, flips, translation, cutout and CutMix only decide which pixel of the batch lands where, and a single
gather carries them out, in less than a millisecond a batch (below two with rotation and scale, which
interpolate). Keras's layers take tens of milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import tensorflow as tf
from pydantic import Field

from cnnbench.data.augmentation import blending
from cnnbench.data.augmentation.pixels import Pixels, ways
from cnnbench.errors import CnnbenchError

PixelCount = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Alpha = Annotated[float, Field(ge=0, le=100)]
NOTHING = "none"
# Rows of one table of uniform numbers. All are drawn whatever is switched on, at no cost, so that one
# operation more changes nothing about the others.
NAMES = (
    "way_y", "way_x", "angle", "zoom", "cutout_y", "cutout_x", "brightness", "contrast",
    "mixup", "cutmix", "cutmix_y", "cutmix_x", "choice",
)  # fmt: skip


def augmentation(
    crop_padding: PixelCount = 0,
    crop_mode: Literal["zero", "reflect"] = "zero",
    horizontal_flip: bool | Literal["alternating"] = False,
    vertical_flip: bool = False,
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0,
    translation: Fraction = 0.0,
    scale: Fraction = 0.0,
    cutout: PixelCount = 0,
    cutout_fill: Literal["mean", "zero"] = "mean",
    brightness: Fraction = 0.0,
    contrast: Fraction = 0.0,
    mixup: Alpha = 0.0,
    cutmix: Alpha = 0.0,
) -> Augmentation:
    """Choose operations; 0 or false leaves one out. Each example of a batch gets draws of its own.

    The order is brightness and contrast, geometry (with flips), cutout, mixing.

    Args:
        crop_padding: pixels around the image; a crop of the image's size is taken out of the whole.
        crop_mode: outside the image, for crop, translation, rotation and scale: black (`zero`), or the image
            mirrored at its edge pixels (`reflect`).
        horizontal_flip: left to right, with probability 1/2; or `alternating`: half of the images in the
            first epoch, the other half in the next, and so on (Jordan 2024).
        vertical_flip: upside down, with probability 1/2.
        rotation: degrees, the most either way, bilinear.
        translation: fraction of the side, the most either way, in whole pixels; with `crop_padding` too the
            image is shifted by up to the sum of both.
        scale: by a factor of 1 - `scale` to 1 + `scale`, bilinear.
        cutout: side in pixels of a covered square whose centre is anywhere in the image (DeVries & Taylor
            2017).
        cutout_fill: the image's own mean colour, or black.
        brightness: pixels times 1 - `brightness` to 1 + `brightness`.
        contrast: distance from the image's mean times 1 - `contrast` to 1 + `contrast`.
        mixup: alpha of the Beta distribution of the blend with another image (Zhang et al. 2018).
        cutmix: alpha of the Beta distribution of the share of a rectangle that another image fills (Yun et
            al. 2019). With `mixup` too, each batch takes one of the two at random.
    """
    return Augmentation(**locals())


@dataclass(frozen=True)
class Augmentation:
    """Random changes of batches of images; made by `augmentation`, which describes the settings.

    Attributes:
        outputs: of the model, set by `for_data`; mixed labels need it.
        task: of the data set, set by `for_data`.
    """

    crop_padding: int
    crop_mode: str
    horizontal_flip: bool | str
    vertical_flip: bool
    rotation: float
    translation: float
    scale: float
    cutout: int
    cutout_fill: str
    brightness: float
    contrast: float
    mixup: float
    cutmix: float
    outputs: int | None = None
    task: str | None = None

    def for_data(self, input_shape: Sequence[int], outputs: int, task: str) -> Augmentation:
        """Return the same settings for a data set, checked against its images and task.

        Args:
            input_shape: ``(height, width, channels)``.
            outputs: of the model: one per class, or 1 for binary tasks.
            task: of the data set.

        Raises:
            CnnbenchError: the examples are no images, or the settings would leave nothing of them.
        """
        if not self.changes_pixels:
            return self
        if len(input_shape) != 3:
            raise CnnbenchError(
                f"augmentation is for images, but this data set has examples of shape {tuple(input_shape)}",
                "use augmentation=none",
            )
        side = min(input_shape[:2])
        for name, pixels in (("crop_padding", self.crop_padding), ("cutout", self.cutout)):
            if pixels >= side:
                raise CnnbenchError(
                    f"augmentation.{name}={pixels} may leave nothing of images of "
                    f"{input_shape[0]}×{input_shape[1]} pixels",
                    f"use augmentation.{name} below {side}",
                )
        if self.translation and not self._interpolates and self.translation * max(input_shape[:2]) < 0.5:
            raise CnnbenchError(
                f"augmentation.translation={self.translation} is less than half a pixel of these images",
                f"use augmentation.translation={1 / side:.2g} or more",
            )
        return replace(self, outputs=outputs, task=task)

    @property
    def mixes_labels(self) -> bool:
        """True if labels come back as shares, and targets as means, which loss and metrics must take."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def _interpolates(self) -> bool:
        return self.rotation > 0 or self.scale > 0

    @property
    def changes_pixels(self) -> bool:
        """True if any operation is switched on."""
        return self.describe() != NOTHING

    def describe(self) -> str:
        """Return one line for the summary of a run."""
        edge = {"zero": "black", "reflect": "mirrored"}[self.crop_mode]
        parts = {
            f"crop with {self.crop_padding} pixels of {edge} padding": self.crop_padding,
            "horizontal flip": self.horizontal_flip is True,
            "horizontal flip every other epoch": self.horizontal_flip == "alternating",
            "vertical flip": self.vertical_flip,
            f"rotation ±{self.rotation:g}°": self.rotation,
            f"translation ±{100 * self.translation:g} %": self.translation,
            f"scale ±{100 * self.scale:g} %": self.scale,
            f"cutout {self.cutout}×{self.cutout}": self.cutout,
            f"brightness ±{100 * self.brightness:g} %": self.brightness,
            f"contrast ±{100 * self.contrast:g} %": self.contrast,
            "mixup or cutmix": self.mixup and self.cutmix,
            f"mixup (alpha {self.mixup:g})": self.mixup and not self.cutmix,
            f"cutmix (alpha {self.cutmix:g})": self.cutmix and not self.mixup,
        }
        return ", ".join(text for text, is_on in parts.items() if is_on) or NOTHING

    def __call__(self, images: Any, labels: Any, seed: Any, turned: Any = None) -> tuple[Any, Any]:
        """Change one batch.

        Args:
            images: ``(batch, height, width, channels)`` uint8 or float32; all but the batch static.
            labels: ``(batch,)`` class indices or values, or ``(batch, outputs)`` 0 and 1, or values.
            seed: ``(2,)`` int32; decides everything but alternating flips.
            turned: ``(batch,)`` int32, 1 for images to be flipped if flips alternate; None leaves that to
                the seed.

        Returns:
            Images of the same shape and type, and the labels: unchanged, or if `mixes_labels` float32, as
            shares ``(batch, classes)`` that sum to 1 (multiclass), else in their own shape.
        """
        if not self.changes_pixels:
            return images, labels
        if self.mixes_labels and self.task is None:
            raise CnnbenchError("mixed labels need the number of classes", "call for_data(…) first")
        # AutoGraph would take a second to rewrite this, and find nothing to do.
        change = tf.autograph.experimental.do_not_convert(self._change)
        images, labels = change(images, labels, seed, turned)
        return images, labels

    def _change(self, images: Any, labels: Any, seed: Any, turned: Any) -> tuple[Any, Any]:
        dtype, draws = images.dtype, Draws(seed, tf.shape(images)[0])
        # Colour, interpolation and blending give fractions of a grey level, rounded once, at the end.
        if self.brightness or self.contrast:
            brightness = 1 + draws.spread("brightness", self.brightness)
            contrast = 1 + draws.spread("contrast", self.contrast)
            images = blending.adjust(images, brightness, contrast)
        pixels = self._move(images, draws, turned)
        if self.cutout:
            self._cut_out(images, pixels, draws)
        if not self.mixes_labels:
            return blending.to_dtype(pixels.gather(), dtype), labels

        takes_mixup = draws.coin("choice")[0] if self.mixup and self.cutmix else self.mixup > 0
        share = self._cut_mix(pixels, draws, takes_mixup) if self.cutmix else 1.0  # of itself
        images = pixels.gather()
        if self.mixup:
            blend = blending.beta(draws["mixup"], self.mixup)
            # The larger part goes to the image itself; otherwise some images of a batch would be shown nearly
            # twice, and others hardly.
            blend = tf.where(takes_mixup, tf.maximum(blend, 1 - blend), 1.0)
            images, share = blending.mixup(images, blend), share * blend  # one of the two is 1
        labels = blending.mix_labels(labels, share, self.outputs if self.task == "multiclass" else None)
        return blending.to_dtype(images, dtype), labels

    def _move(self, images: Any, draws: Draws, turned: Any) -> Pixels:
        """Crop, translate, rotate, scale and flip."""
        height, width = images.shape[1:3]
        # Shifts are whole pixels, which blur nothing.
        reach_y, reach_x = (self.crop_padding + round(self.translation * side) for side in (height, width))
        turns = 1 + self.vertical_flip, 1 + bool(self.horizontal_flip)
        # One number tells shift and flip, in the order of `ways`.
        y = draws.whole("way_y", (2 * reach_y + 1) * turns[0])
        x = draws.whole("way_x", (2 * reach_x + 1) * turns[1])
        if self.horizontal_flip == "alternating" and turned is not None:
            x = x // 2 * 2 + turned
        if self._interpolates:
            angle, zoom = draws.spread("angle", math.radians(self.rotation)), draws.spread("zoom", self.scale)
            dy = tf.cast(y // turns[0] - reach_y, tf.float32)
            dx = tf.cast(x // turns[1] - reach_x, tf.float32)
            flip_y, flip_x = y % turns[0] == 1, x % turns[1] == 1
            return Pixels(blending.warp(images, angle, 1 + zoom, dy, dx, flip_y, flip_x, self.crop_mode))
        pixels = Pixels(images)
        if reach_y or reach_x or self.vertical_flip or self.horizontal_flip:
            ways_y = ways(height, reach_y, self.vertical_flip, self.crop_mode)
            ways_x = ways(width, reach_x, bool(self.horizontal_flip), self.crop_mode)
            pixels.crop_flip(y, x, ways_y, ways_x)
        return pixels

    def _cut_out(self, images: Any, pixels: Pixels, draws: Draws) -> None:
        height, width, channels = images.shape[1:]
        colours = tf.zeros((draws.batch, channels))
        if self.cutout_fill == "mean":
            colours = tf.reduce_mean(tf.cast(images, tf.float32), (1, 2))
        centre = draws.whole("cutout_y", height), draws.whole("cutout_x", width)
        pixels.cutout(*centre, self.cutout, blending.to_dtype(colours, pixels.dtype))

    def _cut_mix(self, pixels: Pixels, draws: Draws, takes_mixup: Any) -> Any:
        """Give each image a rectangle of its neighbour; return the share that remains of the image itself."""
        height, width = pixels.height, pixels.width
        wanted = tf.where(takes_mixup, 0.0, tf.sqrt(1 - blending.beta(draws["cutmix"], self.cutmix)))
        edges = []
        for name, side in (("cutmix_y", height), ("cutmix_x", width)):
            length, centre = tf.cast(wanted * side, tf.int32), draws.whole(name, side)
            start = centre - length // 2
            edges.append((tf.maximum(start, 0), tf.minimum(start + length, side)))
        (top, bottom), (left, right) = edges
        pixels.cutmix(top, left, bottom, right)
        # The rectangle may be cut at the borders; labels are the pixels' true shares.
        area = tf.cast((bottom - top) * (right - left), tf.float32)
        return 1 - area / (height * width)


# -- Chance ----------------------------------------------------------------------------------------


class Draws:
    """Uniform numbers of one batch, by name.

    Args:
        seed: ``(2,)`` int32.
        batch: how many examples.
    """

    def __init__(self, seed: Any, batch: Any) -> None:
        self.batch = batch
        # Integers of Philox are the same on every device and under XLA; fractions are not. The seed is the
        # key unchanged: TensorFlow's own functions scramble it first, which costs as much again.
        bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=(len(NAMES), batch),
            key=tf.reshape(tf.bitcast(seed, tf.uint64), (1,)),
            counter=tf.zeros(2, tf.uint64),
            alg=tf.random.Algorithm.PHILOX.value,
            dtype=tf.uint32,
        )
        # 23 of their bits: with 24, the largest number times a count might round up to the count.
        table = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32) * 2.0**-23
        self._rows = dict(zip(NAMES, tf.unstack(table), strict=True))

    def __getitem__(self, name: str) -> Any:
        """Return uniform numbers in [0, 1), ``(batch,)``."""
        return self._rows[name]

    def spread(self, name: str, most: float) -> Any:
        """Return uniform numbers between -most and most."""
        return (2 * self[name] - 1) * most

    def whole(self, name: str, count: int) -> Any:
        """Return integers from 0 to count - 1, int32."""
        return tf.cast(self[name] * count, tf.int32)

    def coin(self, name: str) -> Any:
        return self[name] < 0.5
