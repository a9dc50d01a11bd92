"""Files with flipped bytes, holes or a lost end: each either loads or is one `CnnbenchError`, and soon.

A few files a kind in the ordinary run; as many as wanted with `CNNBENCH_FAULTS=200 pytest FILE`.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import time_limit
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnbench.data import fetch
from cnnbench.data.dataset import Dataset
from cnnbench.data.images.folder import image_folder
from cnnbench.data.sources.cifar import cifar10
from cnnbench.data.sources.mnist import IDX_FILES, fashion_mnist, mnist
from cnnbench.data.sources.tables import california_housing
from cnnbench.data.splits import leaks, with_validation
from cnnbench.errors import CnnbenchError

FAULTS = int(os.environ.get("CNNBENCH_FAULTS", "20"))
SECONDS = 20  # for a file that takes milliseconds: what takes longer hangs
BEGINNING = 128  # headers lie here: as many faults as in all the rest

Wrap = Callable[[bytes], bytes]


# ---------------------------------------------------------------- damage


@dataclass(frozen=True)
class Damage:
    """What happens to the bytes of a file; places are parts of its length, or bytes of its beginning."""

    kept: float
    changes: list[tuple[float | int, int]] = field(default_factory=list)
    hole: tuple[float, int] | None = None  # zeros, as a crash of the system leaves them
    extra: bytes = b""

    def of(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        for place, value in self.changes:
            index = place if isinstance(place, int) else int(place * len(damaged))
            damaged[index % len(damaged)] = value
        if self.hole:
            start = int(self.hole[0] * len(damaged))
            damaged[start : start + self.hole[1]] = bytes(len(damaged[start : start + self.hole[1]]))
        return bytes(damaged[: int(self.kept * len(damaged))]) + self.extra


parts = st.floats(0, 1, exclude_max=True)
bytes_to_change = st.lists(
    st.tuples(st.integers(0, BEGINNING - 1) | parts, st.integers(0, 255)), min_size=1, max_size=4
)
damages = st.one_of(
    st.builds(Damage, kept=parts),
    st.builds(Damage, kept=st.just(1.0), changes=bytes_to_change),
    st.builds(Damage, kept=st.just(1.0), hole=st.tuples(parts, st.integers(1, 4096))),
    st.builds(Damage, kept=parts | st.just(1.0), changes=bytes_to_change, extra=st.binary(max_size=64)),
)


# ---------------------------------------------------------------- whole files


def images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def idx(array: np.ndarray) -> bytes:
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, pack: Wrap, ending: str) -> None:
    folder.mkdir(parents=True)
    labels = np.arange(12) % 10
    for name, array in zip(IDX_FILES, (images(12, 6, 6), labels, images(12, 6, 6), labels), strict=True):
        (folder / f"{name}{ending}").write_bytes(pack(idx(array)))


def mnist_arrays() -> dict[str, np.ndarray]:
    labels = np.arange(12) % 10
    return {"x_train": images(12, 6, 6), "y_train": labels, "x_test": images(12, 6, 6), "y_test": labels}


def write_cifar(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        batch = {b"labels": [i % 10 for i in range(6)], b"data": images(6, 3072, seed=seed)}
        (folder / name).write_bytes(pickle.dumps({b"batch_label": b"training", **batch}, protocol=2))


def california_arrays(n: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"x": rng.uniform(1, 9, (n, 8)).astype(np.float32), "y": rng.uniform(1, 9, n).astype(np.float32)}


def write_pictures(root: Path, ending: str) -> None:
    for label in "ab":
        (root / label).mkdir(parents=True)
        for number in range(4):
            picture = Image.fromarray(images(1, 12, 12, 3, seed=10 * ord(label) + number)[0])
            picture.save(root / label / f"{number}.png", ending)


def in_archive(name: str) -> Callable[[bytes, Damage], bytes]:
    """Damage to one array inside an archive whose checksums are right."""

    def damage_inside(archive: bytes, damage: Damage) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
            for item in old.namelist():
                data = old.read(item)
                new.writestr(item, damage.of(data) if item == name else data)
        return out.getvalue()

    return damage_inside


def in_gzip(packed: bytes, damage: Damage) -> bytes:
    return gzip.compress(damage.of(gzip.decompress(packed)))


# ---------------------------------------------------------------- the kinds


@dataclass(frozen=True)
class Kind:
    """A data set in files, and which of them is damaged (`{data}` and `{cache}` are below the root)."""

    write: Callable[[Path], object]
    file: str
    load: Callable[[Path], Dataset]
    damage: Callable[[bytes, Damage], bytes] = lambda data, damage: damage.of(data)


def idx_kind(folder: str, number: int, load: Any, *, packed: bool, inside: bool = False) -> Kind:
    ending = ".gz" if packed else ""
    return Kind(
        lambda root: write_idx(root / folder, gzip.compress if packed else bytes, ending),
        f"{folder}/{IDX_FILES[number]}{ending}",
        lambda root: load(data_dir=str(root)),  # type: ignore[no-any-return]
        in_gzip if inside else Kind.damage,
    )


def npz_kind(name: str, arrays: Any, load: Callable[[Path], Dataset], inside: str = "") -> Kind:
    return Kind(
        lambda root: np.savez(root / name, **arrays()),
        name,
        load,
        in_archive(inside) if inside else Kind.damage,
    )


def load_california(root: Path) -> Dataset:
    return california_housing(data_dir=str(root), ratios=True)


def load_pictures(root: Path) -> Dataset:
    return image_folder(
        str(root / "pictures"), size=8, test_fraction=0.3, max_pixels=10**6, cache_dir=str(root / "cache")
    )


def picture_kind(ending: str) -> Kind:
    return Kind(lambda root: write_pictures(root / "pictures", ending), "pictures/a/2.png", load_pictures)


def cache_kind(ending: str) -> Kind:
    def write(root: Path) -> None:
        write_pictures(root / "pictures", "PNG")
        load_pictures(root)

    return Kind(write, f"cache/images/*{ending}", load_pictures)


def load_mnist(root: Path) -> Dataset:
    return mnist(data_dir=str(root))


KINDS = {
    "idx.gz": idx_kind("fashion-mnist", 0, fashion_mnist, packed=True),
    "idx in gz": idx_kind("fashion-mnist", 0, fashion_mnist, packed=True, inside=True),
    "idx labels": idx_kind("MNIST/raw", 1, mnist, packed=False),
    "mnist.npz": npz_kind("mnist.npz", mnist_arrays, load_mnist),
    "images in mnist.npz": npz_kind("mnist.npz", mnist_arrays, load_mnist, "x_train.npy"),
    "cifar": Kind(write_cifar, "cifar-10-batches-py/data_batch_2", lambda root: cifar10(str(root))),
    "california.npz": npz_kind("california_housing.npz", california_arrays, load_california),
    "rows in california.npz": npz_kind("california_housing.npz", california_arrays, load_california, "x.npy"),
    **{ending.lower(): picture_kind(ending) for ending in ("PNG", "JPEG", "GIF", "WEBP")},
    "cached pixels": cache_kind(".npy"),
    "cached list": cache_kind(".json"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each kind, undamaged."""
    roots = {}
    for name, kind in KINDS.items():
        roots[name] = tmp_path_factory.mktemp("whole") / "root"
        roots[name].mkdir()
        kind.write(roots[name])
    return roots


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data of this machine, and no network."""
    monkeypatch.setattr(fetch, "can_connect", lambda host: False)
    monkeypatch.setattr(fetch, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    monkeypatch.delenv("CNNBENCH_DATA", raising=False)


@pytest.mark.parametrize("name", KINDS)
def test_undamaged_files_load(name: str, whole: dict[str, Path], nowhere: None) -> None:
    assert len(KINDS[name].load(whole[name]).train) > 0


@pytest.mark.parametrize("name", KINDS)
@settings(
    max_examples=FAULTS,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    derandomize=FAULTS <= 20,  # the ordinary run is the same every time
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(damage=damages)
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header:UserWarning")
def test_a_damaged_file_loads_or_is_one_error(
    name: str, damage: Damage, whole: dict[str, Path], nowhere: None, tmp_path: Path
) -> None:
    kind, root = KINDS[name], tmp_path / "damaged"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(whole[name], root)  # with the times of the files: they are part of a cache's name
    (path,) = root.glob(kind.file)
    path.write_bytes(kind.damage(path.read_bytes(), damage))
    with time_limit(SECONDS):
        try:
            dataset = kind.load(root)
            leaks(with_validation(dataset, 0.2, None, seed=0))  # whatever loads can be read to its end
            event(f"{name} loaded" if dataset.fingerprint else "")
        except CnnbenchError as error:
            event(f"{name} refused")
            message = str(error)
        else:
            message = ""
    assert "\n" not in message
