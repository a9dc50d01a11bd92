"""The command line: wrong input in one line, exit codes, verbs, sweeps, and what it does not import."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import TINY, Outcome, own_model, without_remarks
from PIL import Image

from cnnbench import errors
from cnnbench.cli import main
from cnnbench.cli.verbs import VERBS
from cnnbench.config.groups import options
from cnnbench.runs.folder import new_folder

Cli = Callable[..., Outcome]
SMOKE = ("training=smoke", "device=cpu")
# Runs `main()` in a new process and says on the last line of stdout which heavy modules it has imported.
PROBE = """
import sys
from cnnbench.cli.main import main
try:
    code = main()
except SystemExit as exit_:
    code = exit_.code
heavy = sorted({"tensorflow", "keras", "sklearn", "matplotlib"} & set(sys.modules))
print("imported:", *heavy)
sys.exit(code)
"""

# What is typed; words of the error line; words of the hint ("" where there need not be one).
WRONG = [
    # unknown options, and the nearest one
    ("model=cn", "model has no option 'cn'", "did you mean cnn?"),
    (
        "model=tiny.py",
        "model has no option 'tiny.py'",
        "plugins=[tiny.py] model=tiny, with conf/model/tiny.yaml",
    ),
    ("optimizer=adm", "optimizer has no option 'adm'", "did you mean adam?"),
    ("optimizer/learning_rate=cosin", "optimizer/learning_rate has no option", "did you mean cosine?"),
    ("dataset=cifar11", "dataset has no option 'cifar11'", "did you mean cifar10?"),
    ("loss=crossentropi", "loss has no option 'crossentropi'", "did you mean cross_entropy?"),
    ("training=smok", "training has no option", "did you mean smoke?"),
    ("callbacks=[default,erly_stopping]", "callbacks has no option", "did you mean early_stopping?"),
    ("experiment=notes/cifar10_cn", "experiment has no option", "notes/cifar10_cnn"),
    ("model=null", "model has no option None", "cnn"),
    ("+model=mlp", "model has an option already", "model=mlp"),
    ("+experiment=notes/cifar10_cnn", "has an option already", "experiment=notes/cifar10_cnn"),
    # mistyped keys, with and without the + that would let them through
    ("sed=1", "there is no key sed", "did you mean seed?"),
    ("+sed=1", "there is no key sed", "did you mean seed?"),
    ("++sed=1", "there is no key sed", "did you mean seed?"),
    ("modle=cnn", "there is no key modle", "did you mean model?"),
    ("model.filter=[8]", "there is no key model.filter", "did you mean filters?"),
    ("+model.filter=[8]", "model.filter", "did you mean filters?"),
    ("training.epoch_=1", "there is no key training.epoch_", "did you mean epochs?"),
    ("optimizer=muon optimizer.clipnorm=balanced", "optimizer.clipnorm=balanced", ""),
    ("epcohs=1", "there is no key epcohs", "did you mean training.epochs?"),
    ("+training.epoch=1", "there is no key training.epoch", "did you mean epochs?"),
    ("+optimizer.clipvalue=1.0 sed=1", "there is no key sed", "did you mean seed?"),  # not the one that fits
    ("optimizer.learn_rate=1", "there is no key optimizer.learn_rate", "did you mean learning_rate?"),
    ("+optimizer.lr=0.1", "takes no lr", "did you mean learning_rate?"),
    ("callbacks.erly_stopping=null", "no key callbacks.erly_stopping", "did you mean early_stopping?"),
    ("dataset.size=16", "there is no key dataset.size", ""),
    ("a.b.c=1", "there is no key a.b.c", "augmentation, callbacks"),
    ("~model._target_", "model has no _target_", "cnnbench list model"),
    ("+loss.label_smoothing=0.3", "this loss takes no keys, but there is loss.label_smoothing", "list loss"),
    ("augmentation=none +augmentation.mixup=0.2", "this augmentation takes no keys", "list augmentation"),
    # types and ranges
    ("training.epochs=-1", "training.epochs=-1", ""),
    ("training.epochs=1.5", "training.epochs=1.5", ""),
    ("training.batch_size=foo", "training.batch_size=foo: input should be a valid integer", ""),
    ("training.validation_fraction=1.5", "training.validation_fraction=1.5", ""),
    ("training.precision=float8", "training.precision=float8", ""),
    ("model.filters=abc", "model.filters=abc", ""),
    ("model.filters=[abc]", "model.filters.0=abc", ""),
    ("model.kernel_size=0", "model.kernel_size=0", ""),
    ("model.pooling=maximum", "model.pooling=maximum: input should be 'max' or 'average'", ""),
    ("dataset=synthetic dataset.classes=1", "dataset.classes=1", ""),
    ("seed=-1", "seed=-1", ""),
    ("device=tpu", "device=tpu: input should be 'auto', 'cpu' or 'gpu'", ""),
    ("optimizer.learning_rate=0", "optimizer.learning_rate=0 is not a number above 0", "schedule"),
    ("optimizer.learning_rate=-0.1", "optimizer.learning_rate=-0.1 is not a number above 0", "schedule"),
    ("optimizer.learning_rate=abc", "optimizer.learning_rate=abc is not a number", ""),
    ("optimizer.learning_rate.initial_learning_rate=0", "initial_learning_rate=0", ""),
    ("optimizer.beta_1=high", "optimizer.beta_1=high is not a number", "0.9"),
    # what fits nowhere: Keras optimizers take **kwargs
    ("+optimizer.beta_3=0.1", "takes no beta_3", "beta_2"),
    ("+model.input_shape=[3]", "model.input_shape is decided by the data", "remove model.input_shape"),
    ("+model._partial_=true", "model._partial_ is not a keyword", "_target_"),
    ("loss=mse", "this loss is for regression, but the task of this data set is multiclass", "loss=auto"),
    ("dataset=diabetes loss=cross_entropy", "this loss is for multiclass", "loss=auto"),
    # monitors, modes, schedules, objective
    ("callbacks.checkpoint.monitor=val_acuracy", "will not exist", "did you mean val_accuracy?"),
    ("callbacks.early_stopping.monitor=val_rmse", "will not exist", "val_loss"),
    ("callbacks.checkpoint.monitor=test_accuracy", "the test split must not influence", "val_"),
    ("training.validation_fraction=0", "leaves no validation split", "monitor loss"),
    ("~callbacks.checkpoint.mode", "callbacks.checkpoint does not say its mode", "mode=min or max"),
    ("callbacks.checkpoint.mode=auto", "callbacks.checkpoint does not say its mode", "never guessed"),
    ("callbacks.checkpoint.mode=max", "val_loss is better when smaller", "callbacks.checkpoint.mode=min"),
    (
        "callbacks=[default,reduce_on_plateau] optimizer/learning_rate=cosine",
        "callbacks.reduce_on_plateau cannot change a learning rate that a schedule sets",
        "optimizer/learning_rate=constant",
    ),
    ("objective=val_acuracy", "objective=val_acuracy will not exist", "did you mean val_accuracy?"),
    # targets: a config from elsewhere must not run arbitrary code
    ("model._target_=os.system", "model._target_=os.system", "plugins=[os]"),
    ("+model.kernel._target_=os.system", "model.kernel._target_=os.system", "plugins=[os]"),
    ("optimizer._target_=keras.utils.get_file", "keras.src.utils.file_utils.get_file", ""),
    ("model._target_=keras.src.utils.file_utils.os.system", "os.system", ""),
    ("model._target_=sklearn.utils._testing._delete_folder", "a config may only name", ""),
    ("optimizer.learning_rate={_target_:os.system}", "learning_rate._target_=os.system", "plugins=[os]"),
    (
        "optimizer.learning_rate.initial_learning_rate={_target_:os.system,command:ls}",
        "initial_learning_rate._target_=os.system",
        "plugins=[os]",
    ),
    ("+callbacks.mine={_target_:os.system,command:ls}", "callbacks.mine._target_=os.system", "plugins"),
    ("+callbacks.mine.monitor=val_loss", "callbacks.mine has no _target_", "cnnbench list callbacks"),
    ("model._target_=cnnbench.models.cnn.cn", "has no function or class 'cn'", "did you mean cnn?"),
    ("model._target_=cnnbench.models", "is a module", ""),
    ("plugins=[nothere.py]", "plugins: there is no nothere.py", ""),
    ("plugins=[nothere]", "plugins: there is no nothere", ""),
    # what Hydra does with the command line
    ("model=cnn,mlp", "model=cnn,mlp has several values", "add -m"),
    ("seed=1,2", "seed=1,2 has several values", "add -m"),
    ("model.filters=[1", "cannot read 'model.filters=[1'", "key=value"),
    ("--config-dir nowhere", "nowhere", ""),
    # verbs
    ("lst", "there is no verb 'lst'", "did you mean list?"),
    ("list modle", "there is no group 'modle'", "did you mean model?"),
    ("compare nowhere", "nowhere does not exist", ""),
    ("verify nowhere", "nowhere does not exist", "run"),
    # folders
    ("run_dir=a_file/run", "cannot write to a_file/run", "run_dir="),
    ("run_dir=full", "full is not empty; a run never overwrites another", "run_dir"),
    ("-m run_dir=full seed=0,1", "full is not empty; a sweep never overwrites another", "run_dir"),
    # data
    ("dataset=cifar10", "CIFAR-10 was not found", "data_dir=FOLDER"),
    ("dataset=mnist data_dir=nowhere", "data_dir=nowhere is not a folder", "data_dir"),
    # one wrong value of a sweep stops it before the first run
    ("-m model=mlp,cn seed=0,1", "model has no option 'cn'", "did you mean cnn?"),
    ("-m model.filters=[8],abc", "model.filters=abc", ""),
    ("-m seed=0,-1", "seed=-1", ""),
    ("-m dataset=digits,diabetes loss=cross_entropy", "this loss is for multiclass", "loss=auto"),
]


def folders_in(place: Path) -> list[Path]:
    return sorted(path for path in place.glob("*") if path.is_dir())  # beside Hydra's multirun.yaml


@pytest.mark.parametrize(("typed", "message", "hint"), WRONG, ids=[typed for typed, _, _ in WRONG])
def test_wrong_input_is_one_line_with_a_hint_and_leaves_nothing(
    typed: str, message: str, hint: str, run_cli: Cli, folder: Path
) -> None:
    (folder / "a_file").write_text("")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").write_text("mine")

    exit_code, out, err = run_cli(*typed.split())

    lines = err.splitlines()
    assert exit_code == 2
    assert len(lines) in (1, 2)
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert len(lines) == 1 or lines[1].startswith("hint: ")
    assert hint in "".join(lines[1:])
    assert "Traceback" not in out + err
    assert "+" not in err.replace(f"'{typed}'", "").replace(f"{typed}:", "")  # what Hydra advises
    assert folders_in(folder / "outputs") == []
    assert [path.name for path in (folder / "full").iterdir()] == ["thesis.txt"]


def test_a_broken_yaml_of_the_user_is_named_with_its_line(run_cli: Cli, folder: Path) -> None:
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "model" / "broken.yaml").write_text("# Mine\nfilters: [1\nunits: 2\n")
    exit_code, _, err = run_cli("--config-dir", "mine", "model=broken")
    assert exit_code == 2
    assert err.startswith("error: ")
    assert "broken.yaml, line 3: " in err
    assert len(err.splitlines()) == 1


def test_a_corrected_command_can_use_the_same_run_dir(run_cli: Cli, folder: Path) -> None:
    assert run_cli("dataset=cifar10", "run_dir=mine").exit_code == 2
    assert not (folder / "mine").exists()


@pytest.mark.parametrize(
    "typed",
    ["+optimizer.lr=0.1", "callbacks.checkpoint.monitor=val_acuracy", "dataset=mnist", "-m seed=0,-1"],
)
def test_tensorflow_is_not_imported_before_the_config_and_the_data_are_right(
    typed: str, run_python: Cli, tmp_path: Path
) -> None:
    # No route anywhere: the check for a connection fails at once, whatever machine this is.
    outcome = run_python(PROBE, *typed.split(), https_proxy="http://127.0.0.1:9", no_proxy="")
    assert outcome.exit_code == 2, outcome
    assert outcome.err.startswith("error: ")
    assert not {"tensorflow", "keras"} & set(outcome.out.splitlines()[-1].split())


@pytest.mark.parametrize("typed", ["--help", "list", "list model", "--cfg job", "--hydra-help"])
def test_what_only_reads_the_config_imports_nothing_heavy(typed: str, run_python: Cli, folder: Path) -> None:
    outcome = run_python(PROBE, *typed.split())
    assert (outcome.exit_code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1] == "imported:"
    assert list(folder.iterdir()) == []


def test_comparing_runs_imports_no_tensorflow(run_python: Cli, finished_run: Path) -> None:
    outcome = run_python(PROBE, "compare", str(finished_run.parent))
    assert (outcome.exit_code, outcome.err) == (0, "")
    assert "ranking by val_accuracy" in outcome.out
    assert not {"tensorflow", "keras"} & set(outcome.out.splitlines()[-1].split())


def test_a_traceback_is_printed_on_demand_only(run_python: Cli) -> None:
    outcome = run_python(PROBE, "seed=-1", HYDRA_FULL_ERROR="1")
    assert outcome.exit_code == 1
    assert "Traceback" in outcome.err
    assert "CnnbenchError: seed=-1" in outcome.err


def test_the_traceback_of_a_failure_too_is_printed_on_demand(
    run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr("cnnbench.training.run.run", broken)
    assert run_cli(*TINY).err.startswith("failed: broken\n")
    monkeypatch.setattr(main, "WANTS_TRACEBACK", True)
    with pytest.raises(ZeroDivisionError):
        run_cli(*TINY)


def test_help_lists_five_examples_the_verbs_and_every_option(run_cli: Cli) -> None:
    exit_code, out, err = run_cli("--help")
    assert (exit_code, err) == (0, "")
    examples = out.partition("examples")[2].partition("\n\n")[0]
    assert len(re.findall(r"^ +cnnbench", examples, re.MULTILINE)) == 5
    for verb in VERBS:
        assert re.search(rf"^ +{verb} ", out, re.MULTILINE)
    for group, members in options().items():
        line = re.search(rf"^ +{group} +(.*)", out, re.MULTILINE)
        assert line, group
        assert line[1].split(", ") == list(members)


def test_list_shows_every_option_with_what_it_is(run_cli: Cli) -> None:
    _, everything, _ = run_cli("list")
    exit_code, models, err = run_cli("list", "model")
    assert (exit_code, err) == (0, "")
    for group, members in options().items():
        assert group in everything.splitlines()
        for option, text in members.items():
            assert re.search(rf"^  {option} +{re.escape(text)}$", everything, re.MULTILINE)
    assert len(models.splitlines()) == 1 + len(options()["model"])
    assert "optimizer" not in models


def test_cfg_prints_the_composed_config_and_runs_nothing(run_cli: Cli, folder: Path) -> None:
    exit_code, out, err = run_cli("--cfg", "job", "model.filters=[4,8]", "seed=3")
    shown = yaml.safe_load(out)
    assert (exit_code, err) == (0, "")
    assert shown["model"]["filters"] == [4, 8]
    assert shown["seed"] == 3
    assert "hydra" not in shown
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_answers_help(verb: str, run_cli: Cli) -> None:
    exit_code, out, err = run_cli(verb, "--help")
    assert (exit_code, err) == (0, "")
    assert f"cnnbench {verb}" in out


def test_compare_without_runs_is_wrong_input(run_cli: Cli, folder: Path) -> None:
    (folder / "outputs").mkdir()
    outcome = run_cli("compare")
    assert outcome.exit_code == 2
    assert "error: there are no runs" in outcome.err


def test_an_interruption_has_its_own_exit_code(run_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cnnbench.training.run.run", interrupted)
    outcome = run_cli(*TINY)
    assert outcome.exit_code == 130
    assert re.fullmatch(r"to go on: cnnbench resume outputs/\S+\ninterrupted\n", outcome.err)


def test_a_failure_is_one_line_and_says_where_the_rest_is(run_cli: Cli, folder: Path) -> None:
    outcome = run_cli(*TINY, "optimizer=sgd", "optimizer.learning_rate=1e38", "run_dir=diverged")
    assert outcome.exit_code == 1
    lines = without_remarks(outcome.err).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("failed: the loss became ")
    assert "failure.json" in lines[1]
    assert "Traceback" not in outcome.out + outcome.err
    assert "Traceback" in (folder / "diverged" / "cnnbench.log").read_text()
    assert json.loads((folder / "diverged" / "failure.json").read_text())["stage"] == "fit"


def test_a_failure_of_a_verb_that_makes_no_run_names_no_file_of_one(
    run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("cnnbench.api.probe", broken)
    outcome = run_cli("probe", "dataset=digits")
    assert outcome.exit_code == 1
    assert outcome.err.splitlines()[-2:] == ["failed: broken", "hint: HYDRA_FULL_ERROR=1 prints where"]


def test_a_tiny_run_prints_one_plain_line_per_epoch(run_cli: Cli, folder: Path) -> None:
    exit_code, out, err = run_cli(*TINY, "training.epochs=3", "callbacks.early_stopping=null")
    assert (exit_code, without_remarks(err)) == (0, "")
    assert re.findall(r"^(\d/3)(?: +\d\.\d{4}){4} ", out, re.MULTILINE) == ["1/3", "2/3", "3/3"]
    assert "\r" not in out
    assert "\x1b" not in out
    (made,) = folders_in(folder / "outputs")
    assert f"results: {made.relative_to(folder)}" in out.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_cnn_synthetic", made.name)
    assert json.loads((made / "metrics.json").read_text())["status"] == "done"


def test_start_up_noise_of_tensorflow_stays_out_of_stderr(run_python: Cli, folder: Path) -> None:
    outcome = run_python(PROBE, *TINY)
    assert (outcome.exit_code, without_remarks(outcome.err)) == (0, "")
    (made,) = folders_in(folder / "outputs")
    assert "TensorFlow: " in (made / "cnnbench.log").read_text()


def test_warnings_reach_the_terminal_and_the_log(
    run_cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnbench.training import run

    before = run.check_task

    def warning(*arguments: object) -> None:
        before(*arguments)  # type: ignore[arg-type]
        run.log.warning("the data look odd")
        logging.getLogger("py.warnings").warning("a library grumbles")  # where captured warnings arrive

    monkeypatch.setattr(run, "check_task", warning)
    outcome = run_cli(*TINY, "run_dir=odd")
    for text in ("the data look odd", "a library grumbles"):
        assert f"warning: {text}\n" in outcome.err
        assert text not in outcome.out
        assert text in (folder / "odd" / "cnnbench.log").read_text()


def test_a_sweep_is_every_combination_in_one_folder_with_a_ranking(run_process: Cli, folder: Path) -> None:
    exit_code, out, err = run_process("-m", *SMOKE, "model=mlp,cnn", "dataset=digits", "seed=0,1")
    assert (exit_code, without_remarks(err)) == (0, "")
    (sweep,) = folders_in(folder / "outputs")
    runs = folders_in(sweep)
    assert [run.name for run in runs] == [
        f"{number:03d}_{model}_digits_seed{number % 2}"
        for number, model in enumerate(["mlp"] * 2 + ["cnn"] * 2)
    ]
    for run in runs:
        assert json.loads((run / "metrics.json").read_text())["status"] == "done"
        assert "epoch=1" in (run / "cnnbench.log").read_text()  # its own log, not only the first one's
    ranking = out.partition("ranking by val_accuracy")[2]
    rows = re.findall(r"(?m)^\W* (\d) +(mlp|cnn) +(\d) +0\.\d{4} ± ", ranking)
    assert sorted(model for _, model, _ in rows) == ["cnn", "mlp"]
    assert [(rank, runs) for rank, _, runs in rows] == [("1", "2"), ("2", "2")]
    assert out.splitlines()[-1] == f"results: {sweep.relative_to(folder)}"
    assert out.startswith("sweep: 4 runs, a line for each as it ends")
    lines = re.findall(
        r"(?m)^(\d of 4)(?:, about [\d.]+ \w+ left)?  run (\d) done: model=(?:mlp|cnn) seed=", out
    )
    assert lines == [(f"{number + 1} of 4", str(number)) for number in range(4)]
    assert out.count(" left  run") == 3  # of the last nothing is left
    assert "val_loss" not in out  # with -v


def test_a_sweep_shows_its_epochs_where_that_is_asked_for(run_process: Cli) -> None:
    exit_code, out, err = run_process("-m", *TINY, "seed=0,1", "-v")
    assert exit_code == 0, err
    assert len(re.findall("(?m)^1/1 ", out)) == 2


def test_the_help_fits_a_terminal_of_80_columns(
    run_cli: Cli, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    for flag in ("--help", "--hydra-help"):
        lines = re.sub("\x1b\\[[0-9;]*m", "", run_cli(flag).out).splitlines()
        assert max(map(len, lines)) <= 80
        assert any("training" in line or "--cfg" in line for line in lines)


UNNAMED = """
import keras

