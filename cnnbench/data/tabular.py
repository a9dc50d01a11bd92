"""Tables in files: CSV with any separator and encoding, Parquet, JSON lines; each error names the row."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnbench.data.dataset import listed
from cnnbench.data.reading import reading, special_file
from cnnbench.errors import CnnbenchError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

DATE = r"^\d{4}[-/.]\d{2}[-/.]\d{2}([T ]\d{2}:\d{2}(:\d{2}([.]\d{1,6})?)?(Z|[-+]\d{2}(:?\d{2})?)?)?$"
ZONE = r":.*(Z|[-+]\d{2}(:?\d{2})?)$"
SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".txt", ".parquet", ".pq", ".jsonl", ".ndjson", ".json")
PARQUET, JSON = (".parquet", ".pq"), (".jsonl", ".ndjson", ".json")
SEPARATORS = ",;\t|^~: "  # of equally good ones the first is taken
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "#n/a", "?", "-"))
NUMBER = r"^[-+]?((\d+[.]?\d*|[.]\d+)([eE][-+]?\d+)?|(?i:inf|infinity))$"
THOUSANDS = r"^[-+]?[1-9]\d{0,2}(,\d{3})+$"
LOOKED_AT = 20  # rows that tell the separator
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
FOREIGN = {  # what a file begins with that is no text: name, and what to do
    b"PK\x03\x04": ("a workbook or an archive", "save the sheet as CSV (UTF-8)"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "save the sheet as CSV (UTF-8)"),
    b"\x1f\x8b": ("compressed by gzip", "unpack it: gunzip FILE"),
    b"SQLite format": ("an SQLite database", "export the table as CSV"),
}
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "usage")  # usual names, in small letters
SPLIT_WORDS = {  # what a cell or the name of an array calls a split, in small letters and without a mark
    **dict.fromkeys(("train", "training", "trainset", "trainingset", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "valset", "validationset"), "val"),
    **dict.fromkeys(("dev", "devset", "eval", "evaluation", "evalset", "evaluationset", "publictest"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "testingset", "te", "tst"), "test"),
    **dict.fromkeys(("holdout", "heldout", "holdoutset", "privatetest"), "test"),
}
ENCODING, SEPARATOR, ROWS, FIRST = b"encoding", b"separator", b"rows", b"first_row"


def read_table(
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    content: bytes | None = None,
    keep_blank: bool = False,
) -> pa.Table:
    """Read a table.

    Cells of CSV stay the text that they are, without the white space around it, and empty ones are null;
    Parquet and JSON have types. Rows without any cell are left out, and the numbers of the others (see
    `row_number`) are those that a spreadsheet or an editor shows.

    Args:
        path: CSV or TSV with a header and any separator, in UTF-8, UTF-16, UTF-32 (with or without a mark),
            cp949 or cp1252; Parquet; JSON lines or a list of JSON objects. Its first bytes tell Parquet,
            whatever its name.
        columns: those to read; None for all.
        content: of a table of text that is a part of another file; `path` then only names it.
        keep_blank: keep rows of Parquet without any cell, which have one in a column that is not read.

    Returns:
        the table; its metadata have `encoding` and `separator` of CSV.

    Raises:
        CnnbenchError: the file is missing, is no table, or is damaged; the message names the row.
    """
    if content is None:
        if is_parquet(path):
            return _numbered(_parquet(path, columns), 1, keep_blank=keep_blank)
        with reading(path):
            content = path.read_bytes()
    is_json = path.suffix.lower() in JSON
    table = from_records(path, _records(path, _decoded(path, content)[0])) if is_json else _csv(path, content)
    return table if columns is None else table.select([find_column(path, table, name) for name in columns])


def column_names(path: Path) -> list[str]:
    """Return the names of the columns; of Parquet without reading a row."""
    if is_parquet(path):
        return list(parquet_file(path).schema_arrow.names)
    return list(read_table(path).column_names)


def row_number(table: pa.Table, index: int) -> int:
    """Return the number of a row as a spreadsheet shows it, for messages: in CSV the header is row 1."""
    metadata = table.schema.metadata or {}
    if ROWS in metadata:
        return int(np.frombuffer(metadata[ROWS], np.int64)[index])
    return index + int(metadata.get(FIRST, b"1"))


def find_column(path: Path, table: pa.Table, name: str) -> str:
    """Return the name of a column as the file has it, whatever its case.

    Raises:
        CnnbenchError: there is none.
    """
    if name in table.column_names:
        return name
    alike = [one for one in table.column_names if one.lower() == name.lower()]
    if len(alike) == 1:
        return str(alike[0])
    raise CnnbenchError(
        f"{path} has no column {name}", f"{nearest(name, table.column_names)}; {columns_of(table)}"
    )


def columns_of(table: pa.Table) -> str:
    """Return a few words that name the columns, for hints."""
    return f"its columns: {listed(table.column_names, 12)}"


def texts(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column as texts without white space around them; empty ones are null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.column(name)
    if pa.types.is_nested(column.type):
        raise CnnbenchError(
            f"column {name} is of the type {column.type}, which is no text", "name another column"
        )
    if pa.types.is_floating(column.type) and _all_whole(column):
        column = column.cast(pa.int64())  # 0.0 is how a column of integers with gaps is stored
    column = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def numbers(
    path: Path,
    table: pa.Table,
    name: str,
    *,
    or_flags: bool = False,
    where: Callable[[int], str] | None = None,
) -> np.ndarray:
    """Return a column as float64; what is missing is NaN.

    Args:
        path: of the file.
        table: its rows.
        name: of the column.
        or_flags: `True` and `False` are 1 and 0, in a column of nothing else.
        where: says which row it is; None for the number in the file.

    Raises:
        CnnbenchError: a cell is no number, or may be two (1,234); the message names the row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    place = where or (lambda index: f"{path}, row {row_number(table, index)}")
    column = table.column(name)
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(column.cast(pa.float64()).fill_null(np.nan).to_numpy())
    if not pa.types.is_decimal(kind) and not pa.types.is_string(kind):
        raise CnnbenchError(f"{path}: column {name} is of the type {kind}, which is no number")
    column = column.cast(pa.string())
    is_missing = pc.is_in(pc.utf8_lower(column), pa.array(sorted(MISSING)), skip_nulls=False)
    column = pc.if_else(is_missing, pa.scalar(None, pa.string()), column)
    small = pc.utf8_lower(column)
    if or_flags and pc.all(pc.is_in(small.drop_null(), pa.array(["true", "false"]))).as_py():
        return np.asarray(pc.equal(small, "true").cast(pa.float64()).fill_null(np.nan).to_numpy())
    if (table.schema.metadata or {}).get(SEPARATOR) not in (None, b","):  # where 1,5 is one cell
        _refuse_thousands(name, column, place)
        is_decimal_comma = pc.match_substring_regex(column, r"^[-+]?\d+,\d+$")
        column = pc.if_else(is_decimal_comma, pc.replace_substring(column, ",", "."), column)
    try:
        return np.asarray(column.cast(pa.float64()).fill_null(np.nan).to_numpy())
    except pa.ArrowInvalid as error:
        is_odd = pc.invert(pc.fill_null(pc.match_substring_regex(column, NUMBER), fill_value=True))
        index = int(np.argmax(is_odd.to_numpy()))
        text = column[index].as_py()
        has_comma = re.fullmatch(r"[-+]?\d+,\d+", text)
        raise CnnbenchError(
            f"{place(index)}: {name} is {text!r}, not a number",
            f"write {text.replace(',', '.')} or {text.replace(',', '')}"
            if has_comma
            else "mend the cell, or leave it empty where the value is not known",
        ) from error


