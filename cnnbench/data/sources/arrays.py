"""The data set `arrays`: examples and targets in one .npz or .h5 file, or in a folder of .npy files."""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from cnnbench.data.dataset import Column, Dataset, Examples, Fact, Rows, Split, Task, listed
from cnnbench.data.fetch import search_folders
from cnnbench.data.reading import damaged, reading, special_file
from cnnbench.data.tabular import SPLIT_WORDS
from cnnbench.data.targets import as_texts, drawn_apart, read_targets
from cnnbench.errors import CnnbenchError, nearest

HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
# Words of the names that people give arrays: what is in it.
KINDS = {
    **dict.fromkeys(("x", "image", "images", "img", "imgs", "data", "input", "inputs", "feature"), "inputs"),
    **dict.fromkeys(("features", "pixels", "samples"), "inputs"),
    **dict.fromkeys(("y", "label", "labels", "target", "targets"), "targets"),
    **dict.fromkeys(("class_names", "classes", "label_names", "list_classes", "target_names"), "names"),
    **dict.fromkeys(("group", "groups"), "groups"),
    **dict.fromkeys(("weight", "weights", "sample_weight", "sample_weights"), "weights"),
}
NEEDLESS = ("set", "arr", "array")  # words that say nothing: train_set_x
BLOCK = 1024  # examples that are looked at together
MAPPED_BYTES = 2**28  # from here on examples stay in their file, if they can be mapped there
CHANNELS = 4  # of pictures, at most
Channels = Literal["auto", "first", "last"]
Load = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Place:
    """Where an array belongs.

    Attributes:
        split: `train`, `val` or `test`; empty for arrays of the whole data set.
        kind: `inputs`, `targets`, `names`, `groups` or `weights`.
    """

    split: str
    kind: str


def arrays(
    file: Annotated[str, Field(min_length=1)],
    inputs: str | None = None,
    target: str | None = None,
    task: Task | None = None,
    class_names: list[str] | None = None,
    positive: str | None = None,
    channels: Channels = "auto",
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 42,
    data_dir: str | None = None,
) -> Dataset:
    """Load arrays by the names that people give them: ``x_train``, ``train_images``, ``images``, ``X``.

    A file has arrays of `train`, and may have others of `val` and `test`, or it has one pair of inputs and
    targets. ``groups`` and ``weights`` are taken beside them.

    Args:
        file: an ``.npz`` or ``.h5`` file, or a folder of ``.npy`` files, looked for in the working folder,
            then in the data folders. Pickled objects are refused.
        inputs: name of the examples, without what says the split, where it is none of the usual ones.
        target: name of the targets, likewise.
        task: None: as the targets say.
        class_names: in the order of the class indices, or of the labels; None: those in the file, else the
            targets themselves.
        positive: which of two classes is the positive one; None: the second.
        channels: whether the channels of images are their first axis or their last; `auto` looks at the
            shape.
        test_fraction: of the examples, by class, if the file has no test arrays.
        split_seed: of that draw.
        data_dir: looked in first for a relative `file` that is not in the working folder.

    Returns:
        x ``(n, height, width, channels)``, or ``(n, columns)`` float32. Numbers stay as they are: bytes, 16
        bits or float32; other whole numbers become bytes where they are 0 to 255, and float32 else. Large
        arrays of ``.npy`` and of HDF5 files without compression are `Rows` of the file.

    Raises:
        CnnbenchError: there is no such file, it is damaged or a pickle, or its arrays do not fit.
    """
    path = find_file(file, data_dir, folder=True)
    found, unknown = _recognised(path, _stored(path), inputs, target)
    notes = [f"{path.name}: not used, for their names say nothing: {listed(unknown)}"] if unknown else []
    y = {split: _read(path, found[split, "targets"]) for split in _splits_of(found)}
    names = class_names or _names(path, found)
    targets = read_targets(y, path.name, task, names, positive)
    raw = {split: _images_or_columns(path, found[split, "inputs"], channels) for split in targets.y}
    notes += map(Fact, next(iter(raw.values()))[1])
    are_bytes = all(_are_bytes(values) for values, _ in raw.values())
    lengths = {split: len(values) for split, (values, _) in raw.items()}
    groups = _groups(path, found, lengths)
    splits = {
        split: Split(
            _examples(values, are_bytes),
            targets.y[split],
            groups.get(split),
            _weights(path, found, split, lengths[split]),
        )
        for split, (values, _) in raw.items()
    }
    splits.setdefault("train", splits.pop("", None))  # type: ignore[arg-type]
    for split, part in splits.items():
        if len(part.x) != len(part.y):
            raise CnnbenchError(
                f"{path.name}: {split} has inputs of the shape {part.x.shape}, but {len(part.y):,} targets",
                "the first axis counts the examples: np.moveaxis(x, -1, 0) where it is the last",
            )
    _refuse_other_types(path, splits)
    if "test" not in splits:
        train, test = drawn_apart(
            splits["train"],
            targets.task,
            test_fraction,
            split_seed,
            _digests(splits["train"].x),
            targets.class_names,
        )
        splits |= {"train": train, "test": test}
        notes.append(
            Fact(f"{path.name} has no test arrays: {len(test):,} of {len(train) + len(test):,} are held out")
        )
    columns = splits["train"].x.shape[1] if splits["train"].x.ndim == 2 else 0
    lacks = columns and any(np.isnan(piece).any() for part in splits.values() for piece in part.pieces())
    return Dataset(
        name=path.stem,
        task=targets.task,
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        class_names=targets.class_names,
        notes=(*notes, *map(Fact, targets.notes)),
        columns=tuple(Column(f"column {index}") for index in range(columns)) if lacks else (),
    )


