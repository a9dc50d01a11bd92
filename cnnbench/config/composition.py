"""Composition: from overrides to a config by Hydra, and from that to a `RunSpec` that knows no Hydra."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError

from cnnbench import data, runs
from cnnbench.config import auto
from cnnbench.config.components import (
    GIVEN_BY_RUN,
    is_tracker,
    keywords_left_out,
    known_signature,
    objects_in,
    refuse_missing,
)
from cnnbench.config.groups import CONF_DIR, options, own_options, readable_by_hydra, refuse_paths
from cnnbench.config.overrides import TEXT, as_text, numbers_as_numbers, quoted, with_home
from cnnbench.config.plugins import find_plugins, refuse_interpolations, remember
from cnnbench.config.signatures import signature
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


# Keys of a line that are no part of a run's config.
OF_THE_LINE = ("hydra", "sweep", "run_dir_exists")
# Of Hydra's own settings a line may choose the launcher; the others have a key or a flag here.
LAUNCHER = ("hydra/launcher", "hydra.launcher")
INSTEAD = {
    "hydra.run": "run_dir=FOLDER chooses the folder of a run",
    "hydra.output_subdir": "run_dir=FOLDER chooses the folder of a run",
    "hydra.job.chdir": "run_dir=FOLDER chooses the folder of a run; the working folder stays",
    "hydra.job.name": "name=NAME names a run",
    "hydra.job.env": "set variables of the environment before the command: NAME=VALUE cnnbench …",
    "hydra.sweep": "run_dir=… chooses the folder, hydra/launcher=… the launcher, sweep=… the values",
    "hydra.callbacks": "callbacks=[default,…] adds callbacks to the training: cnnbench list callbacks",
    "hydra.job_logging": "the log is cnnbench.log in the folder of the run",
    "hydra.hydra_logging": "the log is cnnbench.log in the folder of the run",
    "hydra.verbose": "the log is cnnbench.log in the folder of the run",
    "hydra.searchpath": "--config-dir FOLDER adds a folder of options",
    "hydra.mode": "-m runs a sweep",
    "hydra.help": "cnnbench --help",
}


NO_VALUES: Mapping[str, Any] = MappingProxyType({})

_merged: dict[tuple[Path | None, Sequence[str]], DictConfig] | None = None  # while files are unchanged


def compose(
    overrides: Sequence[str] = (),
    config_dir: str | None = None,
    auto_values: Mapping[str, Any] = NO_VALUES,
) -> DictConfig:
    """Compose a config, with Hydra's own node in it.

    Keywords of a `_target_` that no file names come from its signature, before values are changed.
    A folder of options from elsewhere may choose models and values, but neither plugins nor anything of
    Hydra's: those are what the line says, whatever the files say.

    Args:
        overrides: as typed, or those of one job of a sweep.
        config_dir: the folder of options; None for a folder `conf` in the working folder, where there is one.
        auto_values: by dotted key, what `auto` stands for where the model does not say it.

    Raises:
        CnnbenchError: an override does not fit; or a file of `config_dir` sets what only the line may set.
    """
    folder = own_options(config_dir)
    with friendly(overrides, config_dir):
        parsed = _parse(overrides)
        for one in parsed:
            _refuse_hydra_setting(one)
        composed = _composed(parsed, folder, auto_values)
        HydraConfig.instance().set_config(composed)  # for ${hydra:…}
        OmegaConf.set_readonly(composed.hydra, None)
        if folder is not None:
            typed = tuple(str(one.input_line) for one in parsed if _is_for_the_line_alone(one))
            _refuse_settings_of_files(composed, _settings_of_line(typed), folder)
            if config_dir is None:
                _tell_of_use(composed.hydra.runtime.choices, folder)
    return composed


def _composed(
    parsed: Sequence[Override], folder: Path | None, auto_values: Mapping[str, Any] = NO_VALUES
) -> DictConfig:
    """Let Hydra choose the options, fill in the keywords that they leave out, and change values."""
    chosen = [one for one in parsed if _chooses_option(one, folder)]
    values = [one for one in parsed if not _chooses_option(one, folder)]
    composed = _of_options(tuple(_lines(chosen)), folder)
    choice, option = _choice_of_model(composed, values), composed.hydra.runtime.choices.get("model")
    if choice is not None and choice.backbone is None:
        composed = _of_options(tuple(_lines(_with_fallback(chosen))), folder)
    keywords = _Keywords(composed)
    for one in sorted(values, key=lambda one: one.key_or_group != "plugins"):  # signatures are read from them
        _change(composed, one, keywords)
    if option == auto.AUTO:
        with open_dict(composed.hydra.runtime.choices):
            composed.hydra.runtime.choices[auto.OPTION] = option
    _settle(composed, choice, keywords, auto_values)
    task = [str(one.input_line) for one in parsed if not one.is_hydra_override()]
    composed.hydra.overrides.task = task
    composed.hydra.overrides.hydra.extend(_lines(one for one in values if one.is_hydra_override()))
    composed.hydra.job.override_dirname = ",".join(sorted(task))
    return composed


def _choice_of_model(composed: DictConfig, values: Iterable[Override]) -> auto.Choice | None:
    """Choose a backbone where `model=auto` is the option, and neither a file nor the line names one."""
    typed = {one.key_or_group: one.value() for one in values}
    is_open = OmegaConf.select(composed, "model.backbone") == auto.AUTO
    if not _is_auto(composed) or not is_open:
        return None
    if typed.get("model.backbone", auto.AUTO) != auto.AUTO:
        return None
    return auto.choose(str(typed.get("device", composed.device)))


def _with_fallback(chosen: Sequence[Override]) -> list[Override]:
    return [*(one for one in chosen if one.key_or_group != "model"), _parse_one(f"model={auto.FALLBACK}")]


def _is_auto(composed: DictConfig) -> bool:
    return bool(composed.hydra.runtime.choices.get("model") == auto.AUTO)


def _settle(
    composed: DictConfig, choice: auto.Choice | None, keywords: _Keywords, auto_values: Mapping[str, Any]
) -> None:
    """Put what was chosen in the place of each `auto`, and name the backbone as the option of the model."""
    choices = composed.hydra.runtime.choices
    is_auto = _is_auto(composed)
    if OmegaConf.select(composed, "model.backbone") == auto.AUTO:
        choice = choice or auto.choose(str(composed.device))
        if choice.backbone is None:
            raise CnnbenchError("model.backbone=auto: no pretrained backbone is here", auto.how_to_get())
        composed.model.backbone = choice.backbone
    config = unresolved(composed)
    for key, value in auto.values(config, is_auto, keywords.targets, auto_values).items():
        OmegaConf.update(composed, key, value)
    with open_dict(choices):
        if is_auto:
            choices.model = auto.name_of(str(config["model"].get("backbone")))
        if choice is not None:
            choices[auto.WHY] = choice.why


def _of_options(chosen: Sequence[str], folder: Path | None) -> DictConfig:
    """Let Hydra merge the files of the options that are chosen."""
    known = _merged.get((folder, chosen)) if _merged is not None else None
    if known is None:
        with _session(folder) as (_, search):
            known = hydra_compose("config", [*search, *chosen], return_hydra_config=True)
        if _merged is None:
            return known
        _merged[folder, chosen] = known
    return deepcopy(known)


@contextmanager
def files_unchanged() -> Iterator[None]:
    """Merge files once for each choice of options, as long as this lasts: for many runs at once."""
    global _merged
    _merged = {}
    try:
        yield
    finally:
        _merged = None


def _chooses_option(override: Override, folder: Path | None) -> bool:
    key = override.key_or_group
    if "/" in key or override.package is not None:
        return True
    is_group = any((place / key).is_dir() for place in (CONF_DIR, folder) if place is not None)
    return is_group and not isinstance(override.value(), dict)


class _Keywords:
    """The keywords that the objects of a config have from their signatures.

    Attributes:
        targets: by the dotted key of each such keyword, the `_target_` whose signature has it.
    """

    def __init__(self, composed: DictConfig) -> None:
        self.composed = composed
        self.targets: dict[str, str] = {}
        self.fill_in()

    def fill_in(self) -> None:
        """Add what objects leave out, and remove what was added for another `_target_`."""
        with open_dict(self.composed):
            for key, node in objects_in(unresolved(self.composed)):
                target, place = str(node["_target_"]), OmegaConf.select(self.composed, key)
                stale = [name for name in node if self.targets.get(f"{key}.{name}", target) != target]
                for name in stale:
                    del place[name]
                kept = {name: value for name, value in node.items() if name not in stale}
                for name, value in keywords_left_out(key, kept).items():
                    place[name] = value
                    self.targets[f"{key}.{name}"] = target

    def known(self, key: str, node: DictConfig) -> set[str]:
        """Return the keywords that the object at a key takes, those of its base classes too."""
        target = node.get("_target_") if "_target_" in node else None
        found = known_signature({"_target_": target}) if target else None
        return set(found.parameters) - set(GIVEN_BY_RUN.get(key, ())) if found else set()


def _change(composed: DictConfig, override: Override, keywords: _Keywords) -> None:
    """Change a value as Hydra does, and without a + where it is a keyword that no file names.

    Raises:
        CnnbenchError: there is no such key, or it is there already.
    """
    key, value, text = override.key_or_group, override.value(), str(override.input_line)
    _refuse_several(override)
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(composed, parent) if parent else composed
    # `in` says False of a key whose value is still to be given (???).
    there = {str(one) for one in node} if isinstance(node, DictConfig) else set()
    known = keywords.known(parent, node) if isinstance(node, DictConfig) and parent else set()
    if override.is_add():
        is_free = key in keywords.targets or isinstance(value, dict | list)
        if not is_free and name in there and OmegaConf.select(composed, key) is not None:
            raise CnnbenchError(
                f"{shown(text)}: {key} exists already", f"change it: {shown(text.lstrip('+'))}"
            )
    elif not override.is_force_add() and not isinstance(node, Container):
        first, *inner = key.split(".")
        top = [str(one) for one in composed if one != "hydra"]
        is_null = first in top and len(inner) > 1  # model.embedding.units, without an embedding
        raise CnnbenchError(f"there is no key {key}", f"{parent} is null" if is_null else nearest(first, top))
    elif not override.is_force_add() and isinstance(node, DictConfig) and name not in there | known:
        groups = [] if parent else [one for one in options() if "/" not in one]
        hint = nearest(name, {*there, *known, *groups} - {"hydra", "_target_"})
        if parent == "model" and name in auto.keys_of_fallback() and _is_auto(composed):
            hint = f"it is a key of model={auto.FALLBACK}, and model=auto is a pretrained backbone here"
        if not parent and not hint.startswith("did you mean"):
            leaves = {one.rpartition(".")[2]: one for one in runs.flatten(unresolved(composed))}
            close = get_close_matches(name, leaves, n=1, cutoff=0.7)
            hint = f"did you mean {leaves[close[0]]}? {hint}" if close else hint
        raise CnnbenchError(f"there is no key {key}", hint)
    _set_value(composed, override, name in known)
    keywords.targets.pop(key, None)
    if key == "plugins":
        find_plugins(with_home(unresolved(composed).get("plugins") or []))
    if key == "plugins" or "_target_" in text:
        keywords.fill_in()


def _set_value(composed: DictConfig, override: Override, is_keyword: bool) -> None:
    key, value = override.key_or_group, override.value()
    if key == auto.TUNING and isinstance(value, dict):
        value = _for_any_number(composed, value)
    if not override.is_delete():
        may_be_new = override.is_add() or override.is_force_add() or is_keyword
        OmegaConf.update(composed, key, value, merge=True, force_add=may_be_new)
        return
    parent, _, name = key.rpartition(".")
    node: Any = OmegaConf.select(composed, parent) if parent else composed
    if name not in node:
        raise CnnbenchError(f"there is no key {key}", f"{shown(override.input_line)} would remove it")
    if value is not None and value != node[name]:
        raise CnnbenchError(f"{key} is {shown(node[name])}, not {shown(value)}", f"to remove it: ~{key}")
    with open_dict(composed):
        del node[name]


def _for_any_number(composed: DictConfig, typed: dict[str, Any]) -> dict[str, Any]:
    """Return what was typed for the fine-tuning, which takes place however few the examples are.

    An option's own waits for many of them, and so would this, which is merged with it.
    """
    asked = OmegaConf.select(composed, f"{auto.TUNING}.from_examples") or 1
    if "from_examples" in typed or asked == 1:
        return typed
    with open_dict(composed.hydra.runtime.choices):
        composed.hydra.runtime.choices[auto.TUNING] = (
            f"fine-tuning: as typed, for any number of examples; from_examples: {asked} waits for so many"
        )
    return {**typed, "from_examples": 1}


def _refuse_several(override: Override) -> None:
    if override.is_sweep_override():
        is_text = TEXT.fullmatch(override.key_or_group) is not None
        comma = f"; a comma in a name is quoted: \"{override.key_or_group}='…,…'\"" if is_text else ""
        raise CnnbenchError(
            f"{shown(override.input_line)} has several values", f"add -m to run one after another{comma}"
        )


def config_layers(overrides: Sequence[str], config_dir: str | None = None) -> list[tuple[str, str]]:
    """Return key and name of each file that a config is merged from, the last one winning."""
    folder = own_options(config_dir)
    choices = compose(overrides, config_dir).hydra.runtime.choices
    with friendly(overrides, config_dir), _session(folder) as (loader, search):
        chosen = [one for one in _parse(overrides) if _chooses_option(one, folder)]
        if auto.WHY in choices and choices.model == auto.FALLBACK:
            chosen = _with_fallback(chosen)
        defaults = loader.compute_defaults_list("config", [*search, *_lines(chosen)], RunMode.RUN).defaults
    return [(d.package or "", d.config_path) for d in defaults if not d.config_path.startswith("hydra/")]


def _tell_of_use(choices: Mapping[str, Any], folder: Path) -> None:
    """Say which options come from a folder `conf` that was found, not named."""
    for group, chosen in choices.items():
        for option in chosen if isinstance(chosen, Sequence) and not isinstance(chosen, str) else [chosen]:
            file = f"{group.partition('@')[0]}/{option}.yaml"
            if (folder / file).is_file() and not (CONF_DIR / file).is_file():
                _say_once(f"{group}={option} is {folder.resolve() / file}")


@cache
def _say_once(text: str) -> None:
    log.warning(text)


def _refuse_hydra_setting(override: Override) -> None:
    key = override.key_or_group.replace("/", ".")
    if key.partition(".")[0] != "hydra" or key == LAUNCHER[1] or key.startswith(f"{LAUNCHER[1]}."):
        return
    hint = next((hint for setting, hint in INSTEAD.items() if key.startswith(setting)), None)
    raise CnnbenchError(
        f"{override.key_or_group} has no effect here: runs are listed and stored by cnnbench, not by Hydra",
        hint or "of Hydra's settings only hydra/launcher=… and hydra.launcher.key=… can be set",
    )


def _is_for_the_line_alone(override: Override) -> bool:
    return re.split("[./]", override.key_or_group)[0] in ("hydra", "plugins")


@cache
def _settings_of_line(typed: tuple[str, ...]) -> dict[str, Any]:
    return _guarded_settings(_composed(_parse(typed), None))


def _guarded_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that only the line may change, without those that differ between compositions."""
    settings: dict[str, Any] = OmegaConf.to_container(cfg.hydra, resolve=False)  # type: ignore[assignment]
    for key in ("runtime", "overrides", "searchpath"):
        settings.pop(key, None)
    for key in ("override_dirname", "config_name", "id", "num"):
        settings["job"].pop(key, None)
    plugins = OmegaConf.select(cfg, "plugins")
    if isinstance(plugins, Container):
        plugins = OmegaConf.to_container(plugins, resolve=True)
    return {"hydra": settings, "plugins": plugins}


