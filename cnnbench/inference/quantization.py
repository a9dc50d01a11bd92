"""Weights and activations in eight bits: which ways there are, where each layer loses, which way is kept.

TFLite quantizes each layer by the range of its values on training examples. Where that costs too much, the
layers that err most stay in float32; where that does not help either, activations have sixteen bits, or are
not quantized at all. All of it is `tf.lite`'s; which way helps is found out by measuring.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cnnbench.data import listed
from cnnbench.errors import first_line
from cnnbench.inference.formats import converter

log = logging.getLogger(__name__)

Quantize = Literal["none", "float16", "int8", "int8_full", "int8_mixed", "int16x8", "int8_weights"]
QUANTIZE: tuple[Quantize, ...] = get_args(Quantize)
EIGHT_BITS = QUANTIZE[2:]
SCHEMES = {
    "none": "float32",
    "float16": "weights in 16 bits, arithmetic in float32",
    "int8_full": "weights and activations in 8 bits",
    "int8_mixed": "8 bits, but for some layers in float32",
    "int16x8": "weights in 8 bits, activations in 16",
    "int8_weights": "weights in 8 bits, activations in float32",
}
DEBUGGED = 16  # examples by which the errors of layers are measured
# In steps of a layer's own eight bits. Rounding alone has the root of 1/12, 0.29.
TOO_MUCH, LEAST = 1.0, 3
WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


@dataclass(frozen=True)
class LayerError:
    """What one operation loses in eight bits, given the inputs that the quantized network gives it.

    Attributes:
        layer: name of the Keras layer.
        operation: TFLite's name of what is computed.
        steps: root of the mean squared error, in steps of the 8 bits of its outputs; rounding alone has 0.29.
        tensor: TFLite's name of its outputs.
    """

    layer: str
    operation: str
    steps: float
    tensor: str


@dataclass(frozen=True)
class Attempt:
    """One way to quantize, and what it reaches on the examples by which the way is chosen.

    Attributes:
        scheme: one of `int8_full`, `int8_mixed`, `int16x8`, `int8_weights`.
        words: the same in words, with the layers that stay in float32.
        size: bytes; null where the converter refuses.
        agreement: share of examples with the same class or labels as by Keras; null for regression.
        lost: of the metric; of an error, by how much it grew. Null where an output is not finite.
        kept: whether this way was taken.
        reason: why it was not taken, in one line; empty where it was.
    """

    scheme: str
    words: str
    size: int | None = None
    agreement: float | None = None
    lost: float | None = None
    kept: bool = False
    reason: str = ""


Try = Callable[[bytes, Attempt], Attempt]


def quantized(
    source: Path, quantize: Quantize, calibration: np.ndarray, layers: Sequence[LayerError], attempt: Try
) -> tuple[list[Attempt], bytes]:
    """Try the ways to quantize in turn, up to the first that is good enough, else keep the best.

    Args:
        source: a SavedModel.
        quantize: `int8` for all ways in turn, or one of them.
        calibration: ``(n, …)`` training examples, by which ranges are chosen.
        layers: as `layer_errors` returns them.
        attempt: writes and measures a TFLite model, and returns the attempt with figures; its `reason` is
            empty where it is good enough.

    Returns:
        the attempts in their order, one of them kept, and its model.

    Raises:
        ValueError: none of the ways can be converted.
    """
    tried: list[Attempt] = []
    models: list[bytes] = []
    for scheme, words, floats in _ways(quantize, layers):
        one = Attempt(scheme, words)
        try:
            content = convert(source, scheme, calibration, floats)
            one = attempt(content, one)
        except Exception as error:  # noqa: BLE001  converters and programs raise anything; the next way may do
            log.info("%s: %s", scheme, error)
            content, one = b"", replace(one, reason=f"it cannot be made: {first_line(error)}")
        tried.append(one)
        models.append(content)
        if not one.reason:
            break
    best = max(range(len(tried)), key=lambda index: _merit(tried[index]))
    if tried[best].size is None:
        raise ValueError(tried[best].reason)
    return [replace(one, kept=index == best) for index, one in enumerate(tried)], models[best]


def _merit(attempt: Attempt) -> tuple[bool, bool, float, float]:
    lost = np.inf if attempt.lost is None else attempt.lost
    return (attempt.size is not None, not attempt.reason, attempt.agreement or 0.0, -lost)


def _ways(quantize: Quantize, layers: Sequence[LayerError]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield scheme, its words and the tensors that stay in float32, the quickest network first."""
    for scheme in EIGHT_BITS[1:] if quantize == "int8" else (quantize,):
        if scheme != "int8_mixed":
            yield scheme, SCHEMES[scheme], []
            continue
        worst = sorted(layers, key=lambda one: -one.steps)
        few = worst[: max(LEAST, sum(one.steps > TOO_MUCH for one in worst))]
        with_weights = [one for one in layers if one.operation in WITH_WEIGHTS]
        many = [*worst[: max(len(few), len(worst) // 4)], *with_weights[:1], *with_weights[-1:]]
        for chosen in (few, many) if quantize == "int8" else (many,):
            names = list(dict.fromkeys(one.layer for one in chosen))
            yield scheme, f"8 bits, but for {listed(names)} in float32", [one.tensor for one in chosen]


def convert(source: Path, scheme: str, calibration: np.ndarray, floats: Sequence[str] = ()) -> bytes:
    """Return a TFLite model; its inputs and outputs stay float32.

    Args:
        source: a SavedModel.
        scheme: one of `SCHEMES` with eight bits.
        calibration: ``(n, …)`` examples by which the ranges of activations are chosen.
        floats: names of the tensors whose operations stay in float32.
    """
    import tensorflow as tf

    if floats:
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=list(floats))
        made = _debugger(source, calibration, options)
        return bytes(made.get_nondebug_quantized_model())
    made = _calibrated(source, None if scheme == "int8_weights" else calibration)
    if scheme == "int16x8":
        sets = tf.lite.OpsSet
        made.target_spec.supported_ops = [
            sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            sets.TFLITE_BUILTINS,
        ]
    return bytes(made.convert())


def _calibrated(source: Path, calibration: np.ndarray | None) -> Any:
    import tensorflow as tf

    made = converter(source)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    if calibration is not None:
        made.representative_dataset = lambda: ([example[None]] for example in calibration)
    return made


def _debugger(source: Path, calibration: np.ndarray, options: Any = None) -> Any:
    import tensorflow as tf

    count = min(DEBUGGED, len(calibration))
    chosen = calibration[np.linspace(0, len(calibration) - 1, count).astype(np.intp)]
    return tf.lite.experimental.QuantizationDebugger(
        converter=_calibrated(source, calibration),
        debug_dataset=lambda: ([example[None]] for example in chosen),
        debug_options=options,
    )


def layer_errors(source: Path, calibration: np.ndarray, names: Sequence[str]) -> list[LayerError]:
    """Measure what each operation loses in eight bits, by TFLite's quantization debugger, in their order.

    Args:
        source: a SavedModel.
        calibration: ``(n, …)`` examples.
        names: of the layers of the model.
    """
    debugger = _debugger(source, calibration)
    debugger.run()
    table = io.StringIO()
    debugger.layer_statistics_dump(table)
    rows = csv.DictReader(io.StringIO(table.getvalue()))
    found = [
        LayerError(
            layer_of(row["tensor_name"], names) or row["op_name"].lower(),
            row["op_name"],
            float(row["mean_squared_error"]) ** 0.5 / float(row["scale"]),
            row["tensor_name"],
        )
        for row in rows
        if float(row["scale"]) > 0
    ]
    return [one for one in found if np.isfinite(one.steps)]


def layer_of(tensor: str, names: Sequence[str]) -> str | None:
    """Return the layer whose outputs a tensor of TFLite holds, where its name tells.

    Operations that were put together have the names of all, the last one first:
    `model_1/bn_1/add_1;model_1/conv_1/convolution`.
    """
    for part in tensor.split(";"):
        for step in reversed(part.split("/")):
            if (name := re.sub(r"_\d+$", "", step)) in names or (name := step) in names:
                return name
    return None
