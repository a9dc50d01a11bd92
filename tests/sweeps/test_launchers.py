"""Where the runs of a sweep are made: several at once, as jobs, on a cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from conftest import TINY, Outcome, own_model

from cnnbench.sweeps import plan
from cnnbench.sweeps.launchers import local
from cnnbench.sweeps.store import Sweep
from cnnbench.system import hardware

Cli = Callable[..., Outcome]
# A model that may take its whole process along, and which says what it was given of the machine.
SHARED = """
import os, signal
from pathlib import Path
import tensorflow as tf
from cnnbench.models.mlp import mlp

def shared(input_shape, outputs, does: str):
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    Path(f"pid_{os.getpid()}").write_text(str(threads))
    if does == "dies" and not Path("mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return mlp(input_shape, outputs, units=[4])
"""

# In between, as on a cluster.
RUN_ONCE = "import sys; from pathlib import Path; from cnnbench.sweeps.launchers.local import run_once; "
RUN_ONCE += "run_once(Path(sys.argv[1]), None, 0, 1)"


@pytest.fixture
def line(folder: Path) -> tuple[str, ...]:
    line = own_model(folder, "shared", SHARED, "does: well\n")
    return ("-m", *line, "model.does=dies,well,again", "run_dir=sweep")


@pytest.mark.parametrize(
    "launcher",
    [
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=submitit_local",),
        pytest.param(("hydra/launcher=ray", "+hydra.launcher.init.num_cpus=2"), marks=pytest.mark.ray),
    ],
    ids=["joblib", "submitit_local", "ray"],
)
def test_runs_at_once_are_apart_and_one_that_dies_is_one(
    launcher: tuple[str, ...], line: tuple[str, ...], run_process: Cli, folder: Path
) -> None:
    name = launcher[0].rpartition("=")[2].partition("_")[0]
    if name != "joblib":
        pytest.importorskip(name)
    outcome = run_process(*line, *launcher)
    assert outcome.exit_code == 1, outcome.err
    sweep = Sweep.open(folder / "sweep")
    assert [sweep.status(number) for number in range(3)] == ["failed", "done", "done"]
    assert outcome.err.count("killed by SIGKILL") == 1
    shares = [path.read_text() for path in folder.glob("pid_*")]
    assert len(shares) >= (3 if name != "joblib" else 2)
    assert set(shares) == {str(max(1, (os.cpu_count() or 1) // 2))} if name == "joblib" else {"1"}
    assert not list(folder.glob("submitit*"))

    (folder / "mended").touch()
    outcome = run_process("resume", "sweep")
    assert (outcome.exit_code, sweep.left()) == (0, []), outcome.err
    assert "2 of 3 runs are done" in outcome.out


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert hardware.gpus() == ["2", "5"]
    seen = [local.environment(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert seen == ["2", "5", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert hardware.gpus() == []
    assert "CUDA_VISIBLE_DEVICES" not in local.environment(0, 2)


def test_how_a_process_died_is_said() -> None:
    assert "out of memory" in local.describe_exit(-9)
    assert local.describe_exit(-11) == "its process was killed by SIGSEGV"
    assert local.describe_exit(1) == "its process ended without a word"


def test_a_task_that_is_killed_leaves_its_run_to_resume(folder: Path) -> None:
    """What stands between the sweep and the run dies, as a worker of Ray or a job of Slurm: `kill -9`."""
    slow = [text for text in TINY if text not in ("training=smoke", "dataset.examples=120")]
    long = ("dataset.examples=2000", "training.epochs=500", "callbacks.early_stopping=null")
    planned = plan.plan([*slow, *long, "seed=0"], None)
    sweep = Sweep(folder / "sweep", [], planned.launcher, "code", planned.jobs)
    sweep.path.mkdir()
    sweep.write()
    task = subprocess.Popen([sys.executable, "-P", "-c", RUN_ONCE, str(sweep.path)])
    history = sweep.run_folder(0).path / "history.jsonl"
    while not history.exists():
        with suppress(subprocess.TimeoutExpired):
            task.wait(0.05)
            break
    task.kill()
    task.wait()
    while sweep.status(0) == "running":
        pass
    assert sweep.status(0) == "interrupted"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Two nodes of Ray with one core each, on this machine; the address of the first."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # or a token that all nodes have
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    own = ["--num-cpus=1", "--disable-usage-stats", "--block"]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", *own]
    with ExitStack() as stack:
        # A socket lies in it, whose path may have a hundred characters at most.
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True))
        head = [f"--port={address.rpartition(':')[2]}", "--head", "--include-dashboard=false"]
        for more in ([*head, f"--temp-dir={place}"], [f"--address={address}"]):
            process = subprocess.Popen(
                [*start, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            node = stack.enter_context(process)
            stack.callback(node.terminate)
            assert node.stdout is not None
            said = ""
            while "Ray runtime started" not in said:
                line = node.stdout.readline()
                assert line, said
                said += line
        yield address


def tasks(folder: Path) -> list[psutil.Process]:
    """The processes of Ray's whose children make runs in a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has just ended
            if process.cmdline()[-3:-1] == ["cnnbench", "launch"] and str(folder) in process.cmdline()[-1]:
                found.append(psutil.Process(process.ppid()))
    return found


@pytest.mark.ray
def test_a_sweep_on_a_cluster_that_runs_outlives_a_worker(
    cluster: str, folder: Path, run_process: Cli
) -> None:
    small = [text for text in TINY if text != "training=smoke"]
    long = ("training.epochs=150", "callbacks.early_stopping=null")
    launcher = ("hydra/launcher=ray", f"+hydra.launcher.init.address={cluster}")
    command = [sys.executable, "-P", "-m", "cnnbench", "-m", *small, *long, *launcher]
    sweep = subprocess.Popen(
        [*command, "seed=0,1,2", "run_dir=sweep"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while len(list(folder.glob("sweep/*/history.jsonl"))) < 2:  # one on each node
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended with {sweep.wait(timeout=0.1)}: {sweep.communicate()}")
    tasks(folder)[0].kill()
    out, err = sweep.communicate()
    assert sweep.returncode == 1, err
    assert "run 0: WorkerCrashedError" in err or "run 1: WorkerCrashedError" in err, err
    assert out.count(" done: seed=") == 2, out

    resumed = run_process("resume", "sweep")
    assert resumed.exit_code == 0, resumed.err
    assert "2 of 3 runs are done" in resumed.out
    assert Sweep.open(folder / "sweep").left() == []
