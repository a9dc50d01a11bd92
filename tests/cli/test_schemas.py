"""What `--json` and `metrics.json` hold is what `cnnbench schema` says, and nothing that it does not say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Outcome, call_main
from jsonschema import Draft202012Validator
from PIL import Image

from cnnbench.cli import schemas
from cnnbench.cli.verbs import VERBS
from cnnbench.runs import METRICS
from cnnbench.sweeps.schema import Rehearsal

Cli = Callable[..., Outcome]
Ask = Callable[[str], tuple[int, list[Any]]]
FIXTURES = Path(__file__).parents[1] / "fixtures"
SWEEP = ("-m", "seed=0")
DIVERGED = ("optimizer=sgd", "optimizer.learning_rate=1e30", "training.epochs=3")
VALUES = ("dataset=diabetes", "model=mlp", "training=smoke", "device=cpu")
PRESET = """# @package _global_
# promises more than there is
defaults: [override /dataset: synthetic, override /training: smoke]
expected: {metric: test_accuracy, low: 1.1, high: 1.2, minutes: 1.0}
"""
# By what is asked for: lines, and the exit code of each.
LINES: dict[str, list[tuple[str, int]]] = {
    "list": [("list model", 0), ("list model=cnn", 0), ("list nothing", 2), ("list --help", 0)],
    "backbones": [("backbones", 0), ("backbones ResNet50", 0), ("backbones nothing", 2)],
    "explain": [("explain seed", 0)],
    "check": [("check", 0), ("check model=airbench dataset=digits model.nothing=1", 2)],
    "lr-find": [(" ".join(("lr-find", *TINY)), 0), ("lr-find phase=fine_tuning", 2)],
    "probe": [("probe dataset=synthetic backbones=pixels device=cpu", 0), ("probe model=cnn", 2)],
    "doctor": [
        ("doctor dataset=synthetic device=cpu --limit 1", 3),
        ("doctor dataset=synthetic --limit 2", 2),
    ],
    "resume": [("resume done", 0), ("resume sweep", 0)],
    "ensemble": [("ensemble done sweep/000_cnn_synthetic_seed0 --output both", 0), ("ensemble done", 2)],
    "compare": [("compare sweep diverged", 0)],
    "report": [("report done", 0)],
    "diff": [("diff done sweep/000_cnn_synthetic_seed0", 0), ("diff values values", 0)],
    "verify": [("verify done", 0), ("verify nowhere", 2)],
    "evaluate": [("evaluate done", 0)],
    "predict": [
        ("predict done a.png", 0),
        ("predict done b.png", 1),
        ("predict values values.csv", 0),
        ("predict", 2),
    ],
    "export": [("export done --format saved_model", 0)],
    "visualize": [("visualize done --layer conv_1 --examples 1", 0)],
    "replay": [("replay diverged", 0)],
    "check-recipe": [("check-recipe mine model.filters=[4] model.dense_units=[8] device=cpu", 3)],
    "runs": [("runs done diverged", 0)],
    "tag": [("tag done good", 0)],
    "note": [("note done some words", 0)],
    "clean": [("clean diverged", 0)],
    "completion": [("completion zsh", 0)],
    "schema": [("schema", 0), ("schema run", 0), ("schema nothing", 2)],
    "run": [("done", 0), ("diverged", 0), ("sed=1", 2)],
    "sweep": [("sweep", 0)],
    "config": [("--cfg job", 0)],
    "help": [("--help", 0), ("--hydra-help", 0)],
    "version": [("--version", 0)],
}


def closed(node: Any, is_value: bool = False) -> Any:
    """Return a schema that refuses every key which it does not describe."""
    if isinstance(node, list):
        return [closed(item, is_value) for item in node]
    if not isinstance(node, dict):
        return node
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            found[key] = {name: closed(one, key == "properties") for name, one in value.items()}
        else:
            found[key] = closed(value, key in ("items", "prefixItems", "additionalProperties"))
    describes = {"$ref", "anyOf", "properties"} & found.keys()
    return {**found, "unevaluatedProperties": False} if is_value and describes else found


@pytest.fixture(scope="module")
def validators() -> dict[str, Draft202012Validator]:
    found = {}
    for name in schemas.names(VERBS):
        document = schemas.document(name, VERBS)
        Draft202012Validator.check_schema(document)
        found[name] = Draft202012Validator({**closed(document), "unevaluatedProperties": False})
    return found


@pytest.fixture(scope="module")
def made(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, done and failed, a sweep, a preset, and what making them has answered."""
    place = tmp_path_factory.mktemp("made")
    shutil.copytree(finished_run, place / "done")
    shutil.copytree(FIXTURES / "version_0_1_0", place / "old")
    for name, line in (("sweep", (*TINY, *SWEEP)), ("values", VALUES), ("diverged", (*TINY, *DIVERGED))):
        answer = f"--json={place / name}.json"
        assert call_main(*line, f"run_dir={place / name}", answer) == (name == "diverged")
    (place / "conf" / "experiment").mkdir(parents=True)
    (place / "conf" / "experiment" / "mine.yaml").write_text(PRESET)
    Image.new("L", (8, 8)).save(place / "a.png")
    (place / "b.png").write_text("no picture")
    (place / "values.csv").write_text(f"{','.join('0' * 10)}\n")
    return place


