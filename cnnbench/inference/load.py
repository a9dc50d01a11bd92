"""Loading of a finished run, which may come from a stranger and whose config names code."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench import data, reporting
from cnnbench.config import (
    refuse_links,
    require_own,
    spec_from,
    typed_values,
    with_values,
    without_strange_cache,
)
from cnnbench.errors import CnnbenchError, nearest
from cnnbench.renamed import current_name
from cnnbench.runs import (
    CONFIG,
    DONE,
    RunFolder,
    RunSpec,
    config_changes,
    file_changes,
    flatten,
    is_place,
    places_in,
    split_changes,
    with_absolute_places,
)
from cnnbench.system import import_tensorflow

PICTURES = ("cnnbench.data.images.folder.image_folder", "cnnbench.data.images.manifest.manifest")


def require_finished(folder: RunFolder) -> None:
    """Refuse a run without a best checkpoint and final figures, before anything slow is done.

    Raises:
        CnnbenchError: it failed, was interrupted or still runs, or its checkpoint is gone.
    """
    if folder.status != DONE:
        raise CnnbenchError(f"{folder.path} has no finished run (status: {folder.status})")
    if not folder.best_model.is_file():
        raise CnnbenchError(
            f"{folder.best_model} is missing", "the checkpoint cannot be made anew: run again"
        )


def load_dataset(spec: RunSpec) -> data.Dataset:
    """Load the data set with the splits of the run, validation included."""
    return spec.drawn(spec.dataset())


def load_model(folder: RunFolder, spec: RunSpec, *, anywhere: bool = True) -> Any:
    """Load the best checkpoint, after TensorFlow is set up as for the run.

    Args:
        folder: of a finished run.
        spec: made from the folder's config.
        anywhere: allow a run of `device=gpu` on a machine without a GPU.

    Raises:
        CnnbenchError: the file cannot be loaded.
    """
    import_tensorflow(spec.plugins)
    from cnnbench.nn import load_checkpoint
    from cnnbench.training import prepare_machine

    device = "auto" if anywhere and spec.device == "gpu" else spec.device
    prepare_machine(spec.seed, spec.deterministic, device, spec.training.precision)
    return load_checkpoint(folder.best_model)


def stored_spec(
    folder: RunFolder,
    trust_plugins: bool = False,
    changed: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    verb: str = "",
) -> RunSpec:
    """Read the spec of a run from its folder.

    Args:
        folder: of the run.
        trust_plugins: import the plugins and use the cache folder that it names, though this user has never
            typed them on this machine.
        changed: returns the config to use for the stored one.
        verb: name of a verb that needs the data, and takes other places for them.

    Raises:
        CnnbenchError: its plugins are not trusted; it holds links to elsewhere; its config is wrong; a place
            that it names is gone.
    """
    refuse_links(folder.path)
    config = folder.config
    if not trust_plugins:
        require_own(config, folder.path)
        config = without_strange_cache(config)
        if config != folder.config:
            text = f"{folder.path}: its cache_dir is not used, for you have never named that folder here"
            reporting.stderr().print(text, markup=False, style="yellow")
    config = changed(config)
    if verb:
        _refuse_lost_places(config, folder, verb)
    try:
        config = _with_bits(config, folder)
        return spec_from(config, folder.path, folder.overrides)
    except CnnbenchError as error:  # cut short, perhaps, or written by another version
        raise CnnbenchError(f"{folder.path / CONFIG}: {error.message}", error.hint) from error


def _with_bits(config: dict[str, Any], folder: RunFolder) -> dict[str, Any]:
    """Copy the config with the recorded bits of 16-bit pictures.

    From other pictures, or one alone, fewer bits might be concluded. A config without the key is of a version
    that always took 16.
    """
    dataset = config.get("dataset")
    if not isinstance(dataset, dict) or dataset.get("bits") is not None:
        return config
    if current_name(str(dataset.get("_target_"))) not in PICTURES:
        return config
    recorded = folder.environment.get("dataset", {}).get("bits")
    return {**config, "dataset": {**dataset, "bits": recorded if recorded or "bits" in dataset else 16}}


# -- Places and identity of the data --------------------------------------


def with_places(config: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """Copy a run's config with other places, made absolute.

    Raises:
        CnnbenchError: anything but `key=value` of a place in this config was typed.
    """
    values = typed_values(typed)
    known = [key for key in flatten(config) if is_place(key, "") and key != "run_dir"]
    for key in values:
        if key not in known:
            raise CnnbenchError(
                f"{key} is no place, and everything else is decided by the run", nearest(key, known)
            )
    if "data_dir" in values and "data_dir" in config["dataset"]:  # written down resolved, in both places
        values = {"dataset.data_dir": values["data_dir"], **values}
    return with_absolute_places(with_values(config, values))


def _refuse_lost_places(config: Mapping[str, Any], folder: RunFolder, verb: str) -> None:
    """Refuse a place that is gone, with the command that names another."""
    for key, value in places_in(config).items():
        if key == "run_dir" or key.endswith("cache_dir") or (key.startswith("model.") and verb != "resume"):
            continue
        for one in value if isinstance(value, list) else [value]:
            path = Path(str(one))
            # exists is False where it is hidden, too; `shards/*.tar` is a pattern
            if path.is_absolute() and not os.path.exists(path) and not glob.glob(str(path)):  # noqa: PTH110, PTH207
                new = "[NEW]" if isinstance(value, list) else "NEW"
                raise CnnbenchError(
                    f"{key}={path}: nothing is there any more",
                    f"say where it is now: cnnbench {verb} {folder.path} {key}={new}",
                )


def differences(folder: RunFolder, dataset: data.Dataset, split: str | None = None) -> list[str]:
    """Return one line for each way in which data or config differ from those of a finished run.

    Args:
        folder: of the run.
        dataset: with the splits of the run.
        split: compare the data of this split alone.
    """
    began, now, edits = folder.identity, dataset.fingerprint, list[str]()
    if began is None:  # version 0.1.0 has written down one fingerprint
        before = folder.environment.get("dataset", {}).get("fingerprint")
    elif split is not None:
        before, now = began.drawn.get(split), dataset.splits[split].fingerprint
    else:
        before = began.drawn.get("all")
        edits = [f"config.yaml was edited: {one}" for one in config_changes(began.config, folder.config)]
    if before == now:
        return edits
    text = f"the data differ: fingerprint {now[:12]}, recorded {str(before)[:12]}"
    if began is not None and began.files != dataset.files:
        text += f"; {'; '.join(file_changes(began.files, dataset.files))}"
    elif began is not None and split is None:
        drawn = {name: part.fingerprint for name, part in dataset.splits.items()}
        text += f"; {'; '.join(split_changes(began.drawn, drawn))}"
    return [text, *edits]
