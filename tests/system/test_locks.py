"""One process at a time, on file systems with and without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Outcome, time_limit

from cnnbench.system import locks

Cli = Callable[..., Outcome]
WITHOUT = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]
HOLDER = """
import sys
from pathlib import Path
if sys.argv[2:] == ["-1"]:
    from cnnbench.system import locks
    locks.fcntl = None
elif len(sys.argv) > 2:
    import errno, fcntl
    def flock(file, how): raise OSError(int(sys.argv[2]), "no locks available")
    fcntl.flock = flock
from cnnbench.system import locks
with locks.hold(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=[0, -1, *WITHOUT], ids=["flock", "Windows", "ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def number(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of the error that `flock` gives; 0 where it works, -1 where there is no such module."""
    monkeypatch.setattr(locks, "_warned", set())
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)

    def flock(file: Any, how: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    if request.param < 0:
        monkeypatch.setattr(locks, "fcntl", None)
    elif request.param:
        monkeypatch.setattr(fcntl, "flock", flock)
    return int(request.param)


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path, number: int) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with locks.locked(tmp_path / "a.lock"):
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.03)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == [1, 1, 1, 1]


def test_whoever_waits_for_a_lock_is_told_so(
    tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cnnbench")

    def wait() -> None:
        with locks.locked(tmp_path / "a.lock"):
            pass

    def told() -> list[Any]:
        return [record for record in caplog.records if "waiting" in record.getMessage()]

    with locks.locked(tmp_path / "a.lock"):
        assert not told()
        waiting = threading.Thread(target=wait)
        waiting.start()
        with time_limit(20):
            while not told():
                pass
    waiting.join(20)
    (record,) = told()
    assert str(tmp_path / "a.lock") in record.getMessage()
    assert record.notice  # shown on the terminal too


def test_a_file_is_held_as_long_as_its_holder_lives(tmp_path: Path, number: int) -> None:
    path = tmp_path / "cnnbench.log"
    path.write_text("what was said\n")
    assert not locks.is_held(path)
    command = [sys.executable, "-c", HOLDER, str(path), *([str(number)] if number else [])]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "True\n"
    assert locks.is_held(path)
    assert locks.is_held(path)  # asking changes nothing
    with locks.hold(path) as mine:
        assert not mine
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    assert not locks.is_held(path)
    with locks.hold(path) as mine:
        assert mine
        assert locks.is_held(path)
    assert not locks.is_held(path)
    assert path.read_text() == "what was said\n"


def test_what_is_missing_is_said_once(tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        with locks.locked(tmp_path / name), locks.hold(tmp_path / f"{name}.log"):
            locks.is_held(tmp_path / f"{name}.log")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (1 if number > 0 else 0)
    assert all("has no locks" in text for text in warnings)


def test_another_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: Any, how: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / "a").touch()
    for use in (locks.locked, locks.hold):
        with pytest.raises(OSError, match="broken"), use(tmp_path / "a"):
            pass
    with pytest.raises(OSError, match="broken"):
        locks.is_held(tmp_path / "a")


@pytest.mark.parametrize("number", [errno.ENOLCK], indirect=True)
def test_runs_and_comparisons_work_without_locks(run_cli: Cli, number: int, folder: Path) -> None:
    for seed in (0, 1):
        outcome = run_cli(*TINY, f"seed={seed}", f"run_dir=runs/{seed}")
        assert outcome.exit_code == 0, outcome.err
    outcome = run_cli("compare", "runs")
    assert outcome.exit_code == 0, outcome.err
    assert not list((folder / "runs").rglob("*.holder"))
