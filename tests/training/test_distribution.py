"""One training over several devices: logical CPUs, which a process can have only before TensorFlow starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, Outcome

from cnnbench.data.batches import Feed
from cnnbench.data.dataset import Split
from cnnbench.errors import CnnbenchError
from cnnbench.training import device

Cli = Callable[..., Outcome]
TWO_CPUS = """
import json, os, signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)

from cnnbench.data.augmentation.operations import augmentation
from cnnbench.training.callbacks import BestCheckpoint, TrainingDivergedError
from cnnbench.data.sources.synthetic import synthetic
from cnnbench.models.cnn import cnn
from cnnbench.nn.rates import Rate, set_rates
from cnnbench.runs.folder import RunFolder
from cnnbench.training import run as program
from cnnbench.system.signals import InterruptedRunError
from cnnbench.runs.spec import RunSpec, Training

class StopsInTheSecondEpoch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations.numpy() == 10:
            os.kill(os.getpid(), signal.SIGTERM)

def train(name, stops=False, resume=False, **changes):
    training = {"epochs": 3, "batch_size": 16, "precision": "float32", "metrics": ["f1_macro"]}
    training |= changes.pop("training", {})
    spec = RunSpec(
        name=name,
        run_dir=Path(name),
        dataset=partial(synthetic, examples=181, classes=3, size=8),
        model=partial(cnn, filters=[4], dense_units=[8], dropout=changes.pop("dropout", 0.0)),
        optimizer=keras.optimizers.Adam,
        learning_rate=changes.pop("learning_rate", 0.01),
        callbacks={"checkpoint": partial(BestCheckpoint, monitor="val_loss", mode="min")},
        training=Training(**training),
        device="cpu",
    )
    if stops:
        spec.callbacks["stops"] = StopsInTheSecondEpoch
    return program.run(replace(spec, **changes), resume=resume)

program.figures_of_run = lambda *_: iter(())  # which have tests of their own

def rows(name):
    keep = ("accuracy", "loss", "val_accuracy", "val_loss", "val_f1_macro")
    return [[row[key] for key in keep] for row in RunFolder(Path(name)).history]

found = {}
for name in ("alone", "mirrored"):
    changes = {"training": {"distribute": "mirrored"}} if name == "mirrored" else {}
    result = train(name, **changes).metrics
    found[name] = {"rows": rows(name), "metrics": result["metrics"]}

everything = {
    "training": {"distribute": "mirrored", "class_weight": "balanced", "precision": "mixed_bfloat16"},
    "augmentation": partial(augmentation, horizontal_flip=True, crop_padding=1),
    "dropout": 0.3,
    "deterministic": True,
}
train("whole", **everything)
found["whole"] = rows("whole")
try:
    train("stopped", stops=True, **everything)
except InterruptedRunError:
    found["before"] = rows("stopped")
train("stopped", stops=True, resume=True, **everything)  # past that step by now
found["resumed"] = rows("stopped")
try:
    train("nan", training={"distribute": "mirrored"}, learning_rate=1e30)
except TrainingDivergedError as error:
    found["diverged"] = str(error)

def decayed(strategy):
    with strategy.scope():
        variables = [keras.Variable([1.0, 1.0]) for _ in range(3)]
        share = keras.Variable(1.0, trainable=False)
        optimizer = keras.optimizers.AdamW(0.1, weight_decay=1.0)
        optimizer.build(variables)
        set_rates(optimizer, [Rate(0.5, share), Rate(0.25, share), Rate()])
    step = tf.function(lambda: strategy.run(lambda: optimizer.apply([tf.zeros(2)] * 3)))
    step()
    return [[float(one) for one in keras.ops.convert_to_numpy(variable)] for variable in variables], float(
        optimizer.weight_decay
    )

