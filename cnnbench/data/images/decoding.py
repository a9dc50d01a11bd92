"""The decoder of picture files: a uint8 array of the wanted size, or the reason why there is none."""

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
from typing import BinaryIO, Literal, get_args

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from cnnbench.data.images.layout import Member
from cnnbench.data.reading import special_file
from cnnbench.errors import one_line

Resize = Literal["stretch", "crop", "pad"]
Bits = Literal[8, 10, 12, 14, 16]
VERSION = 2  # to be raised when the same file gives other pixels, so that caches are made anew
# Formats that begin with a signature and hold only pixels. Others of Pillow's accept any file, and EPS runs
# Ghostscript on it.
FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "DIB", "PCX", "SGI", "QOI",
    "PSD",
)  # fmt: skip
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
DEPTHS: tuple[Bits, ...] = get_args(Bits)  # of the values in files with 16 bits a value
GREY = ("1", "L", "I", "F")  # beginnings of Pillow's modes
SIXTEEN_BITS = 65535
BOMB = 2**31  # pixels; no real picture has more
# Of a value in these raw modes Pillow reads the higher byte; in the mode of the other order, the lower one.
COLOUR_OF_16_BITS = re.compile(r"(RGB|RGBA|RGBX);16[BLN]")
OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
ORIENTATION = 0x0112  # the EXIF entry that tells how the camera was held
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
        may_pass: the cause is not the file's content but permissions or the disk, so another try may succeed.
    """

    def __init__(self, reason: str, *, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


class TooLargeError(UnreadableError):
    """A picture has more pixels than may be decoded at once.

    Args:
        reason: for the list of files that are not used.
        pixels: the `max_pixels` that would allow it; None for a decompression bomb.
    """

    def __init__(self, reason: str, pixels: int | None) -> None:
        super().__init__(reason)
        self.pixels = pixels


@dataclass(frozen=True)
class Recipe:
    """The form into which each file is decoded.

    Attributes:
        height, width: pixels.
        channels: 3 (red, green, blue) or 1 (grey).
        resize: ``stretch`` to the size; ``crop`` the middle that has its proportions; ``pad`` with black.
        max_pixels: a larger file is not decoded, or at a smaller size if its format allows it.
        bits: of a value in files of 16 bits: 2**bits - 1 is white. None, not yet decided, counts as 16.
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
    """Return the depth of a set of 16-bit files, from the greatest value in them."""
    return next(bits for bits in DEPTHS if brightest < 2**bits)


def decode(path: Path, recipe: Recipe) -> tuple[np.ndarray, int | None]:
    """Read one file.

    Transparent parts become white, because dropping the alpha channel would show hidden colours. Values of
    16 bits are scaled so that the recipe's white is 255. A moving picture gives its first frame, and a
    photograph is turned as its EXIF entry says.

    Returns:
        The pixels ``(height, width, channels)`` uint8; the greatest value in a file of 16 bits, else None.

    Raises:
        UnreadableError: the file holds no image, or only a part of one.
    """
    try:
        if special := special_file(path):
            raise UnreadableError(f"{special}, not a file")
        file = path.open("rb")
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror}", may_pass=True) from error
    with file:
        return _pixels(file, recipe)


def decode_member(member: Member, recipe: Recipe) -> tuple[np.ndarray, int | None]:
    """Read one part of a file; see `decode`."""
    try:
        file = member.open()
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}", may_pass=True) from error
    with file:
        return _pixels(file, recipe)


def size_of(path: Path) -> tuple[int, int, int]:
    """Read the height, width and number of colours, 3 or 1, of a picture that can be decoded."""
    with Image.open(path, formats=formats()) as image:
        return image.height, image.width, 1 if image.mode.startswith(GREY) else 3


@contextmanager
def pillow_warnings() -> Iterator[None]:
    """Silence Pillow's warnings about odd files and its limit of pixels, which `max_pixels` replaces.

    Both belong to the process, so this is entered once around all threads.
    """
    formats()  # registers plugins, which is not safe in several threads at once
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
    """Return the readable formats, with HEIF if its package is installed."""
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
        reason = one_line(error)
        is_disk_error = isinstance(error, OSError) and error.errno is not None
        raise UnreadableError(reason[:200], may_pass=is_disk_error) from error
    if orientation in UPRIGHT:
        plain = plain.transpose(UPRIGHT[orientation])
    brightest = None if values is None else int(values.max())
    return np.asarray(_fit(plain, recipe)).reshape(recipe.shape), brightest


def _decode_reduced(image: Image.Image, recipe: Recipe) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 of its size, which is several times faster.

    This is done if at least twice the wanted size is left, so that resizing still filters, or if the picture
    has more than `max_pixels`. A progressive JPEG always takes the memory of all its pixels.

    Raises:
        TooLargeError: it has more than `max_pixels` even so.
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
    """Return the values of an image with 16 bits a value, and its alpha channel in 8 bits if it has one.

    Pillow has no mode for colours of 16 bits: it gives their higher bytes and, if told the other byte order,
    their lower ones. Return None for an image of 8 bits, or of 16 in an unknown form.
    """
    if image.mode.startswith("I"):
        return np.asarray(image), None
    raw = [
        str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)
        for tile in getattr(image, "tile", [])
    ]
    if set(raw) == {"LA;16B"}:  # a PNG, with four bytes a pixel
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
    """Return a copy in 8 bits, grey or colour, that does not need the open file."""
    image.load()
    if values is not None:
        image = _eight_bits(values, alpha, recipe.bits or 16, image.info.get("transparency"))
    elif image.mode == "F":
        raise UnreadableError("floating-point pixels, of which nobody says what is white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode == "P":
        image = image.convert("RGB")  # a palette becomes grey by way of its colours
    return image.convert("RGB" if recipe.channels == 3 else "L")


def _eight_bits(values: np.ndarray, alpha: np.ndarray | None, bits: Bits, hidden: object) -> Image.Image:
    """Return an image of 8 bits, each value rounded to the nearest of 256 from black to white.

    Args:
        values: grey or colours, 16 bits.
        alpha: 8 bits, or None without such a channel.
        bits: 2**bits - 1 is white.
        hidden: the value that a PNG declares transparent, or None.

    Raises:
        UnreadableError: a value is greater than white.
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
    """Return the EXIF orientation of a loaded image; 1 if it has none or a damaged one.

    `ImageOps.exif_transpose` also rewrites the EXIF block, which fails for many readable pictures.
    """
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001  the pixels are sound even if this entry is not
        return 1


def _fit(image: Image.Image, recipe: Recipe) -> Image.Image:
    size = width, height = recipe.width, recipe.height
    filtering = Image.Resampling.BILINEAR  # in Pillow it weighs every source pixel and never overshoots
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
