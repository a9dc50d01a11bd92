"""Rows of pictures: of a table that names files, of an archive, of Parquet files, of WebDataset shards."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.data.dataset import listed
from cnnbench.data.fetch import search_folders
from cnnbench.data.images import archives, columns
from cnnbench.data.images.archives import Cell, Cells, is_archive
from cnnbench.data.images.decoding import UnreadableError
from cnnbench.data.images.layout import (
    IMAGE_SUFFIXES,
    ImageFile,
    composed,
    count_classes,
    may_be_image,
    split_of,
)
from cnnbench.data.images.places import UNEVEN, Disk, Inside, even, resolve
from cnnbench.data.reading import damaged, reading
from cnnbench.data.tabular import (
    PARQUET,
    SEPARATOR,
    SUFFIXES,
    find_column,
    from_records,
    is_parquet,
    parquet_file,
    read_table,
    row_number,
    texts,
)
from cnnbench.errors import CnnbenchError

if TYPE_CHECKING:
    import pyarrow as pa

LABELS, SPLIT = ("cls", "class", "label"), "split"  # endings of a shard's files, and a column
ADDRESS = r"^[A-Za-z][A-Za-z0-9+.-]+://"
PATTERN = frozenset("*?[")


@dataclass(frozen=True)
class Pictures:
    """Pictures, and a table of what is known of each.

    Attributes:
        place: where they are from, for messages.
        table: a row for each picture.
        names: of the pictures; None for one that is not there.
        image_of: makes the file of a row that has a name.
        where: says which row it is.
        image: the column that names them; None where none does.
        reasons: why a picture is not there, by its row.
        classes: names of the classes that a column has as indices.
        notes: a line for each thing to know.
    """

    place: Path
    table: pa.Table
    names: Sequence[str | None]
    image_of: Callable[[int], ImageFile]
    where: Callable[[int], str]
    image: str | None = None
    reasons: Mapping[int, str] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_pictures(
    file: str, root: str | None, image: str | None, label: str | Sequence[str] | None, data_dir: str | None
) -> Pictures:
    """Return the rows of what `file` names.

    Args:
        file: a table, an archive, a Parquet file or shard, a pattern of such, or a folder that holds them.
        root: where relative names in a table begin; None for the folder of the table.
        image: column as typed.
        label: column or columns as typed.
        data_dir: looked in for what is not in the working folder.

    Raises:
        CnnbenchError: there is nothing, or it holds no pictures.
    """
    place, paths = _paths(file, data_dir)
    if root is not None:
        roots = [one / Path(root).expanduser() for one in (Path.cwd(), *search_folders(data_dir))]
        folder = next((one for one in roots if one.is_dir()), None)
        if folder is None:
            raise CnnbenchError(f"dataset.root={root}: there is no such folder", "where do the pictures lie?")
    else:
        folder = None
    found = [_read(path, folder, image, label) for path in paths]
    return found[0] if len(found) == 1 else _joined(place, paths, found)


def _paths(file: str, data_dir: str | None) -> tuple[Path, list[Path]]:
    """Return what a name means, and the files that are to be read."""
    wanted = Path(file).expanduser()
    places = [Path.cwd()] if wanted.is_absolute() else [Path.cwd(), *search_folders(data_dir)]
    for place in places:
        path = place / wanted
        with reading(path):
            if path.is_dir():
                return path, files_in(path)
            if path.exists():
                return path, [path]
        if PATTERN & set(file):
            found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
            if found:
                return path, found
    looked = "" if wanted.is_absolute() else f" in {', '.join(map(str, places))}"
    raise CnnbenchError(
        f"dataset.file={file}: there is no such file{looked}",
        "expected is a table with a row for each picture (image,label), an archive or Parquet files",
    )


def files_in(folder: Path) -> list[Path]:
    """Return the tables that name pictures, the Parquet files with pictures, or the shards in a folder.

    Raises:
        CnnbenchError: there is none, or there are several that do not belong together.
    """
    tables = tables_in(folder)
    if len(tables) == 1 or (tables and _are_splits(tables)):
        return tables
    if tables:
        lines = " or ".join(f"dataset.file={path}" for path in tables[:3])
        raise CnnbenchError(f"{folder} has {len(tables)} tables that name pictures", lines)
    if found := _stores(folder):
        return found
    raise CnnbenchError(
        f"{folder} has no table that names pictures, no Parquet files and no archives",
        f"write {folder / 'labels.csv'}: image,label and a row for each picture",
    )


def _stores(folder: Path) -> list[Path]:
    """Return the Parquet files or the archives in a folder."""
    for pattern in ("*.parquet", "data/*.parquet", "*/*.parquet", "*.tar", "*.tar.gz", "*.tgz", "*.zip"):
        if found := sorted(path for path in folder.glob(pattern) if not path.name.startswith(".")):
            return found
    return []


def tables_in(folder: Path) -> list[Path]:
    """Return the tables in a folder that have columns of pictures and of labels."""
    found = []
    with reading(folder):
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    for path in paths:
        if path.is_file() and not path.name.startswith("."):
            try:
                names_pictures(path, with_labels=True)
                found.append(path)
            except CnnbenchError:  # another table, or none
                continue
    return found


def holds_manifest(path: Path) -> bool:
    """Tell whether a path is for `manifest`: a table of pictures, an archive, or a folder with such.

    A folder with class folders is none.
    """
    if path.is_dir():
        return count_classes(path) < 2 and bool(tables_in(path) or _stores(path))
    if is_archive(path.name):
        return path.is_file()
    if path.suffix.lower() not in SUFFIXES:
        return False
    try:
        names_pictures(path)
    except CnnbenchError:  # another table, or none
        return False
    return True


def names_pictures(path: Path, *, with_labels: bool = False) -> None:
    """Refuse what is no table of pictures.

    Raises:
        CnnbenchError: why it is none.
    """
    if is_parquet(path) and archives.image_column(path) is not None:
        if with_labels:
            raise CnnbenchError(f"{path} has pictures in it")
        return
    table = read_table(path)
    column = columns.image_column(path, table, None)
    # An `id` or a `path` may be of anything.
    if not columns.tells_images(table, column):
        beginning = table.slice(0, columns.SAMPLE)
        if not all(_named(path, beginning, Disk(path.parent), column, None).names):
            raise CnnbenchError(f"{path}: column {column} names no files")
    if with_labels:
        columns.columns(path, table, None, None)


def _are_splits(paths: Sequence[Path]) -> bool:
    return "train" in (found := [split_of(path.stem) for path in paths]) and None not in found


def _read(path: Path, root: Path | None, image: str | None, label: str | Sequence[str] | None) -> Pictures:
    if is_archive(path.name):
        _refuse_root(path, root)
        return _in_archive(path, image, label)
    if is_parquet(path):
        column = (
            image if image and _has_bytes(path, image) else None if image else archives.image_column(path)
        )
        if column is not None:
            _refuse_root(path, root)
            return _in_parquet(path, column)
    table = read_table(path)
    return _named(path, table, Disk(root or path.parent), image, label)


def _refuse_root(path: Path, root: Path | None) -> None:
    if root is not None:
        raise CnnbenchError(
            f"dataset.root={root} is for a table that names files, and {path} holds the pictures itself",
            "leave dataset.root out",
        )


def _joined(place: Path, paths: Sequence[Path], parts: Sequence[Pictures]) -> Pictures:
    """Return the pictures of several files as those of one; their names may tell the splits."""
    import pyarrow as pa

    _refuse_other_classes(place, paths, parts)
    tables = [part.table for part in parts]
    notes = [note for part in parts for note in part.notes]
    if _are_splits(paths) and not any(SPLIT in table.column_names for table in tables):
        named = [(table, str(split_of(path.stem))) for table, path in zip(tables, paths, strict=True)]
        tables = [table.append_column(SPLIT, pa.array([split] * len(table))) for table, split in named]
        notes.append(f"{place}: the names of {len(paths)} files tell the splits")
    try:
        table = pa.concat_tables(
            [table.replace_schema_metadata(None) for table in tables], promote_options="permissive"
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise CnnbenchError(
            f"{place}: the columns of {paths[0].name} and others differ: {error}", "name one: dataset.file="
        ) from error
    if len(separators := {(one.schema.metadata or {}).get(SEPARATOR) for one in tables}) == 1:
        known = separators.pop()  # numbers have a decimal comma, or not
        table = table.replace_schema_metadata({SEPARATOR: known} if known else None)
    ends = list(accumulate(len(part.table) for part in parts))
    is_one_folder = len({path.parent for path in paths}) == 1
    # Names that two files may share, of different pictures, have a beginning of their own.
    before = [
        f"{path.name}/" if part.image is None else "" if is_one_folder else f"{path.parent}/"
        for path, part in zip(paths, parts, strict=True)
    ]

    def part_of(row: int) -> tuple[int, int]:
        index = bisect_right(ends, row)
        return index, row - (ends[index - 1] if index else 0)

    def image_of(row: int) -> ImageFile:
        index, inner = part_of(row)
        file = parts[index].image_of(inner)
        return replace(file, name=f"{before[index]}{file.name}")

    def where(row: int) -> str:
        index, inner = part_of(row)
        return parts[index].where(inner)

    names = [
        None if name is None else f"{beginning}{name}"
        for beginning, part in zip(before, parts, strict=True)
        for name in part.names
    ]
    reasons = {
        row + end - len(part.table): why
        for part, end in zip(parts, ends, strict=True)
        for row, why in part.reasons.items()
    }
    return Pictures(
        place, table, names, image_of, where, parts[0].image, reasons, parts[0].classes, tuple(notes)
    )


def _refuse_other_classes(place: Path, paths: Sequence[Path], parts: Sequence[Pictures]) -> None:
    """Refuse files in which the same index stands for another class."""
    for path, part in zip(paths, parts, strict=True):
        if part.classes == parts[0].classes:
            continue
        both = {**parts[0].classes, **part.classes}
        column = next(name for name in both if part.classes.get(name) != parts[0].classes.get(name))
        first, other = (listed(one.classes.get(column, ("none",)), 5) for one in (parts[0], part))
        raise CnnbenchError(
            f"{place}: the classes of {column} are {first} in {paths[0].name}, and {other} in {path.name}",
            "write the names of the classes into both in the same order, or their labels as texts",
        )


# -- Tables that name files ------------------------------------------------------------------------


def _named(
    path: Path, table: pa.Table, tree: Disk | Inside, image: str | None, label: str | Sequence[str] | None
) -> Pictures:
    """Find the files that a column of a table names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def where(row: int) -> str:
        return f"{path}, row {row_number(table, row)}"

    taken = [label] if isinstance(label, str) else list(label or ())
    column = columns.image_column(path, table, image, [find_column(path, table, one) for one in taken])
    if pa.types.is_nested(table.column(column).type):
        said = json.dumps(table.column(column)[0].as_py(), default=str)[:60]
        raise CnnbenchError(
            f"{where(0)}: {column} is {said}, not the name of a file",
            f'write "{column}": "a.jpg"',
        )
    cells = pc.replace_substring(texts(table, column), "\\", "/")
    if cells.null_count:
        row = cells.is_null().to_numpy().argmax()
        raise CnnbenchError(f"{where(row)}: {column} is empty", "name the picture, or remove the row")
    is_address = pc.match_substring_regex(cells, ADDRESS).to_numpy()
    if is_address.any():
        row = is_address.argmax()
        raise CnnbenchError(
            f"{where(row)}: {column} is an address, {cells[row].as_py()}", "fetch the pictures first"
        )
    written = cells.to_pylist()
    for row in pc.match_substring_regex(cells, UNEVEN).to_numpy().nonzero()[0].tolist():
        written[row] = even(written[row])
        if written[row].startswith(".."):
            raise CnnbenchError(
                f"{where(row)}: {cells[row].as_py()} lies outside the folder of the pictures",
                "name the folder above, dataset.root=FOLDER, and write the paths from there",
            )
    found = resolve(tree, written)
    names = found.names

    def image_of(row: int) -> ImageFile:
        name = names[row]
        assert name is not None  # only rows with a name are asked for
        return tree.image(name)

    notes = tuple(f"{path}: {note}" for note in found.notes)
    return Pictures(path, table, names, image_of, where, column, found.reasons, notes=notes)


