"""Origins of a value: every file, signature and override that sets a key of the config."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from cnnbench.config import auto
from cnnbench.config.components import known_signature, objects_in
from cnnbench.config.composition import compose, config_layers, plain_config, typed_values, unresolved
from cnnbench.config.groups import CONF_DIR, options, own_options, yaml_text
from cnnbench.config.signatures import UNKNOWN
from cnnbench.errors import CnnbenchError, nearest
from cnnbench.runs import flatten


@dataclass(frozen=True)
class Origin:
    """One place that sets a key: the text there, and where that is."""

    text: str
    place: str


@dataclass(frozen=True)
class Layer:
    """One file that a config is merged from.

    Attributes:
        package: the dotted key that its content is put at.
        name: of the option, with its group: `model/cnn`.
        place: of the file, for a person.
        root: its tree.
    """

    package: str
    name: str
    place: str
    root: yaml.Node | None

    def origin(self, value: yaml.Node, key: yaml.Node) -> Origin:
        return Origin(_text(value), f"{self.place}:{key.start_mark.line + 1}")


def explain(key: str, overrides: Sequence[str], config_dir: str | None = None) -> list[str]:
    """Tell in a few lines the value of a key, what set it, and what that replaced.

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
    layers = _layers(overrides, config_dir)
    typed = list(_typed(overrides))
    lines: list[str] = []
    why = composed.hydra.runtime.choices.get(auto.WHY, "")
    if group in groups:
        chosen = str(composed.hydra.runtime.choices.get(group))
        lines += _told(group, chosen, _choices(group, layers, typed), why)
    if group != "experiment":
        config = plain_config(composed)
        value = _value(config, dotted, groups)
        changed = [one for one in typed if one[0] not in groups]
        lines += _told(
            dotted,
            _shown(value),
            [*_defaults(config, dotted, layers), *_changes(dotted, changed)],
            why if dotted == "model.backbone" else "",
        )
    return lines


def keywords(choice: str, config_dir: str | None = None) -> list[str]:
    """Tell in a line each the keys of an option, those that its signatures add too, and where each is set.

    Args:
        choice: as typed for a run: `model=cnn`, `optimizer/learning_rate=cosine`.
        config_dir: the user's own options.

    Raises:
        CnnbenchError: there is no such option, or it is a preset.
    """
    group, _, option = choice.partition("=")
    if group == "experiment" or group.startswith("hydra/"):
        raise CnnbenchError(f"{choice} has no keys of its own", f"see cnnbench --cfg all {choice}")
    line = [f"{group}=[{option}]" if group == "callbacks" else choice]
    config, layers = unresolved(compose(line, config_dir)), _layers(line, config_dir)
    key = group.replace("/", ".")
    found = {
        name: (_shown(value), _defaults(config, name, layers))
        for name, value in flatten(_value(config, key, {}), f"{key}.").items()
    }
    width = max((len(f"{name} = {text}") for name, (text, _) in found.items()), default=0)
    width = min(width, 60)
    return [
        f"{f'{name} = {text}':<{width}}  {origins[-1].place if origins else ''}".rstrip()
        for name, (text, origins) in found.items()
    ]


def _told(name: str, value: str, origins: Sequence[Origin], why: str = "") -> list[str]:
    if not origins:
        return [f"{name} = {value}"]
    *replaced, last = origins
    raw = f" (as {last.text})" if "${" in last.text and "${" not in last.place else ""
    if last.text.strip('"') == auto.AUTO != value.strip('"'):
        raw = f" (as {auto.AUTO}{f': {why}' if why else ''})"
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


def _layers(overrides: Sequence[str], config_dir: str | None) -> list[Layer]:
    """Read the files that a config is merged from, the last one winning."""
    folders = [folder for folder in (CONF_DIR, own_options(config_dir)) if folder is not None]
    found = []
    for package, name in config_layers(overrides, config_dir):
        path = next(path for folder in folders if (path := folder / f"{name}.yaml").is_file())
        short = f"conf/{path.relative_to(CONF_DIR)}" if path.is_relative_to(CONF_DIR) else str(path)
        found.append(Layer(package, name, short, yaml.compose(yaml_text(path), yaml.SafeLoader)))
    return found


def _defaults(config: Mapping[str, Any], key: str, layers: Sequence[Layer]) -> list[Origin]:
    """Return what sets a key or something in it before the line does: files, else the signature."""
    found = []
    for layer in layers:
        inside = _below(key, layer.package)
        node = None if inside is None else _node(layer.root, inside)
        if node is not None:
            found.append(layer.origin(node[1], node[0]))
    parent, _, name = key.rpartition(".")
    owner = dict(objects_in(config)).get(parent)
    signature = known_signature(owner) if owner is not None and not found else None
    parameter = signature.parameters.get(name) if signature else None
    if parameter is not None and parameter.default is not UNKNOWN:
        found.append(Origin(_shown(parameter.default), parameter.place))
    return found


def _changes(key: str, typed: Iterable[tuple[str, Any, str]]) -> list[Origin]:
    """Return what of the line changes a key or something in it."""
    return [
        Origin(_shown(value), f"the override {text}")
        for changed, value, text in typed
        if f"{changed}.".startswith(f"{key}.") or f"{key}.".startswith(f"{changed}.")
    ]


def _typed(overrides: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and text of each override; one key may come twice."""
    for text in overrides:
        for key, value in typed_values([text], resolve=False).items():
            yield key, value, text


def _below(key: str, package: str) -> list[str] | None:
    """Return the path of a key in a file whose content is put at `package`; None where it cannot be there."""
    parts, at = key.split("."), package.split(".") if package else []
    if parts[: len(at)] == at:
        return parts[len(at) :]
    return [] if at[: len(parts)] == parts else None


def _node(root: yaml.Node | None, path: Sequence[str]) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the node of a key and that of its value; for no path those of the whole file."""
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
    """Return a value as it stands in the file; for a mapping how many keys it has."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if isinstance(node, yaml.SequenceNode):
        return f"[{', '.join(map(_text, node.value))}]"
    return f"{len(node.value)} {'key' if len(node.value) == 1 else 'keys'}"


# -- options of a group --------------------------------------------------------------------------


def _choices(group: str, layers: Sequence[Layer], typed: Iterable[tuple[str, Any, str]]) -> list[Origin]:
    """Return what chooses the option of a group, the last one winning."""
    found = [
        layer.origin(value, key)
        for layer in layers
        for key, value in _entries(layer.root)
        if _group(key.value, layer.name) == group
    ]
    return found + [
        Origin(str(option), f"the override {text}") for key, option, text in typed if key == group
    ]


def _entries(root: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Yield what the defaults list of a file says of groups."""
    pair = _node(root, ["defaults"])
    for entry in pair[1].value if pair else ():
        if isinstance(entry, yaml.MappingNode):
            yield from entry.value


def _group(text: str, name: str) -> str:
    """Return the group of an entry of the defaults list of a file, such as `override /optimizer`."""
    group = text.removeprefix("override ").strip().partition("@")[0]
    if group.startswith("/"):
        return group.removeprefix("/")
    folder = "" if name.startswith("experiment/") else name.rpartition("/")[0]
    return f"{folder}/{group}" if folder else group
