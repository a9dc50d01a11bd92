"""Files that are whole or absent, what reads them, and where this user's cache is."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import socket
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import platformdirs
import yaml

from cnnbench.errors import CnnbenchError

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("cnnbench")
TEMPORARY = re.compile(r"\..*\.(\d{1,9})(?:-([0-9a-f]{8}))?\.tmp(\..*)?")
DEVICES = ("/dev", "/proc")
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # several times faster, where PyYAML was built with it
WINDOWS = os.name == "nt"
WINDOWS_LENGTH = 259  # characters of a path
# What some system refuses in a name, and the names that Windows keeps for devices, whatever the ending.
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
DEVICE_NAMES = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³])(\..*)?", re.IGNORECASE)
NAME_LENGTH = 120
_warned: set[str] = set()  # once a process


def now() -> str:
    """Return the time as every file here has it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def unwritable(path: Path, error: OSError) -> CnnbenchError:
    return CnnbenchError(
        f"cannot write to {path}: {error.strerror or error}", "choose another folder with run_dir=…"
    )


def damaged_file(path: Path, reason: object) -> CnnbenchError:
    return CnnbenchError(f"{path} is damaged: {' '.join(str(reason).split())}")


def unreadable_file(path: Path, error: OSError) -> CnnbenchError:
    return CnnbenchError(f"cannot read {path}: {error.strerror or error}")


