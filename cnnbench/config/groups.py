"""Groups: the folders of YAML files, and the options in them."""

from __future__ import annotations

import codecs
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import yaml

from cnnbench.errors import CnnbenchError

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
PACKAGE = Path(__file__).resolve().parents[1]
# Installed as a wheel the YAML lie inside the package, in a checkout beside it.
CONF_DIR = next(
    (path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir()), PACKAGE / "conf"
)


def own_options(config_dir: str | None = None) -> Path | None:
    """Return the folder of the user's own options; None where there is none.

    Args:
        config_dir: as given; None for a folder `conf` in the working folder that has groups of ours.

    Raises:
        CnnbenchError: what was given is no folder.
    """
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise CnnbenchError(f"--config-dir {config_dir} is no folder", f"looked from {Path.cwd()}")
        return Path(config_dir)
    found = Path("conf")
    if not found.is_dir() or found.resolve() == CONF_DIR.resolve():
        return None
    groups = [path.name for path in CONF_DIR.iterdir() if path.is_dir()]
    return found if any((found / group).is_dir() for group in groups) else None


def options(config_dir: str | None = None) -> dict[str, dict[str, str]]:
    """Return every group's options, each with the one-line description that its file begins with."""
    found: dict[str, dict[str, str]] = {}
    for folder in filter(None, (own_options(config_dir), CONF_DIR)):  # ours last: they win
        for path in sorted(folder.rglob("*.yaml")):
            group, option = group_and_option(path.relative_to(folder))
            if group:
                lines = yaml_text(path).splitlines()
                first = next((line for line in lines if not line.startswith("# @package")), "")
                found.setdefault(group, {})[option] = first.lstrip("# ").strip() if first[:1] == "#" else ""
    return found


@cache
def run_keys() -> frozenset[str]:
    """Return the keys of a run that belong to no group, such as `seed`."""
    content = yaml.safe_load(yaml_text((CONF_DIR / "config").with_suffix(".yaml")))
    return frozenset(content) - {"defaults"}


def yaml_text(path: Path) -> str:
    """Read a YAML file, without the byte-order mark that editors of Windows put in front.

    Raises:
        CnnbenchError: it is no text.
    """
    content = path.read_bytes()
    marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(marked)
    except UnicodeDecodeError as error:
        raise CnnbenchError(f"{path} is not written in UTF-8", "save it as UTF-8") from error


@contextmanager
def readable_by_hydra(folder: Path) -> Iterator[Path]:
    """Give a folder in which no YAML file has a byte-order mark: a copy where one has.

    Hydra does not see a `# @package` line behind such a mark.
    """
    paths = list(folder.rglob("*.yaml"))
    if not any(_is_marked(path) for path in paths):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="cnnbench-conf-") as copy:
        for path in paths:
            if path.is_file():
                target = Path(copy) / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(yaml_text(path), encoding="utf-8")
        yield Path(copy)


def _is_marked(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(3).startswith(tuple(MARKS))


def group_and_option(relative: Path) -> tuple[str, str]:
    parts = relative.with_suffix("").parts
    if parts[0] == "experiment":  # experiment=notes/cifar10_cnn
        return parts[0], "/".join(parts[1:])
    return "/".join(parts[:-1]), parts[-1]


def refuse_paths(overrides: Sequence[str], config_dir: str | None = None) -> None:
    """Refuse `experiment=../somewhere/file`: such a file may name plugins and set what Hydra runs.

    Raises:
        CnnbenchError: an option is not a name.
    """
    for text in overrides:
        key, _, value = text.partition("=")
        group = key.lstrip("+").partition("@")[0]
        is_path = ".." in re.split(r"[^\w.-]+", value)
        if is_path and (group.startswith("hydra/") or group in options(config_dir)):
            raise CnnbenchError(f"{text}: an option is a name, not a path", "name its folder by --config-dir")
