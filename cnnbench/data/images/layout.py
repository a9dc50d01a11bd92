"""Which folders and files of a tree are images of which class, without opening one."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnnbench.data.fetch import search_folders
from cnnbench.data.reading import reading, special_file
from cnnbench.errors import CnnbenchError

SPLIT_NAMES = {
    "train": ("train", "training", "train_set", "training_set"),
    "val": ("val", "valid", "validation", "val_set", "validation_set"),
    "test": ("test", "testing", "test_set"),
}
Layout = Literal["auto", "classes"]
# In a name of one's own that has them beside other words: seg_train, TestImages, val2017.
SPLIT_WORDS = {
    "train": {"train", "training", "trainset"},
    "val": {"val", "valid", "validation", "valset"},
    "test": {"test", "testing", "testset"},
}
IMAGE_SUFFIXES = {
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm",
    ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
SIDECAR_SUFFIXES = {".csv", ".html", ".ini", ".json", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml"}
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
# What systems and programs put beside pictures, thumbnails and what was thrown away above all; besides these
# whatever begins with a full stop (.Trashes, .Trash-1000, .@__thumb, .ipynb_checkpoints).
SYSTEM_FOLDERS = {
    "@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin", "@sharesnap",  # Synology
    "@recycle", "@recently-snapshot", "@snapshot", "~snapshot",  # QNAP, NetApp
    "$recycle.bin", "system volume information",  # Windows
    "__macosx", "network trash folder", "temporary items",  # macOS
    "lost+found", "__pycache__",
}  # fmt: skip
OLD_BINS = re.compile(r"RECYCLER|RECYCLED|FOUND\.\d{3}|found\.\d{3}")  # "recycled" may well be a class


@dataclass(frozen=True)
class ImageFile:
    """A file that should be an image.

    Attributes:
        path: where it is.
        name: below the folder of the split, with ``/``, as the file system has it; the first part is the
            class folder.
        identity: size, time of change, inode and its time of change: another one as soon as the file is
            another, or has been written to, though its name stays and its time was set back. Empty where the
            system does not tell (a link to nowhere).
        is_hidden: listed, not opened.
    """

    path: Path
    name: str
    identity: tuple[int, ...]
    is_hidden: bool

    @property
    def label(self) -> str:
        """The class. NFC: macOS stores accents and Korean syllables in pieces."""
        return unicodedata.normalize("NFC", self.name.partition("/")[0])


@dataclass(frozen=True)
class ClassFolders:
    """The class folders of one split.

    Attributes:
        folder: the one that holds them.
        title: how messages name it.
        classes: their names, sorted; a folder without a file counts.
        files: sorted by name.
        beside: names of images that lie beside the class folders, and so have no class.
        passed_over: names of hidden and system folders, at any depth.
    """

    folder: Path
    title: str
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    beside: tuple[str, ...]
    passed_over: tuple[str, ...] = ()

    def shown(self, name: str) -> str:
        """A file's name as messages give it."""
        return printable(f"{self.title}/{name}" if self.title else name)


def printable(name: str) -> str:
    """A file name that fits on one line of any terminal and log."""
    name = unicodedata.normalize("NFC", name)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def find_folder(key: str, value: str, data_dir: str | None) -> Path:
    """Return the folder `value`: of the working folder, else of the first data folder that has it.

    Raises:
        CnnbenchError: there is none, or it is a file.
    """
    wanted = Path(value).expanduser()
    places = [Path.cwd()] if wanted.is_absolute() else [Path.cwd(), *search_folders(data_dir)]
    for place in places:
        with reading(place / wanted):
            if (place / wanted).is_dir():
                return place / wanted
            if (place / wanted).exists():
                kind = special_file(place / wanted) or "a file"
                hint = "unpack it and name the folder" if kind == "a file" else "name the folder of pictures"
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
    """Pass through a folder that holds nothing but one of its own name, as archives often unpack."""
    inside = _subfolders(folder)
    return inside[0] if len(inside) == 1 and inside[0].name == folder.name else folder


def typed(**keys: Path) -> str:
    """What to type for keys of the data set, on one line of a shell."""
    return " ".join(shlex.quote(f"dataset.{key}={path}") for key, path in keys.items())


