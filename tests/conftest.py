"""Shared by all tests: a working folder without data or network, the command line in process, a tiny run."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from cnnbench.data import fetch
from cnnbench.system import gpus

# Tests compute on the processor, here and in the processes that they start: what they compare to the last bit
# is not exact on a GPU, and a process that has used one cannot go back. `run_on_gpu` is for those of a GPU.
# The workers of xdist start after this has been hidden, and ask whoever started them.
VISIBLE_GPUS = os.environ.setdefault("CNNBENCH_TEST_GPUS", ",".join(gpus()))
os.environ["CUDA_VISIBLE_DEVICES"] = ""

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
# What on the machine of the person who tests would change what is printed, or where data are found.
ENVIRONMENT = ("HYDRA_FULL_ERROR", "CNNBENCH_DATA", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE")
LOGGERS = ("cnnbench", "py.warnings", "absl", "tensorflow")


class Outcome(NamedTuple):
    exit_code: int
    out: str
    err: str


def without_remarks(err: str) -> str:
    """What was printed to standard error beside warnings: tiny runs have too few examples for comfort."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith("warning: "))


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Put back what `main()` changes for the rest of a process: it expects to own it."""
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
    """`cnnbench ARGUMENTS…` in this process.

    Returns:
        The exit code, also where Hydra or argparse leave by `SystemExit`.
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
    """Fail what hangs; only where a process has such a timer, and in its main thread."""
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Where `CNNBENCH_REQUIRED` names a mark, its tests must run: skipped is failed."""
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
    """An empty working folder, on a machine without data sets and without network."""
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
    """`run_cli("list", "model")` → `Outcome(exit_code, out, err)`, in process, in `folder`."""

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        exit_code = call_main(*arguments)
        return Outcome(exit_code, *capsys.readouterr())

    return run


@pytest.fixture
def run_process(folder: Path) -> Callable[..., Outcome]:
    """As `run_cli`, in a process of its own: what its children print is captured too."""

    def run(*arguments: str) -> Outcome:
        command = [sys.executable, "-P", "-m", "cnnbench", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def run_on_gpu(
    run_process: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """As `run_process`, with the GPUs of this machine; skipped where it has none."""
    if not VISIBLE_GPUS:
        pytest.skip("there is no GPU here")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE_GPUS)
    return run_process


@pytest.fixture
def run_python(folder: Path) -> Callable[..., Outcome]:
    """`run_python("code", "argument")` → `Outcome`, in a new process in `folder`: each import costs again."""

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


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished tiny run, made once. Copy it before changing anything in it."""
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
