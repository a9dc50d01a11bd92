"""The data set `table`: which columns are what, missing cells, splits, targets, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cnnbench.data.dataset import Column, Fact
from cnnbench.data.sources.table_file import encode_rows, table
from cnnbench.data.splits import with_validation
from cnnbench.data.tabular import read_table
from cnnbench.errors import CnnbenchError

ROWS = 60
AREA = np.arange(ROWS) * 0.5 + 20
CITY = np.array(["Seoul", "Busan", "Jeju"])[np.arange(ROWS) % 3]
PRICE = AREA * 3 + np.arange(ROWS) % 3


def homes(**more: Any) -> dict[str, list[Any]]:
    """Columns of a table; one that is None is left out."""
    columns = {"city": CITY.tolist(), "area": AREA.tolist(), "price": PRICE.tolist(), **more}
    return {name: list(values) for name, values in columns.items() if values is not None}


def write(
    folder: Path, columns: dict[str, list[Any]], name: str = "homes.csv", encoding: str = "utf-8"
) -> str:
    lines = [",".join(columns)]
    lines += [
        ",".join("" if cell is None else str(cell) for cell in row)
        for row in zip(*columns.values(), strict=True)
    ]
    (folder / name).write_text("\n".join(lines), encoding=encoding)
    return str(folder / name)


def rows_of(x: np.ndarray) -> list[int]:
    """The rows of the file, by their area."""
    return [round((value - 20) * 2) for value in x[:, 1]]


def test_numbers_and_categories_are_told_apart_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    more = {
        "id": range(1, ROWS + 1),
        "name": [f"home {index}" for index in range(ROWS)],
        "nothing": [None] * ROWS,
        "floor": ["" if index % 6 == 0 else index % 4 for index in range(ROWS)],
    }
    found = table(write(tmp_path, homes(**more), encoding="utf-16"), "price")
    assert found.columns == (Column("city", ("Busan", "Jeju", "Seoul")), Column("area"), Column("floor"))
    assert found.task == "regression"
    assert found.target_names == ("price",)
    assert found.train.x.dtype == np.float32
    rows = rows_of(found.train.x)
    assert np.allclose(found.train.y, PRICE[rows])
    assert [found.columns[0].categories[int(code)] for code in found.train.x[:, 0]] == CITY[rows].tolist()
    assert np.array_equal(np.isnan(found.train.x[:, 2]), np.array(rows) % 6 == 0)
    assert found.train.names is not None
    assert found.train.names[0] == f"homes.csv:{rows[0] + 2}"  # the header is row 1
    notes = "\n".join(found.notes)
    assert "60 rows; 2 of numbers: area, floor; 1 of categories: city (3)" in notes
    assert "left out: id (counts the rows), name (60 different texts in 60 cells), nothing (empty)" in notes
    assert "empty cells, which the model fills: floor 10" in notes
    assert "12 of 60 rows are held out" in notes


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    columns = homes(new=(np.arange(ROWS) % 2 == 0).tolist())
    pq.write_table(pa.table(columns), tmp_path / "homes.parquet")
    there = table(str(tmp_path / "homes.parquet"), "price")
    here = table(write(tmp_path, {**columns, "new": [int(one) for one in columns["new"]]}), "price")
    assert there.columns == here.columns
    assert np.array_equal(there.train.x, here.train.x)
    assert np.array_equal(there.test.y, here.test.y)


def test_a_column_named_split_says_which_rows_are_tested_on(tmp_path: Path) -> None:
    places = ["Train", "train", "dev", "test"] * 15
    file = write(tmp_path, homes(split=places, part=["training", "validation", "test"] * 20))
    found = table(file, "price", exclude=["part"])
    assert rows_of(found.test.x) == list(range(3, ROWS, 4))
    assert found.val is not None
    assert rows_of(found.val.x) == list(range(2, ROWS, 4))
    assert [column.name for column in found.columns] == ["city", "area"]
    named = table(file, "price", split="PART", columns=["city", "area"])
    assert rows_of(named.test.x) == list(range(2, ROWS, 3))
    another = write(tmp_path, homes(split=["left", "right"] * 30), "other.csv")
    assert [column.name for column in table(another, "price").columns] == ["city", "area", "split"]


def test_a_category_that_train_lacks_is_missing_and_said(tmp_path: Path) -> None:
    city = ["Daegu" if index == 3 else one for index, one in enumerate(CITY)]
    found = table(write(tmp_path, homes(city=city, split=["train", "train", "train", "test"] * 15)), "price")
    assert found.columns[0].categories == ("Busan", "Jeju", "Seoul")
    assert np.isnan(found.test.x[0, 0])
    assert not np.isnan(found.test.x[1:, 0]).any()
    assert "city: in test, but not in train, so missing values: Daegu" in found.notes


def test_groups_weights_and_categories_of_numbers_are_told_by_name(tmp_path: Path) -> None:
    more = {"who": [index // 4 for index in range(ROWS)], "counts": [index % 5 for index in range(ROWS)]}
    found = table(
        write(tmp_path, homes(**more, code=[100 + index % 2 for index in range(ROWS)])),
        "price",
        group="who",
        weight="counts",
        categorical=["code"],
    )
    assert found.columns == (
        Column("city", ("Busan", "Jeju", "Seoul")),
        Column("area"),
        Column("code", ("100", "101")),
    )
    assert found.train.weights is not None
    assert found.train.groups is not None
    assert found.train.weights.tolist() == [row % 5 for row in rows_of(found.train.x)]
    assert len(np.unique(found.train.groups)) <= 15


def test_the_last_rows_of_an_order_are_held_out(tmp_path: Path) -> None:
    days = [f"2024-{1 + index % 12:02}-{1 + index // 12:02}" for index in range(ROWS)]
    found = table(write(tmp_path, homes(day=days)), "price", order="day", test_fraction=0.25)
    tested = {days[row] for row in rows_of(found.test.x)}
    trained = {days[row] for row in rows_of(found.train.x)}
    assert len(found.test) == 15
    assert min(tested) > max(trained)
    assert any("the last 15 of 60 rows are held out" in note for note in found.notes)
    drawn = with_validation(found, 0.2, None, 0)
    assert drawn.val is not None
    assert min(days[row] for row in rows_of(drawn.val.x)) > max(days[row] for row in rows_of(drawn.train.x))
    with pytest.raises(CnnbenchError, match="the same place in the order"):
        table(write(tmp_path, homes(day=[1] * ROWS)), "price", order="day")


@pytest.mark.parametrize(
    ("target", "more", "keys", "task", "names"),
    [
        ("dear", {"dear": ["yes", "no"] * 30}, {}, "binary", ("no", "yes")),
        ("dear", {"dear": ["yes", "no"] * 30}, {"positive": "no"}, "binary", ("yes", "no")),
        ("city", {}, {}, "multiclass", ("Busan", "Jeju", "Seoul")),
        ("grade", {"grade": [1.0, 2.0, 3.0] * 20}, {}, "multiclass", ("1", "2", "3")),
        (["price", "area"], {"size": AREA * 2}, {}, "regression", ()),
        (["a", "b"], {"a": [1, 0, 1, 1] * 15, "b": [0, 0, 1, 1] * 15}, {}, "multilabel", ("a", "b")),
        (["a", "b"], {"a": [1, 0] * 30, "b": [0, 1] * 30}, {}, "binary", ("a", "b")),
    ],
)
def test_the_target_says_the_task(
    target: Any, more: dict[str, Any], keys: dict[str, Any], task: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    found = table(write(tmp_path, homes(**more)), target, **keys)
    assert found.task == task
    assert found.class_names == names
    assert set(found.target_names) == (set(target) if task == "regression" else set())
    if target == "dear":
        first = names.index("yes")
        assert found.train.y.tolist() == [
            first if row % 2 == 0 else 1 - first for row in rows_of(found.train.x)
        ]


def with_cell(name: str, row: int, cell: Any) -> dict[str, list[Any]]:
    columns = homes()
    columns[name][row - 2] = cell
    return columns


DATES = [f"2019-03-{1 + index % 28:02}" for index in range(ROWS)]
WRONG: list[tuple[str, dict[str, list[Any]], dict[str, Any], str]] = [
    ("no target", homes(), {"target": "prise"}, r"target=prise: .*no column prise.*did you mean price"),
    ("no column", homes(), {"exclude": ["x"]}, r"dataset\.exclude=x: .*has no column x"),
    ("empty target", with_cell("price", 7, None), {}, r"row 7: price is empty, as in 1 of 60 rows"),
    ("NaN target", with_cell("price", 7, "nan"), {}, r"row 7: price is empty"),
    ("infinite target", with_cell("price", 7, "inf"), {}, r"row 7: price is inf"),
    ("a word for a number", with_cell("area", 9, "big"), {}, r"row 9: area is 'big'.*categorical=\[area\]"),
    ("a word in the target", with_cell("price", 9, "dear"), {}, r"row 9: price is 'dear', not a number"),
    ("too large", with_cell("area", 9, "1e39"), {}, r"row 9: area is 1e\+39"),
    ("dates", homes(sold=DATES), {}, r"sold has dates, such as 2019.*dataset\.exclude=\[sold\]"),
    ("Korean dates", homes(sold=[f"2019년 {1 + i % 12}월" for i in range(ROWS)]), {}, "sold has dates"),
    ("a date to predict", homes(sold=DATES), {"target": "sold"}, "sold has dates"),
    ("a name to predict", homes(k=[f"n{i}" for i in range(ROWS)]), {"target": "k"}, "60 different texts"),
    ("unknown split", homes(part=["train"] * 59 + ["later"]), {"split": "part"}, r"row 61: part is 'later'"),
    ("empty split", homes(part=["train"] * 59 + [None]), {"split": "part"}, r"row 61: part is empty"),
    ("no train", homes(split=["test"] * ROWS), {}, "says train of no row"),
    ("empty group", homes(who=[*range(59), None]), {"group": "who"}, r"row 61: who is empty"),
    ("negative weight", homes(w=[*range(59), -1]), {"weight": "w"}, r"row 61: w is -1"),
    ("one class", homes(k=["a"] * ROWS), {"target": "k"}, "all targets are a"),
    ("a rare class", homes(k=["a"] * 59 + ["b"]), {"target": "k"}, "b has 1"),
    ("nothing to learn from", {"price": PRICE.tolist()}, {}, "no column to learn from"),
    ("the same twice", homes(), {"target": ["price", "price"]}, "one twice"),
    ("texts of several", homes(), {"target": ["price", "city"]}, r"row 2: city is 'Seoul', not a number"),
    ("a class as a number", homes(), {"target": "price", "task": "multiclass"}, "no whole numbers"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "keys", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_a_wrong_table_is_one_line_that_names_the_row(
    columns: dict[str, list[Any]], keys: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CnnbenchError, match=words):
        table(write(tmp_path, columns), **{"target": "price", **keys})


def test_rows_to_predict_have_the_codes_of_the_model(tmp_path: Path) -> None:
    columns = (Column("area"), Column("city", ("Busan", "Seoul")))
    file = write(
        tmp_path, {"city": ["Seoul", "Jeju", None, "Jeju"], "extra": [1] * 4, "AREA": [1, "x", None, 4]}
    )
    x, wrong, unknown = encode_rows(Path(file), read_table(Path(file)), columns)
    assert np.array_equal(x[:, 1], [1, np.nan, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(x[[0, 2, 3], 0], [1, np.nan, 4], equal_nan=True)
    assert wrong == {1: "area is 'x', not a number"} or wrong == {1: "AREA is 'x', not a number"}
    assert unknown == {"city=Jeju": 2}
    with pytest.raises(CnnbenchError, match="lacks floor, hall, which"):
        encode_rows(Path(file), read_table(Path(file)), (Column("floor"), Column("hall"), columns[0]))


@pytest.mark.parametrize(("name", "odd"), [("split", "tset"), ("split", None), ("Subset", "tset")])
def test_an_odd_cell_of_a_split_column_is_refused_by_row(name: str, odd: str | None, tmp_path: Path) -> None:
    places = ["train", "train", "Test set", "holdout", "eval"] * 12
    found = table(write(tmp_path, homes(**{name: places})), "price")
    assert found.val is not None
    assert (len(found.train), len(found.val), len(found.test)) == (24, 12, 24)
    assert f"homes.csv: {name} says the splits" in found.notes
    assert [column.name for column in found.columns] == ["city", "area"]
    places[7] = odd  # type: ignore[call-overload]
    file = write(tmp_path, homes(**{name: places}))
    with pytest.raises(CnnbenchError, match=f"row 9: {name} is ") as refused:
        table(file, "price")
    assert refused.value.hint is not None
    assert f"dataset.exclude=[{name}]" in refused.value.hint
    assert len(table(file, "price", exclude=[name]).test) == 12


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CnnbenchError, match="names a column twice"):
        table(write(tmp_path, homes()), "price", columns=["area", "Area"])


def test_an_accent_of_one_sign_or_two_is_one_category(tmp_path: Path) -> None:
    city = ["caf\u00e9" if index % 2 else "cafe\u0301" for index in range(ROWS)]
    file = write(tmp_path, homes(city=[f"{one} {index % 3}" for index, one in enumerate(city)]))
    found = table(file, "price")
    assert found.columns[0].categories == ("caf\u00e9 0", "caf\u00e9 1", "caf\u00e9 2")
    x, _, unknown = encode_rows(Path(file), read_table(Path(file)), found.columns)
    assert unknown == {}
    assert np.array_equal(x[:, 0], np.arange(ROWS) % 3)


def test_whole_numbers_that_32_bits_make_equal_are_told(tmp_path: Path) -> None:
    days = [20240101 + index % 30 for index in range(ROWS)]
    notes = table(write(tmp_path, homes(day=days)), "price").notes
    (note,) = [one for one in notes if "one number in 32 bits" in one]
    assert "day: 20240101 and 20240102" in note or "day: 20240103 and 20240104" in note
    assert not isinstance(note, Fact)
    even = table(write(tmp_path, homes(day=[2 * day - 20_000_000 for day in days])), "price").notes
    assert not [one for one in even if "32 bits" in one]


def test_what_is_asked_for_by_name_is_a_category(tmp_path: Path) -> None:
    found = table(write(tmp_path, homes()), "price", categorical=["area"])
    assert [len(column.categories) > 40 for column in found.columns] == [False, True]


def test_hints_say_what_helps(tmp_path: Path) -> None:
    file = write(tmp_path, homes(price=["none", "1", "2"] * 20))
    with pytest.raises(
        CnnbenchError, match="price is 'none', which counts as empty, as in 20 of 60"
    ) as refused:
        table(file, "price")
    assert refused.value.hint is not None
    assert "dataset.task=multiclass" in refused.value.hint
    assert table(file, "price", task="multiclass").class_names == ("1", "2", "none")
    with pytest.raises(CnnbenchError, match="of 1 group leaves none to train or to test on"):
        table(write(tmp_path, homes(who=["a"] * ROWS)), "price", group="who")
