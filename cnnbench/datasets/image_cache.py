"""Decoding a folder of images once, in parallel, for all later runs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import PIL
from PIL import Image

from cnnbench.datasets import image_decoding
from cnnbench.datasets.image_decoding import Recipe, UnreadableError, pillow_warnings
from cnnbench.datasets.image_layout import ImageFile
from cnnbench.datasets.image_store import Images, beside, header, read, replace
from cnnbench.datasets.locking import locked
from cnnbench.errors import CnnbenchError

log = logging.getLogger("cnnbench")

HIDDEN = "hidden file"
WAITING_PER_WORKER = 8  # results that may wait for an earlier, slower one: bounds the memory

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    stem = folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', title)[:40]}-{_fingerprint(files, recipe)[:20]}"
    found = read(stem, files, recipe)
    if found is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(beside(stem, ".lock")):
                found = read(stem, files, recipe)  # made while we waited
                if found is None:
                    _make(stem, files, recipe)
                    found = read(stem, files, recipe, just_made=True)
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


def _gibibytes(files: Sequence[ImageFile], recipe: Recipe) -> float:
    return len(files) * recipe.height * recipe.width * recipe.channels / 2**30


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
    content: dict[str, Any] = {"recipe": asdict(recipe), "used": {}, "skipped": {}, "retry": []}

    def write_pixels(out: BinaryIO) -> None:
        # The number of readable files is known at the end. numpy leaves room in a header for it to grow.
        out.write(header((len(files), *recipe.shape)))
        with pillow_warnings(), closing(_in_order(partial(_decode, recipe), files)) as results:
            for file, result in zip(files, results, strict=True):
                if isinstance(result, UnreadableError):
                    content["skipped"][file.name] = str(result)
                    if result.may_pass:
                        content["retry"].append(file.name)
                    continue
                pixels, digest = result
                content["used"][file.name] = digest
                out.write(np.ascontiguousarray(pixels).data)
        out.seek(0)
        out.write(header((len(content["used"]), *recipe.shape)))

    Image.init()  # here, for it is not made for several threads at once
    pixels_file = beside(stem, ".npy")
    replace(pixels_file, write_pixels)
    try:
        replace(record, lambda out: out.write(json.dumps(content, indent=1).encode()))
    except BaseException:
        pixels_file.unlink()  # without its list it is gigabytes that nobody can use
        raise
    log.info("decoded %d images in %.1f s", len(content["used"]), time.perf_counter() - started)


def _decode(recipe: Recipe, file: ImageFile) -> tuple[np.ndarray, str] | UnreadableError:
    if file.is_hidden:
        return UnreadableError(HIDDEN)
    try:
        return image_decoding.decode(file.path, recipe)
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


def usable_cores() -> int:
    """That this process may use, which in a container or under taskset is fewer than there are."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
