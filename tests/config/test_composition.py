"""From what is typed to a `RunSpec`: composition, factories, learning rates, the user's own code."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY, Outcome, without_remarks
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from cnnbench.config import composition
from cnnbench.config.composition import axes
from cnnbench.config.groups import options
from cnnbench.config.origins import explain
from cnnbench.config.overrides import combinations, quoted
from cnnbench.errors import CnnbenchError
from cnnbench.runs.spec import RunSpec
from cnnbench.sweeps.plan import plan

# A module of the user's: it remembers what it was given, and builds a real (if small) model.
OWN_MODELS = """
import keras

GIVEN = {}

def mine(input_shape, outputs, units: list[int] = (4,), options: dict | None = None):
    GIVEN.update(input_shape=input_shape, outputs=outputs, units=units, options=options)
    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten()(inputs)
    for width in units:
        x = keras.layers.Dense(width)(x)
    return keras.Model(inputs, keras.layers.Dense(outputs)(x), name="mine")
"""
OWN_YAML = "# A model of my own\n_target_: own_models.mine\nunits: [5, 6]\noptions: {a: {b: [1, 2]}}\n"


@pytest.fixture(autouse=True)
def alone(folder: Path) -> Iterator[None]:
    """Nothing stays of a test's modules and of Hydra's state."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in ("own_models", "nothing_here"):
        sys.modules.pop(name, None)
    GlobalHydra.instance().clear()


@pytest.fixture
def own(folder: Path) -> Path:
    """`conf/model/mine.yaml` and `own_models.py` in the working folder."""
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "mine.yaml").write_text(OWN_YAML)
    (folder / "own_models.py").write_text(OWN_MODELS)
    return folder


def spec_of(*overrides: str, config_dir: str | None = None) -> RunSpec:
    composed = composition.compose(overrides, config_dir)
    return composition.run_spec(composed, composed.hydra.runtime.choices, overrides)


# ---------------------------------------------------------------- composing


def test_the_default_composes_with_the_options_that_were_chosen() -> None:
    composed = composition.compose()
    assert composed.model._target_ == "cnnbench.models.cnn.cnn"
    choices = composed.hydra.runtime.choices
    assert (choices.model, choices.dataset, choices["optimizer/learning_rate"]) == (
        "cnn",
        "digits",
        "constant",
    )


def test_options_and_values_can_be_changed() -> None:
    plain = composition.plain_config(
        composition.compose(["model=mlp", "model.units=[7]", "optimizer=sgd", "seed=5"])
    )
    assert plain["model"]["units"] == [7]
    assert plain["optimizer"]["_target_"] == "keras.optimizers.SGD"
    assert plain["seed"] == 5


def test_an_experiment_wins_over_the_groups_and_the_command_line_over_it() -> None:
    preset = composition.plain_config(composition.compose(["experiment=notes/cifar10_cnn"]))
    assert preset["training"]["epochs"] == 200
    assert preset["dataset"]["_target_"] == "cnnbench.data.sources.cifar.cifar10"
    changed = composition.plain_config(
        composition.compose(["experiment=notes/cifar10_cnn", "training.epochs=2"])
    )
    assert changed["training"]["epochs"] == 2


def test_a_plain_config_is_python_without_hydra() -> None:
    plain = composition.plain_config(composition.compose(["data_dir=here", "dataset=mnist"]))
    assert "hydra" not in plain
    assert plain["dataset"]["data_dir"] == "here"  # interpolations are resolved

    def types(node: Any) -> set[type]:
        inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        return {type(node)}.union(*map(types, inside))

    assert types(plain) <= {dict, list, str, int, float, bool, type(None)}


def test_composing_twice_does_not_disturb_a_composition_before() -> None:
    first = composition.compose(["seed=1"])
    assert composition.compose(["seed=2"]).seed == 2
    assert first.seed == 1


