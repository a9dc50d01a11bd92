"""The runs at or below some places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.errors import CnnbenchError
from cnnbench.results import RunFolder
from cnnbench.run_files import CONFIG


def find_runs(places: Sequence[Path]) -> list[RunFolder]:
    """Every run at or below `places`, each once, by name.

    Raises:
        CnnbenchError: a place does not exist.
    """
    found: dict[Path, RunFolder] = {}
    for place in places:
        if not place.is_dir():
            raise CnnbenchError(f"{place} does not exist or is not a folder")
        for config in sorted(place.rglob(CONFIG), key=_natural):
            found[config.parent.resolve()] = RunFolder(config.parent)
    return list(found.values())


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]
