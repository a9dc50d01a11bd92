"""A picture file as one example of a model's input."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cnnbench.inputs import UnreadableError

MODES = {1: "L", 3: "RGB"}


def decoder(shape: Sequence[int]) -> Callable[[Path], np.ndarray]:
    """A function from a file to ``(height, width, channels)`` uint8 in a model's input shape.

    Pictures are turned as their EXIF data say, made grey or RGB, and stretched to the size.
    """
    if len(shape) != 3 or shape[2] not in MODES:
        text = "×".join(map(str, shape))

        def refuse(path: Path) -> np.ndarray:
            raise UnreadableError(f"the model takes {text}, which no picture has; give .npy or .csv")

        return refuse

    def decode(path: Path) -> np.ndarray:
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            with warnings.catch_warnings(), Image.open(path) as file:
                picture = ImageOps.exif_transpose(file).convert(MODES[shape[2]])
        except UnidentifiedImageError as error:
            raise UnreadableError("is no picture that Pillow can read") from error
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnreadableError(str(reason)) from error
        size = (shape[1], shape[0])
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(picture, np.uint8).reshape(tuple(shape))

    return decode
