"""Going on after a kill, a signal, a full disk: to the result that the run would have had without."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from conftest import TINY, Outcome, call_main
from inspection_runs import trained

from cnnbench.errors import CnnbenchError
from cnnbench.runs.folder import RunFolder
from cnnbench.runs.states import LastStates
from cnnbench.system import files
from cnnbench.system.signals import InterruptedRunError, Interruption
from cnnbench.training.callbacks import BestCheckpoint
from cnnbench.training.resume import Position, State, capture, restore, restore_callbacks

Cli = Callable[..., Outcome]
KILLS = int(os.environ.get("CNNBENCH_FAULTS", "1"))  # `make faults` sets 50
TIMES = ("seconds", "examples_per_second")  # of the history, which no two runs share
# Everything with a memory: dropout, momentum, augmentation, early stopping, a plateau, batch statistics.
LINE = (
    *("dataset=synthetic", "dataset.examples=600", "dataset.noise=0.5", "dataset.size=8", "device=cpu"),
    *(
        "augmentation=standard",
        "augmentation.cutout=3",
        "model.filters=[4]",
        "model.dense_units=[8]",
        "model.dropout=0.3",
    ),
    *(
        "deterministic=true",
        "training.epochs=16",
        "training.batch_size=8",
        "callbacks=[default,reduce_on_plateau]",
    ),
    *("callbacks.reduce_on_plateau.patience=2", "callbacks.early_stopping.patience=13"),
    *("training.steps_per_execution=5", "training.save_minutes=0", "training.sampling=balanced"),
)


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "cnnbench", *arguments]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not condition() and process.poll() is None:
        wait_at_most(0.01, process)


def wait_at_most(seconds: float, process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def rows(run: Path) -> int:
    path = run / "history.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def weights(run: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def keep(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found[name] = np.array(node)

    with zipfile.ZipFile(run / "best.keras") as archive:
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))).visititems(keep)
    return found


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def assert_same_result(run: Path, reference: Path) -> None:
    assert history(run) == history(reference)
    expected, found = weights(reference), weights(run)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    one, other = (json.loads((path / "metrics.json").read_text()) for path in (reference, run))
    for key in ("status", "metrics", "best_epoch", "epochs", "value"):
        assert one[key] == other[key]
    assert not (run / "last").exists()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("reference") / "run"
    assert call_main(*LINE, f"run_dir={run}") == 0
    return run


@pytest.mark.parametrize("seed", range(KILLS))
def test_after_a_kill_at_any_moment_the_result_is_the_same(
    seed: int, reference: Path, tmp_path: Path
) -> None:
    chance, run = random.Random(seed), tmp_path / "run"
    process = start(tmp_path, *LINE, "run_dir=run")
    for kill in range(2):  # the second one hits the resumed run
        at = rows(run) + chance.randint(1, 6)
        wait_for(lambda at=at: rows(run) >= at, process)  # type: ignore[misc]
        # Anywhere in the epoch, or in what is written at its end.
        wait_at_most(chance.random() * 0.1, process)
        process.kill()
        process.wait()
        if (run / "metrics.json").exists():
            break
        process = start(tmp_path, "resume", "run")
        del kill
    assert process.wait() == 0 or (run / "metrics.json").exists(), (tmp_path / "output.txt").read_text()
    assert_same_result(run, reference)


SWEEP = ("-m", *LINE, "training.epochs=5", "seed=0,1", "run_dir=sweep")


@pytest.fixture(scope="module")
def reference_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of the sweep, each made by itself."""
    folder = tmp_path_factory.mktemp("reference_sweep")
    for seed in (0, 1):
        run = folder / f"00{seed}_cnn_synthetic_seed{seed}"
        assert call_main(*LINE, "training.epochs=5", f"seed={seed}", f"run_dir={run}") == 0
    return folder


