"""Formats of other programs: how a model is written, what computes it, and how a file says what it means."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from zipfile import ZipFile

import numpy as np

from cnnbench.system import remove, stderr_to_log, temporary_beside

Format = Literal["onnx", "saved_model", "tflite", "openvino"]
Compute = Callable[[np.ndarray], np.ndarray]
SUFFIXES = {"onnx": ".onnx", "saved_model": "", "tflite": ".tflite", "openvino": ""}
# Modules that a format needs, by the extra that brings them.
NEEDED = {"onnx": ("tf2onnx", "onnxruntime"), "openvino": ("openvino",)}
KEY, FILE = "cnnbench", "cnnbench.json"  # what a file tells of itself: the key, or the file, that holds it
EXTRA = "assets.extra"  # the folder of a SavedModel that TensorFlow leaves to others
XML = "model.xml"
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}  # OpenVINO takes bfloat16 where a processor has it


def ready_for_export(model: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the model with one input tensor and float32 arithmetic, and notes for the user.

    Runtimes of ONNX and TFLite lack bfloat16 on most machines; the weights are float32 anyway.
    """
    import keras

    from cnnbench.nn import layers_of

    layers = [layer for layer in layers_of(model) if not isinstance(layer, keras.Model)]
    policies = {layer.dtype_policy.name for layer in layers if layer.compute_dtype != "float32"}
    notes: tuple[str, ...] = ()
    if policies:
        notes = (f"trained with {', '.join(sorted(policies))}; exported and compared in float32",)
        model = _in_float32(model)
    # Loaded models want a list of one tensor or the tensor alone, depending on how they were made.
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name), notes


def _in_float32(model: Any) -> Any:
    import keras

    from cnnbench.nn import layers_of

    def copy(layer: Any) -> Any:
        is_layer = isinstance(layer, keras.Layer)  # else an operation, which has no precision of its own
        return type(layer).from_config(layer.get_config() | ({"dtype": "float32"} if is_layer else {}))

    clone = keras.models.clone_model(model, clone_function=copy, recursive=True)
    clone.set_weights(model.get_weights())
    for layer in layers_of(clone):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # set_weights leaves the constants that are made of them as they were
    return clone


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Turn TF32 off on a GPU: its ten bits of mantissa would count as a difference of the export."""
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the converters' messages about their own code away from the terminal."""
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


@contextmanager
def saved(model: Any) -> Iterator[Path]:
    """Keep a model as a SavedModel for a while: the form that most converters read."""
    with TemporaryDirectory(prefix="cnnbench-") as folder:
        write_saved_model(model, Path(folder, "saved"))
        yield Path(folder, "saved")


def write_saved_model(model: Any, path: Path) -> None:
    """Write a SavedModel with one function, `serve`, of batches of any size."""
    model.export(path, format="tf_saved_model", verbose=False, input_signature=signature_of(model))


def signature_of(model: Any) -> list[Any]:
    """Return the one input that every format has: float32 batches of any size, named `inputs`."""
    import tensorflow as tf

    return [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="inputs")]


def write(model: Any, to: Format, path: Path, half: bool = False) -> None:
    """Convert a model that computes in float32.

    Args:
        model: as `ready_for_export` returns it.
        to: the format.
        path: of the new file or folder, with the suffix of the format.
        half: weights in 16 bits (`tflite`, `openvino`).
    """
    if to == "onnx":
        _write_onnx(model, path, signature_of(model))
    elif to == "saved_model":
        write_saved_model(model, path)
    else:
        with saved(model) as source:
            if to == "tflite":
                path.write_bytes(_lite(source, half))
            else:
                write_openvino(source, path, half)


def converter(source: Path) -> Any:
    """Return the converter of a SavedModel to TFLite, with nothing that needs an add-on.

    The "flex" operations are TensorFlow's own, which phones and microcontrollers do not have.
    """
    import tensorflow as tf

    made = tf.lite.TFLiteConverter.from_saved_model(str(source))
    made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return made


def _lite(source: Path, half: bool) -> bytes:
    import tensorflow as tf

    made = converter(source)
    if half:
        made.optimizations = [tf.lite.Optimize.DEFAULT]
        made.target_spec.supported_types = [tf.float16]
    return bytes(made.convert())


def write_openvino(source: Path, path: Path, half: bool = False) -> None:
    """Write a SavedModel, or a TFLite file with what it has in 8 bits, as a folder of OpenVINO's."""
    openvino = import_module("openvino")
    path.mkdir()
    model = openvino.Core().read_model(source)
    openvino.save_model(model, path / XML, compress_to_fp16=half)


def _write_onnx(model: Any, path: Path, signature: list[Any]) -> None:
    """Convert by tf2onnx, but not through `Model.export`.

    `Model.export` turns the constants of an adapted `Normalization` into inputs of the ONNX model.
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


def _run_openvino(path: Path) -> Compute:
    openvino = import_module("openvino")
    compiled = openvino.Core().compile_model(path / XML, "CPU", EXACT)
    return lambda batch: np.array(compiled(batch)[0])  # a copy: its memory is used again


RUNNERS: dict[str, Callable[[Path], Compute]] = {
    "onnx": _run_onnx,
    "saved_model": _run_saved_model,
    "tflite": _run_tflite,
    "openvino": _run_openvino,
}


# -- What a file tells of itself -------------------------------------------------------------------


def embed(path: Path, to: Format, about: Mapping[str, Any]) -> None:
    """Put a description into a file or folder, where the format has a place for it.

    In ONNX and OpenVINO it is an entry of the metadata; at the end of a TFLite file an archive, as TFLite's
    own metadata keep their files; in a SavedModel a file in `assets.extra`. No program that computes looks
    at it.
    """
    text = json.dumps(about, ensure_ascii=False, indent=1)
    if to == "onnx":
        onnx = import_module("onnx")
        model = onnx.load(path)
        onnx.helper.set_model_props(model, {KEY: text})
        path.write_bytes(model.SerializeToString())
    elif to == "tflite":
        with ZipFile(path, "a") as archive:
            archive.writestr(FILE, text)
    elif to == "saved_model":
        (path / EXTRA).mkdir(exist_ok=True)
        (path / EXTRA / FILE).write_text(text, encoding="utf-8")
    else:
        _embed_in_openvino(path, text)


def _embed_in_openvino(path: Path, text: str) -> None:
    openvino = import_module("openvino")
    model = openvino.Core().read_model(path / XML)
    model.set_rt_info(text, [KEY])
    new = temporary_beside(path)  # the old one's weights are mapped, and must not be written upon
    try:
        new.mkdir()
        openvino.save_model(model, new / XML, compress_to_fp16=False)
        del model
        remove(path)
        new.replace(path)
    finally:
        remove(new)


def told(path: Path, to: Format) -> dict[str, Any]:
    """Return what `embed` has put into a file or folder."""
    if to == "onnx":
        found = {entry.key: entry.value for entry in import_module("onnx").load(path).metadata_props}[KEY]
    elif to == "tflite":
        with ZipFile(path) as archive:
            found = archive.read(FILE)
    elif to == "saved_model":
        found = (path / EXTRA / FILE).read_text(encoding="utf-8")
    else:
        found = import_module("openvino").Core().read_model(path / XML).get_rt_info(KEY).value
    return dict(json.loads(found))
