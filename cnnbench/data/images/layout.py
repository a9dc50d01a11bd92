"""Which folders and files of a tree are images of which class, without opening one."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cnnbench.data.fetch import search_folders
from cnnbench.data.reading import reading
from cnnbench.errors import CnnbenchError

SPLIT_NAMES = {
    "train": ("train", "training", "train_set", "training_set"),
    "val": ("val", "valid", "validation", "val_set", "validation_set"),
    "test": ("test", "testing", "test_set"),
}
IMAGE_SUFFIXES = {
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm",
    ".png", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
SIDECAR_SUFFIXES = {".csv", ".html", ".ini", ".json", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml"}
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
SYSTEM_FOLDERS = {"__macosx", "__pycache__"}


@dataclass(frozen=True)
class ImageFile:
    """A file that should be an image.

    Attributes:
        path: where it is.
        name: below the folder of the split, with ``/``, as the file system has it; the first part is the
            class folder.
        size, mtime_ns: of the file; both -1 where the system does not tell (a link to nowhere).
        is_hidden: listed, not opened.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int
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
    """

    folder: Path
    title: str
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    beside: tuple[str, ...]

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
            if (place / wanted).is_file():
                raise CnnbenchError(f"{key}={value} is a file, not a folder", "unpack it and name the folder")
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


def split_folders(root: Path) -> tuple[dict[str, Path], list[Path]]:
    """Return the folder of each split, and those beside them that are none.

    ``train``, ``val`` and ``test`` are known by their usual names. Where there are none, `root` itself holds
    the class folders, which are all for ``train``. Folders are passed through as by `inner`.

    Raises:
        CnnbenchError: two folders for one split.
    """
    root = inner(root)
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
    if "train" in found and (len(found) > 1 or not others):
        return {split: inner(found[split]) for split in SPLIT_NAMES if split in found}, others
    return {"train": root}, []


def scan(folder: Path, title: str = "") -> ClassFolders:
    """List the files of each class folder below `folder`, at any depth.

    Raises:
        CnnbenchError: a folder may not be read.
    """
    files: list[ImageFile] = []
    classes = set()
    for subfolder in _subfolders(folder):
        classes.add(unicodedata.normalize("NFC", subfolder.name))
        files.extend(_files(subfolder, subfolder.name, ()))
    with reading(folder):
        beside = sorted(
            entry.name
            for entry in folder.iterdir()
            if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
        )
    # The same order, and so the same split, whichever way the file system writes its names.
    files.sort(key=lambda file: (unicodedata.normalize("NFC", file.name), file.name))
    return ClassFolders(folder, title, tuple(sorted(classes)), tuple(files), tuple(beside))


def _files(folder: Path, name: str, above: tuple[tuple[int, int], ...]) -> Iterator[ImageFile]:
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
            if entry.is_dir():
                if not _is_ignored_folder(entry.name):
                    yield from _files(path, entry_name, (*above, identity))
                continue
            if not _may_be_image(path) or not (entry.is_file() or entry.is_symlink()):
                continue
        yield _image_file(entry, entry_name)


def _image_file(entry: os.DirEntry[str], name: str) -> ImageFile:
    try:
        status = entry.stat()
        size, mtime_ns = status.st_size, status.st_mtime_ns
    except OSError:  # a link to nowhere: opening it will say so
        size = mtime_ns = -1
    return ImageFile(Path(entry.path), name, size, mtime_ns, entry.name.startswith("."))


def _may_be_image(path: Path) -> bool:
    """Any file may be one, whatever its ending, except what usually lies beside pictures."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return suffix in IMAGE_SUFFIXES
    return path.name.lower() not in SYSTEM_FILES and suffix not in SIDECAR_SUFFIXES


def _subfolders(folder: Path) -> list[Path]:
    with reading(folder):
        folders = [path for path in folder.iterdir() if path.is_dir()]
    return sorted(path for path in folders if not _is_ignored_folder(path.name))


def _is_ignored_folder(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS
