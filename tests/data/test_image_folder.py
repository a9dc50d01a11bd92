"""Folders of images: what is read, what is refused, and the cache, on pictures made here."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

from cnnbench.config import composition
from cnnbench.config.signatures import UNKNOWN, signature
from cnnbench.data.dataset import Dataset, Rows, Split
from cnnbench.data.images import cache, decoding
from cnnbench.data.images.decoding import Recipe, UnreadableError, pillow_warnings
from cnnbench.data.images.folder import image_folder
from cnnbench.data.splits import leaks, with_validation
from cnnbench.errors import CnnbenchError
from cnnbench.system import files as files_module

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)
pytest_plugins = ["picture_folders"]
pytestmark = pytest.mark.usefixtures("own_cache")
DATASET_YAML = Path(__file__).parents[2] / "conf" / "dataset"


# ---------------------------------------------------------------- builders


def noise(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed)).save(path, "PNG")
    return path


def write_classes(root: Path, *, first_seed: int = 0, **counts: int) -> Path:
    """`write_classes(root, cats=3, dogs=2)`: so many different PNG files in each class folder."""
    seed = first_seed
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            write(root / name / f"{number}.png", seed)
            seed += 1
    return root


def write_rgb_png(path: Path, side: int, bits: int, row: bytes) -> None:
    """What Pillow does not write: 16 bits a channel, or a size that the pixels do not fill."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))


def load(root: Path | str, **arguments: Any) -> Dataset:
    return image_folder(str(root), **{"size": 8, **arguments})


def decode(path: Path, size: int | tuple[int, int] = 8, **recipe: Any) -> np.ndarray:
    height, width = (size, size) if isinstance(size, int) else size
    wanted = {"channels": 3, "resize": "stretch", "max_pixels": 10**8, **recipe}
    with pillow_warnings():
        return decoding.decode(path, Recipe(height, width, **wanted))[0]


def rows(split: Split) -> set[bytes]:
    return {np.asarray(split.x[i]).tobytes() for i in range(len(split))}


def cache_files(tmp_path: Path, ending: str) -> list[Path]:
    return sorted((tmp_path / "cache" / "images").glob(f"*{ending}"))


# ---------------------------------------------------------------- layouts and labels


def test_the_positive_class_comes_last_and_its_pictures_stay_its_own(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "two", cats=8, dogs=4)
    known = image_folder(str(root), cache_dir=str(tmp_path / "cache"))
    turned = image_folder(str(root), positive="cats", cache_dir=str(tmp_path / "cache"))
    assert turned.class_names == ("dogs", "cats")
    for name, split in turned.splits.items():
        assert split.y.tolist() == (1 - known.splits[name].y).tolist()
        assert (split.x[:] == known.splits[name].x[:]).all()
    for wrong, said in (("cat", "none of the two classes cats and dogs"), ("Dogs", "did you mean dogs")):
        with pytest.raises(CnnbenchError, match=said):
            image_folder(str(root), positive=wrong, cache_dir=str(tmp_path / "cache"))


def test_labels_are_the_sorted_folder_names_and_two_make_a_binary_task(tmp_path: Path) -> None:
    two = load(write_classes(tmp_path / "two", dogs=5, cats=5))
    assert (two.task, two.class_names, two.name) == ("binary", ("cats", "dogs"), "two")
    three = load(write_classes(tmp_path / "three", dogs=5, cats=5, birds=5))
    assert (three.task, three.class_names, three.outputs) == ("multiclass", ("birds", "cats", "dogs"), 3)
    assert three.train.y.dtype == np.int64


def test_each_image_has_the_label_of_its_folder(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for label, colour in enumerate([RED, WHITE]):
        for number in range(10):
            path = root / f"class_{label}" / "any" / "depth" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new("RGB", (8, 8), colour)
            picture.putpixel((0, 0), (number, 0, 0))
            picture.save(path)
    for split in load(root).splits.values():
        assert [int(image[4, 4, 1] == 255) for image in split.pieces(1) for image in image] == list(split.y)


def test_nothing_is_loaded_into_memory(tmp_path: Path) -> None:
    dataset = load(write_classes(tmp_path / "data", a=5, b=5), size=(6, 4))
    for split in dataset.splits.values():
        assert isinstance(split.x, Rows)
        assert isinstance(split.x.base, np.memmap)
        assert split.x.dtype == np.uint8
    assert dataset.input_shape == (6, 4, 3)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("training_set", "test_set"),
        ("training_set/training_set", "test_set/test_set"),
    ],
)
def test_train_and_test_folders_are_the_splits(tmp_path: Path, train: str, test: str) -> None:
    write_classes(tmp_path / "data" / train, cats=4, dogs=3)
    write_classes(tmp_path / "data" / test, cats=2, dogs=1, first_seed=100)
    dataset = load(tmp_path / "data")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 7, "test": 3}
    assert dataset.class_names == ("cats", "dogs")
    assert not dataset.notes


def test_a_validation_folder_is_the_validation_split(tmp_path: Path) -> None:
    for number, split in enumerate(["train", "valid", "test"]):
        write_classes(tmp_path / "data" / split, a=2, b=1, first_seed=10 * number)
    assert list(load(tmp_path / "data").splits) == ["train", "val", "test"]


def test_without_a_test_folder_the_test_split_comes_from_train(tmp_path: Path) -> None:
    write_classes(tmp_path / "data" / "train", a=10, b=10)
    write_classes(tmp_path / "data" / "val", a=2, b=2, first_seed=50)
    splits = load(tmp_path / "data").splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 16, "val": 4, "test": 4}


