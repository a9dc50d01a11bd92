"""Environment of a run: versions, device, code and data, to tell later why two runs differ."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnbench import __version__, runs
from cnnbench.config import fingerprint
from cnnbench.data import Dataset, task_in_words
from cnnbench.system import plain, usable_cores
from cnnbench.training.device import Machine

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "hydra-core", "omegaconf")
LONGEST_DIFF = 1_000_000  # characters
# Keys that do not change the result; so are the places of `runs.places`.
NOT_IDENTITY = ("name", "expected")


def describe_environment(
    config: Mapping[str, Any],
    overrides: Sequence[str],
    machine: Machine,
    dataset: Dataset,
    notes: Sequence[str],
) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {"cnnbench": __version__, **{name: version(name) for name in PACKAGES}},
        "device": machine.device,
        "precision": machine.precision,
        "threads": usable_cores(),
        "code": fingerprint(config.get("plugins", [])),
        "git": git_commit(Path.cwd()),
        "config_hash": config_hash(config),
        "dataset": {
            "name": dataset.name,
            "task": task_in_words(dataset),
            "fingerprint": dataset.fingerprint,
            "splits": {name: len(split) for name, split in dataset.splits.items()},
            **({"bits": dataset.bits} if dataset.bits else {}),  # as which `predict` takes 16-bit pictures
            "dtype": str(dataset.train.x.dtype),  # as whose values `predict` takes pictures, or does not
            # What an exported model, which knows no names, takes in which place.
            **({"columns": [asdict(column) for column in dataset.columns]} if dataset.columns else {}),
            "notes": list(notes),
        },
        "command": ["cnnbench", *overrides],
    }


def config_hash(config: Mapping[str, Any]) -> str:
    of_files = runs.weights_digests(config)
    kept = {
        key: value for key, value in runs.without_places(config, of_files).items() if key not in NOT_IDENTITY
    }
    return hashlib.sha256(json.dumps(plain(kept), sort_keys=True).encode()).hexdigest()


def git_commit(directory: Path) -> str | None:
    """Return the commit of the working folder; None outside of git.

    It ends in `+changes` where files differ, and in `+unknown` where only a program that the repository's
    own settings name could tell.
    """
    try:
        commit = _git("rev-parse", "HEAD", directory=directory)
        # Git would run filters that the settings of the folder name, whoever made it.
        settings = _git("config", "--list", "--name-only", "--show-scope", directory=directory)
        if re.search(r"(?m)^(local|worktree)\s+filter\.", settings):
            return f"{commit}+unknown"
        status = _git("status", "--porcelain", "--ignore-submodules=dirty", directory=directory)
        return commit + ("+changes" if status else "")
    except (OSError, subprocess.SubprocessError):  # no git, or no repository
        return None


def git_diff(directory: Path, commit: str | None) -> str:
    """Return what differs from a commit as a patch; empty where that is nothing or unknown.

    Files that git does not know are left out, and what is longer than `LONGEST_DIFF` is cut.

    Args:
        directory: the working folder.
        commit: as `git_commit` gives it.
    """
    if not (commit or "").endswith("+changes"):
        return ""
    # Neither programs nor converters that the repository names.
    safe = ("--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=dirty")
    try:
        diff = _git("diff", *safe, "HEAD", directory=directory)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return f"{diff[:LONGEST_DIFF]}\n" if diff else ""


@cache
def installed_packages() -> tuple[str, ...]:
    """Return every installed package with its version, as `pip install` takes them, in their order.

    The names of their folders tell that; to read the metadata of each takes a tenth of a second.
    """
    folders = {path.stem for place in sys.path for path in Path(place or ".").glob("*-*.dist-info")}
    return tuple(sorted((name.replace("-", "==", 1) for name in folders), key=str.lower))


def _git(*arguments: str, directory: Path) -> str:
    quiet = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
    command = ["git", "--no-optional-locks", *quiet, *arguments]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=True, timeout=5
    ).stdout.strip()
