"""The layout of a folder of pictures: its splits, classes and image files, found without opening one."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from cnnbench.data.fetch import search_folders
from cnnbench.data.reading import reading, special_file
from cnnbench.errors import CnnbenchError

Layout = Literal["auto", "classes"]
# Usual names of split folders, without their underscores. Folders whose names have one of these among other
# words (seg_train, TestImages, val2017) are splits too where their contents confirm it.
SPLIT_NAMES = {
    "train": {"train", "training", "trainset", "trainingset"},
    "val": {"val", "valid", "validation", "valset", "validationset"},
    "test": {"test", "testing", "testset"},
}
IMAGE_SUFFIXES = {
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm",
    ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
SIDECAR_SUFFIXES = {".csv", ".html", ".ini", ".json", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml"}
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
# Thumbnails, bins and snapshots of systems and programs, as are all names with a full stop in front.
SYSTEM_FOLDERS = {
    "@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin", "@sharesnap",  # Synology
    "@recycle", "@recently-snapshot", "@snapshot", "~snapshot",  # QNAP, NetApp
    "$recycle.bin", "system volume information",  # Windows
    "__macosx", "network trash folder", "temporary items",  # macOS
    "lost+found", "__pycache__",
}  # fmt: skip
OLD_BINS = re.compile(r"RECYCLER|RECYCLED|FOUND\.\d{3}|found\.\d{3}")  # "recycled" may well be a class


class Member(Protocol):
    """A part of a file that holds an image: of an archive, or a cell of a table."""

    def open(self) -> BinaryIO:
        """Return its bytes; raise `OSError` or `UnreadableError`."""


@dataclass(frozen=True)
class ImageFile:
    """A file that should be an image.

    Attributes:
        path: where it is.
        name: below the folder of the split, with ``/``; the first part is the class folder.
        identity: size, time of change, inode and the inode's time of change; differs once the file is
            replaced or written to, even if its name and time of change are kept. Empty for a broken link.
        is_hidden: listed, but not opened.
        member: what is read if the image is a part of the file at `path`.
    """

    path: Path
    name: str
    identity: tuple[int, ...]
    is_hidden: bool = False
    member: Member | None = None

    @property
    def label(self) -> str:
        """The class."""
        return composed(self.name.partition("/")[0])


@dataclass(frozen=True)
class ClassFolders:
    """The class folders of one split.

    Attributes:
        folder: holds the class folders.
        title: the name of `folder` in messages.
        classes: names of the class folders, also of empty ones, sorted.
        files: sorted by name.
        beside: names of images beside the class folders, which have no class.
        passed_over: names of hidden and system folders, at any depth.
    """

    folder: Path
    title: str
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    beside: tuple[str, ...]
    passed_over: tuple[str, ...] = ()

    def shown(self, name: str) -> str:
        """Return a file's name for messages."""
        return printable(f"{self.title}/{name}" if self.title else name)


def printable(name: str) -> str:
    """Return a file name on one line, with escapes for what a terminal cannot show."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in composed(name))


def composed(name: str) -> str:
    """Return a name in Unicode's NFC; macOS stores accents and Korean syllables in pieces."""
    return unicodedata.normalize("NFC", name)


def find_folder(key: str, value: str, data_dir: str | None) -> Path:
    """Return the folder `value` in the working folder, else in the first data folder that has it.

    Raises:
        CnnbenchError: there is none, or it is a file.
    """
    wanted = Path(value).expanduser()
    places = [Path.cwd()] if wanted.is_absolute() else [Path.cwd(), *search_folders(data_dir)]
    for folder in (place / wanted for place in places):
        with reading(folder):
            if folder.is_dir():
                return folder
            if folder.exists():
                kind = special_file(folder) or "a file"
                hint = "name the folder of pictures"
                if kind == "a file":
                    hint = f"dataset=manifest {typed(file=Path(value))} reads tables, archives and Parquet"
                raise CnnbenchError(f"{key}={value} is {kind}, not a folder", hint)
    looked = "" if wanted.is_absolute() else f" in {', '.join(map(str, places))}"
    example = f"{value.rstrip('/')}/CLASS/*.jpg"
    if key == "root":
        example += f", or {value.rstrip('/')}/train/CLASS/*.jpg with test/ beside train/"
    raise CnnbenchError(
        f"{key}={value}: there is no such folder{looked}",
        f"expected is a folder per class, {example}; where data sets lie: data_dir=FOLDER or CNNBENCH_DATA",
    )


def inner(folder: Path) -> Path:
    """Return the only folder inside if it has the same name, as archives often unpack; else `folder`."""
    inside = _subfolders(folder)
    return inside[0] if len(inside) == 1 and inside[0].name == folder.name else folder