def children(process: subprocess.Popen[bytes]) -> list[int]:
    listed = [path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/children")]
    return [int(pid) for pid in " ".join(listed).split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the child of a process in /proc")
@pytest.mark.parametrize("seed", range(KILLS + 1))
def test_a_sweep_killed_at_any_moment_ends_with_the_same_results(
    seed: int, reference_sweep: Path, tmp_path: Path
) -> None:
    """In turn the process that supervises alone, whose child is then about to stop, and both at once."""
    chance, sweep = random.Random(seed), tmp_path / "sweep"
    process = start(tmp_path, *SWEEP)
    at = chance.randint(1, 9)
    wait_for(lambda: sum(map(rows, sweep.glob("*_seed*"))) >= at, process)
    wait_at_most(chance.random() * 0.1, process)
    left = children(process) if process.poll() is None else []
    process.kill()
    process.wait()
    if seed % 2:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert call_main("resume", str(sweep)) == 0
    runs = sorted(reference_sweep.glob("*_seed*"))
    assert len(runs) == 2
    for run in runs:
        assert_same_result(sweep / run.name, run)


def test_a_signal_saves_within_the_epoch_and_says_how_to_go_on(reference: Path, tmp_path: Path) -> None:
    """One stops the run, the other the resumed one."""
    run, output = tmp_path / "run", tmp_path / "output.txt"
    for number, code, line in (
        (signal.SIGTERM, 143, (*LINE, "run_dir=run")),
        (signal.SIGINT, 130, ("resume", "run")),
    ):
        at = rows(run) + 2
        process = start(tmp_path, *line)
        wait_for(lambda at=at: rows(run) >= at, process)  # type: ignore[misc]
        process.send_signal(number)
        assert process.wait() == code
        said = output.read_text()
        assert "to go on: cnnbench resume run" in said
        assert "Traceback" not in said
        assert json.loads((run / "metrics.json").read_text())["status"] == "interrupted"
        output.unlink()
    assert call_main("resume", str(run)) == 0
    assert_same_result(run, reference)


def test_the_second_signal_stops_at_once() -> None:
    interruption = Interruption()
    with interruption.watch():
        with interruption.patient():
            os.kill(os.getpid(), signal.SIGTERM)
            assert interruption.requested == signal.SIGTERM
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        with pytest.raises(InterruptedRunError) as caught:
            interruption.check()
    assert caught.value.number == signal.SIGTERM


def test_outside_of_the_training_a_signal_stops_at_once() -> None:
    with Interruption().watch(), pytest.raises(InterruptedRunError):
        os.kill(os.getpid(), signal.SIGINT)


# ---------------------------------------------------------------- faults of the disk


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, int], list[int]]]:
    """Let the n-th write of a run fail, and every later one too: a full disk does not mend itself."""

    def arrange(at: int, number: int) -> list[int]:
        count = [0]
        real = os.fsync

        def fsync(descriptor: int) -> None:
            count[0] += 1
            if count[0] >= at:
                raise OSError(number, os.strerror(number))
            real(descriptor)

        monkeypatch.setattr(files.os, "fsync", fsync)
        return count

    yield arrange
    monkeypatch.undo()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES] if KILLS > 1 else [errno.ENOSPC])
