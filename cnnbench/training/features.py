"""Features of a frozen backbone: computed once for each picture, whichever run asks for them.

They are kept in the user's cache under the digests of extractor and pixels, so that other splits, seeds,
folds and runs, and a run that was killed, find what is there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench.data import Examples, Rows
from cnnbench.nn import folded, layers_of
from cnnbench.system import DIGEST, Segments, cache_folder
from cnnbench.training.measure import evaluation_batch, forward_graph

log = logging.getLogger("cnnbench")
CACHE, VERSION = "features", 1  # a higher version where features come out otherwise than before
KNOWN = ("keras", "cnnbench")  # whose layers are all in their configs, weights and versions
SEGMENT, SECONDS = 512, 20.0  # pictures, or seconds, after which features are written
BATCH_VALUES = 32 * 224 * 224 * 3  # of a batch on a CPU
IN_MEMORY = 2**28  # bytes; more features than that are mapped from a file
TOLD_FIRST, TOLD_EVERY = 5.0, 15.0  # seconds between two lines about the progress
FORWARDS = 2  # extractors that are kept ready
_forwards: OrderedDict[str, Callable[[Any], Any]] = OrderedDict()


def features_of(
    extractor: keras.Model, pictures: Examples, digests: Sequence[bytes] | None = None
) -> np.ndarray:
    """Return the features of pictures, in their order, each picture computed once on this machine.

    Args:
        extractor: from pixels 0…255 to features ``(batch, channels)``, frozen.
        pictures: ``(n, height, width, channels)`` uint8, in memory or mapped.
        digests: of each picture's content, where they are known.

    Returns:
        ``(n, channels)`` float32; mapped from a file that goes with it where they are many.
    """
    name = _name(extractor, pictures.dtype)
    width = int(extractor.output_shape[-1])
    kept = _digests(pictures, digests)
    first: dict[bytes, int] = {}
    for number, digest in enumerate(kept):
        first.setdefault(digest, number)
    features = _room(len(pictures), width)
    store = Segments(CACHE, name, width) if _is_known(extractor) else None
    left = dict(first)
    _fetch(store, kept, left, features)
    if left:
        _compute(extractor, name, pictures, kept, left, features, store)
    again = [number for number, digest in enumerate(kept) if first[digest] != number]
    if again:
        features[again] = features[[first[kept[number]] for number in again]]
    return features


def _fetch(store: Segments | None, kept: Sequence[bytes], left: dict[bytes, int], features: np.ndarray) -> None:
    """Take from what is left the pictures whose features are kept."""
    for numbers, rows in store.find(left) if store is not None else ():
        features[numbers] = rows
        for number in numbers:
            del left[kept[number]]


def _compute(
    extractor: keras.Model,
    name: str,
    pictures: Examples,
    kept: Sequence[bytes],
    left: dict[bytes, int],
    features: np.ndarray,
    store: Segments | None,
) -> None:
    """Compute the features of the pictures that are left, and keep them as they come."""
    forward, batch_size = _forward(name, extractor), _batch_size(extractor)
    progress = _Progress(len(left))
    # Processes that have the same to do begin at different places, and take over what the others have done.
    numbers = sorted(left.values())
    begin = os.getpid() * 7919 % len(numbers) if store is not None else 0
    waiting = iter(numbers[begin:] + numbers[:begin])
    while left:
        done: list[int] = []
        until = time.perf_counter() + SECONDS
        try:
            while len(done) < SEGMENT and time.perf_counter() < until:
                batch = list(islice((one for one in waiting if kept[one] in left), batch_size))
                if not batch:
                    break
                features[batch] = forward(pictures[np.asarray(batch)]).numpy()
                done += batch
                progress(len(batch))
        finally:  # also where somebody stops it
            if store is not None:
                store.keep([kept[number] for number in done], features[done])
        for number in done:
            del left[kept[number]]
        _fetch(store, kept, left, features)


def _room(count: int, width: int) -> np.ndarray:
    """Return room for features: in memory, or where there are many in a file without a name."""
    if 4 * count * width <= IN_MEMORY:
        return np.empty((count, width), np.float32)
    with tempfile.TemporaryFile(dir=cache_folder(CACHE)) as file:
        file.truncate(4 * count * width)
        return np.memmap(file, np.float32, "r+", shape=(count, width))


# -- Computation -----------------------------------------------------------------------------------


def _forward(name: str, extractor: keras.Model) -> Callable[[Any], Any]:
    """Return the extractor as a graph for inference, from those that are ready where it is one of them."""
    made = _forwards.pop(name, None) or forward_graph(folded(extractor))
    _forwards[name] = made
    while len(_forwards) > FORWARDS:
        _forwards.popitem(last=False)
    return made


def _batch_size(extractor: keras.Model) -> int:
    """Return how many pictures are computed at once: by what the backbone sees, not by what it is given."""
    seen = max(
        math.prod(layer.output.shape[1:3])
        for layer in extractor.layers
        if not layer.weights and len(getattr(layer.output, "shape", ())) == 4
    )
    if tf.config.list_logical_devices("GPU"):
        return evaluation_batch(64, extractor.input_shape[1:])
    return int(np.clip(2 ** int(math.log2(BATCH_VALUES / (3 * seen))), 1, 256))


class _Progress:
    """Says from time to time how many pictures are done."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.began = time.perf_counter()
        self.next = self.began + TOLD_FIRST

    def __call__(self, count: int) -> None:
        self.done += count
        now = time.perf_counter()
        if now < self.next or self.done >= self.total:
            return
        self.next = now + TOLD_EVERY
        rate = self.done / (now - self.began)
        seconds = (self.total - self.done) / rate
        log.info(
            "features: %s of %s pictures, %.0f pictures/s, %.0f s left",
            f"{self.done:,}",
            f"{self.total:,}",
            rate,
            seconds,
            extra={"notice": True},
        )


