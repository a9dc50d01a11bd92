"""The fixtures of all tests: a working folder without data or network, the command line, a tiny run."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from cnnbench.data import fetch
from cnnbench.system import gpus

# Tests, and the processes that they start, compute on the processor: results on a GPU are not equal to the
# last bit, and a process that has used one cannot go back. Tests of a GPU ask for `run_on_gpu`. Workers of
# xdist start when the GPUs are hidden already, so they read the variable.
VISIBLE_GPUS = os.environ.setdefault("CNNBENCH_TEST_GPUS", ",".join(gpus()))
os.environ["CUDA_VISIBLE_DEVICES"] = ""

# Nor does a test train a pretrained backbone because its package is installed here: those that want one ask.
os.environ["CNNBENCH_BACKBONES"] = "none"

# Three classes of 8×8 images and one epoch: a whole run in about a second.
TINY = (
    "dataset=synthetic",
    "dataset.classes=3",
    "dataset.size=8",
    "dataset.examples=120",
    "training=smoke",
    "model.filters=[4]",
    "model.dense_units=[8]",
    "device=cpu",
)
# Variables of the tester's own that would change what is printed, or where data are found.
ENVIRONMENT = ("HYDRA_FULL_ERROR", "CNNBENCH_DATA", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE")
LOGGERS = ("cnnbench", "py.warnings", "absl", "tensorflow")


def own_model(folder: Path, name: str, source: str, keywords: str = "") -> tuple[str, ...]:
    """Write a model of one's own, as a plugin with an option; return the line that runs it on tiny data.

    Args:
        folder: the working folder.
        name: of the module, its function and the option.
        source: of the module.
        keywords: lines of the YAML.
    """
    (folder / f"{name}.py").write_text(source)
    (folder / "mine" / "model").mkdir(parents=True, exist_ok=True)
    (folder / "mine" / "model" / f"{name}.yaml").write_text(f"_target_: {name}.{name}\n{keywords}")
    data = [text for text in TINY if not text.startswith("model.")]
    return ("--config-dir", "mine", f"plugins=[{name}]", f"model={name}", *data)


class Outcome(NamedTuple):
    exit_code: int
    out: str
    err: str


def without_remarks(err: str) -> str:
    """Return standard error without warnings: tiny runs cause some."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith("warning: "))


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Put back what `main()` changes in its process, which it expects to own."""
    environment, argv, meta_path = dict(os.environ), sys.argv, list(sys.path)
    handlers = {name: list(logging.getLogger(name).handlers) for name in LOGGERS}
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, meta_path
        os.environ.clear()
        os.environ.update(environment)
        logging.captureWarnings(False)
        for name, kept in handlers.items():
            logging.getLogger(name).handlers[:] = kept
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None


def call_main(*arguments: str) -> int:
    """Run `cnnbench ARGUMENTS…` in this process.

    Returns:
        the exit code, also where Hydra or argparse leave by `SystemExit`.
    """
    from cnnbench.cli.main import main

    with process_state_kept():
        sys.argv = ["cnnbench", *arguments]
        try:
            return main()
        except SystemExit as exit_:
            return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Fail after so many seconds; only in the main thread, and where the system has such a timer."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield  # Windows
        return

    def expire(number: int, frame: Any) -> None:
        raise AssertionError(f"still at work after {seconds} s")

    former = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


# A shell lets what it starts in the background ignore Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="one case of each test, without what takes seconds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--quick`, keep the first case of each test; no browser, cluster or search for counterexamples."""
    if not config.getoption("--quick"):
        return
    kept: dict[str, pytest.Item] = {}
    for item in items:
        if not any(item.get_closest_marker(name) for name in ("browser", "hypothesis", "ray")):
            kept.setdefault(item.nodeid.partition("[")[0], item)
    chosen = set(kept.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept.values()


@pytest.fixture(scope="session", autouse=True)
def slow_work_skipped(request: pytest.FixtureRequest) -> Iterator[None]:
    """With `--quick`, skip a test where it begins what takes seconds: no list of slow tests is kept."""
    if not request.config.getoption("--quick"):
        yield
        return
    import keras

    from cnnbench.models import pretrained
    from cnnbench.training import run

    def skip(*_: Any, **__: Any) -> NoReturn:
        pytest.skip("trains, builds a large model or starts a process: make test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "run", skip)
        patch.setattr(pretrained, "build", skip)
        for name in ("fit", "evaluate", "predict"):
            patch.setattr(keras.Model, name, skip)
        patch.setattr(subprocess, "Popen", skip)
        yield


FOLDERS: list[str] = []  # where modules are looked for, when the first test begins


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Forget the folders of plugins that earlier tests have added: their modules have the same names."""
    sys.path[:] = FOLDERS


def pytest_collection_finish() -> None:
    """Leave what has been imported out of the search for garbage, which took a third of the tests' time."""
    FOLDERS[:] = sys.path
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Fail skipped tests of the marks that `CNNBENCH_REQUIRED` names."""
    report = yield
    required = [
        name for name in os.environ.get("CNNBENCH_REQUIRED", "").split() if item.get_closest_marker(name)
    ]
    if report.skipped and required:
        report.outcome = "failed"
        report.longrepr = f"skipped, but {required[0]} is required here: {report.longrepr}"
    return report


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder, as on a machine without data sets and network."""
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")  # tables of rich are not cut
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(fetch, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(fetch, "can_connect", lambda host: False)
    return path


@pytest.fixture
def run_cli(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return the command line in this process: `run_cli("list", "model")` gives an `Outcome`."""

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        exit_code = call_main(*arguments)
        return Outcome(exit_code, *capsys.readouterr())

    return run


@pytest.fixture
def run_process(folder: Path) -> Callable[..., Outcome]:
    """Return `run_cli` in a process of its own, which also captures what its children print."""

    def run(*arguments: str) -> Outcome:
        command = [sys.executable, "-P", "-m", "cnnbench", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def run_on_gpu(
    run_process: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Return `run_process` with the GPUs of this machine; skip the test where it has none."""
    if not VISIBLE_GPUS:
        pytest.skip("there is no GPU here")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE_GPUS)
    return run_process


@pytest.fixture
def run_python(folder: Path) -> Callable[..., Outcome]:
    """Return a new Python in `folder`: `run_python("code", "argument")` gives an `Outcome`."""

    def run(code: str, *arguments: str, **environment: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(autouse=True)
def pictures_left_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out pictures and page of runs in this process, a third of a tiny one's time.

    A test that asks for `pictures` has them, and so has every run in a process of its own.
    """
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("cnnbench.training.run.figures_of_run", lambda *_: iter(()))
        monkeypatch.setattr("cnnbench.training.run.run_page", lambda *_: "left out")
        monkeypatch.setattr("cnnbench.reporting.page.progress.LivePage._write", lambda *_: None)


@pytest.fixture
def pictures() -> None:
    """Let runs in this process draw their pictures and write their pages."""


@pytest.fixture
def verified_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `verify` measure in this process: the start of its own takes longer than all the rest."""
    import keras

    from cnnbench.inference import verification

    def answer(command: list[str], input: str, **_: Any) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(input))
            verification.answer_task()
        keras.config.set_dtype_policy("float32")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(verification, "subprocess", SimpleNamespace(run=answer))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished tiny run, made once; copy it before you change anything in it."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    environment = {name: os.environ.pop(name) for name in ENVIRONMENT if name in os.environ}
    try:
        assert call_main(*TINY, f"run_dir={run_dir}") == 0
    finally:
        os.environ.update(environment)
    return run_dir


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the image files that were decoded, in no particular order."""
    from cnnbench.data.images import decoding

    names: list[str] = []
    real = decoding.decode

    def decode(path: Path, recipe: decoding.Recipe) -> Any:
        names.append(path.name)
        return real(path, recipe)

    monkeypatch.setattr(decoding, "decode", decode)
    return names