def test_the_test_folder_may_be_elsewhere(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", a=3, b=3)
    write_classes(tmp_path / "new", a=1, b=1, first_seed=50)
    dataset = load(tmp_path / "data", test_root=str(tmp_path / "new"))
    assert (len(dataset.train), len(dataset.test)) == (6, 2)


def test_two_places_for_the_test_split_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "data" / "train", a=3, b=3)
    write_classes(tmp_path / "data" / "test", a=1, b=1, first_seed=50)
    with pytest.raises(CnnbenchError, match="a test folder of its own"):
        load(tmp_path / "data", test_root=str(tmp_path / "data" / "test"))
    write_classes(tmp_path / "data" / "testing", a=1, b=1, first_seed=60)
    with pytest.raises(CnnbenchError, match="test and testing, both for test"):
        load(tmp_path / "data")


def test_train_may_be_a_class_of_vehicles(tmp_path: Path) -> None:
    assert load(write_classes(tmp_path / "data", train=5, car=5)).class_names == ("car", "train")


def test_a_folder_beside_train_and_test_is_named_in_the_notes(tmp_path: Path) -> None:
    for number, name in enumerate(["train", "test", "unlabelled"]):
        write_classes(tmp_path / "data" / name, a=2, b=2, first_seed=10 * number)
    dataset = load(tmp_path / "data")
    assert len(dataset.train) + len(dataset.test) == 8
    assert "unlabelled" in dataset.notes[0]


def test_a_relative_root_is_looked_for_in_the_working_folder_then_in_the_data_folders(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path / "there" / "pets", a=5, b=5)
    assert len(load("pets", data_dir=str(tmp_path / "there")).train) == 8
    monkeypatch.setenv("CNNBENCH_DATA", str(tmp_path / "there"))
    assert len(load("pets").train) == 8
    (tmp_path / "empty").mkdir()
    assert "not in data_dir" in load("pets", data_dir=str(tmp_path / "empty")).notes[0]
    write_classes(folder / "pets", a=10, b=10)
    assert len(load("pets").train) == 16


def test_names_are_unicode_of_any_form(tmp_path: Path) -> None:
    decomposed = "\u1100\u1169\u110b\u1163\u11bc\u110b\u1175"  # as macOS stores it
    write_classes(tmp_path / "data" / "train", **{decomposed: 3, "강아지 둘": 3})
    write_classes(tmp_path / "data" / "test", **{"고양이": 1, "강아지 둘": 1}, first_seed=50)
    write(tmp_path / "data" / "train" / decomposed / "사진 (2).JPG", 60)
    dataset = load(tmp_path / "data")
    assert dataset.class_names == ("강아지 둘", "고양이")
    assert len(dataset.train) == 7


# ---------------------------------------------------------------- odd files


def save_16_bit(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values.astype(np.uint16)).save(path)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257], [300, 25700, 32768, 65535]])
    save_16_bit(tmp_path / "a.png", values)
    assert decode(tmp_path / "a.png", (2, 4), channels=1)[..., 0].tolist() == [
        [0, 0, 1, 1],
        [1, 100, 128, 255],
    ]


def test_16_bit_colour_is_read(tmp_path: Path) -> None:
    write_rgb_png(tmp_path / "a.png", 1, 16, struct.pack(">HHH", 65535, 25700, 0))
    assert decode(tmp_path / "a.png", 1).tolist() == [[[255, 100, 0]]]


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (2, 1), (*RED, 255))
    rgba.putpixel((1, 0), (*RED, 0))
    rgba.save(tmp_path / "rgba.png")
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=1)
    palette.save(tmp_path / "alphas.png", transparency=bytes([255, 0]))
    palette.convert("RGB").save(tmp_path / "key.png", transparency=(0, 255, 0))
    for name in ("rgba", "palette", "alphas", "key"):
        assert decode(tmp_path / f"{name}.png", (1, 2)).tolist() == [[list(RED), list(WHITE)]], name


def test_cmyk_is_turned_into_colours(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert abs(decode(tmp_path / "a.jpg").astype(int) - RED).max() < 8


def test_of_a_moving_picture_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, WHITE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (decode(tmp_path / "a.gif") == RED).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_the_ending_of_the_name_means_nothing(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.jpg", kind)
    assert abs(decode(tmp_path / "a.jpg").astype(int) - RED).max() < 8


def test_grey_and_two_level_pictures_become_three_equal_channels(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    assert (decode(tmp_path / "grey.png") == 77).all()
    Image.new("1", (8, 8), 1).save(tmp_path / "two.png")
    assert (decode(tmp_path / "two.png") == 255).all()


def test_one_channel_is_luminance_also_of_a_palette(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8), RED).quantize(2).save(tmp_path / "p.png")
    for name in ("a", "p"):
        pixels = decode(tmp_path / f"{name}.png", channels=1)
        assert pixels.shape == (8, 8, 1)
        assert (pixels == 76).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_photographs_are_turned_as_their_exif_entry_asks(
    tmp_path: Path, orientation: int, ending: str
) -> None:
    upright = noise(0, 4, 6)
    held = Image.fromarray(upright)
    turn = Image.Transpose
    undo = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
            6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270}  # fmt: skip
    if orientation in undo:
        held = held.transpose(undo[orientation])
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    held.save(tmp_path / f"a.{ending}", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / f"a.{ending}", (4, 6)), upright)


