"""Programs that the runs of a process share: each run the same as alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import TINY, Outcome

from cnnbench.training import chunks

Cli = Callable[..., Outcome]
# Random states of layers and of the augmentation, statistics of pixels, an optimizer with a state, averages.
LINE = (
    *TINY,
    "model.normalization=true",
    "model.dropout=0.3",
    "augmentation=standard",
    "augmentation.cutout=2",
    "augmentation.crop_padding=1",
    "optimizer.use_ema=true",
    "optimizer.ema_overwrite_frequency=5",
    "training.epochs=2",
)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    chunks._kept.clear()
    yield
    chunks._kept.clear()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is traced: the programs that were made."""
    found: list[Any] = []
    init = chunks.Chunks.__init__

    def counted(self: Any, *given: Any, **more: Any) -> None:
        found.append(self)
        init(self, *given, **more)

    monkeypatch.setattr(chunks.Chunks, "__init__", counted)
    return found


def weights(folder: Path) -> list[np.ndarray]:
    return keras.models.load_model(folder / "best.keras", compile=False).get_weights()


def losses(folder: Path) -> list[float]:
    rows = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return [row[name] for row in rows for name in ("loss", "val_loss")]


def test_a_run_after_others_is_the_same_to_the_last_bit_and_traces_nothing(
    run_cli: Cli, folder: Path, made: list[Any]
) -> None:
    alone = (*LINE, "seed=1", "optimizer.learning_rate.initial_learning_rate=0.01")
    assert run_cli(*alone, "run_dir=alone").exit_code == 0
    chunks._kept.clear()
    assert (
        run_cli(*LINE, "seed=0", "run_dir=before").exit_code == 0
    )  # another split, seed, rate, and number of epochs
    assert run_cli(*LINE, "seed=5", "training.epochs=3", "run_dir=longer").exit_code == 0
    count = len(made)
    assert run_cli(*alone, "run_dir=after").exit_code == 0
    assert len(made) == count == 4
    assert losses(folder / "after") == losses(folder / "alone") != losses(folder / "before")
    for one, other in zip(weights(folder / "after"), weights(folder / "alone"), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "other",
    [
        "model.filters=[5]",
        "model.dropout=0.2",
        "optimizer.clipnorm=1.0",
        "augmentation.horizontal_flip=false",
        "training.batch_size=7",
        "training.class_weight=balanced",
        "optimizer/learning_rate=cosine",
        "training.jit_compile=true",
        "loss=label_smoothing",
    ],
)
def test_what_is_another_program_is_traced(run_cli: Cli, made: list[Any], other: str) -> None:
    line = [*LINE, "augmentation.horizontal_flip=true", "training.epochs=1"]
    assert run_cli(*line, "run_dir=one").exit_code == 0
    before = len(made)
    assert run_cli(*line, other, "run_dir=two").exit_code == 0
    assert len(made) > before


def network(**layer: Any) -> keras.Model:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, **layer)(inputs))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    return model


class Own(keras.layers.Layer):
    """Whose call may use anything."""

    def call(self, inputs: Any) -> Any:
        return inputs


class Watching(keras.callbacks.Callback):
    """Which may change the model."""


def own(x: Any) -> Any:
    return x


def test_parts_of_ones_own_are_never_shared() -> None:
    assert chunks.program_name(network(), [None, keras.callbacks.EarlyStopping()])
    assert chunks.program_name(network(activation=own), []) is None
    assert chunks.program_name(network(), [Watching()]) is None
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Own()(inputs))
    model.compile("sgd", own)
    assert chunks.program_name(model, []) is None
    plain = network()
    plain.compile("sgd", own)
    assert chunks.program_name(plain, []) is None


def test_few_models_are_kept_and_no_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcdef":
        chunks.keep(name, network())
    assert list(chunks._kept) == ["c", "d", "e", "f"]
    monkeypatch.setattr(chunks, "BYTES", 10)
    assert chunks.program_name(network(), []) is None
