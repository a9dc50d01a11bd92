"""Pictures inside archives and Parquet files, read where they are, without unpacking."""

from __future__ import annotations

import tarfile
import tempfile
import threading
import weakref
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from cnnbench.data.images.decoding import UnreadableError
from cnnbench.data.images.layout import SYSTEM_FILES, Member, is_system_folder
from cnnbench.data.reading import reading
from cnnbench.data.tabular import parquet_file
from cnnbench.errors import CnnbenchError, one_line

ZIP, TAR = (".zip",), (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
MOST_BYTES = 2**29  # of one member; no picture that can be decoded is larger
MOST_GROWTH = 200  # how often the size of a compressed tar it may unpack to; pictures hardly shrink
COPIED_AT_ONCE = 2**22
UTF8_FLAG, ENCRYPTED_FLAG = 0x800, 0x1
ROWS_AT_ONCE, BATCHES_KEPT = 64, 4  # of a Parquet file; threads ask for rows a little out of order


@dataclass(frozen=True)
class Entry:
    """A file in an archive.

    Attributes:
        name: with ``/``.
        member: gives its bytes.
        identity: what changes with its bytes.
    """

    name: str
    member: Member
    identity: tuple[int, ...]


def is_archive(name: str) -> bool:
    return name.lower().endswith((*ZIP, *TAR))


def entries(path: Path) -> list[Entry]:
    """List the files in an archive by name, in its order; hidden and system ones are left out.

    Raises:
        CnnbenchError: it is damaged, or has two files of one name.
    """
    archive = Zip(path) if path.name.lower().endswith(ZIP) else Tar(path)
    found = [
        Entry(name, member, (*status(path), *identity))
        for name, member, identity in archive.members()
        if _is_wanted(name)
    ]
    seen: set[str] = set()
    for entry in found:
        if entry.name in seen:
            raise CnnbenchError(f"{path} has two files {entry.name}", "pack it anew")
        seen.add(entry.name)
    return found


def status(path: Path) -> tuple[int, ...]:
    """Return size, time of change and inode of a file."""
    with reading(path):
        found = path.stat()
    return (found.st_size, found.st_mtime_ns, found.st_ino)


def _is_wanted(name: str) -> bool:
    *folders, last = PurePosixPath(name).parts or ("",)
    return (
        bool(last)
        and not last.startswith(".")
        and last.lower() not in SYSTEM_FILES
        and not any(is_system_folder(folder) for folder in folders if folder != ".")
    )


class Archive(Protocol):
    """A file with members."""

    def members(self) -> Iterator[tuple[str, Member, tuple[int, ...]]]:
        """Yield name, member and identity of each file."""


@dataclass(frozen=True)
class Refused:
    """A member that is not read."""

    reason: str

    def open(self) -> BinaryIO:
        raise UnreadableError(self.reason)


def _refusal(size: int) -> str | None:
    return f"its size is said to be {size:,} bytes (a zip bomb?)" if size > MOST_BYTES else None


class Zip:
    """A zip archive, open as long as a member of it is in use."""

    def __init__(self, path: Path) -> None:
        with reading(path):
            self._file = zipfile.ZipFile(path)

    def members(self) -> Iterator[tuple[str, Member, tuple[int, ...]]]:
        for info in self._file.infolist():
            if info.is_dir():
                continue
            reason = "it is encrypted" if info.flag_bits & ENCRYPTED_FLAG else _refusal(info.file_size)
            reason = "a link, not a file" if (info.external_attr >> 16) & 0o170000 == 0o120000 else reason
            member: Member = Refused(reason) if reason else ZipMember(self._file, info)
            yield _zip_name(info), member, (info.CRC, info.file_size, info.header_offset)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a name as it was meant: without the flag of UTF-8 it is in the code page of its system."""
    if info.flag_bits & UTF8_FLAG or info.filename.isascii():
        return info.filename
    raw = info.filename.encode("cp437")
    for encoding in ("utf-8", "cp949"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return info.filename


@dataclass(frozen=True)
class ZipMember:
    file: zipfile.ZipFile
    info: zipfile.ZipInfo

    def open(self) -> BinaryIO:
        try:
            return BytesIO(self.file.read(self.info))
        except OSError:
            raise
        except Exception as error:  # damage surfaces as BadZipFile, zlib.error, NotImplementedError, …
            raise UnreadableError(one_line(error, 200)) from error


class Tar:
    """A tar archive; a compressed one is unpacked into a file without a name, which goes with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path):
            file: BinaryIO = path.open("rb")
            if not path.name.lower().endswith(".tar"):
                file = _unpacked(path, file)
        self._opened = OpenFile(file)

    def members(self) -> Iterator[tuple[str, Member, tuple[int, ...]]]:
        with reading(self._path), tarfile.open(fileobj=self._opened.file, mode="r:") as tar:
            for info in tar:
                if info.isdir():
                    continue
                identity = (info.size, int(info.mtime), info.offset_data)
                yield info.name.removeprefix("./"), self._member(info), identity

    def _member(self, info: tarfile.TarInfo) -> Member:
        if info.issym() or info.islnk():
            return Refused("a link, not a file")
        if not info.isreg() or info.issparse():
            return Refused("a device or another special file")
        if reason := _refusal(info.size):
            return Refused(reason)
        return TarMember(self._opened, info.offset_data, info.size)