def test_a_large_photograph_is_turned_too(tmp_path: Path) -> None:
    picture = Image.new("RGB", (640, 480), WHITE)
    picture.paste(BLACK, (0, 0, 320, 480))  # held to the right: its left is the top
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    pixels = decode(tmp_path / "a.jpg", 16)
    assert pixels[:6].max() < 16
    assert pixels[-6:].min() > 240


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\xff\xff\xff\xff\xff")
    assert decode(tmp_path / "a.jpg").shape == (8, 8, 3)


@pytest.mark.parametrize(("side", "left"), [(4096, 512), (1024, 256), (1000, 500), (500, 500), (40, 40)])
def test_a_large_jpeg_is_decoded_smaller_but_at_twice_the_wanted_size(
    tmp_path: Path, side: int, left: int
) -> None:
    Image.new("L", (side, side)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        decoding._decode_reduced(image, Recipe(128, 100, 3, "stretch", 10**8))
        assert image.size == (left, left)


def test_a_jpeg_with_too_many_pixels_is_decoded_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1200), RED).save(tmp_path / "a.jpg")
    for most in (1600 * 1200 - 1, 1600 * 1200 // 16):
        assert abs(decode(tmp_path / "a.jpg", 1000, max_pixels=most).astype(int) - RED).max() < 8
    with pytest.raises(UnreadableError, match="1600×1200 pixels are more than max_pixels=29999"):
        decode(tmp_path / "a.jpg", max_pixels=29999)  # an eighth of it each way is 30,000
    Image.new("RGB", (1600, 1200), RED).save(tmp_path / "p.jpg", progressive=True)
    with pytest.raises(UnreadableError, match="more than max_pixels"):  # takes the memory of all
        decode(tmp_path / "p.jpg", max_pixels=10**6)


def test_what_cannot_be_decoded_smaller_names_the_key_that_allows_it(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=5, dogs=5)
    Image.new("1", (1001, 1000)).save(root / "cats" / "large.png")
    line = load(root, max_pixels=10**6).notes[1]
    assert line.endswith("pixels are more than max_pixels=1000000; dataset.max_pixels=1001000 allows it")
    assert not load(root, max_pixels=1001000).notes


def test_more_pixels_than_pillow_allows_are_decoded_where_the_key_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # it warns from here, and refuses twice as many
    Image.new("RGB", (60, 50), RED).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png", max_pixels=3000) == RED).all()
    assert Image.MAX_IMAGE_PIXELS == 1000


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_heic_names_the_package_that_reads_it(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=5, dogs=5)
    (root / "cats" / "a.HEIC").write_bytes(HEIC)
    assert "pip install pillow-heif" in load(root).notes[1]


def test_with_its_package_heic_is_read_and_the_cache_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register() -> None:
        Image.register_open(
            "HEIF", lambda file, name: Image.new("RGB", (8, 8), RED), lambda start: start[4:12] == b"ftypheic"
        )

    root = write_classes(tmp_path / "data", cats=5, dogs=5)
    (root / "cats" / "a.HEIC").write_bytes(HEIC)
    assert load(root).notes
    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    decoding.formats.cache_clear()
    try:
        dataset = load(root)
    finally:
        decoding.formats.cache_clear()
        Image.OPEN.pop("HEIF")
        Image.ID.remove("HEIF")
    assert not dataset.notes
    assert len(dataset.train) + len(dataset.test) == 11


def test_stretch_crop_and_pad(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 20), WHITE)
    wide.paste(RED, (10, 0, 30, 20))
    wide.save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png", 20, resize="crop") == RED).all()
    stretched = decode(tmp_path / "a.png", 20, resize="stretch")
    assert stretched[10, [0, 10, -1]].tolist() == [list(WHITE), list(RED), list(WHITE)]
    padded = decode(tmp_path / "a.png", 20, resize="pad")
    assert padded[[0, 10, -1], 10].tolist() == [list(BLACK), list(RED), list(BLACK)]


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_extreme_shapes_keep_their_colour(tmp_path: Path, resize: str, shape: tuple[int, int]) -> None:
    Image.new("RGB", shape, RED).save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png", resize=resize)
    assert (pixels == RED).all(axis=2).any()


# ---------------------------------------------------------------- unreadable files


def truncated(path: Path) -> None:
    Image.fromarray(noise(0, 64, 64)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-500])


def bomb(path: Path) -> None:
    write_rgb_png(path, 60000, 8, b"")


