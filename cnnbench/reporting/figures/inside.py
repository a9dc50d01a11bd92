"""The pictures of what happens inside a convolutional network: filters, feature maps, where it looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnnbench.reporting.figures.canvas import BLUE, CAPTION, GREY, INK, LABEL, Board
from cnnbench.reporting.figures.images import Line, tile_limits, tiles_of
from cnnbench.reporting.figures.lettering import lettering_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_MAPS = 64
MOST_STAGES, MAPS_PER_STAGE = 9, 5
_GAP, _TOP = 8, 84  # pixels: between tiles; title and a line below it


@dataclass(frozen=True)
class Stage:
    """The output of one layer for one example.

    Attributes:
        name: of the layer.
        text: what the layer does, in a few words.
        maps: ``(height, width, channels)``.
    """

    name: str
    text: str
    maps: np.ndarray


def feature_maps(image: np.ndarray, stage: Stage, note: str) -> Figure:
    """Show the input and up to 64 of a layer's feature maps, all on one scale of brightness.

    Args:
        image: ``(height, width, channels)``.
        stage: the layer and its output.
        note: a line below the title.
    """
    count = min(stage.maps.shape[2], MOST_MAPS)
    columns = 8 if count > 16 else 4
    side, box = _whole(stage.maps.shape, 76), _whole(image.shape, 180)
    rows = max(math.ceil(count / columns), math.ceil((box + 70) / side))
    left = 24 + box + 32
    width = max(left + columns * (side + _GAP) + 16, 720)
    board = Board(
        width, _TOP + rows * (side + _GAP + 2) + 34, f"{stage.name}: {stage.text}", lettering_for([note])
    )
    board.write(note, width / 2, 48, width - 24, colour=GREY)
    board.paste(tiles_of(image[None], box, tile_limits(image))[0], 24, _TOP, (box, box))
    board.write(f"input {_size(image.shape)}", 24 + box / 2, _TOP + box + 14, box, size=LABEL)
    _ramp(board, 24, _TOP + box + 42, box, *_scale(stage.maps))
    for index, tile in enumerate(_bright(stage.maps[..., :count], side)):
        row, column = divmod(index, columns)
        board.paste(tile, left + column * (side + _GAP), _TOP + row * (side + _GAP + 2), (side, side))
    shown = f"{count} of {stage.maps.shape[2]} feature maps" if count < stage.maps.shape[2] else ""
    board.write(shown, left + columns * (side + _GAP) / 2, _TOP + rows * (side + _GAP + 2) + 14, 400)
    return board.figure()


def layer_chain(
    image: np.ndarray, stages: Sequence[Stage], classifier: str, outputs: Sequence[tuple[str, float]]
) -> Figure:
    """Show one example on its way from the input through the layers to the classes.

    Args:
        image: ``(height, width, channels)``.
        stages: in the order of computation; where there are many, some are chosen evenly. The strongest
            maps of each are shown.
        classifier: the sizes of its layers, in a few words.
        outputs: names and probabilities, the highest first; none for a regression.
    """
    if len(stages) > MOST_STAGES:
        stages = [stages[i] for i in np.linspace(0, len(stages) - 1, MOST_STAGES).round().astype(int)]
    # Rounded down: nine columns of 64×64 pixels at twice their size would be too wide.
    longest = max(image.shape[:2])
    side = max(1, 96 // longest) * longest if longest <= 96 else 96
    step, top = max(side + 28, 110), 108
    classes = 190 if outputs else 0
    width = max(2 * 16 + (len(stages) + 1) * step + classes, 640)
    height = top + MAPS_PER_STAGE * (side + _GAP) + 20
    texts = [name for name, _ in outputs]
    board = Board(width, height, "Input → feature extractor → classifier → output", lettering_for(texts))
    middle = top + (MAPS_PER_STAGE * (side + _GAP) - side) // 2
    _column(board, "input", _size(image.shape), 16, side, step)
    board.paste(tiles_of(image[None], side, tile_limits(image))[0], 16, middle, (side, side))
    largest = max(stage.maps.shape[0] for stage in stages)
    for number, stage in enumerate(stages, start=1):
        left = 16 + number * step
        _column(board, stage.name, _size(stage.maps.shape), left, side, step)
        strongest = np.argsort(-np.abs(stage.maps).mean(axis=(0, 1)), kind="stable")[:MAPS_PER_STAGE]
        # Smaller maps are drawn smaller, so that pooling and strides show; by the root, so that 2×2 is seen.
        shown = max(24, round(side * math.sqrt(stage.maps.shape[0] / largest)))
        for row, tile in enumerate(_bright(stage.maps[..., strongest], shown, _scale(stage.maps))):
            board.paste(tile, left, top + row * (side + _GAP), (side, side))
    left = 16 + (len(stages) + 1) * step
    for row, (name, probability) in enumerate(outputs):
        y = middle - 40 + row * 36
        board.write(f"{name}  {probability:.1%}", left + 80, y, 170, colour=BLUE if row == 0 else INK)
        _bar(board, left, y + 10, max(1, round(160 * probability)))
    if outputs:
        _column(board, "classifier, output", classifier, left + 32, 96, classes)
    return board.figure()


def filters(kernels: np.ndarray, title: str, note: str) -> Figure:
    """Show weights as pictures: grey is 0, and all are on one scale.

    Args:
        kernels: ``(height, width, inputs, count)``; with 3 inputs in colour, else each input alone.
        title: the heading.
        note: a line below it.
    """
    height, width, inputs, count = kernels.shape
    tiles = kernels.transpose(3, 0, 1, 2)
    if inputs != 3:
        tiles = kernels.reshape(height, width, inputs * count).transpose(2, 0, 1)[..., None]
    total, tiles = len(tiles), tiles[:MOST_MAPS]
    # Not the largest weight: one outlier among thousands would make the others grey.
    reach = float(np.percentile(np.abs(tiles), 99.5)) or 1.0
    columns = 8
    side = max(64 // max(height, width), 1) * max(height, width) if max(height, width) <= 64 else 96
    rows = math.ceil(len(tiles) / columns)
    sheet = max(32 + columns * (side + _GAP), 640)
    board = Board(sheet, _TOP + rows * (side + _GAP) + 60, title, lettering_for([note]))
    board.write(note, sheet / 2, 48, sheet - 24, colour=GREY)
    left = (sheet - columns * (side + _GAP)) // 2
    drawn = tiles_of(np.clip((tiles / reach + 1) / 2, 0, 1).astype(np.float32), side, (0.0, 1.0))
    for index, tile in enumerate(drawn):
        row, column = divmod(index, columns)
        board.paste(tile, left + column * (side + _GAP), _TOP + row * (side + _GAP), (side, side))
    shown = f"{len(tiles)} of {total}; " if len(tiles) < total else ""
    foot = f"{shown}black {-reach:.2g}, grey 0, white {reach:.2g}"
    board.write(foot, sheet / 2, _TOP + rows * (side + _GAP) + 20, sheet - 24)
    return board.figure()


def class_activation_maps(
    images: np.ndarray, heat: np.ndarray, captions: Sequence[Sequence[Line]], title: str, note: str
) -> Figure:
    """Show each image beside itself under a heat map.

    Args:
        images: ``(n, height, width, channels)``.
        heat: ``(n, height, width)``, 0 to 1: how much speaks for the predicted class.
        captions: for each image its lines of text, each with a colour.
        title: the heading.
        note: a line below it.
    """
    side, between, below = _whole(images.shape[1:], 116), 4, 17 * len(captions[0]) + 14
    columns = 4 if len(images) > 6 else min(3, len(images))
    rows = math.ceil(len(images) / columns)
    step_x, step_y = 2 * side + between + 24, side + below + 10
    width = max(columns * step_x + 24, 600)
    lettering = lettering_for([note, *(text for lines in captions for text, _ in lines)])
    board = Board(width, _TOP + rows * step_y, title, lettering)
    board.write(note, width / 2, 48, width - 24, colour=GREY)
    plain = tiles_of(images, side, tile_limits(images))
    left = (width - columns * step_x + 24) // 2
    for index, tile in enumerate(plain):
        row, column = divmod(index, columns)
        x, y = left + column * step_x, _TOP + row * step_y
        board.paste(tile, x, y, (side, side))
        board.paste(_overlay(tile, heat[index]), x + side + between, y, (side, side))
        for number, (text, colour) in enumerate(captions[index]):
            board.write(text, x + side, y + side + 15 + 17 * number, 2 * side, colour=colour)
    return board.figure()


def _overlay(tile: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return the tile in grey, coloured where the heat is: the image's own colours would mix with it."""
    from PIL import Image

    rows, columns = tile.shape[:2]
    smooth = Image.fromarray(heat.astype(np.float32)).resize((columns, rows), Image.Resampling.BILINEAR)
    strength = np.clip(np.asarray(smooth), 0, 1)[..., None]
    grey = tile.mean(axis=2, keepdims=True) * 0.75 + 32
    mixed: np.ndarray = grey * (1 - 0.65 * strength) + 0.65 * strength * _colours(strength[..., 0])
    return mixed.astype(np.uint8)