@pytest.fixture
def answered(
    made: Path, folder: Path, run_cli: Cli, verified_here: None, monkeypatch: pytest.MonkeyPatch
) -> Ask:
    """Return what a line answers in a copy of that folder: the exit code, and each JSON object."""
    tried = Rehearsal(100, 2000, 1.5, (0.5,), 10**9)  # in a process of its own, which takes long to start
    monkeypatch.setattr("cnnbench.sweeps.forecast._rehearsed", lambda jobs, _: [tried] * len(jobs))
    shutil.copytree(made, folder, dirs_exist_ok=True)

    def ask(line: str) -> tuple[int, list[Any]]:
        outcome = run_cli(*line.split(), "--json")
        return outcome.exit_code, [json.loads(row) for row in outcome.out.splitlines()]

    return ask


@pytest.mark.parametrize(
    ("name", "line", "code"), [(name, *row) for name, rows in LINES.items() for row in rows]
)
def test_an_answer_is_what_its_schema_says(
    name: str, line: str, code: int, answered: Ask, validators: dict[str, Draft202012Validator]
) -> None:
    found, rows = answered(line)
    assert found == code, rows
    assert all(row.get("exit_code", code) == code for row in rows)
    assert rows
    for row in rows:
        validators[name].validate(row)


def test_every_answer_has_a_line() -> None:
    assert {*LINES, METRICS} == {*schemas.names(VERBS)}


def test_what_a_run_and_a_sweep_answer_is_what_their_schemas_say(
    made: Path, validators: dict[str, Draft202012Validator]
) -> None:
    told = {name: json.loads((made / f"{name}.json").read_text()) for name in ("sweep", "values", "diverged")}
    assert [one["exit_code"] for one in told.values()] == [0, 0, 1]
    assert [run["status"] for run in told["sweep"]["runs"]] == ["done"]
    for name, one in told.items():
        validators["sweep" if name == "sweep" else "run"].validate(one)


def test_metrics_are_what_their_schema_says_those_of_earlier_versions_too(
    made: Path, validators: dict[str, Draft202012Validator]
) -> None:
    found = [json.loads(path.read_text()) for path in made.rglob("metrics.json")]
    assert {one["status"] for one in found} == {"done", "failed", "interrupted"}
    for one in found:
        validators[METRICS].validate(one)


def test_a_schema_says_what_keys_mean_and_lets_new_ones_come() -> None:
    document = schemas.document("verify", VERBS)
    told = {"schema": 1, "verb": "verify", "exit_code": 0, "run": "r", "passed": True}
    lists = {"figures": [], "notes": [], "complaints": []}
    Draft202012Validator(document).validate({**told, **lists, "new": 1})
    for wrong in ({**told}, {**told, **lists, "schema": 2}, {**told, **lists, "passed": "yes"}):
        assert not Draft202012Validator(document).is_valid(wrong)
    assert document["$defs"]["VerifiedFigure"]["properties"]["agrees"]["description"]
