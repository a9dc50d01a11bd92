"""One image file → one uint8 array of the wanted size, or the reason why not."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from cnnbench.data.reading import special_file

Resize = Literal["stretch", "crop", "pad"]
Bits = Literal[8, 10, 12, 14, 16]
VERSION = 2  # raise it when the same file would give other pixels: caches are made anew
# Formats that begin with a signature and are only pixels. Pillow knows more: some of those take any file
# for their own, and EPS starts Ghostscript on it.
FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "DIB", "PCX", "SGI", "QOI",
    "PSD",
)  # fmt: skip
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
DEPTHS: tuple[Bits, ...] = (8, 10, 12, 14, 16)  # that cameras and scanners put into files of 16 bits a value
SIXTEEN_BITS = 65535
BOMB = 2**31  # pixels: more than a person has a picture of
# In these raw modes Pillow takes the first of the two bytes of a value; of the other order it is the second.
COLOUR_OF_16_BITS = re.compile(r"(RGB|RGBA|RGBX);16[BLN]")
OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
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


class TooLargeError(UnreadableError):
    """A picture has more pixels than may be decoded at once.

    Args:
        reason: for the list of files that are not used.
        pixels: that it would take; None where nobody should allow them.
    """

    def __init__(self, reason: str, pixels: int | None) -> None:
        super().__init__(reason)
        self.pixels = pixels


@dataclass(frozen=True)
class Recipe:
    """What is made of each file.

    Attributes:
        height, width: pixels.
        channels: 3 (red, green, blue) or 1 (grey).
        resize: ``stretch`` to the size; ``crop`` the middle that has its proportions; ``pad`` with black.
        max_pixels: a file with more is not decoded, or smaller where its format allows that.
        bits: of a value in files of 16 bits: 2**bits - 1 is white. None: not decided yet; meanwhile 16.
    """

    height: int
    width: int
    channels: int
    resize: Resize
    max_pixels: int
    bits: Bits | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, self.channels)


def depth_of(brightest: int) -> Bits:
    """The bits that the values of a set of 16-bit files have, by the greatest of them."""
    return next(bits for bits in DEPTHS if brightest < 2**bits)


def decode(path: Path, recipe: Recipe) -> tuple[np.ndarray, int | None]:
    """Read one file.

    Transparent parts become white (dropping the alpha channel would show colours that nobody has ever
    seen), 16-bit values are scaled so that the recipe's white is 255, a moving picture gives its first frame,
    and a photograph is turned as its EXIF entry asks.

    Returns:
        the pixels ``(height, width, channels)`` uint8, and the greatest value in a file of 16 bits; None for
        any other.

    Raises:
        UnreadableError: there is no image in it, or only a part of one.
    """
    try:
        if special := special_file(path):
            raise UnreadableError(f"{special}, not a file")
        file = path.open("rb")
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror}", may_pass=True) from error
    with file:
        return _pixels(file, recipe)


@contextmanager
def pillow_warnings() -> Iterator[None]:
    """Keep Pillow's warnings about odd files to ourselves, and its limit of pixels: `max_pixels` judges.

    To be entered once around all threads: both belong to the process.
    """
    formats()  # not made for several threads at once
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@cache
def formats() -> tuple[str, ...]:
    """The formats that can be read here: with HEIF where its package is installed."""
    Image.init()
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return FORMATS
    return (*FORMATS, "HEIF")


def _pixels(file: BinaryIO, recipe: Recipe) -> tuple[np.ndarray, int | None]:
    beginning = file.read(12)
    if not beginning:
        raise UnreadableError("empty file")
    try:
        with Image.open(file, formats=formats()) as image:
            _decode_reduced(image, recipe)
            values, alpha = _sixteen_bits(image, file) or (None, None)
            plain = _plain(image, values, alpha, recipe)
            orientation = _orientation(image)
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        if beginning[4:8] == b"ftyp" and beginning[8:] in HEIF_BRANDS and "HEIF" not in formats():
            raise UnreadableError("HEIC, which takes a package: pip install pillow-heif") from error
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
    brightest = None if values is None else int(values.max())
    return np.asarray(_fit(plain, recipe)).reshape(recipe.shape), brightest


def _decode_reduced(image: Image.Image, recipe: Recipe) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 of its size, which is several times faster.

    Only where twice the wanted size is left, so that the last step is still ours to filter; or where it has
    more than `max_pixels`. A progressive one takes the memory of all its pixels however it is decoded.

    Raises:
        TooLargeError: it has more pixels also then.
    """
    width, height = image.size
    needed, most = 2 * max(recipe.height, recipe.width), recipe.max_pixels
    scale = next((scale for scale in (8, 4, 2) if min(width, height) >= scale * needed), 1)
    while scale < 8 and width * height > most * scale**2:
        scale *= 2
    if scale > 1:
        image.draft(None, (width // scale, height // scale))
    decoded = width * height if image.info.get("progressive") else image.width * image.height
    if decoded > most:
        bomb = width * height >= BOMB
        raise TooLargeError(
            f"{width}×{height} pixels are more than max_pixels={most}"
            + (" (a decompression bomb?)" if bomb else ""),
            None if bomb else decoded,
        )


def _sixteen_bits(image: ImageFile, file: BinaryIO) -> tuple[np.ndarray, np.ndarray | None] | None:
    """The values of an image that has 16 bits for each, and its alpha channel in 8, where it has one.

    Pillow has no mode for colours of 16 bits: it gives the higher bytes, and, told that the two have the
    other order, the lower ones. None where the image has 8 bits, or 16 in a form that is not known here.
    """
    if image.mode.startswith("I"):
        return np.asarray(image), None
    raw = [
        str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)
        for tile in getattr(image, "tile", [])
    ]
    if set(raw) == {"LA;16B"}:  # of a PNG: four bytes for each pixel
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        pairs = np.asarray(image)
        return pairs[..., 0].astype(np.uint16) << 8 | pairs[..., 1], pairs[..., 2]
    if not raw or not all(map(COLOUR_OF_16_BITS.fullmatch, raw)):
        return None
    higher = np.asarray(image)
    file.seek(0)
    with Image.open(file, formats=formats()) as again:
        others = [mode[:-1] + OTHER_BYTE[mode[-1]] for mode in raw]
        again.tile = [
            tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
            for tile, other in zip(again.tile, others, strict=True)
        ]
        lower = np.asarray(again)
    colours = higher[..., :3].astype(np.uint16) << 8 | lower[..., :3]
    return colours, higher[..., 3] if image.mode == "RGBA" else None


def _plain(
    image: Image.Image, values: np.ndarray | None, alpha: np.ndarray | None, recipe: Recipe
) -> Image.Image:
    """Return a copy in 8 bits, grey or colour, that is independent of the open file."""
    image.load()
    if values is not None:
        image = _eight_bits(values, alpha, recipe.bits or 16, image.info.get("transparency"))
    elif image.mode == "F":
        raise UnreadableError("floating-point pixels, of which nobody says what is white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode == "P":
        image = image.convert("RGB")  # to grey by way of its colours
    return image.convert("RGB" if recipe.channels == 3 else "L")


def _eight_bits(values: np.ndarray, alpha: np.ndarray | None, bits: Bits, hidden: object) -> Image.Image:
    """An image of 16-bit values, each to the nearest of 256 from black to the white of so many bits.

    Args:
        values: grey or colours.
        alpha: 8 bits, where there is such a channel.
        bits: of white.
        hidden: the value that a PNG calls transparent, where it does.
    """
    brightest, white = int(values.max()), 2**bits - 1
    if values.min() < 0 or brightest > SIXTEEN_BITS:
        raise UnreadableError("32-bit integers, of which nobody says what is white")
    if brightest > white:
        raise UnreadableError(f"has values up to {brightest}, but with bits={bits} white is {white}")
    eight = ((np.arange(white + 1) * 510 + white) // (2 * white)).astype(np.uint8)
    image = Image.fromarray(eight[values])
    if alpha is None and isinstance(hidden, int | tuple):
        is_hidden = values == np.asarray(hidden)
        alpha = np.where(is_hidden if values.ndim == 2 else is_hidden.all(axis=2), 0, 255).astype(np.uint8)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return image


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
