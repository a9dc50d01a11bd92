"""`cnnbench export`: what is written computes the same, or says that it does not."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import keras
import numpy as np
import pytest
from data_files import write_pictures
from inspection_runs import spec_of, trained
from PIL import Image
from scipy.special import softmax

from cnnbench import open_run
from cnnbench.data import Split
from cnnbench.errors import CnnbenchError
from cnnbench.inference import export, formats, quantization
from cnnbench.inference.export import export_run
from cnnbench.inference.model_card import card
from cnnbench.inference.quantization import Attempt, LayerError, Quantize
from cnnbench.nn import checkpoints, layers_of
from cnnbench.runs import Decision, conformal
from cnnbench.runs.folder import RunFolder

needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("tf2onnx") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="needs the extra cnnbench[onnx]",
)
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs the extra cnnbench[openvino]"
)
FORMATS = [
    pytest.param("onnx", marks=needs_onnx),
    "saved_model",
    "tflite",
    pytest.param("openvino", marks=needs_openvino),
]


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
    with formats.quiet():
        compute = formats.RUNNERS[to](result.path)
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
    with formats.quiet():
        compute = formats.RUNNERS["tflite"](result.path)
        assert compute(np.zeros((2, 8, 8, 1), np.float32)).dtype == np.float32


VALUE = Decision("regression", ("value",))
SETS = {"coverage": 0.9, "score": "1 - probability", "quantile": 0.6, "examples": 9}


def test_quantized_regression_is_judged_by_its_scale() -> None:
    expected = np.array([[200.0], [-300.0]])
    split = Split(np.zeros((2, 1)), expected[:, 0])
    for quantize, off, passed in (("none", 0.2, True), ("none", 0.4, False), ("int8_full", 29.0, True)):
        result = export.compare(VALUE, split, expected, expected + off, quantize)
        assert result.passed is passed
        assert (result.metric, result.of_keras) == ("rmse", 0.0)
        assert result.value == pytest.approx(off)


def test_each_target_is_judged_by_its_own_scale() -> None:
    expected = np.array([[1000.0, 0.2], [3000.0, 0.4]])
    off = np.array([1.0, 0.01])  # within a thousandth of the first, not of the second
    split = Split(np.zeros((2, 1)), expected)
    assert not export.compare(VALUE, split, expected, expected + off, "none").passed
    assert export.compare(VALUE, split, expected, expected + off * [1, 0.03], "none").passed


def test_small_values_are_judged_by_their_scale_too() -> None:
    expected = np.array([[2e-4], [-3e-4]])
    split = Split(np.zeros((2, 1)), expected[:, 0])
    assert not export.compare(VALUE, split, expected, np.zeros((2, 1)), "none").passed
    assert export.compare(VALUE, split, expected, expected * 1.0005, "none").passed
    both = np.hstack([expected, 1e4 * expected])
    split = Split(np.zeros((2, 1)), both)
    assert not export.compare(VALUE, split, both, both * [0, 1], "none").passed
    assert export.compare(VALUE, split, both * [0, 1], both * [0, 1], "none").passed


def test_half_precision_that_loses_is_not_the_same() -> None:
    outputs, y = np.linspace(0.3, 0.7, 200)[:, None], np.arange(200) // 100
    split, decision = Split(np.zeros((200, 1)), y), Decision("binary", ("a", "b"))
    measured = np.where(np.abs(outputs - 0.5) < 0.024, 1 - outputs, outputs)
    result = export.compare(decision, split, outputs, measured, "float16")
    assert result.passed
    assert export.verdict_on(result, "float16").startswith("accuracy falls by 0.1200, at 95 % by 0.0")


def test_a_quantized_file_has_sets_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "differences", lambda *_: [])
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    x = softmax(12 * np.eye(3)[y] + 1.5 * rng.normal(size=(600, 3)), axis=1)

    def eight_bits(batch: np.ndarray) -> np.ndarray:
        return np.minimum(np.round(batch * 256), 255) / 256  # 1 cannot be written

    dataset: Any = SimpleNamespace(calibration=Split(x[:300], y[:300]))
    of_keras = conformal.calibrated("multiclass", y[:300], x[:300], 0.95)
    decision = Decision("multiclass", ("a", "b", "c"), conformal=of_keras)
    assert conformal.sets(of_keras, eight_bits(x[300:])).sum() == 0
    found, notes = export._with_sets_of_its_own(decision, trained("multiclass"), dataset, eight_bits)
    assert "calibrated anew" in notes[0]
    checked = conformal.coverage_of(found.conformal, "multiclass", y[300:], eight_bits(x[300:]))
    assert checked["coverage"] >= 0.95
    monkeypatch.setattr(export, "differences", lambda *_: ["other data"])
    found, notes = export._with_sets_of_its_own(decision, trained("multiclass"), dataset, eight_bits)
    assert not found.conformal
    assert "left out" in notes[0]


def test_sets_without_their_examples_stay_with_the_float_file_alone(run: RunFolder) -> None:
    run.write_decision(replace(run.decision, conformal=SETS))
    for quantize, kept in (("none", SETS), ("float16", {})):
        result = export_run(run, spec_of(run), "tflite", quantize=cast("Quantize", quantize))
        about = json.loads(result.record.read_text())
        assert about["decision"]["conformal"] == kept
        assert ("sets that hold" in result.card.read_text()) == bool(kept)
        assert any("left out" in note for note in result.notes) == (not kept)


def wrong_in(classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """200 examples that Keras has right but for ten, and outputs with another class for some of the right."""
    y = np.arange(200) % 10
    expected = np.eye(10)[np.where(np.arange(200) < 10, (y + 1) % 10, y)]
    measured = expected.copy()
    measured[-classes:] = np.roll(measured[-classes:], 1, axis=1)
    return y, expected, measured


DIGITS = Decision("multiclass", tuple("0123456789"))


def test_what_eight_bits_reach_is_measured_whatever_the_verdict() -> None:
    for classes, passed in ((10, True), (11, False)):
        y, expected, measured = wrong_in(classes)
        result = export.compare(DIGITS, Split(np.zeros((200, 1)), y), expected, measured, "int8_full")
        assert result.passed is passed
        assert result.agreement == 200 - classes
        assert (result.of_keras, result.value) == pytest.approx((0.95, 0.95 - classes / 200))
        assert result.interval is not None
        assert result.interval.low < result.value < result.interval.high
        assert result.lost == pytest.approx(classes / 200)
        verdict = export.verdict_on(result, "int8_full")
        assert re.fullmatch(
            rf"accuracy falls by {classes / 200:.4f}, at 95 % by 0.0[12]\d+ to 0.0[89]\d+", verdict
        )


def test_examples_that_cannot_tell_a_loss_are_no_proof_that_there_is_none() -> None:
    y, expected = (one[:100] for one in wrong_in(1)[:2])
    for times, verdict in (
        (1, "no loss is seen on 100 examples, but"),
        (10, "accuracy falls by no more than 0.00"),
    ):
        split = Split(np.zeros((100 * times, 1)), np.tile(y, times))
        same = np.tile(expected, (times, 1))
        assert export.verdict_on(export.compare(DIGITS, split, same, same, "int8"), "int8").startswith(
            verdict
        )


def test_a_loss_that_may_be_chance_is_said_as_such() -> None:
    y, expected, measured = wrong_in(2)
    result = export.compare(DIGITS, Split(np.zeros((200, 1)), y), expected, measured, "int8_full")
    assert export.verdict_on(result, "int8_full") == (
        "accuracy falls by 0.0100 on 200 examples: at 95 % between a gain of 0.0068 and a loss of 0.0267"
    )


def test_the_interval_of_a_loss_holds_it_as_often_as_it_says() -> None:
    generator, held, draws = np.random.default_rng(0), 0, 400
    for _ in range(draws):  # Keras has 0.9; the file loses 0.06 of it, and gains 0.02 elsewhere
        y = generator.integers(0, 2, 150)
        right = generator.random(150) < 0.9
        other = np.where(right, generator.random(150) >= 0.06 / 0.9, generator.random(150) < 0.02 / 0.1)
        both = tuple(np.eye(2)[np.where(one, y, 1 - y)] for one in (right, other))
        found = export.lost_interval("multiclass", Split(np.zeros((150, 1)), y), both, "accuracy")
        assert found is not None
        held += found.low <= 0.04 <= found.high
    assert 0.92 <= held / draws <= 0.99


def test_groups_widen_the_interval_of_a_loss() -> None:
    y, expected, measured = wrong_in(20)
    alone = export.lost_interval("multiclass", Split(np.zeros((200, 1)), y), (expected, measured), "accuracy")
    split = Split(np.zeros((200, 1)), y, groups=np.arange(200) // 20)
    whole = export.lost_interval("multiclass", split, (expected, measured), "accuracy")
    assert alone is not None
    assert whole is not None
    assert whole.high - whole.low > 1.5 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("off", "reached"),
    [(0.002, "{accuracy:.4f} ("), (float("nan"), "NaN or infinite, of Keras {accuracy:.4f}")],
)
def test_what_differs_is_kept_and_told(
    run: RunFolder, run_cli: Any, off: float, reached: str, monkeypatch: Any
) -> None:
    right = formats.RUNNERS["saved_model"]

    def wrong(path: Path) -> formats.Compute:
        compute = right(path)
        return lambda batch: compute(batch) + np.float32(off)

    monkeypatch.setitem(formats.RUNNERS, "saved_model", wrong)
    done = run_cli("export", str(run.path), "--format", "saved_model")
    assert done.exit_code == 3
    path, score, _, _, verdict = done.out.splitlines()
    assert path.startswith(f"{run.path}/exports/saved_model  (")
    assert reached.format(**run.metrics["metrics"]["test"]) in score
    assert verdict == "FAIL: kept, for you to judge"
    assert (run.path / "exports" / "saved_model" / "saved_model.pb").is_file()
    names = sorted(place.name for place in (run.path / "exports").iterdir())
    assert names == ["saved_model", "saved_model.json", "saved_model.md"]
    assert "does not agree" in (run.path / "exports" / "saved_model.md").read_text()


def test_of_few_examples_one_may_differ() -> None:
    y = np.arange(8) % 2
    expected, measured = np.eye(2)[y], np.eye(2)[y]
    for wrong, passed in ((1, True), (2, False)):
        measured[wrong - 1] = measured[wrong - 1][::-1]
        split = Split(np.zeros((8, 1)), y)
        assert export.compare(DIGITS, split, expected, measured, "int8_full").passed is passed


@pytest.mark.parametrize("quantize", ["float16", "int8"])
def test_a_quantized_file_that_fails_is_kept(
    run: RunFolder, quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = formats.RUNNERS["tflite"]
    monkeypatch.setitem(
        formats.RUNNERS, "tflite", lambda path: lambda batch: np.roll(right(path)(batch), 1, 1)
    )
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
    path, score, measured, about, verdict = done.out.splitlines()
    assert path.startswith(f"{run.path}/exports/model.tflite")
    accuracy = run.metrics["metrics"]["test"]["accuracy"]
    assert score.startswith(f"accuracy on 60 test examples: {accuracy:.4f} (0.")
    assert f", of Keras {accuracy:.4f} (0." in score
    assert "same class for 60 of 60" in measured
    assert about == f"model card: {run.path}/exports/model.tflite.md"
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
        (["--format", "onnx", "--quantize", "int8"], "--quantize int8 is for --format tflite or openvino"),
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
    def refuse(model: Any, to: str, path: Path, **rest: Any) -> None:
        path.write_text("half")
        raise ValueError("\n no such operation: FFT\n and a page of C++")

    monkeypatch.setattr(formats, "write", refuse)
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
    ready, notes = formats.ready_for_export(mixed)
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
    ready, notes = formats.ready_for_export(mixed)
    calculating = (keras.layers.Dense, keras.layers.Activation, keras.layers.Average)
    layers = [layer for layer in layers_of(ready) if isinstance(layer, calculating)]
    assert {layer.compute_dtype for layer in layers} == {"float32"}
    assert len(layers) == 3
    assert "mixed_bfloat16" in notes[0]
    examples = np.array([[5.0, 1, 2, 3]])
    assert np.asarray(ready(examples)) == pytest.approx(np.asarray(mixed(examples)), abs=0.02)


def test_a_model_of_full_precision_is_left_as_it_is() -> None:
    model = checkpoints.load_checkpoint(trained("multiclass").best_model)
    ready, notes = formats.ready_for_export(model)
    assert notes == ()
    assert ready.layers == model.layers


# -- What a file says of itself ---------------------------------------------------------------------


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("run", ["binary", "multilabel"], indirect=True)
def test_every_format_decides_as_predict_does(run: RunFolder, to: Any) -> None:
    test = spec_of(run).dataset().test
    outputs = checkpoints.load_checkpoint(run.best_model).predict(test.x.astype(np.float32), verbose=0)
    between = tuple(float(one) for one in np.quantile(outputs, 0.7, axis=0))  # far from 0.5, and between two
    decision = replace(run.decision, thresholds=between, aim="f1", temperature=1.5)
    run.write_decision(decision)
    result = export_run(run, spec_of(run), to)
    with formats.quiet():
        computed = formats.RUNNERS[to](result.path)(test.x.astype(np.float32))
        about = formats.told(result.path, to)
    stored = Decision.from_dict(about["decision"])
    assert stored == decision
    decide = Decision.labels if decision.task == "multilabel" else Decision.classes
    clear = (np.abs(outputs - np.array(between)) > 1e-4).all(axis=1)
    assert clear.sum() > 50
    assert (decide(stored, computed)[clear] == decide(decision, outputs)[clear]).all()
    assert (decide(decision, outputs) != decide(replace(decision, thresholds=None), outputs)).any()
    np.save(run.path.parent / "rows.npy", test.x)
    answered = [
        one for some in open_run(run.path).predictions([str(run.path.parent / "rows.npy")]) for one in some
    ]
    for answer, row, is_clear in zip(answered, decide(stored, computed), clear, strict=True):
        if is_clear and decision.task == "multilabel":
            assert set(answer.labels) == {decision.names[at] for at in np.flatnonzero(row)}
        elif is_clear:
            assert answer.label == decision.names[row]
    assert json.loads(result.record.read_text()) == about


def test_figures_of_a_file_are_at_the_threshold() -> None:
    outputs, y = np.array([[0.1], [0.3], [0.4], [0.9]]), np.array([0, 1, 1, 1])
    split = Split(np.zeros((4, 1)), y)
    for thresholds, accuracy in ((None, 0.5), ((0.2,), 1.0)):
        decision = Decision("binary", ("no", "yes"), thresholds)
        assert export.compare(decision, split, outputs, outputs, "none").value == accuracy


def picture_run(folder: Path, run_cli: Any, *more: str) -> RunFolder:
    write_pictures(folder / "pics", "cat", "dog")
    line = ("dataset=image_folder", f"dataset.root={folder / 'pics'}", "dataset.size=24", "training=smoke")
    small = ("model.filters=[4]", "model.dense_units=[8]", "device=cpu", f"run_dir={folder / 'run'}")
    assert run_cli(*line, *small, *more).exit_code == 0
    return RunFolder(folder / "run")


Answer = Callable[[export.Export, Path], str]


@pytest.fixture
def answer_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answer:
    """Runs the lines of a model card, in the folder of their file, on an input; returns what they print."""

    def answer(result: export.Export, given: Path) -> str:
        (code,) = re.findall(r"^```python\n(.*?)^```", result.card.read_text(), re.DOTALL | re.MULTILINE)
        monkeypatch.chdir(result.path.parent)
        monkeypatch.setattr(sys, "argv", ["card.py", str(given)])
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
            exec(compile(code, "card.py", "exec"), {})
        return capsys.readouterr().out

    return answer


@pytest.mark.parametrize(
    ("to", "resize"),
    [
        pytest.param("onnx", "pad", marks=needs_onnx),
        ("saved_model", "stretch"),
        ("tflite", "crop"),
        pytest.param("openvino", "stretch", marks=needs_openvino),
    ],
)
def test_the_lines_of_a_card_answer_as_predict_does(
    to: Any, resize: str, tmp_path: Path, run_cli: Any, answer_of: Answer
) -> None:
    run = picture_run(tmp_path, run_cli, f"dataset.resize={resize}")
    noise = np.random.default_rng(0).integers(0, 256, (300, 410, 3), np.uint8)
    Image.fromarray(noise).resize((410, 300)).save(tmp_path / "photo.jpg")
    ((expected,),) = open_run(run.path).predictions([str(tmp_path / "photo.jpg")])
    probability = expected.probabilities["dog"]
    label, threshold = ("cat", probability + 1e-3) if probability > 0.5 else ("dog", probability - 1e-3)
    run.write_decision(replace(run.decision, thresholds=(threshold,), aim="recall=0.95", conformal=SETS))
    result = export_run(run, spec_of(run), to)
    answer = answer_of(result, tmp_path / "photo.jpg")
    possible = [name for name in ("cat", "dog") if expected.probabilities[name] >= 0.4]
    assert answer == f"{label} dog: {probability:.4f}\nset: {possible}\n"  # the other one by 0.5
    text = result.card.read_text()
    assert "recall=0.95" in text
    assert "no pretrained weights" in text
    assert str(tmp_path) not in text + result.record.read_text()


@pytest.mark.parametrize("run", ["multiclass", "multilabel", "regression", "targets"], indirect=True)
def test_the_lines_of_a_card_run_for_every_task(run: RunFolder, answer_of: Answer) -> None:
    has_range = run.decision.task == "regression" and len(run.decision.names) <= 1
    if has_range:
        run.write_decision(replace(run.decision, conformal={**SETS, "quantile": 2.0}))
    result = export_run(run, spec_of(run), "tflite")
    x = spec_of(run).dataset().test.x[:1].astype(np.float32)
    np.save(run.path.parent / "one.npy", x)
    outputs = checkpoints.load_checkpoint(run.best_model).predict(x, verbose=0)[0]
    text = result.card.read_text()
    if "image = Image.open" in text:
        text = re.sub(
            r"def read\(path\):.*?return .*?$", "read = np.load", text, flags=re.DOTALL | re.MULTILINE
        )
        result.card.write_text(text)
    numbers = [
        float(one)
        for one in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", answer_of(result, run.path.parent / "one.npy"))
    ]
    wanted = outputs.max() if run.decision.task == "multiclass" else outputs
    if has_range:
        assert "ranges that hold the value of 90 in 100 examples" in text
        wanted = outputs[0] + np.array([0, -2, 2])
    assert numbers == pytest.approx(np.ravel(wanted), rel=1e-3, abs=1e-3)


def test_a_card_names_the_licence_of_a_backbone_and_what_was_tried(run: RunFolder) -> None:
    about = json.loads(export_run(run, spec_of(run), "tflite", quantize="int8").record.read_text())
    about["backbone"] = {"name": "EfficientNetLite0", "weights": "ImageNet", "licence": "Apache-2.0"}
    about["decision"] = {**about["decision"], "temperature": 1.5, "conformal": {"coverage": 0.995}}
    text = card(about)
    assert "backbone: EfficientNetLite0, weights: ImageNet, licence: Apache-2.0" in text
    assert "the logits are divided by 1.5" in text
    assert "sets that hold the true class of 99.5 in 100 examples" in text
    assert "| weights and activations in 8 bits |" in text
    for split in ("accuracy", "c0" if "c0" in about["decision"]["names"] else about["decision"]["names"][0]):
        assert f"| {split} | " in text


# -- Eight bits -------------------------------------------------------------------------------------


def wide_network() -> keras.Model:
    """A network that multiplies one channel by a thousand: in eight bits the other factors are 0."""
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="first")(inputs)
    deviations = np.array([1e-3, 1, 1, 1], np.float32)
    x = keras.layers.Normalization(mean=np.zeros(4), variance=deviations**2, name="scaled")(x)
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="last")(x))
    generator = np.random.default_rng(0)
    kernel, bias, last, _ = model.trainable_weights
    kernel.assign(generator.normal(0, 0.6, kernel.shape) * deviations)
    bias.assign(np.full(4, 0.5) * deviations)
    last.assign(generator.normal(0, 0.6, last.shape))
    return model


def test_the_layer_that_loses_is_named_and_stays_in_float32() -> None:
    model, x = wide_network(), np.random.default_rng(1).normal(0, 1, (64, 6, 6, 1)).astype(np.float32)
    expected = model.predict(x, verbose=0)
    with formats.quiet(), formats.saved(model) as source:
        layers = quantization.layer_errors(source, x, [layer.name for layer in model.layers])
        worst = max(layers, key=lambda one: one.steps)
        assert worst.layer == "scaled"
        assert worst.steps > 3

        def agreement(content: bytes, path: Path = source.parent / "m.tflite") -> float:
            path.write_bytes(content)
            return float((formats.RUNNERS["tflite"](path)(x).argmax(1) == expected.argmax(1)).mean())

        def attempt(content: bytes, one: Attempt) -> Attempt:
            share = agreement(content)
            return replace(
                one, agreement=share, size=len(content), reason="" if share >= 0.95 else "too little"
            )

        tried, kept = quantization.quantized(source, "int8", x, layers, attempt)
    assert [one.scheme for one in tried[:2]] == ["int8_full", "int8_mixed"]
    assert tried[0].reason == "too little"
    assert [one.kept for one in tried] == [*[False] * (len(tried) - 1), True]
    assert tried[-1].scheme == "int8_mixed"
    assert worst.layer in tried[-1].words
    assert len(kept) == tried[-1].size


@pytest.mark.parametrize("way", ["int8_full", "int8_mixed", "int16x8", "int8_weights"])
@pytest.mark.parametrize("to", ["tflite", pytest.param("openvino", marks=needs_openvino)])
def test_each_way_can_be_asked_for(run: RunFolder, way: Any, to: Any) -> None:
    result = export_run(run, spec_of(run), to, quantize=way)
    assert result.scheme == way
    assert [one.scheme for one in result.tried] == [way]
    assert result.passed
    assert result.layers[0].steps == max(one.steps for one in result.layers)
    assert re.fullmatch(r"\d+ validation and \d+ training examples", result.chosen_on)
    assert formats.told(result.path, to)["export"]["scheme"] == way


def test_the_next_way_is_taken_where_one_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layers = [LayerError("a", "CONV_2D", 5.0, "t/a"), LayerError("b", "CONV_2D", 0.3, "t/b")]

    def convert(source: Path, scheme: str, calibration: Any, floats: Sequence[str] = ()) -> bytes:
        if scheme != "int8_weights":
            raise ValueError(f"no {scheme}\n and a page of C++")
        return b"model"

    monkeypatch.setattr(quantization, "convert", convert)
    x = np.zeros((2, 1), np.float32)
    tried, kept = quantization.quantized(
        tmp_path, "int8", x, layers, lambda content, one: replace(one, size=len(content), agreement=1.0)
    )
    assert kept == b"model"
    assert [one.reason for one in tried[:2]] == [
        *("it cannot be made: no int8_full", "it cannot be made: no int8_mixed")
    ]
    assert tried[-1].kept
    with pytest.raises(ValueError, match="no int16x8"):
        quantization.quantized(tmp_path, "int16x8", x, layers, lambda content, one: one)


def test_of_ways_that_all_lose_the_best_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(quantization, "convert", lambda source, scheme, *rest: scheme.encode())
    shares = {b"int8_full": 0.2, b"int8_mixed": 0.5, b"int16x8": 0.9, b"int8_weights": 0.6}
    tried, kept = quantization.quantized(
        *(tmp_path, "int8", np.zeros((2, 1)), [LayerError("a", "ADD", 1.0, "t/a")]),
        lambda content, one: replace(one, size=1, agreement=shares[content], reason="too little"),
    )
    assert kept == b"int16x8"
    assert [one.scheme for one in tried if one.kept] == ["int16x8"]


def test_a_tensor_belongs_to_the_layer_of_its_name() -> None:
    names = ["conv_1", "conv_1_bn", "conv_1_relu"]
    fused = "cnn_1/conv_1_relu_1/Relu;cnn_1/conv_1_bn_1/batchnorm/add_1;cnn_1/conv_1_1/convolution"
    assert quantization.layer_of(fused, names) == "conv_1_relu"
    assert quantization.layer_of("cnn_1/conv_1_1/convolution", names) == "conv_1"
    assert quantization.layer_of("StatefulPartitionedCall_1:0", names) is None


@needs_openvino
@pytest.mark.parametrize("quantize", ["none", "float16"])
def test_openvino_has_the_bits_that_it_was_asked_for(run: RunFolder, quantize: Quantize) -> None:
    result = export_run(run, spec_of(run), "openvino", quantize=quantize)
    assert result.passed
    parameters = run.metrics["cost"]["parameters"]
    size = (result.path / "model.bin").stat().st_size
    assert size == pytest.approx(parameters * (4 if quantize == "none" else 2), rel=0.2)
