"""The formats that a model can be exported to: how each is written, and how it is run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cnnbench.startup import stderr_to_log

Format = Literal["onnx", "saved_model", "tflite"]
Quantize = Literal["none", "float16", "int8"]
Compute = Callable[[np.ndarray], np.ndarray]

QUANTIZE: tuple[Quantize, ...] = get_args(Quantize)
SUFFIXES = {"onnx": ".onnx", "saved_model": "", "tflite": ".tflite"}
NEEDED = {"onnx": ("tf2onnx", "onnxruntime")}


def ready_for_export(model: Any) -> tuple[Any, tuple[str, ...]]:
    """The model with one input tensor and float32 arithmetic, and what is worth knowing about that.

    Runtimes of ONNX and TFLite lack bfloat16 on most machines; the weights are float32 anyway.
    """
    import keras

    policies = {layer.dtype_policy.name for layer in model.layers if layer.compute_dtype != "float32"}
    notes: tuple[str, ...] = ()
    if policies:
        notes = (f"trained with {', '.join(sorted(policies))}; exported and compared in float32",)
        model = _in_float32(model)
    # Loaded models want a list of one tensor or the tensor alone, depending on how they were made.
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name), notes


def _in_float32(model: Any) -> Any:
    import keras

    def copy(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=copy)
    clone.set_weights(model.get_weights())
    for layer in clone.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # set_weights leaves the constants that are made of them as they were
    return clone


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """On a GPU, without TF32: its ten bits of mantissa would count as a difference of the export."""
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the converters' talk away from the terminal: they report deprecations of their own code."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with stderr_to_log(), warnings.catch_warnings():
            # Announced for TensorFlow 2.20, still there in 2.21, which pyproject.toml has as the limit.
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def write(model: Any, to: Format, path: Path, quantize: Quantize, calibration: np.ndarray) -> None:
    """Convert a model.

    Args:
        model: computes in float32.
        to: the format.
        path: of the new file or folder, with the suffix of the format.
        quantize: for `tflite`.
        calibration: ``(n, …)`` inputs by which the ranges of `int8` are chosen.
    """
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="inputs")]
    if to == "onnx":
        _write_onnx(model, path, signature)
    elif to == "saved_model":
        model.export(path, format="tf_saved_model", verbose=False, input_signature=signature)
    else:
        options: dict[str, Any] = {}
        # Nothing that needs the "flex" add-on, which phones and microcontrollers do not have.
        target: dict[str, Any] = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
        if quantize != "none":
            options["optimizations"] = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            target["supported_types"] = [tf.float16]
        if quantize == "int8":
            options["representative_dataset"] = lambda: ([example[None]] for example in calibration)
        model.export(
            path,
            format="litert",
            verbose=False,
            input_signature=signature,
            target_spec=target,
            **options,
        )


def _write_onnx(model: Any, path: Path, signature: list[Any]) -> None:
    """By tf2onnx, but not through `Model.export`.

    That hands tf2onnx the function with everything it captures; an adapted `Normalization` captures its
    mean and variance as constants, which come out as inputs of the ONNX model that nobody can fill.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def forward(inputs: Any) -> Any:
        return model(inputs, training=False)

    function = tf.function(forward, input_signature=signature).get_concrete_function()
    frozen = convert_variables_to_constants_v2(function)  # tf2onnx uses this too; there is no public name
    result = frozen.outputs[0].name
    proto, _ = import_module("tf2onnx.convert").from_graph_def(
        frozen.graph.as_graph_def(),
        name=model.name,
        input_names=["inputs:0"],
        output_names=[result],
        tensors_to_rename={"inputs:0": "inputs", result: "outputs"},
    )
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    path.write_bytes(proto.SerializeToString())


def _run_onnx(path: Path) -> Compute:
    session = import_module("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda batch: np.asarray(session.run(None, {"inputs": batch})[0])


def _run_saved_model(path: Path) -> Compute:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def compute(batch: np.ndarray) -> np.ndarray:
        with exact_arithmetic():
            return np.asarray(loaded.serve(batch))

    return compute


def _run_tflite(path: Path) -> Compute:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path))
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def compute(batch: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(inputs["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs["index"], batch)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(outputs["index"]))

    return compute


RUNNERS: dict[str, Callable[[Path], Compute]] = {
    "onnx": _run_onnx,
    "saved_model": _run_saved_model,
    "tflite": _run_tflite,
}
