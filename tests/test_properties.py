"""Any combination of options and values is refused in one line, or trains.

A few in the ordinary run, the same every time; `CNNBENCH_FAULTS=200 pytest FILE` trains 200 random ones, and
composes 16 times as many.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml
from conftest import call_main, time_limit
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnbench.config import composition
from cnnbench.config.groups import CONF_DIR, options
from cnnbench.errors import CnnbenchError
from cnnbench.runs.folder import RunFolder

TRAININGS = int(os.environ.get("CNNBENCH_FAULTS", "5"))
SECONDS = 120  # of a training that takes one or two: what takes longer hangs
LONGEST = 400  # characters of a message
INSIDES = (
    *("Traceback", "Exception encountered", "{{function_node", "validation error", "<class", " object at 0x"),
    *("[Op:", "Graph execution error", "KerasTensor"),
)
EVERY_TIME = {
    "deadline": None,
    "database": None,
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],
    "derandomize": "CNNBENCH_FAULTS" not in os.environ,  # the ordinary run is the same every time
    "suppress_health_check": list(HealthCheck),
}

# ---------------------------------------------------------------- what may be typed

DIVERGED = ("the loss became nan", "the loss became inf", "weights that are NaN", "no epoch had a finite")
SHORT_OF_MEMORY = "out of memory"
OFFLINE = ("digits", "diabetes", "image_folder", "synthetic")
# Of one run; what a sweep is made of is in test_grids and test_searching.
OTHERS = ("experiment", "sweep", "hydra/launcher")
GROUPS = {group: sorted(found) for group, found in options().items() if group not in OTHERS}
GROUPS["dataset"] = list(OFFLINE)
# Each option as small as it gets; the options themselves come from the YAML there are.
SMALL = {
    "dataset=synthetic": ("dataset.size=8", "dataset.examples=120"),
    "dataset=image_folder": ("dataset.root=../pictures", "dataset.size=8"),
    "augmentation=standard": ("augmentation.cutout=4",),
    "model=cnn": ("model.filters=[4]", "model.dense_units=[8]"),
    "model=mlp": ("model.units=[8]",),
    "model=resnet": ("model.depth=8", "model.width=2"),
    "model=wide_resnet": ("model.depth=10", "model.width=1"),
    "model=vgg": ("model.depth=11", "model.width=2", "model.dense_units=[4]"),
    "model=fast": ("model.stem_filters=4", "model.filters=[4]"),
    "model=transfer": (
        "model.backbone=MobileNet",
        "model.weights=null",
        "model.backbone_arguments={alpha: 0.25}",
    ),
}
ALWAYS = ("training=smoke", "training.examples=64", "device=cpu")
SENSIBLE = {  # by the type of what stands there
    "number": ("0", "1", "2", "3", "5", "8", "0.0", "0.1", "0.3", "0.5", "0.9", "1.0", "1e-3", "1e-6"),
    "truth": ("true", "false"),
    "list": ("[2]", "[2,3]", "[]", "[1,2,3]"),
    "text": (
        *(
            "relu",
            "gelu",
            "softplus",
            "selu",
            "linear",
            "max",
            "average",
            "same",
            "valid",
            "min",
            "zero",
            "mean",
        ),
        *("reflect", "projection", "crop", "pad", "stretch", "float32", "mixed_bfloat16", "mixed_float16"),
        *(
            "val_loss",
            "val_accuracy",
            "val_mae",
            "val_rmse",
            "loss",
            "accuracy",
            "auto",
            "cpu",
            "all",
            "a name",
        ),
    ),
    "nothing": (
        *("null", "1", "0.5", "balanced", "l2", "8", "after_activation", "after_flatten", "val_accuracy"),
        *("{_target_: keras.regularizers.L2, l2: 0.01}", "{_target_: cnnbench.nn.layers.PeriodicEmbedding}"),
        *("{_target_: keras.losses.Huber}", "{from_layer: all, epochs: 1, learning_rate: 1e-4}"),
    ),
}
ABSURD = (
    *("-1", "-0.5", "1000000000", "1e30", "1e400", "nan", "inf", "-inf", "-0.0", "007", "1_0", "0x10"),
    *("off", "''", "' '", "abc", "ü", "'😀'", "'a\nb'", "'\x1b[31m'", "'[red]'", "'a=b'", "../..", "x" * 300),
    *("[[]]", "[0]", "[-1]", "[null]", "[abc]", "[1.5]", "[true]", "[[1]]", "[" + "1," * 99 + "1]"),
    *("{}", "{a: 1}", "{a: {b: [c]}}", "{1: 2}", "{_target_: 3}", "{_target_: null}", "{_target_: keras}"),
    *("{_target_: keras.layers.Dense, units: 3}", "{_target_: keras.layers.Dense}", "{_target_: os.system}"),
    *("{_target_: keras.layers.Dense, _partial_: true}", "{_target_: keras.losses.Huber}", "{_args_: [1]}"),
    *("1e-400", "${seed}", "${model}", "${nowhere}", "${oc.env:HOME}", "${oc.env:NOWHERE}", "${now:}", "${"),
    *("$", "???", "1,2", "choice(1,2)", "range(1,3)", "glob(*)", "", "=", "-", "*", "test_loss", "a..b", "."),
    *("keras.layers.Dense", "keras.optimizers.Adam", "cnnbench.models.mlp.mlp", "cnnbench.training.run.run"),
)  # fmt: skip
KEYS = (  # beside those in the YAML
    *("nothing", "model.nothing", "model.filters.0", "a.b.c", "model..x", ".", "@x", "", "hydra.nothing"),
    *("callbacks.mine", "callbacks.early_stopping.baseline", "callbacks.early_stopping.restore_best_weights"),
    *("optimizer.clipvalue", "optimizer.use_ema", "optimizer.ema_momentum", "optimizer.learning_rate"),
    *("loss.reduction", "loss.name", "loss.dtype", "model.input_shape", "expected"),
)


@cache
def leaves(group: str, option: str) -> dict[str, str]:
    """The keys that one option sets, dotted, with the type of its value; of the top for the group ''."""
    path = CONF_DIR / group / f"{option}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    found: dict[str, str] = {}
    for other in content.pop("defaults", []):
        if group and isinstance(other, str) and other != "_self_":
            found |= leaves(group, other)
    content.pop("hydra", None)
    return found | dict(_leaves(group.replace("/", "."), content))


def _leaves(prefix: str, node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else key, value)
    elif prefix:
        kinds = {bool: "truth", int: "number", float: "number", list: "list", str: "text"}
        yield prefix, kinds.get(type(node), "nothing")


@st.composite
def lines(draw: st.DrawFn, fewest: int, most: int) -> tuple[str, ...]:
    """Options of every group, small, and then so many changes, about half of them sensible."""
    chosen = {group: draw(st.sampled_from(found)) for group, found in GROUPS.items()}
    chosen["training"] = "smoke"
    if draw(st.integers(0, 3)):  # else most are refused: one part does not fit another
        chosen["loss"] = "auto"
        if chosen["dataset"] == "diabetes":
            chosen |= {"model": "mlp", "augmentation": "none"}
        if chosen["callbacks"] == "reduce_on_plateau":
            chosen["optimizer/learning_rate"] = "constant"
    known = {
        key: kind
        for group, option in [*chosen.items(), ("callbacks", "default"), ("", "config")]
        for key, kind in leaves(group, option).items()
    }
    if chosen["callbacks"] != "default":
        chosen["callbacks"] = f"[default,{chosen['callbacks']}]"
    typed = [f"{group}={option}" for group, option in chosen.items()]
    typed += [text for choice in typed for text in SMALL.get(choice, ())] + list(ALWAYS)
    for _ in range(draw(st.integers(fewest, most))):
        sensible = draw(st.booleans())
        key = draw(st.sampled_from(sorted(known) if sensible else [*known, *KEYS, *GROUPS]))
        kind = SENSIBLE[known[key]] if sensible else ABSURD
        sign = "" if sensible else draw(st.sampled_from(("", "", "", "+", "++", "~")))
        typed.append(f"{sign}{key}" + ("" if sign == "~" else f"={draw(st.sampled_from(kind))}"))
    return tuple(typed)


# ---------------------------------------------------------------- what may come of it


def test_every_option_has_keys_to_change() -> None:
    assert {"model.filters", "model.dropout"} <= set(leaves("model", "cnn"))
    assert "callbacks.early_stopping.patience" in leaves("callbacks", "default")
    assert "optimizer.learning_rate.decay_steps" in leaves("optimizer/learning_rate", "exponential_decay")
    assert "seed" in leaves("", "config")


def assert_is_short(message: str) -> None:
    """One line for people: of no exception's inside, and of a length that can be read."""
    assert message.strip()
    assert "\n" not in message
    assert len(message) <= LONGEST
    for inside in INSIDES:
        assert inside not in message


