"""Files that are whole or absent, where a user wants them; a cache that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.errors import CnnbenchError, FolderRefusedError
from cnnbench.runs.folder import RunFolder, new_folder
from cnnbench.system import files


def test_a_pipe_gets_the_text_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    files.write_text(pipe, "ü\n")
    reader.join(20)
    assert read == ["ü\n"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("there", [True, False])
def test_what_a_link_leads_to_is_written(tmp_path: Path, there: bool) -> None:
    target, link, other = tmp_path / "a" / "target", tmp_path / "link", tmp_path / "other"
    target.parent.mkdir()
    if there:
        target.write_text("old")
    link.symlink_to(target)
    other.symlink_to(link)
    files.write_text(other, "new")
    assert target.read_text() == "new"
    assert link.is_symlink()
    assert other.is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "link", "other", "target"]


def test_a_device_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in a folder of devices stands for one: our output may go to a file, by `/dev/stdout`."""
    monkeypatch.setattr(files, "DEVICES", (str(tmp_path / "dev"),))
    device = tmp_path / "dev" / "stdout"
    device.parent.mkdir()
    device.write_text("first\n")
    inode = device.stat().st_ino
    files.write_text(device, "second\n")
    assert device.read_text() == "first\nsecond\n"
    assert device.stat().st_ino == inode


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "loop", tmp_path / "none" / "file"):
        with pytest.raises(CnnbenchError, match="cannot write"):
            files.write_text(path, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


@given(
    stem=st.text("ab. -_é", min_size=1, max_size=9), suffix=st.sampled_from(["", ".png", ".tar.gz", ".html"])
)
def test_every_temporary_name_is_known_again(stem: str, suffix: str) -> None:
    path = files.temporary_beside(Path("folder") / f"x{stem}{suffix}")
    assert files.TEMPORARY.fullmatch(path.name)
    assert not files.TEMPORARY.fullmatch(f"x{stem}{suffix}")


DIES = """
import os, sys
from pathlib import Path
from cnnbench.system import files
with files.atomic(Path(sys.argv[1]), "wb") as file:
    file.write(b"half a picture")
    file.flush()
    os._exit(9)
"""


def test_what_killed_processes_leave_goes_with_the_next_command(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for path in (run / "figures" / "curves.png", run / "report.html", run / "exports" / "model.onnx"):
        path.parent.mkdir(parents=True, exist_ok=True)
        died = subprocess.run([sys.executable, "-c", DIES, str(path)], check=False)
        assert died.returncode == 9
    (run / "config.yaml").write_text("name: run\n")
    assert len(files.temporary_files(run)) == 3
    elsewhere = run / ".report.1-00000000.tmp.html"  # of another machine, where it may be at work
    elsewhere.touch()
    at_work = files.temporary_beside(run / "figures" / "confusion.png")
    at_work.touch()
    RunFolder.open(run)
    assert sorted(files.temporary_files(run)) == sorted([elsewhere, at_work])


def test_a_cache_that_cannot_be_made_is_none_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "_warned", set())
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert files.cache_folder() is None
    assert files.cache_folder("images") is None
    (record,) = caplog.records
    assert "going on without a cache" in record.getMessage()
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    assert files.cache_folder("images") == tmp_path / "cache" / "images"
    assert (tmp_path / "cache" / "images").is_dir()


def no_home(*arguments: object, **keywords: object) -> Path:
    raise RuntimeError("could not determine the home directory")


def test_a_user_without_a_home_has_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("CNNBENCH_CACHE", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("user_cache_path", "user_state_path"):  # as for a user without an entry
        monkeypatch.setattr(platformdirs, name, no_home)
    assert files.cache_folder() is None
    with pytest.raises(CnnbenchError, match="no home"):
        files.state_dir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("2026-01-01_10-00-00_cnn_digits", "2026-01-01_10-00-00_cnn_digits"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("Com1", "_Com1"),
        ("console", "console"),
        ("C:\\runs", "C--runs"),
        ("a/b*?", "a-b--"),
        ("ends. .", "ends"),
        ("...", "_"),
        ("", "_"),
        ("고양이", "고양이"),
        ("x" * 300, "x" * 120),
    ],
)
def test_a_name_is_one_that_every_system_accepts(text: str, name: str) -> None:
    assert files.portable_name(text) == name


def test_a_run_folder_has_a_name_that_every_system_accepts(tmp_path: Path) -> None:
    path = new_folder(tmp_path, 'my:model_"data"...')
    assert path.name.endswith("_my-model_-data-")
    assert path.is_dir()


def test_a_path_that_windows_would_not_open_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 200)
    RunFolder.create(deep / "there")
    monkeypatch.setattr(files, "WINDOWS", True)
    with pytest.raises(CnnbenchError, match="Windows leaves room for 187") as caught:
        RunFolder.create(deep / "run")
    assert "run_dir=" in caught.value.hint
    assert not isinstance(caught.value, FolderRefusedError)
    assert not (deep / "run").exists()
    with pytest.raises(CnnbenchError, match="a sweep is not offered on Windows"):
        files.require_posix("a sweep")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_in_the_place_of_a_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.json")
    with pytest.raises(CnnbenchError, match=r"metrics\.json"):
        files.read_json(tmp_path / "metrics.json")
