"""One row per epoch, on disk."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.files import atomic, damaged_file, sync


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
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            sync(file)
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
        """Every whole row; a process may have died in the middle of one."""
        try:
            text = self.rows.read_text(encoding="utf-8") if self.rows.exists() else ""
            return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        except ValueError as error:
            raise damaged_file(self.rows, error) from error

    def _write_table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        # Columns may appear later than in the first epoch, so the table is written anew.
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic(self.table) as file:
            file.write(text.getvalue())
