"""The run folder: whole files or none, folders that nobody shares, and what is found again."""

from __future__ import annotations

import csv
import errno
import json
import logging
import math
import subprocess
import sys
import threading
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnbench.errors import CnnbenchError
from cnnbench.runs import folder
from cnnbench.runs.folder import RunFolder, find_runs, new_folder, new_sweep_folder
from cnnbench.system.files import atomic, sha256

NOON = datetime(2026, 1, 2, 12, 0, 0)  # local time, as in the names


class StoppedClock:
    """All of a test in one second, so that every name collides."""

    @staticmethod
    def now(timezone: Any = None) -> datetime:
        return NOON


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "datetime", StoppedClock)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


def strict_json(path: Path) -> Any:
    """Read as RFC 8259 has it: Python alone would take NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{path.name} has the literal {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def deny(*_: Any, **__: Any) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def record(path: Path, status: str = "done") -> RunFolder:
    folder = RunFolder.create(path)
    folder.write_config({"seed": 0}, [])
    folder.write_metrics({"status": status})
    return folder


# ---------------------------------------------------------------- whole or absent


@pytest.mark.parametrize(("mode", "old", "new"), [("w", "old", "new"), ("wb", b"old", b"new")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, mode: str, old: Any, new: Any
) -> None:
    path = tmp_path / "file.json"
    with atomic(path, mode) as file:
        file.write(old)

    def half() -> None:
        with atomic(path, mode) as file:
            file.write(new)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert files(tmp_path) == {"file.json"}
    assert path.read_bytes() == b"old"


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic(path) as file:
        file.write("half")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "half"


def test_a_checkpoint_that_fails_half_way_leaves_the_last_one(run: RunFolder) -> None:
    run.write_best(lambda path: path.write_bytes(b"first"), {"epoch": 1})

    def half(path: Path) -> None:
        path.write_bytes(b"sec")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run.write_best(half, {"epoch": 2})
    assert run.best_model.read_bytes() == b"first"
    assert run.best["epoch"] == 1
    assert files(run.path) == {"cnnbench.log", "best.keras", "best.json"}


def test_best_json_has_the_hash_of_the_checkpoint_beside_it(run: RunFolder) -> None:
    for content in (b"first", b"second"):
        run.write_best(lambda path, content=content: path.write_bytes(content), {"epoch": 1, "value": 0.5})
        assert run.best == {"epoch": 1, "value": 0.5, "sha256": sha256(run.best_model)}
        assert run.best_model.read_bytes() == content


# ---------------------------------------------------------------- folders


@pytest.mark.usefixtures("one_second")
def test_threads_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    made: list[Path] = []
    together = threading.Barrier(8)

    def make() -> None:
        together.wait()
        made.extend(new_folder(tmp_path / "outputs", "cnn_digits") for _ in range(5))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == 40
    assert set(made) == set((tmp_path / "outputs").iterdir())


def test_processes_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from datetime import datetime
from cnnbench.runs import folder
class StoppedClock:
    now = staticmethod(lambda timezone=None: datetime(2026, 1, 2, 12))
folder.datetime = StoppedClock
print("ready", flush=True)
sys.stdin.readline()
for _ in range(25):
    print(folder.new_folder(Path(sys.argv[1]), "cnn_digits").name)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    names = [name for process in processes for name in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(names) == len(set(names)) == 75
    assert set(names) == {path.name for path in tmp_path.iterdir()}


@pytest.mark.usefixtures("one_second")
def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    names = [new_folder(tmp_path, "cnn_digits").name for _ in range(3)]
    stamped = "2026-01-02_12-00-00_cnn_digits"
    assert names == [stamped, f"{stamped}_1", f"{stamped}_2"]


def test_a_folder_below_a_file_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("")
    with pytest.raises(CnnbenchError, match="outputs is a file"):
        new_folder(tmp_path / "outputs", "cnn_digits")


@pytest.mark.parametrize("make", [lambda p: new_folder(p, "x"), new_sweep_folder, RunFolder.create])
def test_where_nothing_can_be_written_is_wrong_input(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", deny)
    with pytest.raises(CnnbenchError, match=r"cannot write to .*read_only.*: Permission denied"):
        make(tmp_path / "read_only")


@pytest.mark.parametrize("make", [RunFolder.create, new_sweep_folder])
def test_a_folder_that_holds_something_is_refused_and_left_alone(make: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(CnnbenchError, match="is not empty"):
        make(tmp_path)
    assert files(tmp_path) == {"thesis.tex"}


def test_a_run_takes_a_missing_or_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "not" / "yet" / "there"):
        assert RunFolder.create(path).path == path
        assert files(path) == {"cnnbench.log"}


def test_of_two_runs_that_see_the_same_folder_empty_one_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder.create(tmp_path / "run")
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(()))
    with pytest.raises(CnnbenchError):
        RunFolder.create(tmp_path / "run")


def test_a_file_in_the_place_of_the_run_folder_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(CnnbenchError):
        RunFolder.create(tmp_path / "run")


# ---------------------------------------------------------------- what is in the files


def test_history_has_a_line_per_epoch_and_a_table_with_columns_that_came_later(run: RunFolder) -> None:
    entries = [{"epoch": 1, "loss": 1.5}, {"epoch": 2, "loss": 1.25, "val_loss": 2.0}]
    for entry in entries:
        run.append_history(entry)
    assert run.history == entries
    with (run.path / "history.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["epoch", "loss", "val_loss"],
            ["1", "1.5", ""],
            ["2", "1.25", "2.0"],
        ]


def test_nan_and_infinity_are_null_in_json_and_empty_in_the_table(run: RunFolder) -> None:
    run.append_history({"epoch": 1, "loss": math.nan, "val_loss": math.inf, "accuracy": 0.5})
    line = (run.path / "history.jsonl").read_text()
    assert json.loads(line) == {"epoch": 1, "loss": None, "val_loss": None, "accuracy": 0.5}
    assert (run.path / "history.csv").read_text() == "epoch,loss,val_loss,accuracy\n1,,,0.5\n"


def test_every_json_file_is_json_whatever_numpy_gave(run: RunFolder) -> None:
    content = {
        "nan": math.nan,
        "deep": [{"inf": -math.inf}, (np.float32(0.5), np.int64(3))],
        "array": np.array([1.0, math.nan]),
        "bool": np.bool_(True),
        "path": Path("a") / "b",
        "korean": "고양이",
        7: "key",
    }
    run.write_metrics(content)
    run.write_environment(content)
    run.write_failure(content)
    expected = {
        "nan": None,
        "deep": [{"inf": None}, [0.5, 3]],
        "array": [1.0, None],
        "bool": True,
        "path": str(Path("a") / "b"),
        "korean": "고양이",
        "7": "key",
    }
    for name in ("metrics.json", "environment.json", "failure.json"):
        assert strict_json(run.path / name) == expected


def test_the_config_comes_back_as_it_went_in(run: RunFolder) -> None:
    config = {"seed": 3, "model": {"filters": [32, 64], "activation": "relu"}, "run_dir": None, "이름": "값"}
    run.write_config(config, ["seed=3", "model.filters=[32,64]"])
    assert run.config == config
    assert "seed=3" in (run.path / "overrides.yaml").read_text()


def test_predictions_come_back_as_they_went_in(run: RunFolder) -> None:
    run.write_predictions(y_true=np.arange(3), outputs=np.ones((3, 2), np.float32))
    with np.load(run.path / "predictions.npz", allow_pickle=False) as arrays:
        assert arrays["y_true"].tolist() == [0, 1, 2]
        assert arrays["outputs"].dtype == np.float32


def test_the_log_gets_warnings_of_ours_and_of_python_only_while_the_run_lasts(run: RunFolder) -> None:
    logging.captureWarnings(True)
    try:
        with run.logging(), warnings.catch_warnings():
            warnings.simplefilter("default")
            logging.getLogger("cnnbench").warning("ours")
            warnings.warn("of python", stacklevel=1)
        logging.getLogger("cnnbench").warning("too late")
    finally:
        logging.captureWarnings(False)
    log = (run.path / "cnnbench.log").read_text()
    assert "WARNING ours" in log
    assert "of python" in log
    assert "too late" not in log


# ---------------------------------------------------------------- reading


def test_the_status_is_that_of_the_last_file_that_there_is(run: RunFolder) -> None:
    assert run.status == "unfinished"
    run.write_failure({"cause": "no memory"})
    assert run.status == "failed"
    run.write_metrics({"status": "interrupted"})
    assert run.status == "interrupted"


@pytest.mark.parametrize("name", ["metrics", "best", "failure", "environment", "history", "config"])
@pytest.mark.parametrize("content", [b'{"status": "do', b"\xff\xfe\x00"])
def test_a_damaged_file_is_named_in_one_line(run: RunFolder, name: str, content: bytes) -> None:
    suffix = {"history": "jsonl", "config": "yaml"}.get(name, "json")
    (run.path / f"{name}.{suffix}").write_bytes(content + b"\n")  # without it a row only ends early
    with pytest.raises(CnnbenchError, match=rf"{name}\.{suffix} is damaged") as caught:
        getattr(run, name)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(CnnbenchError, match="holds no run"):
        RunFolder.open(tmp_path)
    with pytest.raises(CnnbenchError, match="does not exist"):
        RunFolder.open(tmp_path / "nowhere")
    assert RunFolder.open(record(tmp_path / "run").path).path == tmp_path / "run"


def test_runs_are_found_at_and_below_each_place_once_and_in_the_order_of_their_numbers(
    tmp_path: Path,
) -> None:
    alone = ["run_1", "run_2", "run_10"]
    swept = ["sweep/000_mlp", "sweep/001_cnn", "sweep/010_cnn"]
    names = [*alone, *swept, "sweep/deep/002_cnn"]
    for name in reversed(names):
        record(tmp_path / "outputs" / name)
    (tmp_path / "outputs" / "notes").mkdir()
    found = find_runs([tmp_path / "outputs", tmp_path / "outputs" / "sweep", tmp_path / "outputs" / "run_1"])
    shown = [str(run.path.relative_to(tmp_path / "outputs")) for run in found]
    assert sorted(shown) == sorted(names)
    assert [name for name in shown if "/" not in name] == alone
    assert [name for name in shown if name.count("/") == 1] == swept


def test_digits_that_are_no_numbers_are_letters_in_a_name(tmp_path: Path) -> None:
    record(tmp_path / "run_1²2")
    assert len(find_runs([tmp_path])) == 1


def test_a_place_that_is_not_there_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(CnnbenchError, match="nowhere does not exist"):
        find_runs([tmp_path / "nowhere"])


# ---------------------------------------------------------------- what never trained


def failed_early(path: Path) -> RunFolder:
    folder = record(path, "failed")
    folder.write_environment({})
    folder.write_failure({"cause": "no data"})
    return folder


def test_a_run_that_never_trained_goes_as_a_whole(tmp_path: Path) -> None:
    folder = failed_early(tmp_path / "run")
    folder.discard_if_untrained()
    assert not folder.path.exists()
    folder.discard_if_untrained()  # and a second time does no harm


def test_what_others_put_into_it_stays(tmp_path: Path) -> None:
    folder = failed_early(tmp_path / "run")
    (folder.path / "notes.txt").write_text("mine")
    (folder.path / "figures").mkdir()
    (folder.path / "figures" / "mine.png").write_bytes(b"")
    folder.discard_if_untrained()
    assert files(folder.path) == {"notes.txt", "figures/mine.png"}


def test_a_run_that_has_trained_an_epoch_stays_whole(tmp_path: Path) -> None:
    folder = failed_early(tmp_path / "run")
    folder.append_history({"epoch": 1, "loss": 1.0})
    before = files(folder.path)
    folder.discard_if_untrained()
    assert files(folder.path) == before


def test_a_run_is_what_its_failure_says_before_its_metrics_are_written(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.write_failure({"status": "interrupted", "cause": "stopped by SIGTERM"})
    assert folder.status == "interrupted"


# -- config.json -----------------------------------------------------------------------------------


def test_the_quick_config_is_that_of_config_yaml_whatever_lies_beside_it(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.write_config({"seed": 1, "model": {"filters": [4], "rate": 1e-3}, "name": "é"}, [])
    quick = tmp_path / "run" / "config.json"
    assert run.quick_config == run.config == json.loads(quick.read_text(encoding="utf-8"))["config"]
    (tmp_path / "run" / "config.yaml").write_text("seed: 2\n")  # edited by hand
    assert run.quick_config == {"seed": 2}
    for spoilt in ("", "{", "[]", '{"sha256": 1}', quick.read_text().replace('{"seed": 2}', "3")):
        quick.write_text(spoilt)
        assert run.quick_config == {"seed": 2}
    quick.unlink()
    quick.mkdir()  # it can be neither read nor written
    assert run.quick_config == {"seed": 2}


def test_what_only_yaml_can_say_is_read_from_it_each_time(tmp_path: Path) -> None:
    for text in ("a: .nan\n", "a: 2026-01-01\n", "1: a\n"):
        (tmp_path / "config.yaml").write_text(text)
        assert str(RunFolder(tmp_path).quick_config) == str(RunFolder(tmp_path).config)
        assert not (tmp_path / "config.json").exists()


def test_what_a_config_names_is_never_taken_from_the_quick_one(tmp_path: Path) -> None:
    """A pair that was forged shows another table, and changes nothing about what is built."""
    run = RunFolder.create(tmp_path / "run")
    run.write_config({"seed": 1}, [])
    quick = tmp_path / "run" / "config.json"
    quick.write_text(quick.read_text().replace('{"seed": 1}', '{"plugins": ["stranger.py"]}'))
    assert run.config == {"seed": 1}