def _refuse_other_types(path: Path, splits: Mapping[str, Split]) -> None:
    """Refuse pictures of 16 bits in one split and of 8 in another, which have another range."""
    for name, part in splits.items():
        ours, theirs = part.x.dtype, splits["train"].x.dtype
        if {ours, theirs} == {np.dtype(np.uint8), np.dtype(np.uint16)}:
            raise CnnbenchError(
                f"{path.name}: the inputs of {name} are {ours}, those of train {theirs}: another range",
                "give every split the same type and range",
            )


def find_file(file: str, data_dir: str | None, folder: bool = False) -> Path:
    """Return `file` in the working folder, else in the first data folder that has it.

    Args:
        file: as typed.
        data_dir: looked in first.
        folder: it may be a folder.

    Raises:
        CnnbenchError: there is none, or it is no file.
    """
    wanted = Path(file).expanduser()
    places = [Path.cwd()] if wanted.is_absolute() else [Path.cwd(), *search_folders(data_dir)]
    for path in (place / wanted for place in places):
        with reading(path):
            if not path.exists():
                continue
            special = special_file(path)
        if special and not (folder and path.is_dir()):
            raise CnnbenchError(f"dataset.file={file} is {special}, not a file", "name the file itself")
        return path
    looked = "" if wanted.is_absolute() else f" in {', '.join(map(str, places))}"
    beside = next((place / wanted for place in places if (place / wanted).parent.is_dir()), None)
    near = [path.name for path in beside.parent.iterdir()] if beside else []
    raise CnnbenchError(f"dataset.file={file}: there is no such file{looked}", nearest(wanted.name, near))


def holds_arrays(path: Path) -> bool:
    """Tell whether a path that exists is an .npz or HDF5 file, or a folder of .npy files."""
    if path.is_dir():
        return any(not one.name.startswith(".") for one in path.glob("*.npy"))
    return path.suffix.lower() in (".npz", *HDF5) and path.is_file()


def inputs_among(names: Iterable[str]) -> str | None:
    """Return the name of the examples to predict in a file of arrays: those of test, if there are several."""
    found = {name: place for name in names if (place := _place(name, {})) and place.kind == "inputs"}
    tested = [name for name, place in found.items() if place.split == "test"]
    chosen = list(found) if len(found) == 1 else tested
    return chosen[0] if len(chosen) == 1 else None


# -- Names of arrays -------------------------------------------------------------------------------

Found = Mapping[tuple[str, str], tuple[str, Load]]


def _recognised(
    path: Path, stored: Mapping[str, Load], inputs: str | None, target: str | None
) -> tuple[Found, list[str]]:
    """Return name and content of each array by its split and kind, and the names that say nothing."""
    own = {name: kind for name, kind in ((inputs, "inputs"), (target, "targets")) if name is not None}
    found: dict[tuple[str, str], tuple[str, Load]] = {}
    unknown = []
    for name, load in stored.items():
        place = _place(name, own)
        if place is None:
            unknown.append(name)
            continue
        key = (place.split, place.kind)
        if key in found:
            raise CnnbenchError(
                f"{path}: {found[key][0]} and {name} are both named as the {place.kind} of "
                f"{place.split or 'all examples'}",
                "say which: dataset.inputs=NAME dataset.target=NAME",
            )
        found[key] = (name, load)
    for name in own:
        if not any(one[0] == name or _without_split(one[0]) == _plain(name) for one in found.values()):
            raise CnnbenchError(f"{path} has no array {name}", nearest(name, stored))
    if not _splits_of(found):
        raise CnnbenchError(
            f"{path} has {listed(list(stored), 8) or 'no arrays'}: no pair named like inputs and targets",
            "dataset.inputs=NAME dataset.target=NAME; usual are x_train and y_train, train_images and "
            "train_labels, images and labels, X and y",
        )
    return found, unknown