def half_a_png(path: Path) -> None:
    Image.fromarray(noise(0, 64, 64)).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:4000])


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncated, "truncated"),
    "empty": (lambda path: path.write_bytes(b""), "empty file"),
    "text": (lambda path: path.write_text("no picture " * 50), "not an image"),
    "header": (lambda path: path.write_bytes(bytes.fromhex("ffd8ffe000104a46494600010100")), ""),
    "half_png": (half_a_png, ""),
    "bomb": (bomb, "bomb"),
    "large": (lambda path: Image.new("1", (1001, 1000)).save(path, "PNG"), "1001×1000 pixels"),
    "link": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "integers": (lambda path: Image.fromarray(np.full((2, 2), 70000, np.int32)).save(path, "TIFF"), "32-bit"),
    "floats": (lambda path: Image.fromarray(np.ones((2, 2), np.float32)).save(path, "TIFF"), "floating"),
    "script": (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not an"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_file_is_listed_with_its_reason_and_the_run_goes_on(tmp_path: Path, kind: str) -> None:
    make, reason = UNREADABLE[kind]
    root = write_classes(tmp_path / "data", cats=5, dogs=5)
    make(root / "cats" / "it is.jpg")
    dataset = load(root, max_pixels=10**6)
    assert len(dataset.train) + len(dataset.test) == 10
    heading, line = dataset.notes
    assert "1 of 11 files are not used" in heading
    assert line.startswith("cats/it is.jpg: ")
    assert reason in line
    assert "\n" not in line
    with pytest.raises(CnnbenchError, match=r"strict=true, and 1 file cannot be read: cats/it is\.jpg: ."):
        load(root, max_pixels=10**6, strict=True)


def test_hidden_pictures_are_listed_and_no_error_even_when_strict(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=5, dogs=5)
    (root / "cats" / "._1.jpg").write_bytes(b"\0\5\26\7")
    assert "cats/._1.jpg: hidden file" in load(root, strict=True).notes


def test_what_usually_lies_beside_pictures_is_passed_over(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=5, dogs=5)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "labels.CSV", "notes.txt", "1.json", "1.xml"):
        (root / "cats" / name).write_text("x")
        (root / name).write_text("x")
    for name in (".ipynb_checkpoints", "__MACOSX", ".git"):
        write_classes(root / name, cats=2)
        write_classes(root / "cats" / name, deep=2)
    dataset = load(root)
    assert dataset.class_names == ("cats", "dogs")
    assert len(dataset.train) + len(dataset.test) == 10
    assert dataset.notes == (
        f"{root}: 6 hidden or system folders are left out: .git (2), .ipynb_checkpoints (2), __MACOSX (2)",
    )


def test_pictures_in_no_class_folder_are_named_in_the_notes(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=5, dogs=5)
    write(root / "lost.png")
    assert "in no class folder: lost.png" in load(root).notes[0]


def test_the_notes_name_twenty_and_the_cache_all(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=5, dogs=5)
    for number in range(30):
        (root / "cats" / f"bad{number:02}.jpg").touch()
    notes = load(root).notes
    assert len(notes) == 22
    assert notes[-1].startswith("and 10 more, all listed in ")
    record = json.loads(Path(notes[-1].removeprefix("and 10 more, all listed in ")).read_text())
    assert record["skipped"]["cats/bad29.jpg"] == "empty file"
    assert len(record["skipped"]) == 30
    assert len(record["used"]["cats/0.png"]) == 64


def test_a_name_that_no_terminal_can_show_is_shown(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=5, dogs=5)
    try:
        (root / "cats" / "a\nb\udcff.jpg").touch()
    except OSError:
        pytest.skip("this file system refuses such names")
    assert "cats/a\\nb\\udcff.jpg: empty file" in load(root).notes
    assert load(root).notes  # also from the cache


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=5, dogs=5)
    write_classes(tmp_path / "else", more=3, first_seed=50)
    (root / "cats" / "circle").symlink_to(root / "cats")
    (root / "cats" / "more").symlink_to(tmp_path / "else" / "more")
    dataset = load(root)
    assert len(dataset.train) + len(dataset.test) == 13


# ---------------------------------------------------------------- refusals


def test_a_missing_folder_says_where_it_was_looked_for_and_what_is_expected(folder: Path) -> None:
    with pytest.raises(CnnbenchError, match="there is no such folder in") as caught:
        load("cats_and_dogs")
    assert str(folder) in caught.value.message
    assert "cats_and_dogs/CLASS/*.jpg" in caught.value.hint
    (folder / "archive.zip").touch()
    with pytest.raises(CnnbenchError, match="is a file, not a folder"):
        load("archive.zip")


def test_an_empty_folder_and_a_single_class_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(CnnbenchError, match="has no class folders"):
        load(tmp_path / "data")
    write(tmp_path / "data" / "lost.png")
    with pytest.raises(CnnbenchError, match=r"has no class folders, and lost\.png"):
        load(tmp_path / "data")
    write_classes(tmp_path / "data", cats=3)
    with pytest.raises(CnnbenchError, match="has one class folder, cats"):
        load(tmp_path / "data")


def test_a_class_without_readable_images_is_refused_with_the_reasons(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=5, dogs=0)
    with pytest.raises(CnnbenchError, match="class dogs has no images in train"):
        load(root)
    for name in ("a.jpg", "b.jpg"):
        (root / "dogs" / name).touch()
    with pytest.raises(CnnbenchError, match=r"dogs has no readable images .*dogs/a\.jpg: empty file"):
        load(root)
    for path in (root / "cats").glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(CnnbenchError, match="class cats has no readable images"):
        load(root)


def test_other_classes_in_test_than_in_train_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "data" / "train", cats=3, dogs=3)
    write_classes(tmp_path / "data" / "test", Cats=1, dogs=1, first_seed=50)
    with pytest.raises(CnnbenchError, match="lacks cats and has also Cats"):
        load(tmp_path / "data")


def test_one_content_in_train_and_test_is_refused_under_whatever_name(tmp_path: Path) -> None:
    write_classes(tmp_path / "data" / "train", cats=3, dogs=3)
    write_classes(tmp_path / "data" / "test", cats=1, dogs=1, first_seed=50)
    write(tmp_path / "data" / "test" / "dogs" / "same.jpg", seed=1)
    with pytest.raises(CnnbenchError, match=r"train/cats/1\.png = test/dogs/same\.jpg") as caught:
        load(tmp_path / "data")
    assert "remove" in caught.value.hint


