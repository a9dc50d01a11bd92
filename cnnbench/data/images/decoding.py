"""One image file → one uint8 array of the wanted size, or the reason why not."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Resize = Literal["stretch", "crop", "pad"]
VERSION = 1  # raise it when the same file would give other pixels: caches are made anew
# Formats that begin with a signature and are only pixels. Pillow knows more: some of those take any file
# for their own, and EPS starts Ghostscript on it.
FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "DIB", "PCX", "SGI", "QOI",
    "PSD",
)  # fmt: skip
SIXTEEN_BITS = 65535
ORIENTATION = 0x0112  # the EXIF entry that says how the camera was held
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableError(Exception):
    """A file gives no image; the message is the reason, in one line.

    Args:
        reason: for the list of files that are not used.
        may_pass: it was not the file's content (permissions, a disk error): another try may succeed.
    """

    def __init__(self, reason: str, *, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


@dataclass(frozen=True)
class Recipe:
    """What is made of each file.

    Attributes:
        height, width: pixels.
        channels: 3 (red, green, blue) or 1 (grey).
        resize: ``stretch`` to the size; ``crop`` the middle that has its proportions; ``pad`` with black.
        max_pixels: a file with more is not decoded.
    """

    height: int
    width: int
    channels: int
    resize: Resize
    max_pixels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, self.channels)


def decode(path: Path, recipe: Recipe) -> tuple[np.ndarray, str]:
    """Read one file.

    Transparent parts become white (dropping the alpha channel would show colours that nobody has ever
    seen), 16-bit values are divided by 257, a moving picture gives its first frame, and a photograph
    is turned as its EXIF entry asks.

    Returns:
        the pixels ``(height, width, channels)`` uint8, and the SHA-256 of the file's bytes.

    Raises:
        UnreadableError: there is no image in it, or only a part of one.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror}", may_pass=True) from error
    with file:
        pixels = _pixels(file, recipe)
        file.seek(0)
        return pixels, hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def pillow_warnings() -> Iterator[None]:
    """Keep Pillow's warnings about odd files to ourselves.

    To be entered once around all threads: Python's warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `max_pixels` judges
        yield


def _pixels(file: BinaryIO, recipe: Recipe) -> np.ndarray:
    if not file.read(1):
        raise UnreadableError("empty file")
    try:
        with Image.open(file, formats=FORMATS) as image:
            _refuse_huge(image, recipe.max_pixels)
            _decode_reduced(image, recipe)
            image.load()
            plain = _eight_bits(image, "RGB" if recipe.channels == 3 else "L")
            orientation = _orientation(image)
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError("not an image in a known format") from error
    except Image.DecompressionBombError as error:
        raise UnreadableError("far more pixels than Pillow decodes (a decompression bomb?)") from error
    except Exception as error:
        # Damage surfaces as almost anything in Pillow's plugins: SyntaxError, struct.error, IndexError, …
        reason = " ".join(str(error).split()) or type(error).__name__
        is_disk_error = isinstance(error, OSError) and error.errno is not None
        raise UnreadableError(reason[:200], may_pass=is_disk_error) from error
    if orientation in UPRIGHT:
        plain = plain.transpose(UPRIGHT[orientation])
    return np.asarray(_fit(plain, recipe)).reshape(recipe.shape)


def _refuse_huge(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise UnreadableError(f"{image.width}×{image.height} pixels are more than max_pixels={max_pixels}")


def _decode_reduced(image: Image.Image, recipe: Recipe) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 of its size, which is several times faster.

    Only where twice the wanted size is left, so that the last step is still ours to filter.
    """
    needed = 2 * max(recipe.height, recipe.width)
    for scale in (8, 4, 2):
        if min(image.size) >= scale * needed:
            image.draft(None, (image.width // scale, image.height // scale))
            return


def _eight_bits(image: Image.Image, mode: Literal["RGB", "L"]) -> Image.Image:
    """Return a copy in `mode` that is independent of the open file."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > SIXTEEN_BITS:
            raise UnreadableError("32-bit integers, of which nobody says what is white")
        # To the nearest: 255 × 257 is 65535.
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise UnreadableError("floating-point pixels, of which nobody says what is white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode == "P":
        image = image.convert("RGB")  # to grey by way of its colours
    return image.convert(mode)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of a loaded image; 1 where there is none or the entry is damaged.

    `ImageOps.exif_transpose` also writes the EXIF block anew, which fails for many that read well.
    """
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001  a damaged note beside sound pixels is no reason to lose them
        return 1


def _fit(image: Image.Image, recipe: Recipe) -> Image.Image:
    size = width, height = recipe.width, recipe.height
    filtering = Image.Resampling.BILINEAR  # Pillow's looks at every source pixel and never overshoots
    if recipe.resize == "crop":
        return ImageOps.fit(image, size, filtering)
    if recipe.resize == "pad":
        scale = min(width / image.width, height / image.height)
        inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        canvas = Image.new(image.mode, size)
        small = image.resize(inner, filtering, reducing_gap=3.0)
        canvas.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return canvas
    return image.resize(size, filtering, reducing_gap=3.0)
