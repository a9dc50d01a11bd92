"""Readers of files that may be damaged or hostile, pickles among them; each error names the file."""

from __future__ import annotations

import io
import pickle
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.errors import CnnbenchError

# The parts of pickled numpy arrays. Python 3 writes bytes in protocol 2 as `_codecs.encode`.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def special_file(path: Path) -> str | None:
    """Return what `path` leads to if that is no ordinary file; to open a pipe can take for ever.

    Raises:
        OSError: nothing is there.
    """
    mode = path.stat().st_mode
    return None if stat.S_ISREG(mode) else SPECIAL.get(stat.S_IFMT(mode), "no ordinary file")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error inside into one `CnnbenchError` that names `path`."""
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
    reason, hint = str(error.strerror), "check the disk that it lies on"
    if isinstance(error, FileNotFoundError):
        reason, hint = "it is not there (any more)", "was it moved or deleted?"
    elif isinstance(error, IsADirectoryError):
        reason, hint = "it is a folder", "a file of that name is expected"
    return CnnbenchError(f"{path} cannot be read: {reason}", hint)


def unwrapped(error: BaseException) -> BaseException:
    """Return the `CnnbenchError` that a data set raised inside TensorFlow, which wraps it in pages of text.

    Any other error is returned unchanged.
    """
    found = re.search(r"\bCnnbenchError: (.*?)(?:  Hint: (.*))?$", str(error), re.MULTILINE)
    if found is None or isinstance(error, CnnbenchError):
        return error
    inner = CnnbenchError(found[1], found[2] or "")
    inner.__cause__ = error
    return inner


def damaged(path: Path, reason: str) -> CnnbenchError:
    """Return the error for a damaged file."""
    return CnnbenchError(
        f"{path} cannot be read: {' '.join(reason.split())}",
        hint="it is damaged or only partly downloaded: delete it and fetch it again",
    )


def read_npz(path: Path, *names: str) -> list[np.ndarray]:
    """Return the named arrays of an ``.npz`` file; refuse pickled objects in it.

    Raises:
        CnnbenchError: the file is damaged or lacks one of the arrays.
    """
    # np.load would leave a damaged archive open.
    with reading(path), path.open("rb") as file:
        if not zipfile.is_zipfile(file):  # numpy's error would advise to unpickle it
            raise damaged(path, "it is no whole .npz archive")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            found = [arrays[name] for name in names]
        # numpy returns a member that does not begin like an array as bytes.
        if bare := [name for name, array in zip(names, found, strict=True) if isinstance(array, bytes)]:
            raise damaged(path, f"{bare[0]} is no array")
        return found


# -- Pickles ---------------------------------------------------------------------------------------


class ForeignGlobalError(pickle.UnpicklingError):
    """A pickle names something other than the parts of numpy arrays."""


class Bytes(io.BytesIO):
    """Bytes that raise an error when read beyond their end, which the unpickler does not notice."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise EOFError("it is cut off")
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n"):
            raise EOFError("it is cut off")
        return line


class ArrayUnpickler(pickle._Unpickler):
    """An unpickler of containers, numbers, strings and numpy arrays that refuses everything else.

    It is Python's own, 0.03 s slower for 10,000 images than the one in C, which takes as much memory as five
    damaged bytes ask for (LONG_BINPUT, up to 64 GB), so that the system kills the process.
    """

    def find_class(self, module: str, name: str, /) -> Any:
        # Files from before numpy 2 have the old name, about which numpy 2 warns.
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) not in _ALLOWED:
            raise ForeignGlobalError(f"{module}.{name}")
        if (module, name) == ("numpy", "dtype"):
            return _number_type
        return super().find_class(module, name)


def read_pickle(path: Path) -> dict[str, Any]:
    """Return the dictionary in a pickle file; its keys are str, also from a file of Python 2.

    Raises:
        CnnbenchError: the file is missing or damaged, holds no dictionary, or names a class or function that
            has no place in a file of arrays.
    """
    with reading(path):
        data = path.read_bytes()
    try:
        content = ArrayUnpickler(Bytes(data), encoding="bytes").load()
    except ForeignGlobalError as error:
        raise CnnbenchError(
            f"{path} is refused: it wants to call {error}, which has no place in a file of arrays",
            hint="loading it could run foreign code; get the file from its official source",
        ) from error
    except Exception as error:  # the documentation of pickle: a damaged file may raise anything
        raise damaged(path, str(error) or type(error).__name__) from error
    if not isinstance(content, dict):
        raise damaged(path, f"it holds a {type(content).__name__}, not a dictionary")
    return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def _number_type(code: str | bytes, align: Any = False, copy: Any = False) -> Any:
    """Stand in for `numpy.dtype`: allow numbers only, and flags of 0 or 1, about which numpy 2.4 warns."""
    dtype = np.dtype(code.decode() if isinstance(code, bytes) else code, bool(align), bool(copy))
    if dtype.kind not in "biuf":
        raise pickle.UnpicklingError(f"an array of {dtype}, not of numbers")
    return dtype