def test_while_files_are_unchanged_a_choice_of_options_is_merged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    merged: list[Any] = []
    hydra = composition.hydra_compose
    monkeypatch.setattr(composition, "hydra_compose", lambda *a, **k: (merged.append(a), hydra(*a, **k))[1])
    lines = [("model=cnn", "seed=1"), ("model=cnn", "seed=2", "model.filters=[3]"), ("model=mlp", "seed=1")]
    alone = [OmegaConf.to_yaml(composition.compose(line)) for line in lines]
    assert len(merged) == 3
    with composition.files_unchanged():
        assert [OmegaConf.to_yaml(composition.compose(line)) for line in (*lines, lines[0])] == [
            *alone,
            alone[0],
        ]
    assert len(merged) == 5
    composition.compose(lines[0])
    assert len(merged) == 6


def test_a_sweep_is_taken_apart_in_hydras_order() -> None:
    assert combinations(axes(["model=mlp,cnn", "seed=0,1", "training=smoke"])) == [
        (f"model={model}", f"seed={seed}", "training=smoke") for model in ("mlp", "cnn") for seed in (0, 1)
    ]
    assert axes(["seed=range(0,3)"]) == {"seed": ["seed=0", "seed=1", "seed=2"]}
    assert axes(["model.filters=[8],[8,16]"]) == {
        "model.filters": ["model.filters=[8]", "model.filters=[8,16]"]
    }


@pytest.mark.parametrize(
    "text",
    ["plain", "it's", "a b,c", "back\\slash", "'", "x=[1", "ends\\", "a\\'b", "\\\\'"],
)
def test_a_quoted_value_comes_back_as_it_was(text: str) -> None:
    assert composition.compose([f"run_dir={quoted(text)}"]).run_dir == text


def test_every_group_has_options_with_descriptions() -> None:
    found = options()
    assert {"model", "dataset", "optimizer", "optimizer/learning_rate", "loss", "callbacks"} <= set(found)
    assert found["model"]["mlp"] == "Multilayer perceptron: flatten, then dense layers"
    assert found["experiment"]["notes/cifar10_cnn"].startswith("N3: ")
    assert "config" not in found["model"]


def test_options_of_the_user_are_listed_too(own: Path) -> None:
    assert options("conf")["model"]["mine"] == "A model of my own"
    assert "cnn" in options("conf")["model"]


# ---------------------------------------------------------------- the spec


def test_a_spec_has_plain_values_and_factories() -> None:
    import keras

    spec = spec_of(
        "model.filters=[4,8]", "training.epochs=3", "seed=7", "run_dir=mine", "loss=label_smoothing"
    )
    assert (spec.name, spec.seed, spec.training.epochs) == ("cnn_digits", 7, 3)
    assert spec.run_dir == Path("mine")
    assert spec.overrides[0] == "model.filters=[4,8]"
    assert spec.config["model"]["filters"] == [4, 8]
    dataset = spec.dataset()
    assert dataset.task == "multiclass"
    model = spec.model(input_shape=dataset.input_shape, outputs=dataset.outputs)
    assert model.output_shape == (None, 10)
    assert spec.loss is not None
    assert spec.loss().label_smoothing == 0.1
    assert spec.loss_tasks == ("multiclass",)
    assert isinstance(spec.callbacks["early_stopping"](), keras.callbacks.EarlyStopping)


def test_each_call_of_a_factory_makes_a_new_thing() -> None:
    make = spec_of("run_dir=x").callbacks["early_stopping"]
    assert make() is not make()


def test_a_spec_can_be_made_again_from_the_config_that_a_run_leaves() -> None:
    first = spec_of("optimizer=sgd", "optimizer/learning_rate=cosine", "run_dir=x")
    again = composition.spec_from(first.config, Path("elsewhere"))
    assert again.config == first.config
    assert again.training == first.training
    assert set(again.callbacks) == set(first.callbacks)
    assert again.optimizer(learning_rate=0.5).momentum == first.optimizer(learning_rate=0.5).momentum


def test_a_name_of_ones_own_takes_the_place_of_model_and_data_set() -> None:
    assert spec_of("run_dir=x", "model=mlp").name == "mlp_digits"
    assert spec_of("run_dir=x", "name=mine").name == "mine"
    with pytest.raises(CnnbenchError, match="name"):
        spec_of("run_dir=x", "name='../mine'")


def test_a_wrong_config_makes_no_folder(folder: Path) -> None:
    with pytest.raises(CnnbenchError):
        spec_of("+model.filter=[3]")
    assert list(folder.iterdir()) == []


