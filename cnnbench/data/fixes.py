"""Corrections of a data set: a table that leaves examples out, relabels them, or keeps them together.

No file of the data is touched: the table is read with the data set, so whoever has both has the same data.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cnnbench.data.dataset import Dataset, Fact, Split, listed
from cnnbench.data.reading import reading
from cnnbench.errors import CnnbenchError, nearest, shown

COLUMNS = ("split", "example", "action", "value", "label", "why")
NEEDED = ("example", "action")
ACTIONS = {"exclude": "left out", "relabel": "relabelled", "group": "put into groups"}
SEPARATOR = "|"  # of several labels in one cell
ROW = "row"  # what an example without a name is called, with its number from 0 in its split


@dataclass(frozen=True)
class Fix:
    """One row of the table.

    Attributes:
        split: train, val or test; may be empty where the name says it.
        example: its name, or `row 12` of a split whose examples have none.
        action: `exclude`, `relabel` or `group`.
        value: the new target, or the name of the group.
        label: the target that the data give it; empty, or the row is refused where they say another.
        why: for people.
        line: of the file.
    """

    split: str
    example: str
    action: str
    value: str = ""
    label: str = ""
    why: str = ""
    line: int = 0


def names_of(split: Split) -> Sequence[str]:
    """Return what the examples of a split are called in a table of fixes."""
    return split.names if split.names is not None else [f"{ROW} {number}" for number in range(len(split))]


def label_of(dataset: Dataset, target: np.ndarray) -> str:
    """Return the target of one example as a table of fixes has it."""
    if dataset.task == "multilabel":
        return SEPARATOR.join(dataset.class_names[index] for index in np.flatnonzero(target))
    if dataset.task == "regression":
        return SEPARATOR.join(f"{value:g}" for value in np.atleast_1d(target))
    return dataset.class_names[int(target)]


def read_fixes(path: Path) -> list[Fix]:
    """Read a table of fixes.

    Raises:
        CnnbenchError: it cannot be read, lacks a column, or a row says nothing that can be done.
    """
    with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        header = [str(name).strip() for name in rows.fieldnames or ()]
        rows.fieldnames = header
        found = [(rows.line_num, row) for row in rows]
    lacking = [name for name in NEEDED if name not in header]
    if lacking:
        raise CnnbenchError(
            f"dataset.fixes={path} has no column {' and '.join(lacking)}",
            f"its first line: {','.join(COLUMNS)}; cnnbench doctor writes such a table",
        )
    fixes = []
    for line, row in found:
        cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
        if not any(cells.values()):
            continue
        cells["example"] = row.get("example") or ""  # a file's name may begin or end with a space
        fix = Fix(**cells, line=line)
        if fix.action not in ACTIONS:
            raise CnnbenchError(
                f"{path}, line {line}: there is no action {shown(fix.action)}", nearest(fix.action, ACTIONS)
            )
        if not fix.value and fix.action != "exclude":
            what = "the new label" if fix.action == "relabel" else "the name of the group"
            raise CnnbenchError(f"{path}, line {line}: {fix.action} lacks a value", f"write {what} there")
        fixes.append(fix)
    return fixes


def excluded(fixes: Sequence[Fix]) -> set[tuple[str, str]]:
    """Return split, as the table has it, and name of each example that a table of fixes leaves out."""
    rows = [fix for fix in fixes if fix.action == "exclude"]
    return {(fix.split, name) for fix in rows for name in (fix.example, fix.example.strip())}


def write_fixes(fixes: Sequence[Fix]) -> str:
    """Return the text of a table of fixes."""
    file = io.StringIO()
    rows = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerows({name: getattr(fix, name) for name in COLUMNS} for fix in fixes)
    return file.getvalue()


def fixed(dataset: Dataset, path: Path, rows: Sequence[Fix] | None = None) -> Dataset:
    """Return a data set as a table of fixes corrects it.

    Args:
        dataset: as it came.
        path: of the table.
        rows: of it, if they have been read.

    Raises:
        CnnbenchError: a row names nothing, the data say otherwise than it, or two rows contradict each other.
    """
    if not isinstance(dataset, Dataset):  # of a user's own function; `with_validation` says so
        return dataset
    fixes = _Fixes(dataset, path, read_fixes(path) if rows is None else rows)
    groups = fixes.groups
    splits, left_out = {}, set[str]()
    for name, split in dataset.splits.items():
        excluded = fixes.rows("exclude", name)
        y = split.y.copy()
        for row, fix in fixes.rows("relabel", name).items():
            y[row] = fixes.target(fix)
        names = names_of(split)
        left_out |= {names[row] for row in excluded}
        # Rows keep the numbers that the table names them by.
        changed = replace(
            split, y=y, groups=groups.get(name, split.groups), names=names if excluded else split.names
        )
        if (known := split.__dict__.get("digests")) is not None:
            changed.__dict__["digests"] = known
        kept = np.setdiff1d(np.arange(len(split)), list(excluded))
        splits[name] = changed.take(kept) if excluded else changed
    counts = Counter(fix.action for fix in fixes.all)
    done = ", ".join(f"{counts[action]:,} {words}" for action, words in ACTIONS.items() if counts[action])
    return replace(
        dataset,
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        files={name: digest for name, digest in dataset.files.items() if name not in left_out},
        uncorrected={name: split.fingerprint for name, split in dataset.splits.items()},
        notes=(*dataset.notes, Fact(f"{dataset.name}: by {path.name} {done or 'nothing is changed'}")),
    )


class _Fixes:
    """The rows of a table, and what each is of."""

    def __init__(self, dataset: Dataset, path: Path, fixes: Sequence[Fix]) -> None:
        self.dataset, self.path, self.all = dataset, path, fixes
        self.found: dict[tuple[str, str], dict[int, Fix]] = defaultdict(dict)
        self._places: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for split, part in dataset.splits.items():
            for row, name in enumerate(names_of(part)):
                self._places[name].append((split, row))
        for fix in fixes:
            split, row = self._place(fix)
            rows = self.found[fix.action, split]
            if (other := rows.get(row)) is not None and other.value != fix.value:
                raise self._wrong(fix, f"line {other.line} says something else of it")
            rows[row] = fix
        for split in dataset.splits:
            if both := self.found["exclude", split].keys() & self.found["relabel", split].keys():
                raise self._wrong(self.found["exclude", split][min(both)], "it is relabelled, too")

    def rows(self, action: str, split: str) -> Mapping[int, Fix]:
        return self.found[action, split]

    def _wrong(self, fix: Fix, reason: str, hint: str = "leave one of the rows out") -> CnnbenchError:
        return CnnbenchError(f"{self.path}, line {fix.line}: {shown(fix.example)}: {reason}", hint)

    def _place(self, fix: Fix) -> tuple[str, int]:
        """Return the split and the row that a fix names, if the data say of it what the table says."""
        if fix.split and fix.split not in self.dataset.splits:
            raise self._wrong(
                fix, f"there is no split {shown(fix.split)}", nearest(fix.split, self.dataset.splits)
            )
        known = self._places.get(fix.example) or self._places.get(fix.example.strip(), [])
        places = [place for place in known if fix.split in ("", place[0])]
        if not places:
            there = [split for split, _ in known]
            where = (
                f"it is in {' and '.join(there)}"
                if there
                else f"nothing in {self.dataset.name} has that name"
            )
            hint = (
                "correct the column split"
                if there
                else "was the table made of these data? else leave the row out"
            )
            raise self._wrong(fix, where, hint)
        if len(places) > 1:
            splits = listed([split for split, _ in places])
            raise self._wrong(
                fix, f"{len(places)} examples have that name, in {splits}", "fill in the column split"
            )
        split, row = places[0]
        given = label_of(self.dataset, self.dataset.splits[split].y[row])
        if fix.label and fix.label != given:
            raise self._wrong(
                fix,
                f"the data say {given}, not {fix.label}",
                "the table was made of other data: make it anew",
            )
        return split, row

    def target(self, fix: Fix) -> np.ndarray | int | float:
        """Return the new target of a row."""
        names, task = self.dataset.class_names, self.dataset.task
        if task == "regression":
            try:
                values = [float(text) for text in fix.value.split(SEPARATOR)]
            except ValueError as error:
                raise self._wrong(fix, f"{shown(fix.value)} is no number", "a number") from error
            if len(values) != self.dataset.outputs or not np.isfinite(values).all():
                raise self._wrong(
                    fix, f"{shown(fix.value)} is not {self.dataset.outputs} numbers", "write a number"
                )
            return values[0] if self.dataset.train.y.ndim == 1 else np.array(values)
        chosen = fix.value.split(SEPARATOR) if task == "multilabel" else [fix.value]
        for name in chosen:
            if name not in names:
                raise self._wrong(fix, f"there is no class {shown(name)}", nearest(name, names))
        if task == "multilabel":
            return np.array([name in chosen for name in names], np.uint8)
        return names.index(fix.value)

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """The groups of each split for which the table has some: those of the data, joined."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        names: dict[str, int] = {}
        splits: dict[str, set[str]] = defaultdict(set)
        for split in self.dataset.splits:
            for fix in self.found["group", split].values():
                names.setdefault(fix.value, len(names))
                splits[fix.value].add(split)
                if len(splits[fix.value]) > 1:
                    both = " and ".join(sorted(splits[fix.value]))
                    raise self._wrong(
                        fix, f"the group {shown(fix.value)} is in {both}", "exclude it from one of them"
                    )
        if not names:
            return {}
        # Other splits keep their numbers, and so their fingerprints.
        touched = {split: part for split, part in self.dataset.splits.items() if self.found["group", split]}
        others = [part.groups for split, part in self.dataset.splits.items() if split not in touched]
        free = max((int(one.max()) + 1 for one in others if one is not None), default=0)
        units, start = dict[str, np.ndarray](), 0
        for split, part in touched.items():
            own = np.arange(len(part)) if part.groups is None else part.groups
            units[split] = start + np.unique(own, return_inverse=True)[1]  # ids may be large, or negative
            start += len(part)
        links = [
            (units[split][row], start + names[fix.value])
            for split in units
            for row, fix in self.found["group", split].items()
        ]
        one, other = np.array(links).T
        size = start + len(names)
        joined = coo_matrix((np.ones(len(links), bool), (one, other)), shape=(size, size))
        number = max(free, 0) + np.asarray(connected_components(joined, directed=False)[1]).astype(np.int64)
        return {split: number[own] for split, own in units.items()}
