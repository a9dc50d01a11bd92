"""Corruptions of pictures: 15 kinds at 5 severities, to see how much a model loses by them.

The kinds are those of Hendrycks and Dietterich (2019, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR), whose pictures have 224 pixels a side. What has a length, such as a
blur, is scaled with the shorter side; noise and what loses detail by its root, since a small picture has
fewer pixels to make up for it. Frost is grown here, where the authors lay photographs of frost over a
picture, and glass moves pixels by fractions: figures are near those of their published files, not the same.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.errors import CnnbenchError, nearest

if TYPE_CHECKING:
    from PIL import Image

SIDE = 224  # pixels, for which the strengths below are given
SEVERITIES = (1, 2, 3, 4, 5)
Pixels = np.ndarray  # (height, width, channels) float64 from 0 to 1


@dataclass(frozen=True)
class Setting:
    """One corruption of one picture.

    Attributes:
        level: the severity, from 0 to 4.
        scale: the shorter side, of that of the strengths.
        rng: of this picture alone.
    """

    level: int
    scale: float
    rng: np.random.Generator

    @property
    def root(self) -> float:
        return float(np.sqrt(self.scale))


def corrupted(picture: np.ndarray, kind: str, severity: int, seed: int | Sequence[int] = 0) -> np.ndarray:
    """Corrupt a picture; the same seed does the same to it.

    Args:
        picture: ``(height, width, channels)`` uint8, of 1 or 3 channels.
        kind: one of `CORRUPTIONS`.
        severity: from 1 to 5.
        seed: of this picture; several numbers are one seed together.

    Returns:
        the same shape and type.
    """
    rng = np.random.default_rng([*np.atleast_1d(seed), list(CORRUPTIONS).index(kind), severity])
    setting = Setting(severity - 1, min(picture.shape[:2]) / SIDE, rng)
    pixels = CORRUPTIONS[kind](picture.astype(np.float64) / 255, setting)
    return np.asarray((np.clip(pixels, 0, 1) * 255).round(), np.uint8)


def check_corruption(kind: str) -> None:
    """Refuse a kind that there is not.

    Raises:
        CnnbenchError: with the nearest name.
    """
    if kind not in CORRUPTIONS:
        raise CnnbenchError(f"there is no corruption {kind}", nearest(kind, ["all", *CORRUPTIONS]))


# -- Noise -------------------------------------------------------------------------------------------


def _gaussian_noise(x: Pixels, given: Setting) -> Pixels:
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[given.level] * given.root
    return x + given.rng.normal(size=x.shape, scale=deviation)


def _shot_noise(x: Pixels, given: Setting) -> Pixels:
    """Count photons: of a white pixel so many on average."""
    photons = (60, 25, 12, 5, 3)[given.level] / given.scale
    return np.asarray(given.rng.poisson(x * photons) / photons)


def _impulse_noise(x: Pixels, given: Setting) -> Pixels:
    """Turn a share of the values to black or white."""
    share = min(1.0, (0.03, 0.06, 0.09, 0.17, 0.27)[given.level] * given.root)
    hit = given.rng.random(x.shape) < share
    return np.where(hit, given.rng.integers(2, size=x.shape), x)


# -- Blur --------------------------------------------------------------------------------------------


def _defocus_blur(x: Pixels, given: Setting) -> Pixels:
    """Spread each pixel over a disc."""
    radius = (3, 4, 6, 8, 10)[given.level] * given.scale
    reach = int(np.ceil(radius))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return _convolved(x, np.clip(radius + 0.5 - np.hypot(rows, columns), 0, 1))


def _glass_blur(x: Pixels, given: Setting) -> Pixels:
    """Take each pixel from somewhere near, several times, between two slight blurs."""
    from scipy import ndimage

    sigma = (0.7, 0.9, 1.0, 1.1, 1.5)[given.level] * given.scale
    reach = (1.0, 1.6, 2.0, 3.0, 4.0)[given.level] * given.root
    x = ndimage.gaussian_filter(x, (sigma, sigma, 0))
    for _ in range(2):
        x = _moved(x, given.rng.uniform(-reach, reach, (2, *x.shape[:2])))
    return np.asarray(ndimage.gaussian_filter(x, (sigma, sigma, 0)))


def _motion_blur(x: Pixels, given: Setting) -> Pixels:
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[given.level]
    angle = given.rng.uniform(-45, 45)
    return _convolved(x, _streak(radius * given.scale, sigma * given.scale, angle))


def _zoom_blur(x: Pixels, given: Setting) -> Pixels:
    """Add pictures up that were taken while the lens zoomed in."""
    largest = (1.11, 1.16, 1.21, 1.26, 1.33)[given.level]
    return np.asarray(np.mean([_zoomed(x, factor) for factor in np.linspace(1, largest, 11)], axis=0))


# -- Weather -----------------------------------------------------------------------------------------


def _snow(x: Pixels, given: Setting) -> Pixels:
    """Let flakes fall in streaks, and make the picture paler."""
    from scipy import ndimage

    share, size, streak, kept = (
        (0.02, 1.2, 5, 0.85),
        (0.04, 1.5, 6, 0.75),
        (0.06, 1.8, 7, 0.7),
        (0.08, 2.2, 8, 0.65),
        (0.11, 2.5, 10, 0.6),
    )[given.level]
    grain = max(0.5, size * given.scale)
    field = ndimage.gaussian_filter(given.rng.normal(size=x.shape[:2]), grain)
    above = field - np.quantile(field, 1 - share)
    flakes = np.clip(above / (0.3 * field.std()), 0, 1)[..., None]
    flakes = _convolved(
        flakes, _streak(streak * given.scale, streak * given.scale, given.rng.uniform(45, 135))
    )
    pale = np.maximum(x, 0.5 + 0.5 * _grey(x))
    return np.asarray(kept * x + (1 - kept) * pale + flakes)


def _frost(x: Pixels, given: Setting) -> Pixels:
    """Lay needles of ice over the picture: the ridges of a cloud."""
    kept, strength = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[given.level]
    ridges = 1 - np.abs(2 * _cloud(x.shape[:2], 1.5, given.rng) - 1)
    thick = _cloud(x.shape[:2], 2.5, given.rng)
    ice = np.clip(1.4 * ridges**4 * thick + 0.5 * thick**2, 0, 1)[..., None]
    tint = np.array([0.85, 0.93, 1.0])[: x.shape[2]] if x.shape[2] == 3 else np.ones(1)
    return np.asarray(kept * x + strength * ice * tint)


def _fog(x: Pixels, given: Setting) -> Pixels:
    density, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[given.level]
    brightest = max(float(x.max()), 1 / 255)
    cloud = _cloud(x.shape[:2], decay, given.rng)[..., None]
    return np.asarray((x + density * cloud) * brightest / (brightest + density))


def _brightness(x: Pixels, given: Setting) -> Pixels:
    """Add to the value of hue, saturation and value."""
    value = x.max(axis=2, keepdims=True)
    brighter = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[given.level], 1)
    return np.asarray(np.where(value > 0, x * brighter / np.maximum(value, 1e-9), brighter))


# -- Digital -----------------------------------------------------------------------------------------


def _contrast(x: Pixels, given: Setting) -> Pixels:
    mean = x.mean(axis=(0, 1))
    return np.asarray(mean + (0.4, 0.3, 0.2, 0.1, 0.05)[given.level] * (x - mean))


def _elastic_transform(x: Pixels, given: Setting) -> Pixels:
    """Stretch and squeeze small parts of the picture."""
    from scipy import ndimage

    height, width = x.shape[:2]
    by = np.array((0.004, 0.007, 0.01, 0.013, 0.016))[given.level] * min(height, width)
    sigma = 0.035 * min(height, width)
    field = ndimage.gaussian_filter(given.rng.normal(size=(2, height, width)), (0, sigma, sigma))
    return _moved(x, field * by / max(float(field.std()), 1e-12))


def _pixelate(x: Pixels, given: Setting) -> Pixels:
    from PIL import Image

    share = (0.6, 0.5, 0.4, 0.3, 0.25)[given.level] ** given.root
    height, width = x.shape[:2]
    small = max(1, round(width * share)), max(1, round(height * share))
    picture = _as_picture(x).resize(small, Image.Resampling.BOX)
    return _as_pixels(picture.resize((width, height), Image.Resampling.NEAREST), x)


def _jpeg_compression(x: Pixels, given: Setting) -> Pixels:
    from PIL import Image

    quality = 100 - (100 - np.array((25, 18, 15, 10, 7))[given.level]) * given.root
    file = io.BytesIO()
    _as_picture(x).save(file, "JPEG", quality=int(np.clip(round(quality), 1, 95)))
    return _as_pixels(Image.open(file), x)


CORRUPTIONS: dict[str, Callable[[Pixels, Setting], Pixels]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}


# -- What several have in common -----------------------------------------------------------------------


def _convolved(x: Pixels, kernel: np.ndarray) -> Pixels:
    """Convolve each channel with a kernel, made to add up to 1; the picture is mirrored at its edges."""
    from scipy.signal import fftconvolve

    rows, columns = (length // 2 for length in kernel.shape)
    padded = np.pad(x, ((rows, rows), (columns, columns), (0, 0)), "symmetric")
    return np.asarray(fftconvolve(padded, (kernel / kernel.sum())[..., None], "valid", axes=(0, 1)))


def _streak(radius: float, sigma: float, degrees: float) -> np.ndarray:
    """Return the kernel of a movement to one side, as strong as half a Gaussian's curve."""
    reach = int(np.ceil(2 * radius)) + 1
    kernel = np.zeros((2 * reach + 1,) * 2)
    steps = np.linspace(0, 2 * radius, 8 * reach + 1)
    weights = np.exp(-0.5 * (steps / max(sigma, 1e-9)) ** 2)
    places = reach + np.outer([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))], steps)
    low = np.floor(places).astype(int)
    part = places - low
    for row in (0, 1):
        for column in (0, 1):
            share = np.abs(1 - row - part[0]) * np.abs(1 - column - part[1])
            np.add.at(kernel, (low[0] + row, low[1] + column), weights * share)
    return kernel