def split_folders(root: Path, layout: Layout = "auto") -> tuple[dict[str, Path], list[Path]]:
    """Return the folder of each split, and those beside them that are none.

    ``train``, ``val`` and ``test`` are known by their usual names; by a name that has one of these among its
    words, if the folders hold the same class folders. Where there are none, `root` itself holds the class
    folders, which are all for ``train``. Folders are passed through as by `inner`.

    Raises:
        CnnbenchError: two folders for one split; or what would be the classes are parts of a set.
    """
    root = inner(root)
    if layout == "classes":
        return {"train": root}, []
    found: dict[str, Path] = {}
    others = []
    for folder in _subfolders(root):
        split = next((split for split, names in SPLIT_NAMES.items() if folder.name.lower() in names), None)
        if split in found:
            raise CnnbenchError(
                f"{root} has {found[split].name} and {folder.name}, both for {split}", "move one away"
            )
        if split is None:
            others.append(folder)
        else:
            found[split] = folder
    # `train` beside other folders may well be a class: of vehicles.
    if "train" not in found or (len(found) == 1 and others):
        found = _splits_by_words([*found.values(), *others])
        others = [folder for folder in _subfolders(root) if folder not in found.values()]
    if found:
        return {split: inner(found[split]) for split in SPLIT_NAMES if split in found}, others
    _refuse_parts(root, others)
    return {"train": root}, []


def _splits_by_words(folders: Sequence[Path]) -> dict[str, Path]:
    """The folder of each split where their names only hint at it, and what is in them confirms it.

    That is: they hold the same class folders; or none has a folder inside and there are no others, so that
    they are no classes either.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        split = _split_of(folder.name)
        if split in found:
            return {}
        if split is not None:
            found[split] = folder
    inside = [_folder_names(folder) for folder in found.values()]
    confirmed = _common(inside) or (len(found) == len(folders) and not any(inside))
    return found if "train" in found and len(found) > 1 and confirmed else {}


def _split_of(name: str) -> str | None:
    """The split that one of the words in a name says; None where there is none, or several."""
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))
    found = [split for split, known in SPLIT_WORDS.items() if words & known]
    return found[0] if len(found) == 1 else None


def _folder_names(folder: Path) -> set[str]:
    return {unicodedata.normalize("NFC", path.name) for path in _subfolders(inner(folder))}


def _common(names: Sequence[set[str]]) -> set[str]:
    """The names that all have: two at least, and half of what each has; else none."""
    common = set.intersection(*names) if names else set()
    return common if len(common) > 1 and all(2 * len(common) >= len(each) for each in names) else set()


def _refuse_parts(root: Path, folders: Sequence[Path]) -> None:
    """Refuse folders that all hold the same folders: those are the classes, `root` is a level too high."""
    names = [_folder_names(folder) for folder in folders]
    nested = [folder for folder, inside in zip(folders, names, strict=True) if len(inside) > 1]
    if not nested or any(_images_in(inner(folder)) for folder in nested):
        return
    if len(nested) == 1 and _split_of(nested[0].name) and sum(map(bool, names)) == 1 and len(folders) > 1:
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
    if all(_split_of(name) for name in common):
        raise CnnbenchError(
            f"{root} has {outer}, and in each {inside}: splits inside classes",
            f"put the splits above: {root / 'train' / 'CLASS'}; {as_classes}, and both splits for one",
        )
    first, second = (inner(folder) for folder in folders[:2])
    raise CnnbenchError(
        f"{root} has {outer}, which hold the same folders, {inside}: those seem to be the classes",
        f"{typed(root=first, test_root=second)}; {as_classes}",
    )


def refuse_split_alone(root: Path) -> None:
    """Refuse a root that is one split of a set, while the others lie beside it: it is a level too low.

    Raises:
        CnnbenchError: they have the same class folders.
    """
    if whole := _whole_set(root):
        raise CnnbenchError(
            f"{root} is one split of the set in {whole}, and the others would not be used",
            f"{typed(root=whole)} takes all; dataset.layout=classes takes this one alone",
        )


def _whole_set(root: Path) -> Path | None:
    """The folder above in which `root` is one split of several; None where it is none."""
    root = Path(os.path.abspath(root))  # noqa: PTH100  as it was written: links are not resolved
    above = root.parent.parent if root.parent.name == root.name else root.parent
    if _split_of(root.name) is None:
        return None
    try:
        found, _ = split_folders(above)
        classes = [_folder_names(folder) for folder in found.values()]
    except CnnbenchError:  # what lies there may not be read, or is no set of its own
        return None
    return above if len(found) > 1 and inner(root) in found.values() and _common(classes) else None


def other_root(folder: Path) -> Path | None:
    """The folder that was probably meant where `folder` has not the folders of two classes.

    It holds them further down, below folders that are alone; or beside `folder`, which is that of a class.
    """
    below = folder
    while len(inside := _subfolders(below)) == 1:
        below = inside[0]
    if len(inside) > 1:
        return below
    above = Path(os.path.abspath(folder)).parent  # noqa: PTH100
    with suppress(CnnbenchError):  # where that may not be read, nobody can tell
        beside = _subfolders(above)
        if len(beside) > 1 and all(_images_in(one) for one in beside):
            return _whole_set(above) or above
    return None


def _images_in(folder: Path) -> list[str]:
    """The names of what lies in a folder itself and has an image's ending, hidden files left out."""
    with reading(folder):
        return sorted(
            entry.name
            for entry in os.scandir(folder)
            if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES
            and not entry.name.startswith(".")
            and entry.is_file()
        )


