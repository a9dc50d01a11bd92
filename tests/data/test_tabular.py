"""Tables in files: any separator and encoding, types of Parquet and JSON, and errors that name the row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnbench.data.tabular import numbers, read_table, row_number
from cnnbench.errors import CnnbenchError

ROWS = [{"image": "그림.jpg", "label": "고양이"}, {"image": "b.jpg", "label": "개"}]
TEXT = "image,label\n그림.jpg,고양이\nb.jpg, 개\n"


def table(tmp_path: Path, content: bytes | str, name: str = "t.csv") -> pa.Table:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp949"]
)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_give_the_same_table(tmp_path: Path, encoding: str, ends: str) -> None:
    assert table(tmp_path, TEXT.replace("\n", ends).encode(encoding)).to_pylist() == ROWS


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "^", "~", " ", ":"])
def test_any_separator_is_found(tmp_path: Path, separator: str) -> None:
    text = "image,label,n\na.jpg,cat,1\nb.jpg,dog,2\n".replace(",", separator)
    assert table(tmp_path, text).column_names == ["image", "label", "n"]


def test_a_separator_inside_cells_does_not_win(tmp_path: Path) -> None:
    found = table(tmp_path, 'image,label\na.jpg,cat;dog\nb.jpg,"dog, wild"\n')
    assert found.column("label").to_pylist() == ["cat;dog", "dog, wild"]


def test_rows_have_the_numbers_that_a_spreadsheet_shows(tmp_path: Path) -> None:
    found = table(tmp_path, "\nimage,label\na.jpg,cat\n\n,\nb.jpg,dog\n\n")
    assert [row_number(found, index) for index in range(len(found))] == [3, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("image,label\n", "has a header and no rows"),
        ("image,label\na.jpg,cat\nb.jpg,dog,1\n", "row 3: it has 3 cells, and the header 2"),
        ('image,label\na.jpg,cat\nb.jpg,"dog\nc.jpg,dog\n', "row 3: a quotation mark is not closed"),
        ("image,label\na.jpg,cat\nimage,label\nb.jpg,dog\n", "row 3: it repeats the header"),
        ("image,image\na,b\n", "has two columns image"),
        (b"PK\x03\x04...", "is a workbook or an archive"),
        (b"image,label\na.jpg,\xff\xff\x81\x81\n", "row 2: it is neither UTF-8 nor"),
        (b"a\0\0\0\0b", "is no text: it has zero bytes"),
    ],
)
def test_a_broken_table_is_refused_with_its_row(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(CnnbenchError) as error:
        table(tmp_path, content)
    assert message in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"image": "a", "label": 1}\n{"image": "b", "label": "x"}\n', "row 2: label is"),
        ('{"image": "a"}\n{"image": "b"\n', "line 2: it is no JSON"),
        ('{"image": "a"}\n[1]\n', "row 2: '[1]' is no JSON object"),
    ],
)
def test_broken_json_is_refused_with_its_row(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(CnnbenchError) as error:
        table(tmp_path, content, "t.jsonl")
    assert message in error.value.message


def test_numbers_may_be_missing_and_have_a_decimal_comma(tmp_path: Path) -> None:
    found = table(tmp_path, "a;b\n1,5;2\n;NA\n-3;4x\n")
    assert np.array_equal(numbers(Path("t"), found, "a"), [1.5, np.nan, -3], equal_nan=True)
    with pytest.raises(CnnbenchError, match="row 4: b is '4x', not a number"):
        numbers(Path("t"), found, "b")


def test_a_comma_that_may_be_of_thousands_is_refused(tmp_path: Path) -> None:
    found = table(tmp_path, "a;b;c;d\n7;0,125;1,234,567;1,234\n1,234;1,250;;1,5\n")
    with pytest.raises(CnnbenchError, match=r"row 3: a is '1,234', which may be 1234 or 1\.234"):
        numbers(Path("t"), found, "a")
    with pytest.raises(CnnbenchError, match="row 2: a is '1,5', not a number") as error:
        numbers(Path("t"), table(tmp_path, 'a,b\n"1,5",2\n'), "a")
    assert error.value.hint == "write 1.5 or 15"
    with pytest.raises(CnnbenchError, match=r"row 2: c is '1,234,567'") as error:
        numbers(Path("t"), found, "c")
    assert error.value.hint == "write 1234567"
    assert numbers(Path("t"), found, "b").tolist() == [0.125, 1.25]
    assert numbers(Path("t"), found, "d").tolist() == [1.234, 1.5]


def test_one_bad_row_of_a_million_is_named(tmp_path: Path) -> None:
    rows = ["1.5"] * 1_000_000
    rows[765_432] = "1.5.0"
    found = table(tmp_path, "\n".join(["x", *rows]))
    with pytest.raises(CnnbenchError, match=r"row 765434: x is '1.5.0', not a number"):
        numbers(Path("t"), found, "x")
    text = "\n".join(["x,y", *(f"{row},1" for row in rows)]).replace("1.5.0,1", "1")
    with pytest.raises(CnnbenchError, match="row 765434: it has 1 cell, and the header 2"):
        table(tmp_path, text)


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@settings(deadline=None)  # the first of them imports pyarrow
@given(st.lists(st.fixed_dictionaries({"image": CELLS, "label": CELLS}), min_size=1, max_size=8))
def test_what_arrow_writes_is_read_whatever_is_in_the_cells(rows: list[dict[str, str]]) -> None:
    import io

    import pyarrow.csv as pa_csv

    out = io.BytesIO()
    pa_csv.write_csv(pa.Table.from_pylist(rows), out)
    try:
        assert read_table(Path("t.csv"), content=out.getvalue()).to_pylist() == rows
    except CnnbenchError as error:
        assert "repeats the header" in error.message  # noqa: PT017  a row that is one


def test_parquet_is_known_by_its_bytes_and_read_by_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    pq.write_table(pa.table({"a": [1, 2], "b": pa.array(["x", "y"]).dictionary_encode()}), path)
    assert read_table(path, ["B"]).to_pylist() == [{"b": "x"}, {"b": "y"}]
    with pytest.raises(CnnbenchError, match="has no column c"):
        read_table(path, ["c"])