def test_a_callback_is_removed_by_its_name() -> None:
    assert set(spec_of("run_dir=x").callbacks) == {"checkpoint", "early_stopping"}
    assert set(spec_of("run_dir=x", "callbacks.early_stopping=null").callbacks) == {"checkpoint"}
    assert set(spec_of("run_dir=x", "~callbacks.early_stopping").callbacks) == {"checkpoint"}
    assert set(spec_of("run_dir=x", "callbacks=[checkpoint,reduce_on_plateau]").callbacks) == {
        "checkpoint",
        "reduce_on_plateau",
    }


# ---------------------------------------------------------------- learning rates


def test_a_learning_rate_is_a_number_or_an_option() -> None:
    assert spec_of("run_dir=x", "optimizer.learning_rate=0.02").learning_rate == 0.02
    assert spec_of("run_dir=x", "optimizer.learning_rate=1").learning_rate == 1.0
    constant = spec_of("run_dir=x", "optimizer.learning_rate.initial_learning_rate=0.3").learning_rate
    assert callable(constant)
    assert constant(steps_per_epoch=10, epochs=2) == 0.3


def test_each_optimizer_has_its_own_default_rate_also_under_a_schedule() -> None:
    rates = {
        (optimizer, schedule): composition.compose(
            [f"optimizer={optimizer}", f"optimizer/learning_rate={schedule}"]
        ).optimizer.learning_rate.initial_learning_rate
        for optimizer in ("adam", "sgd")
        for schedule in ("constant", "cosine")
    }
    assert rates["adam", "constant"] == rates["adam", "cosine"] == 0.001
    assert rates["sgd", "constant"] == rates["sgd", "cosine"] == 0.01


def test_a_schedule_is_told_the_length_of_the_training_where_it_asks_for_it() -> None:
    cosine = spec_of("run_dir=x", "optimizer/learning_rate=cosine").learning_rate
    assert callable(cosine)
    schedule = cosine(steps_per_epoch=10, epochs=4)
    assert float(schedule(40)) == pytest.approx(0.0, abs=1e-9)
    assert float(schedule(10)) == pytest.approx(0.001)
    decay = spec_of("run_dir=x", "optimizer/learning_rate=exponential_decay").learning_rate
    assert callable(decay)
    assert float(decay(steps_per_epoch=10, epochs=4)(0)) > 0  # takes neither


@pytest.mark.parametrize("option", ["adam", "adamw", "rmsprop", "sgd"])
def test_an_optimizer_takes_the_rate_that_the_run_has_made(option: str) -> None:
    optimizer = spec_of("run_dir=x", f"optimizer={option}").optimizer(learning_rate=0.25)
    assert float(optimizer.learning_rate) == 0.25


# ---------------------------------------------------------------- the user's own code


def test_what_reaches_a_target_is_plain_python(own: Path) -> None:
    """A ListConfig inside a Keras layer cannot be saved."""
    spec = spec_of("model=mine", "plugins=[own_models]", "run_dir=x", config_dir="conf")
    spec.model(input_shape=(8, 8, 1), outputs=3)
    given = sys.modules["own_models"].GIVEN
    assert given == {
        "input_shape": (8, 8, 1),  # what the data decide is handed over as it is
        "outputs": 3,
        "units": [5, 6],
        "options": {"a": {"b": [1, 2]}},
    }
    assert type(given["input_shape"]) is tuple
    assert type(given["units"]) is list
    assert type(given["options"]) is type(given["options"]["a"]) is dict
    assert type(given["options"]["a"]["b"]) is list
    assert not any(isinstance(value, DictConfig) for value in given.values())


@pytest.mark.parametrize("plugin", ["own_models", "own_models.py", "./own_models.py", "ABSOLUTE"])
def test_a_model_of_the_users_own_is_found_by_module_name_and_by_path(plugin: str, own: Path) -> None:
    plugin = plugin.replace("ABSOLUTE", str(own / "own_models.py"))
    spec = spec_of("model=mine", f"plugins=[{plugin}]", "run_dir=x", config_dir="conf")
    assert spec.model(input_shape=(8, 8, 1), outputs=3).output_shape == (None, 3)


