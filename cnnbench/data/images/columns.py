"""The columns of a table of pictures: which is which, and the targets, splits, groups and weights in them."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.data.dataset import Task, listed
from cnnbench.data.images.layout import IMAGE_SUFFIXES, printable
from cnnbench.data.labels import FEW, FLAGS, flags, infer_task, with_positive
from cnnbench.data.tabular import (
    SPLIT_COLUMNS,
    columns_of,
    find_column,
    numbers,
    split_named,
    texts,
)
from cnnbench.errors import CnnbenchError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

IMAGES = (
    "image", "img", "image_path", "img_path", "path", "filepath", "file_path", "filename", "file_name",
    "file", "imagepath", "image_file", "image_filename", "image_name", "images", "picture", "photo",
    "image_id", "img_id", "id",
)  # fmt: skip
LABELS = (
    "label", "labels", "class", "class_name", "classname", "label_name", "target", "targets", "category",
    "categories", "classes", "tags", "y",
)  # fmt: skip
GROUPS = ("group", "groups", "group_id", "patient", "patient_id", "patientid", "subject", "subject_id")
WEIGHTS = ("weight", "weights", "sample_weight")
NONE = "none"  # leaves a column unused that would be recognised
SEPARATORS = "|;,"  # of several labels in one cell
SAMPLE = 20  # rows that tell what a column holds
ODD_SHARE = 0.01  # of numbers among whole ones, up to which they are taken for a slip
Where = Callable[[int], str]


@dataclass(frozen=True)
class Columns:
    """The names of the columns; None for what there is not.

    Attributes:
        image: of the picture.
        labels: one, or several of numbers.
        split, group, weight, order: as their names say.
    """

    image: str | None
    labels: tuple[str, ...]
    split: str | None
    group: str | None
    weight: str | None
    order: str | None = None

    @property
    def said(self) -> str:
        """What was found, in a few words."""
        parts = [("split", self.split), ("group", self.group), ("weight", self.weight), ("order", self.order)]
        labels = self.labels[0] if len(self.labels) == 1 else None
        found = [("image", self.image), ("label", labels), *parts]
        said = [name if name == role else f"{name} is the {role}" for role, name in found if name]
        return ", ".join([*said, *([] if labels else [f"{listed(self.labels, 5)} are the labels"])])


@dataclass(frozen=True)
class Targets:
    """What is to be learnt.

    Attributes:
        task: as of a `Dataset`.
        y: as of a `Split`, for every row.
        class_names, target_names: as of a `Dataset`.
        notes: a line for each thing to know.
    """

    task: Task
    y: np.ndarray
    class_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


# -- Which is which --------------------------------------------------------------------------------


def columns(
    path: Path,
    table: pa.Table,
    image: str | None,
    label: str | Sequence[str] | None,
    split: str | None = None,
    group: str | None = None,
    weight: str | None = None,
    order: str | None = None,
    *,
    has_images: bool = False,
) -> Columns:
    """Find the columns of a table, by their usual names where none are given.

    Args:
        path: of the file.
        table: all of it.
        image: name as typed; None to look for it.
        label: the same, or several.
        split: the same; `none` for a column that is not to be used.
        group: as `split`.
        weight: as `split`.
        order: name as typed; it is not looked for.
        has_images: the pictures are known, so no column of them is looked for.

    Raises:
        CnnbenchError: a column is not there, or none is known for pictures or labels.
    """
    taken = [find_column(path, table, label)] if isinstance(label, str) else []
    taken += [find_column(path, table, one) for one in label] if label and not isinstance(label, str) else []
    if twice := next((name for name in taken if taken.count(name) > 1), None):
        raise CnnbenchError(
            f"dataset.label=[{','.join(taken)}] names {twice} twice", "name each column of labels once"
        )
    found_image = None if has_images else image_column(path, table, image, taken)
    ordered = None if order is None else find_column(path, table, order)
    used = [*taken, found_image, ordered]

    def found(typed: str | None, known: Sequence[str]) -> str | None:
        if typed is not None:
            return None if typed.lower() == NONE else find_column(path, table, typed)
        name = _known(table, known, used)
        used.append(name)
        return name

    splits = found(split, SPLIT_COLUMNS)
    if splits and split is None and splits.lower() != "split" and not _names_split(table, splits):
        splits = None
    groups, weights = found(group, GROUPS), found(weight, WEIGHTS)
    if not taken:
        others = [name for name in table.column_names if name not in (*used, splits, groups, weights)]
        taken = _label_columns(path, table.select(others))
    return Columns(found_image, tuple(taken), splits, groups, weights, ordered)


def image_column(path: Path, table: pa.Table, image: str | None, taken: Sequence[str] = ()) -> str:
    """Return the column that names pictures.

    Raises:
        CnnbenchError: there is none.
    """
    if image is not None:
        return find_column(path, table, image)
    known = [name for name in (_known(table, [one], taken) for one in IMAGES) if name]
    named = [name for name in table.column_names if name not in taken and _names_images(table, name)]
    has_header = not any(_has_ending(name) for name in table.column_names)
    best = [name for name in known if name in named] or named or known
    if not best or not has_header:
        hint = f"dataset.image=COLUMN; {columns_of(table)}"
        if not has_header:
            hint = "its first row seems to be of data: write a header above it, such as image,label"
        raise CnnbenchError(f"{path} has no column that is known to name pictures", hint)
    return best[0]


def tells_images(table: pa.Table, column: str) -> bool:
    """Tell whether a column is one of pictures by its name or by the endings in its cells."""
    return bool(re.search(r"image|img|picture|photo", column.lower())) or _names_images(table, column)


def _known(table: pa.Table, known: Sequence[str], taken: Sequence[str | None]) -> str | None:
    plain = {re.sub(r"[\s.-]+", "_", name.lower()): name for name in table.column_names if name not in taken}
    return next((plain[name] for name in known if name in plain), None)


def _names_images(table: pa.Table, name: str) -> bool:
    cells = [cell for cell in table.column(name).slice(0, SAMPLE).to_pylist() if cell is not None]
    return bool(cells) and all(isinstance(cell, str) and _has_ending(cell) for cell in cells)


def _has_ending(name: str) -> bool:
    return any(name.lower().endswith(suffix) for suffix in IMAGE_SUFFIXES)


def _names_split(table: pa.Table, name: str) -> bool:
    """Tell whether a cell names a split; one that does not is then refused, not passed over."""
    return any(split_named(value) for value in _different(table, name) if value is not None)


def _different(table: pa.Table, name: str) -> set[str | None]:
    """Return the different texts of a column; none of one whose type has no text."""
    import pyarrow as pa

    try:
        return set(texts(table, name).unique().to_pylist())
    except (CnnbenchError, pa.ArrowException):
        return set()


def _label_columns(path: Path, others: pa.Table) -> list[str]:
    """Return the columns that hold labels: of a usual name, the only one, or all of 0 and 1."""
    if name := _known(others, LABELS, ()):
        return [name]
    if len(others.column_names) == 1:
        return list(others.column_names)
    flags = [name for name in others.column_names if _are_flags(others, name)]
    if len(flags) > 1:
        return flags
    raise CnnbenchError(
        f"{path} has no column that is known as a label",
        f"dataset.label=COLUMN, or dataset.label=[A,B,C] for several; {columns_of(others)}",
    )


def _are_flags(table: pa.Table, name: str) -> bool:
    values = _different(table, name)
    return bool(values) and all(value is not None and value.lower() in FLAGS for value in values)


# -- Targets ---------------------------------------------------------------------------------------


def targets(
    path: Path,
    table: pa.Table,
    names: Sequence[str],
    task: Task | None,
    separator: str | None,
    positive: str | None,
    known_classes: Mapping[str, tuple[str, ...]],
    where: Where,
) -> Targets:
    """Read the targets of all rows.

    Args:
        path: of the file.
        table: its rows.
        names: of the label columns.
        task: None to infer it from the labels.
        separator: between the labels in one cell; None to look for one.
        positive: the positive one of two classes.
        known_classes: names of classes that a column has as indices.
        where: says which row it is.

    Raises:
        CnnbenchError: a label is missing or of another kind than the others; the message names the row.
    """
    if len(names) > 1:
        found = _of_columns(path, table, names, task, where)
    else:
        found = _of_column(path, table, names[0], task, separator, known_classes.get(names[0], ()), where)
    if found.task == "regression":
        if positive is not None:
            raise CnnbenchError(
                f"dataset.positive={positive} is for two classes, but the task is regression",
                "leave it out, or dataset.task=binary",
            )
        return found
    if len(found.class_names) < 2 and found.task != "multilabel":
        raise CnnbenchError(
            f"{path}: all labels are {found.class_names[0]}, so there is nothing to tell apart",
            "two classes at least are needed",
        )
    if found.task == "binary" and len(found.class_names) != 2:
        raise CnnbenchError(
            f"{path}: task=binary needs two classes, and there are {len(found.class_names)}: "
            f"{listed(found.class_names)}",
            "dataset.task=multiclass",
        )
    if positive is None:
        return found
    y, classes = with_positive(found.y, found.class_names, positive)
    return Targets(found.task, y, classes, found.target_names, found.notes)


def _of_columns(
    path: Path, table: pa.Table, names: Sequence[str], task: Task | None, where: Where
) -> Targets:
    matrix = np.stack([numbers(path, table, name, or_flags=True, where=where) for name in names], axis=1)
    if not np.isfinite(matrix).all():
        row, column = (int(axis[0]) for axis in np.nonzero(~np.isfinite(matrix)))
        raise _no_label(where(row), names[column], matrix[row, column])
    made = task or infer_task(matrix)
    if made == "regression":
        return Targets(made, matrix.astype(np.float32), target_names=tuple(names))
    is_flag = np.isin(matrix, (0, 1))
    if not is_flag.all():
        row, column = (int(axis[0]) for axis in np.nonzero(~is_flag))
        raise CnnbenchError(
            f"{where(row)}: {names[column]} is {matrix[row, column]:g}, and task={made} wants 0 or 1 in each "
            f"of several label columns",
            "dataset.task=regression",
        )
    is_single = matrix.sum(axis=1) == 1
    if made == "multilabel":
        notes = ("each row has exactly one of them: dataset.task=multiclass",) if is_single.all() else ()
        return Targets(made, matrix.astype(np.uint8), tuple(map(printable, names)), notes=notes)
    if not is_single.all():
        row = int(np.argmin(is_single))
        raise CnnbenchError(
            f"{where(row)}: {int(matrix[row].sum())} of the label columns are 1, and task={made} wants one",
            "dataset.task=multilabel",
        )
    return Targets(made, matrix.argmax(axis=1).astype(np.int64), tuple(map(printable, names)))


def _of_column(
    path: Path,
    table: pa.Table,
    name: str,
    task: Task | None,
    separator: str | None,
    known: tuple[str, ...],
    where: Where,
) -> Targets:
    import pyarrow as pa

    kind = table.column(name).type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _of_lists(table.column(name).to_pylist(), name, task, known, where)
    if pa.types.is_string(kind) and separator is None and (lists := _written_lists(table, name, where)):
        return _of_lists(lists, name, task, known, where)
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_temporal(kind):
        raise CnnbenchError(
            f"{path}: column {name} is of the type {kind}, which is no label", "dataset.label=COLUMN"
        )
    if task == "regression":
        return _of_numbers(path, table, name, where)
    cells = texts(table, name)
    if known:
        return _of_indices(numbers(path, table, name, where=where), name, known, where)
    if separator and task not in (None, "multilabel"):
        raise CnnbenchError(
            f"dataset.separator={separator} is for several labels, and task={task} wants one",
            "leave one of the two out",
        )
    separator = separator or (_separator(cells, name) if task in (None, "multilabel") else None)
    if separator or task == "multilabel":
        split = [_parts(cell, separator) for cell in cells.to_pylist()]
        return _of_lists(split, name, task, (), where)
    if cells.null_count:
        raise _no_label(where(int(np.flatnonzero(cells.is_null().to_numpy())[0])), name, None)
    made = task or infer_task(cells.to_pylist())
    if made == "regression":
        _refuse_slips(path, table, name, where)
        return _of_numbers(path, table, name, where)
    return _of_texts(cells, made)


def _of_texts(cells: pa.ChunkedArray, task: Task) -> Targets:
    coded = cells.combine_chunks().dictionary_encode()
    written = [unicodedata.normalize("NFC", text) for text in coded.dictionary.to_pylist()]
    values = _whole(written)
    named = written if values is None else [str(value) for value in values]
    order = sorted(set(named), key=(lambda text: int(text)) if values is not None else str)
    index = {text: number for number, text in enumerate(order)}
    code = np.array([index[text] for text in named], np.int64)
    folded: dict[str, str] = {}
    alike = [
        f"{folded[one.casefold()]} and {one}"
        for one in order
        if folded.setdefault(one.casefold(), one) != one
    ]
    notes = (f"taken as different classes: {listed(alike)}",) if alike else ()
    return Targets(task, code[coded.indices.to_numpy()], tuple(map(printable, order)), notes=notes)


def _whole(written: Sequence[str]) -> list[int] | None:
    """Return texts as whole numbers (1, 1.0); None if one is none, or is written like a code: 007."""
    if not all(re.fullmatch(r"[-+]?(0|[1-9]\d{0,15})(\.0+)?", text) for text in written):
        return None
    return [int(float(text)) for text in written]


def _of_indices(values: np.ndarray, name: str, known: tuple[str, ...], where: Where) -> Targets:
    wrong = ~((values >= 0) & (values < len(known)) & (values == np.floor(values)))
    if wrong.any():
        row = int(np.argmax(wrong))
        if np.isnan(values[row]) or values[row] == -1:  # what `datasets` writes where a label is not known
            raise _no_label(where(row), name, None)
        raise CnnbenchError(
            f"{where(row)}: {name} is {values[row]:g}, and the file names {len(known)} classes",
            "mend the file",
        )
    present, y = np.unique(values.astype(np.int64), return_inverse=True)
    lacking = [name for index, name in enumerate(known) if index not in set(present.tolist())]
    notes = (f"classes without a picture, left out: {listed(lacking)}",) if lacking else ()
    names = tuple(printable(known[index]) for index in present)
    return Targets("binary" if len(names) == 2 else "multiclass", y.astype(np.int64), names, notes=notes)


def _of_numbers(path: Path, table: pa.Table, name: str, where: Where) -> Targets:
    with np.errstate(over="ignore"):
        y = numbers(path, table, name, where=where).astype(np.float32)
    if not np.isfinite(y).all():
        row = int(np.argmin(np.isfinite(y)))
        raise _no_label(where(row), name, float(y[row]))
    return Targets("regression", y, target_names=(name,))


def _no_label(where: str, name: str, value: float | None) -> CnnbenchError:
    is_empty = value is None or np.isnan(value)
    return CnnbenchError(
        f"{where}: {name} is {'empty' if is_empty else f'{value:g}'}", "write a label, or remove the row"
    )


def _refuse_slips(path: Path, table: pa.Table, name: str, where: Where) -> None:
    """Refuse a few fractions among what are classes else."""
    values = numbers(path, table, name, where=where)
    odd = values != np.floor(values)
    classes = np.unique(values[~odd])
    if not 0 < odd.sum() <= max(1, ODD_SHARE * len(values)) or not 2 <= len(classes) <= FEW:
        return
    if (~odd).sum() < 2 * len(classes):
        return
    row = int(np.argmax(odd))
    raise CnnbenchError(
        f"{where(row)}: {name} is {values[row]:g}, where the others are {len(classes)} whole numbers",
        "mend it; or dataset.task=regression, where they are measured",
    )


def _separator(cells: pa.ChunkedArray, name: str) -> str | None:
    """Return what stands between several labels in a cell; None where a cell is one label.

    A comma or a space may be part of a name, so that it counts only where the parts come again.
    """
    different = [cell for cell in cells.unique().to_pylist() if cell is not None]
    if len(different) > 2 and _whole_or_fraction(different):
        return None
    candidates = SEPARATORS + (" " if name.lower() in ("labels", "tags", "classes", "categories") else "")
    for separator in candidates:
        if not any(separator in cell for cell in different):
            continue
        parts = {part for cell in different for part in _parts(cell, separator)}
        if separator in "|;" or len(parts) < len(different):
            return separator
    return None


def _whole_or_fraction(found: Sequence[str]) -> bool:
    """Tell whether texts are numbers, some with a decimal comma."""
    return all(re.fullmatch(r"[-+]?\d*[.,]?\d+([eE][-+]?\d+)?", text) for text in found)


def _parts(cell: str | None, separator: str | None) -> list[str]:
    if cell is None:
        return []
    parts = cell.split(separator) if separator else [cell]
    return [part.strip() for part in parts if part.strip()]


def _of_lists(
    rows: Sequence[Sequence[object] | None],
    name: str,
    task: Task | None,
    known: tuple[str, ...],
    where: Where,
) -> Targets:
    """Read several labels, or several numbers, of each row."""
    flat = [item for row in rows for item in row or ()]
    _refuse_items(rows, name, task, where)
    if not known and task != "regression" and (found := flags([row or () for row in rows])) is not None:
        return _of_flags(found, rows, name, task, where)
    made = task or ("multilabel" if known else infer_task([list(row or ()) for row in rows]))
    if made == "regression":
        lengths = [len(row or ()) for row in rows]
        if odd := [index for index, length in enumerate(lengths) if length != lengths[0]]:
            raise CnnbenchError(
                f"{where(odd[0])}: {name} has {lengths[odd[0]]} numbers, and the first row {lengths[0]}",
                "give every row as many",
            )
        y = np.array([list(row or ()) for row in rows], np.float32)
        if not np.isfinite(y).all():
            raise _no_label(where(int(np.argmin(np.isfinite(y).all(axis=1)))), name, None)
        return Targets(made, y, target_names=tuple(f"{name}_{index}" for index in range(lengths[0])))
    if made != "multilabel":
        several = next((index for index, row in enumerate(rows) if len(row or ()) != 1), None)
        if several is not None:
            raise CnnbenchError(
                f"{where(several)}: {name} has {len(rows[several] or ())} labels, and task={made} wants one",
                "dataset.task=multilabel",
            )
        import pyarrow as pa

        return _of_texts(pa.chunked_array([pa.array(map(str, flat), pa.string())]), made)
    numbered = all(isinstance(item, int) for item in flat)
    if known and numbered and not all(0 <= int(str(item)) < len(known) for item in flat):
        raise CnnbenchError(f"column {name} has an index that none of its {len(known)} classes has")
    named = [
        known[int(str(item))] if known and numbered else unicodedata.normalize("NFC", str(item))
        for item in flat
    ]
    whole = _whole(sorted(set(named)))
    order = sorted(set(named), key=str if whole is None else int)
    if len(order) < 2:
        raise CnnbenchError(
            f"column {name} has {len(order)} different labels", "several labels are two at least"
        )
    index = {label: number for number, label in enumerate(order)}
    y = np.zeros((len(rows), len(order)), np.uint8)
    y[
        np.repeat(np.arange(len(rows)), [len(row or ()) for row in rows]),
        np.array([index[label] for label in named], np.int64),
    ] = 1
    none = int((y.sum(axis=1) == 0).sum())
    notes = (f"rows without any label, which are taken so: {none:,}",) if none else ()
    return Targets("multilabel", y, tuple(map(printable, order)), notes=notes)


def _of_flags(
    found: np.ndarray, rows: Sequence[Sequence[object] | None], name: str, task: Task | None, where: Where
) -> Targets:
    """Read lists of 0 and 1, which say of each label, by its place, whether a row has it."""
    empty = next((index for index, row in enumerate(rows) if not row), None)
    if empty is not None:
        raise _no_label(where(empty), name, None)
    names = tuple(map(str, range(found.shape[1])))
    note = f"{name} has lists of 0 and 1, so the places in them are the labels"
    is_single = found.sum(axis=1) == 1
    if task == "multilabel" or (task is None and not is_single.all()):
        return Targets("multilabel", found, names, notes=(note,))
    if not is_single.all():
        row = int(np.argmin(is_single))
        raise CnnbenchError(
            f"{where(row)}: {name} has {int(found[row].sum())} times 1, and task={task} wants one",
            "dataset.task=multilabel",
        )
    y = _of_indices(found.argmax(axis=1).astype(np.float64), name, names, where)
    return Targets(task or y.task, y.y, y.class_names, notes=(note, *y.notes))


def _refuse_items(
    rows: Sequence[Sequence[object] | None], name: str, task: Task | None, where: Where
) -> None:
    """Refuse what is no label in a list, and lists of 0 and 1 that are of one length but for a few."""
    wanted, said = (
        ((int, float, Decimal), "a number")
        if task == "regression"
        else ((str, int, float, Decimal), "the name of a label")
    )
    for index, row in enumerate(rows):
        for item in row or ():
            if item is None or item != item:  # NaN
                raise _no_label(where(index), name, None)
            if not isinstance(item, wanted):
                raise CnnbenchError(
                    f"{where(index)}: {name} has {str(item)[:60]} in its list, not {said}",
                    "a list is of texts, such as [a, b], or of numbers",
                )
    if {item for row in rows for item in row or ()} == {0, 1}:  # no list of indices has one twice
        first = next(len(row) for row in rows if row)
        odd = next((index for index, row in enumerate(rows) if row and len(row) != first), None)
        if odd is not None and any(len(set(row)) < len(row) for row in rows if row):
            raise CnnbenchError(
                f"{where(odd)}: {name} has {len(rows[odd] or ())} times 0 or 1, and the first row {first}",
                "give every row as many, one for each label",
            )


def _written_lists(table: pa.Table, name: str, where: Where) -> list[list[object] | None] | None:
    """Return the lists in cells that are written as Python or JSON writes them; None for other cells.

    Raises:
        CnnbenchError: one of them is no list, such as ``['a' 'b']``, in which a comma is missing.
    """
    import pyarrow.compute as pc

    column = texts(table, name)
    some = column.drop_null()
    if not pc.all(pc.match_substring_regex(some, r"(?s)^\[.*\]$")).as_py():
        return None
    if not pc.any(pc.match_substring_regex(some, r"^\[\s*['\"\d.-]")).as_py():  # names in brackets: [cat]
        return None
    found: list[list[object] | None] = []
    for index, cell in enumerate(column.to_pylist()):
        try:
            parsed = _json_or_python(cell) if cell else None
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            parsed = ()
        if parsed is not None and not isinstance(parsed, list):
            raise CnnbenchError(
                f"{where(index)}: {name} is {str(cell)[:60]!r}, which is no list",
                "a list has commas: ['a', 'b']; or write a;b",
            )
        found.append(parsed)
    return found


def _json_or_python(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        if re.search(r"['\"]\s+['\"]", text):  # which Python joins: ['a' 'b'] would be ['ab']
            raise
        return ast.literal_eval(text)


# -- Splits, groups, weights -----------------------------------------------------------------------


def splits(path: Path, table: pa.Table, name: str, where: Where) -> np.ndarray:
    """Return ``train``, ``val`` or ``test`` for each row.

    Raises:
        CnnbenchError: a cell is empty or names none of them; or no row is of the training split.
    """
    coded = texts(table, name).combine_chunks().dictionary_encode()
    known = [split_named(text) for text in coded.dictionary.to_pylist()]
    codes = coded.indices.fill_null(len(known)).to_numpy()
    found: np.ndarray = np.array([*[split or "" for split in known], ""])[codes]
    if (found == "").any():
        row = int(np.argmax(found == ""))
        text = table.column(name)[row].as_py()
        said = "empty" if codes[row] == len(known) else repr(text)
        raise CnnbenchError(
            f"{where(row)}: {name} is {said}, which is no split",
            "write train, val or test; dataset.split=none draws the splits",
        )
    if not (found == "train").any():
        raise CnnbenchError(
            f"{path}: no row has train in column {name}", "dataset.split=none draws the splits"
        )
    return found


def groups(path: Path, table: pa.Table, name: str, where: Where) -> np.ndarray:
    """Return ``(n,)`` int64, the number of each row's group.

    Raises:
        CnnbenchError: a cell is empty.
    """
    cells = texts(table, name)
    if cells.null_count:
        row = int(np.flatnonzero(cells.is_null().to_numpy())[0])
        raise CnnbenchError(
            f"{where(row)}: {name} is empty, so its group is not known", "name it, or dataset.group=none"
        )
    return np.asarray(cells.combine_chunks().dictionary_encode().indices.to_numpy(), np.int64)


def refuse_torn(split: np.ndarray, group: np.ndarray, name: str, where: Where) -> None:
    """Refuse a group of which examples lie in two splits."""
    _, first, member = np.unique(group, return_index=True, return_inverse=True)
    torn = np.flatnonzero(split != split[first][member])
    if len(torn):
        row = int(torn[0])
        other = int(first[member[row]])
        raise CnnbenchError(
            f"{where(row)} is in {split[row]}, and {where(other)}, of the same {name}, in {split[other]}",
            "mend the splits, dataset.split=none to draw others, or dataset.group=none",
        )


def weights(path: Path, table: pa.Table, name: str, where: Where) -> np.ndarray:
    """Return ``(n,)`` float32 weights.

    Raises:
        CnnbenchError: one is empty, infinite or less than 0, or all are 0.
    """
    found = numbers(path, table, name, where=where).astype(np.float32)
    wrong = ~(np.isfinite(found) & (found >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        said = "empty" if np.isnan(found[row]) else f"{found[row]:g}"
        raise CnnbenchError(
            f"{where(row)}: {name} is {said}, and a weight is a number from 0 on",
            "mend it, or dataset.weight=none",
        )
    if not found.any():
        raise CnnbenchError(f"{path}: all weights in column {name} are 0", "dataset.weight=none")
    return found
