"""A run's best checkpoint in a format for other programs, kept only if it computes the same."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnbench import formats
from cnnbench.datasets.core import Split
from cnnbench.errors import CnnbenchError
from cnnbench.formats import NEEDED, SUFFIXES, Format, Quantize
from cnnbench.results import RunFolder
from cnnbench.spec import RunSpec
from cnnbench.trained import load_model, require_finished

# Largest difference of an output, as a part of the largest output where that is above 1 (regression).
TOLERANCES = {"none": 1e-3, "float16": 0.05, "int8": 0.1}
# Eight bits move single probabilities by more than any limit worth having; what counts is the class.
LEAST_AGREEMENT_OF_INT8 = 0.95
EXAMPLES, BATCH, CALIBRATION = 512, 32, 256


@dataclass(frozen=True)
class Export:
    """What came of an export.

    Attributes:
        path: of the file or folder; it is there only if `passed`.
        examples: of the test split that both computed.
        difference: the largest absolute one between two outputs.
        tolerance: the most that passes; None where the agreement decides.
        agreement: how many of the examples got the same class; None for regression.
        size: bytes.
        passed: whether it was kept.
        notes: one line for each thing worth knowing.
    """

    path: Path
    examples: int
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
    """Write the best checkpoint, run what was written on test examples, and keep it if it agrees with Keras.

    The result takes what the model takes, a float32 batch of any size with raw pixels 0…255 or unscaled
    columns: scaling is part of it. Weights and arithmetic are float32 (unless quantized) under every
    training precision.

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
    _require_packages(to)
    path = _place(folder, to, quantize, output)
    dataset = spec.dataset()
    model, notes = formats.ready_for_export(load_model(folder, spec))
    x = _some(dataset.test, EXAMPLES)
    with formats.exact_arithmetic():
        expected = np.concatenate([np.asarray(model(batch, training=False)) for batch in _batches(x)])
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{SUFFIXES[to]}")  # Keras looks at the suffix
    try:
        with formats.quiet():
            try:
                formats.write(model, to, temporary, quantize, _some(dataset.train, CALIBRATION))
            except Exception as error:  # whatever the converters raise, it says what cannot be converted
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise CnnbenchError(f"this model cannot be exported to {to}: {reason}") from error
            compute = formats.RUNNERS[to](temporary)
            measured = np.concatenate([compute(batch) for batch in _batches(x)])
        result = _compare(path, dataset.task, expected, measured, quantize, _size(temporary), notes)
        if result.passed:
            _remove(path)  # a folder cannot be exchanged in one step
            temporary.replace(path)
    finally:
        _remove(temporary)
    return result


def _require_packages(to: Format) -> None:
    missing = [name for name in NEEDED.get(to, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise CnnbenchError(
            f"--format {to} needs {' and '.join(missing)}", "python -m pip install 'cnnbench[onnx]'"
        )


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


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _compare(
    path: Path,
    task: str,
    expected: np.ndarray,
    measured: np.ndarray,
    quantize: Quantize,
    size: int,
    notes: tuple[str, ...],
) -> Export:
    difference = float(np.abs(measured - expected).max())
    limit = TOLERANCES[quantize] * max(1.0, float(np.abs(expected).max()))
    agreement = None
    if task != "regression":
        here, there = (_classes(outputs) for outputs in (expected, measured))
        agreement = int((here == there).sum())
    by_class = quantize == "int8" and agreement is not None
    if agreement is not None and by_class:
        passed = bool(np.isfinite(difference)) and agreement >= LEAST_AGREEMENT_OF_INT8 * len(expected)
    else:
        passed = difference <= limit  # False where it is NaN
    tolerance = None if by_class else limit
    return Export(path, len(expected), difference, tolerance, agreement, size, passed, notes)


def summary(export: Export) -> list[str]:
    """The outcome in lines for a person."""
    line = f"largest difference from Keras on {export.examples} test examples: {export.difference:.2e}"
    if export.tolerance is not None:
        line += f" (at most {export.tolerance:.2g})"
    if export.agreement is not None:
        line += f"; same class for {export.agreement} of {export.examples}"
        if export.tolerance is None:
            line += f" (at least {LEAST_AGREEMENT_OF_INT8:.0%})"
    kept = [f"{export.path}  ({export.size:,} bytes)"] if export.passed else []
    return [*export.notes, *kept, line]


def _classes(outputs: np.ndarray) -> np.ndarray:
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else (outputs.reshape(-1) > 0.5).astype(np.intp)


def _some(split: Split, count: int) -> np.ndarray:
    """Evenly over the split: data sets from folders come sorted by class."""
    chosen = np.linspace(0, len(split) - 1, min(count, len(split))).astype(np.intp)
    return split.x[chosen].astype(np.float32)


def _batches(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + BATCH] for start in range(0, len(x), BATCH)]


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