def _refuse_thousands(name: str, cells: pa.ChunkedArray, where: Callable[[int], str]) -> None:
    """Refuse cells such as 1,234 where no other has a comma that is surely one or the other."""
    import pyarrow.compute as pc

    has_comma = pc.fill_null(pc.match_substring(cells, ","), fill_value=False)
    commas = cells.filter(has_comma)
    if not len(commas) or not pc.all(pc.match_substring_regex(commas, THOUSANDS)).as_py():
        return
    index, text = int(np.argmax(has_comma.to_numpy())), str(commas[0].as_py())
    whole, point = text.replace(",", ""), text.replace(",", ".")
    may_be = f"may be {whole} or {point}" if text.count(",") == 1 else "has commas between the thousands"
    raise CnnbenchError(
        f"{where(index)}: {name} is {text!r}, which {may_be}",
        f"write {whole}" + (f", or {point}" if text.count(",") == 1 else ""),
    )


def places_in_order(path: Path, table: pa.Table, name: str, where: Callable[[int], str]) -> np.ndarray:
    """Return ``(n,)`` values, greater for what comes later: numbers, or dates as microseconds.

    Raises:
        CnnbenchError: a cell is empty, or neither a number nor a date.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.column(name)
    how = "write 2024-01-31, or a number"
    if pa.types.is_string(column.type):
        is_date = pc.fill_null(pc.match_substring_regex(column, DATE), fill_value=True)
        has_zone = pc.fill_null(pc.match_substring_regex(column, ZONE), fill_value=False)
        if pc.any(pc.and_(is_date, column.is_valid())).as_py():
            if not pc.all(is_date).as_py():
                row = int(np.argmin(is_date.to_numpy()))
                raise CnnbenchError(
                    f"{where(row)}: {name} is {column[row].as_py()!r}, where others are dates", how
                )
            zones = pc.any(has_zone).as_py()
            lacks = pc.and_(column.is_valid(), pc.invert(has_zone))
            if zones and pc.any(lacks).as_py():
                row = int(np.argmax(lacks.to_numpy()))
                raise CnnbenchError(
                    f"{where(row)}: {name} is {column[row].as_py()!r}, without the time zone of others",
                    "write one in each row, 2024-01-31T12:00:00Z, or in none",
                )
            kind = pa.timestamp("us", "UTC" if zones else None)
            try:
                column = pc.replace_substring_regex(column, r"[/.](\d{2})[/.](\d{2})", r"-\1-\2").cast(kind)
            except pa.ArrowInvalid as error:
                raise CnnbenchError(f"{path}: column {name} has a date that is none: {error}", how) from error
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise CnnbenchError(
            f"{where(row)}: {name} is empty, so its place in the order is not known", "mend it"
        )
    if pa.types.is_temporal(column.type):
        return np.asarray(column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy())
    try:
        found = numbers(path, table, name, where=where)
    except CnnbenchError as error:
        is_no_number = error.message.endswith("not a number")
        raise (CnnbenchError(f"{error.message} or a date", how) if is_no_number else error) from error
    if not np.isfinite(found).all():
        row = int(np.argmin(np.isfinite(found)))
        raise CnnbenchError(
            f"{where(row)}: {name} is {found[row]}, which has no place in an order", "mend it"
        )
    return found


def split_named(text: str) -> str | None:
    """Return the split that a cell names (`Training`, `Test set`, `PublicTest`); None for no such."""
    return SPLIT_WORDS.get(re.sub(r"[\W_]+", "", text.lower()))


def _all_whole(column: pa.ChunkedArray) -> bool:
    import pyarrow.compute as pc

    values = column.drop_null()
    limit = 2.0**53
    inside = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), limit))
    return bool(pc.all(inside).as_py())


def _numbered(table: pa.Table, first: int, *, keep_blank: bool = False, **found: str) -> pa.Table:
    """Return a table with the number of its first row, and without rows in which every cell is null."""
    import pyarrow.compute as pc

    metadata = {FIRST: str(first).encode(), **{key.encode(): text.encode() for key, text in found.items()}}
    if keep_blank:
        return table.replace_schema_metadata(metadata)
    is_blank = None
    for column in table.columns:
        if column.null_count == 0:
            break
        nulls = pc.is_null(column)
        is_blank = nulls if is_blank is None else pc.and_(is_blank, nulls)
    else:
        if is_blank is not None and pc.any(is_blank).as_py():
            kept = pc.invert(is_blank)
            metadata[ROWS] = (np.flatnonzero(kept.to_numpy()) + first).astype(np.int64).tobytes()
            table = table.filter(kept)
    return table.replace_schema_metadata(metadata)


# -- Parquet ---------------------------------------------------------------------------------------


def is_parquet(path: Path) -> bool:
    """Tell whether a file is Parquet by its first bytes.

    Raises:
        CnnbenchError: it is not there, may not be read, or is no file.
    """
    with reading(path):
        if special := special_file(path):
            raise CnnbenchError(
                f"{path} is {special}, not a table", "name a file: CSV, Parquet or JSON lines"
            )
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"


def parquet_file(path: Path) -> Any:
    """Open a Parquet file; `schema_arrow` and `metadata` are read, no row is."""
    import pyarrow.parquet as pq

    with reading(path):
        return pq.ParquetFile(path)


def _parquet(path: Path, columns: Sequence[str] | None) -> pa.Table:
    import pyarrow as pa

    with reading(path), parquet_file(path) as file:
        if columns is not None:
            names = file.schema_arrow.empty_table()
            columns = [find_column(path, names, name) for name in columns]
        table = file.read(columns)
    for index, column in enumerate(table.columns):
        kind = column.type
        if pa.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            column = column.cast(pa.string())
        table = table.set_column(index, table.column_names[index], column)
    return table


# -- JSON ------------------------------------------------------------------------------------------


def from_records(path: Path, records: Iterable[tuple[int, Any]], *, keep_blank: bool = False) -> pa.Table:
    """Return the table of JSON objects, each with the number of its row; what one lacks is null.

    Args:
        path: of the file.
        records: the objects.
        keep_blank: keep those without any value.

    Raises:
        CnnbenchError: there is none, one is no object, or a column has values of two types.
    """
    cells: dict[str, list[Any]] = {}
    count = 0
    for number, record in records:
        if not isinstance(record, dict):
            raise CnnbenchError(
                f"{path}, row {number}: {str(record)[:60]!r} is no JSON object",
                'a row is an object: {"image": "a.jpg", "label": "cat"}',
            )
        for name, value in record.items():
            column = cells.setdefault(name, [])
            column += [None] * (count - len(column)) + [value]  # what earlier rows lack
        count += 1
    for column in cells.values():
        column += [None] * (count - len(column))
    if not cells:
        raise CnnbenchError(f"{path} has no rows", 'a row is an object: {"image": "a.jpg", "label": "cat"}')
    import pyarrow as pa

    table = pa.table({name: _array(path, name, values) for name, values in cells.items()})
    return _numbered(table, 1, keep_blank=keep_blank)


def _records(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Yield the objects of JSON lines, or of one list, with the number of each."""
    try:
        if text.lstrip().startswith("["):
            yield from enumerate(json.loads(text), 1)
            return
        number = 0
        for number, line in enumerate(io.StringIO(text), 1):
            yield number, json.loads(line) if line.strip() else {}
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno if text.lstrip().startswith('[') else number}"
        raise CnnbenchError(
            f"{where}: it is no JSON: {error.msg}", "one object a line, or one list of objects"
        ) from error
    except RecursionError as error:
        raise CnnbenchError(f"{path}: its lists are nested too deeply") from error


