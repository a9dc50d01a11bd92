"""A folder of options from elsewhere chooses models and values, and neither code nor anything of Hydra's."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnbench import sweeps
from cnnbench.config import composition, plugins
from cnnbench.config.groups import CONF_DIR, own_options
from cnnbench.errors import CnnbenchError
from cnnbench.sweeps import plan

Cli = Callable[..., Outcome]
HARMLESS = {"hydra": composition._settings_of_line(())["hydra"], "plugins": []}
GLOBAL = "# @package _global_\n"


@pytest.fixture(autouse=True)
def path_kept() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture
def theirs(folder: Path) -> Path:
    """A folder of options, with a module that leaves a marker where it is imported."""
    place = folder / "theirs"
    place.mkdir()
    (place / "evil.py").write_text(f"open({str(folder / 'marker')!r}, 'w').close()\n")
    return place


def write(place: Path, name: str, content: Any, package: str = "") -> None:
    path = place / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    path.write_text(f"{package}# Somebody's\n{text}")


# Files, by name; and lines that would have them name a plugin or set something of Hydra's.
EVIL = "theirs/evil.py"
FILES: dict[str, tuple[str, Any]] = {
    "recipe/more/a": (GLOBAL, {"plugins": [EVIL]}),
    "extra/job": (GLOBAL, {"plugins": [EVIL]}),
    "extra/good": ("", {"x": 1}),
    "extra/inside": (GLOBAL, {"defaults": ["/recipe/more/a"]}),
    "extra/list": ("", [EVIL]),
    "extra/named": ("", {"plugins": [EVIL]}),
    "extra/launch": (GLOBAL, {"defaults": [{"override /hydra/launcher": "joblib"}]}),
    "extra/callback": (GLOBAL, {"hydra": {"callbacks": {"x": {"_target_": "os.system"}}}}),
    "extra/hydra_itself": ("# @package hydra\n", {"callbacks": {"x": {"_target_": "os.system"}}}),
    "extra/verbose": ("# @package hydra.verbose\n", {"x": 1}),
    "extra/refers": (GLOBAL, {"mine": EVIL, "plugins": ["${mine}"]}),
    "extra/search": (GLOBAL, {"hydra": {"searchpath": ["file://elsewhere"]}}),
    "experiment/e": (GLOBAL, {"plugins": [EVIL]}),
    "model/m": (GLOBAL, {"plugins": [EVIL], "model": {"_target_": "evil.build"}}),
    "callbacks/c": (GLOBAL, {"plugins": [EVIL]}),
    "hydra/callbacks/cb": ("", {"x": {"_target_": "os.system"}}),
    "hydra/launcher/mine": ("", {"name": "submitit_local", "parameters": {"local_setup": ["touch marker"]}}),
    "sweep/vary": ("", {"defaults": ["none"], "grid": {"plugins": [[EVIL]]}}),
    "sweep/sign": ("", {"defaults": ["none"], "grid": {"+plugins": [[EVIL]]}}),
    "sweep/inject": ("", {"defaults": ["none"], "grid": {"plugins=[theirs/evil.py] #": [1]}}),
    "sweep/group": ("", {"defaults": ["none"], "grid": {"extra": ["job"], "+extra": ["job"]}}),
    "sweep/hydra": ("", {"defaults": ["none"], "grid": {"hydra.launcher.n_jobs": [2]}}),
    "sweep/presets": ("", {"defaults": ["none"], "grid": {"experiment": ["e"]}}),
    "sweep/look": (
        "",
        {"defaults": ["none"], "search": {"space": [{"key": "plugins", "choices": [[EVIL]]}]}},
    ),
    "config": ("", {"plugins": [EVIL]}),
}  # fmt: skip
LINES: list[tuple[str, ...]] = [
    ("+recipe=more/a",),
    ("+recipe/more=a",),
    ("+recipe/more=[a]",),
    ("+extra=job", "+extra@model.x=good"),
    ("+extra@model.x=good", "+extra=job"),
    ("+extra=[job,good]",),
    ("+extra@_global_=named",),
    ("+extra@plugins=list",),
    ("+extra=inside",),
    ("+extra=launch",),
    ("+extra=callback",),
    ("+extra=hydra_itself",),
    ("+extra@hydra=good",),
    ("+extra@hydra.callbacks=good",),
    ("+extra@hydra.job.env_set=good",),
    ("+extra=refers",),
    ("+extra=refers", "plugins=['${mine}']"),
    ("+extra=search",),
    ("experiment=e",),
    ("model=m",),
    ("callbacks=[default,c]",),
    ("+hydra/callbacks=cb",),
    ("hydra/launcher=mine",),
    ("sweep=vary",),
    ("sweep=sign",),
    ("sweep=inject",),
    ("sweep=group",),
    ("sweep=hydra",),
    ("sweep=presets",),
    ("sweep=look",),
    ("+extra=${mine}", "+mine=job"),
]


def make_all(theirs: Path) -> None:
    for name, (package, content) in FILES.items():
        write(theirs, name, content, package)


@pytest.mark.parametrize("sweep", ["", "-m"])
@pytest.mark.parametrize("line", LINES, ids=map(" ".join, LINES))
def test_no_spelling_sets_what_only_the_line_may_set(
    line: tuple[str, ...], sweep: str, theirs: Path, folder: Path, run_cli: Cli
) -> None:
    make_all(theirs)
    flags = ("-m", "seed=0,1") if sweep else ()
    outcome = run_cli(*line, "--config-dir", "theirs", *flags)
    assert outcome.exit_code == 2, outcome
    assert "Traceback" not in outcome.err + outcome.out
    assert not (folder / "marker").exists()
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize("verb", ["check", "explain plugins"])
@pytest.mark.parametrize("line", [LINES[0], LINES[3]], ids=" ".join)
def test_verbs_that_compose_are_as_careful(
    line: tuple[str, ...], verb: str, theirs: Path, folder: Path, run_cli: Cli
) -> None:
    make_all(theirs)
    outcome = run_cli(*verb.split(), *line, "--config-dir", "theirs")
    assert outcome.exit_code == 2, outcome
    assert not (folder / "marker").exists()


def test_a_config_of_theirs_does_not_take_the_place_of_ours(theirs: Path) -> None:
    write(theirs, "config", {"plugins": [EVIL], "hydra": {"verbose": True}})
    composed = composition.compose(["seed=3"], str(theirs))
    assert composition._guarded_settings(composed) == HARMLESS


def test_what_is_typed_is_done(theirs: Path, folder: Path) -> None:
    write(theirs, "model/m", {"_target_": "evil.build", "units": [3]})
    (theirs / "evil.py").write_text("def build(input_shape, outputs, units: list[int] = ()): ...\n")
    line = ["model=m", f"plugins=[{EVIL}]", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1"]
    planned = plan.plan(line, str(theirs))
    assert [job.config["plugins"] for job in planned.jobs] == [[str(theirs / "evil.py")]] * 2
    assert planned.launcher["n_jobs"] == 2


def test_a_folder_conf_here_is_found_and_named(
    folder: Path, run_cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder / "conf", "model/mine", {"_target_": "cnnbench.models.mlp.mlp", "units": [3]})
    write(folder / "conf", "model/cnn", {"_target_": "evil.build"})
    used = run_cli("--cfg", "job", "-p", "model.units", "model=mine")
    assert (used.exit_code, used.out.split()[-1]) == (0, "3")
    assert caplog.messages == [f"model=mine is {folder / 'conf' / 'model' / 'mine.yaml'}"]
    assert "mine" in run_cli("list", "model").out
    unused = run_cli("--cfg", "job", "-p", "model._target_")
    assert unused.out.split()[-1] == "cnnbench.models.cnn.cnn"
    (folder / "elsewhere").mkdir()
    shutil.move(folder / "conf", folder / "elsewhere" / "conf")
    named = run_cli("--cfg", "job", "model=mine", "--config-dir", "elsewhere/conf")
    assert named.exit_code == 0
    assert len(caplog.messages) == 1  # of what was named nothing is said
    (folder / "other").mkdir()
    assert run_cli("--cfg", "job", "model=mine", "--config-dir", "other").exit_code == 2


def test_a_folder_conf_here_brings_no_code(folder: Path, run_cli: Cli) -> None:
    write(folder / "conf", "experiment/e", {"plugins": ["evil.py"]}, GLOBAL)
    write(folder / "conf", "model/mine", {"_target_": "evil.build"})
    (folder / "evil.py").write_text(f"open({str(folder / 'marker')!r}, 'w').close()\n")
    for line in ("experiment=e", "model=mine"):
        outcome = run_cli(line)
        assert outcome.exit_code == 2, outcome
    assert not (folder / "marker").exists()
    assert not (folder / "outputs").exists()


def test_the_conf_of_a_checkout_and_any_other_are_not_meant(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "conf").mkdir()
    (folder / "conf" / "nginx.yaml").write_bytes(b"\xff")
    assert own_options() is None
    monkeypatch.chdir(CONF_DIR.parent)
    assert own_options() is None


# -- Any folder -------------------------------------------------------------------------------------

PLACES = [
    "plugins",
    "hydra",
    "hydra.callbacks",
    "hydra.launcher",
    "hydra.job.env_set",
    "model",
    "mine",
    "_global_",
]
NAMES = ["a", "more/b", "c"]
GROUPS = ["experiment", "extra", "model", "callbacks", "recipe/more", "hydra/launcher", "hydra/callbacks"]
contents = st.one_of(
    st.just({"plugins": [EVIL]}),
    st.just({"mine": EVIL, "plugins": ["${mine}"]}),
    st.just({"hydra": {"callbacks": {"x": {"_target_": "os.system"}}}}),
    st.just({"callbacks": {"x": {"_target_": "os.system"}}}),
    st.just({"launcher": {"name": "submitit_local"}}),
    st.just({"defaults": [{"override /hydra/launcher": "joblib"}]}),
    st.builds(
        lambda group, name: {"defaults": [f"/{group}/{name}"]},
        st.sampled_from(GROUPS),
        st.sampled_from(NAMES),
    ),
    st.builds(
        lambda group, place, name: {"defaults": [{f"/{group}@{place}": name}]},
        *map(st.sampled_from, (GROUPS, PLACES, NAMES)),
    ),
    st.just({"x": 1}),
)
files = st.dictionaries(
    st.builds(lambda group, name: f"{group}/{name}", st.sampled_from(GROUPS), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["", GLOBAL, *(f"# @package {place}\n" for place in PLACES)]), contents),
    min_size=1,
)
overrides = st.builds(
    lambda sign, group, place, name: f"{sign}{group}{place}={name}",
    st.sampled_from(["", "+", "++"]),
    st.sampled_from([*GROUPS, "recipe", "plugins"]),
    st.sampled_from(["", *(f"@{place}" for place in PLACES)]),
    st.sampled_from([*NAMES, "[a,c]", "${mine}", "a,c"]),
)


@settings(
    deadline=None,
    max_examples=40,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(files, st.lists(overrides, min_size=1, max_size=3))
def test_whatever_is_in_a_folder_every_job_has_what_the_line_says(
    content: dict[str, tuple[str, Any]], line: Sequence[str]
) -> None:
    place = Path(tempfile.mkdtemp())
    try:
        for name, (package, node) in content.items():
            write(place, name, node, package)
        try:
            planned = plan.plan([*line, "seed=0,1"], str(place))
        except CnnbenchError:
            return
        assert planned.launcher["name"] == "basic"
        assert all(job.config["plugins"] == [] for job in planned.jobs)
    finally:
        shutil.rmtree(place)


# -- Caches -----------------------------------------------------------------------------------------


def test_a_cache_is_used_where_this_user_has_named_it(folder: Path) -> None:
    config = {"dataset": {"cache_dir": "/somewhere", "parts": [{"cache_dir": "/there"}]}}
    nowhere = {"dataset": {"cache_dir": None, "parts": [{"cache_dir": None}]}}
    assert plugins.without_strange_cache(config) == nowhere
    with pytest.raises(CnnbenchError, match="would write to /somewhere"):
        plugins.require_own_cache(config, folder)
    plugins.remember(config)
    assert plugins.without_strange_cache(config) == config
    plugins.require_own_cache(config, folder)


def test_the_bases_of_a_strangers_search_bring_no_code(folder: Path) -> None:
    base = {"choices": {}, "overrides": [], "config": {"plugins": ["theirs/evil.py"]}}
    search = {"settings": {"trials": 1}, "bases": [base]}
    sweep = sweeps.Sweep(folder / "sweep", [], {"name": "basic"}, "x", [], search)
    (folder / "sweep").mkdir()
    sweep.write()
    with pytest.raises(CnnbenchError, match="would run code"):
        sweeps.resume_sweep(sweeps.Sweep.open(folder / "sweep"))
