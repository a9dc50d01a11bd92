"""Python-pickle files, as CIFAR comes in, without the power to run code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.datasets.reading import damaged, reading
from cnnbench.errors import CnnbenchError

# What pickled numpy arrays consist of. `_codecs.encode` is how Python 3 writes bytes in protocol 2.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


class ForeignGlobalError(pickle.UnpicklingError):
    """A pickle names something other than the parts of numpy arrays."""


class Bytes(io.BytesIO):
    """Says where it ends, which the unpickler does not look at."""

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
    """Loads containers, numbers, strings and numpy arrays; refuses everything else.

    The one in Python, 0.03 s slower for 10,000 images: that in C fills as much memory as five bytes of a
    damaged file happen to ask for (LONG_BINPUT), up to 64 GB, and the system kills the process.
    """

    def find_class(self, module: str, name: str, /) -> Any:
        # Files from before numpy 2 use the old name, which numpy 2 warns about.
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) not in _ALLOWED:
            raise ForeignGlobalError(f"{module}.{name}")
        if (module, name) == ("numpy", "dtype"):
            return _number_type
        return super().find_class(module, name)


def read_pickle(path: Path) -> dict[str, Any]:
    """Return the dictionary in a pickle file; keys are str, whichever Python wrote it.

    Raises:
        CnnbenchError: the file is not there, damaged, holds no dictionary, or names a class or function
            that has no place in a file of arrays.
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
    """Stand in for `numpy.dtype`: numbers only, and 0 or 1 as flags, which numpy 2.4 warns about."""
    dtype = np.dtype(code.decode() if isinstance(code, bytes) else code, bool(align), bool(copy))
    if dtype.kind not in "biuf":
        raise pickle.UnpicklingError(f"an array of {dtype}, not of numbers")
    return dtype