def _array(path: Path, name: str, values: list[Any]) -> pa.Array:
    import pyarrow as pa

    if {float, int} <= (types := {type(value) for value in values}) and bool not in types:
        values = [float(value) if type(value) is int else value for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        first = next(index for index, value in enumerate(values) if value is not None)
        kind = type(values[first])
        odd = next(
            (i for i, value in enumerate(values) if value is not None and type(value) is not kind), first
        )
        raise CnnbenchError(
            f"{path}, row {odd + 1}: {name} is {json.dumps(values[odd])[:60]}, but in row {first + 1} it is "
            f"{json.dumps(values[first])[:60]}",
            "give a column one type",
        ) from error


# -- CSV -------------------------------------------------------------------------------------------


def _decoded(path: Path, content: bytes) -> tuple[str, str]:
    """Return the text of a file, and its encoding."""
    for beginning, (what, hint) in FOREIGN.items():
        if content.startswith(beginning):
            raise CnnbenchError(f"{path} is {what}, not a table of text", hint)
    marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    if marked is None and b"\0" in content[:4096]:
        marked = "utf-16-be" if content[0] == 0 else "utf-16-le"
    for encoding in [marked] if marked else ["utf-8", "cp949", "cp1252"]:
        try:
            text = content.decode(encoding)
            if "\0" in text:
                raise CnnbenchError(f"{path} is no text: it has zero bytes", "save the table as CSV (UTF-8)")
            return text, encoding  # noqa: TRY300
        except UnicodeDecodeError as error:
            if marked or encoding == "utf-8":
                row = content.count(b"\n", 0, error.start) + 1
    raise CnnbenchError(
        f"{path}, row {row}: it is neither UTF-8 nor UTF-16, cp949 or cp1252", "save the table as UTF-8"
    )


def _csv(path: Path, content: bytes) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    text, encoding = _decoded(path, content)
    if "\r" in text and "\n" not in text:
        text = text.replace("\r", "\n")
    begun = len(text) - len(text.lstrip("\r\n"))
    above = text.count("\n", 0, begun)
    text = text[begun:].rstrip("\r\n\x1a")  # the last is how DOS ends a file
    if not text.strip():
        raise CnnbenchError(f"{path} is empty", "its first row names the columns, such as image,label")
    separator = _separator(text)
    names, lines = _header(path, text, separator)
    body = text.split("\n", lines)[lines] if text.count("\n") >= lines else ""
    if not body.strip():
        raise CnnbenchError(f"{path} has a header and no rows", "write a row for each example below it")
    wrong: list[Any] = []

    def refused(row: Any) -> str:
        wrong.append(row)
        return "error"

    def parsed(use_threads: bool) -> pa.Table:
        return pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=pa_csv.ReadOptions(column_names=names, use_threads=use_threads),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator,
                newlines_in_values='"' in body,
                ignore_empty_lines=False,
                invalid_row_handler=refused,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
            ),
        )

    data = body.encode()
    first = above + 2
    try:
        table = parsed(use_threads=True)
    except pa.ArrowInvalid as error:
        wrong.clear()
        try:
            parsed(use_threads=False)  # which tells the row
        except pa.ArrowInvalid:
            raise _ragged(path, wrong, names, separator, first) from error
        raise
    stripped = {name: texts(table, name) for name in names}
    table = _numbered(pa.table(stripped), first, encoding=encoding, separator=separator)
    _refuse_second_header(path, table)
    if body.count('"') % 2:
        _refuse_open_quotation(path, table)
    return table


