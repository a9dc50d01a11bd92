"""Every YAML below conf/ is described in its first line, composes, passes the checks and can be built."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml

from cnnbench.config import composition
from cnnbench.config.components import GIVEN_BY_RUN, objects_in, with_keywords
from cnnbench.config.groups import CONF_DIR, group_and_option, options
from cnnbench.config.messages import validated
from cnnbench.config.signatures import signature
from cnnbench.data.dataset import Dataset, Task
from cnnbench.errors import CnnbenchError
from cnnbench.reporting.trackers import Tracker
from cnnbench.runs.spec import FineTuning, RunSpec, Training
from cnnbench.sweeps import plan
from cnnbench.sweeps.launchers.settings import KINDS

FILES = sorted(CONF_DIR.rglob("*.yaml"))
NAMES = [str(path.relative_to(CONF_DIR)) for path in FILES]
# A data set of each task that is there without files and network.
OFFLINE = {
    "multiclass": ["dataset=digits"],
    "binary": ["dataset=synthetic", "dataset.classes=2"],
    "multilabel": ["dataset=synthetic", "dataset.task=multilabel"],
    "regression": ["dataset=diabetes"],
}
# Input shape and outputs of the data sets that need files.
SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "arrays": ((28, 28, 1), 10),
    "california_housing": ((8,), 1),
    "cats_and_dogs": ((128, 128, 3), 1),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
    "fashion_mnist": ((28, 28, 1), 10),
    "image_folder": ((128, 128, 3), 3),
    "manifest": ((128, 128, 3), 3),
    "mnist": ((28, 28, 1), 10),
    "table": ((8,), 1),
}
# Where a YAML leaves a gap (???) that only its user can fill.
GAPS = {
    "image_folder": ["dataset.root=my_images"],
    "manifest": ["dataset.file=my_images.csv"],
    "arrays": ["dataset.file=my.npz"],
    "table": ["dataset.file=my.csv", "dataset.target=price"],
}


def spec_of(*overrides: str) -> RunSpec:
    composed = composition.compose(overrides)
    return composition.run_spec(composed, composed.hydra.runtime.choices, overrides)


def build_model(make: Callable[..., Any], input_shape: tuple[int, ...], outputs: int) -> None:
    model = make(input_shape=input_shape, outputs=outputs)
    result = np.asarray(model(np.zeros((2, *input_shape), np.float32), training=False))
    assert result.shape == (2, outputs)
    assert np.isfinite(result).all()


# ---------------------------------------------------------------- how the options of each group are built


def model(option: str) -> None:
    """For the first input that it takes: a photograph, a grey image, a row of numbers."""
    offline = ["model.weights=null"] if "weights" in composition.compose([f"model={option}"]).model else []
    make = spec_of("run_dir=x", f"model={option}", *offline).model
    for input_shape in ((32, 32, 3), (28, 28, 1), (8, 8, 1), (8,)):
        try:
            build_model(make, input_shape, 3)
        except CnnbenchError:
            continue
        return
    pytest.fail("takes no input at all")


def dataset(option: str) -> None:
    spec = spec_of("run_dir=x", f"dataset={option}", *GAPS.get(option, []))
    task = spec.config["dataset"].get("task")
    assert task is None or task in get_args(Task)
    if option in SHAPES:
        return  # read by tests/test_datasets.py, from tiny files of the same layout
    loaded = spec.dataset()
    assert isinstance(loaded, Dataset)
    assert task in (None, loaded.task)


def augmentation(option: str) -> None:
    import tensorflow as tf

    spec = spec_of("run_dir=x", f"augmentation={option}")
    if spec.augmentation is None:
        assert option == "none"
        return
    augment = spec.augmentation().for_data((32, 32, 3), 3, "multiclass")
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)), tf.uint8)
    changed, labels = augment(images, tf.constant([0, 1, 2, 0]), tf.constant([1, 2]))
    assert changed.shape == (4, 32, 32, 3)
    assert len(labels) == 4
    assert changed.dtype == images.dtype
    assert not np.array_equal(changed, images)


def optimizer(option: str) -> None:
    spec = spec_of("run_dir=x", f"optimizer={option}")
    assert callable(spec.learning_rate)
    rate = spec.learning_rate(steps_per_epoch=10, epochs=2)
    first = rate(0) if callable(rate) else rate
    assert float(spec.optimizer(learning_rate=rate).learning_rate) == pytest.approx(float(first))


def learning_rate(option: str) -> None:
    make = spec_of("run_dir=x", f"optimizer/learning_rate={option}").learning_rate
    assert callable(make)
    made = make(steps_per_epoch=10, epochs=2)
    rates = [float(made(step)) if callable(made) else made for step in range(20)]
    assert all(math.isfinite(rate) and 0 <= rate < 1 for rate in rates)
    assert max(rates) > 0


def loss(option: str) -> None:
    from cnnbench.nn.losses import for_task

    tasks = composition.plain_config(composition.compose([f"loss={option}"]))["loss"]["tasks"]
    assert set(tasks) <= set(get_args(Task))
    tensors: dict[str, tuple[Any, Any]] = {
        "multiclass": (np.array([0, 2]), np.array([[0.8, 0.1, 0.1], [0.3, 0.3, 0.4]], np.float32)),
        "binary": (np.array([[0], [1]]), np.array([[0.2], [0.7]], np.float32)),
        "multilabel": (np.array([[0, 1], [1, 1]]), np.array([[0.2, 0.7], [0.6, 0.1]], np.float32)),
        "regression": (np.array([[1.0], [2.0]]), np.array([[1.5], [9.0]], np.float32)),
    }
    for task in tasks:
        spec = spec_of("run_dir=x", f"loss={option}", *OFFLINE[task])
        made = spec.loss() if spec.loss else for_task(task)
        assert float(made(*tensors[task])) > 0


def callbacks(option: str) -> None:
    import keras

    # Read as from a run folder: what a tracker needs is looked for only where a run begins.
    spec = composition.spec_from(
        composition.plain_config(composition.compose([f"callbacks={option}"])), Path("x")
    )
    made, trackers = ([make() for make in group.values()] for group in (spec.callbacks, spec.trackers))
    assert made or trackers
    assert all(isinstance(callback, keras.callbacks.Callback) for callback in made)
    assert all(isinstance(tracker, Tracker) for tracker in trackers)


def training(option: str) -> None:
    wanted = composition.plain_config(composition.compose([f"training={option}"]))["training"]
    model = "transfer" if wanted["fine_tuning"] else "cnn"
    assert spec_of("run_dir=x", f"training={option}", f"model={model}").training == Training(**wanted)


def launcher(option: str) -> None:
    composed = composition.compose([f"hydra/launcher={option}"])
    node = composition.as_values(composed.hydra.launcher)  # what it needs may not be installed
    assert validated(KINDS[option], node, "hydra.launcher").name == option


def sweep(option: str) -> None:
    planned = plan.plan([f"sweep={option}"], None)
    assert planned.search is not None if option == "search" else len(planned.jobs) >= 1


def experiment(option: str) -> None:
    """With an input of the shape that its data set has."""
    choice = composition.compose([f"experiment={option}"])
    chosen = choice.hydra.runtime.choices.dataset
    overrides = [f"experiment={option}", "run_dir=x", *GAPS.get(chosen, [])]
    if "weights" in choice.model:
        overrides.append("model.weights=null")
    spec = spec_of(*overrides)
    if chosen in SHAPES:
        input_shape, outputs = SHAPES[chosen]
        task = spec.config["dataset"].get("task", "multiclass")
    else:
        loaded = spec.dataset()
        input_shape, outputs, task = loaded.input_shape, loaded.outputs, loaded.task
    build_model(spec.model, input_shape, outputs)
    if spec.augmentation is not None:
        spec.augmentation().for_data(input_shape, outputs, task)
    if callable(spec.learning_rate):
        spec.optimizer(learning_rate=spec.learning_rate(steps_per_epoch=10, epochs=spec.training.epochs))
    for make in [spec.loss, *spec.callbacks.values()]:
        assert make is None or make() is not None


BUILDERS = {
    "model": model,
    "dataset": dataset,
    "augmentation": augmentation,
    "optimizer": optimizer,
    "optimizer/learning_rate": learning_rate,
    "loss": loss,
    "callbacks": callbacks,
    "training": training,
    "experiment": experiment,
    "hydra/launcher": launcher,
    "sweep": sweep,
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "config.yaml"])
def test_an_option_composes_passes_the_checks_and_is_built(name: str, folder: Path) -> None:
    group, option = group_and_option(Path(name))
    assert group in BUILDERS, "say above how the options of this group are built"
    BUILDERS[group](option)
    assert list(folder.iterdir()) == []


def test_the_default_is_a_small_network_on_digits_that_passes_the_checks(folder: Path) -> None:
    spec = spec_of("run_dir=x")
    assert spec.name == "cnn_digits"
    loaded = spec.dataset()
    build_model(spec.model, loaded.input_shape, loaded.outputs)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_first_line_says_what_it_is(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert first.startswith("# ")
    assert 10 < len(first) <= 100
    assert not first.startswith("# @")
    name = str(path.relative_to(CONF_DIR))
    if name != "config.yaml":
        group, option = group_and_option(Path(name))
        assert options()[group][option] == first.removeprefix("# ")


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("experiment/")])
def test_an_experiment_names_the_command_that_runs_it(name: str) -> None:
    text = (CONF_DIR / name).read_text(encoding="utf-8")
    option = name.removeprefix("experiment/").removesuffix(".yaml")
    assert f"#   cnnbench experiment={option}\n" in text


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_plain_targets_are_configured(path: Path) -> None:
    """Of Hydra's keys only `_target_` is used: `_partial_` and `_convert_` are the program's business."""
    text = path.read_text(encoding="utf-8")
    for key in ("_partial_", "_convert_", "_recursive_", "_args_"):
        assert key not in text
    assert isinstance(yaml.safe_load(text), dict)


def test_monitors_and_modes_are_always_said() -> None:
    for path in (CONF_DIR / "callbacks").glob("*.yaml"):
        for name, node in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            if name != "defaults" and "monitor" in node:
                assert node["mode"] in ("min", "max"), path


def test_conf_holds_nothing_but_yaml() -> None:
    assert [path for path in CONF_DIR.rglob("*") if path.is_file() and path.suffix != ".yaml"] == []


# ---------------------------------------------------------------- one truth


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_value_differs_from_the_signature_on_purpose(path: Path) -> None:
    """An option says so on the line, or is one of several of its group with the same `_target_`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for key, node in objects_in(yaml.safe_load("\n".join(lines))):
        others = [
            one for one in path.parent.glob("*.yaml") if f"_target_: {node['_target_']}\n" in one.read_text()
        ]
        if path.is_relative_to(CONF_DIR / "experiment") or len(others) > 1:
            continue
        given = GIVEN_BY_RUN.get(path.parent.relative_to(CONF_DIR).as_posix().replace("/", "."), ())
        for name, default in signature(node["_target_"]).defaults().items():
            value = node.get(name, default)
            if name in given or value == default or "${" in str(value):
                continue
            (line,) = [line for line in lines if line.strip().startswith(f"{name}:")]
            assert "#" in line, f"{key}.{name} is {value}, and {default} in the signature"


