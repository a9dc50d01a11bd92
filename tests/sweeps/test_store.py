"""Sweeps that survive what their runs do: stored jobs, killed processes, going on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import TINY, Outcome, own_model, without_remarks

from cnnbench.config import code
from cnnbench.errors import CnnbenchError
from cnnbench.runs.folder import RunFolder
from cnnbench.sweeps.launchers import local
from cnnbench.sweeps.run import Code
from cnnbench.sweeps.store import Job, Sweep

Cli = Callable[..., Outcome]
# A model that may take its whole process along, as the kernel does when memory is short.
DEADLY = """
import os, signal
from pathlib import Path
from cnnbench.models.mlp import mlp

def deadly(input_shape, outputs, dies: bool = False):
    if dies and not Path("mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return mlp(input_shape, outputs, units=[4])
"""


# A model whose runs delete the cache while others wait, but for the code that they are made of.
DELETING = """
import os, shutil
from pathlib import Path
from cnnbench.models.mlp import mlp

def deleting(input_shape, outputs):
    if not Path("deleted").exists():
        Path("deleted").touch()
        shutil.rmtree(os.environ["CNNBENCH_CACHE"], ignore_errors=True)
    return mlp(input_shape, outputs, units=[4])
"""


def statuses(folder: Path) -> list[str]:
    return [RunFolder(path.parent).status for path in sorted(folder.glob("*/metrics.json"))]


@pytest.fixture
def deadly(folder: Path) -> tuple[str, ...]:
    return ("-m", *own_model(folder, "deadly", DEADLY, "dies: false\n"), "run_dir=sweep")


def test_a_killed_process_ends_one_run_and_resume_completes_the_sweep(
    deadly: tuple[str, ...], run_process: Cli, folder: Path
) -> None:
    outcome = run_process(*deadly, "model.dies=true,false")
    assert outcome.exit_code == 1
    assert "killed by SIGKILL, which is what a machine out of memory does" in outcome.err
    sweep = Sweep.open(folder / "sweep")
    assert [sweep.status(number) for number in range(2)] == ["failed", "done"]
    finished = RunFolder(folder / "sweep" / sweep.jobs[1].folder).metrics["finished"]

    (folder / "mended").touch()
    (folder / "deadly.py").write_text("broken(")  # neither code nor YAML of the waiting runs changes
    (folder / "mine" / "model" / "deadly.yaml").write_text("_target_: nothing.at.all\n")
    outcome = run_process("resume", "sweep")
    assert (outcome.exit_code, without_remarks(outcome.err)) == (0, "")
    assert "1 of 2 runs are done" in outcome.out
    assert sweep.left() == []
    assert RunFolder(folder / "sweep" / sweep.jobs[1].folder).metrics["finished"] == finished


def test_a_changed_grid_is_refused_and_the_same_line_goes_on(run_cli: Cli, folder: Path) -> None:
    assert run_cli("-m", *TINY, "seed=0,1", "run_dir=sweep").exit_code == 0
    for line in ("seed=0,1,2", "seed=0,2"):
        outcome = run_cli("-m", *TINY, line, "run_dir=sweep", "sweep.resume=sweep")
        assert outcome.exit_code == 2
        assert "sweep in sweep" in outcome.err
    outcome = run_cli("-m", *TINY, "seed=0,1", "run_dir=sweep", "sweep.resume=sweep")
    assert outcome.exit_code == 0
    assert "2 of 2 runs are done" in outcome.out

    second = next(folder.glob("sweep/001_*"))
    shutil.rmtree(second)
    second.mkdir()  # as a kill leaves it that comes before the config is written
    (second / "cnnbench.log").touch()
    (second / ".config.123.tmp.yaml").write_text("name:")
    assert run_cli("resume", "sweep").exit_code == 0
    assert statuses(folder / "sweep") == ["done", "done"]


def test_a_terminated_sweep_saves_and_says_how_to_go_on(folder: Path) -> None:
    slow = [text for text in TINY if text not in ("training=smoke", "dataset.examples=120")]
    line = (
        *slow,
        "training.epochs=500",
        "callbacks.early_stopping=null",
        "dataset.examples=2000",
        "seed=0,1",
    )
    command = [sys.executable, "-P", "-m", "cnnbench", "-m", *line, "seed=0,1", "run_dir=sweep"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(folder.glob("sweep/*/history.csv")):
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 143, out + err
    assert "to go on: cnnbench resume sweep" in err
    assert "Traceback" not in err
    assert statuses(folder / "sweep") == ["interrupted"]


def test_memory_is_given_back_by_a_new_process_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[int]] = []

    class FakeWorker:
        def __init__(self, *arguments: object, **keywords: object) -> None:
            made.append([])
            self.runs, self.is_alive, self.code = 0, True, None

        def run(self, number: int) -> None:
            self.runs += 1
            made[-1].append(number)

        def close(self) -> None: ...

    monkeypatch.setattr(local, "Worker", FakeWorker)
    launcher = local.LocalLauncher(Path(), lambda: None, 1, runs_per_process=2)
    for number in range(5):
        launcher.submit(number).result()
    assert made == [[0, 1], [2, 3], [4]]


def test_every_job_is_stored_before_the_first_starts(folder: Path) -> None:
    jobs = [Job.of(number, [f"seed={number}"], {"name": "x", "seed": number}) for number in range(3)]
    sweep = Sweep(folder, ["seed=0,1,2"], {"name": "basic"}, "code", jobs)
    sweep.write()
    assert Sweep.open(folder) == sweep
    assert sweep.left() == [0, 1, 2]
    assert [sweep.status(number) for number in range(3)] == ["waiting"] * 3
    assert sweep.varied(1) == "seed=1"


@pytest.mark.parametrize("folder_name", ["../elsewhere", "..", "a/b"])
def test_a_job_outside_of_its_sweep_is_refused(folder_name: str, folder: Path) -> None:
    content = {
        "overrides": [],
        "launcher": {},
        "code": "",
        "jobs": [{"number": 0, "folder": folder_name, "overrides": [], "config": {}}],
    }
    (folder / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(CnnbenchError, match="outside the sweep"):
        Sweep.open(folder)


# -- the copy of the code --------------------------------------------------------------------------


def test_a_copy_of_the_code_is_made_once(folder: Path, tmp_path: Path) -> None:
    plugin = folder / "mine.py"
    plugin.write_text("x = 1\n")
    copy = code.store([str(plugin)], tmp_path)
    assert (copy / "mine.py").read_text() == "x = 1\n"
    assert (copy / "cnnbench" / "conf" / "config.yaml").is_file()
    assert {"page.html.j2", "page.css", "page.js"} <= {
        p.name for p in (copy / "cnnbench" / "reporting" / "page" / "templates").iterdir()
    }
    assert code.store([str(plugin)], tmp_path) == copy
    plugin.write_text("x = 2\n")
    assert code.fingerprint([str(plugin)]) != copy.name
    assert [path.name for path in (tmp_path / "code").iterdir()] == [copy.name]


def cut_short(copy: Path) -> None:
    (copy / "cnnbench" / "cli" / "main.py").write_text("from __future")


def lose_one(copy: Path) -> None:
    (copy / "cnnbench" / "conf" / "config.yaml").unlink()


def lose_a_folder(copy: Path) -> None:
    shutil.rmtree(copy / "cnnbench" / "reporting")


def add_one(copy: Path) -> None:
    (copy / "json.py").write_text("raise ImportError\n")


@pytest.mark.parametrize("damage", [cut_short, lose_one, lose_a_folder, add_one])
def test_a_damaged_copy_of_the_code_is_made_anew(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = code.store([], tmp_path)
    (copy / "cnnbench" / "__pycache__").mkdir()
    (copy / "cnnbench" / "__pycache__" / "errors.pyc").touch()  # as Python leaves it
    assert code.stored(copy.name, tmp_path) == copy
    damage(copy)
    assert code.stored(copy.name, tmp_path) is None
    assert code.store([], tmp_path) == copy
    assert code.is_whole(copy)
    (record,) = caplog.records
    assert "is made anew" in record.getMessage()


def test_the_copy_that_a_run_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    plugins = [str(plugin)]
    found = Code(code.Copy(code.fingerprint(plugins), plugins))
    copy = found.path()
    assert copy is not None
    shutil.rmtree(tmp_path / "cache")
    assert found.path() == copy  # made anew, for the code is the same
    assert code.is_whole(copy)
    plugin.write_text("x = 2\n")
    assert found.path() == copy  # which is as it was
    assert not [record for record in caplog.records if "has changed" in record.getMessage()]
    shutil.rmtree(tmp_path / "cache")
    assert found.path() is None
    assert found.path() is None
    assert caplog.text.count("the code has changed since the sweep began") == 1


@pytest.mark.parametrize("cache", ["unwritable", "deleted by a run"])
def test_a_sweep_goes_on_without_its_cache(
    cache: str, run_process: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "home" / "cache"
    monkeypatch.setenv("CNNBENCH_CACHE", str(place))
    if cache == "unwritable":
        (tmp_path / "home").touch()
    own = own_model(folder, "deleting", DELETING)
    outcome = run_process("-m", *own, "seed=0,1", "run_dir=sweep")
    sweep = Sweep.open(folder / "sweep")
    assert sweep.status(1) == "done", outcome.err
    if cache == "deleted by a run":  # under way, it may have missed a file that it had not read yet
        assert run_process("resume", "sweep").exit_code == 0
    else:
        assert outcome.exit_code == 0
    assert sweep.left() == []
    assert outcome.err.count("going on without a cache") == (cache == "unwritable")
    assert place.is_dir() == (cache != "unwritable")