def test_a_write_that_fails_leaves_nothing_false_and_the_run_can_go_on(
    number: int, run_cli: Cli, folder: Path, failing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = failing(10**9, number)
    assert run_cli(*TINY, "run_dir=whole").exit_code == 0
    writes = count[0]
    assert writes > 8
    for at in range(1, writes + 1, 1 if KILLS > 1 else 4):
        failing(at, number)
        outcome = run_cli(*TINY, f"run_dir=run_{at}")
        assert outcome.exit_code in (1, 2), at
        assert "Traceback" not in outcome.err
        run = RunFolder(folder / f"run_{at}")
        assert run.status != "done"
        assert not [path for path in run.path.rglob("*") if ".tmp" in path.name], at
        if run.best_model.exists():
            keras.models.load_model(run.best_model)
        failing(10**9, number)
        if run.path.exists() and (run.path / "config.yaml").exists():
            assert run_cli("resume", f"run_{at}").exit_code == 0
            assert run.status == "done"


class PowerFailure(BaseException):
    """Nothing in a process sees it coming."""


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Let the power fail as the n-th file takes its place, with half of its bytes on the disk.

    `files.sync` before the renaming forbids it; a disk that lies about its cache does it all the same.
    """
    real = Path.replace

    def arrange(at: int) -> list[str]:
        written: list[str] = []

        def replace(self: Path, target: Path) -> Path:
            placed = real(self, target)
            written.append(placed.name)
            if len(written) == at:
                os.truncate(placed, placed.stat().st_size // 2)
                raise PowerFailure
            return placed

        monkeypatch.setattr(Path, "replace", replace)
        return written

    return arrange


def test_a_file_cut_short_by_a_power_failure_is_never_taken_for_whole(
    run_cli: Cli, folder: Path, power: Callable[[int], list[str]]
) -> None:
    line = (*TINY, "deterministic=true")
    names = power(0)
    assert run_cli(*line, "run_dir=whole").exit_code == 0
    assert {"config.yaml", "best.keras", "best.json", "metrics.json"} <= set(names)
    # In the ordinary run those that others rely on; with `make faults` all of them.
    wanted = set(names) if KILLS > 1 else {"config.yaml", "best.keras", "metrics.json"}
    for at, name in enumerate(names, start=1):
        if name not in wanted:
            continue
        power(at)
        with pytest.raises(PowerFailure):
            run_cli(*line, f"run_dir=run_{at}")
        power(0)
        compared = run_cli("compare", ".")
        assert compared.exit_code == 0, (name, compared.err)
        assert "ranking by val_accuracy" in compared.out
        assert f": run_{at} " in compared.out, name  # among those that give no figures
        resumed = run_cli("resume", f"run_{at}")
        assert "Traceback" not in resumed.err
        if resumed.exit_code == 0:
            assert_same_result(folder / f"run_{at}", folder / "whole")
        else:
            assert resumed.exit_code == 2, (name, resumed.err)
            assert "is damaged" in resumed.err or "config.yaml" in resumed.err, (name, resumed.err)
            shutil.rmtree(folder / f"run_{at}")


def test_a_state_cut_short_falls_back_to_the_one_before(tmp_path: Path) -> None:
    states, best = LastStates(tmp_path / "last"), tmp_path / "best.keras"
    assert states.read() is None
    for number in range(3):
        states.write({"number": number}, {"a": np.full(3, number)}, best, {})
    assert len(list(states.path.iterdir())) == 2
    newest = max(states.path.iterdir())
    for damage in ("arrays.npz", "state.json"):
        path = newest / damage
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        stored = states.read()
        assert stored is not None
        assert stored.content["number"] == 1
        path.write_bytes(content)
    stored = states.read()
    assert stored is not None
    assert stored.content["number"] == 2
    states.clear()
    assert states.read() is None


def test_the_checkpoint_of_an_epoch_after_the_state_is_taken_back(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    for epoch, text in ((1, b"first"), (2, b"second")):
        run.append_history({"epoch": epoch})
        run.write_best(lambda path, text=text: path.write_bytes(text), {"epoch": epoch})  # type: ignore[misc]
        if epoch == 1:
            run.write_state({}, {})
    run.take_up(1, run.stored_state())
    assert run.best_model.read_bytes() == b"first"
    assert run.best["epoch"] == 1
    assert [row["epoch"] for row in run.history] == [1]
    run.take_up(0, None)
    assert not run.best_model.exists()
    assert run.history == []


# ---------------------------------------------------------------- what a state holds


def small_model() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_the_memory_of_callbacks_comes_back_in_its_own_types() -> None:
    stopping = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    stopping.wait, stopping.best, stopping.best_weights = 3, np.float32(0.1), [np.ones(2)]
    mine = BestCheckpoint("val_loss", "min")
    mine.best, mine.best_epoch = 0.25, 7
    mine.seen = {"a": (1, [np.int64(2)])}  # type: ignore[attr-defined]
    model = small_model()
    state = capture(model, [stopping, mine], Position("training", 9))
    stored = State.from_dict(json.loads(json.dumps(state.as_dict())), state.arrays)
    fresh = [
        keras.callbacks.EarlyStopping("loss", restore_best_weights=True),
        BestCheckpoint("val_loss", "min"),
    ]
    restore_callbacks(fresh, stored)
    assert (fresh[0].wait, fresh[0].best) == (3, np.float32(0.1))
    assert isinstance(fresh[0].best, np.float32)
    np.testing.assert_array_equal(fresh[0].best_weights[0], np.ones(2))
    assert (fresh[1].best, fresh[1].best_epoch) == (0.25, 7)
    assert fresh[1].seen == {"a": (1, [2])}
    assert stored.position == Position("training", 9)


def test_weights_optimizer_and_dropout_come_back() -> None:
    model = small_model()
    x, y = np.ones((8, 3), "float32"), np.ones((8, 2), "float32")
    model.fit(x, y, verbose=0)
    state = capture(model, [], Position("training", 1))
    before = [np.array(v) for v in (*model.variables, *model.optimizer.variables)]
    model.fit(x, y, verbose=0)
    restore(model, state)
    for old, new in zip(before, (*model.variables, *model.optimizer.variables), strict=True):
        np.testing.assert_array_equal(old, np.array(new))


def test_a_state_of_another_network_is_refused() -> None:
    state = capture(small_model(), [], Position("training", 1))
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)])
    other.compile("adam", "mse")
    with pytest.raises(CnnbenchError, match="does not fit"):
        restore(other, state)


# ---------------------------------------------------------------- the verb


def test_a_finished_run_is_left_alone_and_one_at_work_is_refused(run_cli: Cli, folder: Path) -> None:
    done = trained("multiclass")
    assert run_cli("resume", str(done.path)).out == f"{done.path} is done already\n"
    assert run_cli("resume", "nowhere").exit_code == 2
    run = RunFolder.create(folder / "busy")
    run.write_config({"seed": 0}, [])
    with run.held():
        assert run.status == "running"
        outcome = run_cli("resume", "busy")
    assert outcome.exit_code == 2
    assert "another process is at work" in outcome.err
    assert run.status == "unfinished"
