"""Files that are whole or absent, what reads them, and where this user's cache is."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from cnnbench.errors import CnnbenchError


def now() -> str:
    """The time as every file here has it: ISO 8601, UTC, whole seconds."""
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
def atomic(path: Path, mode: str = "w") -> Iterator[Any]:
    """Open a temporary file beside `path` that takes its place at the end, or goes if anything fails."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        with open(temporary, mode, **text) as file:  # type: ignore[call-overload]  # noqa: PTH123
            yield file
            sync(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_whole(path: Path, save: Callable[[Path], object]) -> None:
    """As `atomic`, for what writes to a path of its own, and looks at its suffix as Keras does."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
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
    """Write a file that the user has named.

    Raises:
        CnnbenchError: it cannot be written.
    """
    try:
        with atomic(path) as file:
            file.write(text)
    except OSError as error:
        raise CnnbenchError(f"cannot write {path}: {error.strerror or error}", "name another file") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic(path) as file:
        json.dump(plain(content), file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_json(path: Path) -> dict[str, Any]:
    """The file's content; empty where there is none.

    Raises:
        CnnbenchError: it is damaged.
    """
    try:
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
    """Every whole line, a process may have died in the middle of one; empty where there is no file.

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
    """Every array of an .npz file; empty where there is none.

    Raises:
        CnnbenchError: it is damaged, or holds Python objects.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged_file(path, error) from error


class _PlainLoader(yaml.SafeLoader):
    """No references: nothing here writes them, and ten lines of them make a billion values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it refers to parts of itself")
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """The file's content.

    Raises:
        CnnbenchError: it is damaged, or names Python objects.
    """
    return parsed_yaml(path, load_yaml)


def load_yaml(text: str) -> Any:
    return yaml.load(text, _PlainLoader)


def parsed_yaml(path: Path, load: Callable[[str], Any]) -> Any:
    """What `load` makes of the file; errors as of `read_yaml`."""
    try:
        return load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable_file(path, error) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise damaged_file(path, error) from error


def plain(value: Any) -> Any:
    """Numpy to Python, and NaN or infinity to null, since JSON has neither."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def default_cache_dir() -> Path:
    """Return CNNBENCH_CACHE, else the place where this system's programs keep what they can make again."""
    if given := os.environ.get("CNNBENCH_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "cnnbench" / "Cache"
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "cnnbench"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else _home() / ".cache") / "cnnbench"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # a container's user without an entry
        raise CnnbenchError(
            "this user has no home folder to keep decoded images in", "set CNNBENCH_CACHE=FOLDER"
        ) from error
