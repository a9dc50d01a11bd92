"""Corruptions of pictures: deterministic, worse with every severity, and true to what each is."""

from __future__ import annotations

import numpy as np
import pytest

from cnnbench.data import CORRUPTIONS, SEVERITIES, check_corruption, corrupted
from cnnbench.errors import CnnbenchError

LOCAL = ("pixelate", "jpeg_compression", "fog", "snow", "frost")  # do not get monotonically farther away
Shape = tuple[int, int, int]


def picture(shape: Shape) -> np.ndarray:
    """Edges, ramps and a little texture."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    base = 60 + 90 * columns / shape[1] + 60 * ((rows // (shape[0] // 4) + columns // (shape[1] // 4)) % 2)
    texture = np.random.default_rng(0).normal(scale=8, size=shape)
    return np.clip(base[..., None] + texture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(64, 48, 3), (28, 28, 1)])
def test_a_corruption_keeps_the_form_and_depends_on_its_seed_alone(kind: str, shape: Shape) -> None:
    x = picture(shape)
    made = {severity: corrupted(x, kind, severity, seed=3) for severity in SEVERITIES}
    far = [float(np.abs(one.astype(int) - x).mean()) for one in made.values()]
    for one in made.values():
        assert one.shape == x.shape
        assert one.dtype == np.uint8
    np.testing.assert_array_equal(made[4], corrupted(x, kind, 4, seed=3))
    assert far[4] > 1.5 * far[0] or kind in LOCAL
    assert far[4] > 1
    others = [corrupted(x, kind, 4, seed=seed) for seed in (5, 6)]
    is_drawn = kind not in (
        *("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"),
    )
    assert is_drawn == (not np.array_equal(*others))


def test_noise_has_the_strength_of_its_size() -> None:
    grey = np.full((224, 224, 1), 128, np.uint8)
    noisy = corrupted(grey, "gaussian_noise", 1).astype(float) / 255
    assert noisy.std() == pytest.approx(0.08, rel=0.03)
    small = corrupted(grey[:56, :56], "gaussian_noise", 1).astype(float) / 255
    assert small.std() == pytest.approx(0.08 / 2, rel=0.05)
    counted = corrupted(grey, "shot_noise", 3).astype(float) / 255
    assert counted.std() == pytest.approx((128 / 255 / 12) ** 0.5, rel=0.03)
    assert counted.mean() == pytest.approx(128 / 255, rel=0.01)
    hit = corrupted(grey, "impulse_noise", 5)
    assert np.isin(hit, (0, 255)).mean() == pytest.approx(0.27, rel=0.03)


def test_a_blur_keeps_the_sum_of_a_point_and_spreads_it() -> None:
    point = np.zeros((224, 224, 1), np.uint8)
    point[112, 112] = 255
    for kind in ("defocus_blur", "motion_blur"):
        spread = corrupted(np.kron(point[80:150, 80:150], np.ones((3, 3, 1), np.uint8)), kind, 1)
        assert 0 < spread.max() < 255
        assert (spread > 0).sum() > 9
    flat = np.full((64, 64, 3), 77, np.uint8)
    for kind in ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform", "pixelate"):
        np.testing.assert_array_equal(corrupted(flat, kind, 5), flat)


def test_brightness_keeps_the_hue_and_contrast_the_mean() -> None:
    x = picture((64, 64, 3)) // 3 + np.array([0, 10, 40], np.uint8)
    brighter = corrupted(x, "brightness", 2).astype(float)
    np.testing.assert_allclose(brighter.max(axis=2), x.max(axis=2) + 0.2 * 255, atol=1)
    ratio = x[..., 0] / x.max(axis=2)
    np.testing.assert_allclose(brighter[..., 0] / brighter.max(axis=2), ratio, atol=0.01)
    flat = corrupted(x, "contrast", 3).astype(float)
    np.testing.assert_allclose(flat.mean(axis=(0, 1)), x.mean(axis=(0, 1)), atol=0.5)
    assert flat.std(axis=(0, 1)) == pytest.approx(0.2 * x.std(axis=(0, 1)), rel=0.1)


def test_a_strange_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(CnnbenchError) as refused:
        check_corruption("gausian_noise")
    assert "gaussian_noise" in str(refused.value)
