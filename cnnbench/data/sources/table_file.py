"""The data set `table`: rows of numbers and categories in a CSV, Parquet or JSON file of one's own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from cnnbench.data.dataset import Column, Dataset, Fact, Split, Task, listed
from cnnbench.data.partition import TooFewError, hold_out_last
from cnnbench.data.sources.arrays import find_file
from cnnbench.data.tabular import (
    SPLIT_COLUMNS,
    SUFFIXES,
    columns_of,
    find_column,
    numbers,
    places_in_order,
    read_table,
    row_number,
    split_named,
    texts,
)
from cnnbench.data.targets import Targets, drawn_apart, read_targets
from cnnbench.errors import CnnbenchError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CATEGORIES = 1000  # of one column, each a value of its own for the network
NEARLY_ALL = 0.9  # from this share on the different texts of a column are meant to be what most of them are
FEW = 20  # different texts, up to which they are categories even if half of the cells differ
COUNTS_ROWS = 10  # from so many rows on a column 1, 2, 3 … is no accident
WHOLE = 2**24  # from here on float32 has not every whole number
SHOWN = 8  # columns that a note names
DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{2,4}"
    r"|[A-Za-z]{3,9} \d{1,2},? \d{4}|\d{4}년 ?\d{1,2}월( ?\d{1,2}일)?)([T ]\d{1,2}:\d{2}.*)?"
    r"|\d{1,2}:\d{2}(:\d{2}.*)?"
)


@dataclass(frozen=True)
class Trained:
    """What a model was trained on, as which another table is read to measure it.

    Attributes:
        columns: that it takes.
        class_names: in the order of its outputs; empty for regression.
    """

    columns: tuple[Column, ...]
    class_names: tuple[str, ...]


def table(
    file: Annotated[str, Field(min_length=1)],
    target: str | list[str],
    columns: list[str] | None = None,
    exclude: Sequence[str] = (),
    categorical: Sequence[str] = (),
    task: Task | None = None,
    split: str | None = None,
    group: str | None = None,
    order: str | None = None,
    weight: str | None = None,
    positive: str | None = None,
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 42,
    data_dir: str | None = None,
    trained: Trained | None = None,
) -> Dataset:
    """Load a table whose rows are the examples: columns of numbers, and of texts, which are categories.

    Cells may be empty. The model fills them, and takes apart the categories, by what the training rows have
    (see `TableColumns`), so that it takes rows as they are here. Row numbers and columns of texts that are
    all different are left out.

    Args:
        file: CSV with any separator and encoding, Parquet, or JSON lines, looked for in the working folder,
            then in the data folders.
        target: the column to predict; several of a regression, or of 0 and 1 for as many labels.
        columns: to learn from; None: all others.
        exclude: columns to leave out.
        categorical: columns of numbers that are categories, such as postal codes.
        task: None: as the target says.
        split: a column that says train, val or test of each row; None: one of the name `split`, `set`,
            `subset`, `partition` or `usage` in which a cell says train or test.
        group: a column; rows with the same value never lie in two splits.
        order: a column of numbers or dates; the last rows are held out, to test on and for validation.
        weight: a column: how much each row counts in the training.
        positive: which of two classes is the positive one; None: the second.
        test_fraction: of the rows, equal ones counted once, by class, if nothing says which are to test on.
        split_seed: of that draw.
        data_dir: looked in first for a relative `file` that is not in the working folder.
        trained: given by `evaluate`: columns, categories and classes are those of a model, and the
            keys that choose columns are not used.

    Returns:
        x ``(n, columns)`` float32: numbers, and codes of categories; NaN where a cell is empty.

    Raises:
        CnnbenchError: the file or a column is missing, or a cell is wrong; the row is named.
    """
    path = find_file(file, data_dir)
    source = _Source(path, read_table(path))
    wanted = [source.column("target", name) for name in ([target] if isinstance(target, str) else target)]
    if not wanted or len(set(wanted)) < len(wanted):
        raise CnnbenchError(
            f"dataset.target={wanted} names no column, or one twice", columns_of(source.table)
        )
    chosen = wanted if columns is None else [*wanted, *columns]
    places = _split_of_rows(source, split, {name.lower() for name in (*chosen, *exclude)})
    if trained is not None:
        inputs = _inputs_of(source, trained)
    else:
        aside = {
            *wanted,
            *([places.column] if places is not None else ()),
            *(
                source.column(key, name)
                for key, name in (("group", group), ("order", order), ("weight", weight))
                if name is not None
            ),
            *(source.column("exclude", name) for name in exclude),
        }
        named = None if columns is None else [source.column("columns", name) for name in columns]
        if named and len(set(named)) < len(named):
            raise CnnbenchError(f"dataset.columns={named} names a column twice", "name each once")
        names = [name for name in named or source.table.column_names if name not in aside]
        inputs = _inputs(
            source, names, {source.column("categorical", name) for name in categorical}, named is not None
        )
    y = _target(source, wanted, task)
    classes: Sequence[str] | None = wanted if y.ndim > 1 else None
    if trained is not None and trained.class_names and y.ndim == 1:
        classes, y = trained.class_names, _as_texts(y)
    found = read_targets({"": y}, f"{path.name}, {', '.join(wanted)}", task, classes, positive)
    whole = Split(
        inputs.x,
        found.y[""],
        None if group is None else _groups(source, source.column("group", group)),
        None if weight is None else _weights(source, source.column("weight", weight)),
        [f"{path.name}:{row_number(source.table, index)}" for index in range(len(source.table))],
        None if order is None else _order(source, source.column("order", order)),
    )
    splits, told = _splits(source, whole, places, found, test_fraction, split_seed)
    if trained is not None:
        columns_of_train, strange = inputs.columns, list[str]()
    else:
        columns_of_train, strange = _of_train(source, inputs.columns, splits)
    return Dataset(
        name=path.stem,
        task=found.task,
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        class_names=found.class_names,
        notes=(*inputs.notes, *_missing(path, inputs), *strange, *map(Fact, told), *map(Fact, found.notes)),
        target_names=tuple(wanted) if found.task == "regression" else (),
        columns=columns_of_train,
    )


@dataclass(frozen=True)
class _Source:
    """A table, and the file that it comes from."""

    path: Path
    table: pa.Table

    def column(self, key: str, name: str) -> str:
        """Return the name of a column as the file has it; `key` is what names it in the config."""
        try:
            return find_column(self.path, self.table, name)
        except CnnbenchError as error:
            raise CnnbenchError(f"dataset.{key}={name}: {error.message}", error.hint) from error

    def row(self, index: int) -> str:
        """Return file and row, as errors begin."""
        return f"{self.path}, row {row_number(self.table, index)}"


# -- Inputs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Inputs:
    """The columns to learn from.

    Attributes:
        x: ``(n, columns)`` float32.
        columns: with the categories of all rows.
        notes: what was found, and what is left out.
    """

    x: np.ndarray
    columns: tuple[Column, ...]
    notes: tuple[str, ...]


def _inputs(source: _Source, names: Sequence[str], categorical: set[str], are_named: bool) -> _Inputs:
    found: list[tuple[Column, np.ndarray]] = []
    left_out, merged = list[str](), list[str]()
    for name in names:
        values = _numbers_or_texts(source, name, name in categorical)
        if isinstance(values, np.ndarray):
            _refuse_infinite(source, name, values)
            if not are_named and _counts_rows(values):
                left_out.append(f"{name} (counts the rows)")
            elif np.isnan(values).all():
                left_out.append(f"{name} (empty)")
            else:
                found.append((Column(name), values))
                merged += _made_equal(source, name, values)
            continue
        known = len(values) - values.null_count
        encoded = values.combine_chunks().dictionary_encode()
        different = len(encoded.dictionary)
        if known == 0:
            left_out.append(f"{name} (empty)")
        elif name not in categorical and (
            2 < different == known or (different > FEW and different > known / 2)
        ):
            left_out.append(f"{name} ({different:,} different texts in {known:,} cells)")
        elif different > MOST_CATEGORIES:
            raise CnnbenchError(
                f"{source.path}: {name} has {different:,} categories; at most {MOST_CATEGORIES:,} are taken",
                f"leave it out, dataset.exclude=[{name}], or join rare ones",
            )
        else:
            found.append(_category(name, encoded))
    if not found:
        raise CnnbenchError(
            f"{source.path} has no column to learn from"
            + (f"; left out: {listed(left_out)}" if left_out else ""),
            columns_of(source.table),
        )
    return _Inputs(
        np.stack([values for _, values in found], axis=1).astype(np.float32),
        tuple(column for column, _ in found),
        (*map(Fact, _found(source, [column for column, _ in found], left_out)), *merged),
    )


def _inputs_of(source: _Source, trained: Trained) -> _Inputs:
    """Return what a model takes of another table.

    Raises:
        CnnbenchError: it lacks a column, or a cell is no number.
    """
    x, wrong, unknown = encode_rows(source.path, source.table, trained.columns)
    for row, text in sorted(wrong.items()):
        raise CnnbenchError(
            f"{source.row(row)}: {text}", "mend the cell, or leave it empty where the value is not known"
        )
    notes = list[str](map(Fact, _found(source, trained.columns, [])))
    if unknown:
        counted = [f"{name} ({count:,})" for name, count in unknown.items()]
        notes.append(f"categories that this run does not know count as missing: {listed(counted)}")
    return _Inputs(x, trained.columns, tuple(notes))


def _numbers_or_texts(source: _Source, name: str, is_category: bool) -> np.ndarray | Any:
    """Return a column as float64 with NaN for empty cells, or as texts with null for them.

    Raises:
        CnnbenchError: they are dates, or numbers but for a few cells; or nothing of the three.
    """
    import pyarrow as pa

    kind = source.table.column(name).type
    is_text = pa.types.is_string(kind) or pa.types.is_null(kind)
    if pa.types.is_temporal(kind):
        raise _date(source, name, source.table.column(name).drop_null()[:1].to_pylist())
    if not is_text and not (pa.types.is_boolean(kind) or pa.types.is_decimal(kind) or _is_number_type(kind)):
        raise CnnbenchError(
            f"{source.path}: {name} is of the type {kind}, neither numbers nor texts",
            f"leave it out: dataset.exclude=[{name}]",
        )
    if is_category or not is_text:
        return _texts(source, name) if is_category else numbers(source.path, source.table, name)
    try:
        return numbers(source.path, source.table, name)
    except CnnbenchError as error:
        found = _texts(source, name)
        different = found.unique().drop_null().to_pylist()
        if sum(map(_is_number, different)) >= NEARLY_ALL * len(different):
            raise CnnbenchError(
                error.message, f"{error.hint}; or, if these are categories: dataset.categorical=[{name}]"
            ) from error
        dates = [text for text in different if DATE.fullmatch(text)]
        if len(dates) >= NEARLY_ALL * len(different):
            raise _date(source, name, dates) from error
        return found


def _is_number_type(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _date(source: _Source, name: str, examples: Sequence[Any]) -> CnnbenchError:
    shown = f", such as {examples[0]}" if examples else ""
    return CnnbenchError(
        f"{source.path}: {name} has dates{shown}, which are neither numbers nor categories",
        f"make numbers of them (a year, a month, days since the first), or leave them out: "
        f"dataset.exclude=[{name}]",
    )


def _refuse_infinite(source: _Source, name: str, values: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(np.isinf(values.astype(np.float32)))
    if len(bad):
        raise CnnbenchError(
            f"{source.row(int(bad[0]))}: {name} is {values[bad[0]]:g}, which is no finite number in 32 bits",
            "mend the cell, or leave it empty where the value is not known",
        )


def _made_equal(source: _Source, name: str, values: np.ndarray) -> Iterator[str]:
    """Yield a line if whole numbers are too large for 32 bits to tell them apart."""
    different = np.unique(values[np.abs(values) > WHOLE])
    rounded = different.astype(np.float32)
    equal = np.flatnonzero((rounded[1:] == rounded[:-1]) & (different[1:] == np.floor(different[1:])))
    if len(equal):
        one, other = (f"{value:.0f}" for value in different[equal[0] : equal[0] + 2])
        yield (
            f"{source.path.name}: {name}: {one} and {other} are one number in 32 bits; take a smaller one "
            f"from all of them, or dataset.categorical=[{name}]"
        )


def _counts_rows(values: np.ndarray) -> bool:
    return len(values) >= COUNTS_ROWS and bool((np.diff(values) == 1).all()) and values[0] in (0, 1)


def _category(name: str, encoded: Any) -> tuple[Column, np.ndarray]:
    """Return a column of categories in the order of their texts, and the codes."""
    categories = encoded.dictionary.to_pylist()
    order = sorted(range(len(categories)), key=categories.__getitem__)
    code = np.empty(len(order) + 1)
    code[order] = np.arange(len(order))
    code[-1] = np.nan
    indices = encoded.indices.fill_null(len(order)).to_numpy(zero_copy_only=False)
    return Column(name, tuple(categories[index] for index in order)), code[indices]


def _found(source: _Source, columns: Sequence[Column], left_out: Sequence[str]) -> Iterator[str]:
    plain = [column.name for column in columns if not column.categories]
    texts_of = [f"{column.name} ({len(column.categories)})" for column in columns if column.categories]
    parts = [f"{len(source.table):,} rows"]
    if plain:
        parts.append(f"{len(plain)} of numbers: {listed(plain, SHOWN)}")
    if texts_of:
        parts.append(f"{len(texts_of)} of categories: {listed(texts_of, SHOWN)}")
    yield f"{source.path.name}: {'; '.join(parts)}"
    if left_out:
        yield f"{source.path.name}: left out: {listed(left_out, SHOWN)}"


def _missing(path: Path, inputs: _Inputs) -> list[str]:
    counts = np.isnan(inputs.x).sum(axis=0)
    lacking = [
        f"{column.name} {count:,}"
        for column, count in zip(inputs.columns, counts.tolist(), strict=True)
        if count
    ]
    told = f"{path.name}: empty cells, which the model fills: {listed(lacking, SHOWN)}"
    return [Fact(told)] if lacking else []


def _of_train(
    source: _Source, columns: Sequence[Column], splits: dict[str, Split]
) -> tuple[tuple[Column, ...], list[str]]:
    """Number the categories anew, in place: only those of training rows count, others are missing.

    Raises:
        CnnbenchError: a column has none in the training rows.
    """
    rows = {name: np.asarray(split.x) for name, split in splits.items()}
    known, strange = [], []
    for index, column in enumerate(columns):
        if not column.categories:
            known.append(column)
            continue
        nothing = len(column.categories)
        old = {name: np.nan_to_num(x[:, index], nan=nothing).astype(int) for name, x in rows.items()}
        kept = np.unique(old["train"][old["train"] < nothing])
        if not len(kept):
            raise CnnbenchError(
                f"{source.path}: {column.name} is empty in every train row",
                f"leave it out: dataset.exclude=[{column.name}]",
            )
        known.append(Column(column.name, tuple(column.categories[code] for code in kept)))
        code = np.full(nothing + 1, np.nan, np.float32)
        code[kept] = np.arange(len(kept))
        for name, x in rows.items():
            x[:, index] = code[old[name]]
            lost = np.setdiff1d(old[name], [*kept, nothing])
            if len(lost):
                names = listed([column.categories[one] for one in lost])
                strange.append(f"{column.name}: in {name}, but not in train, so missing values: {names}")
    return tuple(known), strange


# -- Targets and splits ----------------------------------------------------------------------------


def _target(source: _Source, names: Sequence[str], task: Task | None) -> np.ndarray:
    """Return ``(n,)`` texts or numbers, or ``(n, targets)`` numbers.

    Raises:
        CnnbenchError: one is missing, no number, or a date.
    """
    found = [_target_column(source, name, task, several=len(names) > 1) for name in names]
    return found[0] if len(found) == 1 else np.stack(found, axis=1)


def _target_column(source: _Source, name: str, task: Task | None, several: bool) -> np.ndarray:
    if several or task in ("regression", "multilabel"):
        values = numbers(source.path, source.table, name)
    else:
        values = _numbers_or_texts(source, name, is_category=False)
    word = None
    if isinstance(values, np.ndarray):
        _refuse_infinite(source, name, values)
        empty = np.flatnonzero(np.isnan(values))
        cell = texts(source.table, name)[int(empty[0])].as_py() if len(empty) else None
        word = cell if cell and cell.lower() == "none" else None
        if word and task in ("binary", "multiclass"):  # a class by that name
            values, word = _texts(source, name), None
    if not isinstance(values, np.ndarray):
        empty = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
    if word:
        raise CnnbenchError(
            f"{source.row(int(empty[0]))}: {name} is {word!r}, which counts as empty, as in "
            f"{len(empty):,} of {len(values):,} rows",
            "if it is a class: dataset.task=multiclass; if the target is not known, remove the row",
        )
    if len(empty):
        raise CnnbenchError(
            f"{source.row(int(empty[0]))}: {name} is empty, as in {len(empty):,} of {len(values):,} rows",
            "a row without a target teaches nothing: remove it, or fill the cell",
        )
    if isinstance(values, np.ndarray):
        return values
    labels = values.to_pylist()
    if len(set(labels)) > max(FEW, len(labels) / 2):
        raise CnnbenchError(
            f"{source.row(0)}: {name} is {labels[0]!r}, one of {len(set(labels)):,} different texts: neither "
            f"classes nor numbers",
            "a number has a point and no other signs: 1234.5; or choose another dataset.target",
        )
    return np.array(labels)


def _as_texts(y: np.ndarray) -> np.ndarray:
    """Return classes as `read_targets` names them: 1 for 1.0."""
    is_whole = y.dtype.kind == "f" and bool((y == np.floor(y)).all())
    return (y.astype(np.int64) if is_whole else y).astype(str)


@dataclass(frozen=True)
class _Places:
    """Which split each row is in.

    Attributes:
        column: that says it.
        of_rows: its split, for each row.
    """

    column: str
    of_rows: np.ndarray


def _split_of_rows(source: _Source, split: str | None, others: set[str]) -> _Places | None:
    """Return what a column says, or None where there is no such column.

    Args:
        source: of the table.
        split: name of the column, if it was given.
        others: columns of another use, in small letters.

    Raises:
        CnnbenchError: it says something else than train, val and test, or train of no row.
    """
    if split is not None:
        name = source.column("split", split)
    else:
        usual = {one.lower(): one for one in source.table.column_names if one.lower() not in others}
        there = [usual[one] for one in SPLIT_COLUMNS if one in usual]
        name = next((one for one in there if _says_train_or_test(source, one)), "")
        if not name:  # another meaning of the word
            return None
    said = texts(source.table, name).to_pylist()
    places = np.array([split_named(text or "") or "" for text in said])
    if (places == "").any():
        row = int(np.argmax(places == ""))
        text = f"is {said[row]!r}, which is no split" if said[row] else "is empty"
        raise CnnbenchError(
            f"{source.row(row)}: {name} {text}",
            f"write train, val or test; dataset.exclude=[{name}] draws the splits",
        )
    if "train" not in places:
        raise CnnbenchError(f"{source.path}: {name} says train of no row", "train, val or test")
    return _Places(name, places)


def _says_train_or_test(source: _Source, name: str) -> bool:
    import pyarrow as pa

    if not pa.types.is_string(source.table.column(name).type):
        return False
    different = texts(source.table, name).unique().drop_null().to_pylist()
    return any(split_named(text) in ("train", "test") for text in different)


def _splits(
    source: _Source, whole: Split, places: _Places | None, found: Targets, test_fraction: float, seed: int
) -> tuple[dict[str, Split], list[str]]:
    splits = {"train": whole}
    if places is not None:
        splits = {
            name: whole.take(np.flatnonzero(places.of_rows == name)) for name in np.unique(places.of_rows)
        }
    told = [] if places is None else [f"{source.path.name}: {places.column} says the splits"]
    if "test" in splits:
        return splits, told
    train = splits["train"]
    if train.order is not None:
        return _last_held_out(source, splits, test_fraction)
    x = np.ascontiguousarray(train.x)
    rows = x.view(f"S{x.shape[1] * x.itemsize}").reshape(-1)
    kept, held = drawn_apart(train, found.task, test_fraction, seed, rows, found.class_names)
    return {**splits, "train": kept, "test": held}, [
        *told,
        f"{source.path.name} does not say what to test on: {len(held):,} of {len(train):,} rows are held out",
    ]


def _last_held_out(
    source: _Source, splits: dict[str, Split], test_fraction: float
) -> tuple[dict[str, Split], list[str]]:
    train = splits["train"]
    assert train.order is not None
    try:
        kept, held = hold_out_last(train.order, test_fraction)
    except TooFewError as error:
        text = f"{source.path}: all rows have the same place in the order, so none comes last"
        raise CnnbenchError(text, "leave dataset.order out") from error
    told = f"{source.path.name}: the last {len(held):,} of {len(train):,} rows are held out to test on"
    return {**splits, "train": train.take(kept), "test": train.take(held)}, [told]


def _order(source: _Source, name: str) -> np.ndarray:
    return places_in_order(source.path, source.table, name, source.row)


def _groups(source: _Source, name: str) -> np.ndarray:
    values = _texts(source, name)
    empty = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
    if len(empty):
        raise CnnbenchError(f"{source.row(int(empty[0]))}: {name} is empty", "each row belongs to a group")
    return np.unique(np.array(values.to_pylist()), return_inverse=True)[1]


def _weights(source: _Source, name: str) -> np.ndarray:
    values = numbers(source.path, source.table, name)
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(bad):
        raise CnnbenchError(
            f"{source.row(int(bad[0]))}: {name} is {values[bad[0]]:g}", "a weight is a number from 0 on"
        )
    return values.astype(np.float32)


def _composed(text: str) -> str:
    """Return a text in Unicode's NFC: é may be one sign or two, and is the same category."""
    return unicodedata.normalize("NFC", text)


