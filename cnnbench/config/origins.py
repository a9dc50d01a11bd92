"""Where the value of a config key comes from: every file and override that says something about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cnnbench.config.composition import compose, config_layers, plain_config, typed_values
from cnnbench.config.groups import CONF_DIR, options, yaml_text
from cnnbench.errors import CnnbenchError, nearest


@dataclass(frozen=True)
class Origin:
    """One place that sets a key: the text there, and where that is."""

    text: str
    place: str


def explain(key: str, overrides: Sequence[str], config_dir: str | None = None) -> list[str]:
    """A key in a few lines.

    Args:
        key: of the config, dotted; of a group also with a slash, as in `optimizer/learning_rate`.
        overrides: as for a run.
        config_dir: the user's own options.

    Raises:
        CnnbenchError: there is no such key, or an override does not fit.
    """
    composed = compose(overrides, config_dir)
    dotted = key.replace("/", ".")
    groups = options(config_dir)
    group = dotted.replace(".", "/")
    lines: list[str] = []
    if group in groups:
        lines += _told(
            group, str(composed.hydra.runtime.choices.get(group)), _choices(group, overrides, config_dir)
        )
    if group != "experiment":
        value = _value(plain_config(composed), dotted, groups)
        lines += _told(dotted, _shown(value), _settings(dotted, overrides, config_dir))
    return lines


def _told(name: str, value: str, origins: Sequence[Origin]) -> list[str]:
    if not origins:
        return [f"{name} = {value}"]
    *replaced, last = origins
    raw = f" (as {last.text})" if "${" in last.text and "${" not in last.place else ""
    return [
        f"{name} = {value}",
        f"  set by {last.place}{raw}",
        *(f"  before: {origin.text} by {origin.place}" for origin in reversed(replaced)),
    ]


def _value(node: Any, key: str, groups: Mapping[str, Any]) -> Any:
    path: list[str] = []
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            known = list(node) if isinstance(node, Mapping) else []
            where = f" in {'.'.join(path)}" if path else ""
            also = [] if path else [group for group in groups if "/" not in group]
            raise CnnbenchError(f"there is no key {part}{where}", nearest(part, {*map(str, known), *also}))
        node = node[part]
        path.append(part)
    return node


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


# -- values --------------------------------------------------------------------------------------


def _settings(key: str, overrides: Sequence[str], config_dir: str | None) -> list[Origin]:
    """What sets a key or something in it, the last one winning."""
    found = []
    for package, name in config_layers(overrides, config_dir):
        path, root = _parsed(name, config_dir)
        inside = _below(key, package)
        node = None if inside is None else _node(root, inside)
        if node is not None:
            found.append(Origin(_text(node[1]), f"{_short(path)}:{node[0].start_mark.line + 1}"))
    groups = options(config_dir)
    for typed, value, text in _typed(overrides):
        if typed not in groups and _touches(typed, key):
            found.append(Origin(_shown(value), f"the override {text}"))
    return found


def _typed(overrides: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """Key, value and text of each override; one key may come twice."""
    for text in overrides:
        for key, value in typed_values([text], resolve=False).items():
            yield key, value, text


def _touches(typed: str, key: str) -> bool:
    return typed == key or key.startswith(f"{typed}.") or typed.startswith(f"{key}.")


def _below(key: str, package: str) -> list[str] | None:
    """The path of a key in a file whose content is put at `package`; None where it cannot be in there."""
    parts, at = key.split("."), package.split(".") if package else []
    if parts[: len(at)] == at:
        return parts[len(at) :]
    return [] if at[: len(parts)] == parts else None


def _node(root: yaml.Node | None, path: Sequence[str]) -> tuple[yaml.Node, yaml.Node] | None:
    """The node of a key and that of its value; of no path those of the whole file."""
    if root is None:
        return None
    pair = (root, root)
    for part in path:
        pairs = pair[1].value if isinstance(pair[1], yaml.MappingNode) else []
        match = [(key, value) for key, value in pairs if key.value == part]
        if not match:
            return None
        pair = match[-1]
    return pair


def _text(node: yaml.Node) -> str:
    """A value as it stands in the file; of a mapping only that it is one."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if isinstance(node, yaml.SequenceNode):
        return f"[{', '.join(map(_text, node.value))}]"
    return f"{len(node.value)} {'key' if len(node.value) == 1 else 'keys'}"


def _parsed(name: str, config_dir: str | None) -> tuple[Path, yaml.Node | None]:
    """A file of the search path, in Hydra's order, and its tree."""
    folders = [CONF_DIR, *([Path(config_dir)] if config_dir else [])]
    path = next(path for folder in folders if (path := folder / f"{name}.yaml").is_file())
    return path, yaml.compose(yaml_text(path), yaml.SafeLoader)


def _short(path: Path) -> str:
    if path.is_relative_to(CONF_DIR):
        return f"conf/{path.relative_to(CONF_DIR)}"
    return str(path)


# -- options of a group --------------------------------------------------------------------------


def _choices(group: str, overrides: Sequence[str], config_dir: str | None) -> list[Origin]:
    """What chooses the option of a group, the last one winning."""
    found = []
    for _, name in config_layers(overrides, config_dir):
        path, root = _parsed(name, config_dir)
        for key, value in _defaults(root):
            if _group(key.value, name) == group:
                found.append(Origin(_text(value), f"{_short(path)}:{key.start_mark.line + 1}"))
    for typed, option, text in _typed(overrides):
        if typed == group:
            found.append(Origin(str(option), f"the override {text}"))
    return found


def _defaults(root: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    pair = _node(root, ["defaults"])
    for entry in pair[1].value if pair else ():
        if isinstance(entry, yaml.MappingNode):
            yield from entry.value


def _group(text: str, name: str) -> str:
    """The group that an entry of the defaults list of a file is about, e.g. `override /optimizer`."""
    group = text.removeprefix("override ").strip().partition("@")[0]
    if group.startswith("/"):
        return group.removeprefix("/")
    folder = "" if name.startswith("experiment/") else name.rpartition("/")[0]
    return f"{folder}/{group}" if folder else group