@pytest.mark.parametrize("ending", ["bmp", "tif", "webp", "ppm"])
def test_equal_pixels_are_found_in_whatever_format_they_are_stored(tmp_path: Path, ending: str) -> None:
    root = write_classes(tmp_path / "data" / "train", cats=8, dogs=8).parent
    write_classes(root / "test", cats=1, dogs=1, first_seed=50)
    Image.fromarray(noise(1)).save(root / "test" / "cats" / f"again.{ending}", lossless=True)
    with pytest.raises(
        CnnbenchError, match=rf"pixel for pixel: train/cats/1\.png = test/cats/again\.{ending}"
    ):
        load(root)
    copied = write_classes(tmp_path / "copied", cats=8, dogs=8)
    Image.fromarray(noise(1)).save(copied / "dogs" / f"again.{ending}", lossless=True)
    one, two = load(copied).notes
    assert "1 images are copies of others, pixel for pixel: cats/1.png = dogs/again" in one
    assert "in more than one class" in two


def test_a_turned_copy_and_one_with_other_metadata_are_equal_too(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=8, dogs=8)
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    Image.fromarray(noise(1)).transpose(Image.Transpose.ROTATE_90).save(root / "cats" / "t.png", exif=exif)
    picture = Image.fromarray(noise(99, 40, 40))
    picture.save(root / "dogs" / "x.jpg")
    picture.save(root / "dogs" / "y.jpg", comment="edited", dpi=(72, 72))
    assert "2 images are copies of others" in load(root).notes[0]


def test_train_as_its_own_test_folder_is_refused(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", cats=3, dogs=3)
    with pytest.raises(CnnbenchError, match="test shares 6 images with train"):
        load(root, test_root=str(root))


def test_too_few_images_for_a_test_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CnnbenchError, match=r"test_fraction=0\.2 of 9 .* b has 1"):
        load(write_classes(tmp_path / "one", a=8, b=1))
    with pytest.raises(CnnbenchError, match="leaves a class without one"):
        load(write_classes(tmp_path / "small", a=3, b=3), test_fraction=0.01)


# ---------------------------------------------------------------- the test split


def test_the_test_split_is_in_proportion_and_decided_by_the_seed(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", a=40, b=20)
    one, again, other = load(root), load(root), load(root, split_seed=1)
    assert np.bincount(one.test.y).tolist() == [8, 4]
    assert np.bincount(one.train.y).tolist() == [32, 16]
    assert rows(one.test) == rows(again.test) != rows(other.test)
    assert not rows(one.train) & rows(one.test)
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_copies_stay_together_and_are_noted(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", a=20, b=20)
    for number in range(20):
        write(root / "a" / f"copy {number}.png", seed=number)
    dataset = load(root)
    assert len(dataset.train) + len(dataset.test) == 60
    assert not rows(dataset.train) & rows(dataset.test)
    assert "20 images are copies of others" in dataset.notes[0]
    write(root / "b" / "torn.png", seed=3)
    torn = load(root)
    assert "1 images are in more than one class: a/3.png = a/copy 3.png = b/torn.png" in torn.notes[1]
    assert leaks(torn) == []  # not a second time, without the names


# ---------------------------------------------------------------- the cache


def test_the_second_time_nothing_is_decoded(tmp_path: Path, decoded: list[str]) -> None:
    root = write_classes(tmp_path / "data", a=5, b=5)
    first = load(root)
    assert len(decoded) == 10
    second = load(root)
    assert len(decoded) == 10
    assert first.fingerprint == second.fingerprint


def test_the_test_split_and_the_seed_do_not_decode_again(tmp_path: Path, decoded: list[str]) -> None:
    root = write_classes(tmp_path / "data", a=5, b=5)
    load(root)
    load(root, split_seed=1, test_fraction=0.4, strict=True)
    assert len(decoded) == 10


@pytest.mark.parametrize(
    "change",
    [{"size": 9}, {"size": (8, 9)}, {"channels": 1}, {"resize": "pad"}, {"max_pixels": 100}],
    ids=str,
)
def test_another_recipe_is_another_cache(tmp_path: Path, decoded: list[str], change: dict[str, Any]) -> None:
    root = write_classes(tmp_path / "data", a=5, b=5)
    load(root)
    assert load(root, **change).input_shape == (
        {"size": (8, 8), **change} and load(root, **change).input_shape
    )
    assert len(decoded) == 20
    load(root)
    assert len(decoded) == 20


@pytest.mark.parametrize("change", ["content", "time", "name", "more", "fewer"])
def test_a_changed_folder_is_decoded_again(tmp_path: Path, decoded: list[str], change: str) -> None:
    root = write_classes(tmp_path / "data", a=5, b=5)
    load(root)
    path = root / "a" / "0.png"
    if change == "content":
        status = path.stat()
        Image.fromarray(noise(77, 20, 20)).save(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "name":
        path.rename(path.with_name("z.png"))
    elif change == "more":
        write(root / "a" / "5.png", seed=77)
    else:
        path.unlink()
    load(root)
    assert len(decoded) == 10 + {"more": 11, "fewer": 9}.get(change, 10)


def labelled(dataset: Dataset) -> dict[bytes, int]:
    """The label of each picture, by its pixels."""
    return {
        np.asarray(split.x[row]).tobytes(): int(split.y[row])
        for split in dataset.splits.values()
        for row in range(len(split))
    }


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)), folders=st.booleans(), rewritten=st.booleans())
def test_renamed_swapped_and_overwritten_pictures_keep_their_own_labels(
    order: list[int], folders: bool, rewritten: bool
) -> None:
    names = [f"{'ab'[number % 2]}/{number}.bmp" for number in range(12)]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "data"
        for number, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(number)).save(root / name)
            os.utime(root / name, (1e9, 1e9))  # sizes and times tell nothing
        load(root, cache_dir=place)
        contents = [(root / name).read_bytes() for name in names]
        for number, name in enumerate(names):
            (root / name).rename(root / f"{number}.was")
        for number, new in enumerate(order):
            path = (root / f"{number}.was").rename(root / names[new])
            if rewritten:
                path.write_bytes(contents[number])
                os.utime(path, (1e9, 1e9))
        if folders:
            (root / "a").rename(root / "c")
            (root / "b").rename(root / "a")
            (root / "c").rename(root / "b")
        expected = {noise(number).tobytes(): (new % 2) ^ folders for number, new in enumerate(order)}
        assert labelled(load(root, cache_dir=place)) == expected