@contextmanager
def atomic(path: Path, mode: str = "w", lasting: bool = True) -> Iterator[Any]:
    """Open a temporary file beside `path` that takes its place at the end, or goes if anything fails.

    Args:
        path: of the whole file.
        mode: `w` or `wb`.
        lasting: wait for the disk, which what can be made again need not.
    """
    temporary = temporary_beside(path)
    try:
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        with open(temporary, mode, **text) as file:  # type: ignore[call-overload]  # noqa: PTH123
            yield file
            if lasting:
                sync(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_whole(path: Path, save: Callable[[Path], object]) -> None:
    """Do what `atomic` does, for a function that writes to a path and looks at its suffix, as Keras does."""
    temporary = temporary_beside(path)
    try:
        save(temporary)
        with temporary.open("rb") as file:
            sync(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync(file: IO[Any]) -> None:
    """Wait until the disk has it: a machine that dies later must not take it along."""
    file.flush()
    os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a file that the user has named; what a link leads to, and into a device or a pipe.

    Raises:
        CnnbenchError: it cannot be written.
    """
    try:
        if _is_written_through(path):
            with path.open("a", encoding="utf-8", newline="") as file:  # a pipe has no beginning to go to
                file.write(text)
        else:
            with atomic(Path(os.path.realpath(path))) as file:
                file.write(text)
    except OSError as error:
        raise CnnbenchError(f"cannot write {path}: {error.strerror or error}", "name another file") from error


def _is_written_through(path: Path) -> bool:
    """Tell whether a path names something that a new file must not replace."""
    if str(path.absolute()).startswith(DEVICES):  # maybe a file that our output goes to: /dev/stdout
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def portable_name(text: str) -> str:
    """Return a text as the name of a file or folder that every system accepts."""
    name = FORBIDDEN.sub("-", text)[:NAME_LENGTH].rstrip(" .") or "_"
    return f"_{name}" if DEVICE_NAMES.fullmatch(name) else name


def require_short_path(folder: Path, room: int) -> None:
    """Refuse a folder whose files would have paths that Windows does not open.

    Args:
        folder: of the files.
        room: characters that the longest path adds to it.

    Raises:
        CnnbenchError: this is Windows, and the path is too long.
    """
    length = len(os.path.abspath(folder))  # noqa: PTH100  resolve() would follow links
    if WINDOWS and length > WINDOWS_LENGTH - room:
        raise CnnbenchError(
            f"{folder} has {length} characters with the folders above it; Windows leaves room for "
            f"{WINDOWS_LENGTH - room}",
            "choose a shorter run_dir, such as run_dir=C:/runs/1",
        )


def require_posix(what: str) -> None:
    """Refuse what needs signals, pipes and processes that Windows has not.

    Raises:
        CnnbenchError: this is Windows.
    """
    if WINDOWS:
        raise CnnbenchError(f"{what} is not offered on Windows", "use it in WSL, on Linux or on macOS")


# -- Temporary files -------------------------------------------------------------------------------


def temporary_beside(path: Path) -> Path:
    """Return a name, of this process alone, for what replaces `path` when it is whole."""
    return path.with_name(f".{path.stem}.{os.getpid()}-{_host()}.tmp{path.suffix}")


def temporary_files(folder: Path) -> list[Path]:
    """List the temporary files and folders at or below a folder, whoever has made them."""
    return [path for path in folder.rglob(".*.tmp*") if TEMPORARY.fullmatch(path.name)]


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of processes of this machine that live no more; keep what may not be removed."""
    import psutil  # `--cfg job` removes nothing

    for path in temporary_files(folder):
        found = TEMPORARY.fullmatch(path.name)
        if found and found[2] in (None, _host()) and not psutil.pid_exists(int(found[1])):
            try:
                remove(path)
            except OSError as error:  # a folder that is only ours to read
                log.info("cannot remove %s: %s", path, error.strerror)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; fine where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _host() -> str:
    """Shorten the name of this machine: process numbers of another one say nothing here."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic(path) as file:
        json.dump(plain(content), file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a file; empty where there is none.

    Raises:
        CnnbenchError: it is damaged.
    """
    try:
        if path.exists() and not path.is_file():
            raise damaged_file(path, "it is a pipe, a device or a folder")
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise unreadable_file(path, error) from error
    except (ValueError, RecursionError) as error:
        raise damaged_file(path, error) from error
    return loaded if isinstance(loaded, dict) else {}


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line of JSON."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        sync(file)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return every whole line, since a process may have died in the middle of one; empty without a file.

    Raises:
        CnnbenchError: it is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable_file(path, error) from error
    except (ValueError, RecursionError) as error:
        raise damaged_file(path, error) from error
    if not all(isinstance(row, dict) for row in rows):
        raise damaged_file(path, "a line holds no mapping")
    return rows


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return every array of an .npz file; empty where there is none.

    Raises:
        CnnbenchError: it is damaged, or holds Python objects.
    """
    import numpy as np  # `--cfg job` reads no arrays

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged_file(path, error) from error


def load_yaml(text: str) -> Any:
    """Return what a text of YAML says.

    Raises:
        yaml.YAMLError: it is no YAML, names Python objects, or refers to parts of itself: no file of ours
            does, and ten lines of references make a billion values.
    """
    if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, YAML)):
        raise yaml.YAMLError("it refers to parts of itself")
    return yaml.load(text, YAML)


def read_yaml(path: Path) -> Any:
    """Return the file's content.

    Raises:
        CnnbenchError: it is damaged, or names Python objects.
    """
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable_file(path, error) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise damaged_file(path, error) from error


def plain(value: Any) -> Any:
    """Numpy and dataclasses to Python, and NaN or infinity to null, since JSON has none of them."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    return str(value) if isinstance(value, Path) else value


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- Places of this user -----------------------------------------------------------------------------


def default_cache_dir() -> Path:
    """Return CNNBENCH_CACHE, else the place where this system's programs keep what they can make again.

    Raises:
        CnnbenchError: this user has no home, or wants no cache.
    """
    if (given := os.environ.get("CNNBENCH_CACHE")) == "none":
        raise CnnbenchError("CNNBENCH_CACHE=none", "CNNBENCH_CACHE=FOLDER keeps one there")
    if given:
        return Path(os.path.expanduser(given))  # noqa: PTH111  which does not fail where there is no home
    return _place(platformdirs.user_cache_path)


def state_dir() -> Path:
    """Return the place where this system's programs keep what they must remember; errors as above."""
    former = Path(os.path.expanduser("~/.local/state/cnnbench"))  # noqa: PTH111  as above
    return former if sys.platform != "linux" and former.is_dir() else _place(platformdirs.user_state_path)


def _place(find: Callable[..., Path]) -> Path:
    try:
        path = find("cnnbench", appauthor=False)
    except RuntimeError:  # a container's user without an entry
        path = Path()
    if not path.is_absolute():  # as of versions that leave `~` where it is
        raise CnnbenchError("this user has no home folder to keep a cache in", "set CNNBENCH_CACHE=FOLDER")
    return path


def cache_folder(name: str = "") -> Path | None:
    """Return a folder of the cache, made where it is missing; None, and said once, where that cannot be."""
    try:
        folder = default_cache_dir() / name
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
        go_without_cache(f"{folder} cannot be written")
    except (CnnbenchError, OSError) as error:
        go_without_cache(error)
    return None


def go_without_cache(reason: object) -> None:
    """Say, once a process, that what would be kept for the next time is not."""
    if "cache" not in _warned:
        _warned.add("cache")
        log.warning("going on without a cache (%s); CNNBENCH_CACHE=FOLDER names another place", reason)
