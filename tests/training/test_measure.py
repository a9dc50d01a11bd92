"""The loss that a run records is what Keras gives for its file in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnnbench.config.composition import compose, plain_config, spec_from
from cnnbench.data.batches import Feed
from cnnbench.data.dataset import Split
from cnnbench.models.mlp import mlp
from cnnbench.nn.losses import SmoothedCrossentropy
from cnnbench.runs.folder import RunFolder
from cnnbench.training import measure, run

MLP = ("model=mlp", "model.units=[8]", "device=cpu", "training.epochs=2", "training.batch_size=32")
SATURATED = ("optimizer.learning_rate=30", "dataset.noise=0.9")
THREE = ("dataset=synthetic", "dataset.examples=360", "dataset.size=8", "dataset.classes=3")
TWO = (*THREE[:-1], "dataset.classes=2")
PLUGIN = """
import keras


@keras.saving.register_keras_serializable("mine")
class RootOfBatch(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.sqrt(keras.ops.mean(keras.ops.square(keras.ops.cast(y_true, y_pred.dtype) - y_pred)))


def rooted():
    return RootOfBatch(name="rooted")


def summed():
    return keras.losses.MeanSquaredError(reduction="sum")
"""
RUNS: dict[str, tuple[str, ...]] = {
    "multiclass": (*MLP, *THREE, *SATURATED),
    "binary": (*MLP, *TWO, *SATURATED),
    "smoothed": (*MLP, *THREE, *SATURATED, "loss=label_smoothing"),
    "regularized": (
        *(*MLP, *THREE, *SATURATED),
        "model.kernel_regularizer={_target_: cnnbench.nn.layers.L1, strength: 0.1}",
    ),
    "weighted": (*MLP, *THREE, *SATURATED, "training.class_weight=balanced"),
    "views": (
        *("dataset=synthetic", "dataset.size=8", "dataset.examples=300", *SATURATED, "device=cpu"),
        *("model.filters=[4]", "model.dense_units=[8]", "training=smoke"),
        "training.test_time_augmentation=mirror_translate",
    ),
    "regression": (*MLP, "dataset=diabetes", "loss=huber", "training.scale_targets=true"),
    "labels": (
        *(*MLP, "dataset=synthetic", "dataset.task=multilabel", "dataset.size=8", *SATURATED),
        "training.class_weight=balanced",
    ),
    "targets": (
        *(*MLP, "dataset=synthetic", "dataset.task=regression", "dataset.targets=3", "dataset.size=8"),
        "training.scale_targets=true",
    ),
    "of_a_batch": (*MLP, "dataset=diabetes", "loss=rooted", "--plugin"),
    "summed": (*MLP, "dataset=diabetes", "loss=summed", "--plugin"),
    "bfloat16": (*MLP, *THREE, *SATURATED, "training.precision=mixed_bfloat16"),
    "float16": (*MLP, *THREE, "optimizer.learning_rate=0.3", "training.precision=mixed_float16"),
}
# Loads each file as anybody would, and evaluates it on raw inputs with Keras's own settings.
EVALUATE = """
import json, sys
import keras, numpy as np
import cnnbench.nn
sys.path.append(sys.argv[1])
import own_losses
found = {}
for place in sys.argv[2:]:
    model = keras.models.load_model(place + "/best.keras")
    with np.load(place + "/raw.npz") as raw:
        found[place] = {
            split: model.evaluate(raw[split + "_x"], raw[split + "_y"], verbose=0, return_dict=True)["loss"]
            for split in ("val", "test")
        }
json.dump(found, open(sys.argv[1] + "/found.json", "w"))
"""


def run_alone(name: str, line: tuple[str, ...], place: Path) -> RunFolder:
    """Make a run, and keep the examples that it is measured on beside it."""
    overrides = [key for key in line if key != "--plugin"]
    if "--plugin" in line:
        overrides.append(f"plugins=[{place / 'own_losses.py'}]")
        config = plain_config(compose(overrides, str(place / "conf")))
    else:
        config = plain_config(compose(overrides))
    spec = spec_from({**config, "name": name, "seed": 0}, place / name, overrides)
    run.run(spec)
    data = run.data.with_validation(spec.dataset(), 0.1, spec.training.examples, spec.seed)
    arrays = {}
    for split in ("val", "test"):
        one = data.splits[split]
        arrays[f"{split}_x"] = np.asarray(one.x)
        arrays[f"{split}_y"] = one.y[:, None] if data.outputs == 1 else one.y
    np.savez(place / name / "raw.npz", **arrays)
    keras.config.set_dtype_policy("float32")
    return RunFolder(place / name)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[RunFolder, dict[str, float]]]:
    """Each run's folder, and what Keras says of it."""
    place = tmp_path_factory.mktemp("measured")
    (place / "own_losses.py").write_text(PLUGIN)
    (place / "conf" / "loss").mkdir(parents=True)
    for name in ("rooted", "summed"):
        (place / "conf" / "loss" / f"{name}.yaml").write_text(f"# ours\n_target_: own_losses.{name}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "figures_of_run", lambda *_: iter(()))
        folders = {name: run_alone(name, line, place) for name, line in RUNS.items()}
    places = [str(folder.path) for folder in folders.values()]
    subprocess.run([sys.executable, "-c", EVALUATE, str(place), *places], check=True, capture_output=True)
    found = json.loads((place / "found.json").read_text())
    return {name: (folder, found[str(folder.path)]) for name, folder in folders.items()}


@pytest.mark.parametrize("name", RUNS)
def test_the_recorded_loss_is_what_keras_gives_in_a_new_process(name: str, evaluated: Any) -> None:
    folder, found = evaluated[name]
    bound = 1e-3 if name in ("bfloat16", "float16") else 1e-5
    for split in ("val", "test"):
        assert folder.metrics["metrics"][split]["loss"] == pytest.approx(found[split], rel=bound)
    # The best epoch's own look at the same weights.
    assert folder.best["metrics"]["val_loss"] == pytest.approx(found["val"], rel=bound)


def test_some_of_these_would_be_cut_off(evaluated: Any) -> None:
    """Else the test above says nothing: from outputs alone no example's loss is above 16.2."""
    folder, found = evaluated["multiclass"]
    y, outputs = folder.predictions["y_true"], folder.predictions["outputs"]
    from_outputs = float(np.mean(-np.log(np.clip(outputs[np.arange(len(y)), y], 1e-7, 1))))
    assert abs(from_outputs / found["test"] - 1) > 0.01


def test_batches_are_large_only_where_the_loss_is_a_mean_over_examples() -> None:
    model = mlp((4,), 3)
    assert measure.loss_batch(model, SmoothedCrossentropy(0.1), 64) == 256
    assert measure.loss_batch(model, keras.losses.MeanSquaredError(), 512) == 512
    assert measure.loss_batch(model, keras.losses.MeanSquaredError(reduction="sum"), 512) == 32
    assert measure.loss_batch(model, lambda y, p: y - p, 64) == 32
    busy = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activity_regularizer="l2")])
    assert measure.loss_batch(busy, keras.losses.MeanSquaredError(), 64) == 32


def test_one_graph_serves_every_split() -> None:
    model = mlp((4,), 1)
    model.compile(loss=keras.losses.MeanSquaredError())
    traced = []
    model.compute_loss = partial(_counted, traced, model.compute_loss)
    evaluation = measure.Evaluation(model, "regression")
    for count in (300, 40):
        split = Split(np.zeros((count, 4), np.float32), np.arange(count, dtype=np.float32))
        outputs, figures = evaluation(Feed(split, 256, column=True))
        assert outputs.shape == (count, 1)
        assert figures["loss"] == pytest.approx(np.mean((split.y - outputs[:, 0]) ** 2), rel=1e-5)
    assert len(traced) == 1


def _counted(calls: list[int], plain: Any, *args: Any, **kwargs: Any) -> tf.Tensor:
    calls.append(1)
    return plain(*args, **kwargs)
