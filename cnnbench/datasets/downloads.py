"""Downloads that are whole or absent, made by one process at a time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from cnnbench.datasets.locking import locked


def keras_home() -> Path:
    """Where Keras keeps its files; it may not exist yet."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def writable_home() -> Path:
    """The same where it can be written; else the folder that Keras then takes, without a word."""
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