def _moved(x: Pixels, offsets: np.ndarray) -> Pixels:
    """Take each pixel from another place, ``(2, height, width)`` pixels away, between four of them."""
    from scipy import ndimage

    places = np.mgrid[: x.shape[0], : x.shape[1]] + offsets
    channels = [
        ndimage.map_coordinates(x[..., index], places, order=1, mode="reflect") for index in range(x.shape[2])
    ]
    return np.stack(channels, axis=2)


def _zoomed(x: Pixels, factor: float) -> Pixels:
    """Enlarge the middle of a picture to the whole."""
    from scipy import ndimage

    middle = (np.array(x.shape) - 1) / 2
    matrix = np.array([1 / factor, 1 / factor, 1.0])
    return np.asarray(ndimage.affine_transform(x, matrix, middle - matrix * middle, order=1, mode="nearest"))


def _cloud(shape: tuple[int, int], decay: float, rng: np.random.Generator) -> np.ndarray:
    """Return a field from 0 to 1: coarse noise, and ever finer noise, `decay` times weaker each time."""
    from scipy import ndimage

    field, strength, cells = np.zeros(shape), 1.0, 2
    while cells <= 2 * max(shape):
        grid = rng.uniform(-1, 1, (cells + 1, cells + 1))
        places = np.meshgrid(*(np.linspace(0, cells, length) for length in shape), indexing="ij")
        field += strength * ndimage.map_coordinates(grid, places, order=1, mode="nearest")
        strength, cells = strength / decay, 2 * cells
    return np.asarray((field - field.min()) / max(float(np.ptp(field)), 1e-12))


def _grey(x: Pixels) -> Pixels:
    return np.asarray(x.mean(axis=2, keepdims=True))


def _as_picture(x: Pixels) -> Image.Image:
    from PIL import Image

    values = (np.clip(x, 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def _as_pixels(picture: Image.Image, like: Pixels) -> Pixels:
    return np.asarray(np.asarray(picture, np.float64).reshape(like.shape) / 255)
