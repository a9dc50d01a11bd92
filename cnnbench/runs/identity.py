"""What a run was begun with, so that whoever takes it up again can tell what has changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cnnbench.data import Dataset
from cnnbench.errors import CnnbenchError, shown
from cnnbench.renamed import with_current_targets
from cnnbench.runs.keys import differing
from cnnbench.runs.places import FIXES, is_place, places_in, without_places
from cnnbench.system import damaged_file, module_name, plain, sha256

NAMED = 3  # files that a line names
MISSING = "not there"


@dataclass(frozen=True)
class Identity:
    """Config, data and code of the user's own.

    Attributes:
        config: resolved.
        data: the fingerprint of each split as its source gave it, before one was drawn for validation.
        drawn: the same of the splits of the run, and under `all` that of the whole data set.
        files: of a folder of images: for each file in use a digest of its content.
        plugins: a digest of each module.
        weights: of each file that a place in the model, or `dataset.fixes`, names.
        uncorrected: as `data`, before `dataset.fixes`; empty without fixes.
    """

    config: Mapping[str, Any]
    data: Mapping[str, str]
    drawn: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    plugins: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    uncorrected: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Mapping[str, Any], source: Dataset, dataset: Dataset) -> Identity:
        """Identify a run.

        Args:
            config: resolved.
            source: the data set as it came.
            dataset: with the splits of the run.
        """
        return cls(
            config=plain(config),
            data={name: split.fingerprint for name, split in source.splits.items()},
            drawn={
                **{name: split.fingerprint for name, split in dataset.splits.items()},
                "all": dataset.fingerprint,
            },
            files=source.files,
            plugins=plugin_digests(config.get("plugins", [])),
            weights=weights_digests(config),
            uncorrected=source.uncorrected,
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], path: Path) -> Identity:
        if not all(isinstance(value, dict) for value in content.values()):
            raise damaged_file(path, "it holds something else than mappings")
        try:
            return cls(**content)
        except TypeError as error:
            raise damaged_file(path, error) from error

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def data_digest(self) -> str:
        """One text for all data, the same for every seed, and with fixes as without: those are compared."""
        return hashlib.sha256(repr(sorted((self.uncorrected or self.data).items())).encode()).hexdigest()


def plugin_digests(plugins: Sequence[str]) -> dict[str, str]:
    """Return a digest of each module as it would be imported now; of a package, of all its files."""
    return {module_name(plugin): _module_digest(plugin) for plugin in plugins}


def _module_digest(plugin: str) -> str:
    top = module_name(plugin).partition(".")[0]
    found = find_spec(top)  # in a sweep a copy comes first, and is what runs
    origin = Path(found.origin) if found is not None and found.origin else Path(plugin)
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(f"{file.relative_to(origin.parent)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


def weights_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a digest of each file that a place in the model, or `dataset.fixes`, names, by its key."""
    found = places_in(config).items()
    places = {key: Path(value) for key, value in found if key.startswith("model.") or key == FIXES}
    return {key: _digest(path) for key, path in places.items() if path.exists()}


def _digest(path: Path) -> str:
    """Return a digest of a file, or of all files in a folder."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        digest.update(f"{file.relative_to(path)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()


# -- What has changed ------------------------------------------------------------------------------


def config_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one text for each key with another value, places and names of targets apart."""
    old_config, new_config = (without_places(with_current_targets(plain(one))) for one in (before, now))
    return [
        f"{key}: {shown(new)}, was {shown(old)}"
        for key, (old, new) in differing(old_config, new_config, MISSING).items()
        if not is_place(key, new if old == MISSING else old)
    ]


def code_changes(before: Identity, config: Mapping[str, Any]) -> list[str]:
    """Return one text for each plugin and each file of weights with another content."""
    pairs = (
        (before.plugins, plugin_digests(config.get("plugins", [])), "plugin {} has another content"),
        (before.weights, weights_digests(config), "the file of {} has another content"),
    )
    return [
        text.format(name)
        for first, second, text in pairs
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    ]


def data_changes(before: Identity, now: Identity) -> list[str]:
    """Return one text for each way in which the data differ; by file where they are files."""
    if before.data == now.data and (before.drawn == now.drawn or config_changes(before.config, now.config)):
        return []
    if before.files != now.files and before.files and now.files:
        return file_changes(before.files, now.files)
    pairs = (before.data, now.data) if before.data != now.data else (before.drawn, now.drawn)
    return split_changes(*pairs)


def file_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Name the files that were added, removed or changed."""
    kinds = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name in now if name in before and now[name] != before[name]],
    }
    return [
        f"{len(names):,} {'file' if len(names) == 1 else 'files'} {kind} ({_listed(names)})"
        for kind, names in kinds.items()
        if names
    ]


def split_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Name the splits with other examples."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name) and name != "all"]
    return [f"other examples in {', '.join(names)}" if names else "other examples"]


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(names[:NAMED])
    return f"{listed} and {len(names) - NAMED:,} more" if len(names) > NAMED else listed


class ChangedError(CnnbenchError):
    """A run is not what it was when it began, and nobody has said that this is meant."""

    def __init__(self, run: Path, what: str, changes: Sequence[str]) -> None:
        super().__init__(
            f"{what} of {run} changed since it began: {'; '.join(changes)}",
            f"put that back, or go on with it as it is: cnnbench resume {run} --with-changes",
        )