def _place(name: str, own: Mapping[str, str]) -> Place | None:
    words = _words(name)
    splits = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    plain = _without_split(name)
    typed = {_plain(one): kind for one, kind in own.items()}
    kind = own.get(name) or typed.get(plain)
    if kind is None and plain in KINDS and KINDS[plain] not in typed.values():
        kind = KINDS[plain]
    if kind is None or len(splits) > 1:
        return None
    return Place("" if name in own or not splits else splits[0], kind)


def _words(name: str) -> list[str]:
    """Return the words of `train_set_x`, `trainImages` and `train/x` in small letters."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return [word for word in re.split(r"[^A-Za-z0-9]+", apart.lower()) if word and word not in NEEDLESS]


def _plain(name: str) -> str:
    return "_".join(_words(name))


def _without_split(name: str) -> str:
    return "_".join(word for word in _words(name) if word not in SPLIT_WORDS)


def _splits_of(found: Found) -> list[str]:
    """Return the splits with inputs and targets; those of the whole data set only where there is no train."""
    both = [split for split, kind in found if kind == "inputs" and (split, "targets") in found]
    named: list[str] = [split for split in ("train", "val", "test") if split in both]
    if "train" in named:
        return named
    return [""] if "" in both else []


def _names(path: Path, found: Found) -> list[str] | None:
    """Return the class names in the file, if there are any; numbers of that name are none."""
    name, load = next((one for (_, kind), one in found.items() if kind == "names"), ("", None))
    if load is None:
        return None
    values = _read(path, (name, load)).reshape(-1)
    if values.dtype.kind not in "USO":
        return None
    return as_texts(values, f"{path.name}, {name}")


def _groups(path: Path, found: Found, lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return the groups of each split that has some, numbered over all of them."""
    values = {
        split: _beside(path, found, split, "groups", length)
        for split, length in lengths.items()
        if (split, "groups") in found
    }
    if not values:
        return {}
    if len({one.dtype.kind in "SUO" for one in values.values()}) > 1:
        raise CnnbenchError(f"{path.name}: groups are texts in one split and numbers in another")
    codes = np.unique(np.concatenate(list(values.values())), return_inverse=True)[1]
    ends = np.cumsum([len(one) for one in values.values()])[:-1]
    return dict(zip(values, np.split(codes, ends), strict=True))


def _weights(path: Path, found: Found, split: str, length: int) -> np.ndarray | None:
    if (split, "weights") not in found:
        return None
    values = _beside(path, found, split, "weights", length)
    try:
        return values.astype(np.float32)
    except ValueError as error:
        raise CnnbenchError(
            f"{path.name}: {found[split, 'weights'][0]} are no numbers: {error}",
            "a weight is a number from 0 on",
        ) from error


def _beside(path: Path, found: Found, split: str, kind: str, length: int) -> np.ndarray:
    values = _read(path, found[split, kind]).reshape(-1)
    if len(values) != length:
        raise CnnbenchError(
            f"{path.name}: {found[split, kind][0]} has {len(values):,} values for {length:,} examples",
            "give one for each example",
        )
    return values


# -- Files -----------------------------------------------------------------------------------------


def _stored(path: Path) -> dict[str, Load]:
    """Return what reads each array, by its name."""
    if path.is_dir():
        files = sorted(one for one in path.glob("*.npy") if not one.name.startswith("."))
        if not files:
            raise CnnbenchError(f"{path} holds no .npy files", "a folder, an .npz or an .h5 file of arrays")
        return {one.stem: partial(_of_npy, one) for one in files}
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", *HDF5, *PICKLES):
        raise CnnbenchError(
            f"{path} is no .npz or .h5 file and no folder of .npy files",
            "tables of numbers and texts: dataset=table; pictures: dataset=image_folder",
        )
    if suffix == ".npy":
        raise CnnbenchError(f"{path} is one array, and a data set has two at least", "name its folder")
    if suffix in PICKLES:
        raise CnnbenchError(
            f"{path} is a pickle, which can run foreign code when it is read",
            "save its arrays: np.savez_compressed('data.npz', x_train=…, y_train=…)",
        )
    if suffix in HDF5:
        return _of_hdf5(path)
    with reading(path), path.open("rb") as opened:
        if not zipfile.is_zipfile(opened):
            raise damaged(path, "it is no .npz archive")
        opened.seek(0)
        with np.load(opened, allow_pickle=False) as archive:
            return {name: partial(_of_npz, path, name) for name in archive.files}


def _of_npz(path: Path, name: str) -> np.ndarray:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
        found = archive[name]
    if isinstance(found, bytes):
        raise damaged(path, f"{name} is no array")
    return np.asarray(found)


def _of_npy(path: Path) -> np.ndarray:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped if mapped.nbytes >= MAPPED_BYTES else np.array(mapped)


