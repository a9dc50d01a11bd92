"""Where the YAML files are, and what options they offer."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
# Installed as a wheel the YAML lie inside the package, in a checkout beside it.
CONF_DIR = next((path for path in (HERE / "conf", HERE.parent / "conf") if path.is_dir()), HERE / "conf")


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
