"""Pictures of a trained network: filters, feature maps and class-activation maps."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cnnbench import reporting
from cnnbench.data import UnreadableError, pillow_warnings
from cnnbench.errors import CnnbenchError
from cnnbench.inference.load import load_model, require_finished
from cnnbench.inference.prediction import Prediction, answer, items, picture_reader
from cnnbench.runs import RunFolder, RunSpec

MOST_LAYERS = 24  # of a deep network; --layer shows any other
MOST_TARGETS = 6  # with class-activation maps of their own
MOST_FILES = 40  # in one picture
AND = ", "  # between labels
SMALLEST_MAP = 4  # pixels: what a class-activation map needs to say where


@dataclass(frozen=True)
class Examples:
    """Example inputs for the pictures.

    Attributes:
        x: ``(n, height, width, channels)``.
        names: the true class, or the file's name.
        have_truth: the names are true classes.
    """

    x: np.ndarray
    names: list[str]
    have_truth: bool


def visualize(
    folder: RunFolder,
    spec: RunSpec,
    files: Sequence[str] = (),
    layer: str | None = None,
    count: int = 12,
    output: Path | None = None,
) -> Iterator[str]:
    """Draw a trained network into the run's `figures/`, or another folder.

    Args:
        folder: of a finished run.
        spec: made from the folder's config.
        files: input pictures; empty for examples of the test split, evenly over the classes.
        layer: draw this one alone; any layer with feature maps.
        count: examples in the grid of class-activation maps.
        output: where to.

    Yields:
        the path of each picture when it is written, or a line worth knowing.

    Raises:
        CnnbenchError: the run is not finished, its data are not images, or there is no such layer.
    """
    require_finished(folder)
    shape, members = folder.metrics["input_shape"], folder.metrics.get("members")
    if members:
        raise CnnbenchError(
            f"{folder.path} is the average of {len(members)} models, which see in different ways",
            f"draw what one of them sees: cnnbench visualize {members[0]['run']}",
        )
    if len(shape) != 3:
        raise CnnbenchError(
            f"the examples of this run are rows of {shape[0]} numbers; pictures need a model of images"
        )
    dataset = spec.config["dataset"]
    examples = _from_files(files, shape, dataset) if files else _from_test_split(spec, count)
    model = load_model(folder, spec)
    decision, targets = folder.decision, folder.metrics.get("target_names", ())
    task = decision.task

    def write(name: str, figure: Any) -> str:
        safe = re.sub(r"[^\w.-]", "_", name)
        return str(folder.write_figure(safe, reporting.to_png(figure), output))

    from cnnbench.inference import layers

    chosen = [layers.layer_with_maps(model, layer)] if layer else layers.convolutions_and_poolings(model)
    if not chosen:
        name, weights = layers.first_dense_weights(model, shape)
        title = f"{name}: what each of its {weights.shape[3]} units looks for in an image"
        yield write(
            f"weights_{name}", reporting.filters(weights, title, "the weights of the first dense layer")
        )
        return
    convolutions = [one for one in chosen if layers.is_convolution(one)]
    if len(chosen) > MOST_LAYERS:
        yield f"{MOST_LAYERS} of {len(chosen)} convolutions and poolings; --layer NAME shows any other"
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, MOST_LAYERS).round().astype(int)]
    maps, outputs = layers.maps_of(model, chosen, examples.x[:1])
    stages = [
        reporting.Stage(one.name, layers.describe_layer(one), own[0])
        for one, own in zip(chosen, maps, strict=True)
    ]
    for one, stage in zip(chosen, stages, strict=True):
        after = " and ".join(ending.name for ending in layers.followed_by(model, one))
        where = " of the test split" if examples.have_truth else ""
        note = f"input: {examples.names[0]}{where}{f'; maps after {after}' if after else ''}"
        yield write(f"feature_maps_{one.name}", reporting.feature_maps(examples.x[0], stage, note))
    if layer is None:
        probabilities = list(answer("", decision, outputs[0]).probabilities.items())[:5]
        sizes = layers.classifier_sizes(model)
        yield write("feature_maps", reporting.layer_chain(examples.x[0], stages, sizes, probabilities))
    if convolutions and (layer is None or convolutions[0].input.shape[-1] in (1, 3)):
        first = convolutions[0]
        kernels = layers.kernels_of(first)
        title = f"{first.name}: its filters, {kernels.shape[0]}×{kernels.shape[1]} pixels"
        yield write(f"filters_{first.name}", reporting.filters(kernels, title, layers.describe_layer(first)))
    target = chosen[0] if layer else _last_with_places(convolutions or chosen)
    size = "×".join(map(str, target.output.shape[1:3]))
    note = f"from the {size} maps of {target.name}, bright: for it, dark: nothing"
    titles = {"regression": "Grad-CAM", "multilabel": "Grad-CAM: what spoke for the most probable label"}
    title = titles.get(task, "Grad-CAM: what spoke for the predicted class")
    threshold = (decision.thresholds or (0.5,))[0]
    for number, value in enumerate(targets[:MOST_TARGETS] if len(targets) > 1 else [""]):
        heat, outputs = layers.class_activation(model, target, examples.x, task, number, threshold)
        captions = [
            _caption(examples, index, answer("", decision, outputs[index]), bool(heat[index].any()), value)
            for index in range(len(examples.x))
        ]
        heading = f"{title}: what spoke for a large {value}" if value else title
        picture = reporting.class_activation_maps(examples.x, heat, captions, heading, note)
        yield write(f"class_activation_maps{f'_{value}' if value else ''}", picture)


def _last_with_places(layers: Sequence[Any]) -> Any:
    """Return the last layer with maps of 4×4 or more: deep networks shrink small images to 1×1."""
    useful = [one for one in layers if min(one.output.shape[1:3]) >= SMALLEST_MAP]
    return useful[-1] if useful else layers[0]


def _caption(
    examples: Examples, index: int, said: Prediction, has_heat: bool, target: str
) -> list[tuple[str, str]]:
    name = examples.names[index]
    if said.error is not None:
        return [(name, reporting.INK), (said.error, reporting.ORANGE)]
    if said.value is not None:
        return [(name, reporting.GREEN), (f"→ {said.value:.4g}", reporting.INK)]
    colour = reporting.GREEN if examples.have_truth else reporting.INK
    if said.values is not None:
        name = f"{target} {name.split(AND)[[*said.values].index(target)]}" if examples.have_truth else name
        return [(name, colour), (f"→ {target} {said.values[target]:.4g}", reporting.INK)]
    without = "" if has_heat else "  (no place spoke for it)"
    if said.labels is None:
        label, true, is_given = str(said.label), [name], True
    else:  # what spoke for the most probable one is shown, given or not
        label, true = next(iter(said.probabilities)), name.split(AND)
        is_given = label in said.labels
    wrong = examples.have_truth and is_given and label not in true
    text = f"→ {label}  {said.probabilities[label]:.1%}{'' if is_given else ', not given'}{without}"
    return [(name, colour), (text, reporting.ORANGE if wrong else reporting.INK)]


def _from_test_split(spec: RunSpec, count: int) -> Examples:
    dataset = spec.dataset()
    y = dataset.test.y
    # Evenly over the classes, or over the values of a regression; of several outputs, over the first.
    order = np.argsort(y.reshape(len(y), -1)[:, 0], kind="stable")
    picked = order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]
    names = [_truth(y[i], dataset.class_names) for i in picked]
    return Examples(dataset.test.x[picked], names, True)


def _truth(y: np.ndarray, class_names: Sequence[str]) -> str:
    """Name what is true of an example: its class, its labels, or its values."""
    if not class_names:
        return AND.join(f"{value:.4g}" for value in np.atleast_1d(y))
    if y.ndim:
        return AND.join(class_names[index] for index in np.flatnonzero(y).tolist()) or "no label"
    return class_names[int(y)]


def _from_files(files: Sequence[str], shape: Sequence[int], config: Mapping[str, Any]) -> Examples:
    found = list(islice(items(files, sys.stdin, shape, picture_reader(shape, config)), MOST_FILES))
    if not found:
        raise CnnbenchError(f"no pictures in {' '.join(files)}")
    pictures = []
    with pillow_warnings():
        for item in found:
            try:
                pictures.append(item.read())
            except UnreadableError as error:
                raise CnnbenchError(f"{item.name}: {error}") from error
    return Examples(np.stack(pictures), [Path(item.name).name for item in found], False)
