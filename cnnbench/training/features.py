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
from dataclasses import replace
from functools import partial
from itertools import islice, takewhile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnnbench import system
from cnnbench.data import Examples, Feed, Rows
from cnnbench.models import split_at_features
from cnnbench.nn import folded, layers_of
from cnnbench.runs import metrics
from cnnbench.system import DIGEST, Segments, cache_folder
from cnnbench.training.measure import (
    Evaluation,
    count_flops,
    evaluation_batch,
    forward_graph,
    predict_outputs,
)
from cnnbench.training.steps import digest, measured_once, recalled

log = logging.getLogger("cnnbench")
CACHE, VERSION = "features", 1  # a higher version where features come out otherwise than before
KNOWN = ("keras", "cnnbench")  # whose layers are all in their configs, weights and versions
SEGMENT, SECONDS = 512, 20.0  # pictures, or seconds, after which features are written
BATCH_VALUES, BATCH = 16 * 224 * 224 * 3, 64  # of a batch on a CPU, whose caches are small
IN_MEMORY = 2**28  # bytes; more features than that are mapped from a file
TOLD_FIRST, TOLD_EVERY = 5.0, 15.0  # seconds between two lines about the progress
FORWARDS = 2  # extractors that are kept ready
# Whether bfloat16 pays: operations in all, some ten seconds of them; pictures and seconds of the trial; the
# time it may take of float32's; the change of a feature, without its mean, that it may make of its deviation.
# With 0.08 a linear probe on EfficientNetLite0 is as good, with 0.2 on a quarter MobileNet it loses half a
# point.
WORTH, TRIED, TRIED_SECONDS, GAIN, CHANGE = 3e12, 64, 2.0, 0.9, 0.1
TRIAL = ("float32", "bfloat16", "change")  # what the trial tells
# Of an evaluation: examples on which the whole model is asked; how close to each other two shares, and
# relatively two examples of a few, are taken for one.
CHECKED, CLOSE, FEW, NEAR, TOP = 16, 1e-4, 1000, 2e-5, 5
_forwards: OrderedDict[str, Callable[[Any], Any]] = OrderedDict()


def features_of(
    extractor: keras.Model,
    pictures: Examples,
    digests: Sequence[bytes] | None = None,
    precision: str = "auto",
) -> np.ndarray:
    """Return the features of pictures, in their order, each picture computed once on this machine.

    Args:
        extractor: from pixels 0…255 to features ``(batch, channels)``, frozen.
        pictures: ``(n, height, width, channels)`` uint8, in memory or mapped.
        digests: of each picture's content, where they are known.
        precision: `float32`, or `auto`: bfloat16 where the processor has it and it was found to be faster and
            to give nearly the same features. An extractor of another policy, or on a GPU, keeps its own.

    Returns:
        ``(n, channels)`` float32; mapped from a file that goes with it where they are many.
    """
    name, width = _name(extractor, pictures.dtype), int(extractor.output_shape[-1])
    dtype = _settled(extractor, name, pictures) if precision == "auto" else None
    kept = _digests(pictures, digests)
    first: dict[bytes, int] = {}
    for number, content in enumerate(kept):
        first.setdefault(content, number)
    features = _room(len(pictures), width)
    store = Segments(CACHE, _kind(name, dtype), width) if _is_known(extractor) else None
    left = dict(first)
    _fetch(store, kept, left, features)
    if left:
        _compute(
            _forward(extractor, name, dtype), _batch_size(extractor), pictures, kept, left, features, store
        )
    again = [number for number, digest in enumerate(kept) if first[digest] != number]
    if again:
        features[again] = features[[first[kept[number]] for number in again]]
    return features


def cached_features(extractor: keras.Model, feed: Feed, precision: str = "auto") -> Feed:
    """Return a feed of features for a feed of images, with the same targets in the same order."""
    split = feed.split
    features: Examples = features_of(extractor, split.x, split.digests, precision)
    if isinstance(features, np.memmap):  # read batch by batch
        features = Rows(features, np.arange(len(features)))
    return with_features(feed, features)


def with_features(feed: Feed, features: Examples) -> Feed:
    """Return a feed with features ``(n, channels)`` in the place of its images."""
    return Feed(
        replace(feed.split, x=features),
        feed.batch_size,
        feed.seed,
        column=feed.column,
        weights=feed.weights,
        balanced=feed.balanced,
    )


