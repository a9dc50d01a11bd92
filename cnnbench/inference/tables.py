"""Tables for a model that was trained on one: rows to predict, the same with predictions, another table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench import reporting
from cnnbench.data import Column, Dataset, Split, encode_rows, is_table, listed, read_table, row_number
from cnnbench.errors import CnnbenchError
from cnnbench.inference.prediction import Item, refuse
from cnnbench.system import atomic, unwritable


def columns_of(model: Any) -> tuple[Column, ...]:
    """Return the columns that a loaded model takes; none where it was trained on something else."""
    from cnnbench.nn import layers_of

    for layer in layers_of(model):  # the average of folds has one in each model inside it
        if type(layer).__name__ == "TableColumns":
            pairs = zip(layer.names, layer.categories, strict=True)
            return tuple(Column(name, tuple(categories)) for name, categories in pairs)
    return ()


@dataclass
class Rows:
    """The rows of tables as items to predict.

    Attributes:
        columns: that the model takes.
        unknown: categories that it does not know, as `column=text`, and how often they were met.
    """

    columns: Sequence[Column]
    unknown: Counter[str] = field(default_factory=Counter)

    def __call__(self, name: str) -> Iterator[Item] | None:
        """Return every row of a table, or the file itself where it cannot be read; None for other files."""
        return self._rows(name) if self.columns and is_table(name) else None

    def _rows(self, name: str) -> Iterator[Item]:
        path = Path(name)
        try:
            content = read_table(path)
            x, wrong, unknown = encode_rows(path, content, self.columns)
        except CnnbenchError as error:
            reason = error.message.removeprefix(name).lstrip(": ")  # the answer begins with the file
            yield Item(name, partial(refuse, f"{reason}; {error.hint}" if error.hint else reason))
            return
        self.unknown.update(unknown)
        for index in range(len(x)):
            read = partial(refuse, wrong[index]) if index in wrong else partial(x.__getitem__, index)
            yield Item(f"{name}:{row_number(content, index)}", read)

    @property
    def remark(self) -> str:
        """One line about all unknown categories; empty for none."""
        if not self.unknown:
            return ""
        counted = [f"{name} ({count:,})" for name, count in self.unknown.most_common()]
        return f"categories that this run does not know count as missing: {listed(counted)}"


def recoded(dataset: Dataset, columns: Sequence[Column]) -> tuple[Dataset, list[str]]:
    """Return another table with the codes of a model's categories, and what is to be said of it.

    Raises:
        CnnbenchError: it has other columns, or the model takes none that lack values.
    """
    if not columns:
        raise CnnbenchError(
            f"{dataset.name} lacks values, and this run was trained on data that lack none",
            "fill them, or leave these examples out",
        )
    names, here = [column.name for column in columns], {column.name: column for column in dataset.columns}
    lacking = [name for name in names if name not in here]
    odd = [
        one.name
        for one in columns
        if one.name in here and bool(one.categories) != bool(here[one.name].categories)
    ]
    if lacking or odd:
        text = f"lacks {listed(lacking)}" if lacking else f"has other values in {listed(odd)}"
        raise CnnbenchError(
            f"{dataset.name} {text}, which this run was trained on", f"dataset.columns=[{','.join(names)}]"
        )
    places = [index for name in names for index, column in enumerate(dataset.columns) if column.name == name]
    notes = []
    codes: list[np.ndarray | None] = []
    for column in columns:
        known = {text: code for code, text in enumerate(column.categories)}
        own = here[column.name].categories
        if unknown := [text for text in own if text not in known]:
            notes.append(f"{column.name}: categories that this run does not know: {listed(unknown)}")
        codes.append(np.array([*(known.get(text, np.nan) for text in own), np.nan]) if own else None)

    def of_model(split: Split) -> Split:
        x = np.asarray(split.x[:])[:, places]
        for index, code in enumerate(codes):
            if code is not None:
                x[:, index] = code[np.nan_to_num(x[:, index], nan=len(code) - 1).astype(int)]
        return replace(split, x=x)

    val = None if dataset.val is None else of_model(dataset.val)
    test = of_model(dataset.test)
    made = replace(dataset, train=of_model(dataset.train), val=val, test=test, columns=tuple(columns))
    return made, notes


# -- A table with predictions ----------------------------------------------------------------------


def check_output(output: Path, files: Sequence[str]) -> None:
    """Refuse a place to write predictions to, before anything slow is done.

    Raises:
        CnnbenchError: it is no CSV file, or an input.
    """
    if output.suffix.lower() != ".csv":
        raise CnnbenchError(f"--output {output}: predictions are written as CSV", "give a name in .csv")
    if output.exists() and any(Path(file).exists() and output.samefile(file) for file in files):
        raise CnnbenchError(f"--output {output} is an input", "give another name")


def write_predictions(
    output: Path, files: Sequence[str], rows: Sequence[Mapping[str, Any]], target: Any
) -> None:
    """Write predictions as CSV: of one table its rows with columns added, else a row for each input.

    Args:
        output: is replaced.
        files: the inputs.
        rows: the predictions, as `prediction_as_json` gives them.
        target: `dataset.target` of the run; None where there is none.
    """
    name = target if isinstance(target, str) else target[0] if target and len(target) == 1 else "value"
    added = [_cells(row, str(name)) for row in rows]
    headings = list(dict.fromkeys(heading for cells in added for heading in cells))
    given: dict[str, list[Any]] = {"path": [row["path"] for row in rows]}
    if len(files) == 1 and is_table(files[0]):
        content = read_table(Path(files[0]))
        if len(content) == len(rows):
            given = content.to_pydict()
    titles = [_free(heading, given) for heading in headings]
    for heading, title in zip(headings, titles, strict=True):
        if heading != title:
            text = f"warning: {files[0]} has a column {heading}; the new one is {title} in {output}"
            reporting.stderr().print(text, markup=False, emoji=False, style="yellow")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic(output) as file:
            lines = csv.writer(file)
            lines.writerow([*given, *titles])
            lines.writerows(_lines(given, added, headings))
    except OSError as error:
        raise unwritable(output, error) from error


def _free(heading: str, given: Iterable[str]) -> str:
    """Return the heading of a new column, with a number where a column of the input has it."""
    names = (heading if number == 1 else f"{heading}_{number}" for number in count(1))
    return next(name for name in names if name not in given)


def _lines(
    given: Mapping[str, Sequence[Any]], added: Sequence[Mapping[str, Any]], headings: Sequence[str]
) -> Iterable[list[Any]]:
    for before, cells in zip(zip(*given.values(), strict=True), added, strict=True):
        yield [*before, *(cells.get(heading, "") for heading in headings)]


def _cells(row: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Return what a prediction adds to its row, by the heading of the column."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        if key in ("value", "class"):
            cells[f"predicted_{target}"] = value
        elif isinstance(value, Mapping):
            start = "probability" if key == "probabilities" else "predicted"
            cells |= {f"{start}_{name}": one for name, one in value.items()}
        elif key == "set":
            cells[key] = ";".join(value)
        elif isinstance(value, list):
            cells[f"predicted_{target}"] = ";".join(map(str, value))
        elif key != "path":
            cells[key] = value
    return cells
