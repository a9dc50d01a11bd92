"""Files of weights from elsewhere, read without running anything that they hold.

A `.pth` is a pickle, which may call any function. Here it is a list of instructions of which a few are known:
those that put an ordered dictionary of arrays together. All others are refused, as is a name that a
dictionary of arrays does not need. No pickle is ever loaded.
"""

from __future__ import annotations

import io
import json
import math
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.errors import CnnbenchError, one_line

SUFFIXES = (".pth", ".pt", ".safetensors", ".npz")
MAGIC = 0x1950A86A20F9469CFC6C  # torch's format before its 1.6, which no zip contains
# Of torch's storages: the type of their numbers on disk, little-endian.
TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
BOMB_BYTES, BOMB_RATIO = 2**26, 100  # an archive member that unpacks to more is a trap
# What reading a damaged file may raise; of an archive: it seems compressed or encrypted in some other way.
OF_ARCHIVES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error)
DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, OverflowError, *OF_ARCHIVES)
# Where programs keep the weights in a file that holds a whole training.
PLACES = ("state_dict", "model_state_dict", "model")

Arrays = dict[str, np.ndarray[Any, Any]]


def read(path: Path) -> Arrays:
    """Return the arrays of a file of weights by their names.

    Args:
        path: `.pth` or `.pt` of torch (a dictionary of tensors, as `state_dict()` gives it), `.safetensors`,
            or `.npz` without pickles.

    Returns:
        Arrays as they are stored, bfloat16 as float32; they may be read only.

    Raises:
        CnnbenchError: it wants to do more than hold numbers, is damaged, or holds what is no finite number.
    """
    readers: dict[str, Callable[[Path], Arrays]] = {
        ".pth": _read_torch,
        ".pt": _read_torch,
        ".safetensors": _read_safetensors,
        ".npz": _read_npz,
    }
    if path.suffix not in readers:
        raise CnnbenchError(f"{path} is no file of weights", f"one of {', '.join(SUFFIXES)}")
    try:
        return _finite(readers[path.suffix](path))
    except _Refused as error:
        raise CnnbenchError(f"{path} is refused: {error}", error.hint) from error
    except FileNotFoundError as error:
        raise CnnbenchError(f"{path} is no file") from error
    except DAMAGE as error:
        reason = one_line(error, 200)
        if isinstance(error, LookupError):  # whose text is but a key
            reason = "it refers to what is not in it"
        raise CnnbenchError(f"{path} cannot be read: {reason}", "it may be damaged") from error


def _finite(arrays: Arrays) -> Arrays:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _Refused(f"{name!r} holds values that are not finite")
    return arrays


class _Refused(Exception):  # noqa: N818  (it is an answer)
    def __init__(self, reason: str, hint: str = "load no weights that you do not trust") -> None:
        super().__init__(reason)
        self.hint = hint


