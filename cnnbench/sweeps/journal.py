"""The file of Optuna's study, cut back to what is whole of it after a crash."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

log = logging.getLogger("cnnbench")


def open_journal(
    path: Path, open_study: Callable[[optuna.storages.BaseStorage], optuna.Study], mend: bool
) -> optuna.Study:
    """Open the study that is kept in a file, new where there is none.

    Args:
        path: the file.
        open_study: makes a study of a storage.
        mend: first cut off what is not whole. What then still makes no study is set aside.
    """
    journal = _Journal(path)
    if not mend:
        return open_study(JournalStorage(journal))
    journal.cut(only_end=False)
    try:
        return open_study(JournalStorage(journal))
    except Exception as error:  # noqa: BLE001  whatever Optuna makes of lines that do not belong together
        aside = path.with_name(f"{path.stem}.damaged{path.suffix}")
        log.warning("%s is damaged (%r): it is set aside as %s", path, error, aside.name)
        path.replace(aside)
        return open_study(JournalStorage(_Journal(path)))


class _Journal(JournalFileBackend):
    """Never appends to half a line, which a process that was killed may have left."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, JournalFileSymlinkLock(str(path))
        super().__init__(str(path), self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.cut(only_end=True)
        super().append_logs(logs)

    def cut(self, only_end: bool) -> None:
        """Cut off a last line without an end; or all from the first line on that is not whole."""
        self.lock.acquire()
        try:
            with self.path.open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if only_end and (size == 0 or _last_byte(file) == b"\n"):
                    return
                file.seek(0)
                kept = _whole(file.read(), only_end)
                if kept < size:
                    log.warning("%s: the last %d of %d bytes are damaged and cut off", self.path, size - kept, size)
                    file.truncate(kept)
                    os.fsync(file.fileno())
        finally:
            self.lock.release()


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    last: bytes = file.read(1)
    return last


def _whole(content: bytes, only_end: bool) -> int:
    """The number of bytes up to the end of the last whole line."""
    end = content.rfind(b"\n") + 1
    if only_end:
        return end
    kept = 0
    for line in content[:end].split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not (isinstance(entry, dict) and isinstance(entry.get("op_code"), int)):
            break
        kept += len(line) + 1
    return kept
