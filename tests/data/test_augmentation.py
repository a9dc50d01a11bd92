"""Augmentation against slow references in numpy, for the parameters that were drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from scipy.ndimage import affine_transform

from cnnbench.config.groups import CONF_DIR
from cnnbench.config.signatures import signature
from cnnbench.data.augmentation import blending
from cnnbench.data.augmentation.operations import NAMES, Augmentation, Draws, augmentation
from cnnbench.data.augmentation.pixels import OUTSIDE, Pixels, ways
from cnnbench.errors import CnnbenchError
from cnnbench.nn.losses import MixedAccuracy, SmoothedCrossentropy

OPTIONS = sorted(path.stem for path in (CONF_DIR / "augmentation").glob("*.yaml"))
SHAPES = [(5, 8, 8, 3), (4, 7, 12, 1), (3, 12, 6, 4), (1, 8, 9, 3)]
EVERYTHING = {
    "crop_padding": 2,
    "horizontal_flip": True,
    "vertical_flip": True,
    "rotation": 20.0,
    "translation": 0.2,
    "scale": 0.2,
    "cutout": 3,
    "brightness": 0.3,
    "contrast": 0.3,
    "mixup": 1.0,
    "cutmix": 1.0,
}


def noise(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.standard_normal(shape, np.float32)


def seed(first: int = 1, second: int = 2) -> Any:
    return tf.constant([first, second], tf.int32)


def labels(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) % 3


def apply(
    settings: dict[str, Any], images: np.ndarray, first: int = 1, task: str = "multiclass"
) -> tuple[np.ndarray, np.ndarray]:
    made = augmentation(**settings).for_data(images.shape[1:], 3 if task == "multiclass" else 1, task)
    y = labels(len(images)) if task == "multiclass" else labels(len(images)) % 2
    changed, mixed = made(tf.constant(images), tf.constant(y), seed(first))
    return changed.numpy(), mixed.numpy()


def drawn(count: int, first: int = 1) -> dict[str, np.ndarray]:
    draws = Draws(seed(first), count)
    return {name: draws[name].numpy().astype(np.float64) for name in NAMES}


def whole(row: np.ndarray, count: int) -> np.ndarray:
    return np.floor(row * count).astype(int)


def moved(count: int, reach: tuple[int, int], flips: tuple[bool, bool], first: int = 1) -> tuple[Any, ...]:
    """The drawn shifts and flips of both axes, as `slow_crop_flip` wants them."""
    shifts, turned = [], []
    for axis, most, flipped in zip("yx", reach, flips, strict=True):
        way = whole(drawn(count, first)[f"way_{axis}"], (2 * most + 1) * (1 + flipped))
        shifts.append(way // (1 + flipped) - most)
        turned.append(way % 2 == 1 if flipped else np.zeros(count, bool))
    return (*shifts, *turned)


def options(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONF_DIR / "augmentation" / f"{name}.yaml").read_text())


# References: one pixel at a time.


def mirrored(position: int, size: int) -> int:
    while size > 1 and not 0 <= position < size:
        position = -position if position < 0 else 2 * (size - 1) - position
    return position if size > 1 else 0


def slow_crop_flip(
    images: np.ndarray, dy: Any, dx: Any, flip_y: Any, flip_x: Any, mode: str = "zero"
) -> np.ndarray:
    result = np.zeros_like(images)
    count, height, width, _ = images.shape
    for n in range(count):
        for i in range(height):
            for j in range(width):
                y = (height - 1 - i if flip_y[n] else i) + dy[n]
                x = (width - 1 - j if flip_x[n] else j) + dx[n]
                if mode == "reflect":
                    y, x = mirrored(y, height), mirrored(x, width)
                if 0 <= y < height and 0 <= x < width:
                    result[n, i, j] = images[n, y, x]
    return result


def slow_cutout(images: np.ndarray, y: Any, x: Any, side: int, colours: np.ndarray) -> np.ndarray:
    result = images.copy()
    for n in range(len(images)):
        for i in range(y[n] - side // 2, y[n] - side // 2 + side):
            for j in range(x[n] - side // 2, x[n] - side // 2 + side):
                if 0 <= i < images.shape[1] and 0 <= j < images.shape[2]:
                    result[n, i, j] = colours[n]
    return result


def slow_warp(images: np.ndarray, angle: Any, zoom: Any, dy: Any, dx: Any, mode: str) -> np.ndarray:
    centre = (np.array(images.shape[1:3]) - 1) / 2
    result = np.zeros(images.shape, np.float64)
    for n, image in enumerate(images.astype(np.float64)):
        cosine, sine = math.cos(angle[n]) / zoom[n], math.sin(angle[n]) / zoom[n]
        matrix = np.array([[cosine, sine], [-sine, cosine]])
        offset = centre + matrix @ (np.array([dy[n], dx[n]]) - centre)
        for channel in range(images.shape[3]):
            result[n, :, :, channel] = affine_transform(
                image[:, :, channel],
                matrix,
                offset,
                order=1,
                mode={"zero": "grid-constant", "reflect": "mirror"}[mode],
            )
    return result


# Every operation, for parameters of our own.


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize(("size", "reach"), [(1, 0), (1, 2), (5, 0), (5, 2), (4, 30)])
def test_ways_are_every_shift_as_it_is_and_flipped(size: int, reach: int, mode: str, flips: bool) -> None:
    expected = []
    for shift in range(-reach, reach + 1):
        places = range(shift, shift + size)
        if mode == "reflect":
            row = [mirrored(place, size) for place in places]
        else:
            row = [place if 0 <= place < size else OUTSIDE for place in places]
        expected += [row, row[::-1]] if flips else [row]
    np.testing.assert_array_equal(ways(size, reach, flips, mode), expected)


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_crop_and_flips_match_the_reference(shape: tuple[int, ...], dtype: Any, mode: str) -> None:
    images, (count, height, width, _) = noise(shape, dtype), shape
    rng = np.random.default_rng(1)
    for reach in (0, 3, 40):  # farther than any side too: black, or mirrored again and again
        dy, dx = rng.integers(-reach, reach + 1, (2, count))
        flip_y, flip_x = rng.random((2, count)) < 0.5
        pixels = Pixels(tf.constant(images))
        pixels.crop_flip(
            tf.constant(2 * (dy + reach) + flip_y, tf.int32),
            tf.constant(2 * (dx + reach) + flip_x, tf.int32),
            ways(height, reach, True, mode),
            ways(width, reach, True, mode),
        )
        changed = pixels.gather()
        assert changed.dtype == dtype
        np.testing.assert_array_equal(changed, slow_crop_flip(images, dy, dx, flip_y, flip_x, mode))


@pytest.mark.parametrize("side", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_covers_its_square_as_far_as_it_lies_inside(shape: tuple[int, ...], side: int) -> None:
    count, height, width, channels = shape
    images = noise(shape)
    colours = noise((count, channels))
    for y, x in [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height // 2, width // 2)]:
        centre = np.full(count, y, np.int32), np.full(count, x, np.int32)
        pixels = Pixels(tf.constant(images))
        pixels.cutout(*centre, side, colours)
        np.testing.assert_array_equal(pixels.gather(), slow_cutout(images, *centre, side, colours))


def test_an_odd_cutout_in_the_middle_has_its_full_area_and_a_quarter_in_the_corner() -> None:
    images = np.ones((2, 9, 9, 1), np.uint8)
    pixels = Pixels(tf.constant(images))
    pixels.cutout(np.array([4, 0], np.int32), np.array([4, 0], np.int32), 5, np.zeros((2, 1), np.uint8))
    assert (pixels.gather().numpy() == 0).sum((1, 2, 3)).tolist() == [25, 9]


def test_cutout_lies_over_the_black_padding_too() -> None:
    images = np.full((1, 8, 8, 1), 7, np.uint8)
    pixels = Pixels(tf.constant(images))
    down, same = ways(8, 5, False, "zero"), ways(8, 0, False, "zero")
    pixels.crop_flip(np.array([10], np.int32), np.array([0], np.int32), down, same)
    pixels.cutout(np.array([7], np.int32), np.array([4], np.int32), 3, np.full((1, 1), 9, np.uint8))
    expected = np.zeros((8, 8), int)
    expected[:3] = 7
    expected[6:, 3:6] = 9
    np.testing.assert_array_equal(pixels.gather().numpy()[0, :, :, 0], expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_cutmix_fills_its_rectangle_from_the_image_before(shape: tuple[int, ...]) -> None:
    images, count = noise(shape), shape[0]
    rng = np.random.default_rng(2)
    top, bottom = np.sort(rng.integers(0, shape[1] + 1, (2, count), dtype=np.int32), axis=0)
    left, right = np.sort(rng.integers(0, shape[2] + 1, (2, count), dtype=np.int32), axis=0)
    expected = images.copy()
    for n in range(count):
        where = np.s_[n, top[n] : bottom[n], left[n] : right[n]]
        expected[where] = np.roll(images, 1, 0)[where]
    pixels = Pixels(tf.constant(images))
    pixels.cutmix(top, left, bottom, right)
    np.testing.assert_array_equal(pixels.gather(), expected)


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_warp_matches_scipy(shape: tuple[int, ...], dtype: Any, mode: str) -> None:
    images, count = noise(shape, dtype), shape[0]
    rng = np.random.default_rng(3)
    angle, zoom = rng.uniform(-3, 3, count), rng.uniform(0.5, 1.5, count)
    dy, dx = rng.uniform(-4, 4, (2, count))
    flip_y, flip_x = rng.random((2, count)) < 0.5
    parameters = (tf.constant(value, tf.float32) for value in (angle, zoom, dy, dx))
    changed = blending.warp(tf.constant(images), *parameters, flip_y, flip_x, mode)
    assert changed.dtype == tf.float32
    expected = slow_warp(images, angle, zoom, dy, dx, mode)
    nowhere = np.zeros(count, int)
    expected = slow_crop_flip(expected, nowhere, nowhere, flip_y, flip_x)  # flips come last
    # Where a position falls on a pixel of these noise images to the last digit, either side is right.
    np.testing.assert_allclose(changed, expected, atol=0.02 if dtype == np.uint8 else 2e-4)


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_warp_by_nothing_changes_nothing_and_by_a_right_angle_turns_counter_clockwise(mode: str) -> None:
    images = noise((2, 7, 7, 3))
    zero, off = tf.zeros(2), np.zeros(2, bool)
    same = blending.warp(tf.constant(images), zero, zero + 1, zero, zero, off, off, mode)
    np.testing.assert_array_equal(same, images)
    turned = blending.warp(tf.constant(images), zero + math.pi / 2, zero + 1, zero, zero, off, off, mode)
    np.testing.assert_allclose(turned, np.rot90(images, axes=(1, 2)), atol=1e-3)


def test_zoom_above_one_magnifies() -> None:
    images = np.zeros((1, 9, 9, 1), np.uint8)
    images[:, 3:6, 3:6] = 255
    zero, off = tf.zeros(1), np.zeros(1, bool)
    larger = blending.warp(tf.constant(images), zero, zero + 1.5, zero, zero, off, off, "zero")
    assert larger.numpy().sum() > 2 * images.sum(dtype=int)


def test_brightness_and_contrast_match_the_reference_and_stay_within_bytes() -> None:
    images = noise((4, 6, 5, 3))
    brightness, contrast = np.array([1, 1.9, 0.5, 1.5]), np.array([1, 1, 1.5, 1.9])
    changed = blending.adjust(
        tf.constant(images), tf.constant(brightness, tf.float32), tf.constant(contrast, tf.float32)
    ).numpy()
    mean = images.mean((1, 2, 3), keepdims=True)
    factor = [value.reshape(-1, 1, 1, 1) for value in (brightness, contrast)]
    np.testing.assert_allclose(
        changed, np.clip(((images - mean) * factor[1] + mean) * factor[0], 0, 255), atol=1e-3
    )
    np.testing.assert_allclose(changed[0], images[0], atol=1e-4)


def test_beta_has_the_moments_and_the_quantiles_of_its_distribution() -> None:
    from scipy.stats import beta

    uniform = ((np.arange(200_000) + 0.5) / 200_000).astype(np.float32)
    for alpha in (0.1, 0.2, 1.0, 8.0):
        values = blending.beta(tf.constant(uniform), alpha).numpy()
        assert values.min() >= 0
        assert values.max() <= 1
        assert values.mean() == pytest.approx(0.5, abs=1e-3)
        assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-2)
        inner = np.s_[400:-400:1000]  # the outermost cells of the table reach to 0 and 1
        np.testing.assert_allclose(values[inner], beta.ppf(uniform[inner], alpha, alpha), atol=2e-3)


def test_whole_draws_reach_both_ends_and_never_further() -> None:
    values = Draws(seed(), 100_000).whole("way_y", 9).numpy()
    assert np.unique(values).tolist() == list(range(9))
    counts = np.unique(values, return_counts=True)[1]
    assert counts.min() > 0.95 * 100_000 / 9
    # The largest number that can be drawn, times any count.
    largest, counts = np.float32(1 - 2.0**-23), np.arange(1, 5000, dtype=np.float32)
    assert (np.floor(largest * counts) < counts).all()


def test_draws_are_uniform_and_independent_of_their_neighbours_in_every_direction() -> None:
    # The seeds of a training are consecutive, and they are Philox's key as they are.
    draw = tf.function(lambda step: tf.stack([Draws(tf.stack([1, step]), 64)[name] for name in NAMES]))
    table = np.stack([draw(tf.constant(step)).numpy() for step in range(400)])  # seed, name, example
    standard = (table - 0.5) * math.sqrt(12)
    assert abs(standard.mean()) * math.sqrt(table.size) < 4
    assert standard.var() == pytest.approx(1, abs=0.01)
    for axis in range(3):
        product = standard * np.roll(standard, 1, axis)
        assert abs(product.mean()) * math.sqrt(product.size) < 4


# The whole, for what was drawn.


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize("shape", SHAPES)
def test_crop_translation_and_flips_follow_the_draws(shape: tuple[int, ...], mode: str) -> None:
    images, (count, height, width, _) = noise(shape), shape
    settings = {
        "crop_padding": 3,
        "crop_mode": mode,
        "horizontal_flip": True,
        "vertical_flip": True,
        "translation": 0.3,
    }
    changed, y = apply(settings, images)
    reach = 3 + round(0.3 * height), 3 + round(0.3 * width)
    expected = slow_crop_flip(images, *moved(count, reach, (True, True)), mode)
    np.testing.assert_array_equal(changed, expected)
    np.testing.assert_array_equal(y, labels(count))


@pytest.mark.parametrize("fill", ["mean", "zero"])
@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_follows_the_draws(shape: tuple[int, ...], fill: str) -> None:
    images, (count, height, width, _) = noise(shape), shape
    changed, _ = apply({"cutout": 4, "cutout_fill": fill}, images)
    draws = drawn(count)
    colours = images.mean((1, 2)).round() if fill == "mean" else np.zeros((count, shape[3]))
    centre = whole(draws["cutout_y"], height), whole(draws["cutout_x"], width)
    np.testing.assert_array_equal(changed, slow_cutout(images, *centre, 4, colours))


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_rotation_and_scale_follow_the_draws_and_are_rounded(
    shape: tuple[int, ...], flips: tuple[bool, bool], mode: str
) -> None:
    images, count = noise(shape), shape[0]
    settings = {"rotation": 30.0, "scale": 0.3, "crop_padding": 2, "crop_mode": mode}
    changed, _ = apply({**settings, "vertical_flip": flips[0], "horizontal_flip": flips[1]}, images)
    draws = drawn(count)
    angle, zoom = np.radians(30) * (2 * draws["angle"] - 1), 1 + 0.3 * (2 * draws["zoom"] - 1)
    dy, dx, *turned = moved(count, (2, 2), flips)
    nowhere = np.zeros(count, int)
    expected = slow_crop_flip(slow_warp(images, angle, zoom, dy, dx, mode), nowhere, nowhere, *turned)
    assert np.abs(changed - expected).max() < 0.52
    assert abs((changed - expected).mean()) < 0.05  # cut off instead of rounded it would be -0.5


def test_mixup_mixes_pixels_and_labels_alike() -> None:
    images = noise((6, 5, 5, 3))
    changed, y = apply({"mixup": 0.4}, images)
    share = blending.beta(tf.constant(drawn(6)["mixup"], tf.float32), 0.4).numpy()
    share = np.maximum(share, 1 - share).reshape(-1, 1, 1, 1)
    blend = share * images + (1 - share) * np.roll(images, 1, 0)
    assert np.abs(changed - blend).max() < 0.501
    one_hot = np.eye(3)[labels(6)]
    np.testing.assert_allclose(
        y, share[:, :, 0, 0] * one_hot + (1 - share[:, :, 0, 0]) * np.roll(one_hot, 1, 0), atol=1e-6
    )


@pytest.mark.parametrize("cutmix", [0.2, 1.0])
def test_cutmix_labels_are_the_shares_of_pixels(cutmix: float) -> None:
    # Each image of one colour of its own, so that its pixels can be counted.
    images = np.arange(1, 65, dtype=np.uint8).reshape(64, 1, 1, 1) * np.ones((1, 9, 14, 1), np.uint8)
    made = augmentation(cutmix=cutmix).for_data((9, 14, 1), 64, "multiclass")
    shares_seen = set()
    for first in range(5):
        changed, y = made(tf.constant(images), tf.range(64), seed(first))
        counts = np.stack([(changed.numpy() == colour).mean((1, 2, 3)) for colour in range(1, 65)], axis=1)
        np.testing.assert_allclose(y, counts, atol=1e-6)
        shares_seen |= set(y.numpy().diagonal().round(3).tolist())
    assert len(shares_seen) > 30


def test_binary_labels_become_the_share_of_class_one() -> None:
    images = np.zeros((40, 8, 8, 1), np.uint8)
    images[labels(40) % 2 == 1] = 200
    for settings in ({"cutmix": 1.0}, {"mixup": 1.0}):
        changed, y = apply(settings, images, task="binary")
        assert y.dtype == np.float32
        assert y.shape == (40,)
        np.testing.assert_allclose(changed.mean((1, 2, 3)) / 200, y, atol=0.003)
        assert ((y > 0) & (y < 1)).any()


def test_with_both_a_batch_takes_one_of_mixup_and_cutmix() -> None:
    images = np.where(labels(64) % 2 == 1, 200, 0).astype(np.uint8).reshape(-1, 1, 1, 1) * np.ones(
        (1, 8, 8, 1), np.uint8
    )
    took_mixup = []
    for first in range(20):
        changed, y = apply({"cutmix": 1.0, "mixup": 1.0}, images, first, task="binary")
        np.testing.assert_allclose(changed.mean((1, 2, 3)) / 200, y, atol=0.003)
        is_blend = (changed != 0) & (changed != 200)
        took_mixup.append(bool(is_blend.any()))
        assert is_blend.any() == (drawn(64, first)["choice"][0] < 0.5)
    assert 4 < sum(took_mixup) < 16


# What holds for all.


def test_nothing_switched_on_gives_the_same_tensors_back() -> None:
    images, y = tf.constant(noise((2, 4, 4, 1))), tf.constant([0, 1])
    made = augmentation().for_data((4, 4, 1), 1, "binary")
    changed, same = made(images, y, seed())
    assert changed is images
    assert same is y
    assert made.describe() == "none"
    assert not made.mixes_labels


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "none"])
def test_same_seed_same_batch_and_other_seed_another(name: str) -> None:
    settings = {key: value for key, value in options(name).items() if key != "_target_"}
    images = noise((16, 12, 12, 3))
    first, y = apply(settings, images, 7)
    again, y_again = apply(settings, images, 7)
    other, _ = apply(settings, images, 8)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(y, y_again)
    assert (first != other).any()


def test_examples_of_a_batch_have_draws_of_their_own() -> None:
    images = np.repeat(noise((1, 12, 12, 3)), 16, 0)
    changed, _ = apply({"crop_padding": 4}, images)
    assert len(np.unique(changed.reshape(16, -1), axis=0)) > 10


def test_switching_an_operation_on_leaves_the_others_as_they_were() -> None:
    images = noise((4, 12, 12, 3))
    plain, _ = apply({"crop_padding": 4, "horizontal_flip": True}, images)
    with_cutout, _ = apply({"crop_padding": 4, "horizontal_flip": True, "cutout": 2}, images)
    assert (plain != with_cutout).any(3).sum((1, 2)).max() <= 4
    unflipped, _ = apply({"crop_padding": 4}, images)
    for one, other in zip(plain, unflipped, strict=True):
        assert (one == other).all() or (one == other[:, ::-1]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("key", EVERYTHING)
def test_shape_and_type_are_kept(key: str, shape: tuple[int, ...], dtype: Any) -> None:
    changed, _ = apply({key: EVERYTHING[key]}, noise(shape, dtype))
    assert changed.dtype == dtype
    assert changed.shape == shape
    assert np.isfinite(changed).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_at_once(shape: tuple[int, ...]) -> None:
    for mode in ("zero", "reflect"):
        changed, y = apply({**EVERYTHING, "crop_mode": mode}, noise(shape))
        assert changed.shape == shape
        np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)


def test_a_batch_of_one_mixes_with_itself() -> None:
    images = noise((1, 8, 8, 3))
    for settings in ({"mixup": 1.0}, {"cutmix": 1.0}):
        changed, y = apply(settings, images)
        np.testing.assert_array_equal(changed, images)
        np.testing.assert_allclose(y, [[1, 0, 0]], atol=1e-6)


def everything() -> Augmentation:
    return augmentation(**EVERYTHING).for_data((10, 12, 3), 3, "multiclass")


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(lambda *arguments: function(*arguments), jit_compile=True)


def test_xla_draws_the_same() -> None:
    images, y = tf.constant(noise((8, 10, 12, 3))), tf.constant(labels(8))
    for made in (everything(), augmentation(crop_padding=3, cutout=3, cutout_fill="zero")):
        plain, plain_y = made(images, y, seed())
        fast, fast_y = compiled(made)(images, y, seed())
        difference = np.abs(plain.numpy().astype(int) - fast.numpy())
        assert difference.max() <= (1 if made.rotation else 0)  # rounding of interpolated values
        assert (difference > 0).mean() < 0.01
        np.testing.assert_allclose(plain_y, fast_y, atol=1e-6)


def test_in_tf_data_with_several_threads_and_a_smaller_last_batch() -> None:
    images, y = noise((37, 10, 12, 3)), labels(37)
    made = everything()

    def epoch(threads: int) -> list[tuple[np.ndarray, np.ndarray]]:
        batches = tf.data.Dataset.from_tensor_slices((images, y)).batch(8).enumerate()
        changed = batches.map(
            lambda step, batch: made(*batch, tf.stack([5, tf.cast(step, tf.int32)])),
            num_parallel_calls=threads,
        )
        assert changed.element_spec[0].shape.as_list() == [None, 10, 12, 3]
        return list(changed.as_numpy_iterator())

    one, several = epoch(1), epoch(4)
    assert [len(batch[0]) for batch in one] == [8, 8, 8, 8, 5]
    for (x_1, y_1), (x_4, y_4) in zip(one, several, strict=True):
        np.testing.assert_array_equal(x_1, x_4)
        np.testing.assert_array_equal(y_1, y_4)
    alone, _ = made(tf.constant(images[:8]), tf.constant(y[:8]), seed(5, 0))
    np.testing.assert_array_equal(one[0][0], alone)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_says_what_it_is_and_builds(name: str) -> None:
    text = (CONF_DIR / "augmentation" / f"{name}.yaml").read_text()
    first = text.splitlines()[0]
    assert first.startswith("# ")
    assert len(first) <= 85
    node = options(name)
    if name == "none":
        assert node == {}
        return
    assert node.pop("_target_") == "cnnbench.data.augmentation.operations.augmentation"
    known = signature("cnnbench.data.augmentation.operations.augmentation").parameters
    assert set(node) <= set(known)
    if name == "standard":  # the one to which the others refer
        assert list(node) == list(known)
    made = augmentation(**node).for_data((32, 32, 3), 10, "multiclass")
    assert made.describe() != "none"
    assert "\n" not in made.describe()


def test_the_wrong_type_or_range_of_a_keyword_is_known_before_tensorflow() -> None:
    from pydantic import TypeAdapter, ValidationError

    parameters = signature("cnnbench.data.augmentation.operations.augmentation").parameters
    wrong = {
        "crop_padding": -1, "crop_mode": "wrap", "horizontal_flip": "left", "vertical_flip": 2,
        "rotation": 200.0, "translation": 1.0, "scale": 1.0, "cutout": 1.5, "cutout_fill": "noise",
        "brightness": -0.1, "contrast": 1.0, "mixup": -1.0, "cutmix": "much",
    }  # fmt: skip
    assert set(wrong) == set(parameters)
    for name, value in wrong.items():
        with pytest.raises(ValidationError):
            TypeAdapter(parameters[name].annotation).validate_python(value)


@pytest.mark.parametrize(
    ("settings", "shape", "task", "word"),
    [
        ({"horizontal_flip": True}, (8,), "multiclass", "images"),
        ({"cutout": 8}, (8, 12, 1), "multiclass", "cutout=8"),
        ({"crop_padding": 9}, (12, 8, 1), "multiclass", "crop_padding=9"),
        ({"translation": 0.05}, (8, 8, 1), "multiclass", "half a pixel"),
    ],
)
def test_what_cannot_work_is_refused(
    settings: dict[str, Any], shape: tuple[int, ...], task: str, word: str
) -> None:
    with pytest.raises(CnnbenchError, match=word) as caught:
        augmentation(**settings).for_data(shape, 3, task)
    assert caught.value.hint


def test_geometry_is_allowed_in_a_regression_on_images() -> None:
    made = augmentation(horizontal_flip=True).for_data((8, 8, 1), 1, "regression")
    images, y = tf.constant(noise((4, 8, 8, 1))), tf.constant([0.5, 1, 2, 3])
    assert made(images, y, seed())[1] is y


@pytest.mark.parametrize("settings", [{"mixup": 1.0}, {"cutmix": 1.0}])
@pytest.mark.parametrize(
    ("task", "y"),
    [
        ("multilabel", np.eye(8, 3, dtype=np.uint8)),
        ("regression", np.arange(16, dtype=np.float32).reshape(8, 2)),
        ("regression", np.arange(8, dtype=np.float32)),
    ],
)
def test_labels_and_targets_are_mixed_as_their_images(settings: Any, task: str, y: np.ndarray) -> None:
    """Each image is its own number: its mean tells the share of its own, as its targets must."""
    values = np.arange(8, dtype=np.float32)
    images = np.broadcast_to(values[:, None, None, None], (8, 8, 8, 1)).copy()
    outputs = y.shape[1] if y.ndim > 1 else 1
    made = augmentation(**settings).for_data((8, 8, 1), outputs, task)
    mixed, found = (np.asarray(one) for one in made(tf.constant(images), tf.constant(y), seed()))
    before = np.roll(values, 1)
    share = (mixed.mean(axis=(1, 2, 3)) - before) / (values - before)
    share = share.reshape(-1, *[1] * (y.ndim - 1))
    expected = share * y + (1 - share) * np.roll(y.astype(np.float32), 1, axis=0)
    assert found == pytest.approx(expected, abs=1e-5)
    assert (share < 0.99).any()


def test_mixing_without_the_number_of_classes_is_refused() -> None:
    with pytest.raises(CnnbenchError, match="number of classes"):
        augmentation(mixup=1.0)(tf.constant(noise((2, 4, 4, 1))), tf.constant([0, 1]), seed())


# Loss and metric of mixed labels.


def probabilities(count: int, classes: int) -> np.ndarray:
    return np.random.default_rng(4).dirichlet(np.ones(classes), count).astype(np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_indices_equals_that_of_their_one_hot_shares(smoothing: float) -> None:
    outputs, y = probabilities(7, 4), np.arange(7) % 4
    loss = SmoothedCrossentropy(smoothing)
    expected = float(loss(y, outputs))
    assert float(loss(np.eye(4, dtype=np.float32)[y], outputs)) == pytest.approx(expected, rel=1e-6)
    assert float(loss(y[:, None], outputs)) == pytest.approx(expected, rel=1e-6)
    smoothed = np.eye(4)[y] * (1 - smoothing) + smoothing / 4
    assert expected == pytest.approx(-(smoothed * np.log(outputs)).sum(1).mean(), rel=1e-5)


def test_cross_entropy_of_shares_is_the_mean_over_them() -> None:
    outputs, shares = probabilities(7, 4), probabilities(7, 4)[::-1]
    expected = -(shares * np.log(outputs)).sum(1).mean()
    assert float(SmoothedCrossentropy(0.0)(shares, outputs)) == pytest.approx(expected, rel=1e-5)


def test_mixed_accuracy_equals_keras_where_labels_are_not_mixed() -> None:
    outputs, y = probabilities(50, 4), np.arange(50) % 4
    expected = keras.metrics.SparseCategoricalAccuracy()(y, outputs)
    for given in (y, y[:, None], np.eye(4, dtype=np.float32)[y]):
        assert float(MixedAccuracy()(given, outputs)) == pytest.approx(float(expected))
    one, y = probabilities(50, 2)[:, :1], np.arange(50) % 2
    expected = keras.metrics.BinaryAccuracy()(y[:, None], one)
    for given in (y, y[:, None], y.astype(np.float32)):
        assert float(MixedAccuracy()(given, one)) == pytest.approx(float(expected))


def test_mixed_accuracy_asks_for_the_larger_share() -> None:
    metric = MixedAccuracy()
    outputs = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], np.float32)
    shares = np.array([[0.6, 0.4], [0.9, 0.1], [0.3, 0.7]], np.float32)
    assert metric.name == "accuracy"
    assert float(metric(shares, outputs)) == pytest.approx(1 / 3)
    metric.reset_state()
    assert float(metric(np.array([0.6, 0.4]), np.array([[0.9], [0.8]]))) == pytest.approx(1 / 2)


@pytest.mark.parametrize(("task", "outputs"), [("multiclass", 3), ("binary", 1)])
def test_a_model_trains_on_mixed_labels_and_reloads(task: str, outputs: int, tmp_path: Path) -> None:
    images = noise((24, 8, 8, 1))
    y = labels(24) if task == "multiclass" else labels(24) % 2
    made = augmentation(mixup=1.0, cutmix=1.0).for_data((8, 8, 1), outputs, task)
    batches = tf.data.Dataset.from_tensor_slices((images, y)).batch(8).enumerate()
    train = batches.map(lambda step, batch: made(*batch, tf.stack([0, tf.cast(step, tf.int32)])))
    activation = "softmax" if task == "multiclass" else "sigmoid"
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(outputs, activation)]
    )
    loss = SmoothedCrossentropy(0.0) if task == "multiclass" else keras.losses.BinaryCrossentropy()
    model.compile(optimizer="sgd", loss=loss, metrics=[MixedAccuracy()])
    history = model.fit(train, epochs=1, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert 0 <= history["accuracy"][0] <= 1
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    plain = tf.data.Dataset.from_tensor_slices((images, y)).batch(8)
    assert again.evaluate(plain, verbose=0) == pytest.approx(model.evaluate(plain, verbose=0))
