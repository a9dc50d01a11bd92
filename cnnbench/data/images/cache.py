"""Decoding a folder of images once, in parallel, for all later runs, and the two files that keep them.

``.npy`` has the pixels of the readable images, ``.json`` says which they are. It is written last, so that it
stands for a whole cache.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import PIL

from cnnbench.data.images import decoding
from cnnbench.data.images.decoding import Bits, Recipe, TooLargeError, UnreadableError, pillow_warnings
from cnnbench.data.images.layout import ImageFile
from cnnbench.errors import CnnbenchError
from cnnbench.system import cache_folder, go_without_cache, locked, make_room, share, usable_cores

log = logging.getLogger("cnnbench")
HIDDEN = "hidden file"
WAITING_PER_WORKER = 8  # results that may wait for an earlier, slower one: bounds the memory
Item = TypeVar("Item")
Result = TypeVar("Result")
Decoded = tuple[np.ndarray, int | None] | UnreadableError


def load(files: Sequence[ImageFile], recipe: Recipe, cache_dir: str | None, title: str) -> Images:
    """Return the images of `files` from the cache, which is made first where there is none yet.

    The cache is another one as soon as a file has come, gone, changed or changed its name (by size, times and
    inode, which a folder that is moved as a whole keeps), or the recipe or Pillow has. Of several processes
    one decodes and the others wait for it.

    Args:
        files: all of one split.
        recipe: what is made of each; where it leaves the bits open, these files decide them.
        cache_dir: None for `default_cache_dir`.
        title: what the name of the cache begins with.

    Raises:
        CnnbenchError: nothing can be written, or not where `cache_dir` says.
    """
    folder = Path(cache_dir).expanduser() / "images" if cache_dir else cache_folder("images")
    if folder is None:
        return _uncached(files, recipe)
    stem = folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', title)[:40]}-{_fingerprint(files, recipe)[:20]}"
    found = read(stem, files, recipe)
    if found is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(beside(stem, ".lock")):
                found = read(stem, files, recipe)  # made while we waited
                if found is None:
                    make_room(folder, _bytes(files, recipe))
                    _make(stem, files, recipe)
                    found = read(stem, files, recipe, just_made=True)
        except OSError as error:
            if cache_dir is None:
                go_without_cache(error)
                return _uncached(files, recipe)
            raise _not_kept(folder, files, recipe, error) from error
    if found is None:
        raise CnnbenchError(
            f"{stem}.npy was written and cannot be read again", "is the disk full or damaged?"
        )
    return found


def _not_kept(folder: Path, files: Sequence[ImageFile], recipe: Recipe, error: OSError) -> CnnbenchError:
    return CnnbenchError(
        f"the decoded images cannot be kept in {folder}: {error.strerror or error}",
        f"they take {_bytes(files, recipe) / 2**30:.2g} GiB there; elsewhere: CNNBENCH_CACHE=FOLDER "
        f"or dataset.cache_dir=FOLDER",
    )


def _uncached(files: Sequence[ImageFile], recipe: Recipe) -> Images:
    """Decode into a file without a name, which goes with this process."""
    try:
        with tempfile.TemporaryFile() as out:
            content = _write_pixels(out, files, recipe)
            out.flush()
            shape = (len(content["used"]), *recipe.shape)
            pixels = (
                np.memmap(out, np.uint8, "r", len(header(shape)), shape)
                if shape[0]
                else np.empty(shape, np.uint8)
            )
    except OSError as error:
        raise _not_kept(Path(tempfile.gettempdir()), files, recipe, error) from error
    for name, reason in content["skipped"].items():
        log.info("%s: %s", name, reason)
    deep = Deep(**content["deep"]) if content["deep"] is not None else None
    return Images(pixels, content["used"], content["skipped"], deep, None)


def _fingerprint(files: Sequence[ImageFile], recipe: Recipe) -> str:
    reader = [decoding.VERSION, PIL.__version__, decoding.formats(), asdict(recipe)]
    digest = hashlib.sha256(repr(reader).encode())
    for file in files:
        digest.update(ascii((file.name, file.identity)).encode())
    return digest.hexdigest()


def _bytes(files: Sequence[ImageFile], recipe: Recipe) -> int:
    return len(files) * recipe.height * recipe.width * recipe.channels


def _make(stem: Path, files: Sequence[ImageFile], recipe: Recipe) -> None:
    """Decode `files` and put the cache into place. Only while holding its lock."""
    started = time.perf_counter()
    log.info("decoding %d images, once, into %s.npy", len(files), stem, extra={"notice": True})
    for left in stem.parent.glob(f"{stem.name}.*.tmp"):  # of a process that was killed
        left.unlink(missing_ok=True)
    record = beside(stem, ".json")
    if record.exists():
        log.warning("%s is damaged or may be read better now: it is made anew", stem)
        record.unlink()  # never an old list beside new pixels
    content: dict[str, Any] = {"recipe": asdict(recipe)}
    pixels_file = beside(stem, ".npy")
    replace(pixels_file, lambda out: content.update(_write_pixels(out, files, recipe)))
    try:
        replace(record, lambda out: out.write(json.dumps(content, indent=1).encode()))
    except BaseException:
        pixels_file.unlink()  # without its list it is gigabytes that nobody can use
        raise
    log.info("decoded %d images in %.1f s", len(content["used"]), time.perf_counter() - started)


def _write_pixels(out: BinaryIO, files: Sequence[ImageFile], recipe: Recipe) -> dict[str, Any]:
    """Write the pixels of the readable files, and return what the list says of all."""
    used: dict[str, str] = {}
    skipped: dict[str, str] = {}
    retry: list[str] = []
    deep: dict[int, ImageFile] = {}  # by row
    brightest, beginning = 0, header((len(files), *recipe.shape))
    # The number of readable files is known at the end. numpy leaves room in a header for it to grow.
    out.write(beginning)
    with closing(_decoded(files, recipe)) as results:
        for file, result in results:
            if isinstance(result, UnreadableError):
                skipped[file.name] = _reason(result)
                retry += [file.name] * result.may_pass
                continue
            pixels, value = result
            if value is not None:
                deep[len(used)] = file
                brightest = max(brightest, value)
            used[file.name] = _digest(pixels)
            out.write(np.ascontiguousarray(pixels).data)
    bits = recipe.bits or decoding.depth_of(brightest)
    if recipe.bits is None and bits < decoding.DEPTHS[-1]:  # as which they were decoded
        for row, pixels in _again(deep, dataclasses.replace(recipe, bits=bits)):
            used[deep[row].name] = _digest(pixels)
            out.seek(len(beginning) + row * pixels.size)
            out.write(np.ascontiguousarray(pixels).data)
    out.seek(0)
    out.write(header((len(used), *recipe.shape)))
    depth = {"files": len(deep), "brightest": brightest, "bits": bits} if deep else None
    return {"used": used, "skipped": skipped, "retry": retry, "deep": depth}


def _reason(error: UnreadableError) -> str:
    allow = error.pixels if isinstance(error, TooLargeError) else None
    return f"{error}; dataset.max_pixels={allow} allows it" if allow else str(error)


def _digest(pixels: np.ndarray) -> str:
    """Return the digest that equal pictures share, in whatever format they are stored."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _again(files: Mapping[int, ImageFile], recipe: Recipe) -> Iterator[tuple[int, np.ndarray]]:
    """Decode once more, now that the bits of the 16-bit files are known; the keys are their rows."""
    with closing(_decoded(list(files.values()), recipe)) as results:
        for row, (file, result) in zip(files, results, strict=True):
            if isinstance(result, UnreadableError):
                raise CnnbenchError(f"{file.path} has changed while it was read: {result}", "run again")
            yield row, result[0]


