"""The data sets, on tiny files in each layout; those marked `real_data` on the real files."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import yaml
from data_files import (
    idx_bytes,
    images,
    write_california,
    write_cifar10,
    write_cifar100,
    write_everything,
    write_idx_folder,
    write_mnist_npz,
)
from pydantic import TypeAdapter, ValidationError, validate_call

from cnnbench.data import fetch
from cnnbench.data.dataset import Dataset
from cnnbench.data.sources.cifar import CIFAR100_CLASSES, cifar10, cifar100
from cnnbench.data.sources.digits import digits
from cnnbench.data.sources.mnist import IDX_FILES, fashion_mnist, mnist, read_idx
from cnnbench.data.sources.synthetic import synthetic
from cnnbench.data.sources.tables import california_housing, diabetes
from cnnbench.errors import CnnbenchError

DATASET_YAML = Path(__file__).parents[2] / "conf" / "dataset"
FROM_FILES = [cifar10, cifar100, fashion_mnist, mnist, california_housing]
OWN_YAML = [
    "california_housing",
    "cifar10",
    "cifar100",
    "diabetes",
    "digits",
    "fashion_mnist",
    "mnist",
    "synthetic",
]


@pytest.fixture(autouse=True)
def isolated(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data of this machine and no network, except where a test is about the real data."""
    monkeypatch.setattr(fetch, "can_connect", lambda host: False)
    if "real_data" not in request.keywords:
        monkeypatch.delenv("CNNBENCH_DATA", raising=False)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
        monkeypatch.setattr(fetch, "DEBIAN_FOLDER", tmp_path / "debian")


def python2_batch(pixels: np.ndarray) -> bytes:
    """A batch in the opcodes that Python 2 and numpy 1 wrote, as in the official files."""
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    rows = b"M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", pixels.shape[1]) + b"\x86"
    data = b"T" + struct.pack("<I", pixels.size) + pixels.tobytes()
    state = b"(K\x01" + rows + dtype + b"\x89" + data + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([i % 10]) for i in range(len(pixels))) + b"e"
    return b"\x80\x02}(U\x04data" + array + state + b"U\x06labels" + labels + b"u."


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# ---------------------------------------------------------------- where files are looked for


@pytest.mark.parametrize("load", FROM_FILES)
def test_missing_data_without_network_is_one_error_with_the_places_and_the_remedy(
    load: Any, tmp_path: Path
) -> None:
    with pytest.raises(CnnbenchError) as caught:
        load(data_dir=str(tmp_path))
    assert "cannot be reached" in caught.value.message
    assert all(str(folder) in caught.value.message for folder in (tmp_path, tmp_path / "keras_home/datasets"))
    assert "data_dir=" in caught.value.hint
    assert "CNNBENCH_DATA" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_missing_data_without_network_fails_before_tensorflow_is_imported(tmp_path: Path) -> None:
    code = """if True:
        import socket, sys
        def refuse(*args, **kwargs): raise OSError("no network")
        socket.create_connection = refuse
        from cnnbench.data.sources.mnist import mnist
        from cnnbench.errors import CnnbenchError
        try:
            mnist()
        except CnnbenchError:
            sys.exit("tensorflow" in sys.modules or "keras" in sys.modules)
    """
    environment = {"CNNBENCH_DATA": str(tmp_path), "KERAS_HOME": str(tmp_path)}
    assert run_python(code, **environment).returncode == 0


def test_reading_local_files_does_not_import_tensorflow(tmp_path: Path) -> None:
    write_everything(tmp_path)
    code = """if True:
        import sys
        from cnnbench.data.sources import cifar, digits, mnist, synthetic, tables
        assert "sklearn" not in sys.modules
        cifar.cifar10(), cifar.cifar100(), mnist.mnist(), mnist.fashion_mnist()
        assert "sklearn" not in sys.modules
        tables.california_housing(), tables.diabetes(), digits.digits(), synthetic.synthetic()
        assert "tensorflow" not in sys.modules and "keras" not in sys.modules
    """
    result = run_python(code, CNNBENCH_DATA=str(tmp_path))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("key", ["data_dir", "CNNBENCH_DATA"])