def test_a_picture_overwritten_in_place_with_its_time_kept_is_read_anew(
    tmp_path: Path, decoded: list[str]
) -> None:
    root = write_classes(tmp_path / "data", a=5, b=5)
    path = root / "a" / "0.bmp"
    Image.fromarray(noise(70)).save(path)
    load(root)
    status = path.stat()
    Image.fromarray(noise(71)).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert noise(71).tobytes() in labelled(load(root))
    assert len(decoded) == 22


def test_moving_the_folder_or_mending_a_sidecar_decodes_nothing(tmp_path: Path, decoded: list[str]) -> None:
    root = write_classes(tmp_path / "data", a=5, b=5)
    load(root)
    (root / "a" / "labels.csv").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    load(root.rename(tmp_path / "elsewhere" / "data"))
    assert len(decoded) == 10


def test_what_could_not_be_opened_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_classes(tmp_path / "data", a=5, b=5)

    def refuse(path: Path, recipe: Recipe) -> tuple[np.ndarray, int | None]:
        if path.name == "0.png":
            raise UnreadableError("cannot be opened: Permission denied", may_pass=True)
        return real(path, recipe)

    real = decoding.decode
    with monkeypatch.context() as patched:
        patched.setattr(decoding, "decode", refuse)
        assert len(load(root).notes) == 3
    assert not load(root).notes


def spoil_npy(npy: Path, record: Path) -> None:
    npy.write_bytes(npy.read_bytes()[:-1])


def spoil_header(npy: Path, record: Path) -> None:
    npy.write_bytes(b"x" * npy.stat().st_size)


def spoil_record(npy: Path, record: Path) -> None:
    record.write_text(record.read_text()[:-50])


def spoil_meaning(npy: Path, record: Path) -> None:
    record.write_text("[]")


def swap_names(npy: Path, record: Path) -> None:
    record.write_text(record.read_text().replace("a/0.png", "a/other.png"))


def lose_npy(npy: Path, record: Path) -> None:
    npy.unlink()


def lose_record(npy: Path, record: Path) -> None:
    record.unlink()


@pytest.mark.parametrize(
    "spoil", [spoil_npy, spoil_header, spoil_record, spoil_meaning, swap_names, lose_npy, lose_record]
)
def test_a_damaged_cache_is_made_anew(
    tmp_path: Path, decoded: list[str], spoil: Callable[[Path, Path], None]
) -> None:
    root = write_classes(tmp_path / "data", a=5, b=5)
    whole = load(root).fingerprint
    spoil(*cache_files(tmp_path, ".npy"), *cache_files(tmp_path, ".json"))
    assert load(root).fingerprint == whole
    assert len(decoded) == 20
    load(root)
    assert len(decoded) == 20