class EvaluationOnFeatures(Evaluation):
    """Evaluation of a compiled model with a frozen backbone, by the features that are kept of each picture.

    They differ from the model's own by rounding, so what that could turn is computed by the whole model: its
    outputs for examples between two answers, and for some others to see that they agree.
    """

    def __init__(
        self,
        model: keras.Model,
        task: str,
        chosen: Sequence[str] = (),
        thresholds: metrics.Thresholds = None,
    ) -> None:
        super().__init__(model, task, chosen, thresholds=thresholds)
        self._extractor, head = split_at_features(model)
        self._on_features = Evaluation(model, task, chosen, head)
        self._forward = forward_graph(model)

    def __call__(self, feed: Feed) -> tuple[np.ndarray, dict[str, float]]:
        outputs, figures = self._on_features(cached_features(self._extractor, feed, "float32"))
        self.losses = self._on_features.losses
        spread = np.linspace(0, len(outputs) - 1, min(CHECKED, len(outputs))).astype(int)
        rows = np.union1d(spread, _undecided(feed.split.y, outputs, self.thresholds))
        own = predict_outputs(self._forward, Feed(feed.split.take(rows), feed.batch_size))
        if not np.allclose(outputs[rows], own, rtol=CLOSE, atol=CLOSE):
            log.warning(
                "the features that are kept give other outputs than best.keras, which computes them anew"
            )
            return super().__call__(feed)
        outputs[rows] = own
        return outputs, {**figures, **self.figures_of(feed.split, outputs)}


def logits_by_features(network: keras.Model, feed: Feed) -> np.ndarray:
    """Return the logits ``(n, outputs)`` float32 of a network by the features that are kept."""
    extractor, head = split_at_features(network)
    return predict_outputs(forward_graph(head), cached_features(extractor, feed, "float32"))


def _undecided(y: np.ndarray, outputs: np.ndarray, thresholds: metrics.Thresholds) -> np.ndarray:
    """Return the examples of which rounding could turn an answer, or of a few their order in a metric.

    Args:
        y: classes ``(n,)`` or labels ``(n, outputs)``.
        outputs: probabilities ``(n, outputs)``.
        thresholds: of a yes.
    """
    close: Any = (np.abs(outputs - metrics.cuts(thresholds)) < CLOSE).any(axis=1)
    highest = np.sort(outputs, axis=1)[:, -TOP - 1 :]
    close |= (np.diff(highest, axis=1) < CLOSE * highest[:, 1:]).any(axis=1)
    if len(outputs) > FEW:  # of many, the order of two says nothing
        return np.flatnonzero(close)
    for number, column in enumerate(outputs.T):
        is_one = y[:, number] if y.ndim > 1 else y == (number if outputs.shape[1] > 1 else 1)
        order = np.argsort(column)
        near = np.diff(column[order]) < NEAR * column[order][1:]
        near &= np.diff(is_one[order].astype(np.int8)) != 0
        close[order[1:][near]] = close[order[:-1][near]] = True
    return np.flatnonzero(close)


def _fetch(
    store: Segments | None, kept: Sequence[bytes], left: dict[bytes, int], features: np.ndarray
) -> None:
    """Take from what is left the pictures whose features are kept."""
    for numbers, rows in store.find(left) if store is not None else ():
        features[numbers] = rows
        for number in numbers:
            del left[kept[number]]


def _compute(
    forward: Callable[[Any], Any],
    batch_size: int,
    pictures: Examples,
    kept: Sequence[bytes],
    left: dict[bytes, int],
    features: np.ndarray,
    store: Segments | None,
) -> None:
    """Compute the features of the pictures that are left, and keep them as they come."""
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
                # Alone a picture would have other last bits: one example is computed by another kernel.
                together = batch if len(batch) > 1 else 2 * batch
                features[batch] = forward(pictures[np.asarray(together)]).numpy()[: len(batch)]
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


def _forward(extractor: keras.Model, name: str, dtype: str | None) -> Callable[[Any], Any]:
    """Return the extractor as a graph for inference, from those that are ready where it is one of them."""
    kind = _kind(name, dtype)
    made = _forwards.pop(kind, None) or forward_graph(folded(extractor, dtype))
    _forwards[kind] = made
    while len(_forwards) > FORWARDS:
        _forwards.popitem(last=False)
    return made


