"""Text as a shell hands it over: names and places with any character, `~`, numbers taken for text."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cnnbench.config import composition
from cnnbench.config.groups import options
from cnnbench.config.origins import explain
from cnnbench.errors import CnnbenchError
from cnnbench.sweeps import plan

Cli = Callable[..., Outcome]
NAMES = [
    *("사진", "my pics (2024)", "it's", "r/epoch=03", "a;b", "a&b", "#1", "a!", "50%", "ünïcode/ß", "(", ")"),
    *("[1] old", "{a", "a{b}", '"quoted', "a'b\"c", "2024", "2024_01", "1e5", "true", "007", "back\\slash("),
    *("<x>", "choice(", "range(1", "a = b", "^", "`x`", "a\nb", "x:y(z)", "😀"),
]  # fmt: skip
FOLDERS = ["ü", "it's", "with spaces", "a=b", "a,b", "(x) [y] {z}", "a;b", "100%", "#", "사진"]


def plain(*overrides: str, config_dir: str | None = None) -> dict[str, Any]:
    return composition.plain_config(composition.compose(overrides, config_dir))


@pytest.mark.parametrize("name", NAMES)
def test_a_place_is_the_text_that_was_typed(name: str) -> None:
    config = plain("dataset=image_folder", f"dataset.root={name}", f"run_dir={name}", f"data_dir={name}")
    assert (config["dataset"]["root"], config["run_dir"], config["data_dir"]) == (name, name, name)
    assert plan.plan(["dataset=image_folder", f"dataset.root={name}", "seed=0,1"], None).jobs[1].config[
        "dataset"
    ] == {**config["dataset"], "data_dir": None}


# What the grammar of Hydra or of OmegaConf reads: a list of values, a reference, quotation marks, escapes.
READ = set(",$'\"\\~?")


@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(
    st.text(
        st.characters(codec="utf-8", exclude_characters=READ, exclude_categories=["Cc", "Zs"]), min_size=1
    )
)
@example("0_0")
@example("{}")
@example("[]")
def test_any_name_is_the_text_that_was_typed(name: str) -> None:
    if name.lower() == "null":
        return
    means_more = any(f"{function}(" in name for function in ("choice", "range", "interval", "glob", "tag"))
    found = name if means_more else plain(f"run_dir={name}")["run_dir"]
    assert found == name or isinstance(found, dict | list)  # which the check of the config refuses


@pytest.mark.parametrize("group", [r"(patient\d+)_", r"^\w+/(film|camera)\d", "folder", "(patient"])
def test_a_group_is_the_expression_that_was_typed(group: str) -> None:
    assert (
        plain("dataset=image_folder", "dataset.root=x", f"dataset.group={group}")["dataset"]["group"] == group
    )


def test_several_places_are_the_values_of_a_sweep() -> None:
    line = ["dataset=image_folder", "dataset.root=사진,my pics (2024), it's,2024"]
    found = [job.config["dataset"]["root"] for job in plan.plan(line, None).jobs]
    assert found == ["사진", "my pics (2024)", "it's", "2024"]
    with pytest.raises(CnnbenchError) as raised:
        composition.compose(line)
    assert "a comma in a name is quoted: \"dataset.root='…,…'\"" in raised.value.hint


@pytest.mark.parametrize(
    "typed",
    ["model.filters=[1", "model.filters={a", "seed=range(1", "model.activation='x", "사진", "ü=1", "=1"],
)
def test_what_may_mean_something_else_is_not_guessed(typed: str) -> None:
    with pytest.raises(CnnbenchError, match="cannot read"):
        composition.compose([typed])


def test_other_text_is_refused_for_what_it_is() -> None:
    with pytest.raises(CnnbenchError, match="model has no option '사진'"):
        composition.compose(["model=사진"])
    with pytest.raises(CnnbenchError, match=r"there is no key sed"):
        composition.compose(["sed=a(b"])


def test_a_tilde_is_the_home_everywhere(folder: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Cli) -> None:
    home = folder / "home"
    (home / "conf" / "training").mkdir(parents=True)
    (home / "conf" / "training" / "short.yaml").write_text("# Short\ndefaults: [default]\nepochs: 2\n")
    (home / "mine.py").write_text("")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    places = (
        "run_dir=~/runs",
        "data_dir=~",
        "dataset=image_folder",
        "dataset.root=~/my pics",
        "plugins=[~/mine.py]",
    )
    config = plain(*places)
    assert (config["run_dir"], config["data_dir"]) == (str(home / "runs"), str(home))
    assert config["dataset"]["root"] == str(home / "my pics")
    assert config["plugins"] == [str(home / "mine.py")]
    outcome = run_cli("--config-dir=~/conf", "training=short", "--cfg", "job", "-p", "training.epochs")
    assert outcome.out.endswith("2\n")
    assert run_cli("explain", "training.epochs", "training=short", "--config-dir=~/conf").exit_code == 0


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_options_may_have_any_name(name: str, folder: Path) -> None:
    own = folder / name / "training" / "short.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# Short\ndefaults: [default]\nepochs: 2\n")
    assert plain("training=short", config_dir=name)["training"]["epochs"] == 2
    assert explain("training.epochs", ["training=short"], name)[1].startswith("  set by ")


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_a_byte_order_mark_changes_nothing(mark: bytes, encoding: str, folder: Path) -> None:
    text = "# @package _global_\n# Für alle\ntraining: {epochs: 3}\n"
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "own.yaml").write_bytes(mark + text.encode(encoding))
    assert plain("experiment=own", config_dir="mine")["training"]["epochs"] == 3
    assert options("mine")["experiment"]["own"] == "Für alle"
    assert explain("training.epochs", ["experiment=own"], "mine")[1].endswith("own.yaml:3")


def test_a_yaml_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "own.yaml").write_bytes("# für".encode("latin-1"))
    with pytest.raises(CnnbenchError, match=r"own\.yaml is not written in UTF-8"):
        options("mine")


@pytest.mark.parametrize(
    ("typed", "key", "wanted"),
    [
        ("optimizer.learning_rate='1e-3'", "optimizer.learning_rate", 0.001),
        ("optimizer.learning_rate='0.01'", "optimizer.learning_rate", 0.01),
        ("optimizer.weight_decay='1E-4'", "optimizer.weight_decay", 0.0001),
        ("model.dropout='.5'", "model.dropout", 0.5),
        ("training.epochs='3'", "training.epochs", 3),
        ("model.filters=['8','16']", "model.filters", [8, 16]),
        ("name='1e5'", "name", "1e5"),
        ("run_dir='007'", "run_dir", "007"),
    ],
)
def test_a_number_is_one_however_it_is_written(typed: str, key: str, wanted: object) -> None:
    config: Any = plain("optimizer=adamw", typed)
    for part in key.split("."):
        config = config[part]
    assert config == wanted
    assert type(config) is type(wanted)


@pytest.mark.parametrize("typed", ["callbacks=[]", "~callbacks"])
def test_no_callbacks_at_all_are_understood(typed: str) -> None:
    composed = composition.compose([typed])
    spec = composition.run_spec(composed, composed.hydra.runtime.choices)
    assert spec.callbacks == {}


def test_a_run_without_a_name_has_one_wherever_it_is_referred_to() -> None:
    assert plain("run_dir=b/${name}_${seed}")["run_dir"] == "b/cnn_digits_0"
    jobs = plan.plan(["run_dir=b/${name}", "model=mlp,cnn"], None)
    assert jobs.run_dir == str(Path("b/mlp_digits").absolute())


def test_explain_shows_what_a_reference_leads_to() -> None:
    assert explain("name", ["name=run_${seed}"])[:2] == [
        'name = "run_0"',
        "  set by the override name=run_${seed}",
    ]