def test_folder_that_does_not_exist_is_refused(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "missing")
    if key == "CNNBENCH_DATA":
        monkeypatch.setenv(key, missing)
    with pytest.raises(CnnbenchError, match=f"{key}=.*missing is not a folder"):
        mnist(data_dir=missing if key == "data_dir" else None)


def test_folders_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / name for name in ("given", "environment", "keras_home/datasets", "debian")]
    for size, place in zip((11, 12, 13, 14), places, strict=True):
        write_idx_folder(place / "fashion-mnist", train=size)
    monkeypatch.setenv("CNNBENCH_DATA", str(places[1]))
    assert len(fashion_mnist(data_dir=str(places[0])).train) == 11
    assert len(fashion_mnist().train) == 12
    monkeypatch.delenv("CNNBENCH_DATA")
    assert len(fashion_mnist().train) == 13
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "elsewhere"))
    assert len(fashion_mnist().train) == 14


def test_data_from_elsewhere_than_data_dir_are_noted(tmp_path: Path) -> None:
    write_idx_folder(tmp_path / "debian" / "fashion-mnist")
    (tmp_path / "given").mkdir()
    (note,) = fashion_mnist(data_dir=str(tmp_path / "given")).notes
    assert str(tmp_path / "debian") in note
    assert fashion_mnist().notes == ()


def test_incomplete_folder_is_passed_over_and_named_when_nothing_else_is_there(tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "keras_home/datasets/fashion-mnist")
    (folder / f"{IDX_FILES[3]}.gz").unlink()
    with pytest.raises(CnnbenchError, match=f"lacks fashion-mnist/{IDX_FILES[3]}.gz"):
        fashion_mnist()
    write_idx_folder(tmp_path / "debian" / "fashion-mnist", train=17)
    assert len(fashion_mnist().train) == 17


def get_file(fname: str, cache_dir: str) -> None:
    """As Keras's, which `load_data` below calls by its global name."""
    folder = Path(cache_dir) / "datasets"
    folder.mkdir(parents=True)
    write_mnist_npz(folder)


def load_data() -> None:
    get_file("mnist.npz")  # type: ignore[call-arg]  the folder is given by whoever wants it elsewhere