summed = tf.distribute.ReductionToOneDevice()  # without the numbers of collectives, which are taken
both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=summed)
found["decayed"] = [decayed(one) for one in (tf.distribute.get_strategy(), both)]
Path("found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What trainings on two devices came to, all in one process."""
    place = tmp_path_factory.mktemp("devices")
    subprocess.run([sys.executable, "-c", TWO_CPUS], cwd=place, check=True)
    return dict(json.loads((place / "found.json").read_text()))


def test_two_devices_train_to_the_result_of_one(found: dict[str, Any]) -> None:
    """With batch normalisation, and a validation split of an odd size."""
    np.testing.assert_allclose(found["mirrored"]["rows"], found["alone"]["rows"], rtol=1e-4)
    for split, figures in found["alone"]["metrics"].items():
        assert found["mirrored"]["metrics"][split] == pytest.approx(figures, rel=1e-4)


def test_a_shared_training_goes_on_after_a_signal_and_says_when_it_diverges(found: dict[str, Any]) -> None:
    assert len(found["before"]) == 1
    # Of the epoch that was broken off, the running means are put together anew from both devices.
    np.testing.assert_allclose(found["resumed"], found["whole"], rtol=1e-6)
    assert "the same run without training.distribute says which tensor" in found["diverged"]


def test_weight_decay_by_rates_of_blocks_is_that_of_one_device(found: dict[str, Any]) -> None:
    alone, shared = found["decayed"]
    np.testing.assert_allclose(alone[0], [[0.95] * 2, [0.975] * 2, [0.9] * 2], rtol=1e-6)
    np.testing.assert_allclose(shared[0], alone[0], rtol=1e-6)
    assert alone[1] == shared[1] == 1.0


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["training.distribute=multi_worker"], "one training over several machines is not offered, since"),
        (["training.distribute=horovod"], "input should be 'mirrored'"),
        (["training.distribute=mirrored", "training.steps_per_execution=4"], "cannot chain steps"),
        (["training.distribute=mirrored"], "needs two devices or more, and there is one"),
    ],
)
def test_what_does_not_work_is_refused(overrides: list[str], reason: str, run_cli: Cli) -> None:
    outcome = run_cli(*TINY, *overrides)
    assert outcome.exit_code == 2
    assert outcome.err.startswith("error: training.distribute=")
    assert reason in outcome.err


def test_a_batch_that_devices_cannot_share_equally_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    three = [SimpleNamespace(name=f"GPU:{number}") for number in range(3)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: three if kind == "GPU" else [])
    with pytest.raises(CnnbenchError, match="batch_size=64 cannot be shared equally by 3 devices") as raised:
        device.strategy("mirrored", 64)
    assert raised.value.hint == "use a multiple of 3, e.g. 63"


@pytest.mark.parametrize("replicas", [2, 3, 8])
def test_every_device_has_a_part_of_every_batch_of_an_evaluation(replicas: int) -> None:
    for examples in range(3 * replicas, 200):
        size = device.shared_batch(64, examples, replicas)
        assert replicas <= size <= min(64, examples)
        assert size % replicas == 0
        assert examples % size == 0 or examples % size >= replicas
    with pytest.raises(CnnbenchError, match="too few"):
        device.shared_batch(64, 2 * replicas + 1, replicas)
    assert device.shared_batch(64, 5, 1) == 64


def test_every_batch_of_a_shared_training_has_equal_parts_and_each_epoch_leaves_others_out() -> None:
    split = Split(np.arange(30, dtype=np.float32)[:, None], np.zeros(30, np.int64))
    feed = Feed(split, 8, seed=0, parts=4)
    left_out = []
    for epoch in range(6):
        feed.epoch = epoch
        batches = [x.numpy()[:, 0] for x, _ in feed.dataset]
        assert [len(batch) for batch in batches] == [8, 8, 8, 4]
        left_out.append(frozenset(range(30)) - {int(value) for batch in batches for value in batch})
    assert (feed.examples, feed.steps) == (28, 4)
    assert {len(those) for those in left_out} == {2}
    assert len(set(left_out)) > 1
