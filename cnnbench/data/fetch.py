"""Where the files of a data set are looked for, and how they are downloaded: whole or absent."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cnnbench.data.reading import reading
from cnnbench.errors import CnnbenchError, one_line
from cnnbench.system import locked

DEBIAN_FOLDER = Path("/usr/share/datasets")
CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class Layout:
    """One way in which people have the data set on disk.

    Attributes:
        shown: how messages name it, e.g. ``fashion-mnist/*.gz``.
        files: paths relative to a data folder, all needed, in the order in which the reader takes them.
    """

    shown: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A data set that lies in files.

    Attributes:
        name: as people write it.
        layouts: in the order of preference.
        keras_name: the module of `keras.datasets` that downloads it.
        host: where that module downloads from.
        remedy: one more way to get it, for the hint; may be empty.
    """

    name: str
    layouts: tuple[Layout, ...]
    keras_name: str
    host: str
    remedy: str = ""


@dataclass(frozen=True)
class Found:
    """The files of one layout, and what the user should know about where they came from."""

    layout: Layout
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def find(source: Source, data_dir: str | None) -> Found:
    """Return the files of `source`: from a local folder if any has them, else from Keras's download.

    The folders are those of `search_folders`; the first that holds a complete layout is taken.

    Raises:
        CnnbenchError: `data_dir` is not a folder; or there is no complete copy and no download.
            Without a network this is known within seconds and before TensorFlow is imported.
    """
    folders = search_folders(data_dir)
    found = _find_in(folders, source, data_dir)
    if found is not None:
        return found
    return _download(source, folders)


def search_folders(data_dir: str | None) -> list[Path]:
    """Return the folders to look in, in order: `data_dir`, CNNBENCH_DATA, Keras's, Debian's.

    Raises:
        CnnbenchError: one of the first two is given and is not a folder.
    """
    folders = []
    for key, value in (("data_dir", data_dir), ("CNNBENCH_DATA", os.environ.get("CNNBENCH_DATA"))):
        if value:
            folder = Path(value).expanduser()
            with reading(folder):
                exists = folder.is_dir()
            if not exists:
                raise CnnbenchError(
                    f"{key}={value} is not a folder", hint=f"give {key} the folder that holds the data sets"
                )
            folders.append(folder)
    return list(dict.fromkeys([*folders, keras_home() / "datasets", DEBIAN_FOLDER]))


def can_connect(host: str) -> bool:
    """Tell whether `host`, or the proxy that leads to it, takes a connection within three seconds."""
    address = (host, 443)
    proxy = urllib.request.getproxies().get("https")
    if proxy and not urllib.request.proxy_bypass(host):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        address = (parts.hostname or host, parts.port or 443)
    connected = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=CONNECT_SECONDS).close()
        except OSError:
            return
        connected.set()

    # In a thread because the timeout covers neither the name look-up nor a second address.
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(CONNECT_SECONDS)
    return connected.is_set()


def _find_in(folders: list[Path], source: Source, data_dir: str | None) -> Found | None:
    for folder in folders:
        for layout in source.layouts:
            paths = tuple(folder / file for file in layout.files)
            with reading(folder):
                complete = all(path.is_file() for path in paths)
            if complete:
                elsewhere = data_dir and folder != Path(data_dir).expanduser()
                notes = (f"{source.name} is not in data_dir={data_dir}; read from {folder}",)
                return Found(layout, paths, notes if elsewhere else ())
    return None


def _download(source: Source, folders: list[Path]) -> Found:
    wanted = " or ".join(layout.shown for layout in source.layouts)
    looked = f"{source.name} was not found: no complete {wanted} in {', '.join(map(str, folders))}"
    if incomplete := _incomplete(source, folders):
        looked += f" ({incomplete})"
    if not can_connect(source.host):
        raise CnnbenchError(
            f"{looked}; and {source.host} cannot be reached to download it", hint=_remedy(source)
        )
    home = writable_home()
    load_data = getattr(import_module("keras.datasets"), source.keras_name).load_data  # imports TensorFlow
    try:
        with fetching(home) as place:
            if _find_in([home / "datasets"], source, None) is None:  # nobody was faster
                with keras_downloads_to(place, load_data):
                    load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        reason = one_line(error)
        raise CnnbenchError(f"{looked}; and Keras's download failed: {reason}", _remedy(source)) from error
    found = _find_in([home / "datasets"], source, None)
    if found is None:
        raise CnnbenchError(
            f"{source.name}: Keras's download ended, but left nothing in {home / 'datasets'}", _remedy(source)
        )
    return found


def _incomplete(source: Source, folders: list[Path]) -> str:
    """Return what the first partly present layout lacks; nothing where no folder has a part of one."""
    for folder in folders:
        for layout in source.layouts:
            missing = [file for file in layout.files if not (folder / file).is_file()]
            if len(missing) < len(layout.files):
                return f"{folder} lacks {', '.join(missing)}"
    return ""


def _remedy(source: Source) -> str:
    remedy = (
        f"put {source.layouts[0].shown} into a folder and set data_dir=FOLDER or CNNBENCH_DATA=FOLDER, "
        f"or run once with a network"
    )
    return f"{remedy}, or {source.remedy}" if source.remedy else remedy


# -- Downloads -------------------------------------------------------------------------------------


def keras_home() -> Path:
    """Return the folder where Keras keeps its files; it may not exist yet."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def writable_home() -> Path:
    """Return `keras_home` where it can be written; else the folder that Keras silently takes."""
    home = keras_home()
    temporary = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:  # as on a disk that is read-only
        return temporary / ".keras"
    return home if os.access(home, os.W_OK) else temporary / ".keras"


@contextmanager
def fetching(home: Path) -> Iterator[Path]:
    """Give an empty folder to download into; what is in it at the end is moved to `home`.

    Keras writes a file under its final name from the first byte on, where another process would take it for
    the whole, as would the next run if this process were killed. Who comes second waits, and must look
    again whether there is still something to fetch.

    Raises:
        OSError: `home` cannot be written.
    """
    home.mkdir(parents=True, exist_ok=True)
    with locked(home / ".download.lock"):
        place = home / ".download"
        shutil.rmtree(place, ignore_errors=True)  # of a process that died
        place.mkdir()
        try:
            yield place
            for file in sorted(path for path in place.rglob("*") if path.is_file()):
                target = home / file.relative_to(place)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def keras_downloads_to(place: Path, load_data: Callable[[], object]) -> Iterator[None]:
    """Let a `load_data` of `keras.datasets`, which has no argument for it, keep its files in `place`."""
    namespace: dict[str, Any] = load_data.__globals__
    download = namespace["get_file"]
    namespace["get_file"] = partial(download, cache_dir=str(place))
    try:
        yield
    finally:
        namespace["get_file"] = download
