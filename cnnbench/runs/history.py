"""One row per epoch, on disk."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.system import append_row, atomic, read_rows

STANDS_STILL = 3  # epochs
# What a row has beside metrics.
NO_METRICS = ("epoch", "seconds", "examples_per_second", "learning_rate")


def standing_still(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return one line where the first epochs changed nothing in a metric that chooses the best.

    Said once, after `STANDS_STILL` epochs. An accuracy of 1 may stay where it is.
    """
    if len(rows) != STANDS_STILL:
        return None
    constant = [
        f"{name}={value:.6g}"
        for name, value in rows[0].items()
        if name.startswith("val_") and value != 1 and all(row.get(name) == value for row in rows)
    ]
    if not constant:
        return None
    return (
        f"the same in each of the first {STANDS_STILL} epochs: {', '.join(constant)}; the model may give "
        f"every example one answer, and the best epoch by such a metric is only the first"
    )


@dataclass(frozen=True)
class History:
    """Rows of JSON that are appended, and a table that is made of them.

    Attributes:
        rows: the file of rows.
        table: the file of the same as CSV.
    """

    rows: Path
    table: Path

    def append(self, row: Mapping[str, Any]) -> None:
        append_row(self.rows, row)
        self._write_table(self.read())

    def cut(self, length: int) -> None:
        """Drop all rows but the first `length`."""
        if not self.rows.exists():
            return
        kept = self.read()[:length]
        with atomic(self.rows) as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)
        self._write_table(kept)

    def read(self) -> list[dict[str, Any]]:
        return read_rows(self.rows)

    def _write_table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        # Columns may appear later than in the first epoch, so the table is written anew.
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic(self.table) as file:
            file.write(text.getvalue())
