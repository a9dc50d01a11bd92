"""Reading files that may be damaged: every failure names the file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cnnbench.errors import CnnbenchError

# What numpy, gzip and zipfile raise for a file that is cut off or is something else.
_DAMAGE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside into one `CnnbenchError` that names `path`."""
    try:
        yield
    except PermissionError as error:
        raise CnnbenchError(f"{path} may not be read: {error.strerror}", "check its permissions") from error
    except _DAMAGE as error:
        raise damaged(path, str(error) or type(error).__name__) from error


def damaged(path: Path, reason: str) -> CnnbenchError:
    """Return the error for a file that is there but is not what it should be."""
    return CnnbenchError(
        f"{path} cannot be read: {' '.join(reason.split())}",
        hint="it is damaged or only partly downloaded: delete it and fetch it again",
    )


def read_npz(path: Path, *names: str) -> list[np.ndarray]:
    """Return the named arrays of an ``.npz`` file; pickled objects in it are refused.

    Raises:
        CnnbenchError: the file is damaged or lacks one of the arrays.
    """
    # Opened here because np.load leaves the file open when the archive is damaged.
    with reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return [arrays[name] for name in names]
