"""Hydra's override grammar, and what its errors mean in one line. With `config` all that knows Hydra."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError

from cnnbench.errors import CnnbenchError, nearest, shown
from cnnbench.options import CONF_DIR, options, refuse_paths

# The last three are what Hydra says to `model=null`, `model=[null]` and `+=4`.
HYDRA_ERRORS = (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError)


@contextmanager
def session(config_dir: str | None = None) -> Iterator[tuple[Any, list[str]]]:
    """Hydra's loader, and the override by which it finds the user's own options."""
    GlobalHydra.instance().clear()
    forget_other_launchers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
        yield GlobalHydra.instance().config_loader(), search


def forget_other_launchers() -> None:
    """Take published launchers of the same names out of Hydra's store, where they are installed.

    Hydra would hold our `hydra/launcher/joblib.yaml` against their schema and refuse it.
    """
    Plugins.instance()  # they are found, and store their schemas, with its first use
    launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for path in (CONF_DIR / "hydra" / "launcher").glob("*.yaml"):
        launchers.pop(path.name, None)


def axes(overrides: Sequence[str], config_dir: str | None = None) -> dict[str, list[str]]:
    """The values of each key in a line, as overrides, in their order; of an interval its lower end.

    Raises:
        CnnbenchError: an override that cannot be read.
    """
    with friendly(overrides, config_dir):
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        return {one.key_or_group: _values(one) for one in parsed}


def _values(override: Override) -> list[str]:
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [f"{override.key_or_group}={value.start}"]
    return [job[0] for job in BasicSweeper.split_arguments([override], max_batch_size=None)[0]]


def intervals(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Each `key=interval(low, high)`, in a `tag(log, …)` or not, as a search takes it."""
    with friendly(overrides):
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    found = []
    for one in parsed:
        value = one.value()
        if isinstance(value, IntervalSweep):
            bounds = {"low": value.start, "high": value.end}
            found.append({"key": one.key_or_group, **bounds, "log": "log" in value.tags})
    return found


def typed_values(overrides: Sequence[str]) -> dict[str, Any]:
    """What `key=value …` says, by key; one that cannot be read raises a CnnbenchError."""
    with friendly(overrides):
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        values = OmegaConf.create([override.value() for override in parsed])
        resolved: Any = OmegaConf.to_container(values, resolve=True)
    return {override.key_or_group: value for override, value in zip(parsed, resolved, strict=True)}


@contextmanager
def friendly(overrides: Sequence[str] = (), config_dir: str | None = None) -> Iterator[None]:
    """Turn what Hydra and OmegaConf say into one line that names the override and what was meant."""
    refuse_paths(overrides, config_dir)
    try:
        yield
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise CnnbenchError(
            f"{mark.name}, line {mark.line + 1}: {error.problem}" if mark else str(error)
        ) from error
    except MissingMandatoryValue as error:
        key = error.full_key or str(error)
        raise CnnbenchError(f"{key} is missing", f"add {key}=…") from error
    except InterpolationResolutionError as error:
        reason = str(error).splitlines()[0].partition("resolving interpolation: ")
        raise CnnbenchError(
            f"{error.full_key}: ${{…}} cannot be resolved: {reason[2] or reason[0]}",
            "${key} is another value of this config, ${oc.env:NAME} a variable of the environment",
        ) from error
    except HYDRA_ERRORS as error:
        parsed = [_parsed(text) for text in overrides if not text.startswith("hydra")]
        for override in parsed:
            _diagnose(override, parsed, config_dir)
        # Not one of the usual slips: their own first line, never the advice to add a +.
        lines = [line for line in str(error).strip().splitlines() if "config use +" not in line]
        raise CnnbenchError(shown(" ".join(lines[:2])) if lines else type(error).__name__) from error


def _parsed(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
    except HYDRA_ERRORS as error:
        raise CnnbenchError(
            f"cannot read {shown(text)!r}",
            "write key=value; quote what the shell or Hydra reads: 'key=\"a b\"'",
        ) from error
    if not override.key_or_group:
        raise CnnbenchError(f"cannot read {shown(text)!r}: there is no key", "write key=value")
    return override


def _diagnose(override: Override, overrides: Sequence[Override], config_dir: str | None) -> None:
    """Raise if this override alone explains why the composition failed."""
    key, text = override.key_or_group, str(override.input_line)
    groups = options(config_dir)
    if key in groups:
        _diagnose_group(key, override, groups[key])
    if override.is_sweep_override():
        raise CnnbenchError(f"{shown(text)} has several values", "add -m to run one after another")
    if override.is_delete() or key in groups:
        return
    config = _config_of_groups(overrides, groups)
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if override.is_add():
        if isinstance(node, DictConfig) and name in node:
            raise CnnbenchError(
                f"{shown(text)}: {key} exists already", f"change it: {shown(text.lstrip('+'))}"
            )
        return
    if not isinstance(node, DictConfig):
        top = [str(k) for k in config if k != "hydra"]
        raise CnnbenchError(f"there is no key {key}", nearest(key.partition(".")[0], top))
    if name not in node:
        known = {str(k) for k in node if k not in ("hydra", "_target_")}
        known |= set() if parent else set(groups)
        raise CnnbenchError(f"there is no key {key}", nearest(name, known))


def _diagnose_group(group: str, override: Override, known: Iterable[str]) -> None:
    value = override.value()
    for option in value if isinstance(value, list) else [value]:
        if (isinstance(option, str) and option not in known) or option is None:
            raise CnnbenchError(f"{group} has no option {option!r}", nearest(str(option), known))
    if override.is_add():
        instead = str(override.input_line).lstrip("+")
        raise CnnbenchError(f"{group} has an option already", f"replace it: {instead}")


def _config_of_groups(overrides: Sequence[Override], groups: Iterable[str]) -> DictConfig:
    """The config with the chosen options but without any changed value."""
    chosen = [str(o.input_line) for o in overrides if o.key_or_group in groups and not o.is_sweep_override()]
    with session():
        try:
            return hydra_compose("config", chosen)
        except HYDRA_ERRORS:  # an option from the user's own folder: the default's keys are the best guess
            return hydra_compose("config")
