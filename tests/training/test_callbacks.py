"""What Keras lacks: a best checkpoint that NaN and ties do not fool, and a recorder that others can read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pytest

from cnnbench.training.callbacks import BestCheckpoint, Recorder, TrainingDivergedError

NAN, INF = math.nan, math.inf


class FakeModel:
    def save(self, path: object) -> None: ...

    def get_weights(self) -> list[np.ndarray]:
        return [np.zeros(2, np.float32)]


def written(
    values: Sequence[float], mode: str = "min", min_delta: float = 0.0, monitor: str = "val_loss"
) -> tuple[BestCheckpoint, list[dict[str, Any]]]:
    """Let a checkpoint see one value per epoch; what it wrote."""
    infos: list[dict[str, Any]] = []
    checkpoint = BestCheckpoint(monitor, mode, min_delta)  # type: ignore[arg-type]
    checkpoint.set_model(FakeModel())
    checkpoint.write = lambda save, info: infos.append(dict(info))
    for epoch, value in enumerate(values):
        checkpoint.on_epoch_end(epoch, {"loss": 9.0, monitor: value})
    return checkpoint, infos


def epochs(values: Sequence[float], **settings: Any) -> list[int]:
    return [info["epoch"] for info in written(values, **settings)[1]]


def test_every_better_epoch_replaces_the_one_before() -> None:
    checkpoint, infos = written([3.0, 2.0, 2.5, 1.0])
    assert [info["epoch"] for info in infos] == [1, 2, 4]
    assert (checkpoint.best, checkpoint.best_epoch) == (1.0, 4)
    assert infos[-1] == {
        "epoch": 4,
        "monitor": "val_loss",
        "value": 1.0,
        "metrics": {"loss": 9.0, "val_loss": 1.0},
    }


def test_the_mode_max_takes_the_largest() -> None:
    assert epochs([0.2, 0.1, 0.5, 0.4], mode="max", monitor="val_accuracy") == [1, 3]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_first_epoch_that_is_not_finite_is_not_the_best_for_ever(bad: float, mode: str) -> None:
    checkpoint, infos = written([bad, 5.0], mode=mode)
    assert [info["epoch"] for info in infos] == [2]
    assert checkpoint.best == 5.0


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_later_nan_replaces_nothing(mode: str) -> None:
    assert epochs([5.0, NAN, INF, -INF], mode=mode) == [1]


def test_only_nan_writes_nothing() -> None:
    checkpoint, infos = written([NAN, NAN, NAN])
    assert infos == []
    assert checkpoint.best_epoch is None


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_tie_keeps_the_earlier_epoch(mode: str) -> None:
    assert epochs([1.0, 1.0, 1.0], mode=mode) == [1]


@pytest.mark.parametrize(("mode", "sign"), [("min", 1.0), ("max", -1.0)])
def test_better_means_by_more_than_min_delta_from_the_best_kept(mode: str, sign: float) -> None:
    values = [sign * value for value in (1.0, 0.75, 0.5, 0.25, 0.24)]
    # 0.75 is not better than 1.0 by more than 0.25; 0.5 is; 0.24 is from 0.5, but 0.25 is not.
    assert epochs(values, mode=mode, min_delta=0.25) == [1, 3, 5]


def test_it_saves_the_model_that_it_watches() -> None:
    saved: list[object] = []
    model = FakeModel()
    model.save = saved.append  # type: ignore[method-assign]
    checkpoint = BestCheckpoint("loss", "min")
    checkpoint.set_model(model)
    checkpoint.write = lambda save, info: save("here.keras")  # type: ignore[arg-type,func-returns-value]
    checkpoint.on_epoch_end(0, {"loss": 1.0})
    assert saved == ["here.keras"]


# ---------------------------------------------------------------- the recorder


class Log(keras.callbacks.Callback):
    """What a callback after the recorder sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.seen.append(dict(logs or {}))


class Told:
    """What the recorder tells."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.steps: list[int] = []
        self.entries: list[Mapping[str, float]] = []

    def recorder(self, examples: int, steps: int) -> Recorder:
        return Recorder(
            examples,
            steps,
            self.begun.append,
            lambda step, metrics: self.steps.append(step),
            self.entries.append,
        )


def compiled(steps_per_execution: int = 1) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(
        keras.optimizers.SGD(0.01), "mse", steps_per_execution=steps_per_execution, jit_compile=False
    )
    return model


def fit(callbacks: Sequence[keras.callbacks.Callback], y: np.ndarray, **settings: Any) -> None:
    x = np.random.default_rng(0).random((10, 2), np.float32)
    compiled(**settings).fit(x, y, batch_size=2, epochs=2, callbacks=list(callbacks), verbose=0)


def test_other_callbacks_see_learning_rate_and_speed_in_the_logs() -> None:
    told, log = Told(), Log()
    fit([told.recorder(10, 5), log], np.zeros(10, np.float32))
    assert len(log.seen) == len(told.entries) == 2
    for number, (logs, entry) in enumerate(zip(log.seen, told.entries, strict=True), start=1):
        assert set(logs) == {"loss", "learning_rate", "seconds", "examples_per_second"}
        assert logs["learning_rate"] == pytest.approx(0.01)
        assert logs["seconds"] > 0
        # The rate is of the training alone: at least that of the whole epoch.
        assert logs["examples_per_second"] >= 10 / logs["seconds"]
        assert entry == {"epoch": number, **logs}


def test_a_schedule_is_recorded_as_the_rate_that_it_has_reached() -> None:
    told = Told()
    model = compiled()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=5, decay_rate=0.5)
    model.compile(keras.optimizers.SGD(schedule), "mse", jit_compile=False)
    x = np.zeros((10, 2), np.float32)
    model.fit(x, x[:, :1], batch_size=2, epochs=2, callbacks=[told.recorder(10, 5)], verbose=0)
    assert [entry["learning_rate"] for entry in told.entries] == pytest.approx([0.05, 0.025])


@pytest.mark.parametrize(("chained", "steps"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5])])
def test_it_tells_the_steps_done_in_each_epoch(chained: int, steps: list[int]) -> None:
    told = Told()
    fit([told.recorder(10, 5)], np.zeros(10, np.float32), steps_per_execution=chained)
    assert told.begun == [0, 1]
    assert told.steps == [*steps, *steps]


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("chained", [1, 3])
def test_a_loss_that_is_not_finite_ends_the_training(bad: float, chained: int) -> None:
    told, y = Told(), np.zeros(10, np.float32)
    y[:] = bad
    with pytest.raises(TrainingDivergedError, match="epoch 1"):
        fit([told.recorder(10, 5)], y, steps_per_execution=chained)
    assert told.entries == []


def test_an_epoch_whose_weights_are_broken_is_not_the_best() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    checkpoint = BestCheckpoint("accuracy", "max")
    checkpoint.set_model(model)
    written: list[int] = []
    checkpoint.write = lambda save, info: written.append(info["epoch"])
    checkpoint.on_epoch_end(0, {"accuracy": 0.5, "val_loss": math.nan})
    model.layers[0].kernel.assign([[math.inf]])
    checkpoint.on_epoch_end(1, {"accuracy": 0.6, "val_loss": 1.0})
    model.layers[0].kernel.assign([[1.0]])
    checkpoint.on_epoch_end(2, {"accuracy": 0.1, "val_loss": 1.0})
    assert written == [3]
