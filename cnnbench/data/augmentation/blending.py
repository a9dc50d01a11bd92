"""Operations that compute new pixel values: warping, brightness and contrast, mixup."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

QUANTILES = 1025


def warp(images: Any, angle: Any, zoom: Any, dy: Any, dx: Any, flip_y: Any, flip_x: Any, mode: str) -> Any:
    """Rotate and zoom about the centre, then shift, then flip, with bilinear interpolation.

    `ImageProjectiveTransformV3` takes as long on a CPU (1.5 ms for 64 images of 32×32×3), truncates uint8
    instead of rounding, and cannot be compiled by XLA.

    Args:
        images: ``(batch, height, width, channels)``, any type; all but the batch static.
        angle: ``(batch,)`` radians, counter-clockwise.
        zoom: ``(batch,)`` factor, above 1 magnifies.
        dy: ``(batch,)`` pixels by which the content moves up.
        dx: ``(batch,)`` pixels by which it moves left.
        flip_y: ``(batch,)`` bool, upside down.
        flip_x: ``(batch,)`` bool, left to right.
        mode: `zero` for black outside the image, `reflect` to mirror it at its edge pixels.

    Returns:
        float32, same shape.
    """
    height, width, channels = images.shape[1:]
    batch = tf.shape(images)[0]
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    # The source of each pixel, relative to the centre: undo flip, shift, rotation and zoom in turn.
    sign_y, sign_x = (tf.where(flip, -1.0, 1.0)[:, None] for flip in (flip_y, flip_x))
    y = sign_y * (tf.range(height, dtype=tf.float32) - centre_y) + dy[:, None]
    x = sign_x * (tf.range(width, dtype=tf.float32) - centre_x) + dx[:, None]
    cosine, sine = (tf.cos(angle) / zoom)[:, None], (tf.sin(angle) / zoom)[:, None]
    source_y = (cosine * y)[:, :, None] + (sine * x + centre_y)[:, None, :]
    source_x = (centre_x - sine * y)[:, :, None] + (cosine * x)[:, None, :]
    if mode == "reflect":
        source_y, source_x = _reflect(source_y, height), _reflect(source_x, width)
    # With a black border of one pixel every position has four neighbours.
    padded = tf.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    source_y = tf.clip_by_value(source_y + 1, 0, height + 1)
    source_x = tf.clip_by_value(source_x + 1, 0, width + 1)
    top = tf.minimum(tf.floor(source_y), height)
    left = tf.minimum(tf.floor(source_x), width)

    rows, stride = tf.reshape(padded, (-1, channels)), width + 2
    first = tf.range(batch)[:, None, None] * ((height + 2) * stride)
    index = tf.reshape(first + tf.cast(top, tf.int32) * stride + tf.cast(left, tf.int32), (-1,))

    def neighbour(offset: int) -> Any:
        return tf.cast(tf.gather(rows, index + offset), tf.float32)

    # Repeating the weights over the channels once is faster than broadcasting them in each product.
    down = tf.repeat(tf.reshape(source_y - top, (-1, 1)), channels, axis=1)
    right = tf.repeat(tf.reshape(source_x - left, (-1, 1)), channels, axis=1)
    upper = _between(neighbour(0), neighbour(1), right)
    lower = _between(neighbour(stride), neighbour(stride + 1), right)
    return tf.ensure_shape(
        tf.reshape(_between(upper, lower, down), (batch, height, width, channels)), images.shape
    )


def _reflect(position: Any, size: int) -> Any:
    if size == 1:
        return tf.zeros_like(position)
    period = 2 * (size - 1)
    position -= period * tf.floor(position / period)  # ten times faster than floormod
    return tf.minimum(position, period - position)


def _between(start: Any, end: Any, fraction: Any) -> Any:
    return start + (end - start) * fraction


def adjust(images: Any, brightness: Any, contrast: Any) -> Any:
    """Change contrast about each image's mean, then brightness.

    Args:
        images: ``(batch, height, width, channels)``, any type.
        brightness: ``(batch,)`` factor.
        contrast: ``(batch,)`` factor.

    Returns:
        float32, same shape; within 0…255 where the images were uint8.
    """
    pixels = tf.cast(images, tf.float32)
    mean = tf.reduce_mean(pixels, (1, 2, 3))
    gain, offset = brightness * contrast, brightness * (1 - contrast) * mean
    pixels = pixels * gain[:, None, None, None] + offset[:, None, None, None]
    return tf.clip_by_value(pixels, 0, images.dtype.max) if images.dtype.is_integer else pixels


def mixup(images: Any, share: Any) -> Any:
    """Blend each image with the one before it, the first with the last (Zhang et al. 2018).

    The order of the examples is random, so the neighbour is as good as a permutation.

    Args:
        images: ``(batch, height, width, channels)``, any type.
        share: ``(batch,)`` of the image itself.

    Returns:
        float32, same shape.
    """
    pixels = tf.cast(images, tf.float32)
    return _between(tf.roll(pixels, 1, 0), pixels, share[:, None, None, None])


def mix_labels(labels: Any, share: Any, classes: int | None) -> Any:
    """Return targets mixed as the images were.

    Args:
        labels: ``(batch,)`` class indices; where `classes` is None, numbers ``(batch,)`` or
            ``(batch, outputs)``: 0 and 1 of a class or of labels, or the targets of a regression.
        share: ``(batch,)`` of an example's own target; the rest is of the one before it.
        classes: width of the result, or None where targets are numbers.

    Returns:
        ``(batch, classes)``, or the shape of the labels, float32.
    """
    own = tf.cast(labels, tf.float32) if classes is None else tf.one_hot(labels, classes)
    share = share[:, None] if len(own.shape) > 1 else share
    return share * own + (1 - share) * tf.roll(own, 1, 0)


def to_dtype(images: Any, dtype: Any) -> Any:
    """Cast to `dtype`, rounding to whole grey levels for a type of integers."""
    if images.dtype == dtype:
        return images
    return tf.cast(tf.round(images) if dtype.is_integer else images, dtype)


def beta(uniform: Any, alpha: float) -> Any:
    """Return draws of Beta(alpha, alpha) from uniform numbers in [0, 1), by a table of quantiles.

    TensorFlow's stateless gamma rejects and draws again, which XLA cannot compile.
    """
    quantiles = tf.constant(_quantiles(alpha))
    position = uniform * (QUANTILES - 1)
    below = tf.cast(position, tf.int32)
    return _between(
        tf.gather(quantiles, below), tf.gather(quantiles, below + 1), position - tf.floor(position)
    )


@cache
def _quantiles(alpha: float) -> np.ndarray:
    from scipy.special import betaincinv

    return np.asarray(betaincinv(alpha, alpha, np.linspace(0, 1, QUANTILES)), np.float32)