# -- torch -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Name:
    """A name that the pickle asks for; only the few of `_call` and `_storage` mean anything."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class _Storage:
    """Numbers that lie elsewhere in the file."""

    type: str
    key: str
    length: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides in numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _read_torch(path: Path) -> Arrays:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _read_torch_zip(path, archive)
    return _read_torch_legacy(path.read_bytes())


def _read_torch_zip(path: Path, archive: zipfile.ZipFile) -> Arrays:
    members = {member.filename: member for member in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise _Refused("it holds two files of one name")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
        raise _Refused("it is compressed, which torch never does")
    if sum(member.file_size for member in members.values()) > path.stat().st_size:
        raise _Refused("its parts claim to be larger than the file")
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ValueError("it holds no data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("its numbers are stored big-endian")
    tensors = _tensors(_Pickle(io.BytesIO(archive.read(pickles[0]))).load())
    return _arrays(tensors, lambda storage: archive.read(f"{root}data/{storage.key}"))


def _read_torch_legacy(data: bytes) -> Arrays:
    file = io.BytesIO(data)
    if _Pickle(file).load() != MAGIC:
        raise ValueError("it does not begin as a file of torch")
    _Pickle(file).load()  # the version of the protocol
    if _Pickle(file).load().get("little_endian") is not True:
        raise ValueError("its numbers are stored big-endian")
    tensors = _tensors(_Pickle(file).load())
    keys = _Pickle(file).load()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or len(set(map(str, keys))) < len(keys):
        raise _Refused("it names a storage twice")
    sizes = {key: np.dtype(TYPES[storage.type]).itemsize for key, storage in storages.items()}
    places: dict[str, int] = {}
    at = file.tell()
    for key in keys:  # each: its length in eight bytes, then its numbers
        if key not in storages:
            raise _Refused(f"storage {key!r} belongs to no tensor")
        if int.from_bytes(data[at : at + 8], "little", signed=True) != storages[key].length:
            raise _Refused(f"storage {key!r} is not as long as the file says elsewhere")
        places[key] = at + 8
        at += 8 + storages[key].length * sizes[key]

    def numbers(storage: _Storage) -> memoryview:
        start = places[storage.key]
        return memoryview(data)[start : start + storage.length * sizes[storage.key]]

    return _arrays(tensors, numbers)


def _tensors(found: Any) -> dict[str, _Tensor]:
    """Return the tensors of a state dict, which may lie in the dictionary of a whole training."""
    if isinstance(found, dict):
        found = next((found[place] for place in PLACES if isinstance(found.get(place), dict)), found)
    tensors = {k: v for k, v in found.items() if isinstance(v, _Tensor)} if isinstance(found, dict) else {}
    if not tensors:
        raise _Refused("it holds no dictionary of tensors", "save the model's state_dict()")
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _arrays(tensors: Mapping[str, _Tensor], numbers: Callable[[_Storage], bytes | memoryview]) -> Arrays:
    """Return the tensors as views of their storages, each of which is read once."""
    storages: dict[_Storage, np.ndarray[Any, Any]] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage not in storages:
            data = numbers(storage)
            flat = np.frombuffer(data, TYPES[storage.type])
            if len(flat) != storage.length:
                raise _Refused(f"{name!r} needs {storage.length:,} numbers, and the file has {len(flat):,}")
            if storage.type == "BFloat16Storage":  # the upper half of a float32
                flat = (flat.astype("<u4") << 16).view("<f4")
            storages[storage] = flat
        _check_inside(name, tensor)
        flat = storages[storage]
        arrays[name] = np.ndarray(
            tensor.shape,
            flat.dtype,
            flat,
            tensor.offset * flat.itemsize,
            tuple(stride * flat.itemsize for stride in tensor.strides),
        )
    return arrays


def _check_inside(name: str, tensor: _Tensor) -> None:
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    if any(type(number) is not int or number < 0 for number in numbers):
        raise _Refused(f"{name!r} has a size, offset or stride that is no whole number from 0 on")
    if len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > 8:
        raise _Refused(f"{name!r} has {len(tensor.shape)} sizes and {len(tensor.strides)} strides")
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    length = tensor.storage.length
    if 0 not in tensor.shape and max(last, math.prod(tensor.shape) - 1) >= length:
        raise _Refused(f"{name!r} reaches beyond its {length:,} stored numbers")


# Instructions of a pickle that put a value on the stack: a constant, or what follows them.
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
ARGUMENTS = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
IGNORED = ("PROTO", "FRAME")


class _Pickle:
    """One pickle in a file, followed without Python's own machine, which would import and call."""

    def __init__(self, file: io.BytesIO) -> None:
        self.file = file
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Return what it describes: dictionaries, lists, tuples, numbers, text, tensors."""
        for operation, argument, _ in pickletools.genops(self.file):
            name = operation.name
            if name == "STOP":
                return self.stack.pop()
            if name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in ARGUMENTS:
                self.stack.append(argument)
            elif name not in IGNORED:
                follow = getattr(self, f"_{name.lower()}", None)
                if follow is None:
                    raise _Refused(f"no dictionary of arrays needs the instruction {name}")
                follow(argument)
        raise ValueError("it ends too early")

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def _mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def _empty_dict(self, _: None) -> None:
        self.stack.append({})

    def _empty_list(self, _: None) -> None:
        self.stack.append([])

    def _tuple(self, _: None) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _tuple1(self, _: None) -> None:
        self._tuple_of(1)

    def _tuple2(self, _: None) -> None:
        self._tuple_of(2)

    def _tuple3(self, _: None) -> None:
        self._tuple_of(3)

    def _tuple_of(self, count: int) -> None:
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _append(self, _: None) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: None) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _Refused("it appends to what is no list")
        self.stack[-1].extend(values)

    def _setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _setitems(self, _: None) -> None:
        self._update(self._since_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise _Refused("it sets an item of what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise _Refused("a name in it is no text")
            if key in target:
                raise _Refused(f"it holds {key!r} twice")
            target[key] = value

    def _binput(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _long_binput = _binput

    def _memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _binget(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _long_binget = _binget

    def _global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(str(module), str(name))

    def _name(self, module: str, name: str) -> None:
        wanted = _Name(module, name)
        is_storage = module == "torch" and name in TYPES
        if str(wanted) not in CALLS and not is_storage:
            raise _Refused(
                f"it wants {wanted}, and weights need no such thing",
                "save a model's state_dict(), not the model",
            )
        self.stack.append(wanted)

    def _reduce(self, _: None) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Name) or str(called) not in CALLS or not isinstance(arguments, tuple):
            raise _Refused("it calls what is no function of torch's tensors")
        self.stack.append(CALLS[str(called)](*arguments))

    def _binpersid(self, _: None) -> None:
        identity = self.stack.pop()
        if not (isinstance(identity, tuple) and len(identity) in (5, 6) and identity[0] == "storage"):
            raise _Refused("it refers to something outside the file")
        _, kind, key, _, length, *view = identity
        if not isinstance(kind, _Name) or kind.name not in TYPES or view not in ([], [None]):
            raise _Refused("it refers to a storage of an unknown kind")
        if type(key) is not str or type(length) is not int or length < 0:
            raise _Refused("a storage in it has no name or no length")
        self.stack.append(_Storage(kind.name, key, length))

    def _build(self, _: None) -> None:
        self.stack.pop()  # attributes of the dictionary, such as torch's `_metadata`: not of the weights
        if not isinstance(self.stack[-1], dict):
            raise _Refused("it sets attributes of what is no dictionary")


def _ordered_dict(*arguments: Any) -> dict[Any, Any]:
    if arguments not in ((), ([],)):
        raise _Refused("it fills a dictionary in an unknown way")
    return {}


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not (isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise _Refused("a tensor in it has no storage or no shape")
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *_: Any) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise _Refused("a parameter in it is no tensor")
    return tensor


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


# -- safetensors and npz ---------------------------------------------------------------------------


def _read_safetensors(path: Path) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    with path.open("rb") as file:  # the library takes the last of two arrays of one name
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("its header claims to be larger than the file")
        json.loads(file.read(length), object_pairs_hook=_without_duplicates)
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise _Refused(f"it holds {next(n for n in names if names.count(n) > 1)!r} twice")
    return dict(pairs)


def _read_npz(path: Path) -> Arrays:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise _Refused("it holds two arrays of one name")
        return dict(_npz_arrays(archive, members))


def _npz_arrays(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Iterator[tuple[str, Any]]:
    for member in members:
        name = member.filename.removesuffix(".npy")
        if member.file_size > max(BOMB_BYTES, BOMB_RATIO * member.compress_size):
            raise _Refused(f"{name!r} unpacks to {member.file_size:,} bytes")
        data = archive.read(member)
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = headers[version](file)
        if dtype.hasobject:
            raise _Refused(f"{name!r} is a pickle, which may run code")
        if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
            raise _Refused(f"{name!r} has not the {math.prod(shape):,} numbers that it claims")
        yield name, np.ndarray(shape, dtype, data, file.tell(), order="F" if fortran else "C")
