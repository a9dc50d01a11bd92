"""Where Hydra stops: from overrides to a composed config, and from that to a `RunSpec`."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError

from cnnbench import runs
from cnnbench.config.components import is_tracker, refuse_missing
from cnnbench.config.groups import CONF_DIR, options, refuse_paths
from cnnbench.config.overrides import combinations
from cnnbench.config.plugins import find_plugins, refuse_interpolations, remember
from cnnbench.errors import CnnbenchError, nearest, shown
from cnnbench.renamed import (
    TODAYS_VALUES,
    stored_config,
    with_current_targets,
    with_values_for_new_keywords,
)

if TYPE_CHECKING:
    from cnnbench.config.checks import RunConfig

log = logging.getLogger("cnnbench")

# The last three are what Hydra says to `model=null`, `model=[null]` and `+=4`.
HYDRA_ERRORS = (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError)


def compose(overrides: Sequence[str] = (), config_dir: str | None = None) -> DictConfig:
    """Compose a config as the command line would, with Hydra's own node in it.

    Raises:
        CnnbenchError: an override that does not fit.
    """
    with friendly(overrides, config_dir), session(config_dir) as (_, search):
        return hydra_compose("config", [*search, *overrides], return_hydra_config=True)


def config_layers(overrides: Sequence[str], config_dir: str | None = None) -> list[tuple[str, str]]:
    """The files that a config is merged from, the last one winning: the key each is put at, and its name."""
    with friendly(overrides, config_dir), session(config_dir) as (loader, search):
        defaults = loader.compute_defaults_list("config", [*search, *overrides], RunMode.RUN).defaults
    return [(d.package or "", d.config_path) for d in defaults if not d.config_path.startswith("hydra/")]


def refuse_hydra_settings(overrides: Sequence[str], config_dir: str) -> None:
    """Let a folder of options choose models and values, but not what Hydra runs and writes before any check.

    Raises:
        CnnbenchError: `config_dir` is no folder; or a file in it sets something of Hydra's, or names plugins
            that were not typed.
    """
    if not Path(config_dir).is_dir():
        raise CnnbenchError(f"--config-dir {config_dir} is no folder", f"looked from {Path.cwd()}")
    typed = [text for text in overrides if text.lstrip("+~").startswith("hydra")]
    allowed = _hydra_settings(compose(typed))
    known = options(config_dir)  # a value chooses no file
    deciding = {
        key: texts
        for key, texts in axes(overrides, config_dir).items()
        if key in known or key.startswith("hydra")
    }
    for job in combinations(deciding):
        composed = compose(job, config_dir)
        if _hydra_settings(composed) != allowed:
            raise CnnbenchError(
                f"a file in {config_dir} sets something below hydra",
                "type such settings: hydra.key=value",
            )
        if composed.plugins and not any(text.lstrip("+").startswith("plugins=") for text in overrides):
            raise CnnbenchError(
                f"a file in {config_dir} names plugins: {list(composed.plugins)}",
                "if you trust that code, type plugins=[…] yourself",
            )


def _hydra_settings(cfg: DictConfig) -> dict[str, Any]:
    """Hydra's node without what every composition has of its own."""
    settings: dict[str, Any] = OmegaConf.to_container(cfg.hydra, resolve=False)  # type: ignore[assignment]
    for key in ("runtime", "overrides", "searchpath"):
        settings.pop(key, None)
    for key in ("override_dirname", "config_name", "id", "num"):
        settings["job"].pop(key, None)
    return settings


def select_keys(composed: DictConfig, keys: Iterable[str]) -> dict[str, Any]:
    """Of groups their options, of other keys their values.

    Raises:
        CnnbenchError: there is no such key.
    """
    choices = composed.hydra.runtime.choices
    missing = object()
    found = {}
    for key in keys:
        found[key] = choices[key] if key in choices else OmegaConf.select(composed, key, default=missing)
        if found[key] is missing:
            raise CnnbenchError(f"there is no key {key}", nearest(key, [*choices, *map(str, composed)]))
    return found


def run_spec(cfg: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str] = ()) -> runs.RunSpec:
    """Check a composed config and turn it into plain values and factories.

    Args:
        cfg: the composed config.
        choices: which option each group has (`hydra.runtime.choices`).
        overrides: what the user typed.

    Raises:
        CnnbenchError: anything in it is wrong.
    """
    config = named_config(cfg, choices)
    wanted = config["run_dir"]
    run_dir = Path(wanted) if wanted is not None else runs.new_folder(Path("outputs"), config["name"])
    return spec_from(config, run_dir, overrides)


