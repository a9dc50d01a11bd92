"""Stored models and weights, which may be a stranger's: what Keras's safe mode lets through is refused here.

Keras refuses Python code, graphs that lie elsewhere and its own functions that read files. It lets through a
`Lambda` layer with some other functions of Keras, and packages named `keras_hub`, `keras_cv` and `keras_nlp`,
which it imports from wherever they lie; links in an HDF5 file it follows in order to look at them.
"""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile, ZipInfo, is_zipfile

import h5py  # type: ignore[import-untyped]
import keras

from cnnbench.errors import CnnbenchError
from cnnbench.nn.layers import layers_of

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = (CONFIG, WEIGHTS, "metadata.json")
# Where Keras keeps the parts of a model, as it writes them down; `builtins` stands for its own functions.
PARTS = (
    *("builtins", "keras", "keras.activations", "keras.constraints", "keras.dtype_policies"),
    *("keras.initializers", "keras.layers", "keras.losses", "keras.metrics", "keras.ops", "keras.ops.image"),
    *("keras.optimizers", "keras.optimizers.schedules", "keras.quantizers", "keras.random"),
    "keras.regularizers",
)
BOMB_BYTES, BOMB_RATIO = 2**26, 100  # Keras stores without compression


def require_registered(model: keras.Model) -> None:
    """Refuse a compiled model with a class of one's own that Keras could not load again from a file.

    Raises:
        CnnbenchError: an optimizer, loss or layer is not registered; it is named.
    """
    for part in (model.optimizer, model.loss, *layers_of(model)):
        kind = type(part)
        if kind.__module__.partition(".")[0] in ("builtins", "cnnbench", "keras", "tensorflow"):
            continue
        if keras.saving.get_registered_object(keras.saving.get_registered_name(kind)) is None:
            raise CnnbenchError(
                f"{kind.__module__}.{kind.__qualname__} is not registered, so best.keras could not be loaded",
                "write @keras.saving.register_keras_serializable() above the class",
            )


def check_model(path: Path) -> None:
    """Refuse a `.keras` file that names more than parts of Keras, of cnnbench and of imported plugins.

    Raises:
        CnnbenchError: it does, or holds something that no such file holds.
        ValueError, KeyError, OSError, …: it is damaged.
    """
    if not is_zipfile(path):
        raise ValueError("it is no .keras file")
    with ZipFile(path) as archive:
        _check_members(path, archive)
        for node in _objects(json.loads(archive.read(CONFIG))):
            _check_object(path, node)
        _check_hdf5(path, io.BytesIO(archive.read(WEIGHTS)))


def check_weights(path: Path) -> None:
    """Refuse a file of weights that refers to other files by links, external or virtual arrays.

    Raises:
        CnnbenchError: it does.
        ValueError, KeyError, OSError, …: it is damaged, or not in one of Keras's formats.
    """
    if path.suffix == ".keras":
        with ZipFile(path) as archive:
            _check_members(path, archive)
            _check_hdf5(path, io.BytesIO(archive.read(WEIGHTS)))
    elif path.suffix in (".h5", ".hdf5"):
        _check_hdf5(path, path)
    else:
        raise ValueError("weights end in .weights.h5, .h5 or .keras")


def _refused(path: Path, reason: str, hint: str = "") -> CnnbenchError:
    return CnnbenchError(f"{path} is refused: {reason}", hint or "load no model that you do not trust")


def _check_members(path: Path, archive: ZipFile) -> None:
    members = archive.infolist()
    if len({member.filename for member in members}) < len(members):
        raise _refused(path, "it holds two files of one name")
    for member in members:
        if not _belongs(member):
            raise _refused(path, f"no model holds {member.filename!r}")
        if member.file_size > max(BOMB_BYTES, BOMB_RATIO * member.compress_size):
            raise _refused(path, f"{member.filename!r} unpacks to {member.file_size:,} bytes")


def _belongs(member: ZipInfo) -> bool:
    parts = PurePosixPath(member.filename).parts
    inside = member.filename in MEMBERS or (parts[:1] == ("assets",) and ".." not in parts)
    return inside and "\\" not in member.filename and not stat.S_ISLNK(member.external_attr >> 16)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every description of an object, at any depth."""
    waiting = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "class_name" in node and "config" in node:
                yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _check_object(path: Path, node: dict[str, Any]) -> None:
    module, kind = node.get("module"), node["class_name"]
    if module is None:  # a tensor or a number; of anything else Keras wants a module
        return
    name = node["config"] if kind == "function" else kind
    registered = name if kind == "function" else node.get("registered_name", kind)
    if keras.saving.get_registered_object(str(registered)) is not None:
        return
    if module not in PARTS and not str(module).startswith("keras.src."):  # of those Keras takes classes only
        raise _refused(
            path,
            f"{module}.{name} is neither a part of a Keras model nor registered by a plugin",
            "if it is of your own: plugins=[…], and register it with keras.saving",
        )


def _check_hdf5(path: Path, file: Path | io.BytesIO) -> None:
    with h5py.File(file, "r") as stored:
        # Neither walk follows links.
        found = stored.visititems_links(lambda name, link: None if isinstance(link, h5py.HardLink) else name)
        found = found or stored.visititems(lambda name, item: name if _lies_elsewhere(item) else None)
    if found:
        raise _refused(path, f"{found!r} in it lies in another file, or is a link")


def _lies_elsewhere(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and bool(item.external or item.is_virtual)


def load_checkpoint(path: Path) -> keras.Model:
    """Load a stored model in safe mode, after a check of what it names.

    Raises:
        CnnbenchError: the file is damaged, or names code that is not registered, or other files.
    """
    try:
        check_model(path)
        return keras.models.load_model(path, safe_mode=True)
    except CnnbenchError:
        raise
    except Exception as error:  # what is damaged, or not of a model, may raise anything
        inner = str(error).rpartition("Exception encountered: ")[2]  # after the class that Keras was making
        reason = next(iter(inner.strip().splitlines()), type(error).__name__)
        raise CnnbenchError(
            f"cannot load {path}: {reason}", "it may be damaged, or need plugins=[…]"
        ) from error
