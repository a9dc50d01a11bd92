"""Attacks with files from strangers: each is built for real, refused in one line, and has no effect."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import pickle
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import yaml
from conftest import TINY, Outcome
from inspection_runs import trained
from keras.src.utils import python_utils
from PIL import Image

import cnnbench
from cnnbench.config import code, plugins
from cnnbench.data.reading import read_pickle
from cnnbench.errors import CnnbenchError
from cnnbench.models import pretrained
from cnnbench.nn import checkpoints
from cnnbench.nn.checkpoints import check_model, check_weights
from cnnbench.reporting.output import explain
from cnnbench.runs import Decision, RunFolder
from cnnbench.system import files
from cnnbench.system.startup import logging_to
from cnnbench.training.environment import git_commit, git_diff

Cli = Callable[..., Outcome]
PACKAGE = Path(cnnbench.__file__).parent
VERBS: dict[str, tuple[str, ...]] = {
    "verify": (),
    "evaluate": (),
    "predict": ("x.npy",),
    "export": ("--format", "saved_model"),
    "visualize": (),
    "replay": (),
    "ensemble": (),
    "resume": (),
}


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch marker",)


@pytest.fixture
def stranger(folder: Path) -> Path:
    """A finished run in a folder that somebody else may have changed."""
    place = folder / "stranger"
    shutil.copytree(trained("multiclass").path, place)
    return place


def ready_for(verb: str, run: Path) -> None:
    """Make a finished run one that the verb takes."""
    if verb == "resume":
        (run / "metrics.json").unlink()
    if verb == "replay":
        (run / "bad_step").mkdir()
        shutil.copy(run / "best.keras", run / "bad_step" / "before.keras")
        np.savez(run / "bad_step" / "batch.npz", x=np.zeros((1, 8, 8, 1)), y=np.zeros(1))
    np.save("x.npy", np.zeros((1, 8, 8, 1), "float32"))


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


def described(
    kind: str, config: dict[str, Any], module: str = "keras.layers", registered: str | None = None
) -> dict[str, Any]:
    """A layer as `config.json` of a model describes it."""
    return {"module": module, "class_name": kind, "registered_name": registered, "config": config}


def function(module: str, name: str, registered: str = "function") -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": registered}


DUMPED = python_utils.func_dump(lambda x: (__import__("os").system("touch marker"), x)[1])
LAMBDA = {
    "class_name": "__lambda__",
    "config": dict(zip(("code", "defaults", "closure"), DUMPED, strict=True)),
}
GALLERY = function("keras.visualization", "plot_image_gallery", "plot_image_gallery")
VALUE = {"class_name": "__lambda__", "config": {"value": "x"}}
LAYERS: dict[str, dict[str, Any]] = {
    "lambda": described("Lambda", {"name": "evil", "function": LAMBDA}),
    "lambda of an older format": {
        "module": None,
        "class_name": "Lambda",
        "config": {"name": "evil", "function": list(DUMPED)},
    },
    "lambda inside an initializer": described("Dense", {"units": 2, "kernel_initializer": VALUE}),
    "builtin of python": described("Activation", {"activation": function("builtins", "eval", "eval")}),
    "function of keras that is no part of a model": described(
        "Lambda", {"function": GALLERY, "arguments": {"path": "marker"}}
    ),
    "package that Keras imports by its name": described("Evil", {}, "keras_hub"),
    "registered name": described("TFSMLayer", {"filepath": "graph"}, registered="cnnbench>ReverseChannels"),
    "vocabulary": described("StringLookup", {"vocabulary": "secret.txt"}),
    "pickled torch module": described("TorchModuleWrapper", {"module": "AAAA"}),
    "function of jax": described("JaxLayer", {"call_fn": "x"}),
    "function of python": described(
        "Lambda",
        {"name": "evil", "function": function("os", "system"), "arguments": {"command": "touch marker"}},
    ),
    "function of keras": described(
        "Lambda", {"name": "evil", "function": function("keras.utils", "get_file")}
    ),
    "module beside": described("Evil", {}, "evil", "evil>Evil"),
    "module of python": described("Popen", {}, "subprocess"),
    "stored graph": described("TFSMLayer", {"filepath": "graph"}),
}


@pytest.mark.parametrize("attack", LAYERS)
def test_a_model_that_names_code_is_refused(
    attack: str, stranger: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)  # as under `python -m`
    for name in ("evil", "keras_hub"):
        (folder / f"{name}.py").write_text("open('marker', 'w').close()\nclass Evil: ...\n")
    (folder / "secret.txt").write_text("hunter2")
    with_layer(stranger / "best.keras", LAYERS[attack])
    by_us = ("function of keras", "package that Keras", "function of python", "module beside", "module of")
    with pytest.raises(CnnbenchError, match="refused" if attack.startswith(by_us) else "cannot load"):
        checkpoints.load_checkpoint(stranger / "best.keras")
    assert not (folder / "marker").exists()


COMPILED = {
    **{place: {place: [LAMBDA]} for place in ("loss", "metrics", "optimizer")},
    "function of python": {"loss": function("os", "system")},
}


@pytest.mark.parametrize("attack", COMPILED)
def test_code_in_the_compilation_is_refused(attack: str, stranger: Path, folder: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        config["compile_config"] |= COMPILED[attack]
        members["config.json"] = json.dumps(config).encode()

    rewrite(stranger / "best.keras", change)
    by_us = attack == "function of python"  # Python's lambdas Keras refuses itself
    with pytest.raises(CnnbenchError, match="refused" if by_us else "deserialization of a Python lambda"):
        checkpoints.load_checkpoint(stranger / "best.keras")
    assert not (folder / "marker").exists()


@pytest.mark.parametrize("kind", ["hdf5", "saved model", "folder"])
def test_a_model_in_another_format_is_not_loaded(kind: str, folder: Path) -> None:
    path = folder / "best.keras"
    if kind == "hdf5":
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": []})
    else:
        path.mkdir()
        (path / ("config.json" if kind == "folder" else "saved_model.pb")).write_text("{}")
    with pytest.raises(CnnbenchError, match="cannot load"):
        checkpoints.load_checkpoint(path)


def test_a_config_nested_without_end_is_damaged(stranger: Path) -> None:
    deep = b"[" * 10**5 + b"]" * 10**5
    rewrite(stranger / "best.keras", lambda members: members.update({"config.json": deep}))
    with pytest.raises(CnnbenchError, match="cannot load"):
        checkpoints.load_checkpoint(stranger / "best.keras")


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
    with pytest.raises(CnnbenchError, match="refused"):
        check_weights(model)
    with pytest.raises(CnnbenchError, match="refused"):
        pretrained.build("MobileNet", keras.Input((32, 32, 3)), str(path), {"alpha": 0.25})


def test_weights_that_are_a_list_of_other_files_are_refused(folder: Path) -> None:
    (folder / "evil.weights.json").write_text('{"weight_map": {"/": "../secret.h5"}}')
    with pytest.raises(CnnbenchError, match=r"cannot be loaded.*weights end in"):
        pretrained.build("MobileNet", keras.Input((32, 32, 3)), "evil.weights.json", {"alpha": 0.25})


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


@pytest.mark.parametrize("verb", VERBS)
def test_plugins_of_a_stranger_are_not_imported(
    verb: str, stranger: Path, folder: Path, run_cli: Cli
) -> None:
    evil = stranger / "evil_plugin.py"
    evil.write_text(f"open({str(folder / 'marker')!r}, 'w').close()\n")
    change_config(stranger, plugins=[str(evil)])
    ready_for(verb, stranger)
    outcome = run_cli(verb, str(stranger), *VERBS[verb])
    assert outcome.exit_code == 2
    assert "evil_plugin.py" in outcome.err
    assert "--trust-plugins" in outcome.err
    assert run_cli("compare", str(stranger), "--html", "page.html").exit_code == 0
    assert not (folder / "marker").exists()


def test_plugins_of_a_stranger_are_imported_when_the_user_says_so(
    stranger: Path, folder: Path, run_cli: Cli
) -> None:
    (stranger / "trusted_plugin.py").write_text(f"open({str(folder / 'marker')!r}, 'w').close()\n")
    change_config(stranger, plugins=[str(stranger / "trusted_plugin.py")])
    assert run_cli("verify", str(stranger), "--trust-plugins").exit_code == 0
    assert (folder / "marker").exists()
    assert run_cli("verify", str(stranger)).exit_code == 2  # once, not for ever


@pytest.mark.parametrize("plugin", ["keras", "cnnbench", "os", "subprocess.py"])
def test_not_every_module_can_be_a_plugin(plugin: str, run_cli: Cli) -> None:
    assert run_cli(*TINY, f"plugins=[{plugin}]", "model._target_=keras.utils.get_file").exit_code == 2


def test_a_sweep_of_a_stranger_does_not_import_plugins(folder: Path, run_cli: Cli) -> None:
    sweep = folder / "sweep"
    sweep.mkdir()
    evil = sweep / "evil_plugin.py"
    evil.write_text(f"open({str(folder / 'marker')!r}, 'w').close()\n")
    job = {"number": 0, "folder": "000", "overrides": [], "config": {"plugins": [str(evil)]}}
    content = {"overrides": [], "launcher": {"name": "basic"}, "code": "x", "jobs": [job]}
    (sweep / "sweep.json").write_text(json.dumps(content))
    outcome = run_cli("resume", "sweep")
    assert outcome.exit_code == 2
    assert "--trust-plugins" in outcome.err
    assert not (folder / "marker").exists()


def test_ones_own_plugins_need_no_flag(folder: Path, run_cli: Cli, verified_here: None) -> None:
    (folder / "my_own.py").write_text("")
    assert run_cli(*TINY, "plugins=[my_own.py]", "run_dir=mine").exit_code == 0
    assert run_cli("verify", "mine").exit_code == 0
    shutil.copytree("mine", "theirs")
    change_config(folder / "theirs", plugins=[str(folder / "my_own.py"), "pickle_tools"])
    assert run_cli("verify", "theirs").exit_code == 2
    store = plugins._store()
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    assert "my_own" not in store.read_text()


@pytest.mark.parametrize("code_name", ["../payload", "ABSOLUTE", "..", "0123456789abcdef"])
def test_the_code_of_a_sweep_is_a_copy_of_ones_own(code_name: str, folder: Path) -> None:
    """It comes first on PYTHONPATH."""
    cache = folder / "cache"
    for payload in (cache / "payload", cache / "code" / "0123456789abcdef"):
        payload.mkdir(parents=True)
        payload.chmod(0o777)
    assert code.stored(code_name.replace("ABSOLUTE", str(cache / "payload")), cache) is None
    (cache / "code" / "0123456789abcdef").chmod(0o775)
    assert code.stored("0123456789abcdef", cache) is None  # whatever it holds, it is not what its name says
    own = code.store([], cache)
    assert code.stored(own.name, cache) == own
    own.chmod(0o777)
    assert code.stored(own.name, cache) is None
    with pytest.raises(CnnbenchError, match="somebody else could change it"):
        code.store([], cache)
    (cache / "code").chmod(0o777)
    assert code.stored("0123456789abcdef", cache) is None


def test_commands_in_a_strangers_sweep_are_not_given_to_a_cluster(folder: Path, run_cli: Cli) -> None:
    launcher = {"name": "submitit_local", "parameters": {"local_setup": ["touch marker"]}}
    config = yaml.safe_load((trained("multiclass").path / "config.yaml").read_text())
    job = {"number": 0, "folder": "000", "overrides": [], "config": config}
    content = {"overrides": [], "launcher": launcher, "code": "x", "jobs": [job]}
    (folder / "sweep").mkdir()
    (folder / "sweep" / "sweep.json").write_text(json.dumps(content))
    outcome = run_cli("resume", "sweep")
    assert outcome.exit_code == 2
    assert "would run code" in outcome.err
    local = {**content, "launcher": {"name": "basic"}}
    (folder / "sweep" / "sweep.json").write_text(json.dumps(local))
    (folder / "sweep" / "study.jsonl").symlink_to(folder / "bashrc")
    outcome = run_cli("resume", "sweep")
    assert outcome.exit_code == 2
    assert "is a link" in outcome.err
    assert not (folder / "marker").exists()
    assert not (folder / "bashrc").exists()


@pytest.mark.parametrize("line", [("experiment=../evil",), ("-m", "+model=../evil,cnn")])
def test_an_option_is_no_path(line: tuple[str, ...], folder: Path, run_cli: Cli) -> None:
    outcome = run_cli(*line)
    assert outcome.exit_code == 2
    assert "is a name, not a path" in outcome.err
    assert list(folder.iterdir()) == []


def test_a_preset_from_elsewhere_obeys_the_list(folder: Path, run_cli: Cli) -> None:
    preset = "# @package _global_\n# Evil\nmodel: {filters: [{_target_: os.system, command: touch marker}]}\n"
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "evil.yaml").write_text(preset)
    outcome = run_cli("--config-dir", "conf", "experiment=evil")
    assert outcome.exit_code == 2
    assert "model.filters[0]._target_=os.system" in outcome.err
    assert not (folder / "marker").exists()


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "os.system", "command": "touch marker"},
        {"_target_": "cnnbench.models.cnn.cnn", "kernel_regularizer": {"_target_": "os.system"}},
        {"_target_": "keras.utils.get_file", "fname": "x", "origin": "y"},
        {"_target_": "cnnbench.models.cnn.cnn", "filters": [{"_target_": "subprocess.call", "args": "x"}]},
        {"_target_": "cnnbench.models.cnn.cnn", "filters": {"a": [{"b": {"_target_": "os.system"}}]}},
        {"_target_": "keras.src.utils.file_utils.os.system", "command": "touch marker"},
        {"_target_": "cnnbench.sweeps.run.subprocess.call", "args": "touch marker"},
        {"_target_": "cnnbench.models.cnn.cnn", "_args_": [1]},
        {"_target_": "cnnbench.models.cnn.cnn", "_partial_": True},
        {"_target_": "cnnbench.models.cnn.cnn", "_recursive_": False},
        {"_target_": "cnnbench.models.cnn.cnn", "_convert_": "none"},
        {"_target_": ["os.system"], "command": "touch marker"},
        {"_target_": "functools.partial", "_args_": ["os.system"]},
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_a_target_outside_of_the_list_is_refused_everywhere(
    verb: str, node: dict[str, Any], stranger: Path, folder: Path, run_cli: Cli
) -> None:
    change_config(stranger, model=node)
    ready_for(verb, stranger)
    outcome = run_cli(verb, str(stranger), *VERBS[verb])
    assert outcome.exit_code == 2
    assert len(outcome.err.splitlines()) <= 2
    assert not (folder / "marker").exists()


@pytest.mark.parametrize(
    "node",
    [
        "{_target_: cnnbench.system.locks.locked, path: marker}",
        "{_target_: cnnbench.data.fetch.can_connect, host: secret.example.org}",
        "{_target_: cnnbench.data.reading.read_pickle, path: evil}",
        "{_target_: cnnbench.config.code.store, plugins: [], cache: marker}",
        "{_target_: keras.layers.StringLookup, vocabulary: /etc/passwd}",
        "{_target_: keras.layers.TextVectorization, vocabulary: /etc/passwd}",
        "{_target_: keras.src.layers.preprocessing.index_lookup.IndexLookup, vocabulary: /etc/passwd}",
        "{_target_: keras.layers.TFSMLayer, filepath: graph}",
        "{_target_: keras.layers.deserialize, config: {}}",
        "{_target_: keras.applications.MobileNet, weights: evil.h5}",
        "{_target_: keras.models.load_model, filepath: evil.keras}",
        "{_target_: keras.callbacks.CSVLogger, filename: marker}",
    ],
)
def test_not_all_of_keras_and_cnnbench_belongs_in_a_config(node: str, folder: Path, run_cli: Cli) -> None:
    outcome = run_cli(*TINY, f"model.activation={node}")
    assert outcome.exit_code == 2
    assert "_target_" in outcome.err
    assert list(folder.iterdir()) == []


def test_values_of_the_environment_are_not_put_into_a_strangers_config(
    stranger: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    change_config(stranger, data_dir="${oc.env:SECRET}")
    outcome = run_cli("verify", str(stranger))
    assert outcome.exit_code == 2
    assert "hunter2" not in outcome.out + outcome.err
    assert "not resolved" in outcome.err


def test_what_was_typed_for_a_strangers_run_is_not_composed(
    stranger: Path, folder: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    typed = ["dataset.classes=${oc.env:SECRET}", "data_dir=${oc.env:SECRET}", "hydra.searchpath=[file://.]"]
    (stranger / "overrides.yaml").write_text(yaml.safe_dump(typed))
    assert run_cli("evaluate", str(stranger), "dataset.noise=0.2").exit_code == 0
    assert run_cli("evaluate", str(stranger), "dataset.noise=0.2", "dataset.size=9").exit_code == 2
    change_config(stranger, data_dir="${oc.env:SECRET}")
    outcome = run_cli("evaluate", str(stranger), "dataset=synthetic")
    assert outcome.exit_code == 2
    assert "hunter2" not in outcome.out + outcome.err


def test_no_variable_of_the_environment_lands_in_a_run(
    folder: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    assert run_cli(*TINY, "run_dir=mine").exit_code == 0
    for path in (folder / "mine").rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path


LAUGHS = "\n".join(["a0: &a0 lol", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))])


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.system ['touch marker']", "a: *missing", "[1, 2", LAUGHS, "[" * 10**4]
)
def test_yaml_cannot_make_objects(text: str, stranger: Path, folder: Path, run_cli: Cli) -> None:
    (stranger / "config.yaml").write_text(text)
    assert run_cli("verify", str(stranger)).exit_code == 2
    assert run_cli("compare", str(stranger)).exit_code == 2
    assert not (folder / "marker").exists()


def test_a_link_out_of_a_run_folder_is_refused(stranger: Path, folder: Path) -> None:
    (stranger / "exports").symlink_to(folder)
    with pytest.raises(CnnbenchError, match="is a link"):
        plugins.refuse_links(stranger)


@pytest.mark.parametrize("verb", ["visualize", "export", "resume"])
def test_no_verb_writes_through_a_link(verb: str, stranger: Path, folder: Path, run_cli: Cli) -> None:
    shutil.rmtree(stranger / "figures", ignore_errors=True)
    (stranger / "cnnbench.log").unlink(missing_ok=True)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    links = {"visualize": "figures", "export": "exports", "resume": "cnnbench.log"}
    (stranger / links[verb]).symlink_to(elsewhere / "bashrc" if verb == "resume" else elsewhere)
    ready_for(verb, stranger)
    outcome = run_cli(verb, str(stranger), *VERBS[verb])
    assert outcome.exit_code == 2
    assert "is a link" in outcome.err
    assert list(elsewhere.iterdir()) == []


def test_the_batch_of_a_bad_step_is_no_pickle(stranger: Path, folder: Path, run_cli: Cli) -> None:
    ready_for("replay", stranger)
    np.savez(stranger / "bad_step" / "batch.npz", x=np.array([Evil()], dtype=object), y=np.zeros(1))
    outcome = run_cli("replay", str(stranger))
    assert outcome.exit_code == 2
    assert "is damaged" in outcome.err
    assert not (folder / "marker").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_settings_of_a_repository_run_nothing(folder: Path) -> None:
    """`git status` runs what the settings of the folder in which one stands name."""

    def git(*arguments: str) -> None:
        names = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *names, *arguments], check=True, capture_output=True)

    git("init")
    (folder / "a.txt").write_text("a")
    (folder / ".gitattributes").write_text("*.txt filter=evil")
    git("add", "-A")
    git("commit", "-m", "x")
    assert not str(git_commit(folder)).endswith(("+changes", "+unknown"))
    (folder / "a.txt").write_text("b")
    assert str(git_commit(folder)).endswith("+changes")
    evil = folder / ".git" / "hooks" / "post-index-change"
    evil.parent.mkdir(exist_ok=True)
    evil.write_text(f"#!/bin/sh\ntouch {folder / 'marker'}\n")
    evil.chmod(0o755)
    git("config", "core.fsmonitor", str(evil))
    git("config", "filter.evil.clean", str(evil))
    (folder / "marker").unlink(missing_ok=True)
    (folder / "a.txt").write_text("c")
    assert str(git_commit(folder)).endswith("+unknown")
    git("config", "--unset", "filter.evil.clean")
    (folder / "marker").unlink(missing_ok=True)
    assert str(git_commit(folder)).endswith("+changes")
    (folder / ".gitattributes").write_text("*.txt diff=evil filter=evil")
    for setting in ("diff.external", "diff.evil.command", "diff.evil.textconv", "core.pager"):
        git("config", setting, str(evil))
    patch = git_diff(folder, git_commit(folder))
    assert "-a\n" in patch
    assert "+c" in patch
    assert git_diff(folder, "0123+unknown") == git_diff(folder, None) == git_diff(folder, "0123") == ""
    assert not (folder / "marker").exists()


# ---------------------------------------------------------------- names

STEERING = "\x1b]0;title\x07\x9b2J\r\u202e"


def is_harmless(text: str) -> bool:
    return not set(text) & set("\x1b\x07\x9b\r\u202e")


def test_names_do_not_steer_the_terminal(
    stranger: Path, folder: Path, run_cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{STEERING}.npy".replace("/", "")
    np.save(folder / name, np.zeros((1, 8, 8, 1), "float32"))
    names = [f"[red]{STEERING}[/]", "[link=file:///etc/passwd]x[/link]", "[/]"]
    metrics = json.loads((stranger / "metrics.json").read_text())
    metrics |= {"class_names": names, "objective": f"[red]{STEERING}"}
    (stranger / "metrics.json").write_text(json.dumps(metrics))
    RunFolder(stranger).write_decision(Decision("multiclass", tuple(names)))
    for arguments in ((), ("--json",), ("missing.png",)):
        outcome = run_cli("predict", str(stranger), name, *arguments)
        assert is_harmless(outcome.out + outcome.err)
        assert "[/link]" in outcome.out
    outcome = run_cli("predict", str(stranger), name, "--json")
    assert set(json.loads(outcome.out)["probabilities"]) == set(names)
    outcome = run_cli("compare", str(stranger))
    assert is_harmless(outcome.out)
    assert "[red]" in outcome.out
    explain(CnnbenchError(f"[bold]{STEERING}", STEERING))
    assert is_harmless(capsys.readouterr().err)


@pytest.mark.parametrize(
    "decision",
    [
        {"task": "multiclass", "names": 3},
        {"task": "anything", "names": ["a", "b", "c"]},
        {"task": "binary", "names": ["a", "b"], "thresholds": [0.1, 0.2]},
        {"task": "binary", "names": ["a", "b"], "thresholds": [float("nan")]},
        {"task": "multilabel", "names": ["a", "b", "c"], "thresholds": ["a", {}, None]},
        {"task": "multiclass", "names": ["a", "b", "c"], "conformal": "x"},
        {"task": "multiclass", "names": ["only", "two"]},
        [1],
    ],
)
def test_a_decision_that_is_none_is_one_line(
    stranger: Path, folder: Path, run_cli: Cli, decision: object
) -> None:
    np.save(folder / "x.npy", np.zeros((1, 8, 8, 1), "float32"))
    model, changed = stranger / "best.keras", folder / "changed.keras"
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(changed, "w") as new:
        for member in old.namelist():
            own = json.dumps({"cnnbench": decision}) if member == "metadata.json" else old.read(member)
            new.writestr(member, own)
    changed.replace(model)
    outcome = run_cli("predict", str(stranger), "x.npy")
    assert outcome.exit_code == 2
    assert "best.keras" in outcome.err
    assert "decision" in outcome.err
    assert "Traceback" not in outcome.err


def test_names_do_not_steer_who_reads_the_log(folder: Path) -> None:
    with logging_to(folder / "log"):
        logging.getLogger("cnnbench").warning("cannot read %s", STEERING)
    text = (folder / "log").read_text(encoding="utf-8")
    assert is_harmless(text)
    assert "\\u001b]0;title" in text


# ---------------------------------------------------------------- data


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "call",
    [
        (os.system, ("touch marker",)),
        (eval, ("open('marker', 'w')",)),
        (exec, ("open('marker', 'w')",)),
        (getattr, (os, "system")),
        (np.load, ("evil.npy",)),
        (np.fromfile, ("secret",)),
    ],
)
def test_a_pickle_runs_no_code(call: tuple[Any, ...], protocol: int, folder: Path) -> None:
    class Call:
        def __reduce__(self) -> tuple[Any, ...]:
            return call if call[0] is not getattr else (getattr, ("os", "system"))

    path = folder / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Call()}, protocol))
    with pytest.raises(CnnbenchError, match="has no place in a file of arrays"):
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
            if name == "yaml.load":
                assert ast.unparse(node.args[1]) == "YAML", path
            assert keywords.get("allow_pickle") != "True", path
            assert keywords.get("shell") != "True", path
            assert keywords.get("safe_mode") != "False", path
            assert not name.endswith((".extractall", ".extract")) or keywords.get("filter") == "'data'", path
    assert files.YAML in (yaml.SafeLoader, yaml.CSafeLoader)


# ---------------------------------------------------------------- places


def pictures(place: Path) -> Path:
    for number, name in enumerate("abc"):
        (place / name).mkdir(parents=True)
        for index in range(12):
            pixels = np.random.default_rng(100 * number + index).integers(0, 255, (8, 8, 3), "uint8")
            Image.fromarray(pixels).save(place / name / f"{index}.png")
    return place


# An ensemble takes two runs; what it writes is a run of its own.
@pytest.mark.parametrize("verb", [*(verb for verb in VERBS if verb != "ensemble"), "report", "compare"])
def test_a_strangers_run_writes_only_below_itself_and_into_the_users_cache(
    verb: str, folder: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNBENCH_CACHE", str(folder / "cache"))
    data = pictures(folder / "data")
    own = ("dataset=image_folder", f"dataset.root={data}", "dataset.size=8", "training.epochs=1")
    line = (*own, "training=smoke", "device=cpu", "model=mlp", "model.units=[4]", "run_dir=theirs")
    assert run_cli(*line).exit_code == 0
    dataset = yaml.safe_load((folder / "theirs" / "config.yaml").read_text())["dataset"]
    shutil.rmtree(folder / "cache")
    change_config(folder / "theirs", dataset={**dataset, "cache_dir": str(folder / "elsewhere")})
    if verb == "resume":
        (folder / "theirs" / "metrics.json").unlink()
    if verb == "replay":
        (folder / "theirs" / "bad_step").mkdir()
        shutil.copy(folder / "theirs" / "best.keras", folder / "theirs" / "bad_step" / "before.keras")
        np.savez(folder / "theirs" / "bad_step" / "batch.npz", x=np.zeros((1, 8, 8, 3)), y=np.zeros(1))
    np.save("x.npy", np.zeros((1, 8, 8, 3), "float32"))
    before = {path.name for path in folder.iterdir()} | {"cache"}
    outcome = run_cli(verb, "theirs", *VERBS.get(verb, ()))
    assert outcome.exit_code == 0, outcome
    assert {path.name for path in folder.iterdir()} <= before
    assert ("its cache_dir is not used" in outcome.err) == (verb not in ("report", "compare"))


def test_where_this_user_says_is_written(
    folder: Path, run_cli: Cli, verified_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNBENCH_CACHE", str(folder / "cache"))
    data = pictures(folder / "data")
    own = ("dataset=image_folder", f"dataset.root={data}", "dataset.size=8", "dataset.cache_dir=kept")
    line = (*own, "training=smoke", "device=cpu", "model=mlp", "model.units=[4]", "run_dir=mine")
    assert run_cli(*line).exit_code == 0
    shutil.rmtree(folder / "kept")
    assert run_cli("verify", "mine").exit_code == 0
    assert (folder / "kept").is_dir()
    assert run_cli("evaluate", "mine", "dataset.cache_dir=another").exit_code == 0
    assert (folder / "another").is_dir()
