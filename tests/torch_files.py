"""Files of weights as torch writes them, made without torch, and as somebody writes them who means harm."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
TYPES = {"<f4": "FloatStorage", "<f2": "HalfStorage", "<i8": "LongStorage", "<u2": "BFloat16Storage"}


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def call(module: str, name: str, arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + arguments + b"R"


EMPTY = call("collections", "OrderedDict", b")")


def tensor(
    array: np.ndarray,
    key: str,
    shape: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    offset: int = 0,
    length: int | None = None,
) -> bytes:
    """The pickle of a tensor, with another shape, strides, offset or length than it has, if so wished."""
    kind = TYPES[array.dtype.newbyteorder("<").str]
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    storage += number(array.size if length is None else length) + b"tQ"
    true = tuple(stride // array.itemsize for stride in array.strides)
    layout = numbers(array.shape if shape is None else shape) + numbers(true if strides is None else strides)
    arguments = b"(" + storage + number(offset) + layout + b"\x89" + EMPTY + b"t"
    return call("torch._utils", "_rebuild_tensor_v2", arguments)


def dictionary(items: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> bytes:
    pairs = items.items() if isinstance(items, Mapping) else items
    return EMPTY + b"(" + b"".join(text(name) + value for name, value in pairs) + b"u"


def flat(array: np.ndarray) -> bytes:
    """The numbers of an array as they lie in memory, transposed or not."""
    return array.ravel(order="K").tobytes()


def write_legacy(path: Path, content: bytes, storages: Mapping[str, np.ndarray]) -> Path:
    """Write torch's format before its 1.6: five pickles, then each storage."""
    told = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    with path.open("wb") as file:
        for part in (MAGIC, 1001, told):
            pickle.dump(part, file, 2)
        file.write(b"\x80\x02" + content + b".")
        pickle.dump(sorted(storages), file, 2)
        for key in sorted(storages):
            file.write(struct.pack("<q", storages[key].size) + flat(storages[key]))
    return path


def write_zip(
    path: Path, content: bytes, storages: Mapping[str, np.ndarray], more: Sequence[tuple[str, bytes]] = ()
) -> Path:
    """Write torch's format of today: an archive without compression."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("archive/byteorder", b"little")
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", flat(array))
        for name, data in more:
            archive.writestr(name, data)
    return path


def write_state(path: Path, arrays: Mapping[str, np.ndarray], legacy: bool = False) -> Path:
    """Write a state dict."""
    keys = {name: str(index) for index, name in enumerate(arrays)}
    content = dictionary({name: tensor(array, keys[name]) for name, array in arrays.items()})
    storages = {keys[name]: array for name, array in arrays.items()}
    return (write_legacy if legacy else write_zip)(path, content, storages)


def pickled(value: Any) -> bytes:
    """A whole pickle without its beginning and end."""
    file = io.BytesIO()
    pickle.dump(value, file, 2)
    return file.getvalue()[2:-1]
