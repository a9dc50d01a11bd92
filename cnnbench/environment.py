"""What a run ran on: enough to tell later why two runs differ. No environment variables."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnbench import engine
from cnnbench.datasets.core import Dataset
from cnnbench.files import plain

PACKAGES = ("cnnbench", "tensorflow", "keras", "numpy", "scikit-learn", "hydra-core", "omegaconf")
# Where and how often a run happens does not change what it is.
NOT_IDENTITY = ("run_dir", "data_dir", "plugins", "expected")


def describe(
    config: Mapping[str, Any], machine: engine.Machine, dataset: Dataset, notes: Sequence[str]
) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in PACKAGES},
        "device": machine.device,
        "precision": machine.precision,
        "threads": engine.cores(),
        "git": git_commit(Path.cwd()),
        "config_hash": config_hash(config),
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "splits": {name: len(split) for name, split in dataset.splits.items()},
            "notes": list(notes),
        },
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def config_hash(config: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    return hashlib.sha256(json.dumps(plain(kept), sort_keys=True).encode()).hexdigest()


def git_commit(directory: Path) -> str | None:
    """The commit of the working folder, with `+changes` where files differ; None outside of git."""
    try:
        commit = _git("rev-parse", "HEAD", directory=directory)
        return commit + ("+changes" if _git("status", "--porcelain", directory=directory) else "")
    except (OSError, subprocess.SubprocessError):  # no git, or no repository
        return None


def _git(*arguments: str, directory: Path) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=True, timeout=5
    ).stdout.strip()
