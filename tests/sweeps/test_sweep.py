"""A sweep as a Python program makes it: what it returns, what it tells, what stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import TINY, Outcome, own_model, time_limit

from cnnbench import sweeps
from cnnbench.errors import CnnbenchError
from cnnbench.runs.folder import RunFolder
from cnnbench.sweeps.run import supervise
from cnnbench.sweeps.store import Job, Sweep

Cli = Callable[..., Outcome]
# A model that waits until the test has seen it.
SLOW = """
import time
from pathlib import Path

def slow(input_shape, outputs):
    Path("waiting").touch()
    time.sleep(600)
"""


class Ended(sweeps.SweepObserver):
    """Keeps the numbers of the runs that have ended."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def run_ended(self, sweep: Sweep, number: int) -> None:
        self.numbers.append(number)


def test_a_sweep_returns_what_became_of_it_and_prints_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = [text for text in TINY if not text.startswith("model.filters")]
    observer = Ended()
    sweep = sweeps.start_sweep([*data, "model.filters=[4],[4,4,4,4,4,4]", "run_dir=sweep"], observer=observer)
    assert sweep.path == folder / "sweep"
    assert sweep.statuses == ["done", "failed"]
    assert [run.metrics["status"] for run in sweep.run_folders] == sweep.statuses
    assert (sweep.exit_code, sweep.stopped_by, sweep.total) == (1, None, 2)
    assert observer.numbers == [0, 1]
    assert capfd.readouterr().out == ""


def stored(folder: Path, count: int) -> Sweep:
    jobs = [Job.of(number, [f"seed={number}"], {"name": "x", "seed": number}) for number in range(count)]
    sweep = Sweep(folder, [], {"name": "basic"}, "code", jobs)
    sweep.write()
    return sweep


class FakeLauncher:
    """Makes runs in no time; the signals of some numbers reach this process while they are made."""

    width = 1

    def __init__(self, sweep: Sweep, signals: dict[int, int]) -> None:
        self.sweep, self.signals = sweep, signals
        self.stopped: list[int] = []

    def submit(self, number: int) -> Future[str | None]:
        if number in self.signals:
            os.kill(os.getpid(), self.signals[number])
        self.sweep.run_folder(number).path.mkdir()
        self.sweep.run_folder(number).write_metrics({"status": "done"})
        done: Future[str | None] = Future()
        done.set_result(None)
        return done

    def stop(self, signal_number: int) -> None:
        self.stopped.append(signal_number)

    def close(self) -> None: ...


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_and_no_other_run_begins(number: int, folder: Path) -> None:
    sweep = stored(folder, 3)
    launcher = FakeLauncher(sweep, {1: number})
    before = signal.getsignal(number)
    assert supervise(sweep, launcher, iter(range(3)), lambda *_: None) == number
    assert launcher.stopped == [number]
    assert sweep.statuses == ["done", "done", "waiting"]
    assert signal.getsignal(number) == before


def test_a_sweep_runs_in_a_thread_which_gets_no_signals(folder: Path) -> None:
    sweep = stored(folder, 2)
    found: list[int | None] = []

    def make() -> None:
        found.append(supervise(sweep, FakeLauncher(sweep, {}), iter(sweep.left()), lambda *_: None))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert found == [None]
    assert sweep.statuses == ["done", "done"]


def test_the_exit_code_follows_from_the_statuses_and_the_signal(folder: Path) -> None:
    sweep = stored(folder, 2)
    codes = []
    for status in ("failed", "pruned"):
        for number in range(2):
            RunFolder(sweep.run_folder(number).path).path.mkdir(exist_ok=True)
            sweep.run_folder(number).write_metrics({"status": status if number else "done"})
        codes.append(sweep.exit_code)
    assert codes == [1, 0]
    assert Sweep(sweep.path, [], {}, "", sweep.jobs, stopped_by=signal.SIGINT).exit_code == 130


JOB = {"number": 0, "folder": "000", "overrides": [], "config": {}}
WHOLE = {"overrides": [], "launcher": {"name": "basic"}, "code": "x", "jobs": [JOB]}


@pytest.mark.parametrize(
    "damage",
    [
        {"jobs": 5},
        {"jobs": [5]},
        {"jobs": [{**JOB, "folder": None}]},
        {"jobs": [{**JOB, "config": []}]},
        {"overrides": "seed=0"},
        {"launcher": []},
        {"search": 1},
        {"launcher": {}},
        {"search": {"settings": {}, "bases": []}},
    ],
    ids=str,
)
def test_a_damaged_sweep_is_one_line(damage: dict[str, object], folder: Path, run_cli: Cli) -> None:
    (folder / "sweep.json").write_text(json.dumps({**WHOLE, **damage}))
    outcome = run_cli("resume", ".")
    assert outcome.exit_code == 2, outcome.err
    assert outcome.err.startswith("error: ")


@pytest.fixture
def slow(folder: Path) -> tuple[str, ...]:
    return own_model(folder, "slow", SLOW)


def test_a_check_that_is_stopped_leaves_nothing_behind(
    slow: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-P", "-m", "cnnbench", "check", *slow]
    given = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with time_limit(60):
        while not (folder / "waiting").exists() and process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert children
    assert not any(child.is_running() for child in children)
    assert list(scratch.glob("cnnbench-check-*")) == []


def test_a_sweep_that_no_folder_can_hold_is_one_line(folder: Path, run_cli: Cli) -> None:
    (folder / "taken").write_text("")
    outcome = run_cli("-m", *TINY, "seed=0,1", "run_dir=taken")
    assert outcome.exit_code == 2
    assert "taken" in outcome.err


def test_a_resumed_sweep_of_another_place_is_refused(folder: Path) -> None:
    with pytest.raises(CnnbenchError, match="holds no sweep"):
        sweeps.start_sweep([*TINY, "seed=0,1", "sweep.resume=nowhere"])