def _texts(source: _Source, name: str) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.utf8_normalize(texts(source.table, name), form="NFC")


# -- Rows to predict -------------------------------------------------------------------------------


def is_table(name: str) -> bool:
    """Tell whether a file is a table by its name."""
    return name.lower().endswith(SUFFIXES)


def encode_rows(
    path: Path, content: pa.Table, columns: Sequence[Column]
) -> tuple[np.ndarray, dict[int, str], dict[str, int]]:
    """Return the rows of another table with the same columns as a model takes them.

    Args:
        path: of the file, for errors.
        content: of it; columns that the model does not know are passed over.
        columns: of the model.

    Returns:
        x ``(n, columns)`` float32; by row what is wrong in it; by category that the model does not know, as
        `column=text`, how often it was met: there the value counts as missing.

    Raises:
        CnnbenchError: a column is missing.
    """
    here = {name.lower() for name in content.column_names}
    if lacking := [column.name for column in columns if column.name.lower() not in here]:
        raise CnnbenchError(
            f"{path} lacks {listed(lacking, SHOWN)}, which the run was trained on", columns_of(content)
        )
    x = np.full((len(content), len(columns)), np.nan, np.float32)
    wrong: dict[int, str] = {}
    unknown: dict[str, int] = {}
    for index, column in enumerate(columns):
        name = find_column(path, content, column.name)
        if column.categories:
            written = {text: code for code, text in enumerate(column.categories)}
            codes = {_composed(text): code for text, code in written.items()} | written
            cells = [
                text if text is None or text in codes else _composed(text)
                for text in texts(content, name).to_pylist()
            ]
            x[:, index] = [codes.get(text, np.nan) for text in cells]
            for text in cells:
                if text is not None and text not in codes:
                    unknown[f"{name}={text}"] = unknown.get(f"{name}={text}", 0) + 1
            continue
        with np.errstate(over="ignore"):  # told below, with the row
            try:
                x[:, index] = numbers(path, content, name)
            except CnnbenchError:  # row by row: the others have a prediction
                for row in range(len(content)):
                    try:
                        x[row, index] = numbers(path, content.slice(row, 1), name)[0]
                    except CnnbenchError:
                        odd = content.column(name)[row].as_py()
                        wrong.setdefault(row, f"{name} is {odd!r}, not a number")
        for row in np.flatnonzero(np.isinf(x[:, index])).tolist():
            wrong.setdefault(
                row, f"{name} is {content.column(name)[row].as_py()}, no finite number in 32 bits"
            )
    return x, wrong, unknown