@pytest.fixture
def keras_mnist(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Replace Keras's download by a function; a network is there."""
    mnist_module = type("mnist", (), {"load_data": staticmethod(load_data)})
    monkeypatch.setattr(fetch, "can_connect", lambda host: True)
    monkeypatch.setattr(fetch, "import_module", lambda name: type("datasets", (), {"mnist": mnist_module}))
    return lambda download: monkeypatch.setitem(globals(), "get_file", download)


def test_download_is_left_to_keras_and_read_from_its_folder(
    keras_mnist: Callable[..., None], tmp_path: Path
) -> None:
    assert len(mnist().train) == 20
    assert (tmp_path / "keras_home/datasets/mnist.npz").is_file()
    assert not (tmp_path / "keras_home/.download").exists()


def test_failed_download_is_one_error_with_the_reason(keras_mnist: Callable[..., None]) -> None:
    def fail(fname: str, cache_dir: str) -> None:
        raise Exception("URL fetch failure:\n 503")  # noqa: TRY002  what Keras raises

    keras_mnist(fail)
    with pytest.raises(CnnbenchError, match="download failed: URL fetch failure: 503"):
        mnist()


def test_a_download_cut_short_is_never_taken_for_the_file(
    keras_mnist: Callable[..., None], tmp_path: Path
) -> None:
    whole = get_file

    def killed(fname: str, cache_dir: str) -> None:
        path = Path(cache_dir) / "datasets" / fname
        path.parent.mkdir(parents=True)
        path.write_bytes(b"PK\x03\x04 the first bytes")
        raise KeyboardInterrupt

    keras_mnist(killed)
    with pytest.raises(KeyboardInterrupt):
        mnist()
    assert not (tmp_path / "keras_home/datasets/mnist.npz").exists()
    left = tmp_path / "keras_home/.download/datasets"  # as `kill -9` leaves it
    left.mkdir(parents=True)
    (left / "mnist.npz").write_bytes(b"PK\x03\x04 the first bytes")
    keras_mnist(whole)
    assert len(mnist().train) == 20


def test_two_at_once_download_once(keras_mnist: Callable[..., None]) -> None:
    whole, downloads, waits = get_file, [], threading.Event()

    class Waits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for another process" in record.getMessage():
                waits.set()

    def slow(fname: str, cache_dir: str) -> None:
        downloads.append(fname)
        assert waits.wait(30)
        whole(fname, cache_dir)

    keras_mnist(slow)
    log = logging.getLogger("cnnbench")
    level, handler = log.level, Waits()
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        with ThreadPoolExecutor(2) as pool:
            sizes = [len(data.train) for data in pool.map(lambda _: mnist(), range(2))]
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert (sizes, downloads) == ([20, 20], ["mnist.npz"])


def test_download_modules_named_here_exist_in_keras() -> None:
    keras_datasets = import_module("keras.datasets")
    for name in ("mnist", "fashion_mnist", "cifar10", "cifar100", "california_housing"):
        assert callable(getattr(keras_datasets, name).load_data)


class TestConnectionCheck:
    # The fixture replaces files.can_connect; this is the real one.
    can_connect = staticmethod(fetch.can_connect)

    def test_a_slow_name_lookup_does_not_hold_it_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        released = threading.Event()

        def hang(*args: Any, **kwargs: Any) -> None:
            released.wait(30)
            raise OSError

        monkeypatch.setattr(fetch, "CONNECT_SECONDS", 0.05)
        monkeypatch.setattr(socket, "create_connection", hang)
        monkeypatch.setattr(fetch.urllib.request, "getproxies", dict)
        assert not self.can_connect("data.invalid")
        released.set()

    def test_behind_a_proxy_the_proxy_is_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def connect(address: tuple[str, int], timeout: float) -> socket.socket:
            asked.append(address)
            return socket.socket()

        monkeypatch.setattr(socket, "create_connection", connect)
        monkeypatch.setattr(
            fetch.urllib.request, "getproxies", lambda: {"https": "http://proxy.invalid:3128"}
        )
        monkeypatch.setattr(fetch.urllib.request, "proxy_bypass", lambda host: False)
        assert self.can_connect("data.invalid")
        assert asked == [("proxy.invalid", 3128)]


# ---------------------------------------------------------------- idx and npz


def test_mnist_is_read_from_npz(tmp_path: Path) -> None:
    write_mnist_npz(tmp_path)
    dataset = mnist(data_dir=str(tmp_path))
    assert dataset.input_shape == (28, 28, 1)
    assert dataset.train.x.dtype == np.uint8
    np.testing.assert_array_equal(dataset.train.x[..., 0], images(20, 28, 28))
    assert (len(dataset.train), len(dataset.test), dataset.outputs) == (20, 10, 10)


@pytest.mark.parametrize(("folder", "packed"), [("mnist", True), ("MNIST/raw", False)])
def test_mnist_is_read_from_idx_files(folder: str, packed: bool, tmp_path: Path) -> None:
    write_idx_folder(tmp_path / folder, packed=packed)
    dataset = mnist(data_dir=str(tmp_path))
    np.testing.assert_array_equal(dataset.train.x[..., 0], images(30, 28, 28))
    np.testing.assert_array_equal(dataset.test.y, np.arange(10))


def test_mnist_npz_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=np.array([{}], dtype=object))
    with pytest.raises(CnnbenchError, match=r"mnist\.npz cannot be read"):
        mnist(data_dir=str(tmp_path))


