"""Features of a frozen backbone: each picture computed once, whoever asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cnnbench import system
from cnnbench.data.batches import Feed
from cnnbench.data.dataset import Rows, Split
from cnnbench.data.sources.synthetic import synthetic
from cnnbench.nn.folding import folded
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.spec import Calibration, RunSpec, Training
from cnnbench.training import features, measure, run
from cnnbench.training.callbacks import BestCheckpoint
from cnnbench.training.features import cached_features, features_of

seen: list[bytes] = []  # the pictures that went through a `Watched` backbone


@keras.saving.register_keras_serializable("test_features")
class Watched(layers.Layer):
    """Notes every picture that is computed, in whatever graph."""

    def call(self, x: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(note, [x], tf.float32), x.shape)


def note(x: np.ndarray) -> np.ndarray:
    seen.extend(one.astype(np.uint8).tobytes() for one in x)
    return x


@pytest.fixture(autouse=True)
def cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "KNOWN", (*features.KNOWN, "test_features"))
    monkeypatch.setattr(features, "_forwards", type(features._forwards)())
    seen.clear()
    return tmp_path / "cache" / "features"


def transfer(input_shape: tuple[int, ...], outputs: int) -> keras.Model:
    """A frozen backbone with its statistics, features that are scaled, and a head."""
    x = inputs = keras.Input(input_shape)
    x = Watched()(x)
    x = layers.Conv2D(6, 3, use_bias=False, name="convolution")(x)
    x = layers.BatchNormalization(name="normalization")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(layers.ReLU()(x))
    x = layers.BatchNormalization(scale=False, name="after")(x)
    x = layers.GlobalAveragePooling2D(name="features", dtype="float32")(layers.ReLU()(x))
    x = layers.Normalization(name="features_scaling")(x)
    model = keras.Model(inputs, layers.Dense(outputs)(x), name="transfer_watched")
    random = np.random.default_rng(0)
    for name in ("convolution", "normalization", "depthwise", "after"):
        layer = model.get_layer(name)
        layer.set_weights([random.uniform(0.1, 1, weight.shape) for weight in layer.get_weights()])
        layer.trainable = False
    return model


def extractor_of(seed: int = 0) -> keras.Model:
    model = transfer((8, 8, 3), 2)
    extractor = keras.Model(model.inputs[0], model.get_layer("features").output)
    kernel = extractor.get_layer("depthwise").get_weights()
    extractor.get_layer("depthwise").set_weights([kernel[0] + seed, kernel[1]])
    return extractor


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return RunSpec(
        name="transfer_synthetic",
        run_dir=tmp_path / "run",
        dataset=partial(synthetic, examples=120, classes=3, size=8, channels=3),
        model=transfer,
        optimizer=keras.optimizers.Adam,
        learning_rate=0.01,
        callbacks={"checkpoint": partial(BestCheckpoint, monitor="val_loss", mode="min")},
        training=Training(epochs=2, batch_size=16),
    )


def test_a_folded_network_gives_the_same_outputs_with_no_normalisation_left() -> None:
    extractor, x = extractor_of(), pictures(5)
    copy = folded(extractor)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in copy.layers)
    np.testing.assert_allclose(copy.predict(x, verbose=0), extractor.predict(x, verbose=0), rtol=1e-5)


def test_a_normalisation_that_cannot_be_folded_stays() -> None:
    inputs = keras.Input((4, 4, 2))
    shared = layers.Conv2D(3, 1, name="shared")(inputs)
    active = layers.Conv2D(3, 1, activation="relu", name="active")(inputs)
    outputs = [layers.BatchNormalization(moving_mean_initializer="ones")(one) for one in (shared, active)]
    model = keras.Model(inputs, layers.Concatenate()([*outputs, shared]))
    copy, x = folded(model), np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype(np.float32)
    assert sum(isinstance(layer, layers.BatchNormalization) for layer in copy.layers) == 2
    np.testing.assert_allclose(copy.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_no_picture_is_computed_twice_in_two_whole_runs(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CHECKED", 1)
    monkeypatch.setattr(measure, "measure_latency", lambda *_: 1.0)
    dataset = spec.dataset()
    run.run(spec)
    run.run(replace(spec, run_dir=tmp_path / "other", seed=1))
    counts = Counter(seen)
    assert len(counts) == len(dataset.train) + len(dataset.test)
    again = sum(counts.values()) - len(counts)
    assert again <= 6, "beside a picture or two of each held-out split, on which the whole model is asked"


def test_the_figures_are_those_of_the_whole_model(spec: RunSpec, tmp_path: Path) -> None:
    cached = run.run(spec)
    training = spec.training.model_copy(update={"cache_features": False})
    whole = run.run(replace(spec, run_dir=tmp_path / "whole", training=training))
    for split in ("train", "val", "test"):
        figures = cached.metrics["metrics"][split]
        assert figures == pytest.approx(whole.metrics["metrics"][split], rel=1e-4)
    best, dataset = keras.models.load_model(RunFolder(cached.folder).best_model), spec.dataset()
    loss = best.evaluate(dataset.test.x, dataset.test.y, verbose=0, return_dict=True)["loss"]
    assert cached.metrics["metrics"]["test"]["loss"] == pytest.approx(loss, rel=1e-6)


def test_a_temperature_is_fitted_on_the_features_that_are_kept(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CHECKED", 1)
    monkeypatch.setattr(measure, "measure_latency", lambda *_: 1.0)
    monkeypatch.setattr(measure, "fit_temperature", lambda _, y, z, groups: float(np.abs(z).mean()))
    training = spec.training.model_copy(update={"calibration": Calibration(temperature=True)})
    run.run(replace(spec, training=training))
    computed = len(seen)
    run.run(replace(spec, training=training, run_dir=tmp_path / "again"))
    assert len(seen) - computed <= 6, "the features of all pictures are there"
    whole = training.model_copy(update={"cache_features": False})
    run.run(replace(spec, training=whole, run_dir=tmp_path / "whole"))
    both = [RunFolder(path).metrics["decision"] for path in (tmp_path / "again", tmp_path / "whole")]
    assert both[0]["temperature"] == pytest.approx(both[1]["temperature"], rel=1e-3)
    for split in ("val", "test"):
        assert both[0]["uncalibrated"][split] == pytest.approx(both[1]["uncalibrated"][split], rel=1e-3)


def test_features_that_are_not_the_models_own_are_told_and_left_aside(
    spec: RunSpec, caplog: pytest.LogCaptureFixture
) -> None:
    result, dataset = run.run(spec), spec.dataset()
    best = keras.models.load_model(RunFolder(result.folder).best_model)
    feed = Feed(dataset.test, 16)
    expected, _ = measure.Evaluation(best, dataset.task)(feed)
    evaluation = features.EvaluationOnFeatures(best, dataset.task)
    evaluation._extractor = extractor_of(seed=3)  # as if a file held the features of another
    outputs, _ = evaluation(feed)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    assert "other outputs than best.keras" in caplog.text


def test_features_come_in_order_once_for_equal_pictures_and_whatever_the_subset() -> None:
    extractor, x = extractor_of(), pictures(40)
    x[7] = x[31]
    expected = extractor.predict(x, verbose=0)
    seen.clear()
    np.testing.assert_allclose(features_of(extractor, x[:20]), expected[:20], rtol=1e-5)
    np.testing.assert_allclose(features_of(extractor, x[::-1]), expected[::-1], rtol=1e-5)
    rows = Rows(x, np.arange(39, 9, -1))
    np.testing.assert_allclose(features_of(extractor, rows), expected[39:9:-1], rtol=1e-5)
    assert len(seen) == 39


def test_other_weights_precision_or_pixels_are_other_features() -> None:
    x = pictures(6)
    for extractor, given in ((extractor_of(), x), (extractor_of(seed=1), x), (extractor_of(), x + 1)):
        expected = extractor.predict(given, verbose=0)
        np.testing.assert_allclose(features_of(extractor, given), expected, rtol=1e-5)
    name = features._name(extractor_of(), x.dtype)
    assert features._kind(name, None) != features._kind(name, "bfloat16")
    assert features._name(extractor_of(), x.dtype) == name  # although Keras has counted layers on
    assert features._name(extractor_of(), np.dtype("float32")) != name


def broken_after(batches: int) -> Callable[..., Any]:
    made = features.forward_graph

    def graph(model: keras.Model) -> Callable[[Any], Any]:
        forward, left = made(model), iter(range(batches))

        def call(x: Any) -> Any:
            if next(left, None) is None:
                raise system.InterruptedRunError(15)
            return forward(x)

        return call

    return graph


def test_what_was_computed_before_a_stop_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor, x = extractor_of(), pictures(30)
    monkeypatch.setattr(features, "_batch_size", lambda _: 4)
    with monkeypatch.context() as patch:
        patch.setattr(features, "forward_graph", broken_after(3))
        with pytest.raises(system.InterruptedRunError):
            features_of(extractor, x)
    features._forwards.clear()
    assert len(seen) == 12
    np.testing.assert_allclose(features_of(extractor, x), extractor.predict(x, verbose=0), rtol=1e-5)
    assert max(Counter(seen[:30]).values()) == 1


def test_a_damaged_file_is_told_and_made_anew(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    extractor, x = extractor_of(), pictures(10)
    expected = features_of(extractor, x)
    (path,) = cache.iterdir()
    content = bytearray(path.read_bytes())
    content[-len(content) // 3] ^= 255
    path.write_bytes(content)
    np.testing.assert_array_equal(features_of(extractor, x), expected)
    assert "is damaged" in caplog.text
    path.write_bytes(b"")
    np.testing.assert_array_equal(features_of(extractor, x), expected)


WORKER = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
import test_features as tests
from cnnbench.training import features
features.KNOWN = (*features.KNOWN, "test_features")
features.SEGMENT, features._batch_size = 8, lambda _: 8
print("ready", flush=True)
sys.stdin.readline()
np.save(sys.argv[2], features.features_of(tests.extractor_of(), tests.pictures(400)))
"""


