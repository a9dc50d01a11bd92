"""The two files of a cache of decoded images.

``.npy`` has the pixels of the readable images, ``.json`` says which they are. It is written last, so that it
stands for a whole cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cnnbench.datasets.image_decoding import Recipe
from cnnbench.datasets.image_layout import ImageFile


@dataclass(frozen=True)
class Images:
    """The readable images of a folder.

    Attributes:
        pixels: ``(n, height, width, channels)`` uint8, mapped from the file, in the order of `used`.
        used: names and SHA-256 of the files that became `pixels`.
        skipped: names of the others, and why.
        record: the file in which all this can be read.
    """

    pixels: np.ndarray
    used: dict[str, str]
    skipped: dict[str, str]
    record: Path


def beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def read(stem: Path, files: Sequence[ImageFile], recipe: Recipe, *, just_made: bool = False) -> Images | None:
    """Return the cache; None where there is none, or one that is not whole or not of these files.

    Also None where a file that could not be opened then can be now, unless the cache was `just_made`.
    """
    record = beside(stem, ".json")
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        used = {str(name): str(digest) for name, digest in content["used"].items()}
        skipped = {str(name): str(reason) for name, reason in content["skipped"].items()}
        retry = set(content["retry"])
        pixels = _mapped(beside(stem, ".npy"), (len(used), *recipe.shape))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ):  # cut off, or of something else
        return None
    if {*used, *skipped} != {file.name for file in files}:
        return None
    if not just_made and any(file.name in retry and os.access(file.path, os.R_OK) for file in files):
        return None
    return Images(pixels, used, skipped, record)


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    beginning = header(shape)
    expected = len(beginning) + int(np.prod(shape, dtype=np.int64))
    with path.open("rb") as file:
        if path.stat().st_size != expected or file.read(len(beginning)) != beginning:
            raise ValueError(f"not the {expected} bytes of {shape}")
    if shape[0] == 0:
        return np.empty(shape, np.uint8)
    return np.memmap(path, np.uint8, "r", len(beginning), shape)


def header(shape: tuple[int, ...]) -> bytes:
    out = BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue()


def replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name and put it into place when it is whole and on the disk."""
    temporary = path.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