def test_npz_that_lacks_an_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=images(3, 28, 28))
    with pytest.raises(CnnbenchError, match=r"mnist\.npz cannot be read.*y_train"):
        mnist(data_dir=str(tmp_path))


@pytest.mark.parametrize("kept", [0, 3, 100, 2000])
def test_cut_off_npz_is_named(kept: int, tmp_path: Path) -> None:
    path = write_mnist_npz(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CnnbenchError, match=r"mnist\.npz cannot be read"):
        mnist(data_dir=str(tmp_path))


@pytest.mark.parametrize("kept", [0, 5, 300])
def test_cut_off_gzip_file_is_named(kept: int, tmp_path: Path) -> None:
    path = write_idx_folder(tmp_path / "fashion-mnist") / f"{IDX_FILES[0]}.gz"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CnnbenchError, match=f"{IDX_FILES[0]}.gz cannot be read"):
        fashion_mnist(data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "data",
    [
        b"<html>not here</html>",
        idx_bytes(images(3, 28, 28))[:-1],
        idx_bytes(images(3, 28, 28)) + b"x",
        b"\0\0\x08\x03\0\0",
        b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0",
    ],
    ids=["no idx", "too short", "too long", "header only", "floats"],
)
def test_file_that_is_not_what_its_header_says_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file-idx"
    path.write_bytes(data)
    with pytest.raises(CnnbenchError, match="file-idx cannot be read"):
        read_idx(path)


def test_labels_in_the_place_of_images_are_refused(tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "mnist")
    (folder / f"{IDX_FILES[0]}.gz").write_bytes((folder / f"{IDX_FILES[1]}.gz").read_bytes())
    with pytest.raises(CnnbenchError, match=IDX_FILES[0]):
        mnist(data_dir=str(tmp_path))


def test_unreadable_file_is_a_matter_of_permissions_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx_folder(tmp_path / "mnist")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(gzip, "open", refuse)
    with pytest.raises(CnnbenchError, match=r"may not be read: Permission denied.*permissions"):
        mnist(data_dir=str(tmp_path))


@pytest.mark.parametrize("failure", ["gone", "folder", "disk", "permission"])
@pytest.mark.parametrize(
    ("load", "name"),
    [
        (mnist, "mnist.npz"),
        (fashion_mnist, f"fashion-mnist/{IDX_FILES[1]}.gz"),
        (cifar10, "cifar-10-batches-py/data_batch_2"),
        (california_housing, "california_housing.npz"),
    ],
)
def test_a_file_that_changes_between_finding_and_reading_is_one_error_that_names_it(
    load: Any, name: str, failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_everything(tmp_path)
    path = tmp_path / name
    real_find, real_open = fetch.find, open

    def find_and_change(source: fetch.Source, data_dir: str | None) -> fetch.Found:
        found = real_find(source, data_dir)
        if failure in ("gone", "folder"):
            path.unlink()
        if failure == "folder":
            path.mkdir()
        return found

    def refuse(file: Any, *args: Any, **kwargs: Any) -> Any:
        if Path(file) == path and failure == "disk":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if Path(file) == path and failure == "permission":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real_open(file, *args, **kwargs)

    monkeypatch.setattr(sys.modules[load.__module__], "find", find_and_change)
    monkeypatch.setattr("io.open", refuse)  # what Path.open calls
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CnnbenchError) as caught:
        load(data_dir=str(tmp_path))
    reason = {
        "gone": "cannot be read: it is not there",
        "folder": "cannot be read: it is a folder",
        "disk": "cannot be read: Input/output error",
        "permission": "may not be read: Permission denied",
    }[failure]
    assert caught.value.message.startswith(f"{path} {reason}")
    assert "fetch it again" not in caught.value.hint  # it is no matter of a damaged download


