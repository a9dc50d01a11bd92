"""Plugins: the user's own modules, and the trust in configs from elsewhere.

A config may name code to run and a folder to write to. Both are used without asking only where this user has
typed them on this machine before: their hashes are kept in a file of the user's own, outside of run folders.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cnnbench.errors import CnnbenchError
from cnnbench.system import module_name, plain, state_dir

log = logging.getLogger("cnnbench")


def find_plugins(plugins: Any) -> Any:
    """Make the user's modules importable: by name from the working folder, or a path to a .py file.

    Returns:
        the same list with absolute paths for files, so that a run can be read from another folder; anything
        but a list of texts as it came.

    Raises:
        CnnbenchError: there is no such file or module.
    """
    if not isinstance(plugins, list) or not all(isinstance(plugin, str) for plugin in plugins):
        return plugins  # refused by the check of the config
    found = []
    for plugin in plugins:
        top = module_name(plugin).partition(".")[0]
        if top in (*sys.stdlib_module_names, "__main__"):
            raise CnnbenchError(f"plugins: {plugin} is part of Python, not of yours", "name your own module")
        if top in ("keras", "cnnbench"):  # all of it would be allowed, and not only what belongs in a config
            raise CnnbenchError(f"plugins: {plugin} needs no plugin", "name your own module")
        path = Path(plugin if plugin.endswith(".py") else f"{plugin}.py").resolve()
        folder = str(path.parent)
        if folder not in sys.path:
            sys.path.append(folder)  # last, so that it hides nothing
        if not path.is_file() and (plugin.endswith(".py") or find_spec(plugin.partition(".")[0]) is None):
            raise CnnbenchError(f"plugins: there is no {plugin}", f"looked in {Path.cwd()}")
        found.append(str(path) if path.is_file() else plugin)
    return found


# -- Trust -----------------------------------------------------------------------------------------


WRITTEN = "cache_dir"  # of data sets: the only key of a config that names a folder to write to


def remember(config: Mapping[str, Any]) -> None:
    """Note that this user has typed the plugins and the cache of this config here."""
    typed = [config] if config.get("plugins") else []
    typed += [{WRITTEN: place} for place in _caches(config)]
    new = [_hash(one) for one in typed if not _is_own(one)]
    if not new:
        return
    try:
        path = _store()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w") as file:
            file.write("".join(f"{one}\n" for one in new))
    except (OSError, CnnbenchError) as error:
        log.warning("cannot note that these plugins are yours (%s): resume will want --trust-plugins", error)


def require_own(config: Mapping[str, Any], place: Path) -> None:
    """Refuse plugins in a config that this user has not typed on this machine.

    Raises:
        CnnbenchError: it names some.
    """
    plugins = config.get("plugins")
    if plugins and not _is_own(config):
        listed = ", ".join(map(str, plugins)) if isinstance(plugins, list) else str(plugins)
        raise CnnbenchError(
            f"{place} was not made by you on this machine, and would run code: {listed}",
            "if you trust that code, add --trust-plugins",
        )


def require_own_cache(config: Mapping[str, Any], place: Path) -> None:
    """Refuse a config that names a folder to write to which this user has never named here.

    Raises:
        CnnbenchError: it names such a folder.
    """
    for cache in _caches(config):
        if not _is_own({WRITTEN: cache}):
            raise CnnbenchError(
                f"{place} was not made by you on this machine, and would write to {cache}",
                "if that is what you want, add --trust-plugins",
            )


def without_strange_cache(node: Any) -> Any:
    """Copy a config without the caches that this user has not named here: its own cache is used."""
    if isinstance(node, Mapping):
        return {
            key: None
            if key == WRITTEN and value is not None and not _is_own({WRITTEN: value})
            else without_strange_cache(value)
            for key, value in node.items()
        }
    return [without_strange_cache(one) for one in node] if isinstance(node, list) else node


def _caches(node: Any) -> Iterator[Any]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == WRITTEN and value is not None:
                yield value
            yield from _caches(value)
    elif isinstance(node, list):
        for one in node:
            yield from _caches(one)


def refuse_links(folder: Path) -> None:
    """Refuse symbolic links, except to models: through others a verb could write elsewhere.

    Raises:
        CnnbenchError: there is one.
    """
    for path in folder.rglob("*"):
        if path.is_symlink() and path.suffix != ".keras":
            raise CnnbenchError(
                f"{path} is a link, and may lead out of the run folder", "replace it by what it leads to"
            )


def refuse_interpolations(config: Mapping[str, Any], place: Path) -> None:
    """Refuse `${…}` in a stored config: `${oc.env:SECRET}` would read this user's environment.

    Raises:
        CnnbenchError: there is one.
    """
    found = next((text for text in _texts(config) if "${" in text), None)
    if found is not None:
        raise CnnbenchError(
            f"{place}: {found!r} in the config is not resolved", "a run writes down only values"
        )


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _texts(value)


def _is_own(config: Mapping[str, Any]) -> bool:
    try:
        return _hash(config) in _store().read_text(encoding="utf-8").split()
    except (OSError, ValueError, CnnbenchError):  # no file, or one that cannot be read
        return False


def _hash(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain(config), sort_keys=True, default=str).encode()).hexdigest()


def _store() -> Path:
    return state_dir() / "configs_with_plugins"
