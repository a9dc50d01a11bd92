"""Reading files that may be damaged: every failure names the file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cnnbench.errors import CnnbenchError


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside into one `CnnbenchError` that names `path`."""
    try:
        yield
    except CnnbenchError:
        raise
    except OSError as error:
        raise _refused_by_system(path, error) from error
    except Exception as error:  # a damaged file surfaces as almost anything in numpy, zipfile and gzip
        raise damaged(path, str(error) or type(error).__name__) from error


def _refused_by_system(path: Path, error: OSError) -> CnnbenchError:
    if error.errno is None:  # gzip's own
        return damaged(path, str(error))
    if isinstance(error, PermissionError):
        return CnnbenchError(f"{path} may not be read: {error.strerror}", "check its permissions")
    if isinstance(error, FileNotFoundError):
        return CnnbenchError(f"{path} cannot be read: it is not there (any more)", "was it moved or deleted?")
    if isinstance(error, IsADirectoryError):
        return CnnbenchError(f"{path} cannot be read: it is a folder", "a file of that name is expected")
    return CnnbenchError(f"{path} cannot be read: {error.strerror}", "check the disk that it lies on")


def unwrapped(error: BaseException) -> BaseException:
    """The `CnnbenchError` that a data set raised inside TensorFlow, which makes pages of text of it.

    Any other error is returned as it is.
    """
    found = re.search(r"\bCnnbenchError: (.*?)(?:  Hint: (.*))?$", str(error), re.MULTILINE)
    if found is None or isinstance(error, CnnbenchError):
        return error
    unwrapped_error = CnnbenchError(found[1], found[2] or "")
    unwrapped_error.__cause__ = error
    return unwrapped_error


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
    with reading(path), path.open("rb") as file:
        if not zipfile.is_zipfile(file):  # numpy would advise to unpickle it
            raise damaged(path, "it is no whole .npz archive")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            found = [arrays[name] for name in names]
        # numpy gives the bare bytes of what does not begin like an array.
        if bare := [name for name, array in zip(names, found, strict=True) if isinstance(array, bytes)]:
            raise damaged(path, f"{bare[0]} is no array")
        return found