class OpenFile:
    """A file that several threads read, closed with the last member of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.lock = file, threading.Lock()
        weakref.finalize(self, file.close)


@dataclass(frozen=True)
class TarMember:
    opened: OpenFile
    offset: int
    size: int

    def open(self) -> BinaryIO:
        with self.opened.lock:
            self.opened.file.seek(self.offset)
            content = self.opened.file.read(self.size)
        if len(content) < self.size:
            raise UnreadableError("it is cut off")
        return BytesIO(content)


def _unpacked(path: Path, file: BinaryIO) -> BinaryIO:
    import bz2
    import gzip
    import lzma

    suffix = path.suffix.lower()
    with file:
        opener: Any = gzip.open if "gz" in suffix else bz2.open if "bz2" in suffix else lzma.open
        out = tempfile.TemporaryFile()  # noqa: SIM115  open as long as its members are in use
        try:
            with opener(file) as unpacking:
                _copy(path, unpacking, out)
            out.seek(0)
        except BaseException:
            out.close()
            raise
    return out


def _copy(path: Path, unpacking: BinaryIO, out: BinaryIO) -> None:
    most = MOST_GROWTH * max(path.stat().st_size, COPIED_AT_ONCE)
    while piece := unpacking.read(COPIED_AT_ONCE):
        if out.tell() > most:
            raise CnnbenchError(
                f"{path} unpacks to more than {MOST_GROWTH} times its size",
                "no pictures do; if these are, unpack it yourself",
            )
        out.write(piece)


# -- Parquet ---------------------------------------------------------------------------------------


class Cells:
    """A column of pictures in a Parquet file, read forwards and a few rows at a time.

    Args:
        path: of the file.
        column: of bytes, or of structures with a field `bytes`.
    """

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._file = parquet_file(path)
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = [sum(sizes[:group]) for group in range(len(sizes))]
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, list[bytes | None]] = OrderedDict()  # by the row of the first
        self._batches: Iterator[Any] = iter(())
        self._group, self._next = -1, 0  # of the batches

    def read(self, row: int) -> bytes | None:
        """Return the bytes of one row; None where the cell is empty."""
        with self._lock:
            found = self._found(row)
            if found is None:
                group = max(group for group, start in enumerate(self._starts) if start <= row)
                if group != self._group or row < self._next:
                    self._group, self._next = group, self._starts[group]
                    self._batches = self._file.iter_batches(ROWS_AT_ONCE, [group], [self._column])
                while found is None:
                    self._take(next(self._batches), wanted=row)
                    found = self._found(row)
            return found[0]

    def _found(self, row: int) -> tuple[bytes | None] | None:
        for start, values in self._kept.items():
            if start <= row < start + len(values):
                return (values[row - start],)
        return None

    def _take(self, batch: Any, wanted: int) -> None:
        if self._next <= wanted < self._next + len(batch):
            column = batch.column(0)
            values = column.field("bytes") if hasattr(column, "field") else column
            self._kept[self._next] = values.to_pylist()
            while len(self._kept) > BATCHES_KEPT:
                self._kept.popitem(last=False)
        self._next += len(batch)


@dataclass(frozen=True)
class Cell:
    cells: Cells
    row: int

    def open(self) -> BinaryIO:
        try:
            content = self.cells.read(self.row)
        except OSError:
            raise
        except Exception as error:  # damage surfaces as ArrowInvalid and others
            raise UnreadableError(one_line(error, 200)) from error
        if content is None:
            raise UnreadableError("no bytes")
        return BytesIO(content)


def image_column(path: Path) -> str | None:
    """Return the column of a Parquet file that holds the bytes of pictures; None without one.

    Raises:
        CnnbenchError: several do.
    """
    import pyarrow as pa

    def holds_bytes(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    found = [
        field.name
        for field in parquet_file(path).schema_arrow
        if holds_bytes(field.type)
        or (
            pa.types.is_struct(field.type)
            and field.type.get_field_index("bytes") >= 0
            and holds_bytes(field.type.field("bytes").type)
        )
    ]
    if len(found) > 1:
        raise CnnbenchError(
            f"{path} has several columns of bytes: {', '.join(found)}", f"dataset.image={found[0]}"
        )
    return found[0] if found else None


def class_names(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the names of the classes by column, as the library `datasets` writes them into Parquet."""
    import json

    metadata = parquet_file(path).schema_arrow.metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        found = {}
        for column, feature in features.items():
            inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
            if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
                found[column] = tuple(str(name) for name in inner["names"])
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    return found