def test_no_keyword_of_an_option_needs_a_plus() -> None:
    """What a file leaves out is shown, and may be changed."""
    composed = composition.compose(["callbacks=[default,reduce_on_plateau]", "optimizer=muon"])
    assert composed.optimizer.use_ema is False
    assert composed.callbacks.reduce_on_plateau.cooldown == 0
    changed = composition.compose(["optimizer=sgd", "optimizer.clipvalue=0.5", "dataset=cats_and_dogs"])
    assert changed.optimizer.clipvalue == 0.5
    assert changed.dataset.test_fraction == 0.2
    with pytest.raises(CnnbenchError, match=r"there is no key optimizer\.clipvalu") as raised:
        composition.compose(["optimizer.clipvalu=0.5"])
    assert raised.value.hint.startswith("did you mean clipvalue?")
    assert (
        composition.compose(["+optimizer.amsgrad=true"]).optimizer.amsgrad is True
    )  # as it was typed before


def test_another_target_has_its_own_keywords() -> None:
    nadam = composition.compose(["optimizer._target_=keras.optimizers.Nadam"]).optimizer
    assert "amsgrad" not in nadam  # of Adam alone
    assert nadam.loss_scale_factor is None
    spec_of("run_dir=x", "optimizer._target_=keras.optimizers.Nadam")
    typed = "model.embedding={_target_: cnnbench.nn.layers.PeriodicEmbedding, frequencies: 4}"
    embedding = composition.compose(["model=mlp", typed, "model.embedding.sigma=2"]).model.embedding
    assert (embedding.frequencies, embedding.sigma, embedding.trainable) == (4, 2, True)


def test_a_config_of_an_earlier_version_compares_with_one_of_today() -> None:
    today = composition.plain_config(composition.compose([]))
    earlier = {**today, "optimizer": {k: v for k, v in today["optimizer"].items() if k != "amsgrad"}}
    assert with_keywords(earlier) == today


def test_every_key_of_fine_tuning_can_be_typed_where_there_is_some() -> None:
    assert set(composition.compose(["training=transfer"]).training.fine_tuning) == set(
        FineTuning.model_fields
    )
