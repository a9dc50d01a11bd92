"""The grids of example images: samples, samples before and after augmentation, the worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.data import Column, Examples, listed
from cnnbench.reporting.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LABEL,
    ORANGE,
    Board,
    note_figure,
)
from cnnbench.reporting.figures.charts import NO_PREDICTION
from cnnbench.reporting.figures.columns import feature_histograms, rows_table
from cnnbench.reporting.figures.lettering import lettering_for
from cnnbench.runs import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TILE, _GAP, _HEAD = 128, 20, 48  # pixels: a picture's box, the space between two, the room for the title
_MOST_LINES = 3  # below a picture
Line = tuple[str, str]  # text, colour


def sample_grid(
    images: Examples,
    labels: np.ndarray,
    class_names: Sequence[str],
    title: str,
    table: Sequence[Column] = (),
    target_names: Sequence[str] = (),
) -> Figure:
    """Show up to 25 examples, evenly over classes or labels (over the first target's range in regression).

    Args:
        images: ``(n, height, width, channels)``, uint8 or float; or ``(n, columns)`` features, of which
            histograms are drawn instead.
        labels: ``(n,)`` class indices, ``(n, labels)`` 0 or 1, or the targets of a regression.
        class_names: by class or label; empty for regression.
        title: the heading.
        table: the columns, for features.
        target_names: of a regression with several targets.
    """
    if images.ndim == 2:
        return feature_histograms(images[:], labels, class_names, title, table, target_names)
    captions: list[list[Line]]
    if class_names and labels.ndim > 1:
        order, columns = _even_over_labels(labels), 5
        captions = [
            _lines([class_names[label] for label in np.flatnonzero(labels[i]).tolist()]) for i in order
        ]
    elif labels.ndim > 1:
        ranks = np.argsort(labels[:, 0], kind="stable")
        order, columns = ranks[_evenly(len(ranks), 25)], 5
        captions = [
            _lines([f"{name} {value:.4g}" for name, value in zip(target_names, labels[i], strict=True)])
            for i in order
        ]
    elif class_names:
        order, columns = _even_over_classes(labels, len(class_names))
        captions = [[(class_names[int(labels[i])], INK)] for i in order]
    else:
        ranks = np.argsort(labels, kind="stable")
        order, columns = ranks[_evenly(len(ranks), 25)], 5
        captions = [[(f"{float(labels[i]):.4g}", INK)] for i in order]
    return picture_grid(images[order], captions, columns, title)


def _evenly(count: int, most: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)


def _even_over_labels(labels: np.ndarray) -> np.ndarray:
    """Pick up to 20 examples: in turn, the next one that has each label, and at the end one without any."""
    order: list[int] = []
    having = [np.flatnonzero(labels[:, label]).tolist() for label in range(labels.shape[1])]
    having = [members for members in having if members][:19]
    while len(order) < 19 and any(having):
        for members in having:
            if (found := next((one for one in members if one not in order), None)) is None:
                members.clear()
            elif len(order) < 19:
                order.append(found)
    return np.array([*order, *np.flatnonzero(~labels.any(axis=1))[:1]], dtype=np.intp)


def _lines(texts: Sequence[str], colour: str = INK) -> list[Line]:
    """Return texts as lines, and how many more there are below the second."""
    shown = texts if len(texts) <= _MOST_LINES else [*texts[: _MOST_LINES - 1], f"and {len(texts) - 2} more"]
    return [(text, colour) for text in shown or ["no label"]]


def augmentation_grid(before: np.ndarray, after: np.ndarray, title: str) -> Figure:
    """Show nine images before augmentation beside the same nine after it, each in the same cell.

    Args:
        before: ``(n, height, width, channels)``; the first nine are shown.
        after: the same images, augmented, in the same order; the size may differ.
        title: the heading.
    """
    count = min(9, len(before), len(after))
    side, gap, between, top = 116, 8, 48, 80
    block = 3 * side + 2 * gap
    board = Board(2 * block + between + 2 * _GAP, top + block + _GAP, title, lettering_for([title]))
    before, after = before[:count], after[:count]
    limits = tile_limits(before)
    # Augmentation overshoots a little; the limits of the originals hold unless it has rescaled.
    rescaled = count > 0 and limits[1] > 2 and float(np.nanmax(after)) <= 1.5
    for images, heading, left, shown in (
        (before, "before", _GAP, limits),
        (after, "after", _GAP + block + between, tile_limits(after) if rescaled else limits),
    ):
        board.write(heading, left + block / 2, top - 20, block, size=LABEL, colour=BLUE)
        for index, tile in enumerate(tiles_of(images, side, shown)):
            row, column = divmod(index, 3)
            board.paste(tile, left + column * (side + gap), top + row * (side + gap), (side, side))
    return board.figure()


def _even_over_classes(labels: np.ndarray, classes: int) -> tuple[np.ndarray, int]:
    """Pick the first k examples of each class, in turn: indices and the number of columns."""
    shown = np.unique(labels)
    if len(shown) > 25:
        shown = shown[np.linspace(0, len(shown) - 1, 25).round().astype(int)]
    columns = {2: 4, 3: 3, 4: 4}.get(len(shown), 5)
    each = max(1, 5 * columns // len(shown))
    rounds = [np.flatnonzero(labels == label)[:each] for label in shown]
    order = [members[turn] for turn in range(each) for members in rounds if turn < len(members)]
    return np.array(order, dtype=np.intp), columns


def picture_grid(images: np.ndarray, captions: Sequence[Sequence[Line]], columns: int, title: str) -> Figure:
    """Show images in so many columns, each above its lines of text."""
    columns = max(1, min(columns, len(images)))
    rows = max(1, math.ceil(len(images) / columns))
    line_height, lines = 17, max(map(len, captions))
    tiles = tiles_of(images, _TILE, tile_limits(images))
    box = (max(len(tile) for tile in tiles), _TILE)
    step_x = _TILE + _GAP
    step_y = box[0] + 6 + line_height * lines + 8
    lettering = lettering_for([title, *(text for lines in captions for text, _ in lines)])
    left = max(_GAP, (480 - columns * step_x + _GAP) // 2)  # never so narrow that the title is cut
    board = Board(2 * left + columns * step_x - _GAP, _HEAD + rows * step_y, title, lettering)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        x, y = left + column * step_x, _HEAD + row * step_y
        board.paste(tile, x, y, box)
        for number, (text, colour) in enumerate(captions[index]):
            board.write(
                text, x + _TILE / 2, y + box[0] + 14 + line_height * number, step_x - 8, colour=colour
            )
    return board.figure()


def tile_limits(images: np.ndarray) -> tuple[float, float]:
    """Return the values to be drawn as black and as white.

    Values of 0…255 and 0…1 are shown as they are. Others (standardised, 16 bits, 0 to 16) are stretched, for
    they would come out black.
    """
    finite = images[np.isfinite(images)] if images.dtype.kind == "f" else images
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if images.dtype == np.bool_ or (images.dtype.kind == "f" and low >= 0 and high <= 1):
        return 0.0, 1.0
    if low >= 0 and 64 <= high <= 255:
        return 0.0, 255.0
    return (0.0 if low >= 0 else low), (high if high > low else low + 1.0)


def tiles_of(images: np.ndarray, side: int, limits: tuple[float, float]) -> list[np.ndarray]:
    """Return each image as RGB uint8, as large as fits a square of that side, with sharp pixels."""
    from PIL import Image

    if images.ndim == 3:
        images = images[..., None]
    low, high = limits
    scaled = (np.nan_to_num(images.astype(np.float32), nan=low) - low) * (255.0 / (high - low))
    pixels = np.clip(scaled, 0, 255).round().astype(np.uint8)
    pixels = pixels[..., :3] if images.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    longest = max(pixels.shape[1:3])
    if longest <= side:
        factor = side // longest
        return list(pixels.repeat(factor, axis=1).repeat(factor, axis=2))
    height, width = (max(1, round(extent * side / longest)) for extent in pixels.shape[1:3])
    return [np.asarray(Image.fromarray(p).resize((width, height), Image.Resampling.BOX)) for p in pixels]


# -- Mistakes --------------------------------------------------------------------------------------


def worst_mistakes(
    images: Examples,
    y_true: np.ndarray,
    outputs: np.ndarray,
    class_names: Sequence[str],
    table: Sequence[Column] = (),
    examples: Sequence[str] | None = None,
    thresholds: metrics.Thresholds = None,
) -> Figure:
    """Show the examples that the model got wrong with the highest probability, the surest first.

    Args:
        images: ``(n, height, width, channels)``, or ``(n, columns)`` features, shown as a table.
        y_true: ``(n,)`` class indices.
        outputs: probabilities ``(n, classes)``, or ``(n,)`` or ``(n, 1)``: the probability of class 1.
        class_names: by class index.
        table: the columns, for features.
        examples: the files or rows that they come from.
        thresholds: of a yes, as `runs.Decision` has them.
    """
    title = "Surest mistakes"
    y_true = np.asarray(y_true).reshape(-1).astype(np.int64)
    predicted = metrics.predicted_classes(outputs, thresholds)
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        positive = outputs.reshape(-1).astype(np.float64)
        outputs = np.stack([1 - positive, positive], axis=1)
    usable = np.isfinite(outputs).all(axis=1)
    if not usable.any():
        return note_figure("No finite output: the model gives NaN or infinity for every example.", title)
    wrong = np.flatnonzero(usable & (predicted != y_true))
    if not len(wrong):
        return note_figure(f"No mistakes: all {int(usable.sum())} examples are classified correctly.", title)
    sureness = outputs[wrong, predicted[wrong]]
    worst = wrong[np.argsort(-sureness, kind="stable")][:20]
    title = f"Surest mistakes ({len(worst)} of {len(wrong)}; {len(y_true)} examples)"
    names = [(class_names[int(y_true[i])], class_names[int(predicted[i])]) for i in worst]
    sure = [_percent(float(outputs[i, predicted[i]])) for i in worst]
    if images.ndim == 2:
        cells = [(*pair, percent) for pair, percent in zip(names, sure, strict=True)]
        return rows_table(images[:], worst, ("true", "predicted", "probability"), cells, title, table)
    captions = [
        [(true, GREEN), (f"→ {said}", ORANGE), (percent, INK), *_source(examples, row)]
        for (true, said), percent, row in zip(names, sure, worst, strict=True)
    ]
    return picture_grid(images[worst], captions, 5, f"{title}: true → predicted")


def wrong_labels(
    images: Examples,
    y_true: np.ndarray,
    outputs: np.ndarray,
    class_names: Sequence[str],
    table: Sequence[Column] = (),
    examples: Sequence[str] | None = None,
    thresholds: metrics.Thresholds = None,
) -> Figure:
    """Show the examples with the surest wrong labels, those that were given and those that were missed.

    Args:
        images: ``(n, height, width, channels)``, or ``(n, columns)`` features, shown as a table.
        y_true: ``(n, labels)`` 0 or 1.
        outputs: probabilities of the same shape.
        class_names: of the labels.
        table: the columns, for features.
        examples: the files or rows that they come from.
        thresholds: of a yes, as `runs.Decision` has them.
    """
    title = "Surest mistakes"
    usable = np.isfinite(outputs).all(axis=1)
    if not usable.any():
        return note_figure(NO_PREDICTION, title)
    said = metrics.predicted_labels(outputs, thresholds) > 0
    is_wrong = (said != (y_true > 0.5)) & usable[:, None]
    sureness = np.where(is_wrong, np.abs(outputs - y_true), -1.0)
    wrong = np.flatnonzero(is_wrong.any(axis=1))
    if not len(wrong):
        return note_figure(f"No mistakes: all labels of {int(usable.sum())} examples are right.", title)
    worst = wrong[np.argsort(-sureness[wrong].max(axis=1), kind="stable")][:20]
    title = f"Surest mistakes ({len(worst)} of {len(wrong)}; {len(y_true)} examples)"

    def told(row: int) -> tuple[str, list[str]]:
        """Return the true labels, and the wrong ones with their probabilities, the surest first."""
        order = [label for label in np.argsort(-sureness[row], kind="stable") if is_wrong[row, label]]
        true = ", ".join(class_names[label] for label in np.flatnonzero(y_true[row]).tolist()) or "no label"
        sides = {label: "missed" if y_true[row, label] else "false" for label in order}
        return true, [
            f"{side} {class_names[label]} {_percent(float(outputs[row, label]))}"
            for label, side in sides.items()
        ]

    if images.ndim == 2:
        cells = [(true, listed(mistakes, 1)) for true, mistakes in map(told, worst)]
        return rows_table(images[:], worst, ("true", "mistaken"), cells, title, table)
    captions = [
        [(true, GREEN), *((text, ORANGE) for text in mistakes[:2]), *_source(examples, row)]
        for row, (true, mistakes) in zip(worst, map(told, worst), strict=True)
    ]
    return picture_grid(images[worst], captions, 5, title)


def _source(examples: Sequence[str] | None, row: int) -> list[Line]:
    """Return the line that names the file of a picture, without its folders."""
    return [] if examples is None else [(PurePath(examples[row]).name, GREY)]


def _percent(share: float) -> str:
    """Write 99.97 % as such: rounded to 100 % it would look like certainty."""
    if share >= 1:
        return "100 %"
    return f"{100 * share:.1f} %" if share < 0.9995 else f"{math.floor(100_000 * share) / 1000:.3f} %"


def largest_errors(
    features: Examples,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    table: Sequence[Column] = (),
    target_names: Sequence[str] = (),
    examples: Sequence[str] | None = None,
) -> Figure:
    """Show the rows that a regression missed by most: their features, and by how much.

    Args:
        features: ``(n, columns)``; or images ``(n, height, width, channels)``, shown as such.
        y_true: ``(n,)`` or ``(n, targets)`` values; several targets are measured by their deviation.
        y_pred: the same shape; rows with predictions that are not finite are left out.
        table: the columns; empty: "feature 1", …
        target_names: of several targets.
        examples: the files or rows that they come from.
    """
    title = "Largest errors"
    if y_true.ndim > 1 and y_true.shape[1] > 1:
        return _largest_of_several(features, y_true, y_pred, table, target_names, examples)
    truth, said = (np.asarray(values, np.float64).reshape(-1) for values in (y_true, y_pred))
    errors = said - truth
    usable = np.flatnonzero(np.isfinite(errors))
    if not len(usable):
        return note_figure(NO_PREDICTION, title)
    worst = usable[np.argsort(-np.abs(errors[usable]), kind="stable")][:15]
    cells = [(f"{truth[i]:.4g}", f"{said[i]:.4g}", f"{errors[i]:+.4g}") for i in worst]
    title = f"Largest errors ({len(worst)} of {len(usable)} examples)"
    if features.ndim > 2:
        captions = [
            [
                (f"true {true}", GREEN),
                (f"→ {guess}", ORANGE),
                (f"error {error}", INK),
                *_source(examples, row),
            ]
            for row, (true, guess, error) in zip(worst, cells, strict=True)
        ]
        return picture_grid(features[worst], captions, 5, title)
    bars = errors[worst]
    return rows_table(features[:], worst, ("true", "predicted", "error"), cells, title, table, bars)


def _largest_of_several(
    features: Examples,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    table: Sequence[Column],
    target_names: Sequence[str],
    examples: Sequence[str] | None,
) -> Figure:
    errors = y_pred.astype(np.float64) - y_true
    usable = np.flatnonzero(np.isfinite(errors).all(axis=1))
    if not len(usable):
        return note_figure(NO_PREDICTION, "Largest errors")
    deviation = y_true.std(axis=0)
    distances = np.abs(errors / np.where(deviation > 0, deviation, 1.0)).mean(axis=1)
    worst = usable[np.argsort(-distances[usable], kind="stable")][:15]
    counted = f"{len(worst)} of {len(usable)} examples"
    title = f"Largest errors ({counted}): true → predicted"
    pairs = [[f"{y_true[i, at]:.3g} → {y_pred[i, at]:.3g}" for at in range(y_true.shape[1])] for i in worst]
    if features.ndim > 2:
        captions = [
            [
                *_lines([f"{name} {pair}" for name, pair in zip(target_names, texts, strict=True)]),
                *_source(examples, row),
            ]
            for row, texts in zip(worst, pairs, strict=True)
        ]
        return picture_grid(features[worst], captions, 5, title)
    cells = [row[:_MOST_LINES] for row in pairs]
    return rows_table(features[:], worst, target_names[:_MOST_LINES], cells, title, table)
