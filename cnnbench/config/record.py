"""The record of a spec: the config that makes it again, with everything in it that was changed in Python."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from cnnbench.config.components import with_keywords
from cnnbench.config.composition import Factory, Schedule, check_config, spec_from
from cnnbench.config.plugins import find_plugins
from cnnbench.errors import CnnbenchError
from cnnbench.runs import RunSpec, with_absolute_places
from cnnbench.system import plain

PLAIN = ("name", "seed", "deterministic", "device", "objective")
FACTORIES = ("dataset", "model", "optimizer", "loss", "augmentation")


def written_config(spec: RunSpec) -> dict[str, Any]:
    """Return the config of a spec, as a run writes it down.

    A spec that was composed has one; each field that differs from what it says is written into it. Of a spec
    that was filled by hand everything is. A part is written as the function or class that it is, with its
    keywords; the module of one of your own becomes a plugin.

    Raises:
        CnnbenchError: a part cannot be written down, such as a lambda, or what is written would be refused.
    """
    config = dict(spec.config)
    before = spec_from(config, spec.run_dir) if config else None
    changed = [
        field.name
        for field in fields(spec)
        if before is None or getattr(spec, field.name) != getattr(before, field.name)
    ]
    plugins = list(spec.plugins)
    for name in changed:
        value = getattr(spec, name)
        if name in PLAIN:
            config[name] = value
        elif name == "training":
            config[name] = plain(value.model_dump())
        elif name in FACTORIES:
            config[name] = _node(name, value, plugins)
    if {"optimizer", "learning_rate"} & {*changed}:
        rate = spec.learning_rate
        node = rate if isinstance(rate, int | float) else _node("learning_rate", rate, plugins)
        config["optimizer"] = {**_node("optimizer", spec.optimizer, plugins), "learning_rate": node}
    if {"loss", "loss_tasks"} & {*changed} and spec.loss_tasks:
        config["loss"] = {**config["loss"], "tasks": [*spec.loss_tasks]}
    if {"callbacks", "trackers"} & {*changed}:
        both = {**spec.callbacks, **spec.trackers}
        config["callbacks"] = {key: _node(f"callbacks.{key}", one, plugins) for key, one in both.items()}
    if "plugins" in changed or plugins != [*spec.plugins] or not spec.config:
        config["plugins"] = find_plugins(plugins)
    if not changed:
        return config
    # All keywords are written down: one that is missing would be read as of an earlier version.
    config = with_absolute_places(with_keywords(config))
    check_config(config)
    return config


def _node(name: str, factory: Any, plugins: list[str]) -> dict[str, Any]:
    """Write one part of a spec as `_target_` and keywords; its module is added to the plugins."""
    if factory is None:
        return {}
    if isinstance(factory, Factory | Schedule):
        return dict(factory.node)
    made, keywords = (factory.func, factory.keywords) if isinstance(factory, partial) else (factory, {})
    module, qualified = getattr(made, "__module__", "__main__"), getattr(made, "__qualname__", "<")
    if module == "__main__" or "<" in qualified or (isinstance(factory, partial) and factory.args):
        raise CnnbenchError(
            f"{name}: {made!r} cannot be written down, so that nobody could repeat the run",
            "give a function or class from a module, its keywords by functools.partial",
        )
    if module.partition(".")[0] not in ("cnnbench", "keras"):
        own = module if "." in module else str(Path(str(sys.modules[module].__file__)).resolve())
        if not {own, module} & {*plugins}:
            plugins.append(own)
    for key, value in keywords.items():
        if not _is_plain(value):
            raise CnnbenchError(
                f"{name}.{key}={value!r} cannot be written down", "give numbers, texts, lists and mappings"
            )
    # Keras's own name for what it exports, which outlives its modules.
    exported = getattr(made, "_api_export_path", None) or f"{module}.{qualified}"
    target = exported if isinstance(exported, str) else exported[0]
    return {"_target_": target, **plain(keywords)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
