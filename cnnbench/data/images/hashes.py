"""Perceptual hashes: 64 bits that stay nearly the same when a picture is saved again or resized."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

SIDE, LOW = 32, 8  # of the small grey picture, and of the low frequencies that are kept of it
PIECE = 512  # pictures at a time
AT_ONCE = 2**24  # pairs that are compared at a time


class Pictures(Protocol):
    """Whatever gives some pictures ``(n, height, width, channels)`` by a slice."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> np.ndarray: ...


def perceptual_hashes(pictures: Pictures) -> np.ndarray:
    """Return ``(n,)`` uint64 of pictures ``(n, height, width, channels)`` uint8, as ImageHash's `phash`.

    A bit says whether one of the lowest 8 × 8 frequencies of the grey picture is above their median. Large
    pictures are made small in two steps, which is several times faster and turns a bit now and then.
    """
    from scipy.fft import dctn

    found = np.empty(len(pictures), np.uint64)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(pictures), PIECE):
            small = np.stack([*pool.map(_small, pictures[start : start + PIECE])])
            low = dctn(small.astype(np.float64), axes=(1, 2))[:, :LOW, :LOW].reshape(len(small), -1)
            bits = low > np.median(low, axis=1, keepdims=True)
            found[start : start + len(small)] = np.packbits(bits, axis=1).view(">u8").ravel()
    return found


def _small(picture: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0))


def alike(hashes: np.ndarray, bits: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows whose hashes ``(n,)`` uint64 differ in so many bits at most."""
    step = max(1, AT_ONCE // max(1, len(hashes)))
    for start in range(0, len(hashes), step):
        apart = np.bitwise_count(hashes[start : start + step, None] ^ hashes[None, start:])
        for row, other in zip(*np.nonzero(apart <= bits), strict=True):
            if row < other:
                yield int(start + row), int(start + other)