def _separator(text: str) -> str:
    """Return what separates the cells: what gives the first rows equally many, and most."""
    sample = "\n".join(islice((line for line in io.StringIO(text[: 2**18]) if line.strip()), LOOKED_AT))
    best, most = ",", 1
    for separator in SEPARATORS:
        rows = [row for row in csv.reader(io.StringIO(sample), delimiter=separator) if row]
        widths = {len(row) for row in rows}
        # One bad row is not to change what the others say; it is refused by name later.
        width = len(rows[0])
        agree = sum(len(row) == width for row in rows)
        if width > most and (len(widths) == 1 or agree >= max(2, len(rows) - 1)):
            best, most = separator, width
        if most > 1 and separator in "|~":  # a colon or a space is taken only where nothing else is
            break
    return best


def _header(path: Path, text: str, separator: str) -> tuple[list[str], int]:
    """Return the names of the columns, and how many lines they take."""
    rows = csv.reader(io.StringIO(text[: 2**20]), delimiter=separator)
    try:
        names = [name.strip() for name in next(rows)]
    except csv.Error as error:
        raise CnnbenchError(f"{path}, row 1: {error}", "its first row names the columns") from error
    names = [name or f"column {number}" for number, name in enumerate(names, 1)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CnnbenchError(f"{path} has two columns {twice[0]}", "rename or remove one")
    return names, rows.line_num


def _ragged(
    path: Path, wrong: Sequence[Any], names: Sequence[str], separator: str, first: int
) -> CnnbenchError:
    shown = {"\t": "a tab", " ": "a space"}.get(separator, separator)
    if not wrong:
        return CnnbenchError(f"{path} is damaged: a quotation mark is not closed", "close it")
    row = wrong[0]
    number = first - 1 + row.number if row.number is not None else "?"
    cells = "1 cell" if row.actual_columns == 1 else f"{row.actual_columns} cells"
    unclosed = row.text.count('"') % 2
    hint = "a quotation mark there is not closed" if unclosed else f'a cell with {shown} in it is written "…"'
    return CnnbenchError(
        f"{path}, row {number}: it has {cells}, and the header {len(names)}: {row.text[:60]!r}", hint
    )


def _refuse_second_header(path: Path, table: pa.Table) -> None:
    import pyarrow.compute as pc

    repeats = None
    for name in table.column_names:
        same = pc.fill_null(pc.equal(table.column(name), name), fill_value=False)
        repeats = same if repeats is None else pc.and_(repeats, same)
        if not pc.any(repeats).as_py():
            return
    index = int(np.flatnonzero(np.asarray(repeats))[0])
    raise CnnbenchError(
        f"{path}, row {row_number(table, index)}: it repeats the header",
        "remove that row; were two files joined?",
    )


def _refuse_open_quotation(path: Path, table: pa.Table) -> None:
    """Refuse a last row that has swallowed those after it; an odd mark inside a cell, as in 5", is none."""
    last = len(table) - 1
    for name in table.column_names:
        cell = table.column(name)[last].as_py()
        if cell and "\n" in cell:
            raise CnnbenchError(
                f"{path}, row {row_number(table, last)}: a quotation mark is not closed: {cell[:60]!r}",
                "close it",
            )