def test_two_processes_that_compute_the_same_at_once_both_get_it(tmp_path: Path, cache: Path) -> None:
    here = [str(Path(__file__).parent)]
    paths = [tmp_path / f"{number}.npy" for number in range(2)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *here, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for path in paths
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.communicate("go\n")
        assert worker.returncode == 0
    expected = extractor_of().predict(pictures(400), verbose=0)
    for path in paths:
        np.testing.assert_allclose(np.load(path), expected, rtol=1e-5)
    assert all(path.suffix == ".npz" and not path.name.startswith(".") for path in cache.iterdir())


@pytest.mark.parametrize("place", ["none", "/dev/null/cache"])
def test_without_a_cache_features_are_computed_all_the_same(
    place: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("CNNBENCH_CACHE", place)
    extractor, x = extractor_of(), pictures(10)
    expected = extractor.predict(x, verbose=0)
    np.testing.assert_allclose(features_of(extractor, x), expected, rtol=1e-5)
    assert not (folder / "none").exists()


def test_a_layer_of_ones_own_whose_code_may_change_is_never_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "KNOWN", ("keras", "cnnbench"))
    features_of(extractor_of(), pictures(3))
    assert not cache.exists()


def test_features_that_are_many_are_mapped_and_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "IN_MEMORY", 0)
    x = pictures(20)
    split = Split(x, np.arange(20), weights=np.ones(20, np.float32), names=[str(one) for one in range(20)])
    feed = cached_features(extractor_of(), Feed(split, 8, seed=3, weights=split.weights))
    assert isinstance(feed.split.x, Rows)
    assert feed.split.names == split.names
    expected = extractor_of().predict(x, verbose=0)
    for found, y, weights in feed.dataset:
        np.testing.assert_allclose(found, expected[y.numpy()], rtol=1e-5)
        assert weights.numpy().all()