def unnamed(input_shape, outputs):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(outputs)])
"""


def test_a_network_without_a_name_has_that_of_its_option(run_cli: Cli, folder: Path) -> None:
    outcome = run_cli(*own_model(folder, "unnamed", UNNAMED))
    assert outcome.exit_code == 0, outcome.err
    assert "model: unnamed  (" in outcome.out


def test_a_run_ends_with_three_lines_to_go_on_with(run_cli: Cli, folder: Path) -> None:
    _, out, _ = run_cli(*TINY, "run_dir=my runs/one")
    page, predict, compare = out.splitlines()[-3:]
    assert page == "look at it:  my runs/one/report.html"
    assert predict == "predict:     cnnbench predict 'my runs/one' photo.jpg"
    assert compare == "compare:     cnnbench compare 'my runs'"
    for text in (predict, compare):
        typed = shlex.split(text.partition("cnnbench ")[2])
        if "photo.jpg" in typed:
            Image.new("L", (8, 8)).save(folder / "photo.jpg")
        outcome = run_cli(*typed)
        assert outcome.exit_code == 0, outcome.err


@pytest.mark.parametrize(
    ("typed", "cause", "stage"),
    [
        ((*SMOKE, "dataset=digits,cifar10"), "CIFAR-10 was not found", "data"),
        ((*TINY, "model.filters=[8,8,8,8,8],[4]"), "stage 4 would shrink", "build"),
        ((*TINY, "optimizer=sgd", "optimizer.learning_rate=1e38,0.01"), "the loss became ", "fit"),
    ],
    ids=["no data", "model does not fit", "diverged"],
)
def test_a_run_that_fails_does_not_stop_the_sweep(
    typed: tuple[str, ...], cause: str, stage: str, run_process: Cli, folder: Path
) -> None:
    exit_code, out, err = run_process("-m", *typed, "run_dir=mine")
    assert exit_code == 1
    assert not (folder / "outputs").exists()
    runs = folders_in(folder / "mine")
    status = {run: json.loads((run / "metrics.json").read_text())["status"] for run in runs}
    assert sorted(status.values()) == ["done", "failed"]
    (failed,) = (run for run in runs if status[run] == "failed")
    failure = json.loads((failed / "failure.json").read_text())
    assert cause in failure["cause"]
    assert failure["stage"] == stage
    assert any("Traceback" in line for line in failure["traceback"])
    assert "Traceback" in (failed / "cnnbench.log").read_text()
    assert f"failed: {failed.relative_to(folder)}  {failure['cause']}" in out
    assert cause in err
    assert "Traceback" not in out + err


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    assert len({new_folder(tmp_path, "cnn_digits") for _ in range(5)}) == 5

    made: list[Path] = []
    together = threading.Barrier(8)

    def make() -> None:
        together.wait()
        made.append(new_folder(tmp_path / "threads", "cnn_digits"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == 8
    assert all(path.is_dir() for path in made)


def test_the_module_can_be_run_and_returns_the_exit_code(run_python: Cli) -> None:
    code = (
        "import runpy, sys; sys.argv[0] = 'cnnbench'; "
        "runpy.run_module('cnnbench.cli.main', run_name='__main__')"
    )
    outcome = run_python(code, "seed=-1")
    assert outcome.exit_code == errors.EXIT_WRONG_INPUT == 2


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("own", ["hydra: {run: {dir: ./elsewhere}}", "hydra: {job: {chdir: true}}"])
def test_a_folder_of_options_cannot_set_what_hydra_does(
    folder: Path, run_cli: Callable[..., Outcome], own: str
) -> None:
    write(folder / "theirs" / "experiment" / "evil.yaml", f"# @package _global_\n# evil\n{own}\n")
    outcome = run_cli("--config-dir", "theirs", "experiment=evil", *TINY)
    assert outcome.exit_code == 2
    assert "sets something below hydra" in outcome.err
    assert not (folder / "elsewhere").exists()


def test_a_folder_of_options_cannot_trust_plugins_for_the_user(
    folder: Path, run_cli: Callable[..., Outcome]
) -> None:
    write(folder / "theirs" / "experiment" / "evil.yaml", "# @package _global_\n# evil\nplugins: [code]\n")
    write(folder / "code.py", "")
    outcome = run_cli("--config-dir", "theirs", "experiment=evil", *TINY)
    assert outcome.exit_code == 2
    assert "names plugins" in outcome.err


@pytest.mark.parametrize("taken", ["mine", "."])
def test_a_folder_that_was_refused_keeps_its_files(
    folder: Path, run_cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    for name in ("config.yaml", "metrics.json"):
        write(folder / "mine" / name, "kept")
    if taken == ".":
        monkeypatch.chdir(folder / "mine")
    assert run_cli(f"run_dir={taken}", *TINY).exit_code == 2
    assert [path.read_text() for path in sorted((folder / "mine").iterdir())] == ["kept", "kept"]


def test_overrides_may_stand_on_both_sides_of_a_flag(folder: Path, run_cli: Callable[..., Outcome]) -> None:
    outcome = run_cli("training=smoke", "-m", *TINY, "run_dir=sweep", "seed=0,1")
    assert outcome.exit_code == 0, outcome.err
    assert len(list((folder / "sweep").glob("*/metrics.json"))) == 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["plugins=3"], "valid list"),
        (["plugins=[1]"], "valid string"),
        (["plugins=[shutil]"], "part of Python"),
        (["model=mlp", "model.normalization=off"], "wrong type"),
        (["model.filters=[32.0]"], "wrong type"),
        (["training.scale_targets=true"], "for regression"),
        (["dataset=diabetes", "model=mlp", "training.class_weight=balanced"], "for classes"),
        (["training.fine_tuning={from_layer: x, epochs: 1, learning_rate: 0.1}"], "pretrained backbone"),
        (["objective=test_accuracy"], "test split"),
        (["+callbacks.x.monitor=loss", "optimizer/learning_rate=cosine"], "no _target_"),
        (["+callbacks.x={_target_: keras.callbacks.BackupAndRestore, backup_dir: x}"], "write or send"),
        (["augmentation=mixup", "loss=cross_entropy"], "mixes labels"),
        (["augmentation=mixup", "training.class_weight=balanced"], "mixes labels"),
        (["dataset=diabetes", "model=mlp", "training.sampling=balanced"], "for one class an example"),
        (["training.sampling=balanced", "training.class_weight=balanced"], "use one of the two"),
        (["loss=focal", "loss.alpha=0.75", "dataset=digits"], "weighs class 1 of two"),
        (["optimizer/learning_rate=exponential_decay", "~optimizer.learning_rate.decay_rate"], "lacks decay"),
        (["--config-name", "x"], "experiment=…"),
    ],
)
def test_what_would_go_wrong_silently_is_refused(
    folder: Path, run_cli: Callable[..., Outcome], overrides: list[str], words: str
) -> None:
    outcome = run_cli(*overrides)
    assert outcome.exit_code == 2
    assert words in outcome.err
    assert "Traceback" not in outcome.err


def test_a_reader_that_leaves_does_not_end_the_training(folder: Path) -> None:
    code = "import sys; from cnnbench.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *TINY, "run_dir=run"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=120) == 0
    assert json.loads((folder / "run" / "metrics.json").read_text())["status"] == "done"


def test_a_refused_sweep_says_which_run_was_meant(folder: Path, run_cli: Callable[..., Outcome]) -> None:
    outcome = run_cli("-m", "dataset=digits,diabetes", "model=mlp", "loss=mae", "training=smoke")
    assert outcome.exit_code == 2
    assert "run 0 of the sweep (dataset=digits" in outcome.err