def _decoded(files: Sequence[ImageFile], recipe: Recipe) -> Generator[tuple[ImageFile, Decoded]]:
    with pillow_warnings(), closing(_in_order(partial(_decode, recipe), files)) as results:
        yield from zip(files, results, strict=True)


def _decode(recipe: Recipe, file: ImageFile) -> Decoded:
    if file.is_hidden:
        return UnreadableError(HIDDEN)
    try:
        if file.member is not None:
            return decoding.decode_member(file.member, recipe)
        return decoding.decode(file.path, recipe)
    except UnreadableError as error:
        return error


def _in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """Map over threads (Pillow decodes without Python's lock), a few items ahead and no more."""
    workers = usable_cores()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= workers * WAITING_PER_WORKER:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


# -- The files -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    """The readable images of a folder.

    Attributes:
        pixels: ``(n, height, width, channels)`` uint8, mapped from the file, in the order of `used`.
        used: names of the files that became `pixels`, and the SHA-256 of what each became.
        skipped: names of the others, and why.
        deep: of those with 16 bits a value; None where there are none.
        record: the file in which all this can be read; None without a cache.
    """

    pixels: np.ndarray
    used: dict[str, str]
    skipped: dict[str, str]
    deep: Deep | None
    record: Path | None


@dataclass(frozen=True)
class Deep:
    """The files with 16 bits a value among those of a folder.

    Attributes:
        files: how many.
        brightest: the greatest value in them.
        bits: as which the values were taken: white is 2**bits - 1.
    """

    files: int
    brightest: int
    bits: Bits


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
        deep = Deep(**content["deep"]) if content["deep"] is not None else None
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
    with suppress(OSError):  # of somebody else, or on a disk that is read-only
        os.utime(record)  # what was used least recently goes first when the cache is full
    if not just_made and any(file.name in retry and os.access(file.path, os.R_OK) for file in files):
        return None
    return Images(pixels, used, skipped, deep, record)


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    beginning = header(shape)
    expected = len(beginning) + int(np.prod(shape, dtype=np.int64))
    with open(str(path), "rb") as file:  # noqa: PTH123  numpy keeps the name only where it is a text
        share(file)  # as long as it is mapped
        if path.stat().st_size != expected or file.read(len(beginning)) != beginning:
            raise ValueError(f"not the {expected} bytes of {shape}")
        return (
            np.memmap(file, np.uint8, "r", len(beginning), shape) if shape[0] else np.empty(shape, np.uint8)
        )


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