def typed(**keys: Path) -> str:
    """Return keys of the data set as they are typed in a shell."""
    return " ".join(shlex.quote(f"dataset.{key}={path}") for key, path in keys.items())


def split_folders(root: Path, layout: Layout = "auto") -> tuple[dict[str, Path], list[Path]]:
    """Return the folder of each split, and the folders beside them that are none.

    Splits are known by their usual names, or by a name that has one of these among its words if the folders
    hold the same class folders. Without any, `root` itself holds the class folders, all for ``train``.

    Raises:
        CnnbenchError: two folders for one split; or what would be the classes are parts of a set.
    """
    root = inner(root)
    if layout == "classes":
        return {"train": root}, []
    found: dict[str, Path] = {}
    others = []
    for folder in _subfolders(root):
        split = next((split for split in SPLIT_NAMES if has_usual_name(folder, split)), None)
        if split in found:
            raise CnnbenchError(
                f"{root} has {found[split].name} and {folder.name}, both for {split}", "move one away"
            )
        if split is None:
            others.append(folder)
        else:
            found[split] = folder
    # `train` alone beside other folders may be a class of vehicles.
    if "train" not in found or (len(found) == 1 and others):
        found = _splits_by_words([*found.values(), *others])
        others = [folder for folder in _subfolders(root) if folder not in found.values()]
    if found:
        return {split: inner(found[split]) for split in SPLIT_NAMES if split in found}, others
    _refuse_parts(root, others)
    return {"train": root}, []


def has_usual_name(folder: Path, split: str) -> bool:
    return folder.name.lower().replace("_", "") in SPLIT_NAMES[split]


def _splits_by_words(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the folder of each split if words in their names tell it and their contents confirm it.

    The contents confirm it if the folders hold the same class folders; or if they hold no folder at all and
    nothing lies beside them, so that they are no classes either.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        split = split_of(folder.name)
        if split in found:
            return {}
        if split is not None:
            found[split] = folder
    inside = [_folder_names(folder) for folder in found.values()]
    confirmed = _common(inside) or (len(found) == len(folders) and not any(inside))
    return found if "train" in found and len(found) > 1 and confirmed else {}


def split_of(name: str) -> str | None:
    """Return the split that a word in `name` tells; None for no split or several."""
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))
    found = [split for split, known in SPLIT_NAMES.items() if words & known]
    return found[0] if len(found) == 1 else None


def _folder_names(folder: Path) -> set[str]:
    return {composed(path.name) for path in _subfolders(inner(folder))}


def _common(names: Sequence[set[str]]) -> set[str]:
    """Return the names that all sets share if they are two or more, and half of each set; else none."""
    common = set.intersection(*names) if names else set()
    return common if len(common) > 1 and all(2 * len(common) >= len(each) for each in names) else set()


def _refuse_parts(root: Path, folders: Sequence[Path]) -> None:
    """Refuse folders that hold the same folders: these are the classes, and `root` is a level too high."""
    names = [_folder_names(folder) for folder in folders]
    nested = [folder for folder, inside in zip(folders, names, strict=True) if len(inside) > 1]
    if not nested or any(_images_in(inner(folder)) for folder in nested):
        return
    if len(nested) == 1 and split_of(nested[0].name) and sum(map(bool, names)) == 1 and len(folders) > 1:
        raise CnnbenchError(
            f"{root} has {printable(nested[0].name)}, which holds folders, beside others that hold none",
            f"{typed(root=nested[0])}; dataset.layout=classes takes all of them as classes",
        )
    common = _common(names) if len(folders) > 1 else set()
    if not common:
        return
    outer, inside = (
        " and ".join(printable(name) for name in names[:2]) + (" …" if len(names) > 2 else "")
        for names in ([folder.name for folder in folders], sorted(common))
    )
    as_classes = f"dataset.layout=classes takes {outer} as the classes"
    if all(split_of(name) for name in common):
        raise CnnbenchError(
            f"{root} has {outer}, and in each {inside}: splits inside classes",
            f"put the splits above: {root / 'train' / 'CLASS'}; {as_classes}, and both splits for one",
        )
    first, second = (inner(folder) for folder in folders[:2])
    raise CnnbenchError(
        f"{root} has {outer}, which hold the same folders, {inside}: those seem to be the classes",
        f"{typed(root=first, test_root=second)}; {as_classes}",
    )


def count_classes(root: Path) -> int:
    """Return how many class folders a folder has, as far as its folders tell."""
    try:
        return len(_subfolders(split_folders(root)[0]["train"]))
    except CnnbenchError:  # folders of some kind, of which the reader of them says what is wrong
        return 2