def named_config(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The config as a run writes it down: plain, checked, with a name and the places of the plugins.

    Raises:
        CnnbenchError: anything in it is wrong.
    """
    config = plain_config(cfg)
    if config.get("name") is None:
        parts = (re.sub(r"[^\w.-]", "-", str(choices.get(group))) for group in ("model", "dataset"))
        config["name"] = "_".join(parts)
    config["plugins"] = find_plugins(config.get("plugins", []))
    check_config(config)
    refuse_missing(config["callbacks"])
    remember(config)
    return config


def as_values(node: DictConfig) -> dict[str, Any]:
    with friendly():
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[return-value]


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config without Hydra's node and the sweep's, as Python values.

    A `_target_` by its name of an earlier version is replaced, with one line of warning.
    """
    config = as_values(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in ("hydra", "sweep")]))
    renamed: dict[str, Any] = with_current_targets(
        config, lambda old, new: log.warning("_target_: %s is called %s now; both work", old, new)
    )
    return with_values_for_new_keywords(renamed, TODAYS_VALUES)


def check_config(config: Mapping[str, Any]) -> RunConfig:
    """Everything that can be checked without data and TensorFlow; see `checks.check_everything`."""
    from cnnbench.config.checks import check_everything  # pydantic and numpy: `--cfg job` needs neither

    find_plugins(config.get("plugins", []))
    return check_everything(config)


def spec_from(config: Mapping[str, Any], run_dir: Path, overrides: Sequence[str] = ()) -> runs.RunSpec:
    """The `RunSpec` of a plain config, e.g. of one that a run has left in its folder."""
    if config.get("made_in") == "python":
        raise CnnbenchError(
            f"{run_dir} was made in Python, so its data set and model are not written down",
            "load best.keras with keras.models.load_model",
        )
    refuse_interpolations(config, run_dir)
    config = stored_config(config)
    checked = check_config(config)
    optimizer = {key: value for key, value in config["optimizer"].items() if key != "learning_rate"}
    callbacks = {key: node for key, node in config["callbacks"].items() if node is not None}
    rate = config["optimizer"]["learning_rate"]
    return runs.RunSpec(
        name=str(config.get("name") or run_dir.name),
        run_dir=run_dir,
        dataset=_factory(config["dataset"], without=("task",)),
        model=_factory(config["model"]),
        optimizer=_factory(optimizer),
        learning_rate=_schedule(rate) if isinstance(rate, dict) else float(rate),
        loss=_factory(config["loss"], without=("tasks",)) if "_target_" in config["loss"] else None,
        loss_tasks=tuple(config["loss"].get("tasks", ())),
        augmentation=_factory(config["augmentation"]) if "_target_" in config["augmentation"] else None,
        callbacks={key: _factory(node) for key, node in callbacks.items() if not is_tracker(node)},
        trackers={key: _factory(node) for key, node in callbacks.items() if is_tracker(node)},
        training=checked.training,
        seed=checked.seed,
        deterministic=checked.deterministic,
        device=checked.device,
        plugins=tuple(checked.plugins),
        objective=checked.objective,
        config=config,
        overrides=tuple(overrides),
    )


def _factory(node: Mapping[str, Any], without: Sequence[str] = ()) -> Any:
    """A callable that makes what the node describes; the target is imported when it is called.

    `_convert_="all"`: a ListConfig inside a Keras layer cannot be saved. What the data decide is passed
    when the factory is called, since `instantiate` would convert it.
    """
    kept = {key: value for key, value in node.items() if key not in without}

    def make(**given_by_run: Any) -> Any:
        try:
            factory = instantiate(kept, _partial_=True, _convert_="all")
        except InstantiationException as error:  # Hydra wraps what a nested object says in pages of its own
            raise error.__cause__ if error.__cause__ is not None else error from None
        return factory(**given_by_run)

    return make


def _schedule(node: Mapping[str, Any]) -> Any:
    from cnnbench.config.components import signature

    wanted, make = signature(node["_target_"]).parameters, _factory(node)

    def schedule(steps_per_epoch: int, epochs: int) -> Any:
        given = {"steps_per_epoch": steps_per_epoch, "epochs": epochs}
        return make(**{name: value for name, value in given.items() if name in wanted})

    return schedule


# -- Hydra's override grammar, and what its errors mean --------------------------------------------


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