def test_a_model_of_the_users_own_trains_from_another_working_folder(
    own: Path, run_cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "elsewhere").mkdir()
    monkeypatch.chdir(own / "elsewhere")
    common = [value for value in TINY if not value.startswith("model")]
    outcome = run_cli("--config-dir", "../conf", *common, "model=mine", "plugins=[../own_models.py]")
    assert (outcome.exit_code, without_remarks(outcome.err)) == (0, "")
    assert "model: mine" in outcome.out


def test_without_plugins_code_of_the_users_own_is_refused(own: Path, run_cli: Callable[..., Outcome]) -> None:
    outcome = run_cli("--config-dir", "conf", "model=mine")
    assert outcome.exit_code == 2
    assert "own_models.mine: a config may only name keras, cnnbench and plugins" in outcome.err
    assert "hint: if you trust that code: plugins=[own_models]" in outcome.err
    assert "own_models" not in sys.modules


def test_a_plugin_that_is_named_may_not_bring_in_others(own: Path) -> None:
    with pytest.raises(CnnbenchError, match=r"os\.system"):
        spec_of("model=mine", "plugins=[own_models]", "model._target_=os.system", config_dir="conf")
    (own / "own_models.py").write_text("from shutil import rmtree as mine\n")
    with pytest.raises(CnnbenchError, match=r"shutil\.rmtree"):
        spec_of("model=mine", "plugins=[own_models]", config_dir="conf")


def test_keywords_of_the_users_own_model_are_checked(own: Path) -> None:
    with pytest.raises(CnnbenchError, match="did you mean units"):
        spec_of("model=mine", "plugins=[own_models]", "+model.unit=[3]", config_dir="conf")
    with pytest.raises(CnnbenchError, match=r"model\.units\.0=high"):
        spec_of("model=mine", "plugins=[own_models]", "model.units=[high]", config_dir="conf")


def test_a_plugin_hides_no_installed_module(own: Path) -> None:
    (own / "yaml.py").write_text("raise ImportError('mine')\n")
    sys.modules.pop("own_models", None)
    spec_of("model=mine", "plugins=[own_models]", "run_dir=x", config_dir="conf")
    assert sys.path.index(str(own)) == len(sys.path) - 1


def test_a_plugin_file_that_is_missing_is_wrong_input(folder: Path) -> None:
    with pytest.raises(CnnbenchError, match=r"there is no nothing_here\.py"):
        spec_of("plugins=[nothing_here.py]")


def test_a_value_that_is_missing_in_a_yaml_is_named(own: Path) -> None:
    (own / "conf" / "model" / "gap.yaml").write_text("# Gap\n_target_: cnnbench.models.mlp.mlp\nunits: ???\n")
    with pytest.raises(CnnbenchError, match=r"model\.units"):
        spec_of("model=gap", config_dir="conf")


def test_an_interpolation_that_leads_nowhere_is_named(own: Path) -> None:
    with pytest.raises(CnnbenchError, match="nowhere"):
        spec_of("model.dropout=${nowhere}")