def refuse_split_alone(root: Path) -> None:
    """Refuse a root that is one split of a set, with the others beside it: it is a level too low.

    Raises:
        CnnbenchError: the splits have the same class folders.
    """
    if whole := _whole_set(root):
        raise CnnbenchError(
            f"{root} is one split of the set in {whole}, and the others would not be used",
            f"{typed(root=whole)} takes all; dataset.layout=classes takes this one alone",
        )


def _whole_set(root: Path) -> Path | None:
    """Return the folder above, if `root` is one of several splits in it."""
    root = Path(os.path.abspath(root))  # noqa: PTH100  links are not resolved
    above = root.parent.parent if root.parent.name == root.name else root.parent
    if split_of(root.name) is None:
        return None
    try:
        found, _ = split_folders(above)
        classes = [_folder_names(folder) for folder in found.values()]
    except CnnbenchError:  # it may not be read, or is no set of its own
        return None
    return above if len(found) > 1 and inner(root) in found.values() and _common(classes) else None


def other_root(folder: Path) -> Path | None:
    """Return the folder probably meant by `folder`, which has fewer than two class folders.

    It is below, at the end of folders that are alone; or above, if `folder` is that of a class.
    """
    below = folder
    while len(inside := _subfolders(below)) == 1:
        below = inside[0]
    if len(inside) > 1:
        return below
    above = Path(os.path.abspath(folder)).parent  # noqa: PTH100
    with suppress(CnnbenchError):  # it may not be read
        beside = _subfolders(above)
        if len(beside) > 1 and all(_images_in(one) for one in beside):
            return _whole_set(above) or above
    return None


def scan(folder: Path, title: str = "") -> ClassFolders:
    """List the files of each class folder below `folder`, at any depth.

    Raises:
        CnnbenchError: a folder may not be read.
    """
    files: list[ImageFile] = []
    passed_over = system_folders(folder)
    subfolders = _subfolders(folder)
    for subfolder in subfolders:
        files.extend(_files(subfolder, subfolder.name, (), passed_over))
    # The same order, and so the same split, whichever way the file system writes its names.
    files.sort(key=lambda file: (composed(file.name), file.name))
    classes = sorted({composed(subfolder.name) for subfolder in subfolders})
    return ClassFolders(
        folder, title, tuple(classes), tuple(files), tuple(_images_in(folder)), tuple(passed_over)
    )


def _files(
    folder: Path, name: str, above: tuple[tuple[int, int], ...], passed_over: list[str]
) -> Iterator[ImageFile]:
    with reading(folder):
        status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:  # a link back to a folder on the way here
        return
    folders, others = _entries(folder)
    for entry in folders:
        if is_system_folder(entry.name):
            passed_over.append(entry.name)
        else:
            yield from _files(Path(entry.path), f"{name}/{entry.name}", (*above, identity), passed_over)
    for entry in others:
        if may_be_image(entry.name):
            is_hidden = entry.name.startswith(".")
            yield ImageFile(Path(entry.path), f"{name}/{entry.name}", _identity(entry), is_hidden)


def _identity(entry: os.DirEntry[str]) -> tuple[int, ...]:
    with suppress(OSError):  # a broken link: opening it will say so
        status = entry.stat()
        return (status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)
    return ()


def may_be_image(name: str) -> bool:
    """Tell whether a file may be an image: any may, except what usually lies beside pictures."""
    suffix = Path(name).suffix.lower()
    if name.startswith("."):
        return suffix in IMAGE_SUFFIXES
    return name.lower() not in SYSTEM_FILES and suffix not in SIDECAR_SUFFIXES


def _images_in(folder: Path) -> list[str]:
    """Return the names of the files in `folder` itself that have an image's ending and are not hidden."""
    return [
        entry.name
        for entry in _entries(folder)[1]
        if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
        and not entry.name.startswith(".")
        and entry.is_file()
    ]


def _subfolders(folder: Path) -> list[Path]:
    return [folder / entry.name for entry in _entries(folder)[0] if not is_system_folder(entry.name)]


def system_folders(folder: Path) -> list[str]:
    """Return the names of the folders inside that are passed over."""
    return [entry.name for entry in _entries(folder)[0] if is_system_folder(entry.name)]


def _entries(folder: Path) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """Return the folders inside `folder` and all else inside, both sorted by name."""
    with reading(folder):
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    found: tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]] = ([], [])
    for entry in entries:
        with reading(Path(entry.path)):
            found[0 if entry.is_dir() else 1].append(entry)
    return found


def is_system_folder(name: str) -> bool:
    """Tell whether a folder of this name is hidden, or made by a system or a program."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS or OLD_BINS.fullmatch(name) is not None
