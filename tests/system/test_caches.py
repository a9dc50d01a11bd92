"""Caches of this user: bounded, listed, and deleted only where nobody uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnbench import system
from cnnbench.data.images.folder import image_folder
from cnnbench.errors import CnnbenchError
from cnnbench.system import caches, locks

USES = """
import sys
from pathlib import Path
from cnnbench.system import mark_used
mark_used(Path(sys.argv[1]))
print("used", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNBENCH_CACHE_LIMIT", raising=False)
    return tmp_path / "cache"


def pictures(root: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def load(root: Path) -> object:
    """A data set of 20 images of 8×8×3 bytes."""
    return image_folder(str(root), size=8)


PROGRAM = "xla_compile_cache__18446744073709551615__2686995786725435813__XLA_GPU_JIT.pb"


def kept(cache: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in (cache / "images").glob("*.npy"))


def test_caches_are_listed_with_sizes_limits_and_entries(tmp_path: Path, cache: Path) -> None:
    assert system.list_caches() == []
    load(pictures(tmp_path / "one", 1))
    (cache / "code" / "0123456789abcdef").mkdir(parents=True)
    (cache / "code" / "0123456789abcdef" / "a.py").write_bytes(bytes(100))
    (cache / "precision.json").write_bytes(bytes(10))
    (cache / "xla").mkdir()
    (cache / "xla" / PROGRAM).write_bytes(bytes(70))
    images, code, precision, xla = system.list_caches()
    size = sum(path.stat().st_size for path in (cache / "images").iterdir())
    assert images == system.Cache("images", cache / "images", size, 20 * 10**9, 1)
    assert code == system.Cache("code", cache / "code", 100, 10**9, 1)
    assert precision == system.Cache("precision", cache, 10, 10**6, 1)
    assert xla == system.Cache("xla", cache / "xla", 70, 2 * 10**9, 1)


def test_programs_beyond_the_limit_go_the_oldest_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(caches.LIMITS, "xla", 150)
    (cache / "xla").mkdir(parents=True)
    for number in (1, 2, 3):
        path = cache / "xla" / PROGRAM.replace("18446744073709551615", str(number))
        path.write_bytes(bytes(70))
        os.utime(path, (10**9 + number, 10**9 + number))
    (cache / "xla" / "mine.pb").write_bytes(bytes(1000))
    system.make_room(cache / "xla", 0)
    assert sorted(path.name.split("__")[1] for path in (cache / "xla").glob("xla_*")) == ["2", "3"]
    assert (cache / "xla" / "mine.pb").exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]"])
def test_what_is_remembered_is_there_for_the_next_one_and_damage_is_none(cache: Path, damage: bytes) -> None:
    assert system.recall("compilation", "a") is None
    system.remember("compilation", "a", {"seconds": 2.5})
    system.remember("compilation", "b", {"lost": 1.0})
    assert system.recall("compilation", "a") == {"seconds": 2.5}
    (cache / "compilation.json").write_bytes(damage)
    assert system.recall("compilation", "a") is None
    system.remember("compilation", "c", 1)
    assert system.recall("compilation", "c") == 1
    assert system.clear_caches() > 0
    assert not [path for path in cache.iterdir() if path.is_file()]


def test_what_was_used_least_recently_goes_first_and_what_is_in_use_stays(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("one", "two", "three"), 1):
        load(pictures(tmp_path / name, number))
        for path in (cache / "images").glob(f"{name}-*"):
            os.utime(path, (10**9 + number, 10**9 + number))
    load(tmp_path / "one")  # the oldest, used again
    size = sum(path.stat().st_size for path in (cache / "images").iterdir()) // 3
    monkeypatch.setenv("CNNBENCH_CACHE_LIMIT", str(3 * size + 100))
    load(pictures(tmp_path / "four", 4))
    assert kept(cache) == ["four", "one", "three"]
    in_use = load(tmp_path / "three")
    monkeypatch.setenv("CNNBENCH_CACHE_LIMIT", "1 KB")
    load(pictures(tmp_path / "five", 5))
    assert kept(cache) == ["five", "three"]
    del in_use
    load(pictures(tmp_path / "six", 6))
    assert kept(cache) == ["six"]


def test_files_of_ones_own_in_the_same_folders_are_never_touched(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [
        cache / "images" / "holiday.jpg",
        cache / "images" / "2024-01" / "1.png",
        cache / "code" / "mine.py",
    ]
    own += [
        cache / "precision.csv",
        cache / "precision" / "thesis.txt",
        cache / "images" / f"a-{'0' * 20}" / "x",
    ]
    for path in (*own, cache / "notes.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    monkeypatch.setenv("CNNBENCH_CACHE_LIMIT", "1 KB")
    load(pictures(tmp_path / "one", 1))
    load(pictures(tmp_path / "two", 2))
    system.clear_caches()
    assert all(path.stat().st_size == 1000 for path in (*own, cache / "notes.txt"))
    assert kept(cache) == []


def test_a_limit_that_is_no_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNBENCH_CACHE_LIMIT", "much")
    with pytest.raises(CnnbenchError, match="CNNBENCH_CACHE_LIMIT=much is no size") as caught:
        load(pictures(tmp_path / "one", 1))
    assert "CNNBENCH_CACHE_LIMIT=50GB" in caught.value.hint
    monkeypatch.setenv("CNNBENCH_CACHE_LIMIT", "1.5 tb")
    load(tmp_path / "one")
    assert system.list_caches()[0].limit == 1_500_000_000_000


def test_clearing_says_how_many_bytes_went_and_leaves_what_is_in_use(tmp_path: Path, cache: Path) -> None:
    load(pictures(tmp_path / "one", 1))
    in_use = image_folder(str(pictures(tmp_path / "two", 2)), size=8)
    before = in_use.fingerprint
    code = cache / "code" / "0123456789abcdef"
    code.mkdir(parents=True)
    (code / "a.py").write_bytes(bytes(100))
    (cache / "code" / "fedcba9876543210").mkdir()
    (cache / "code" / "fedcba9876543210" / "a.py").write_bytes(bytes(50))
    (cache / "precision.json").write_bytes(bytes(10))
    user = subprocess.Popen(
        [sys.executable, "-c", USES, str(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert user.stdout is not None
    assert user.stdout.readline() == "used\n"
    size = sum(path.stat().st_size for path in (cache / "images").glob("one-*"))
    assert system.clear_caches(["images"]) == size
    assert kept(cache) == ["two"]
    with system.locked(cache / "precision.lock"):  # a probe is being timed
        assert system.clear_caches() == 50
    user.kill()
    user.communicate()
    assert system.clear_caches() == 110
    assert [found.name for found in system.list_caches()] == ["images"]
    assert in_use.fingerprint == before
    del in_use
    assert system.clear_caches() > 0
    assert system.list_caches() == []
    load(tmp_path / "two")  # made again


@pytest.mark.parametrize("nobody_can_tell", [True, False])
def test_without_locks_nothing_is_deleted_and_on_windows_what_the_system_allows(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, nobody_can_tell: bool
) -> None:
    def flock(file: object, how: int) -> None:
        raise OSError(95, "not supported")

    load(pictures(tmp_path / "one", 1))
    if nobody_can_tell:
        monkeypatch.setattr("fcntl.flock", flock)
    else:
        monkeypatch.setattr(locks, "fcntl", None)
    assert load(tmp_path / "one")
    assert (system.clear_caches() == 0) == nobody_can_tell
    assert kept(cache) == (["one"] if nobody_can_tell else [])
