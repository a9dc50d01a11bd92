"""Attacks with files from strangers: each is built for real, refused in one line, and has no effect."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from conftest import TINY, Outcome
from inspection_runs import trained

import cnnbench
from cnnbench import engine, files, trust
from cnnbench.checkpoints import check_model, check_weights
from cnnbench.datasets.pickles import read_pickle
from cnnbench.errors import CnnbenchError

Cli = Callable[..., Outcome]
PACKAGE = Path(cnnbench.__file__).parent
VERBS = ("verify", "evaluate", "visualize", "resume")


@pytest.fixture
def stranger(folder: Path) -> Path:
    """A finished run in a folder that somebody else may have changed."""
    place = folder / "stranger"
    shutil.copytree(trained("multiclass").path, place)
    return place


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the members of a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def with_layer(path: Path, layer: dict[str, Any]) -> None:
    """Put a layer into the model's description, behind the input."""

    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        config["config"]["layers"][1] = {**config["config"]["layers"][1], **layer}
        members["config.json"] = json.dumps(config).encode()

    rewrite(path, change)


LAYERS: dict[str, dict[str, Any]] = {
    "lambda": {
        "module": "keras.layers",
        "class_name": "Lambda",
        "registered_name": None,
        "config": {
            "name": "evil",
            "function": {
                "class_name": "__lambda__",
                "config": {"code": "", "defaults": None, "closure": None},
            },
        },
    },
    "function of python": {
        "module": "keras.layers",
        "class_name": "Lambda",
        "registered_name": None,
        "config": {
            "name": "evil",
            "function": {
                "module": "os",
                "class_name": "function",
                "config": "system",
                "registered_name": "function",
            },
            "arguments": {"command": "touch marker"},
        },
    },
    "function of keras": {
        "module": "keras.layers",
        "class_name": "Lambda",
        "registered_name": None,
        "config": {
            "name": "evil",
            "function": {
                "module": "keras.utils",
                "class_name": "function",
                "config": "get_file",
                "registered_name": "function",
            },
        },
    },
    "module beside": {"module": "evil", "class_name": "Evil", "registered_name": "evil>Evil", "config": {}},
    "module of python": {
        "module": "subprocess",
        "class_name": "Popen",
        "registered_name": None,
        "config": {},
    },
    "stored graph": {
        "module": "keras.layers",
        "class_name": "TFSMLayer",
        "registered_name": None,
        "config": {"filepath": "graph"},
    },
}


@pytest.mark.parametrize("attack", LAYERS)
def test_a_model_that_names_code_is_refused(attack: str, stranger: Path, folder: Path) -> None:
    (folder / "evil.py").write_text("open('marker', 'w').close()\nclass Evil: ...\n")
    with_layer(stranger / "best.keras", LAYERS[attack])
    with pytest.raises(CnnbenchError, match="refused"):
        engine.load(stranger / "best.keras")
    assert not (folder / "marker").exists()


def test_code_in_the_compilation_is_refused_too(stranger: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        config["compile_config"] = {
            "loss": {
                "module": "os",
                "class_name": "function",
                "config": "system",
                "registered_name": "function",
            }
        }
        members["config.json"] = json.dumps(config).encode()

    rewrite(stranger / "best.keras", change)
    with pytest.raises(CnnbenchError, match="refused"):
        engine.load(stranger / "best.keras")


@pytest.mark.parametrize("attack", ["external link", "soft link", "external storage", "virtual"])
def test_weights_that_lie_elsewhere_are_refused(attack: str, folder: Path) -> None:
    secret = folder / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.ones(4, "float32")
    path = folder / "evil.weights.h5"
    with h5py.File(path, "w") as file:
        if attack == "external link":
            file["kernel"] = h5py.ExternalLink(str(secret), "x")
        elif attack == "soft link":
            file["kernel"] = h5py.SoftLink("/elsewhere")
        elif attack == "external storage":
            file.create_dataset("kernel", (4,), "float32", external=[(str(secret), 0, 16)])
        else:
            layout = h5py.VirtualLayout((4,), "float32")
            layout[:] = h5py.VirtualSource(str(secret), "x", (4,))
            file.create_virtual_dataset("kernel", layout)
    with pytest.raises(CnnbenchError, match="refused"):
        check_weights(path)

    model = folder / "evil.keras"
    shutil.copy(trained("multiclass").best_model, model)
    rewrite(model, lambda members: members.update({"model.weights.h5": path.read_bytes()}))
    with pytest.raises(CnnbenchError, match="refused"):
        check_model(model)


def test_an_archive_cannot_write_elsewhere_nor_fill_the_disk(folder: Path) -> None:
    good = trained("multiclass").best_model
    link = zipfile.ZipInfo("assets/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for member in ("../marker", "/marker", "assets/../../marker", "evil.py", "assets\\..\\marker", link):
        path = folder / "evil.keras"
        shutil.copy(good, path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(member, b"x")
        with pytest.raises(CnnbenchError, match="refused"):
            check_model(path)
    path = folder / "bomb.keras"
    shutil.copy(good, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(2**27))
    with pytest.raises(CnnbenchError, match="unpacks to"):
        check_model(path)
    check_model(good)


# ---------------------------------------------------------------- run folders


def change_config(run: Path, **values: Any) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, **values}))


