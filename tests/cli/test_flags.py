"""What is kept of Hydra's command line, and what of it is refused with the key or flag to use instead."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import Outcome

import cnnbench
from cnnbench.config import composition
from cnnbench.config.groups import options
from cnnbench.sweeps import plan

Cli = Callable[..., Outcome]
PACKAGE = Path(cnnbench.__file__).parent


def config_of(outcome: Outcome) -> dict[str, object]:
    assert (outcome.exit_code, outcome.err) == (0, "")
    found: dict[str, object] = yaml.safe_load(outcome.out)
    return found


def jobs_of(*line: str, config_dir: str | None = None) -> list[list[str]]:
    return [job.overrides for job in plan.plan(line, config_dir).jobs]


def test_hydra_composes_and_does_nothing_else() -> None:
    """Neither its entry point nor what is private to it, which changes without notice."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                named = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            private = [name for name in named if name.startswith(("hydra._internal", "hydra.core.plugins"))]
            assert not private, path
            assert not {"hydra.main", "hydra.core.plugins.Plugins"} & set(named), path
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "hydra.main"), path


@pytest.mark.parametrize("flag", ["--cfg", "-c"])
def test_cfg_shows_the_config_of_the_run_of_hydra_or_both(flag: str, run_cli: Cli, folder: Path) -> None:
    job = config_of(run_cli("seed=3", flag, "job", "model=mlp"))
    hydra = config_of(run_cli(flag, "hydra"))
    both = config_of(run_cli(flag, "all", "seed=3", "model=mlp"))
    assert (job["seed"], "hydra" in job) == (3, False)
    assert set(hydra) == {"hydra"}
    assert set(both) == {*job, "hydra"}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("flag", ["--package", "-p"])
def test_package_shows_a_part(flag: str, run_cli: Cli) -> None:
    outcome = run_cli("--cfg", "job", flag, "training", "training=smoke")
    assert outcome.out.startswith("# @package training\n")
    assert config_of(outcome)["epochs"] == 1
    assert run_cli("--cfg", "job", flag, "seed", "seed=7").out == "# @package seed\n7\n" or run_cli(
        "--cfg", "job", flag, "seed", "seed=7"
    ).out.endswith("7\n")
    outcome = run_cli("--cfg", "job", flag, "modle")
    assert outcome.exit_code == 2
    assert "did you mean model?" in outcome.err


def test_resolve_replaces_what_refers_to_other_values(run_cli: Cli) -> None:
    line = ("dataset=mnist", "data_dir=here", "--cfg", "job")
    assert config_of(run_cli(*line))["dataset"]["data_dir"] == "${data_dir}"  # type: ignore[index]
    assert config_of(run_cli("--resolve", *line))["dataset"]["data_dir"] == "here"  # type: ignore[index]
    assert run_cli("--cfg", "job", "--resolve", "name=${nowhere}").exit_code == 2


@pytest.mark.parametrize("flag", ["--config-dir", "-cd"])
def test_a_folder_of_options_is_added(flag: str, run_cli: Cli, folder: Path) -> None:
    (folder / "mine" / "training").mkdir(parents=True)
    (folder / "mine" / "training" / "short.yaml").write_text("# Short\ndefaults: [default]\nepochs: 2\n")
    shown = config_of(run_cli("training=short", flag, "mine", "--cfg", "job"))
    assert shown["training"]["epochs"] == 2  # type: ignore[index]
    assert "short" in run_cli(flag, "mine", "--help").out
    outcome = run_cli(flag, "nowhere", "--cfg", "job")
    assert (outcome.exit_code, "nowhere is no folder" in outcome.err) == (2, True)


