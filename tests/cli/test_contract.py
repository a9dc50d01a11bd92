"""The contract of the command line: the first argument, exit codes, `--json`, `--quiet`, `--verbose`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Outcome
from PIL import Image

from cnnbench.cli.contract import Output, line_of_file, meaning, read_output
from cnnbench.cli.verbs import VERBS
from cnnbench.errors import CnnbenchError

Cli = Callable[..., Outcome]


@pytest.fixture
def place(folder: Path, finished_run: Path) -> Path:
    """A working folder with one of everything that a first argument may name."""
    shutil.copytree(finished_run, folder / "done")
    shutil.copytree(finished_run, folder / "many" / "first")
    (folder / "compare").mkdir()
    shutil.copytree(finished_run, folder / "compare" / "one")
    for name in ("cat", "dog"):
        (folder / "pics" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "pics" / name / "1.png")
    (folder / "~tilde" / "cat").mkdir(parents=True)
    (folder / "flat").mkdir()
    shutil.copy(folder / "pics" / "cat" / "1.png", folder / "flat" / "1.png")
    (folder / "mine.yaml").write_text("dataset: synthetic\ntraining: {epochs: 1}\n")
    (folder / "notes.txt").write_text("something")
    (folder / "pets.csv").write_text("image,label\nflat/1.png,cat\n")
    shutil.make_archive(str(folder / "pets"), "zip", folder / "pics")
    (folder / "houses.csv").write_text("rooms,price\n1,2\n")
    (folder / "named").mkdir()
    shutil.copy(folder / "pets.csv", folder / "named" / "labels.csv")
    (folder / "my.npz").touch()
    return folder


# What is typed; what it means; the line that runs, or words of the refusal.
MEANINGS = [
    ("", "line", ""),
    ("list model", "verb", "model"),
    ("compare", "verb", ""),  # though there is a folder of that name
    ("./compare", "sweep", ""),
    ("done", "run", ""),
    ("./done/", "run", ""),
    ("many", "sweep", ""),
    ("pics seed=1", "line", "dataset=image_folder dataset.root='{here}/pics' seed=1"),
    ("pets.csv seed=1", "line", "dataset=manifest dataset.file='{here}/pets.csv' seed=1"),
    ("pets.zip", "line", "dataset=manifest dataset.file='{here}/pets.zip'"),
    ("named", "line", "dataset=manifest dataset.file='{here}/named'"),
    ("my.npz seed=1", "line", "dataset=arrays dataset.file='{here}/my.npz' seed=1"),
    ("mine.yaml seed=1", "line", "dataset=synthetic training.epochs=1 seed=1"),
    ("model=cnn", "line", "model=cnn"),
    ("+model.x=1", "line", "+model.x=1"),
    ("~callbacks.early_stopping", "line", "~callbacks.early_stopping"),
    ("-m seed=0,1", "line", "-m seed=0,1"),
    ("--cfg job", "line", "--cfg job"),
    ("dataset.root=a/b", "line", "dataset.root=a/b"),
    ("done seed=1", None, "takes no 'seed=1'"),
    ("flat", None, "neither a run nor a folder of pictures"),
    ("flat/1.png", None, "cnnbench predict RUN"),
    ("houses.csv", None, "dataset.target=COLUMN"),
    ("notes.txt", None, "no YAML file"),
    ("done/config.yaml", None, "cnnbench resume"),
    ("comparre", None, "did you mean compare?"),
    ("Compare", None, "did you mean compare?"),
    ("nowhere/pics", None, "no file or folder that exists"),
    ("mine.yml", None, "no file or folder that exists"),
    ("x" * 5000, None, "there is no verb"),
    ("a\0b", None, "no verb"),
    ("./~tilde", "line", "dataset=image_folder dataset.root='{here}/~tilde'"),
]


@pytest.mark.parametrize(("typed", "kind", "words"), MEANINGS, ids=[row[0][:30] for row in MEANINGS])
def test_the_first_argument_means_one_thing(typed: str, kind: str | None, words: str, place: Path) -> None:
    if kind is None:
        with pytest.raises(CnnbenchError) as refused:
            meaning(typed.split(" "), VERBS)
        assert words in str(refused.value)
        return
    found = meaning(typed.split(), VERBS)
    assert found.kind == kind
    if kind in ("run", "sweep"):
        assert found.place == Path(typed.rstrip("/"))
    else:
        assert " ".join(found.arguments) == words.format(here=place)


def test_an_empty_argument_is_no_folder(run_cli: Cli, place: Path) -> None:
    assert run_cli("").exit_code == 2


def test_a_yaml_file_runs_and_its_paths_are_relative_to_it(run_cli: Cli, place: Path) -> None:
    (place / "sub").mkdir()
    text = "dataset: image_folder\ndataset.root: ../pics\ntraining: {epochs: 3, batch_size: 8}\n"
    (place / "sub" / "my.yaml").write_text(text)
    shown = run_cli("sub/my.yaml", "--cfg", "job", "training.batch_size=4").out
    assert f"root: {place}/pics" in shown.replace("sub/../", "")
    assert "epochs: 3" in shown
    assert "batch_size: 4" in shown  # what is typed wins


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plugins: [mine]\n", "plugins is for the command line alone"),
        ("hydra/launcher: joblib\n", "is for the command line alone"),
        ("hydra: {launcher: {n_jobs: 2}}\n", "is for the command line alone"),
        ("run_dir: /tmp/x\n", "run_dir is for the command line alone"),
        ("dataset.cache_dir: /tmp/x\n", "dataset.cache_dir is for the command line alone"),
        ("sweep: search\n", "sweep is for the command line alone"),
        ("name: ${oc.env:HOME}\n", "is not resolved"),
        ("expected: [{a: '$\\{oc.env\\:HOME\\}'}]\n", "is not resolved"),
        ("expected: [{'a: $\\{oc.env\\:HOME\\}, b': 1}]\n", "is no key of a config"),
        ("'run_dir=/tmp/x': y\n", "is no key of a config"),
        ("'dataset.cache_dir=/tmp/x': y\n", "is no key of a config"),
        ("dataset: {cache_dir: /tmp/x}\n", "dataset.cache_dir is for the command line alone"),
        ("'--config-dir': evil\n", "is no key of a config"),
        ("'++seed': 1\n", "is no key of a config"),
        ("- dataset\n", "is no mapping"),
        ("a: [\n", "mine.yaml"),
    ],
)
def test_a_yaml_file_may_be_a_strangers(text: str, words: str, place: Path) -> None:
    (place / "mine.yaml").write_text(text)
    with pytest.raises(CnnbenchError) as refused:
        line_of_file(Path("mine.yaml"))
    assert words in str(refused.value)


def test_a_yaml_file_may_have_mappings_as_values(run_cli: Cli, place: Path) -> None:
    tuned = "{from_layer: all, epochs: 1, learning_rate: 0.1}"
    text = (
        f"training.fine_tuning: {tuned}\nmodel: {{kernel_regularizer: {{_target_: keras.regularizers.L2}}}}\n"
    )
    (place / "mine.yaml").write_text(text)
    shown = run_cli("mine.yaml", "--cfg", "job").out
    assert "from_layer: all" in shown
    assert "_target_: keras.regularizers.L2" in shown


@pytest.mark.parametrize("file", ["nowhere/told.json", "many"])
def test_a_file_for_json_is_tried_before_anything_is_done(file: str, run_cli: Cli, place: Path) -> None:
    outcome = run_cli(*TINY, "run_dir=run", f"--json={file}")
    assert (outcome.exit_code, len(outcome.err.splitlines())) == (2, 2)
    assert "no file can be written there" in outcome.err
    assert not (place / "run").exists()


def test_the_help_of_a_verb_is_an_answer_too(run_cli: Cli) -> None:
    assert "usage: cnnbench verify" in run_cli("verify", "--help").out
    told = json.loads(run_cli("verify", "--help", "--json").out)
    assert (told["verb"], told["exit_code"]) == ("verify", 0)
    assert "usage: cnnbench verify" in told["help"]


OUTPUTS = [
    ("verify RUN --json", Output("-"), "verify RUN"),
    ("verify --json RUN", Output("-"), "verify RUN"),
    ("verify RUN --json out.json", Output("out.json"), "verify RUN"),
    ("verify RUN --json -", Output("-"), "verify RUN"),
    ("verify RUN --json=x.txt", Output("x.txt"), "verify RUN"),
    ("predict RUN --json a.png", Output("-"), "predict RUN a.png"),
    ("-q seed=1 -v", Output(None, True, True), "seed=1"),
    ("--quiet seed=1 --verbose", Output(None, True, True), "seed=1"),
    ("predict RUN -- --json -q", Output(), "predict RUN -- --json -q"),
]


@pytest.mark.parametrize(("typed", "output", "rest"), OUTPUTS, ids=[row[0] for row in OUTPUTS])
def test_what_every_command_takes(typed: str, output: Output, rest: str) -> None:
    assert read_output(typed.split()) == (output, rest.split())


# One line for every verb and way of running; its exit code; keys of its answer.
ANSWERS = [
    ("list model", 0, {"groups"}),
    ("list nothing", 2, {"error", "hint"}),
    ("backbones", 0, {"backbones", "folders"}),
    ("explain seed", 0, {"key", "lines"}),
    ("probe dataset=synthetic backbones=pixels device=cpu", 0, {"ranked", "curve", "answer", "next"}),
    ("probe model=cnn", 2, {"error", "hint"}),
    ("doctor dataset=synthetic device=cpu", 0, {"findings", "counts", "passed", "page"}),
    ("doctor dataset=synthetic --limit 2", 2, {"error", "hint"}),
    ("compare many", 0, {"rankings"}),
    ("diff done many/first", 0, {"config"}),
    ("report done", 0, {"page"}),
    ("done", 0, {"folder", "status", "metrics"}),
    ("many", 0, {"rankings"}),
    ("resume done", 0, {"folder", "status", "metrics"}),
    ("completion bash", 0, {"lines"}),
    ("runs done many", 0, {"runs"}),
    ("tag done good", 0, {"folder", "tags"}),
    ("note done words", 0, {"folder", "note"}),
    ("clean", 0, {"caches", "freed", "runs", "removed"}),
    ("--version", 0, {"cnnbench", "python", "tensorflow", "keras"}),
    ("--help", 0, {"verbs", "groups"}),
    ("--cfg job", 0, {"yaml"}),
    ("lr-find phase=nothing", 2, {"error", "hint"}),
    ("replay done", 2, {"error", "hint"}),
    ("verify nowhere", 2, {"error", "hint"}),
    ("verify", 2, {"error", "hint"}),
    ("verify done --nothing", 2, {"error", "hint"}),
    ("sed=1", 2, {"error", "hint"}),
    ("nonsense", 2, {"error", "hint"}),
]


@pytest.mark.parametrize(("typed", "code", "keys"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_every_answer_is_one_json_object(
    typed: str, code: int, keys: set[str], run_cli: Cli, place: Path
) -> None:
    outcome = run_cli(*typed.split(), "--json")
    told = json.loads(outcome.out)
    assert (outcome.exit_code, told["exit_code"], told["schema"]) == (code, code, 1)
    assert keys <= set(told)
    assert told["verb"] == (typed.split()[0] if typed.split()[0] in VERBS else told["verb"])
    written = run_cli(*typed.split(), "--json", "told.json")
    assert json.loads((place / "told.json").read_text(encoding="utf-8"))["exit_code"] == code
    assert written.out or code  # a person reads on
    assert run_cli(*typed.split(), "--quiet").out == ""


def test_a_run_and_a_sweep_answer_too(run_cli: Cli, place: Path) -> None:
    outcome = run_cli(*TINY, "run_dir=one", "--json")
    told = json.loads(outcome.out)
    assert (outcome.exit_code, told["verb"], told["folder"], told["status"]) == (0, "run", "one", "done")
    assert told["metrics"]["test"]["accuracy"] >= 0
    assert run_cli("verify", "one", "--quiet").exit_code == 0


def test_verify_answers_no_with_3(run_cli: Cli, place: Path) -> None:
    metrics = json.loads((place / "done" / "metrics.json").read_text())
    metrics["metrics"]["test"]["loss"] += 1
    (place / "done" / "metrics.json").write_text(json.dumps(metrics))
    outcome = run_cli("verify", "done", "--json")
    told = json.loads(outcome.out)
    assert (outcome.exit_code, told["exit_code"], told["passed"]) == (3, 3, False)


def test_verbose_prints_the_log_to_standard_error(run_cli: Cli, place: Path) -> None:
    assert "epoch epoch=1" not in run_cli(*TINY, "run_dir=quiet").err
    assert "epoch epoch=1" in run_cli(*TINY, "run_dir=loud", "-v").err


def test_versions_need_neither_tensorflow_nor_keras(run_python: Cli, folder: Path) -> None:
    code = (
        "import sys; from cnnbench.cli.main import main; sys.argv = ['cnnbench', '--version']; main(); "
        "print({'tensorflow', 'keras', 'numpy'} & set(sys.modules))"
    )
    lines = run_python(code).out.splitlines()
    assert [line.split()[0] for line in lines] == ["cnnbench", "python", "tensorflow", "keras", "set()"]


def test_a_name_that_is_no_text_becomes_valid_json(run_cli: Cli, place: Path) -> None:
    for arguments in (("--json",), ("--json", "rows.jsonl")):
        outcome = run_cli("predict", "done", "\udcff.png", *arguments)
        assert outcome.exit_code == 1
    (row,) = (place / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert (
        json.loads(row)["path"] == json.loads(run_cli("predict", "done", "\udcff.png", "--json").out)["path"]
    )
    assert json.loads(row)["path"] == "\udcff.png"