# -- Names -----------------------------------------------------------------------------------------


def _name(extractor: keras.Model, dtype: np.dtype) -> str:
    """Return what tells extractors apart whose features differ: by layers, weights, precision, versions."""
    device = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    told = [VERSION, tf.__version__, keras.__version__, str(dtype), device, _outline(extractor)]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=repr).encode())
    for weight in extractor.get_weights():
        digest.update(f"{weight.shape} {weight.dtype}".encode())
        digest.update(np.ascontiguousarray(weight).data)
    title = extractor.name.removeprefix("transfer_").removesuffix("_extractor")
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', title)[:40]}-{digest.hexdigest()[:20]}"


def _outline(extractor: keras.Model) -> Any:
    """Return the config of an extractor without names, which Keras may make up, and what inference ignores."""
    config = extractor.get_config()
    numbers = {layer["name"]: number for number, layer in enumerate(config["layers"])}

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: [numbers[inner[0]], *inner[1:]] if key == "keras_history" else plain(inner)
                for key, inner in value.items()
                if key != "trainable" and not (key == "name" and inner in numbers)
            }
        return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value

    return plain(config["layers"])


def _is_known(extractor: keras.Model) -> bool:
    return all(type(layer).__module__.partition(".")[0] in KNOWN for layer in layers_of(extractor))


def _digests(pictures: Examples, known: Sequence[bytes] | None) -> list[bytes]:
    """Return a digest of each picture's pixels, of which those that are known are taken."""
    if known is None and isinstance(pictures, Rows) and pictures.digests is not None:
        known = pictures.digests[pictures.indices].tolist()
    if known is None:
        known = [hashlib.sha256(one).digest() for one in _pixels(pictures)]
    # The digests of files are in hexadecimal.
    raw = (bytes.fromhex(one.decode()) if len(one) == 64 else one for one in known)
    return [hashlib.blake2b(one, digest_size=DIGEST).digest() for one in raw]


def _pixels(pictures: Examples) -> Iterator[memoryview]:
    for start in range(0, len(pictures), SEGMENT):
        for picture in pictures[start : start + SEGMENT]:
            yield np.ascontiguousarray(picture).data