def test_another_file_by_the_name_of_an_archive_is_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(pickle.dumps({"x_train": 1}))
    with pytest.raises(CnnbenchError, match=r"mnist\.npz cannot be read: it is no whole \.npz archive"):
        mnist(data_dir=str(tmp_path))


def test_more_labels_than_images_name_the_file(tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "mnist")
    labels = gzip.compress(idx_bytes(np.zeros(31, np.uint8)))
    (folder / f"{IDX_FILES[1]}.gz").write_bytes(labels)
    with pytest.raises(CnnbenchError, match=rf"{IDX_FILES[0]}\.gz cannot be read: .*\(30, 28, 28\).*\(31,\)"):
        mnist(data_dir=str(tmp_path))


def test_a_header_with_more_axes_than_numpy_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "idx").write_bytes(bytes([0, 0, 8, 65]) + bytes(4 * 65))
    with pytest.raises(CnnbenchError, match="not an idx file"):
        read_idx(tmp_path / "idx")


def test_fashion_mnist_split_of_the_training_images_is_scikit_learns(tmp_path: Path) -> None:
    from sklearn.model_selection import train_test_split

    write_idx_folder(tmp_path / "fashion-mnist", train=50, test=10)
    dataset = fashion_mnist(data_dir=str(tmp_path), test_size=0.2)
    x, y = images(50, 28, 28), np.arange(50) % 10
    _, x_test, y_train, _ = train_test_split(x, y, test_size=0.2, random_state=42)
    assert (len(dataset.train), len(dataset.test)) == (40, 10)
    np.testing.assert_array_equal(dataset.test.x[..., 0], x_test)
    np.testing.assert_array_equal(dataset.train.y, y_train)
    other = fashion_mnist(data_dir=str(tmp_path), test_size=0.2, split_seed=1)
    assert other.fingerprint != dataset.fingerprint


def test_fashion_mnist_split_that_leaves_nothing_is_one_error(tmp_path: Path) -> None:
    write_idx_folder(tmp_path / "fashion-mnist")
    with pytest.raises(CnnbenchError, match=r"test_size=0\.999"):
        fashion_mnist(data_dir=str(tmp_path), test_size=0.999)


# ---------------------------------------------------------------- CIFAR


