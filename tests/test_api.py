"""The public API: what a notebook and the command line make runs with."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Outcome

import cnnbench
from cnnbench.errors import CnnbenchError
from cnnbench.runs import RunFolder


@pytest.fixture
def done(folder: Path, finished_run: Path) -> cnnbench.Run:
    return cnnbench.open_run(finished_run)


def test_importing_the_package_imports_and_changes_nothing(run_python: Callable[..., Outcome]) -> None:
    code = (
        "import sys; before = list(sys.meta_path), list(sys.path_hooks); import cnnbench; "
        "print({'tensorflow', 'keras', 'numpy', 'hydra'} & set(sys.modules), "
        "before == (sys.meta_path, sys.path_hooks), *sorted(cnnbench.__all__))"
    )
    names = "Comparison Dataset Run RunSpec compare compose diff doctor ensemble open_run probe run sweep"
    assert run_python(code).out.strip() == f"set() True {names}"


def test_everything_public_is_typed_and_documented() -> None:
    for name in cnnbench.__all__:
        public = getattr(cnnbench, name)
        members = vars(public).items() if isinstance(public, type) and name in ("Run", "Comparison") else ()
        for label, member in (*((name, public),), *members):
            if label.startswith("_") or not callable(getattr(member, "fget", member)):
                continue
            function = getattr(member, "fget", member)
            assert function.__doc__, f"{name}.{label}"
            if callable(function) and not isinstance(function, type):
                assert "return" in function.__annotations__, f"{name}.{label}"


def test_a_run_gives_all_that_is_known_of_it(done: cnnbench.Run) -> None:
    assert done.status == "done"
    assert done.metrics["test_accuracy"] == done.result["metrics"]["test"]["accuracy"]
    assert [entry["epoch"] for entry in done.history] == [1]
    assert done.name == "cnn_synthetic"
    assert done.config["training"]["epochs"] == 1
    assert repr(done).startswith(f"<Run {done.folder}: val_accuracy ")
    assert set(done.figures) >= {"learning_curves"}


def test_a_run_predicts_what_its_model_says(done: cnnbench.Run, tmp_path: Path) -> None:
    x = done.spec().dataset().test.x[:5]
    found = done.predict(x)
    assert found.shape == (5, len(done.class_names))
    np.testing.assert_allclose(found, done.model().predict(x, verbose=0), atol=1e-6)
    np.save(tmp_path / "x.npy", x)
    np.testing.assert_allclose(done.predict(tmp_path / "x.npy"), found, atol=1e-6)
    assert done.predict(x[:0]).shape == (0, len(done.class_names))
    with pytest.raises(CnnbenchError, match="this model takes n×8×8"):
        done.predict(x[:, :4])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(CnnbenchError, match=r"broken\.png"):
        done.predict([tmp_path / "broken.png"])


def test_a_run_is_verified_and_evaluated(done: cnnbench.Run) -> None:
    assert done.verify().passed
    assert done.evaluate(split="val").metrics["accuracy"] == pytest.approx(done.metrics["val_accuracy"])


def test_a_run_shows_itself_in_a_notebook(done: cnnbench.Run, folder: Path) -> None:
    text = done._repr_html_()
    assert "data:image/png" in text
    assert "<html" not in text
    (folder / "begun").mkdir()
    (folder / "begun" / "config.yaml").write_text("name: <b>\n")
    begun = cnnbench.open_run(folder / "begun")
    assert "unfinished" in begun._repr_html_()
    with pytest.raises(CnnbenchError, match="no finished run"):
        begun.metrics  # noqa: B018


def test_a_notebook_shows_figures_without_pyplot_and_an_error_in_two_lines(done: cnnbench.Run) -> None:
    figure: Any = done.figures["learning_curves"]
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(CnnbenchError) as caught:
        cnnbench.compose("modle=cnn")
    said, hint = caught.value._render_traceback_()
    assert said == "error: there is no key modle"
    assert hint.startswith("hint: did you mean model?")


def test_a_frame_needs_pandas_and_says_so(done: cnnbench.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    assert list(done.to_frame().index) == [1]
    assert isinstance(cnnbench.compare(done).to_frame(), pandas.DataFrame)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CnnbenchError, match="pandas is not installed"):
        done.to_frame()


def test_runs_are_compared_as_on_the_command_line(done: cnnbench.Run) -> None:
    found = cnnbench.compare([done])
    assert [run.folder.resolve() for run in found.best] == [done.folder.resolve()]
    (row,) = found.table
    assert math.isclose(float(row["mean"]), done.result["value"])
    assert repr(found) == "\n".join(found.answers)
    assert "<table" in found._repr_html_()
    with pytest.raises(CnnbenchError, match="does not exist"):
        cnnbench.compare("nowhere")


def test_values_are_typed_as_python_has_them(folder: Path) -> None:
    (folder / "my data, 'old'").mkdir()
    spec = cnnbench.compose(
        "model=cnn", seed=3, name="mine", data_dir="my data, 'old'", **{"model.filters": [4, 8]}
    )
    assert (spec.seed, spec.name, spec.config["model"]["filters"]) == (3, "mine", [4, 8])
    assert Path(spec.config["data_dir"]) == folder / "my data, 'old'"
    with pytest.raises(CnnbenchError, match="there is no key sed"):
        cnnbench.compose(sed=1)
    assert len(list(folder.iterdir())) == 1


def test_a_changed_spec_writes_its_changes_into_its_config(folder: Path) -> None:
    from cnnbench.models.mlp import mlp

    spec = cnnbench.compose(*TINY, run_dir="run")
    changed = replace(
        spec,
        seed=5,
        model=partial(mlp, units=[8]),
        learning_rate=0.02,
        training=spec.training.model_copy(update={"epochs": 2}),
    )
    run = cnnbench.run(changed, verbose=False)
    assert run.config["seed"] == 5
    assert run.config["model"].items() >= {"_target_": "cnnbench.models.mlp.mlp", "units": [8]}.items()
    assert run.config["optimizer"]["learning_rate"] == 0.02
    assert len(run.history) == 2
    assert run.verify().passed
    assert run.spec().training.epochs == 2
    again = cnnbench.run(replace(run.spec(), run_dir=Path("again")), verbose=False)
    assert again.metrics == run.metrics


def test_a_spec_that_is_not_changed_keeps_its_config() -> None:
    spec = cnnbench.compose("experiment=best/cifar10_94")
    assert cnnbench.api.config.written_config(spec) == spec.config


def test_a_function_of_ones_own_becomes_a_plugin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "import keras\n\ndef tiny(input_shape, outputs, width: int = 4):\n"
        "    inputs = keras.Input(input_shape)\n    x = keras.layers.Flatten()(inputs)\n"
        "    return keras.Model(inputs, keras.layers.Dense(outputs)(keras.layers.Dense(width)(x)))\n"
    )
    (folder / "own_model_of_api.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    module: Any = __import__("own_model_of_api")
    spec = replace(cnnbench.compose(*TINY, run_dir="run"), model=partial(module.tiny, width=3))
    run = cnnbench.run(spec, verbose=False)
    assert run.config["plugins"] == [str(folder / "own_model_of_api.py")]
    assert run.config["model"] == {"_target_": "own_model_of_api.tiny", "width": 3}
    assert cnnbench.open_run("run").verify().passed


def test_a_class_that_could_not_be_loaded_again_is_refused_before_the_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import keras\n\nclass Opt(keras.optimizers.SGD):\n    pass\n"
    (folder / "own_optimizer_of_api.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    module: Any = __import__("own_optimizer_of_api")
    spec = replace(cnnbench.compose(*TINY, run_dir="run"), optimizer=partial(module.Opt, momentum=0.5))
    with pytest.raises(CnnbenchError, match=r"own_optimizer_of_api\.Opt is not registered") as refused:
        cnnbench.run(spec, verbose=False)
    assert "register_keras_serializable" in refused.value.hint
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("part", "words"),
    [(lambda **_: None, "cannot be written down"), (partial(print, 1), "cannot be written down")],
)
def test_what_cannot_be_repeated_is_refused(part: Any, words: str, folder: Path) -> None:
    with pytest.raises(CnnbenchError, match=words):
        cnnbench.run(replace(cnnbench.compose(*TINY, run_dir="run"), model=part))
    assert not (folder / "run").exists()


def test_a_spec_takes_no_overrides(folder: Path) -> None:
    with pytest.raises(CnnbenchError, match=r"dataclasses\.replace"):
        cnnbench.run(cnnbench.compose(*TINY), "seed=1")


def test_wrong_input_leaves_nothing(folder: Path) -> None:
    with pytest.raises(CnnbenchError, match="there is no key sed"):
        cnnbench.run("sed=1")
    with pytest.raises(CnnbenchError):
        cnnbench.run(*TINY, "dataset.examples=10", "training.validation_fraction=0.9", run_dir="run")
    assert list(folder.iterdir()) == []


def test_a_sweep_gives_its_runs_in_order(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = cnnbench.sweep(*TINY, seed=(0, 1))
    assert [run.config["seed"] for run in runs] == [0, 1]
    assert [run.status for run in runs] == ["done", "done"]
    assert len(cnnbench.compare(runs).table) == 1


def test_a_run_that_was_interrupted_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: RunFolder, page: str) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_report", fail)
        with pytest.raises(OSError, match="no space"):
            cnnbench.run(*TINY, run_dir="run", verbose=False)
    run = cnnbench.open_run("run")
    assert run.status == "failed"
    assert run.resume(verbose=False).status == "done"