def _refuse_settings_of_files(composed: DictConfig, allowed: Mapping[str, Any], folder: Path) -> None:
    found = _guarded_settings(composed)
    if found["hydra"] != allowed["hydra"]:
        raise CnnbenchError(
            f"a file in {folder} sets something below hydra",
            "type such settings yourself: hydra/launcher=…, hydra.launcher.key=…",
        )
    if found["plugins"] != allowed["plugins"]:
        raise CnnbenchError(
            f"a file in {folder} names plugins: {shown(found['plugins'])}",
            "if you trust that code, type plugins=[…] yourself",
        )


def as_yaml(composed: DictConfig, kind: str, package: str | None = None, resolve: bool = False) -> str:
    """Return a composed config as `--cfg` shows it.

    Args:
        composed: with Hydra's node.
        kind: `job`, `hydra` or `all`.
        package: only this part of it.
        resolve: whether `${…}` is replaced by what it stands for.

    Raises:
        CnnbenchError: there is no such part, or an interpolation leads nowhere.
    """
    job = [str(key) for key in composed if key != "hydra"]
    keys = {"job": job, "hydra": ["hydra"], "all": [*job, "hydra"]}[kind]
    part: Any = OmegaConf.masked_copy(composed, keys)
    heading = ""
    with friendly():
        if package is not None and package != "_global_":
            part = OmegaConf.select(part, package)
            if part is None:
                raise CnnbenchError(f"there is no {package} in this config", nearest(package, keys))
            heading = f"# @package {package}\n"
        if not isinstance(part, Container):
            return f"{part}\n"
        if resolve:
            OmegaConf.resolve(part)
        return heading + OmegaConf.to_yaml(part)