def test_the_cache_is_an_ordinary_npy_file_of_the_readable_images(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", a=60, b=60)
    for number in range(40):  # the header shrinks from three digits to two
        (root / "a" / f"{number}.png").write_bytes(b"")
    load(root)
    (path,) = cache_files(tmp_path, ".npy")
    pixels = np.load(path)
    assert pixels.shape == (80, 8, 8, 3)
    np.testing.assert_array_equal(pixels[20], noise(60))
    np.testing.assert_array_equal(pixels[-1], decode(root / "b" / "9.png"))


SLOW_LOAD = """
import sys, os
from pathlib import Path
from cnnbench.data.images import decoding
from cnnbench.data.images.folder import image_folder
root, journal, crash_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
real = decoding.decode
def decode(path, recipe):
    with open(journal, "a") as file:
        file.write(f"{os.getpid()}\\n")
    if crash_at and len(Path(journal).read_text().split()) > crash_at:
        os._exit(9)  # like a kill: nothing is tidied up
    return [real(path, recipe) for _ in range(50)][0]  # slowly, so that two processes meet
decoding.decode = decode
print(image_folder(root, size=8).fingerprint)
assert not {"tensorflow", "keras", "hydra", "omegaconf"} & set(sys.modules)
"""


def start(root: Path, journal: Path, crash_at: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", SLOW_LOAD, str(root), str(journal), str(crash_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_two_processes_one_decodes_and_both_succeed_without_tensorflow(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", a=40, b=40)
    journal = tmp_path / "journal"
    processes = [start(root, journal) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert len({out for out, _ in ends}) == 1
    lines = journal.read_text().split()
    assert len(lines) == 80
    assert len(set(lines)) == 1


def test_a_killed_process_leaves_nothing_that_passes_for_a_cache(tmp_path: Path, decoded: list[str]) -> None:
    root = write_classes(tmp_path / "data", a=40, b=40)
    process = start(root, tmp_path / "journal", crash_at=60)
    process.communicate(timeout=120)
    assert process.returncode == 9
    assert cache_files(tmp_path, ".tmp")
    assert not cache_files(tmp_path, ".npy")
    dataset = load(root)
    assert len(decoded) == 80
    assert len(dataset.train) + len(dataset.test) == 80
    assert not cache_files(tmp_path, ".tmp")


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    root = write_classes(tmp_path / "data", a=5, b=5)
    with monkeypatch.context() as patched:
        patched.setattr(cache.os, "fsync", full)
        with pytest.raises(CnnbenchError, match="No space left") as caught:
            load(root, cache_dir=str(tmp_path / "cache"))
    assert "CNNBENCH_CACHE" in caught.value.hint
    assert [path.suffix for path in cache_files(tmp_path, "")] == [".lock"]
    assert load(root)


@pytest.mark.parametrize("failing", [".npy", ".json"])
def test_a_disk_that_is_full_in_the_middle_leaves_neither_pixels_nor_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    class Full:
        def __init__(self, out: Any) -> None:
            self.out, self.left = out, 300  # bytes: the header and a bit more

        def write(self, data: Any) -> int:
            self.left -= memoryview(data).nbytes
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self.out.write(data))

        def seek(self, place: int) -> int:
            return int(self.out.seek(place))

    def replace(path: Path, write: Callable[[Any], object]) -> None:
        real(path, (lambda out: write(Full(out))) if path.suffix == failing else write)

    root, real = write_classes(tmp_path / "data", a=5, b=5), cache.replace
    with monkeypatch.context() as patched:
        patched.setattr(cache, "replace", replace)
        with pytest.raises(CnnbenchError, match=r"cache/images: No space left"):
            load(root, cache_dir=str(tmp_path / "cache"))
    assert [path.suffix for path in cache_files(tmp_path, "")] == [".lock"]
    assert load(root)


def test_a_cache_that_is_cut_while_it_is_read_is_an_error_and_no_dead_process(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", a=200, b=200)
    code = f"""if True:
        import os
        from pathlib import Path
        from cnnbench.data.images.folder import image_folder
        dataset = image_folder({str(root)!r}, size=32)
        (path,) = Path({str(tmp_path)!r}, "cache", "images").glob("*.npy")
        os.truncate(path, 5000)
        dataset.train.x[300:320]
    """
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended  # and not killed by SIGBUS
    assert "CnnbenchError" in ended.stderr
    assert ".npy has been cut to 5,000 bytes" in ended.stderr
    assert len(load(root, size=32).train) == 320  # made anew


def test_a_cache_that_is_deleted_while_it_is_read_goes_on_being_read(tmp_path: Path) -> None:
    dataset = load(write_classes(tmp_path / "data", a=5, b=5))
    before = dataset.fingerprint
    for path in cache_files(tmp_path, ""):
        path.unlink()
    assert Dataset(dataset.name, dataset.task, dataset.train, dataset.test,
                   class_names=dataset.class_names).fingerprint == before  # fmt: skip


def test_images_that_vanish_after_they_were_listed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_classes(tmp_path / "data", a=6, b=6)
    real = cache.load

    def lose(files: Any, *arguments: Any) -> cache.Images:
        (root / "a" / "3.png").unlink(missing_ok=True)
        return real(files, *arguments)

    monkeypatch.setattr(cache, "load", lose)
    assert load(root).notes[1] == "a/3.png: cannot be opened: No such file or directory"


def test_copies_lie_on_one_side_of_the_validation_split(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", a=20, b=20)
    for number in range(20):
        write(root / "a" / f"copy {number}.png", seed=number)
    dataset = with_validation(load(root), 0.5, None, seed=0)
    assert leaks(dataset) == []
    assert "were moved to where their equals are" in dataset.notes[-2]


# ---------------------------------------------------------------- groups


def write_patients(root: Path, patients: int = 6, each: int = 4) -> Path:
    """Cats and dogs, of which each patient has one class: `cats/patient3_1.png`."""
    for patient in range(2 * patients):
        for number in range(each):
            name = f"patient{patient}_{number}.png"
            write(root / ("cats" if patient % 2 else "dogs") / name, 100 * patient + number)
    return root


def test_pictures_of_a_group_lie_in_one_split(tmp_path: Path) -> None:
    root = write_patients(tmp_path / "data")
    dataset = load(root, group=r"(patient\d+)_")
    made = with_validation(dataset, 0.2, None, seed=0)
    groups = [set(split.groups) for split in made.splits.values()]  # type: ignore[arg-type]
    assert sorted(len(one) for one in groups) == [2, 2, 8]
    assert len(set.union(*groups)) == 12
    assert "2 of 12 groups held out for test, whole" in made.notes[0]
    assert "of 8 + 2 + 2 groups: cats 16 + 4 + 4; dogs 16 + 4 + 4" in made.notes[1]


def test_a_group_may_be_the_folder_below_the_class(tmp_path: Path) -> None:
    for camera in range(8):
        for number in range(3):
            name = f"camera{camera}/{number}.png"
            write(tmp_path / "data" / ("a" if camera % 2 else "b") / name, 10 * camera + number)
    whole = load(tmp_path / "data", group="folder")
    by_expression = load(tmp_path / "data", group=r"camera\d")
    for one in (whole, by_expression):
        assert one.train.groups is not None
        assert [*np.bincount(one.train.groups)].count(3) == 6


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("(patient", "is no regular expression"),
        (r"(camera\d)", "is not found in cats/patient11_0.png, nor in 47 other names"),
        (r"(patient1_|patient)", "dogs is in 1"),
    ],
)
def test_a_wrong_group_is_refused_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, said: str
) -> None:
    monkeypatch.delattr(cache, "load")
    with pytest.raises(CnnbenchError, match=re.escape(said)):
        load(write_patients(tmp_path / "data"), group=group)