def _colours(values: np.ndarray, name: str = "inferno") -> np.ndarray:
    """Return values 0…1 as RGB 0…255."""
    import matplotlib

    return np.asarray(matplotlib.colormaps[name](values)[..., :3] * 255)


def _scale(maps: np.ndarray) -> tuple[float, float]:
    """Return 0, or the least value where some are negative, and what all but a few stay below."""
    finite = maps[np.isfinite(maps)]
    if not finite.size:
        return 0.0, 1.0
    low, high = min(0.0, float(np.percentile(finite, 0.5))), float(np.percentile(finite, 99.5))
    return low, high if high > low else low + 1.0


def _bright(maps: np.ndarray, side: int, scale: tuple[float, float] | None = None) -> list[np.ndarray]:
    low, high = scale or _scale(maps)
    values = np.clip((np.nan_to_num(maps, nan=low).transpose(2, 0, 1) - low) / (high - low), 0, 1)
    return tiles_of(_colours(values).astype(np.uint8), side, (0.0, 255.0))


def _ramp(board: Board, x: int, y: int, width: int, low: float, high: float) -> None:
    ramp = _colours(np.tile(np.linspace(0, 1, width), (10, 1))).astype(np.uint8)
    board.paste(ramp, x, y, (10, width))
    board.write(f"{low:.3g}", x + 14, y + 22, 60)
    board.write(f"{high:.3g}", x + width - 14, y + 22, 60)


def _bar(board: Board, x: int, y: int, length: int) -> None:
    colour = np.array([int(BLUE[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)
    board.paste(np.tile(colour, (8, length, 1)), x, y, (8, length))


def _column(board: Board, name: str, size: str, left: int, side: int, step: int) -> None:
    middle, room = left + side / 2, step - 4
    start, rest = _two_lines(name)
    board.write(start, middle, 56, room, size=CAPTION, colour=BLUE)
    board.write(rest, middle, 71, room, size=CAPTION, colour=BLUE)
    board.write(size, middle, 88, room, size=CAPTION, colour=GREY)


def _two_lines(name: str) -> tuple[str, str]:
    """Cut a long layer name where its last part begins: `stage_1_block_2` and `conv_1`."""
    cut = name.rfind("_", 0, 17)
    return (name[:cut], name[cut + 1 :]) if len(name) > 16 and cut > 0 else (name, "")


def _whole(shape: Sequence[int], wanted: int) -> int:
    """Return about the wanted side, as a multiple of the picture's own, so that all pixels are alike."""
    longest = max(shape[:2])
    return longest * max(1, round(wanted / longest)) if longest < 1.5 * wanted else wanted


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
