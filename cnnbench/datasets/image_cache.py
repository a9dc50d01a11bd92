"""A folder of images, decoded once into one memory-mapped file.

Of each cache there are two files: ``.npy`` with the pixels of the readable images, and ``.json`` that says which
they are. The second is written last, so that it stands for a whole cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import PIL
from PIL import Image

from cnnbench.datasets import image_decoding
from cnnbench.datasets.image_decoding import Recipe, UnreadableError
from cnnbench.datasets.image_layout import ImageFile
from cnnbench.datasets.locking import locked
from cnnbench.errors import CnnbenchError

log = logging.getLogger("cnnbench")

HIDDEN = "hidden file"
WAITING_PER_WORKER = 8  # results that may wait for an earlier, slower one: bounds the memory

Item = TypeVar("Item")
Result = TypeVar("Result")


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


def load(files: Sequence[ImageFile], recipe: Recipe, cache_dir: str | None, title: str) -> Images:
    """Return the images of `files` from the cache, which is made first where there is none yet.

    The cache is another one as soon as a file has come, gone or changed (by size or time), or the recipe
    or Pillow has. Of several processes one decodes and the others wait for it.

    Args:
        files: all of one split.
        recipe: what is made of each.
        cache_dir: None for `default_cache_dir`.
        title: what the name of the cache begins with.

    Raises:
        CnnbenchError: the cache cannot be written.
    """
    folder = (Path(cache_dir).expanduser() if cache_dir else default_cache_dir()) / "images"
    stem = folder / f"{title}-{_fingerprint(files, recipe)[:20]}"
    found = _read(stem, files, recipe)
    if found is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(_beside(stem, ".lock")):
                found = _read(stem, files, recipe)  # made while we waited
                if found is None:
                    _make(stem, files, recipe)
                    found = _read(stem, files, recipe)
        except OSError as error:
            raise CnnbenchError(
                f"the decoded images cannot be kept in {folder}: {error.strerror or error}",
                f"they take {_gibibytes(files, recipe):.2g} GiB there; elsewhere: CNNBENCH_CACHE=FOLDER "
                f"or dataset.cache_dir=FOLDER",
            ) from error
    if found is None:
        raise CnnbenchError(
            f"{stem}.npy was written and cannot be read again", "is the disk full or damaged?"
        )
    return found


def default_cache_dir() -> Path:
    """Return CNNBENCH_CACHE, else the place where this system's programs keep what they can make again."""
    if given := os.environ.get("CNNBENCH_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "cnnbench" / "Cache"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "cnnbench"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else _home() / ".cache") / "cnnbench"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # a container's user without an entry
        raise CnnbenchError(
            "this user has no home folder to keep decoded images in", "set CNNBENCH_CACHE=FOLDER"
        ) from error


def _fingerprint(files: Sequence[ImageFile], recipe: Recipe) -> str:
    digest = hashlib.sha256(repr([image_decoding.VERSION, PIL.__version__, asdict(recipe)]).encode())
    for file in files:
        digest.update(ascii((file.name, file.size, file.mtime_ns)).encode())
    return digest.hexdigest()


def _beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def _gibibytes(files: Sequence[ImageFile], recipe: Recipe) -> float:
    return len(files) * recipe.height * recipe.width * recipe.channels / 2**30


# ---------------------------------------------------------------- reading


def _read(stem: Path, files: Sequence[ImageFile], recipe: Recipe) -> Images | None:
    """Return the cache if it is there and whole."""
    record = _beside(stem, ".json")
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        used = {str(name): str(digest) for name, digest in content["used"].items()}
        skipped = {str(name): str(reason) for name, reason in content["skipped"].items()}
        retry = set(content["retry"])
        pixels = _mapped(_beside(stem, ".npy"), (len(used), *recipe.shape))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged and made anew: %s", stem, error)
        return None
    if {*used, *skipped} != {file.name for file in files}:
        log.warning("%s does not list the files of its folder and is made anew", record)
        return None
    if any(file.name in retry and os.access(file.path, os.R_OK) for file in files):
        return None  # what could not be opened then can be now
    return Images(pixels, used, skipped, record)


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    expected = len(_header(shape)) + int(np.prod(shape, dtype=np.int64))
    if path.stat().st_size != expected:
        raise ValueError(f"{path.stat().st_size} bytes, {expected} expected")
    if shape[0] == 0:
        return np.empty(shape, np.uint8)
    pixels: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise ValueError(f"shape {pixels.shape}, {shape} expected")
    return pixels


# ---------------------------------------------------------------- making


def _make(stem: Path, files: Sequence[ImageFile], recipe: Recipe) -> None:
    """Decode `files` and put the cache into place. Only while holding its lock."""
    started = time.perf_counter()
    log.info("decoding %d images, once, into %s.npy", len(files), stem)
    for left in stem.parent.glob(f"{stem.name}.*.tmp"):  # of a process that was killed
        left.unlink(missing_ok=True)
    record = _beside(stem, ".json")
    record.unlink(missing_ok=True)  # never an old list beside new pixels
    content: dict[str, Any] = {"recipe": asdict(recipe), "used": {}, "skipped": {}, "retry": []}

    def write_pixels(out: BinaryIO) -> None:
        # The number of readable files is known at the end. numpy leaves room in a header for it to grow.
        out.write(_header((len(files), *recipe.shape)))
        for file, result in zip(files, _decoded(files, recipe), strict=True):
            if isinstance(result, UnreadableError):
                content["skipped"][file.name] = str(result)
                if result.may_pass:
                    content["retry"].append(file.name)
                continue
            pixels, digest = result
            content["used"][file.name] = digest
            out.write(np.ascontiguousarray(pixels).data)
        out.seek(0)
        out.write(_header((len(content["used"]), *recipe.shape)))

    _replace(_beside(stem, ".npy"), write_pixels)
    _replace(record, lambda out: out.write(json.dumps(content, indent=1).encode()))
    log.info("decoded %d images in %.1f s", len(content["used"]), time.perf_counter() - started)


def _header(shape: tuple[int, ...]) -> bytes:
    out = BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue()


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name and put it into place when it is whole and on the disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _decoded(
    files: Sequence[ImageFile], recipe: Recipe
) -> Iterator[tuple[np.ndarray, str] | UnreadableError]:
    def one(file: ImageFile) -> tuple[np.ndarray, str] | UnreadableError:
        if file.is_hidden:
            return UnreadableError(HIDDEN)
        try:
            return image_decoding.decode(file.path, recipe)
        except UnreadableError as error:
            return error

    Image.init()  # here, for it is not made for several threads at once
    with image_decoding.pillow_warnings():
        yield from _in_order(one, files)


def _in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Map over threads (Pillow decodes without Python's lock), a few items ahead and no more."""
    workers = _usable_cores()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= workers * WAITING_PER_WORKER:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _usable_cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