def test_a_class_with_too_few_files_is_named_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cache, "load")
    with pytest.raises(CnnbenchError, match=r"of 9 images leaves a class without one .* dogs has 1"):
        load(write_classes(tmp_path / "data", cats=8, dogs=1))


def test_a_group_in_train_and_test_folders_is_refused(tmp_path: Path) -> None:
    write_patients(tmp_path / "data" / "train")
    write_patients(tmp_path / "data" / "test", patients=1, each=2)
    with pytest.raises(CnnbenchError, match="2 groups are in train and in test: patient0, patient1"):
        load(tmp_path / "data", group=r"(patient\d+)")


def test_a_cache_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CnnbenchError, match="cannot be kept in"):
        load(write_classes(tmp_path / "data", a=5, b=5), cache_dir=str(tmp_path / "file"))


@pytest.mark.parametrize("home", ["a file", "full"])
def test_without_a_cache_the_images_are_the_same(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_classes(tmp_path / "data", a=5, b=5)
    (root / "a" / "broken.png").write_bytes(b"no picture")
    kept = load(root, test_fraction=0.3)
    monkeypatch.setattr(files_module, "_warned", set())
    (tmp_path / "file").touch()
    if home == "a file":
        monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "file" / "cache"))
    else:
        monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "other"))

        def fail(path: Path, write: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(cache, "replace", fail)
    found = load(root, test_fraction=0.3)
    assert found.fingerprint == kept.fingerprint
    for name, split in kept.splits.items():
        np.testing.assert_array_equal(found.splits[name].x, split.x)
        np.testing.assert_array_equal(found.splits[name].y, split.y)
    load(root, test_fraction=0.3)
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith("going on without a cache")


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files_module.default_cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("CNNBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert files_module.default_cache_dir() == tmp_path / "xdg" / "cnnbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files_module.default_cache_dir() == Path.home() / ".cache" / "cnnbench"


# ---------------------------------------------------------------- the config


@pytest.mark.parametrize("name", ["image_folder", "cats_and_dogs"])
def test_yaml_names_every_argument_with_a_valid_value(name: str) -> None:
    text = (DATASET_YAML / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert len(text.splitlines()[0]) <= 100
    arguments = {
        key: value
        for key, value in yaml.safe_load(text).items()
        if key not in ("_target_", "task", "defaults")
    }
    hints = {k: v for k, v in get_type_hints(image_folder, include_extras=True).items() if k != "return"}
    assert arguments.keys() == hints.keys() if name == "image_folder" else arguments.keys() < hints.keys()
    assert arguments.pop("size") == "auto"  # that of the backbone, settled when a run is composed
    for key, value in arguments.items():
        TypeAdapter(hints[key]).validate_python(value)


def test_every_type_is_known_to_the_check_of_the_config() -> None:
    parameters = signature("cnnbench.data.images.folder.image_folder").parameters
    assert not [name for name, parameter in parameters.items() if parameter.annotation is UNKNOWN]


def spec(*overrides: str) -> Any:
    cfg = composition.compose(overrides)
    return composition.run_spec(cfg, cfg.hydra.runtime.choices, overrides)


@pytest.mark.parametrize("wrong", ["size=[8,x]", "size=0", "channels=2", "resize=fit", "test_fraction=1"])
def test_a_wrong_value_is_refused_before_anything_is_read(wrong: str) -> None:
    with pytest.raises(CnnbenchError, match=f"dataset.{wrong.partition('=')[0]}"):
        spec("dataset=cats_and_dogs", f"dataset.{wrong}")


def test_the_command_line_reaches_the_folder(tmp_path: Path, folder: Path) -> None:
    write_classes(folder / "cats_and_dogs" / "training_set", cats=3, dogs=3)
    write_classes(folder / "cats_and_dogs" / "test_set", cats=1, dogs=1, first_seed=50)
    assert spec("dataset=cats_and_dogs", "dataset.size=[6,4]").dataset().input_shape == (6, 4, 3)
    mine = spec("dataset=image_folder", "dataset.root=cats_and_dogs", "dataset.channels=1").dataset()
    assert mine.input_shape == (128, 128, 1)


# ---------------------------------------------------------------- real files


def real_folder(name: str) -> Path:
    path = Path(os.environ.get("CNNBENCH_DATA", "")) / name
    if "CNNBENCH_DATA" not in os.environ or not path.is_dir():
        pytest.skip(f"no {name} in CNNBENCH_DATA")
    return path


@pytest.mark.real_data
def test_cats_and_dogs() -> None:
    real_folder("cats_and_dogs")
    dataset = image_folder("cats_and_dogs", size=32, strict=True)
    assert (len(dataset.train), len(dataset.test), dataset.task) == (1000, 200, "binary")
    assert np.bincount(dataset.test.y).tolist() == [100, 100]
    assert not dataset.notes


@pytest.mark.real_data
def test_of_the_broken_images_every_readable_one_is_used() -> None:
    dataset = image_folder(str(real_folder("broken_images")), size=32)
    assert len(dataset.train) + len(dataset.test) == 17
    assert "2 images have 16 bits a value" in dataset.notes[0]
    unused = {line.partition(":")[0] for line in dataset.notes[2:]}
    assert unused == {
        "cats/text_inside.jpg",
        "cats/truncated_half.jpg",
        "cats/zero_bytes.jpg",
        "dogs/._dog.1.jpg",
        "dogs/header_only.jpg",
    }