def select_keys(composed: DictConfig, keys: Iterable[str]) -> dict[str, list[Any]]:
    """Return the options of groups and the values of other keys.

    A model that `model=auto` has chosen goes by both names.

    Raises:
        CnnbenchError: there is no such key.
    """
    choices = composed.hydra.runtime.choices
    missing = object()
    found = {}
    for key in keys:
        value = choices[key] if key in choices else OmegaConf.select(composed, key, default=missing)
        if value is missing:
            raise CnnbenchError(f"there is no key {key}", nearest(key, [*choices, *map(str, composed)]))
        found[key] = [value, *([choices[auto.OPTION]] if key == "model" and auto.OPTION in choices else [])]
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
    spec = spec_from(config, None if wanted is None else from_here(wanted), overrides)
    return replace(spec, notes=tuple(auto.notes(choices)))


def from_here(path: str | Path) -> Path:
    """Return a path relative to the working folder where it lies below, else as it is."""
    here = Path.cwd()
    return Path(path).relative_to(here) if Path(path).is_relative_to(here) else Path(path)


def named_config(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config as a run writes it down: plain, checked, with a name and absolute places.

    Raises:
        CnnbenchError: anything in it is wrong.
    """
    config = plain_config(cfg)
    if config.get("name") is None:
        config["name"] = _name(choices)
    config["plugins"] = find_plugins(config.get("plugins", []))
    check_config(config)
    config = runs.with_absolute_places(config)
    refuse_missing(config["callbacks"])
    remember(config)
    return config


def _name(choices: Mapping[str, Any]) -> str:
    return "_".join(re.sub(r"[^\w.-]", "-", str(choices.get(group))) for group in ("model", "dataset"))


def unresolved(composed: DictConfig) -> dict[str, Any]:
    """Return a composed config as Python values, `${…}` and `???` as they stand, without Hydra's node."""
    kept = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    return OmegaConf.to_container(kept, resolve=False)  # type: ignore[return-value]


def as_values(node: DictConfig) -> dict[str, Any]:
    with friendly():
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[return-value]


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved config as Python values, without Hydra's node and the sweep's.

    A run without a name gets one, before anything that refers to it is resolved. `~` at the beginning of a
    path becomes the home, text that is written like a number (1e-3) a number, missing callbacks an empty
    mapping, and a `_target_` of an earlier version its name of today, with one line of warning.
    """
    kept = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in OF_THE_LINE])
    if "hydra" in cfg and "name" in kept and kept.name is None:
        kept.name = _name(cfg.hydra.runtime.choices)
    config = numbers_as_numbers(with_home(as_values(kept)))
    config.setdefault("callbacks", {})
    renamed: dict[str, Any] = with_current_targets(
        config, lambda old, new: log.warning("_target_: %s is called %s now; both work", old, new)
    )
    return with_values_for_new_keywords(renamed, TODAYS_VALUES)


def check_config(config: Mapping[str, Any]) -> RunConfig:
    """Check a config as far as that needs neither data nor TensorFlow; see `checks.check_everything`."""
    from cnnbench.config.checks import check_everything  # pydantic and numpy: `--cfg job` needs neither

    find_plugins(config.get("plugins", []))
    return check_everything(config)


def spec_from(config: Mapping[str, Any], run_dir: Path | None, overrides: Sequence[str] = ()) -> runs.RunSpec:
    """Return the `RunSpec` of a plain config, such as the one in a run folder."""
    if config.get("made_in") == "python":
        raise CnnbenchError(
            f"{run_dir} was made in Python, so its data set and model are not written down",
            "load best.keras with keras.models.load_model",
        )
    refuse_interpolations(config, run_dir or Path())
    config = stored_config(config)
    checked = check_config(config)
    optimizer = {key: value for key, value in config["optimizer"].items() if key != "learning_rate"}
    callbacks = {key: node for key, node in config["callbacks"].items() if node is not None}
    rate = config["optimizer"]["learning_rate"]
    return runs.RunSpec(
        name=str(config.get("name") or (run_dir.name if run_dir else "run")),
        run_dir=run_dir,
        dataset=DatasetFactory(config["dataset"], _not_keywords(config["dataset"])),
        model=Factory(config["model"]),
        optimizer=Factory(optimizer),
        learning_rate=Schedule(rate) if isinstance(rate, dict) else float(rate),
        loss=Factory(config["loss"], ("tasks",)) if "_target_" in config["loss"] else None,
        loss_tasks=tuple(config["loss"].get("tasks", ())),
        augmentation=Factory(config["augmentation"]) if "_target_" in config["augmentation"] else None,
        callbacks={key: Factory(node) for key, node in callbacks.items() if not is_tracker(node)},
        trackers={key: Factory(node) for key, node in callbacks.items() if is_tracker(node)},
        training=checked.training,
        seed=checked.seed,
        deterministic=checked.deterministic,
        device=checked.device,
        plugins=tuple(checked.plugins),
        objective=checked.objective,
        config=config,
        overrides=tuple(overrides),
    )


def _not_keywords(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Return `fixes`, and `task` where it only tells what the function is known to give."""
    is_keyword = "task" in signature(str(dataset["_target_"])).parameters
    return ("fixes",) if is_keyword else ("fixes", "task")


@dataclass(frozen=True)
class Factory:
    """A callable that makes what a node of the config describes; its target is imported when it is called.

    Attributes:
        node: `_target_` and keywords, as plain values.
        without: keys that are for the config alone.
    """

    node: Mapping[str, Any]
    without: tuple[str, ...] = ()

    def __call__(self, **given_by_run: Any) -> Any:
        # `_convert_="all"`: a ListConfig inside a Keras layer cannot be saved. What the data decide is passed
        # when the factory is called, since `instantiate` would convert it.
        from hydra.utils import instantiate  # imports much, which `--cfg job` goes without

        kept = {key: value for key, value in self.node.items() if key not in self.without}
        try:
            make = instantiate(kept, _partial_=True, _convert_="all")
        except InstantiationException as error:  # Hydra wraps what a nested object says in pages of its own
            raise error.__cause__ if error.__cause__ is not None else error from None
        return make(**given_by_run)


@dataclass(frozen=True)
class DatasetFactory(Factory):
    """A factory of a data set, corrected by the table that its `fixes` names."""

    def __call__(self, **given_by_run: Any) -> Any:
        if self.node.get("fixes") is None:
            return super().__call__(**given_by_run)
        path = Path(self.node["fixes"])
        rows = data.read_fixes(path)
        with data.sharing(data.excluded(rows)):
            made = super().__call__(**given_by_run)
        return data.fixed(made, path, rows)


@dataclass(frozen=True)
class Schedule:
    """A factory of a learning rate, whose target may take the steps of an epoch and the epochs.

    Attributes:
        node: `_target_` and keywords, as plain values.
    """

    node: Mapping[str, Any]

    def __call__(self, steps_per_epoch: int, epochs: int) -> Any:
        wanted = signature(self.node["_target_"]).parameters
        given = {"steps_per_epoch": steps_per_epoch, "epochs": epochs}
        return Factory(self.node)(**{name: value for name, value in given.items() if name in wanted})


# -- Hydra's override grammar, and what its errors mean --------------------------------------------


@contextmanager
def _session(folder: Path | None) -> Iterator[tuple[Any, list[str]]]:
    """Give Hydra's loader, and the override by which it finds the user's own options in a folder."""
    GlobalHydra.instance().clear()
    with ExitStack() as stack:
        ours = stack.enter_context(readable_by_hydra(CONF_DIR))
        stack.enter_context(initialize_config_dir(str(ours), job_name="cnnbench", version_base="1.3"))
        _forget_other_launchers()
        search = []
        if folder is not None:
            theirs = stack.enter_context(readable_by_hydra(folder.resolve()))
            search = [f"hydra.searchpath=[{quoted(f'file://{theirs}')}]"]
        yield GlobalHydra.instance().config_loader(), search


def _forget_other_launchers() -> None:
    """Take published launchers of the same names out of Hydra's store, where they are installed.

    Hydra, which has found them by then, would hold our `hydra/launcher/joblib.yaml` against their schema and
    refuse it.
    """
    launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for path in (CONF_DIR / "hydra" / "launcher").glob("*.yaml"):
        launchers.pop(path.name, None)


def _parse(overrides: Iterable[str]) -> list[Override]:
    """Read overrides; a value that Hydra's grammar cannot read is text where it can mean nothing else."""
    return [_parse_one(text) for text in overrides]


def _parse_one(text: str) -> Override:
    found = _read(text)
    plain = as_text(text, found.value() if found is not None else None, found is not None)
    if plain is not None:
        found = _read(plain)
    if found is None:
        raise CnnbenchError(
            f"cannot read {shown(text)!r}",
            "write key=value; quote what the shell or Hydra reads: 'key=\"a b\"'",
        )
    if not found.key_or_group:
        raise CnnbenchError(f"cannot read {shown(text)!r}: there is no key", "write key=value")
    return found


def _read(text: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(text)
    except HYDRA_ERRORS:
        return None


def _lines(parsed: Iterable[Override]) -> list[str]:
    return [str(one.input_line) for one in parsed]


def axes(overrides: Sequence[str], config_dir: str | None = None) -> dict[str, list[str]]:
    """Return the values of each key of a line as overrides, in their order; of an interval its lower end.

    Raises:
        CnnbenchError: an override that cannot be read.
    """
    with friendly(overrides, config_dir):
        return {_key(one): _values(one, config_dir) for one in _parse(overrides)}


def _key(override: Override) -> str:
    """Return the key with its package, since one group may be put at several places."""
    return f"{override.key_or_group}@{override.package}" if override.package else override.key_or_group


def _values(override: Override, config_dir: str | None) -> list[str]:
    value, key = override.value(), override.get_key_element()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}"]
    if isinstance(value, Glob):
        known = options(config_dir).get(override.key_or_group, {})
        found = value.filter(sorted(known))
        if not found:
            raise CnnbenchError(f"{override.input_line} fits no option", nearest("", known))
        return [f"{key}={option}" for option in found]
    if override.is_sweep_override():
        return [f"{key}={text}" for text in override.sweep_string_iterator()]
    return [key if override.is_delete() else f"{key}={override.get_value_element_as_str()}"]


def intervals(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Return each `key=interval(low, high)`, within `tag(log, …)` or not, as a parameter of a search."""
    found = []
    with friendly(overrides):
        for one in _parse(overrides):
            value = one.value()
            if isinstance(value, IntervalSweep):
                bounds = {"low": value.start, "high": value.end}
                found.append({"key": one.key_or_group, **bounds, "log": "log" in value.tags})
    return found


def typed_values(overrides: Sequence[str], resolve: bool = True) -> dict[str, Any]:
    """Return the values of `key=value …` by key.

    Args:
        overrides: as typed.
        resolve: whether `${…}` is replaced; only the environment can be meant where there is no config.

    Raises:
        CnnbenchError: one cannot be read.
    """
    with friendly(overrides):
        parsed = _parse(overrides)
        values = OmegaConf.create([override.value() for override in parsed])
        found: Any = with_home(OmegaConf.to_container(values, resolve=resolve))
    return {override.key_or_group: value for override, value in zip(parsed, found, strict=True)}


@contextmanager
def friendly(overrides: Sequence[str] = (), config_dir: str | None = None) -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into one line that names the override and the nearest name."""
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
        groups = options(config_dir)
        for override in _parse(overrides):
            if override.key_or_group in groups:
                _diagnose_group(override.key_or_group, override, groups[override.key_or_group])
            elif "/" in override.key_or_group and not override.is_add():
                raise CnnbenchError(
                    f"there is no key {override.key_or_group}", nearest(override.key_or_group, groups)
                ) from error
            _refuse_several(override)
        # Not one of the usual slips: their own first line, never the advice to add a +.
        lines = [line for line in str(error).strip().splitlines() if "config use +" not in line]
        raise CnnbenchError(shown(" ".join(lines[:2])) if lines else type(error).__name__) from error


def _as_plugin(group: str, option: str) -> str:
    """Return how a Python file is used; empty for what is none."""
    name = Path(option).stem
    if not option.endswith(".py") or not name.isidentifier():
        return ""
    return (
        f"a file of your own is a plugin: plugins=[{option}] {group}={name}, "
        f"with conf/{group}/{name}.yaml that says _target_: {name}.FUNCTION"
    )


def _diagnose_group(group: str, override: Override, known: Iterable[str]) -> None:
    value = override.value()
    for option in value if isinstance(value, list) else [value]:
        if (isinstance(option, str) and option not in known) or option is None:
            raise CnnbenchError(
                f"{group} has no option {option!r}",
                _as_plugin(group, str(option)) or nearest(str(option), known),
            )
    if override.is_add():
        instead = str(override.input_line).lstrip("+")
        raise CnnbenchError(f"{group} has an option already", f"replace it: {instead}")