@settings(max_examples=16 * TRAININGS, **EVERY_TIME)
@given(typed=lines(0, 4))
def test_a_config_is_refused_in_one_line_or_makes_a_run(typed: tuple[str, ...], folder: Path) -> None:
    try:
        composed = composition.compose(typed)
        checked = composition.named_config(composed, composed.hydra.runtime.choices)
        spec = composition.spec_from(checked, folder / "run", typed)
    except CnnbenchError as error:
        event("refused")
        assert_is_short(error.message)
    else:
        event("good")
        json.dumps(spec.config)  # as written down
    assert list(folder.iterdir()) == []


@pytest.fixture
def pictures(folder: Path) -> None:
    """Twelve images of each of two classes."""
    for number in range(24):
        path = folder.parent / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (10, 10, 3), np.uint8)
        Image.fromarray(pixels).save(path)


def is_checked(typed: tuple[str, ...]) -> bool:
    try:
        composed = composition.compose(typed)
        composition.named_config(composed, composed.hydra.runtime.choices)
    except CnnbenchError:
        return False
    return True


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that interrupts on this system")
@settings(max_examples=TRAININGS, **EVERY_TIME)
@given(typed=lines(1, 2).filter(is_checked))  # the test above has the others
def test_a_run_is_refused_in_one_line_or_trains(
    typed: tuple[str, ...],
    folder: Path,
    pictures: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CNNBENCH_CACHE", str(folder.parent / "cache"))
    shutil.rmtree(folder)
    folder.mkdir()
    monkeypatch.chdir(folder)
    capsys.readouterr()
    with time_limit(SECONDS):
        exit_code = call_main(*typed)
    err = capsys.readouterr().err.splitlines()
    said = [line for line in err if not line.startswith("decoding ")]  # once, before the data are known
    event(f"exit code {exit_code}")
    if exit_code == 0:
        (path,) = folder.rglob("metrics.json")
        assert RunFolder(path.parent).status == "done"
        keras.models.load_model(RunFolder(path.parent).best_model)
        return
    first, *hints = said
    assert len(hints) <= 1
    assert all(hint.startswith("hint: ") for hint in hints)
    assert_is_short(first)
    if exit_code == 2:
        assert first.startswith("error: ")
        assert list(folder.iterdir()) in ([], [folder / "outputs"])
        assert not list(folder.glob("outputs/*"))
    else:  # a network that may be trained, but cannot be: that is known only by trying
        assert exit_code == 1
        assert any(reason in first for reason in (*DIVERGED, SHORT_OF_MEMORY))
        (path,) = folder.rglob("failure.json")
        assert RunFolder(path.parent).status == "failed"