def _settled(extractor: keras.Model, name: str, pictures: Examples) -> str | None:
    """Return bfloat16 where it is faster here and changes the features little; None for the extractor's own.

    It is measured once for each extractor and machine, where there are pictures enough to gain by it; runs
    that start at once wait for the first answer.
    """
    own = {layer.compute_dtype for layer in extractor.layers if layer.weights}
    if not system.has_bfloat16() or own != {"float32"} or tf.config.list_logical_devices("GPU"):
        return None
    key = digest("features", name, os.environ.get(system.THREADS) or system.usable_cores())
    found = recalled(key, TRIAL)
    if found is None:
        if len(pictures) * count_flops(extractor) < WORTH:
            return None
        found = measured_once(key, TRIAL, partial(_tried, extractor, name, pictures))
    log.info(
        "features: %.1f ms a picture in float32, %.1f in bfloat16, which changes them by %.2g of a deviation",
        1e3 * found["float32"],
        1e3 * found["bfloat16"],
        found["change"],
    )
    return "bfloat16" if found["bfloat16"] <= GAIN * found["float32"] and found["change"] <= CHANGE else None


def _tried(extractor: keras.Model, name: str, pictures: Examples) -> dict[str, float]:
    """Measure seconds a picture in float32 and bfloat16, in turn, and how far the features of some differ."""
    some = pictures[np.linspace(0, len(pictures) - 1, min(TRIED, len(pictures))).astype(int)]
    forwards = {"float32": _forward(extractor, name, None), "bfloat16": _forward(extractor, name, "bfloat16")}
    plain, short = (forward(some).numpy().astype(np.float64) for forward in forwards.values())
    changes = (plain - short).std(axis=0)[plain.std(axis=0) > 0] / plain.std(axis=0)[plain.std(axis=0) > 0]
    times = dict.fromkeys(forwards, math.inf)
    until = time.perf_counter() + TRIED_SECONDS
    batch = some[: _batch_size(extractor)]
    while time.perf_counter() < until or math.inf in times.values():
        for one, forward in forwards.items():
            began = time.perf_counter()
            forward(batch)
            times[one] = min(times[one], (time.perf_counter() - began) / len(batch))
    return {**times, "change": float(changes.mean()) if len(changes) else 0.0}


def _batch_size(extractor: keras.Model) -> int:
    """Return how many pictures are computed at once: by what the backbone sees, not by what it is given."""
    prepares = takewhile(lambda layer: not layer.weights, extractor.layers)
    seen = max(math.prod(layer.output.shape[1:3]) for layer in prepares)
    if tf.config.list_logical_devices("GPU"):
        return evaluation_batch(64, extractor.input_shape[1:])
    return int(np.clip(2 ** int(math.log2(BATCH_VALUES / (3 * seen))), 1, BATCH))


class _Progress:
    """Says from time to time how many pictures are done.

    The rate is that after the first batch, for which the graph is made.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self.first, self.began = total, 0, 0, 0.0
        self.next = time.perf_counter() + TOLD_FIRST

    def __call__(self, count: int) -> None:
        self.done += count
        now = time.perf_counter()
        if not self.first:
            self.first, self.began = count, now
        elif now >= self.next and self.done < self.total:
            self.next = now + TOLD_EVERY
            rate = (self.done - self.first) / (now - self.began)
            told = f"{self.done:,} of {self.total:,} pictures, {rate:,.0f} pictures/s"
            left = (self.total - self.done) / rate
            log.info("features: %s, %.0f s left", told, left, extra={"notice": True})


# -- Names -----------------------------------------------------------------------------------------


def _name(extractor: keras.Model, dtype: np.dtype) -> str:
    """Return what tells extractors apart whose features differ: by layers, weights, precision, versions."""
    device = "GPU" if tf.config.list_logical_devices("GPU") else system.cpu_name()
    told = [VERSION, tf.__version__, keras.__version__, str(dtype), device, _outline(extractor)]
    everything = hashlib.sha256(json.dumps(told, sort_keys=True, default=repr).encode())
    for weight in extractor.get_weights():
        everything.update(f"{weight.shape} {weight.dtype}".encode())
        everything.update(np.ascontiguousarray(weight).data)
    found = re.fullmatch("transfer_([A-Za-z0-9_-]{1,40})_extractor", extractor.name)
    return f"{found[1] if found else CACHE}-{everything.hexdigest()}"


def _kind(name: str, dtype: str | None) -> str:
    """Return the name of what an extractor gives in a precision, as files have it."""
    title, _, told = name.rpartition("-")
    return f"{title}-{hashlib.sha256(f'{told} {dtype}'.encode()).hexdigest()[:20]}"


def _outline(extractor: keras.Model) -> Any:
    """Return an extractor's config without names, which Keras may make up, and what inference ignores."""
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
