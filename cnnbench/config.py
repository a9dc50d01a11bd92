"""Where Hydra stops: from overrides to a composed config, and from that to a `RunSpec`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose as hydra_compose
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cnnbench.errors import CnnbenchError, nearest
from cnnbench.grids import combinations
from cnnbench.options import options
from cnnbench.overrides import axes, friendly, session
from cnnbench.startup import find_plugins
from cnnbench.targets import is_tracker, refuse_missing
from cnnbench.trust import refuse_interpolations, remember

if TYPE_CHECKING:
    from cnnbench.checks import RunConfig
    from cnnbench.spec import RunSpec


def compose(overrides: Sequence[str] = (), config_dir: str | None = None) -> DictConfig:
    """Compose a config as the command line would, with Hydra's own node in it.

    Raises:
        CnnbenchError: an override that does not fit.
    """
    with friendly(overrides, config_dir), session(config_dir) as (_, search):
        return hydra_compose("config", [*search, *overrides], return_hydra_config=True)


def layers(overrides: Sequence[str], config_dir: str | None = None) -> list[tuple[str, str]]:
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


def select(composed: DictConfig, keys: Iterable[str]) -> dict[str, Any]:
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


def run_spec(cfg: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunSpec:
    """Check a composed config and turn it into plain values and factories.

    Args:
        cfg: the composed config.
        choices: which option each group has (`hydra.runtime.choices`).
        overrides: what the user typed.

    Raises:
        CnnbenchError: anything in it is wrong.
    """
    from cnnbench.files import new_folder

    config = named(cfg, choices)
    wanted = config["run_dir"]
    run_dir = Path(wanted) if wanted is not None else new_folder(Path("outputs"), config["name"])
    return spec_from(config, run_dir, overrides)


def named(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The config as a run writes it down: plain, checked, with a name and the places of the plugins.

    Raises:
        CnnbenchError: anything in it is wrong.
    """
    config = plain(cfg)
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


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config without Hydra's node and the sweep's, as Python values."""
    return as_values(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in ("hydra", "sweep")]))


def check_config(config: Mapping[str, Any]) -> RunConfig:
    """Everything that can be checked without data and TensorFlow; see `cnnbench.checks.check`."""
    from cnnbench.checks import check  # pydantic and numpy: `--cfg job` needs neither

    find_plugins(config.get("plugins", []))
    return check(config)


def spec_from(config: Mapping[str, Any], run_dir: Path, overrides: Sequence[str] = ()) -> RunSpec:
    """The `RunSpec` of a plain config, e.g. of one that a run has left in its folder."""
    from cnnbench.spec import RunSpec

    if config.get("made_in") == "python":
        raise CnnbenchError(
            f"{run_dir} was made in Python, so its data set and model are not written down",
            "load best.keras with keras.models.load_model",
        )
    refuse_interpolations(config, run_dir)
    checked = check_config(config)
    optimizer = {key: value for key, value in config["optimizer"].items() if key != "learning_rate"}
    callbacks = {key: node for key, node in config["callbacks"].items() if node is not None}
    rate = config["optimizer"]["learning_rate"]
    return RunSpec(
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
    from cnnbench.signatures import signature

    wanted, make = signature(node["_target_"]).parameters, _factory(node)

    def schedule(steps_per_epoch: int, epochs: int) -> Any:
        given = {"steps_per_epoch": steps_per_epoch, "epochs": epochs}
        return make(**{name: value for name, value in given.items() if name in wanted})

    return schedule