def unfinished(run: Path) -> None:
    (run / "metrics.json").unlink()


@pytest.mark.parametrize("verb", VERBS)
def test_plugins_of_a_stranger_are_not_imported(
    verb: str, stranger: Path, folder: Path, run_cli: Cli
) -> None:
    evil = stranger / "evil_plugin.py"
    evil.write_text(f"open({str(folder / 'marker')!r}, 'w').close()\n")
    change_config(stranger, plugins=[str(evil)])
    if verb == "resume":
        unfinished(stranger)
    outcome = run_cli(verb, str(stranger))
    assert outcome.exit_code == 2
    assert "evil_plugin.py" in outcome.err
    assert "--trust-plugins" in outcome.err
    assert not (folder / "marker").exists()


def test_a_sweep_of_a_stranger_does_not_import_plugins(folder: Path, run_cli: Cli) -> None:
    sweep = folder / "sweep"
    sweep.mkdir()
    evil = sweep / "evil_plugin.py"
    evil.write_text(f"open({str(folder / 'marker')!r}, 'w').close()\n")
    job = {"number": 0, "folder": "000", "overrides": [], "config": {"plugins": [str(evil)]}}
    content = {"overrides": [], "settings": [], "code": "x", "jobs": [job]}
    (sweep / "sweep.json").write_text(json.dumps(content))
    outcome = run_cli("resume", "sweep")
    assert outcome.exit_code == 2
    assert "--trust-plugins" in outcome.err
    assert not (folder / "marker").exists()


def test_ones_own_plugins_need_no_flag(folder: Path, run_cli: Cli) -> None:
    (folder / "my_own.py").write_text("")
    assert run_cli(*TINY, "plugins=[my_own.py]", "run_dir=mine").exit_code == 0
    assert run_cli("verify", "mine").exit_code == 0


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "os.system", "command": "touch marker"},
        {"_target_": "cnnbench.models.cnn.cnn", "kernel_regularizer": {"_target_": "os.system"}},
        {"_target_": "keras.utils.get_file", "fname": "x", "origin": "y"},
        {"_target_": "cnnbench.models.cnn.cnn", "filters": [{"_target_": "subprocess.call", "args": "x"}]},
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_a_target_outside_of_the_list_is_refused_everywhere(
    verb: str, node: dict[str, Any], stranger: Path, folder: Path, run_cli: Cli
) -> None:
    change_config(stranger, model=node)
    if verb == "resume":
        unfinished(stranger)
    outcome = run_cli(verb, str(stranger))
    assert outcome.exit_code == 2
    assert len(outcome.err.splitlines()) <= 2
    assert not (folder / "marker").exists()


def test_values_of_the_environment_are_not_put_into_a_strangers_config(
    stranger: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    change_config(stranger, data_dir="${oc.env:SECRET}")
    outcome = run_cli("verify", str(stranger))
    assert outcome.exit_code == 2
    assert "hunter2" not in outcome.out + outcome.err
    assert "not resolved" in outcome.err


def test_no_variable_of_the_environment_lands_in_a_run(
    folder: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    assert run_cli(*TINY, "run_dir=mine").exit_code == 0
    for path in (folder / "mine").rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['touch marker']", "a: *missing", "[1, 2"])
def test_yaml_cannot_make_objects(text: str, stranger: Path, folder: Path, run_cli: Cli) -> None:
    (stranger / "config.yaml").write_text(text)
    assert run_cli("verify", str(stranger)).exit_code == 2
    assert not (folder / "marker").exists()


def test_a_link_out_of_a_run_folder_is_refused(stranger: Path, folder: Path) -> None:
    (stranger / "exports").symlink_to(folder)
    with pytest.raises(CnnbenchError, match="is a link"):
        trust.refuse_links(stranger)


# ---------------------------------------------------------------- data


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch marker",)


def test_a_pickle_runs_no_code(folder: Path) -> None:
    path = folder / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Evil()}))
    with pytest.raises(CnnbenchError):
        read_pickle(path)
    assert not (folder / "marker").exists()


def test_pickled_arrays_are_not_read(folder: Path, run_cli: Cli) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil()], dtype=object), allow_pickle=True)
    (folder / "evil.npy").write_bytes(buffer.getvalue())
    outcome = run_cli("predict", str(trained("multiclass").path), "evil.npy")
    assert outcome.exit_code in (1, 2)
    assert not (folder / "marker").exists()


def test_nothing_in_the_package_runs_what_it_reads() -> None:
    """Calls that execute or unpack what comes from outside, wherever they may be written."""
    forbidden = {"eval", "exec", "pickle.load", "pickle.loads", "os.system", "marshal.loads"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if path.name != "signatures.py":  # it evaluates annotations in the source of allowed packages
                assert name not in forbidden, (path, name)
            if name == "yaml.load":  # a loader with less than SafeLoader, never with more
                assert ast.unparse(node.args[1]) == "_PlainLoader", path
            assert keywords.get("allow_pickle") != "True", path
            assert keywords.get("shell") != "True", path
            assert keywords.get("safe_mode") != "False", path
            assert not name.endswith((".extractall", ".extract")) or keywords.get("filter") == "'data'", path
    assert issubclass(files._PlainLoader, yaml.SafeLoader)