def _of_hdf5(path: Path) -> dict[str, Load]:
    import h5py  # type: ignore[import-untyped]

    names: list[str] = []
    with reading(path), h5py.File(path, "r") as opened:
        # Links to other files are not followed.
        opened.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return {name: partial(_of_hdf5_dataset, path, name) for name in names}


def _of_hdf5_dataset(path: Path, name: str) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as opened:
        stored: Any = opened[name]
        if stored.external or stored.is_virtual:
            raise CnnbenchError(f"{path}: {name} lies in another file", "store the array itself")
        if h5py.check_string_dtype(stored.dtype):
            return np.asarray(stored.asstr()[...], dtype=str)
        if stored.dtype.kind == "O":
            raise ValueError("Object arrays cannot be loaded")
        offset = stored.id.get_offset()
        if offset is None or stored.nbytes < MAPPED_BYTES:  # in chunks, perhaps compressed
            return np.asarray(stored[...])
        return np.memmap(path, stored.dtype, "r", offset, stored.shape)


def _read(path: Path, named: tuple[str, Load]) -> np.ndarray:
    name, load = named
    with reading(path):
        try:
            found = load()
        except ValueError as error:
            if "Object arrays" not in str(error):
                raise
            raise CnnbenchError(
                f"{path}: {name} holds Python objects, a pickle, which can run foreign code when it is read",
                "save it as numbers, or names as text: np.array(names, dtype=str)",
            ) from error
    return found


# -- Examples --------------------------------------------------------------------------------------


def _images_or_columns(
    path: Path, named: tuple[str, Load], channels: Channels
) -> tuple[np.ndarray, list[str]]:
    """Return ``(n, height, width, channels)`` or ``(n, columns)``, and what is to be said of them."""
    name, found, notes = named[0], _read(path, named), []
    if found.dtype.kind not in "buif" or found.dtype.itemsize > 8:
        raise CnnbenchError(f"{path}: {name} is {found.dtype}, not numbers", "convert it to uint8 or float32")
    if found.ndim < 2 or found.ndim > 4 or 0 in found.shape:
        raise CnnbenchError(
            f"{path}: {name} has the shape {found.shape}",
            "(n, height, width), (n, height, width, channels), or (n, columns)",
        )
    if found.ndim == 3:
        found = found[..., np.newaxis]
    elif found.ndim == 4 and (
        channels == "first" or (channels == "auto" and _is_channels_first(found.shape))
    ):
        shape = "×".join(map(str, found.shape[1:]))
        found = np.moveaxis(found, 1, -1)
        if channels == "auto":
            notes.append(
                f"{path.name}: {name} has {shape} values an example, read as channels, height, width; "
                f"dataset.channels=last keeps them"
            )
    if found.ndim == 4 and found.dtype != np.uint8:
        most = max(float(found[start : start + BLOCK].max()) for start in range(0, len(found), BLOCK))
        if most > 255:
            notes.append(
                f"{path.name}: values of {name} go up to {most:g} and stay so; models with "
                f"normalization=false, and pretrained ones, expect 0 to 255"
            )
    return found, notes


def _is_mapped(values: np.ndarray) -> bool:
    return isinstance(values, np.memmap) and values.dtype.isnative


def _are_bytes(values: np.ndarray) -> bool:
    """Tell whether whole numbers in memory are all 0 to 255."""
    return values.dtype.kind in "bui" and bool(_is_mapped(values) or 0 <= values.min() <= values.max() <= 255)


def _examples(values: np.ndarray, are_bytes: bool) -> Examples:
    """Return examples in a type that is trained with: bytes, 16 bits or float32, and columns as float32."""
    if _is_mapped(values):
        rows = Rows(values, np.arange(len(values)))
        return replace(rows, digests=np.array(_digests(rows)))
    kept = values.dtype.newbyteorder("=")
    if values.ndim == 2 or kept not in (np.uint8, np.uint16):
        kept = np.dtype(np.uint8 if are_bytes and values.ndim > 2 else np.float32)
    with np.errstate(over="ignore"):  # refused with its place
        return np.ascontiguousarray(values, kept)


def _is_channels_first(shape: tuple[int, ...]) -> bool:
    """Tell whether ``(n, channels, height, width)`` is likelier than ``(n, height, width, channels)``."""
    _, first, middle, last = shape
    if min(middle, last) <= CHANNELS:
        return False
    return first <= CHANNELS or (middle == last and first < middle)


def _digests(x: Examples) -> list[bytes]:
    """Return a digest of the content of each example, in hexadecimal."""
    if isinstance(x, Rows) and x.digests is not None:
        return list(x.digests[x.indices].tolist())
    size = max(1, 2**24 // math.prod(x.shape[1:]))
    pieces = (x[start : start + size] for start in range(0, len(x), size))
    return [
        hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).hexdigest().encode()
        for piece in pieces
        for row in piece
    ]