@pytest.mark.parametrize("parent", ["", "cifar-10-batches-py-target"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_cifar10_is_read_in_every_pickle_dialect(
    parent: str, protocol: int, as_bytes: bool, tmp_path: Path
) -> None:
    write_cifar10(tmp_path / parent, protocol=protocol, as_bytes=as_bytes)
    dataset = cifar10(data_dir=str(tmp_path))
    assert dataset.train.x.shape == (20, 32, 32, 3)
    assert dataset.test.x.shape == (4, 32, 32, 3)
    assert dataset.train.x.dtype == np.uint8
    assert dataset.train.x.flags.c_contiguous
    assert dataset.train.y.shape == (20,)
    # The second batch follows the first, and planes of colour have become channels.
    second = images(4, 3072, seed=1)
    np.testing.assert_array_equal(dataset.train.x[4, :, :, 1].ravel(), second[0, 1024:2048])


def test_cifar_pickle_of_python_2_is_read_without_a_warning(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path, n=5)
    pixels = images(5, 3072, seed=9)
    (folder / "test_batch").write_bytes(python2_batch(pixels))
    dataset = cifar10(data_dir=str(tmp_path))
    np.testing.assert_array_equal(dataset.test.x[:, :, :, 2].reshape(5, -1), pixels[:, 2048:])


def test_cifar100_has_fine_labels_and_hundred_names(tmp_path: Path) -> None:
    write_cifar100(tmp_path / "cifar-100-python-target")
    dataset = cifar100(data_dir=str(tmp_path))
    assert dataset.outputs == len(set(CIFAR100_CLASSES)) == 100
    np.testing.assert_array_equal(dataset.train.y, np.arange(12) % 10)


class Foreign:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "foreign", [Foreign(os.mkdir, "harm"), Foreign(eval, "1"), Foreign(getattr, "a", "upper")]
)
def test_cifar_pickle_with_foreign_class_is_refused(
    foreign: Foreign, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cifar10(tmp_path)
    monkeypatch.chdir(tmp_path)
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": foreign}, protocol=protocol))
    with pytest.raises(CnnbenchError, match=r"data_batch_3 is refused: it wants to call \w+\.\w+"):
        cifar10(data_dir=str(tmp_path))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"data": np.array([[None] * 3072]), "labels": [0]},
        {"data": images(4, 3071), "labels": [0] * 4},
        {"data": images(4, 3072).astype(np.float32), "labels": [0] * 4},
        {"data": images(4, 3072), "labels": [0] * 3},
        {"data": images(4, 3072), "labels": [0, 1, 2, 300]},
        {"data": images(4, 3072), "labels": np.array([0, 1, 2, 256])},
        {"data": images(4, 3072), "labels": np.array([0, 1, 2, -1])},
        {"data": images(4, 3072), "labels": [0, 1, 2, 0.5]},
        {"data": images(4, 3072), "labels": [0, 1, 2, [3]]},
        {"data": images(4, 3072)},
        {"data": images(3, 3072), "labels": [0] * 3},
        {"labels": [0] * 4},
        [1, 2, 3],
    ],
    ids=[
        "objects",
        "columns",
        "floats",
        "few labels",
        "label 300",
        "label 256",
        "label -1",
        "label 0.5",
        "label [3]",
        "no labels",
        "short batch",
        "no data",
        "list",
    ],
)
def test_cifar_batch_with_wrong_content_is_named(content: Any, tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path)
    (folder / "data_batch_2").write_bytes(pickle.dumps(content))
    with pytest.raises(CnnbenchError, match="data_batch_2 cannot be read"):
        cifar10(data_dir=str(tmp_path))