def test_a_value_of_hydra_is_known_by_name() -> None:
    composed = composition.compose(["name=${hydra:runtime.choices.model}_${seed}"])
    assert composition.plain_config(composed)["name"] == "cnn_0"


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("hydra.run.dir=x", "run_dir="),
        ("++hydra.run.dir=x", "run_dir="),
        ("hydra.output_subdir=x", "run_dir="),
        ("hydra.job.chdir=true", "run_dir="),
        ("hydra.job.name=x", "name="),
        ("hydra.sweep.dir=x", "run_dir="),
        ("hydra.sweeper.max_batch_size=2", "sweep="),
        ("hydra/sweeper=basic", "sweep="),
        ("+hydra.callbacks.x={_target_: os.system}", "callbacks="),
        ("~hydra.callbacks", "callbacks="),
        ("+hydra/callbacks=x", "callbacks="),
        ("hydra/job_logging=default", "cnnbench.log"),
        ("hydra.job_logging.root=null", "cnnbench.log"),
        ("hydra.verbose=true", "cnnbench.log"),
        ("hydra.searchpath=[file://x]", "--config-dir"),
        ("hydra.mode=MULTIRUN", "-m"),
        ("hydra.nothing=1", "hydra/launcher="),
        ("--config-path x", "--config-dir"),
        ("--config-name x", "experiment="),
        ("-cn x", "experiment="),
        ("--run", "without -m"),
        ("--shell-completion", "cnnbench list"),
        ("--info", "--cfg"),
        ("--info defaults", "--cfg"),
        ("--cfg job -m seed=0,1", "leave out -m"),
        ("--nothing", "--help"),
        ("--cfg nothing", "--help"),
    ],
)
@pytest.mark.parametrize("sweep", ["", " -m"])
def test_what_only_hydras_own_program_honours_is_refused(
    typed: str, instead: str, sweep: str, run_cli: Cli, folder: Path
) -> None:
    outcome = run_cli(*f"{typed}{sweep}".split(" ") if "{" not in typed else [typed])
    error, hint = outcome.err.splitlines()
    assert outcome.exit_code == 2
    assert error.startswith("error: ")
    assert instead in hint
    assert list(folder.iterdir()) == []


def test_the_grammar_of_overrides_is_hydras() -> None:
    assert [job[0] for job in jobs_of("model=glob([*resnet,m*])")] == [
        f"model={option}"
        for option in sorted(options()["model"])
        if option.endswith("resnet") or option.startswith("m")
    ]
    assert jobs_of("experiment=glob(best/california*)") == [["experiment=best/california_housing"]]
    assert jobs_of("seed=range(0,6,2)") == [["seed=0"], ["seed=2"], ["seed=4"]]
    assert jobs_of("seed=choice(3,1)") == jobs_of("seed=3,1") == [["seed=3"], ["seed=1"]]
    assert jobs_of("seed=tag(mine,choice(3,1))") == [["seed=3"], ["seed=1"]]
    assert jobs_of("seed=sort(3,1)") == [["seed=1"], ["seed=3"]]
    assert jobs_of("~callbacks.early_stopping", "seed=0,1") == [
        ["~callbacks.early_stopping", "seed=0"],
        ["~callbacks.early_stopping", "seed=1"],
    ]
    for job in plan.plan(["~callbacks.early_stopping", "seed=0,1"], None).jobs:
        assert set(job.config["callbacks"]) == {"checkpoint"}


def test_one_option_may_be_put_at_two_keys(folder: Path) -> None:
    (folder / "mine" / "extra").mkdir(parents=True)
    (folder / "mine" / "extra" / "half.yaml").write_text("# Half\ndropout: 0.5\n")
    (folder / "mine" / "extra" / "rows.yaml").write_text("# Rows\nexamples: 500\n")
    line = ("model=mlp", "+extra@model=half", "+extra@training=rows", "seed=0,1")
    found = plan.plan(line, str(folder / "mine")).jobs
    assert [(job.config["model"]["dropout"], job.config["training"]["examples"]) for job in found] == [
        (0.5, 500),
        (0.5, 500),
    ]


def test_a_glob_that_fits_nothing_is_named(run_cli: Cli) -> None:
    outcome = run_cli("-m", "model=glob(x*)")
    assert outcome.exit_code == 2
    assert "model=glob(x*) fits no option" in outcome.err
    assert "mlp" in outcome.err


def test_a_launcher_and_its_settings_are_chosen_by_the_line() -> None:
    line = ["hydra/launcher=joblib", "seed=0,1", "hydra.launcher.n_jobs=3"]
    assert plan.plan(line, None).launcher["n_jobs"] == 3


def test_the_other_flags_are_told(run_cli: Cli) -> None:
    outcome = run_cli("--hydra-help")
    assert (outcome.exit_code, outcome.err) == (0, "")
    for flag in ("--multirun", "--cfg", "--package", "--resolve", "--config-dir", "hydra/launcher"):
        assert flag in outcome.out
    assert run_cli("--version").out.splitlines()[0] == f"cnnbench {cnnbench.__version__}"