def test_a_config_written_down_is_read_back_equal(folder: Path) -> None:
    plain = composition.plain_config(composition.compose(["model.dropout=1e-3"]))
    OmegaConf.save(OmegaConf.create(plain), folder / "config.yaml")
    assert yaml.safe_load((folder / "config.yaml").read_text()) == plain


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.filtres=[4]", "model..x=1"], "cannot read 'model..x=1'"),
        (["+=4"], "there is no key"),
        (["+model.filters='a\nb'"], "model.filters exists already"),
        ([f"+seed={'x' * 300}"], "…: seed exists already"),
        ([f"model..x={'x' * 300}"], "…'"),
        (["model=[null]"], "model has no option None"),
        (["++loss.tasks=8"], "loss.tasks=8: input should be a valid list"),
        (["++dataset.task=ranking"], "dataset.task=ranking"),
        (["~callbacks.checkpoint.monitor"], "callbacks.checkpoint does not say what it monitors"),
        (["seed=${nowhere}"], "seed: ${…} cannot be resolved: Interpolation key 'nowhere' not found"),
        (["seed=${oc.env:NOWHERE}"], "seed: ${…} cannot be resolved"),
        (["training.fine_tuning={}"], "training.fine_tuning.from_layer is missing"),
        (["training.fine_tuning=3"], "training.fine_tuning=3: input should be a mapping"),
        (
            [
                "model=transfer",
                "training.fine_tuning={from_layer: all, epochs: 1, learning_rate: 0.1, layer_decay: 1.5}",
            ],
            "layer_decay",
        ),
        (
            [
                "model=transfer",
                "training.fine_tuning={from_layer: all, epochs: 1, learning_rate: 0.1, unfreeze_epochs: 0}",
            ],
            "unfreeze_epochs",
        ),
        (
            [
                "model=transfer",
                "training.fine_tuning={from_layer: all, epochs: 1, learning_rate: 0.1, schedule: linear}",
            ],
            "schedule",
        ),
        (
            [
                "model=transfer",
                "training.fine_tuning={from_layer: all, epochs: 1, learning_rate: 0.1, warmup_epochs: 1}",
            ],
            "belongs to a schedule",
        ),
        (
            [
                "model=transfer",
                "optimizer=muon",
                "training.fine_tuning={from_layer: all, epochs: 1, learning_rate: 0.1, layer_decay: 0.8}",
            ],
            "Muon holds",
        ),
        (
            [
                "model=transfer",
                "model.weights=null",
                "training.fine_tuning={from_layer: all, epochs: 1, learning_rate: 0.1, l2_sp: 0.1}",
            ],
            "model.weights is null",
        ),
        (["training.calibration.share=0.3"], "is of training.calibration.coverage"),
        (
            ["dataset=synthetic", "dataset.task=regression", "training.calibration.coverage=0.9"],
            "here are several targets",
        ),
        (["training.max_steps=0"], "training.max_steps"),
        (["model.convolutions=1000000000"], "less than or equal to 100"),
        (["model=wide_resnet", "model.depth=1000000000"], "less than or equal to 1000"),
        (["model.dropout={_target_: keras.losses.Huber}"], "model.dropout takes no object"),
        (["optimizer.beta_1={_target_: keras.losses.Huber}"], "optimizer.beta_1 takes no object"),
        (["optimizer.beta_1=[0]"], "optimizer.beta_1=[0] is not a number"),
        (["optimizer.beta_2=nan"], "optimizer.beta_2=nan is not a number"),
        (["optimizer.beta_1=null"], "optimizer.beta_1=None is not a number"),
        (["optimizer.clipnorm=abc"], "optimizer.clipnorm=abc: input should be a valid number"),
        (["optimizer.clipnorm={_target_: keras.losses.Huber}"], "optimizer.clipnorm takes no object"),
        (["optimizer.clipnorm=-1"], "optimizer.clipnorm=-1: input should be greater than 0"),
        (["optimizer.epsilon=[1]"], "optimizer.epsilon=[1] is not a number"),
        (
            ["callbacks.early_stopping.patience=null"],
            "callbacks.early_stopping.patience=None is not a number",
        ),
        (["callbacks.early_stopping.patience=inf"], "callbacks.early_stopping.patience=inf is not a number"),
        (["model.filters=4"], "model.filters=4: input should be a list"),
    ],
)
def test_a_slip_is_named(overrides: list[str], message: str) -> None:
    """Found by tests/test_properties.py."""
    with pytest.raises(CnnbenchError, match=re.escape(message)) as caught:
        spec_of("run_dir=x", *overrides)
    assert "\n" not in str(caught.value)
    assert len(caught.value.message) < 250


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(CnnbenchError) as caught:
        spec_of("run_dir=x", f"model.padding={'x' * 300}")
    assert len(caught.value.message) < 250


def test_an_unknown_key_is_named_beside_one_whose_value_has_to_be_given() -> None:
    for line in (["dataset.root=flat", "dataset.labels=x"], ["dataset.labels=x", "dataset.root=flat"]):
        with pytest.raises(CnnbenchError, match=r"there is no key dataset\.labels"):
            composition.compose(["dataset=image_folder", *line])


def test_a_config_is_shown_without_numpy_and_types(run_python: Callable[[str], Outcome]) -> None:
    code = """
import sys
from cnnbench.config.composition import as_yaml, compose
assert "amsgrad: false" in as_yaml(compose(["optimizer=adam"]), "job")
print(*({"numpy", "pydantic", "keras", "tensorflow"} & set(sys.modules)))
"""
    outcome = run_python(code)
    assert (outcome.exit_code, outcome.out.strip()) == (0, "")


