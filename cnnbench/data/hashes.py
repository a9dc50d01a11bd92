"""Perceptual hashes: 64 bits that stay nearly the same when a picture is saved again or resized."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

SIDE, LOW = 32, 8  # of the small grey picture, and of the low frequencies that are kept of it
PIECE = 512  # pictures at a time
AT_ONCE = 2**24  # pairs that are compared at a time
# Of pictures that a run calls saved again, without features to ask: bits, and the mean difference of grey
# values at 32 × 32 pixels; the deviation below which a picture has nothing to compare.
SAME_BITS, SAME_GREY, BLANK = 2, 4.0, 2.0


class Pictures(Protocol):
    """Whatever gives some pictures ``(n, height, width, channels)`` by a slice."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> np.ndarray: ...


def perceptual_hashes(pictures: Pictures) -> np.ndarray:
    """Return ``(n,)`` uint64 of pictures ``(n, height, width, channels)`` uint8, as ImageHash's `phash`.

    A bit says whether one of the lowest 8 × 8 frequencies of the grey picture is above their median. Large
    pictures are made small in two steps, which is several times faster and turns a bit now and then.
    """
    return np.concatenate([_hashes(small) for small in _pieces(pictures)])


def saved_again(first: Sequence[Pictures], second: Pictures) -> np.ndarray:
    """Return the rows of the second pictures that show the same as one of the first, near pixel for pixel."""
    pieces = [piece for pictures in (*first, second) for piece in _pieces(pictures)]
    hashes = np.concatenate([_hashes(piece) for piece in pieces])
    small, known = np.concatenate(pieces).astype(np.float32), sum(map(len, first))
    has_content = small.std(axis=(1, 2)) > BLANK
    return np.unique(
        [
            row - known
            for other, row in alike(hashes, SAME_BITS)
            if other < known <= row
            and has_content[[other, row]].all()
            and np.abs(small[other] - small[row]).mean() < SAME_GREY
        ]
    ).astype(np.intp)


def _pieces(pictures: Pictures) -> Iterator[np.ndarray]:
    """Yield small grey pictures ``(n, 32, 32)``, some at a time."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(pictures), PIECE):
            yield np.stack([*pool.map(_small, pictures[start : start + PIECE])])


def _hashes(small: np.ndarray) -> np.ndarray:
    from scipy.fft import dctn

    low = dctn(small.astype(np.float64), axes=(1, 2))[:, :LOW, :LOW].reshape(len(small), -1)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.asarray(np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64))


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
