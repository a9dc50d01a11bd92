"""The states of a training on disk: two, so that a half-written one costs an epoch and not the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench.system import sha256, sync, temporary_beside

KEPT = 2


@dataclass(frozen=True)
class Stored:
    """One state as it was read.

    Attributes:
        content: what was given as JSON.
        arrays: by name.
        best: the checkpoint that was the best then; None where there was none.
        best_info: what belongs to it.
    """

    content: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    best: Path | None
    best_info: Mapping[str, Any]


@dataclass(frozen=True)
class LastStates:
    """The folder `last/` of a run; `<number>/` in it holds one state and is whole or absent."""

    path: Path

    def write(
        self,
        content: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        best: Path,
        best_info: Mapping[str, Any],
    ) -> None:
        """Add a state and drop all but one of those before.

        The best checkpoint comes along as a hard link, which costs nothing: it is replaced by renaming, so
        the link goes on to hold the file that was the best at this moment.
        """
        number = max(self._numbers(), default=0) + 1
        temporary = temporary_beside(self.path / str(number))
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            with (temporary / "arrays.npz").open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                sync(file)
            if best.exists():
                _link(best, temporary / "checkpoint.keras")
            described = {
                **content,
                "best": dict(best_info),
                "arrays_sha256": sha256(temporary / "arrays.npz"),
            }
            with (temporary / "state.json").open("w", encoding="utf-8") as file:
                json.dump(described, file)
                sync(file)
            temporary.rename(self.path / f"{number:06d}")
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        for old in self._numbers()[:-KEPT]:
            shutil.rmtree(self.path / f"{old:06d}")

    def read(self) -> Stored | None:
        """Return the newest state that is whole; None where there is none."""
        for number in reversed(self._numbers()):
            stored = _read(self.path / f"{number:06d}")
            if stored is not None:
                return stored
        return None

    def clear(self) -> None:
        """Remove them all: the run is done, or starts again."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _numbers(self) -> list[int]:
        names = [path.name for path in self.path.iterdir()] if self.path.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())


def _read(folder: Path) -> Stored | None:
    try:
        content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if sha256(folder / "arrays.npz") != content["arrays_sha256"]:
            return None
        with np.load(folder / "arrays.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        info = content["best"]
        best = folder / "checkpoint.keras" if info else None
        if best is not None and sha256(best) != info["sha256"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):  # cut short or overwritten: the one before it is used
        return None
    return Stored(content, arrays, best, info)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