def scan(folder: Path, title: str = "") -> ClassFolders:
    """List the files of each class folder below `folder`, at any depth.

    Raises:
        CnnbenchError: a folder may not be read.
    """
    files: list[ImageFile] = []
    passed_over = system_folders(folder)
    classes = set()
    for subfolder in _subfolders(folder):
        classes.add(unicodedata.normalize("NFC", subfolder.name))
        files.extend(_files(subfolder, subfolder.name, (), passed_over))
    # The same order, and so the same split, whichever way the file system writes its names.
    files.sort(key=lambda file: (unicodedata.normalize("NFC", file.name), file.name))
    beside = tuple(_images_in(folder))
    return ClassFolders(folder, title, tuple(sorted(classes)), tuple(files), beside, tuple(passed_over))


def _files(
    folder: Path, name: str, above: tuple[tuple[int, int], ...], passed_over: list[str]
) -> Iterator[ImageFile]:
    with reading(folder):
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        entries = list(os.scandir(folder))
    if identity in above:  # a link back to a folder on the way here
        return
    for entry in entries:
        path = Path(entry.path)
        entry_name = f"{name}/{entry.name}"
        with reading(path):
            is_folder = entry.is_dir()
        if is_folder and is_system_folder(entry.name):
            passed_over.append(entry.name)
        elif is_folder:
            yield from _files(path, entry_name, (*above, identity), passed_over)
        elif _may_be_image(path):
            yield _image_file(entry, entry_name)


def _image_file(entry: os.DirEntry[str], name: str) -> ImageFile:
    identity: tuple[int, ...] = ()
    with suppress(OSError):  # a link to nowhere: opening it will say so
        status = entry.stat()
        identity = (status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)
    return ImageFile(Path(entry.path), name, identity, entry.name.startswith("."))


def _may_be_image(path: Path) -> bool:
    """Any file may be one, whatever its ending, except what usually lies beside pictures."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return suffix in IMAGE_SUFFIXES
    return path.name.lower() not in SYSTEM_FILES and suffix not in SIDECAR_SUFFIXES


def _subfolders(folder: Path) -> list[Path]:
    with reading(folder):
        return sorted(
            folder / entry.name
            for entry in os.scandir(folder)
            if not is_system_folder(entry.name) and entry.is_dir()
        )


def system_folders(folder: Path) -> list[str]:
    """The names of the folders inside that are passed over."""
    with reading(folder):
        return sorted(
            entry.name for entry in os.scandir(folder) if is_system_folder(entry.name) and entry.is_dir()
        )


def is_system_folder(name: str) -> bool:
    """Whether a folder of this name is hidden, or one that no person has put pictures into."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS or OLD_BINS.fullmatch(name) is not None
