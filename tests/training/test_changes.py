"""A run that is taken up again with other data, another config or another plugin; places that have moved."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import TINY, Outcome
from PIL import Image

from cnnbench.runs.folder import RunFolder

Cli = Callable[..., Outcome]
SMALL = ("training=smoke", "model.filters=[4]", "model.dense_units=[8]", "device=cpu", "run_dir=run")
PLUGIN = """
import keras
from pathlib import Path
class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1 and not Path("go_on").exists():
            raise RuntimeError("stopped here")
"""


@pytest.fixture(autouse=True)
def plugin_forgotten() -> Iterator[None]:
    yield
    sys.modules.pop("mine", None)


def draw(folder: Path, names: list[str], seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for kind, label in enumerate("ab"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for name in names:
            x = rng.integers(0, 100, (12, 12, 3)).astype(np.uint8)
            x[..., kind] += 120
            Image.fromarray(x).save(folder / label / f"{name}.png")


@pytest.fixture
def pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNNBENCH_CACHE", str(folder / "cache"))
    draw(folder / "pics", [str(number) for number in range(30)])
    return folder / "pics"


@pytest.fixture
def stopped(folder: Path, pictures: Path, run_cli: Cli) -> RunFolder:
    """A run on pictures that has failed after two of five epochs."""
    (folder / "mine.py").write_text(PLUGIN)
    outcome = run_cli(
        *("dataset=image_folder", "dataset.root=pics", "dataset.size=8", *SMALL, "training.epochs=5"),
        *("plugins=[mine.py]", "+callbacks.stop={_target_: mine.Stop}"),
    )
    assert outcome.exit_code == 1, outcome.err
    return RunFolder(folder / "run")


def contents(run: RunFolder) -> dict[str, bytes]:
    kept = {path for path in run.path.rglob("*") if path.is_file() and path.name != "cnnbench.log"}
    return {str(path.relative_to(run.path)): path.read_bytes() for path in kept}


def edit(run: RunFolder, **changes: Any) -> None:
    config = run.config
    for key, value in changes.items():
        group, _, name = key.partition("__")
        if name:
            config[group][name] = value
        else:
            config[key] = value
    (run.path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def refused(run_cli: Cli, run: RunFolder, what: str) -> None:
    before = contents(run)
    outcome = run_cli("resume", "run", "--trust-plugins")
    assert outcome.exit_code == 2, outcome.out + outcome.err
    error, hint = [line for line in outcome.err.splitlines() if line.startswith(("error", "hint"))]
    assert what in error
    assert hint.endswith("cnnbench resume run --with-changes")
    assert contents(run) == before


def test_files_that_came_went_or_changed_are_named_and_refused(
    stopped: RunFolder, pictures: Path, run_cli: Cli
) -> None:
    draw(pictures, [f"new{number}" for number in range(6)], seed=1)
    (pictures / "a" / "3.png").unlink()
    draw(pictures, ["4"], seed=9)
    refused(
        run_cli, stopped, "the data of run changed since it began: 12 files added (a/new0.png, a/new1.png"
    )
    refused(run_cli, stopped, "1 file removed (a/3.png); 2 files changed (a/4.png, b/4.png)")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 3}, "seed: 3, was 0"),
        ({"training__validation_fraction": 0.3}, "training.validation_fraction: 0.3, was 0.1"),
        ({"training__batch_size": 7}, "training.batch_size: 7, was"),
        ({"training__epochs": 9, "model__dropout": 0.5}, "training.epochs: 9, was 5"),
        ({"dataset__size": 10}, "dataset.size: 10, was 8"),
    ],
)
def test_a_config_edited_by_hand_is_refused_with_keys_and_both_values(
    stopped: RunFolder, run_cli: Cli, changes: dict[str, Any], said: str
) -> None:
    edit(stopped, **changes)
    refused(run_cli, stopped, said)


def test_a_plugin_that_changed_is_refused(stopped: RunFolder, folder: Path, run_cli: Cli) -> None:
    (folder / "mine.py").write_text(PLUGIN.replace("epoch == 1", "epoch == 99"))
    refused(run_cli, stopped, "the code of run changed since it began: plugin mine has another content")


def test_with_changes_goes_on_and_the_folder_says_so(
    stopped: RunFolder, pictures: Path, folder: Path, run_process: Cli, run_cli: Cli
) -> None:
    (folder / "mine.py").write_text(PLUGIN.replace("epoch == 1", "epoch == 99"))
    edit(stopped, training__epochs=3)
    (pictures / "a" / "3.png").unlink()
    done = run_process("resume", "run", "--with-changes", "--trust-plugins")
    assert done.exit_code == 0, done.out + done.err
    changes = [
        "config.yaml: training.epochs: 3, was 5",
        "the code: plugin mine has another content",
        "the data: 1 file removed (a/3.png)",
    ]
    assert stopped.environment["changes"] == stopped.metrics["changes"] == changes
    assert "going on with a change: the data: 1 file removed (a/3.png)" in " ".join(
        (done.out + done.err).split()
    )
    assert stopped.metrics["epochs"] == 3
    assert "went on with changes" in run_cli("compare", "run").out


def test_moved_data_are_the_same_data(stopped: RunFolder, pictures: Path, folder: Path, run_cli: Cli) -> None:
    new = folder / "elsewhere" / "other name"
    new.parent.mkdir()
    shutil.move(pictures, new)
    gone = run_cli("resume", "run")
    assert gone.exit_code == 2
    assert f"dataset.root={pictures}: nothing is there any more" in gone.err
    assert "cnnbench resume run dataset.root=NEW" in gone.err
    place = "dataset.root='elsewhere/other name'"
    config = stopped.config
    (folder / "go_on").touch()
    assert run_cli("resume", "run", place).exit_code == 0
    assert stopped.config == {**config, "dataset": {**config["dataset"], "root": str(new)}}
    assert stopped.metrics["changes"] == []
    shutil.move(new, pictures)
    for verb in ("verify", "evaluate"):
        assert "nothing is there any more" in run_cli(verb, "run").err
        outcome = run_cli(verb, "run", "dataset.root=pics")
        assert outcome.exit_code == 0, outcome.out + outcome.err
        assert "not the run's own" not in outcome.err


def test_a_place_with_other_data_is_refused_by_resume(stopped: RunFolder, folder: Path, run_cli: Cli) -> None:
    draw(folder / "others", ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"], seed=5)
    outcome = run_cli("resume", "run", "dataset.root=others")
    assert outcome.exit_code == 2
    assert "the data of run changed since it began: 2 files removed" in outcome.err or re.search(
        r"\d+ files removed", outcome.err
    )
    wrong = run_cli("resume", "run", "seed=3")
    assert wrong.exit_code == 2
    assert "seed is no place, and everything else is decided by the run" in wrong.err


@pytest.fixture
def finished(folder: Path, pictures: Path, run_cli: Cli) -> RunFolder:
    outcome = run_cli("dataset=image_folder", "dataset.root=pics", "dataset.size=8", *SMALL)
    assert outcome.exit_code == 0, outcome.err
    return RunFolder(folder / "run")


def test_another_working_folder_does_not_change_what_is_measured(
    finished: RunFolder, folder: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finished.config["dataset"]["root"] == str(folder / "pics")
    assert finished.config["run_dir"] == str(finished.path)
    other = folder / "another"
    draw(other / "pics", ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"], seed=5)
    monkeypatch.chdir(other)
    own = json.loads(run_cli("evaluate", str(finished.path), "--json").out)
    assert own["metrics"]["accuracy"] == own["recorded"]["accuracy"]
    moved = run_cli("evaluate", str(finished.path), "dataset.root=pics")
    assert moved.exit_code == 0
    assert "not the run's own: the data differ" in moved.err


def test_own_data_that_changed_are_not_measured_as_such(
    finished: RunFolder, pictures: Path, run_cli: Cli, verified_here: None
) -> None:
    draw(pictures, ["new"], seed=1)
    outcome = run_cli("evaluate", "run")
    assert outcome.exit_code == 2
    assert "these are not the data of run any more: the data differ" in outcome.err
    verified = run_cli("verify", "run")
    assert verified.exit_code == 3
    assert "2 files added (a/new.png, b/new.png)" in " ".join(verified.out.split())


def test_verify_finds_a_config_edited_after_the_run(
    finished: RunFolder, run_cli: Cli, verified_here: None
) -> None:
    edit(finished, training__epochs=77)
    outcome = run_cli("verify", "run")
    assert outcome.exit_code == 3
    assert "config.yaml was edited: training.epochs: 77, was" in outcome.out


def test_a_run_killed_before_it_knew_its_data_just_begins(folder: Path, run_cli: Cli) -> None:
    assert run_cli(*TINY, "run_dir=run").exit_code == 0
    run = RunFolder(folder / "run")
    for path in run.path.iterdir():
        if path.name not in ("config.yaml", "overrides.yaml", "cnnbench.log"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    outcome = run_cli("resume", "run")
    assert outcome.exit_code == 0, outcome.err
    assert "cannot be told" not in outcome.out + outcome.err
    assert run.identity is not None


def test_the_code_of_cnnbench_may_change(stopped: RunFolder, folder: Path, run_cli: Cli) -> None:
    (folder / "go_on").touch()
    stopped.write_environment({**stopped.environment, "code": "0123456789abcdef"})
    outcome = run_cli("resume", "run")
    assert outcome.exit_code == 0, outcome.err
    assert (outcome.out + outcome.err).count("the code has changed since this run began") == 1