# -- Parquet with pictures in it -------------------------------------------------------------------


def _has_bytes(path: Path, name: str) -> bool:
    import pyarrow as pa

    schema = parquet_file(path).schema_arrow
    kind = schema.field(find_column(path, schema.empty_table(), name)).type
    return bool(pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _in_parquet(path: Path, column: str) -> Pictures:
    schema = parquet_file(path).schema_arrow
    others = [name for name in schema.names if name != column]
    if not others:
        raise CnnbenchError(
            f"{path} has pictures in column {column} and no other column", "where is the label?"
        )
    table = read_table(path, others, keep_blank=True)  # a row is that of its picture
    cells, identity = Cells(path, column), archives.status(path)

    def where(row: int) -> str:
        return f"{path}, row {row + 1}"

    def image_of(row: int) -> ImageFile:
        return ImageFile(path, f"{row + 1}", (*identity, row), member=Cell(cells, row))

    names = [str(row + 1) for row in range(len(table))]
    return Pictures(path, table, names, image_of, where, classes=archives.class_names(path))


# -- Archives --------------------------------------------------------------------------------------


def _in_archive(path: Path, image: str | None, label: str | Sequence[str] | None) -> Pictures:
    """Return the pictures of an archive: shards, class folders, or a table beside pictures."""
    inside = Inside(path, archives.entries(path))
    if found := _shard(path, inside):
        return found
    tables = [
        name
        for name in inside.entries
        if name.lower().endswith(SUFFIXES) and not name.lower().endswith(PARQUET) and name.count("/") < 3
    ]
    named = []
    for name in tables:
        where = path / name
        try:
            table = read_table(where, content=_content(where, inside, name))
            columns.columns(where, table, image, label)
        except CnnbenchError:  # another table, or none
            continue
        named.append((name, table))
    found = _class_folders(path, inside)
    if found is not None and image is None and label is None:
        if not named:
            return found
        note = f"{path}: not used, for the folders are the classes: {listed([name for name, _ in named])}"
        return replace(found, notes=(*found.notes, f"{note}; dataset.label=COLUMN uses it"))
    if len(named) > 1:
        raise CnnbenchError(
            f"{path} has {len(named)} tables that name pictures: {listed([name for name, _ in named])}",
            "unpack it, and name one: dataset.file=TABLE",
        )
    if not named:
        raise CnnbenchError(
            f"{path} has no folders of pictures for two classes, and no table that names pictures",
            "expected are CLASS/*.jpg, labels.csv with image,label, or NAME.jpg with NAME.cls",
        )
    name, table = named[0]
    folder = name.rpartition("/")[0]
    if folder:
        prefix = f"{folder}/"
        entries = [
            replace(entry, name=entry.name.removeprefix(prefix))
            for entry in inside.entries.values()
            if entry.name.startswith(prefix)
        ]
        inside = Inside(path, entries)
    return _named(path / name, table, inside, image, label)


def _content(where: Path, inside: Inside, name: str) -> bytes:
    try:
        with inside.entries[name].member.open() as file:
            return file.read()
    except (OSError, UnreadableError) as error:
        raise damaged(where, str(error)) from error


def _class_folders(path: Path, inside: Inside) -> Pictures | None:
    """Return the pictures of class folders, with or without folders of splits above; None for no such."""
    import pyarrow as pa

    names = [name for name in inside.entries if may_be_image(name.rpartition("/")[2])]
    folders = {name: name.split("/")[:-1] for name in names}
    above = 0
    while names and len({tuple(parts[: above + 1]) for parts in folders.values()}) == 1:
        if any(len(parts) <= above for parts in folders.values()):
            break
        above += 1
    tops = {parts[above] for parts in folders.values() if len(parts) > above}
    splits = {top: split_of(top) for top in tops}
    has_splits = len(tops) > 1 and "train" in splits.values() and None not in splits.values()
    rows = []
    beside = []
    for name in names:
        parts = folders[name][above:]
        split = splits[parts.pop(0)] if has_splits and parts else None
        if (
            split
            and len(parts) > 1
            and split_of(parts[0]) == split
            and parts[0].lower() == folders[name][above].lower()
        ):
            parts.pop(0)
        if not parts:
            beside.append(name)
            continue
        below = "/".join([*parts, name.rpartition("/")[2]])
        rows.append((split, composed(parts[0]), composed(below), name))
    if len({label for _, label, _, _ in rows}) < 2:
        return None
    rows.sort(key=lambda row: row[2:])  # as in a folder
    table = pa.table({"label": [row[1] for row in rows]})
    if has_splits:
        table = table.append_column(SPLIT, pa.array([row[0] for row in rows]))
    ordered = [row[3] for row in rows]
    notes = (f"{path}: not used, for they are in no class folder: {listed(beside)}",) if beside else ()
    return Pictures(
        path,
        table,
        ordered,
        lambda row: inside.image(ordered[row]),
        lambda row: f"{path}: {ordered[row]}",
        notes=notes,
    )


# -- WebDataset ------------------------------------------------------------------------------------


def _shard(path: Path, inside: Inside) -> Pictures | None:
    """Return the examples of a shard: files that share a name up to its first full stop; None for no such."""
    examples: dict[str, dict[str, str]] = {}
    for name in inside.entries:
        folder, slash, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        examples.setdefault(f"{folder}{slash}{stem}", {})[ending.lower()] = name
    pictures = {
        key: [ending for ending in files if f".{ending.rpartition('.')[2]}" in IMAGE_SUFFIXES]
        for key, files in examples.items()
    }
    told = [key for key, found in pictures.items() if found and {*LABELS, "json"} & set(examples[key])]
    if 2 * len(told) <= sum(map(bool, pictures.values())) or not told:
        return None
    keys = [key for key, found in pictures.items() if found]
    if several := [key for key in keys if len(pictures[key]) > 1]:
        raise CnnbenchError(
            f"{path}: {several[0]} has {len(pictures[several[0]])} pictures: {listed(pictures[several[0]])}",
            "an example is one picture",
        )
    records = _labels(path, inside, [examples[key] for key in keys])
    table = from_records(path, enumerate(records, 1), keep_blank=True)  # a row for each picture
    names = [examples[key][pictures[key][0]] for key in keys]
    return Pictures(
        path, table, names, lambda row: inside.image(names[row]), lambda row: f"{path}: {names[row]}"
    )


def _labels(path: Path, inside: Inside, examples: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield what the files beside each picture say; the number in `.cls` stays a text, like a name."""
    for files in examples:
        record: dict[str, Any] = {}
        if (name := files.get("json")) is not None:
            try:
                content = json.loads(_content(path / name, inside, name))
            except (ValueError, RecursionError) as error:
                raise damaged(path / name, str(error)) from error
            if not isinstance(content, dict):
                record = {"label": content}
            else:
                record = {key: value for key, value in content.items() if not isinstance(value, dict)}
        for ending in LABELS:
            if (name := files.get(ending)) is not None:
                record["label"] = _content(path / name, inside, name).decode(errors="replace").strip()
        yield record
