"""Which values of a config are places: where something lies decides nothing, what lies there does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnnbench.data import fetch
from cnnbench.models import catalogue

TOP = ("run_dir", "data_dir", "plugins")
NAMES = re.compile(r"(\w+_)?(root|dir|file|path|folder)")  # of keywords of a data set or a model
WEIGHTS = "weights"  # of a model: a file, unless it is the name of published ones
FIXES = "dataset.fixes"  # a file whose content decides, unlike that of other places of data
BACKBONE = "model.backbone"  # a name, a file or a folder
PUBLISHED = "imagenet"
Change = Callable[[str, Any], Any]
GONE = object()


def is_place(key: str, value: Any = None) -> bool:
    """Say whether a dotted key of a config, with this value, names a place."""
    group, _, rest = key.partition(".")
    name = rest.rpartition(".")[2]
    if not rest or group not in ("dataset", "model"):
        return key in TOP
    if key == BACKBONE:
        return isinstance(value, str) and catalogue.is_place(value)
    if group == "model" and name == WEIGHTS:
        return isinstance(value, str) and value != PUBLISHED
    if key == FIXES:
        return True
    return NAMES.fullmatch(name) is not None


def without_places(config: Mapping[str, Any], files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Copy a config without its places.

    Args:
        config: of a run.
        files: by the key of a place of the model, or of `dataset.fixes`, what identifies the content of the
            file there; it takes the place's place. A file that is not among them counts by its path.
    """

    def change(key: str, value: Any) -> Any:
        if key == FIXES and value is not None:
            known = (files or {}).get(key)
            return value if known is None else f"{Path(value).name} {known[:8]}"
        if key.startswith("model."):
            return (files or {}).get(key, value)
        return GONE

    return _changed(config, change)


def places_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the places in a config by their dotted keys, those that are not set left out."""
    found: dict[str, Any] = {}

    def note(key: str, value: Any) -> Any:
        if value is not None and value != []:
            found[key] = value
        return value

    _changed(config, note)
    return found


def with_absolute_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a config whose relative places are written from the root, as seen from the working folder.

    A folder or file of data may lie in a data folder instead. What is nowhere stays as it was typed, for
    whoever looks for it says so.

    Raises:
        CnnbenchError: `data_dir` is no folder.
    """
    data_dir = config.get("data_dir")

    def change(key: str, value: Any) -> Any:
        if not isinstance(value, str) or not value:  # plugins are found by those who import them
            return value
        path = Path(value).expanduser()
        if path.is_absolute():
            return str(path)
        if key.rpartition(".")[2] in ("run_dir", "cache_dir"):  # may be made
            return os.path.abspath(path)  # noqa: PTH100  resolve() would follow links
        if os.path.exists(path):  # noqa: PTH110  False, too, where it may not be looked at
            return os.path.abspath(path)  # noqa: PTH100
        if "*" in value and os.path.exists(os.path.dirname(path)):  # noqa: PTH110, PTH120  a pattern
            return os.path.abspath(path)  # noqa: PTH100
        is_data = key.startswith("dataset.") and key.endswith(("root", "file", "fixes"))
        folders = fetch.search_folders(data_dir) if is_data else []
        there = [folder / path for folder in folders if os.path.exists(folder / path)]  # noqa: PTH110
        return os.path.abspath(there[0]) if there else value  # noqa: PTH100

    return _changed(config, change)


def _changed(node: Mapping[str, Any], change: Change, prefix: str = "") -> dict[str, Any]:
    copy: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        new = value
        if is_place(key, value):
            new = change(key, value)
        elif isinstance(value, Mapping) and key.partition(".")[0] in ("dataset", "model"):
            new = _changed(value, change, f"{key}.")
        if new is not GONE:
            copy[name] = new
    return copy
