"""`cnnbench export`: what is written computes the same, or says that it does not."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from inspection_runs import spec_of, trained

from cnnbench.errors import CnnbenchError
from cnnbench.inference import export
from cnnbench.inference.export import Quantize, export_run
from cnnbench.nn import checkpoints, layers_of
from cnnbench.runs.folder import RunFolder

needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("tf2onnx") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="needs the extra cnnbench[onnx]",
)
FORMATS = [pytest.param("onnx", marks=needs_onnx), "saved_model", "tflite"]


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """A copy of the run of a kind, multiclass unless parametrised."""
    kind = getattr(request, "param", "multiclass")
    return RunFolder(Path(shutil.copytree(trained(kind).path, tmp_path / kind)))


@pytest.fixture
def precision_kept() -> Iterator[None]:
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize(
    "run", ["multiclass", "binary", "multilabel", "regression", "targets"], indirect=True
)
def test_export_computes_what_keras_computes(run: RunFolder, to: Any) -> None:
    result = export_run(run, spec_of(run), to)
    assert result.passed
    assert result.difference <= 1e-4
    assert result.agreement == (None if run.metrics["task"] == "regression" else result.examples)
    assert result.size > 1000
    # For itself: raw inputs of any number, alone or together.
    x = spec_of(run).dataset().test.x[:5].astype(np.float32)
    expected = checkpoints.load_checkpoint(run.best_model).predict(x, verbose=0)
    with export.quiet():
        compute = export.RUNNERS[to](result.path)
        assert compute(x) == pytest.approx(expected, abs=1e-3)
        assert compute(x[:1]) == pytest.approx(expected[:1], abs=1e-3)


@needs_onnx
def test_onnx_has_one_input_with_a_named_batch(run: RunFolder) -> None:
    import onnx

    graph = onnx.load(export_run(run, spec_of(run), "onnx").path).graph
    (value,) = graph.input
    assert value.name == "inputs"
    assert [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] == ["batch", 8, 8, 1]
    assert [output.name for output in graph.output] == ["outputs"]


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_quantized_agrees_and_takes_the_same_inputs(run: RunFolder, quantize: Quantize) -> None:
    plain = export_run(run, spec_of(run), "tflite")
    result = export_run(run, spec_of(run), "tflite", quantize=quantize)
    assert result.passed
    assert result.path != plain.path
    assert result.agreement is not None
    assert result.agreement >= 0.95 * result.examples
    assert plain.path.read_bytes() != result.path.read_bytes()
    with export.quiet():
        compute = export.RUNNERS["tflite"](result.path)
        assert compute(np.zeros((2, 8, 8, 1), np.float32)).dtype == np.float32


def test_quantized_regression_is_judged_by_its_scale(tmp_path: Path) -> None:
    expected = np.array([[200.0], [-300.0]])
    for quantize, off, passed in (("none", 0.2, True), ("none", 0.4, False), ("int8", 29.0, True)):
        both = (expected, expected + off)
        result = export._compare(tmp_path, "regression", expected[:, 0], both, quantize, 1, ())
        assert result.passed is passed
        assert (result.metric, result.of_keras) == ("rmse", 0.0)
        assert result.value == pytest.approx(off)


def test_each_target_is_judged_by_its_own_scale(tmp_path: Path) -> None:
    expected = np.array([[1000.0, 0.2], [3000.0, 0.4]])
    off = np.array([1.0, 0.01])  # within a thousandth of the first, not of the second
    both = (expected, expected + off)
    assert not export._compare(tmp_path, "regression", expected, both, "none", 1, ()).passed
    both = (expected, expected + off * [1, 0.05])
    assert export._compare(tmp_path, "regression", expected, both, "none", 1, ()).passed


def wrong_in(classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """200 examples that Keras has right but for ten, and outputs with another class for some of the right."""
    y = np.arange(200) % 10
    expected = np.eye(10)[np.where(np.arange(200) < 10, (y + 1) % 10, y)]
    measured = expected.copy()
    measured[-classes:] = np.roll(measured[-classes:], 1, axis=1)
    return y, expected, measured


def test_what_eight_bits_reach_is_measured_whatever_the_verdict(tmp_path: Path) -> None:
    for classes, passed in ((10, True), (11, False)):
        y, *both = wrong_in(classes)
        result = export._compare(tmp_path, "multiclass", y, (both[0], both[1]), "int8", 1, ())
        assert result.passed is passed
        assert result.agreement == 200 - classes
        assert (result.of_keras, result.value) == pytest.approx((0.95, 0.95 - classes / 200))


@pytest.mark.parametrize(
    ("off", "reached"),
    [(0.002, "{accuracy:.4f}, of Keras {accuracy:.4f}"), (float("nan"), "NaN or infinite")],
)
def test_what_differs_is_kept_and_told(
    run: RunFolder, run_cli: Any, off: float, reached: str, monkeypatch: Any
) -> None:
    right = export.RUNNERS["saved_model"]

    def wrong(path: Path) -> export.Compute:
        compute = right(path)
        return lambda batch: compute(batch) + np.float32(off)

    monkeypatch.setitem(export.RUNNERS, "saved_model", wrong)
    done = run_cli("export", str(run.path), "--format", "saved_model")
    assert done.exit_code == 3
    path, score, _, verdict = done.out.splitlines()
    assert path.startswith(f"{run.path}/exports/saved_model  (")
    assert reached.format(**run.metrics["metrics"]["test"]) in score
    assert verdict == "FAIL: kept, for you to judge"
    assert (run.path / "exports" / "saved_model" / "saved_model.pb").is_file()
    assert [place.name for place in (run.path / "exports").iterdir()] == ["saved_model"]


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_a_quantized_file_that_fails_is_kept(
    run: RunFolder, quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCES", {quantize: -1.0})
    monkeypatch.setattr(export, "LEAST_AGREEMENT_OF_INT8", 1.1)
    result = export_run(run, spec_of(run), "tflite", quantize=quantize)
    assert not result.passed
    assert result.path.name == f"model_{quantize}.tflite"
    assert result.path.stat().st_size == result.size


def test_a_failure_keeps_the_earlier_export(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = export_run(run, spec_of(run), "tflite")
    content = first.path.read_bytes()
    monkeypatch.setattr(export, "TOLERANCES", {"none": -1.0})
    for _ in range(2):
        result = export_run(run, spec_of(run), "tflite")
        assert not result.passed
        assert result.path.name == "model_failed.tflite"
        assert result.path.is_file()
        assert first.path.read_bytes() == content


def test_command_says_how_close_it_is(run: RunFolder, run_cli: Any) -> None:
    done = run_cli("export", str(run.path), "--format", "tflite")
    assert done.exit_code == 0
    path, score, measured, verdict = done.out.splitlines()
    assert path.startswith(f"{run.path}/exports/model.tflite")
    accuracy = run.metrics["metrics"]["test"]["accuracy"]
    assert score == f"accuracy on these examples: {accuracy:.4f}, of Keras {accuracy:.4f}"
    assert "on 60 test examples" in measured
    assert "same class for 60 of 60" in measured
    assert verdict == "PASS"
    assert done.err == ""


def test_output_never_overwrites(run: RunFolder, run_cli: Any, tmp_path: Path) -> None:
    arguments = ("export", str(run.path), "--format", "saved_model", "--output")
    assert run_cli(*arguments, str(tmp_path / "new" / "model")).exit_code == 0
    done = run_cli(*arguments, str(tmp_path / "new"))  # a folder that exists gets it inside
    assert done.exit_code == 0
    assert (tmp_path / "new" / "saved_model" / "saved_model.pb").is_file()
    done = run_cli(*arguments, str(tmp_path / "new"))
    assert done.exit_code == 2
    assert "exists already" in done.err


def test_own_place_is_replaced(run: RunFolder) -> None:
    first = export_run(run, spec_of(run), "saved_model")
    (first.path / "stale").touch()
    assert export_run(run, spec_of(run), "saved_model").passed
    assert not (first.path / "stale").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "onnx", "--quantize", "int8"], "--quantize int8 is for --format tflite"),
        (["--format", "coreml"], "invalid choice: 'coreml'"),
        ([], "required: --format"),
    ],
)
def test_wrong_input(run: RunFolder, run_cli: Any, arguments: list[str], message: str) -> None:
    done = run_cli("export", str(run.path), *arguments)
    assert done.exit_code == 2
    assert message in done.err


def test_missing_packages_are_named_with_the_command(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(run)
    monkeypatch.setattr("cnnbench.system.startup.find_spec", lambda name: None)
    with pytest.raises(CnnbenchError, match="--format onnx needs tf2onnx") as caught:
        export_run(run, spec, "onnx")
    assert caught.value.hint == "pip install 'cnnbench[onnx]'"


def test_what_the_converter_refuses_is_one_line(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Any, to: str, path: Path, *rest: Any) -> None:
        path.write_text("half")
        raise ValueError("\n no such operation: FFT\n and a page of C++")

    monkeypatch.setattr(export, "write", refuse)
    with pytest.raises(CnnbenchError, match="cannot be exported to tflite: no such operation: FFT"):
        export_run(run, spec_of(run), "tflite")
    assert list((run.path / "exports").iterdir()) == []


@pytest.mark.usefixtures("precision_kept")
def test_a_model_of_mixed_precision_is_exported_in_float32() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    inputs = keras.Input((4,))
    scaled = keras.layers.Normalization(dtype="float32")
    x = keras.layers.Dense(3)(scaled(inputs))
    mixed = keras.Model(inputs, keras.layers.Activation("softmax", dtype="float32")(x))
    scaled.adapt(np.array([[1.0, 2, 3, 4], [3, 2, 1, 9]]))
    ready, notes = export.ready_for_export(mixed)
    assert {layer.compute_dtype for layer in ready.layers[1:]} == {"float32"}
    assert ready.inputs[0].dtype == "float32"
    assert "mixed_bfloat16" in notes[0]
    examples = np.array([[5.0, 1, 2, 3]])
    assert np.asarray(ready(examples)) == pytest.approx(np.asarray(mixed(examples)), abs=0.02)
    assert np.asarray(ready.layers[1](examples)) == pytest.approx(np.asarray(scaled(examples)))


@pytest.mark.usefixtures("precision_kept")
def test_models_of_mixed_precision_inside_another_are_exported_in_float32() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    inputs, inner = keras.Input((4,)), keras.Input((4,))
    scaled = keras.layers.Normalization(dtype="float32")
    answer = keras.layers.Dense(3)(scaled(inner))
    member = keras.Model(inner, keras.layers.Activation("softmax", dtype="float32")(answer), name="member")
    scaled.adapt(np.array([[1.0, 2, 3, 4], [3, 2, 1, 9]]))
    mixed = keras.Model(inputs, keras.layers.Average(dtype="float32")([member(inputs), member(inputs)]))
    ready, notes = export.ready_for_export(mixed)
    calculating = (keras.layers.Dense, keras.layers.Activation, keras.layers.Average)
    layers = [layer for layer in layers_of(ready) if isinstance(layer, calculating)]
    assert {layer.compute_dtype for layer in layers} == {"float32"}
    assert len(layers) == 3
    assert "mixed_bfloat16" in notes[0]
    examples = np.array([[5.0, 1, 2, 3]])
    assert np.asarray(ready(examples)) == pytest.approx(np.asarray(mixed(examples)), abs=0.02)


def test_a_model_of_full_precision_is_left_as_it_is() -> None:
    model = checkpoints.load_checkpoint(trained("multiclass").best_model)
    ready, notes = export.ready_for_export(model)
    assert notes == ()
    assert ready.layers == model.layers