def test_a_damaged_pickle_cannot_ask_for_gigabytes(tmp_path: Path) -> None:
    """LONG_BINPUT stores at an index: an unpickler that keeps a list fills it up to there."""
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02}r" + struct.pack("<I", 2**32 - 1) + b".")
    code = f"""if True:
        import resource
        from pathlib import Path
        from cnnbench.data.reading import read_pickle
        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
        assert read_pickle(Path({str(path)!r})) == {{}}
    """
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_cifar_batch_cut_off_anywhere_is_named(tmp_path: Path) -> None:
    path = write_cifar10(tmp_path) / "test_batch"
    data = path.read_bytes()
    for kept in [*range(0, 200, 7), len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:kept])
        with pytest.raises(CnnbenchError, match="test_batch cannot be read"):
            cifar10(data_dir=str(tmp_path))


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(("version", "sizes"), [("large", (560, 140)), ("small", (480, 120))])
def test_california_split_equals_keras(
    version: Any, sizes: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_california(tmp_path)
    keras_module = import_module("keras.src.datasets.california_housing")
    monkeypatch.setattr(keras_module, "get_file", lambda *args, **kwargs: str(path))
    (x_train, y_train), (x_test, y_test) = keras_module.load_data(version)
    dataset = california_housing(data_dir=str(tmp_path), version=version, target_unit=1.0)
    assert (len(dataset.train), len(dataset.test)) == sizes
    for ours, theirs in (
        (dataset.train.x, x_train),
        (dataset.train.y, y_train),
        (dataset.test.x, x_test),
        (dataset.test.y, y_test),
    ):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == np.float32


def test_california_target_unit_divides_the_dollars(tmp_path: Path) -> None:
    write_california(tmp_path)
    dollars = california_housing(data_dir=str(tmp_path), target_unit=1.0).test.y
    units = california_housing(data_dir=str(tmp_path), target_unit=100_000.0).test.y
    np.testing.assert_allclose(units, dollars / 1e5, rtol=1e-6)


@pytest.mark.parametrize("ratios", [True, False])
def test_california_rows_that_are_not_finite_are_named_without_a_warning(
    ratios: bool, tmp_path: Path
) -> None:
    for value in (np.nan, np.inf, 1e300):
        write_california(tmp_path, x=np.full((700, 8), value))
        with pytest.raises(CnnbenchError, match=r"560 of 560 examples .*the first is example 0 \(column 0"):
            california_housing(data_dir=str(tmp_path), ratios=ratios)


@pytest.mark.parametrize(
    "replaced",
    [
        {"x": np.zeros(700)},
        {"x": np.zeros((700, 5))},
        {"y": np.zeros((700, 1))},
        {"x": np.full((700, 8), "a")},
    ],
)
def test_california_file_with_wrong_arrays_is_named(replaced: dict[str, np.ndarray], tmp_path: Path) -> None:
    write_california(tmp_path, **replaced)
    with pytest.raises(CnnbenchError, match=r"california_housing\.npz cannot be read"):
        california_housing(data_dir=str(tmp_path))


def test_diabetes_is_unscaled_float32() -> None:
    dataset = diabetes()
    assert (dataset.train.x.shape, dataset.test.x.shape) == ((353, 10), (89, 10))
    assert dataset.train.x.dtype == dataset.train.y.dtype == np.float32
    assert dataset.train.x[:, 0].max() > 50  # age in years
    assert dataset.fingerprint == diabetes().fingerprint


# ---------------------------------------------------------------- digits and generated images


def test_digits_fill_the_range_of_a_byte_and_every_split_has_every_class() -> None:
    dataset = digits()
    assert (dataset.train.x.shape, dataset.test.x.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert dataset.train.x.dtype == np.uint8
    assert dataset.train.x.max() == 240
    assert np.bincount(dataset.test.y).min() >= 34
    assert dataset.fingerprint == digits().fingerprint


def test_synthetic_equal_arguments_give_equal_bytes_and_another_seed_others() -> None:
    assert synthetic(seed=3).fingerprint == synthetic(seed=3).fingerprint
    assert synthetic(seed=3).fingerprint != synthetic(seed=4).fingerprint


@pytest.mark.parametrize(("classes", "task", "outputs"), [(2, "binary", 1), (3, "multiclass", 3)])
def test_synthetic_task_follows_the_number_of_classes(classes: int, task: str, outputs: int) -> None:
    dataset = synthetic(examples=50, classes=classes)
    assert (dataset.task, dataset.outputs) == (task, outputs)


@pytest.mark.parametrize("size", [4, 5, 17, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_synthetic_images_have_the_size_asked_for_and_balanced_classes(size: int, channels: int) -> None:
    dataset = synthetic(examples=101, classes=7, size=size, channels=channels)
    assert dataset.train.x.shape == (81, size, size, channels)
    assert dataset.train.x.dtype == np.uint8
    for split in dataset.splits.values():
        counts = np.bincount(split.y, minlength=7)
        assert counts.max() - counts.min() <= 1


def test_synthetic_images_made_in_several_blocks_are_all_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnbench.data.sources.synthetic.BLOCK_VALUES", 16 * 16 * 7)
    assert (synthetic(examples=100).train.x.std(axis=(1, 2, 3)) > 5).all()


def test_synthetic_too_few_examples_for_the_classes_is_one_error() -> None:
    with pytest.raises(CnnbenchError, match=r"classes=10.*examples=50 or more"):
        synthetic(examples=49, classes=10)
    assert len(synthetic(examples=50, classes=10).test) == 10


@pytest.mark.parametrize("options", [{}, {"classes": 2}, {"classes": 10, "size": 32, "channels": 3}])
def test_synthetic_classes_can_be_learnt(options: dict[str, int]) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    dataset = synthetic(**options)
    flat = {name: split.x.reshape(len(split), -1).astype(float) for name, split in dataset.splits.items()}
    score = KNeighborsClassifier(3).fit(flat["train"], dataset.train.y).score(flat["test"], dataset.test.y)
    assert score > 0.9


# ---------------------------------------------------------------- conf/dataset


def read_yaml(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((DATASET_YAML / f"{name}.yaml").read_text(encoding="utf-8"))
    return config


def target(config: dict[str, Any]) -> Any:
    module, _, function = config["_target_"].rpartition(".")
    return getattr(import_module(module), function)


@pytest.mark.parametrize("name", OWN_YAML)
def test_yaml_begins_with_a_description_and_names_every_argument_with_a_valid_value(name: str) -> None:
    first = (DATASET_YAML / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) <= 90
    config = read_yaml(name)
    function = target(config)
    hints = {
        key: hint for key, hint in get_type_hints(function, include_extras=True).items() if key != "return"
    }
    only_told = {"task", "_target_"} - hints.keys()  # some take the task, of others it is known
    arguments = {key: value for key, value in config.items() if key not in only_told}
    assert arguments.keys() == hints.keys()
    for key, value in arguments.items():
        TypeAdapter(hints[key]).validate_python(value)


@pytest.mark.parametrize("name", OWN_YAML)
def test_yaml_task_is_that_of_the_data_set(name: str, tmp_path: Path) -> None:
    write_everything(tmp_path)
    config = read_yaml(name)
    arguments = {key: value for key, value in config.items() if key not in ("task", "_target_")}
    if "data_dir" in arguments:
        assert arguments["data_dir"] == "${data_dir}"
        arguments["data_dir"] = str(tmp_path)
    dataset = target(config)(**arguments)
    assert isinstance(dataset, Dataset)
    assert (config.get("task") or dataset.task) == dataset.task


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (synthetic, {"classes": 1}),
        (synthetic, {"noise": -0.1}),
        (synthetic, {"size": "abc"}),
        (fashion_mnist, {"test_size": 1.0}),
        (california_housing, {"version": "medium"}),
        (california_housing, {"target_unit": 0}),
    ],
)
def test_values_out_of_range_are_caught_by_the_annotations(function: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        validate_call(function)(**arguments)


# ---------------------------------------------------------------- the real files


def load_real(load: Any, **arguments: Any) -> Dataset:
    try:
        return load(**arguments)  # type: ignore[no-any-return]
    except CnnbenchError as error:
        if "was not found" in error.message:
            pytest.skip(error.message)
        raise


@pytest.mark.real_data
def test_real_cifar10_has_the_published_channel_means() -> None:
    dataset = load_real(cifar10)
    assert dataset.train.x.shape == (50000, 32, 32, 3)
    assert dataset.test.x.shape == (10000, 32, 32, 3)
    means = dataset.train.x.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(means, (0.4914, 0.4822, 0.4465), atol=1e-4)
    assert np.bincount(dataset.train.y).tolist() == [5000] * 10


@pytest.mark.real_data
def test_real_fashion_mnist_has_both_splits() -> None:
    dataset = load_real(fashion_mnist)
    assert dataset.train.x.shape == (60000, 28, 28, 1)
    assert dataset.test.x.shape == (10000, 28, 28, 1)
    assert np.bincount(dataset.train.y).tolist() == [6000] * 10
    own = fashion_mnist(test_size=0.2)
    assert (len(own.train), len(own.test)) == (48000, 12000)


@pytest.mark.real_data
@pytest.mark.parametrize(("version", "sizes"), [("large", (16512, 4128)), ("small", (480, 120))])
def test_real_california_housing_has_keras_sizes(version: str, sizes: tuple[int, int]) -> None:
    dataset = load_real(california_housing, version=version, target_unit=100_000.0)
    assert (len(dataset.train), len(dataset.test)) == sizes
    assert 0.1 < dataset.train.y.min() < dataset.train.y.max() < 5.1