def timed(times: dict[str, float]) -> Callable[..., dict[str, float]]:
    return lambda *_: times


@pytest.mark.parametrize(
    ("short", "change", "expected"),
    [(0.5, 0.01, "bfloat16"), (0.95, 0.01, None), (0.5, 0.2, None)],
)
def test_bfloat16_is_taken_where_it_is_faster_and_as_good_and_that_is_remembered(
    short: float, change: float, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "has_bfloat16", lambda: True)
    monkeypatch.setattr(features, "WORTH", 0)
    monkeypatch.setattr(features, "_tried", timed({"float32": 1.0, "bfloat16": short, "change": change}))
    x, extractor = pictures(8), extractor_of()
    name = features._name(extractor, x.dtype)
    assert features._settled(extractor, name, x) == expected
    monkeypatch.setattr(features, "_tried", timed({}))  # it is not measured again
    assert features._settled(extractor, name, x) == expected
    found = features_of(extractor, x)
    np.testing.assert_allclose(found, extractor.predict(x, verbose=0), rtol=0.05)
    assert features_of(extractor, x, precision="float32").dtype == found.dtype == np.float32


def test_a_trial_says_how_much_bfloat16_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "TRIED_SECONDS", 0)
    x, extractor = pictures(8), extractor_of()
    found = features._tried(extractor, features._name(extractor, x.dtype), x)
    assert 0 < found["change"] < 0.2
    assert {name: type(value) for name, value in found.items()} == dict.fromkeys(features.TRIAL, float)


def test_the_line_about_the_progress(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = iter([0.0, 10.0, 20.0, 50.0])
    monkeypatch.setattr(features.time, "perf_counter", lambda: next(now))
    progress = features._Progress(10_000)
    with caplog.at_level("INFO", "cnnbench"):
        progress(200)
        progress(1000)
        progress(3000)
    assert [record.getMessage() for record in caplog.records] == [
        "features: 1,200 of 10,000 pictures, 100 pictures/s, 88 s left",
        "features: 4,200 of 10,000 pictures, 100 pictures/s, 58 s left",
    ]
