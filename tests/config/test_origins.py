"""Where values come from; line numbers are looked up in the files, so that a preset may be edited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnbench.config.groups import CONF_DIR
from cnnbench.config.origins import explain, keywords
from cnnbench.errors import CnnbenchError

Cli = Callable[..., Any]
HOUSING = "experiment=best/california_housing"


def place(name: str, text: str) -> str:
    """The only line of a file that begins with a text, as `explain` names it."""
    lines = (CONF_DIR / name).read_text(encoding="utf-8").splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if line.strip().startswith(text)]
    return f"conf/{name}:{number}"


def test_a_default_comes_from_its_file() -> None:
    assert explain("seed", []) == ["seed = 0", f"  set by {place('config.yaml', 'seed:')}"]


def test_an_override_says_what_it_replaced() -> None:
    lines = explain("optimizer.weight_decay", [HOUSING, "optimizer.weight_decay=0.25"])
    assert lines[:2] == ["optimizer.weight_decay = 0.25", "  set by the override optimizer.weight_decay=0.25"]
    assert lines[2].endswith(f" by {place('experiment/best/california_housing.yaml', 'weight_decay:')}")
    assert lines[3].endswith(f" by {place('optimizer/adamw.yaml', 'weight_decay:')}")
    assert len(lines) == 4


def test_a_key_typed_twice_has_its_last_value() -> None:
    assert explain("seed", ["seed=1", "device=cpu", "seed=2"])[:3] == [
        "seed = 2",
        "  set by the override seed=2",
        "  before: 1 by the override seed=1",
    ]


def test_an_option_of_a_group_has_its_own_history() -> None:
    lines = explain("model", [HOUSING, "model=cnn"])
    assert lines[:5] == [
        "model = cnn",
        "  set by the override model=cnn",
        f"  before: mlp by {place('experiment/best/california_housing.yaml', '- override /model:')}",
        f"  before: mlp by {place('dataset/california_housing.yaml', '- override /model@')}",
        f"  before: cnn by {place('config.yaml', '- model:')}",
    ]
    assert lines[5].startswith('model = {"_target_": "cnnbench.models.cnn.cnn"')


@pytest.mark.parametrize("key", ["optimizer.learning_rate", "optimizer/learning_rate"])
def test_a_group_in_a_group_is_chosen_in_its_file(key: str) -> None:
    chosen = place("optimizer/adam.yaml", "- learning_rate:")
    assert explain(key, [])[:2] == ["optimizer/learning_rate = constant", f"  set by {chosen}"]


def test_a_file_that_builds_on_another_comes_after_it() -> None:
    lines = explain("training.epochs", ["training=smoke"])
    assert lines[1:] == [
        f"  set by {place('training/smoke.yaml', 'epochs:')}",
        f"  before: 20 by {place('training/default.yaml', 'epochs:')}",
    ]


def test_a_value_that_refers_to_another_shows_both() -> None:
    lines = explain("dataset.data_dir", ["dataset=mnist", "data_dir=mine"])
    assert lines == [
        'dataset.data_dir = "mine"',
        f"  set by {place('dataset/mnist.yaml', 'data_dir:')} (as ${{data_dir}})",
    ]


def test_a_value_may_replace_a_whole_option() -> None:
    lines = explain("optimizer.learning_rate", ["optimizer.learning_rate=0.5"])
    assert lines[2:4] == [
        "optimizer.learning_rate = 0.5",
        "  set by the override optimizer.learning_rate=0.5",
    ]


def test_a_key_in_what_was_typed_as_a_whole_is_found() -> None:
    lines = explain("training.fine_tuning.epochs", ["training.fine_tuning={epochs: 5, from_layer: x}"])
    assert lines[0] == "training.fine_tuning.epochs = 5"
    assert lines[1].startswith("  set by the override training.fine_tuning=")


def test_a_keyword_that_no_file_names_comes_from_its_signature() -> None:
    lines = explain("optimizer.amsgrad", ["optimizer.amsgrad=true"])
    assert lines[:2] == ["optimizer.amsgrad = true", "  set by the override optimizer.amsgrad=true"]
    assert lines[2].startswith("  before: false by keras/src/optimizers/adam.py:")
    assert explain("dataset.bits", ["dataset=cats_and_dogs"])[1].startswith(
        "  set by cnnbench/data/images/folder.py:"
    )


def test_an_option_lists_its_keys_with_their_places(run_cli: Cli) -> None:
    lines = keywords("callbacks=early_stopping")
    assert any(line.startswith("callbacks.early_stopping.verbose = 0 ") for line in lines)
    assert lines[-1].rpartition(":")[0].endswith("keras/src/callbacks/early_stopping.py")
    assert run_cli("list", "model=cnn").out.splitlines()[1].startswith("model.filters = [32, 64] ")
    assert run_cli("list", "model=cnm").exit_code == 2
    assert run_cli("list", "experiment=notes/fashion_cnn").exit_code == 2


def test_options_of_the_users_own_are_found(tmp_path: Path) -> None:
    own = tmp_path / "model" / "mine.yaml"
    own.parent.mkdir()
    own.write_text("# mine\n_target_: cnnbench.models.mlp.mlp\nunits: [3]\n")
    lines = explain("model.units", ["model=mine"], str(tmp_path))
    assert explain("model.dropout", ["model=mine"], str(tmp_path))[1].startswith(
        "  set by cnnbench/models/mlp"
    )
    assert lines == ["model.units = [3]", f"  set by {own}:3"]


@pytest.mark.parametrize(
    ("key", "message", "hint"),
    [
        ("modle", "there is no key modle", "did you mean model?"),
        ("model.filtres", "there is no key filtres in model", "did you mean filters?"),
        ("seed.x", "there is no key x in seed", "there are none"),
        ("hydra.run.dir", "there is no key hydra", ""),
    ],
)
def test_an_unknown_key_is_one_line_with_the_nearest(key: str, message: str, hint: str) -> None:
    with pytest.raises(CnnbenchError) as raised:
        explain(key, [])
    assert raised.value.message == message
    assert hint in raised.value.hint


def test_the_command(run_cli: Cli) -> None:
    outcome = run_cli("explain", "training.epochs", "training=smoke")
    assert (outcome.exit_code, outcome.err) == (0, "")
    assert outcome.out.startswith("training.epochs = 1\n  set by conf/training/smoke.yaml:")
    assert run_cli("explain", "seed", "sed=1").exit_code == 2
