"""Where the YAML files are, and what options they offer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cnnbench.errors import CnnbenchError

PACKAGE = Path(__file__).resolve().parents[1]
# Installed as a wheel the YAML lie inside the package, in a checkout beside it.
CONF_DIR = next(
    (path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir()), PACKAGE / "conf"
)


def options(config_dir: str | None = None) -> dict[str, dict[str, str]]:
    """Every group's options with the one-line description that each file begins with."""
    found: dict[str, dict[str, str]] = {}
    for folder in [CONF_DIR, *([Path(config_dir)] if config_dir else [])]:
        for path in sorted(folder.rglob("*.yaml")):
            group, option = group_and_option(path.relative_to(folder))
            if group:
                lines = path.read_text(encoding="utf-8").splitlines()
                first = next((line for line in lines if not line.startswith("# @package")), "")
                found.setdefault(group, {})[option] = first.lstrip("# ").strip() if first[:1] == "#" else ""
    return found


def group_and_option(relative: Path) -> tuple[str, str]:
    parts = relative.with_suffix("").parts
    if parts[0] == "experiment":  # experiment=notes/cifar10_cnn
        return parts[0], "/".join(parts[1:])
    return "/".join(parts[:-1]), parts[-1]


def refuse_paths(overrides: Sequence[str], config_dir: str | None = None) -> None:
    """Refuse `experiment=../somewhere/file`: such a file may name plugins, and what Hydra runs.

    Raises:
        CnnbenchError: an option is not a name.
    """
    for text in overrides:
        key, _, value = text.partition("=")
        group = key.lstrip("+").partition("@")[0]
        is_path = ".." in re.split(r"[^\w.-]+", value)
        if is_path and (group.startswith("hydra/") or group in options(config_dir)):
            raise CnnbenchError(f"{text}: an option is a name, not a path", "name its folder by --config-dir")
