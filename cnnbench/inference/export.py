"""Export of a run's best checkpoint to other programs, compared with Keras on test examples."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cnnbench.data import Split
from cnnbench.errors import CnnbenchError, first_line
from cnnbench.inference.load import load_model, require_finished
from cnnbench.runs import RunFolder, RunSpec, metrics
from cnnbench.system import remove, require_package, stderr_to_log, temporary_beside

# Largest difference of an output, as a part of the largest output where that is above 1 (regression).
TOLERANCES = {"none": 1e-3, "float16": 0.05, "int8": 0.1}
# Eight bits move single probabilities by more than any limit worth having; what counts is the class.
LEAST_AGREEMENT_OF_INT8 = 0.95
EXAMPLES, BATCH, CALIBRATION = 512, 32, 256
Format = Literal["onnx", "saved_model", "tflite"]
Quantize = Literal["none", "float16", "int8"]
Compute = Callable[[np.ndarray], np.ndarray]
QUANTIZE: tuple[Quantize, ...] = get_args(Quantize)
SUFFIXES = {"onnx": ".onnx", "saved_model": "", "tflite": ".tflite"}
NEEDED = {"onnx": ("tf2onnx", "onnxruntime")}


@dataclass(frozen=True)
class Export:
    """Outcome of an export.

    Attributes:
        path: of the file or folder.
        examples: of the test split that both computed.
        metric: by which both are measured on these examples: `accuracy`, `f1_micro` for labels, `rmse` for
            regression.
        value: what the file reaches; NaN where an output is not finite.
        of_keras: what the checkpoint reaches.
        difference: the largest absolute one between two outputs; of several targets, as a part of the largest
            output of the target where that is above 1.
        tolerance: the most that passes; None where the agreement decides.
        agreement: how many of the examples got the same class, or the same labels; None for regression.
        size: bytes.
        passed: whether they agree.
        notes: one line for each thing worth knowing.
    """

    path: Path
    examples: int
    metric: str
    value: float
    of_keras: float
    difference: float
    tolerance: float | None
    agreement: int | None
    size: int
    passed: bool
    notes: tuple[str, ...] = ()


def export_run(
    folder: RunFolder,
    spec: RunSpec,
    to: Format,
    output: Path | None = None,
    quantize: Quantize = "none",
) -> Export:
    """Export the best checkpoint, run the result on test examples, and compare it with Keras.

    A result that does not agree is kept, but never in the place of an earlier one. It takes float32 batches
    of any size with raw pixels 0…255 or unscaled columns, as the model does. Weights and arithmetic are
    float32, unless quantized, under every training precision.

    Args:
        folder: of a finished run.
        spec: made from the folder's config.
        to: the format.
        output: where to; a folder that exists gets the file inside. None: a place in the run folder, whose
            earlier content is replaced.
        quantize: of `tflite`: weights in half precision, or weights and activations in 8 bits, calibrated
            on training examples; inputs and outputs stay float32.

    Raises:
        CnnbenchError: packages are missing, `output` exists, or an operation has no equivalent there.
    """
    require_finished(folder)
    if quantize != "none" and to != "tflite":
        raise CnnbenchError(f"--quantize {quantize} is for --format tflite", "leave it out")
    for name in NEEDED.get(to, ()):
        require_package(f"--format {to}", name, "onnx")
    path = _place(folder, to, quantize, output)
    dataset = spec.dataset()
    model, notes = ready_for_export(load_model(folder, spec))
    x, y = _some(dataset.test, EXAMPLES)
    with exact_arithmetic():
        expected = np.concatenate([np.asarray(model(batch, training=False)) for batch in _batches(x)])
    temporary = temporary_beside(path.with_suffix(SUFFIXES[to]))  # Keras looks at the suffix
    try:
        with quiet():
            try:
                write(model, to, temporary, quantize, _some(dataset.train, CALIBRATION)[0])
            except Exception as error:  # the converters raise anything
                raise CnnbenchError(f"this model cannot be exported to {to}: {first_line(error)}") from error
            compute = RUNNERS[to](temporary)
            measured = np.concatenate([compute(batch) for batch in _batches(x)])
        result = _compare(path, dataset.task, y, (expected, measured), quantize, _size(temporary), notes)
        if not result.passed and path.exists():
            result = replace(result, path=path.with_name(f"{path.stem}_failed{path.suffix}"))
        remove(result.path)  # a folder cannot be exchanged in one step
        temporary.replace(result.path)
    finally:
        remove(temporary)
    return result


def _place(folder: RunFolder, to: Format, quantize: Quantize, output: Path | None) -> Path:
    kind = "" if quantize == "none" else f"_{quantize}"
    own = folder.export_path("saved_model" if to == "saved_model" else f"model{kind}{SUFFIXES[to]}")
    path = own if output is None else output / own.name if output.is_dir() else output
    if output is not None and path.exists():
        raise CnnbenchError(f"{path} exists already", "remove it, or choose another --output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CnnbenchError(f"cannot write to {path.parent}: {error.strerror or error}") from error
    return path


def _compare(
    path: Path,
    task: str,
    y: np.ndarray,
    outputs: tuple[np.ndarray, np.ndarray],
    quantize: Quantize,
    size: int,
    notes: tuple[str, ...],
) -> Export:
    expected, measured = outputs
    limit = TOLERANCES[quantize]
    if task == "regression" and expected.shape[1] > 1:  # each in a unit of its own
        difference = float(
            (np.abs(measured - expected) / np.maximum(1.0, np.abs(expected).max(axis=0))).max()
        )
    else:
        difference = float(np.abs(measured - expected).max())
        limit *= max(1.0, float(np.abs(expected).max()))
    agreement = None
    if task == "multilabel":
        here, there = (metrics.predicted_labels(one) for one in outputs)
        agreement = int((here == there).all(axis=1).sum())
    elif task != "regression":
        here, there = (metrics.predicted_classes(one) for one in outputs)
        agreement = int((here == there).sum())
    by_class = quantize == "int8" and agreement is not None
    if agreement is not None and by_class:
        passed = bool(np.isfinite(difference)) and agreement >= LEAST_AGREEMENT_OF_INT8 * len(expected)
    else:
        passed = difference <= limit  # False where it is NaN
    tolerance = None if by_class else limit
    metric = metrics.TRAINED[task][-1]
    of_keras, value = (_score(one, y, task, metric) for one in outputs)
    return Export(
        path, len(y), metric, value, of_keras, difference, tolerance, agreement, size, passed, notes
    )


def _score(outputs: np.ndarray, y: np.ndarray, task: str, metric: str) -> float:
    if not np.isfinite(outputs).all():
        return math.nan
    return metrics.compute_named(task, y, outputs, [metric])[metric]


def summary(export: Export) -> list[str]:
    """Return the outcome as lines of text."""
    line = f"largest difference from Keras on {export.examples} test examples: {export.difference:.2e}"
    if export.tolerance is not None:
        line += f" (at most {export.tolerance:.2g})"
    if export.agreement is not None:
        same = "labels" if export.metric == "f1_micro" else "class"
        line += f"; same {same} for {export.agreement} of {export.examples}"
        if export.tolerance is None:
            line += f" (at least {LEAST_AGREEMENT_OF_INT8:.0%})"
    reached = "outputs that are NaN or infinite" if math.isnan(export.value) else f"{export.value:.4f}"
    score = f"{export.metric} on these examples: {reached}, of Keras {export.of_keras:.4f}"
    return [*export.notes, f"{export.path}  ({export.size:,} bytes)", score, line]


def _some(split: Split, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return examples and targets, evenly over the split, as image folders are sorted by class."""
    chosen = np.linspace(0, len(split) - 1, min(count, len(split))).astype(np.intp)
    return split.x[chosen].astype(np.float32), split.y[chosen]


def _batches(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + BATCH] for start in range(0, len(x), BATCH)]


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


# -- Formats ---------------------------------------------------------------------------------------


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


RUNNERS: dict[str, Callable[[Path], Compute]] = {
    "onnx": _run_onnx,
    "saved_model": _run_saved_model,
    "tflite": _run_tflite,
}