# ---------------------------------------------------------------- the model that a data set names

MODEL_OF_DATA = "defaults:\n  - override /model@_global_.model: {}\n"
OWN_TABLE = "# Mine\n{}_target_: cnnbench.data.sources.tables.diabetes\n"
OWN_PRESET = "# @package _global_\n# Mine\ndefaults:\n  - override /dataset: diabetes\n{}"


@pytest.fixture
def named(own: Path) -> Path:
    """Options of the user's own, of which some name a model and some do not."""
    for option, text in {
        "dataset/bare": OWN_TABLE.format(""),
        "dataset/with_own": OWN_TABLE.format(MODEL_OF_DATA.format("mine")),
        "dataset/like_digits": "# Mine\ndefaults: [digits]\n",
        # Overrides come last in a list.
        "dataset/like_diabetes": "# Mine\ndefaults: [diabetes, {override /model@_global_.model: mine}]\n",
        "experiment/of_data": OWN_PRESET.format(""),
        "experiment/of_both": OWN_PRESET.format("  - override /model: mine\n"),
        "experiment/nested": "# @package _global_\n# Mine\ndefaults: [of_both, {override /loss: mae}]\n",
    }.items():
        path = own / "conf" / f"{option}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return own


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("", "cnn"),
        ("dataset=digits", "cnn"),
        ("dataset=diabetes", "mlp"),
        ("dataset=diabetes model=cnn", "cnn"),
        ("model=resnet dataset=diabetes", "resnet"),
        ("dataset=table", "mlp"),
        ("dataset=diabetes experiment=notes/fashion_cnn", "cnn"),
        ("experiment=notes/fashion_mlp dataset=digits", "mlp"),
        ("experiment=of_data", "mlp"),
        ("experiment=of_data model=cnn", "cnn"),
        ("experiment=of_both", "mine"),
        ("experiment=of_both dataset=digits", "mine"),
        ("experiment=nested", "mine"),
        ("dataset=bare", "cnn"),
        ("dataset=bare model=mlp", "mlp"),
        ("dataset=with_own", "mine"),
        ("dataset=like_digits", "cnn"),
        ("dataset=like_diabetes", "mine"),
        ("dataset=like_diabetes model=mlp", "mlp"),
        ("dataset=diabetes model.units=[3] plugins=[own_models]", "mlp"),
    ],
)
def test_a_data_set_names_the_model_unless_the_line_or_a_preset_does(
    line: str, model: str, named: Path
) -> None:
    composed = composition.compose(line.split())
    assert composed.hydra.runtime.choices.model == model
    targets = {"cnn": "cnn.cnn", "mlp": "mlp.mlp", "resnet": "resnet.resnet", "mine": "own_models.mine"}
    assert composed.model._target_.endswith(targets[model])


def test_every_data_set_of_ours_names_a_model() -> None:
    for file in (composition.CONF_DIR / "dataset").glob("*.yaml"):
        assert "- override /model@_global_.model: " in file.read_text(encoding="utf-8"), file.name


def test_a_sweep_over_data_sets_has_the_model_of_each(named: Path) -> None:
    jobs = plan(["dataset=digits,diabetes"], None).jobs
    assert [job.config["name"] for job in jobs] == ["cnn_digits", "mlp_diabetes"]
    assert [job.config["model"]["_target_"].rpartition(".")[2] for job in jobs] == ["cnn", "mlp"]
    both = plan(["dataset=digits,diabetes", "model=mlp,mine", "plugins=[own_models]"], None).jobs
    assert [job.config["name"] for job in both] == [
        "mlp_digits",
        "mine_digits",
        "mlp_diabetes",
        "mine_diabetes",
    ]


def test_explain_names_the_data_set_that_chose_the_model(named: Path) -> None:
    told = explain("model", ["dataset=diabetes"])
    assert told[0] == "model = mlp"
    assert "conf/dataset/diabetes.yaml:" in told[1]
    assert "before: cnn by conf/config.yaml" in told[2]
    assert explain("model", ["dataset=diabetes", "model=cnn"])[1].endswith("the override model=cnn")
