"""Pictures with 16 bits a value: one white for a whole set, which the run keeps."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnbench.data.dataset import Dataset
from cnnbench.data.images import decoding
from cnnbench.data.images.decoding import Recipe, UnreadableError
from cnnbench.data.images.folder import image_folder

pytest_plugins = ["picture_folders"]
pytestmark = pytest.mark.usefixtures("own_cache")


def save_png(path: Path, values: np.ndarray) -> None:
    """16 bits a value, grey or colour, with alpha or without: more than Pillow writes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    values = values[..., None] if values.ndim == 2 else values
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def save_tiff(path: Path, colours: np.ndarray, order: str) -> None:
    """Uncompressed, in either order of bytes."""
    height, width, channels = colours.shape
    tags = [(256, 3, width), (257, 3, height), (259, 3, 1), (262, 3, 2), (273, 4, 0), (277, 3, channels),
            (278, 3, height), (279, 4, colours.size * 2)]  # fmt: skip
    beyond = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = [struct.pack(order + "HHII", 258, 3, channels, beyond)]
    for tag, kind, value in tags:
        value = beyond + 2 * channels if tag == 273 else value
        entries.append(
            struct.pack(order + ("HHIHH" if kind == 3 else "HHII"), tag, kind, 1, value, *[0] * (kind == 3))
        )
    entries.sort(key=lambda entry: struct.unpack(order + "H", entry[:2]))
    path.write_bytes(
        (b"II" if order == "<" else b"MM")
        + struct.pack(order + "HIH", 42, 8, len(entries))
        + b"".join(entries)
        + struct.pack(order + "I", 0)
        + struct.pack(order + "H" * channels, *[16] * channels)
        + colours.astype(order + "u2").tobytes()
    )


def decode(path: Path, shape: tuple[int, ...], bits: Any = None) -> tuple[np.ndarray, int | None]:
    return decoding.decode(
        path, Recipe(*shape[:2], shape[2] if len(shape) > 2 else 1, "stretch", 10**6, bits)
    )


def load(root: Path, **arguments: Any) -> Dataset:
    return image_folder(str(root), **{"size": 4, "channels": 1, **arguments})


def pixels(dataset: Dataset) -> np.ndarray:
    return np.concatenate([split.x[:] for split in dataset.splits.values()])


def write_classes(root: Path, brightest: int, count: int = 6, first: int = 0) -> None:
    """Pictures in two classes, of which one reaches the brightest value."""
    rng = np.random.default_rng([brightest, first])
    for number in range(2 * count):
        values = rng.integers(0, brightest // 2 + 1, (4, 4))
        values[0, 0] = brightest if number == 0 else values[0, 0]
        save_png(root / "ab"[number % 2] / f"{first}_{number}.png", values)


@settings(max_examples=25, deadline=None)
@given(brightest=st.integers(60, 65535))
def test_the_brightest_of_all_decides_the_bits(brightest: int) -> None:
    bits = next(bits for bits in (8, 10, 12, 14, 16) if brightest < 2**bits)
    with tempfile.TemporaryDirectory() as place:
        write_classes(Path(place) / "data", brightest)
        dataset = load(Path(place) / "data", cache_dir=place)
        again = load(Path(place) / "data", cache_dir=place)
    assert dataset.bits == again.bits == bits
    assert dataset.fingerprint == again.fingerprint
    assert pixels(dataset).max() == round(brightest * 255 / (2**bits - 1))
    assert f"taken as {bits} bits, {2**bits - 1} is white" in dataset.notes[0]


@settings(max_examples=25, deadline=None)
@given(
    bits=st.sampled_from([8, 10, 12, 14, 16]),
    kind=st.sampled_from(["png", "<", ">"]),
    channels=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_every_value_is_scaled_to_the_nearest(bits: int, kind: str, channels: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 2**bits, (5, 7, channels))
    colours = values[..., :1] if channels < 3 else values[..., :3]
    if channels in (2, 4):
        values[..., -1] = 65535  # opaque
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a"
        if kind == "png" or channels < 3:
            save_png(path, values)
        else:
            save_tiff(path, colours, kind)
        found, brightest = decode(path, colours.shape, bits)
    np.testing.assert_array_equal(found, np.floor(colours * 255 / (2**bits - 1) + 0.5))
    assert brightest == colours.max()


def test_transparent_parts_of_16_bits_are_white(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", np.array([[[0, 0, 0, 0], [0, 0, 0, 65535]]]))
    assert decode(tmp_path / "a.png", (1, 2, 3))[0][0, :, 0].tolist() == [255, 0]


def test_one_white_for_all_splits(tmp_path: Path) -> None:
    write_classes(tmp_path / "data" / "train", 4000)
    write_classes(tmp_path / "data" / "test", 900, first=1)
    dataset = load(tmp_path / "data")
    assert dataset.bits == 12
    assert dataset.test.x[:].max() == round(900 * 255 / 4095)
    assert "24 images have 16 bits a value, 4000 at most" in dataset.notes[0]


def test_pictures_of_8_bits_stay_as_they_are_among_others(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", 4000)
    Image.fromarray(np.full((4, 4), 251, np.uint8)).save(tmp_path / "data" / "a" / "bright.png")
    dataset = load(tmp_path / "data")
    assert sorted(set(pixels(dataset).max(axis=(1, 2, 3)).tolist()))[-1] == 251
    assert "1 have 8 bits, 255 is white" in dataset.notes[0]
    for path in (tmp_path / "data").rglob("*_*.png"):
        if not path.stem.endswith(("_0", "_1")):
            path.unlink()
    for number in range(20):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(
            tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        )
    assert load(tmp_path / "data").bits == 12
    for path in (tmp_path / "data").rglob("*_*.png"):
        path.unlink()
    plain = load(tmp_path / "data")
    assert plain.bits is None
    assert not plain.notes


def test_bits_may_be_given(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", 500)
    assert pixels(load(tmp_path / "data", bits=16)).max() == round(500 / 257)
    assert load(tmp_path / "data", bits=12).bits == 12
    dark = load(tmp_path / "data", bits=8)
    assert "has values up to 500, but with bits=8 white is 255" in "\n".join(dark.notes)


def test_only_pictures_of_16_bits_are_decoded_twice(tmp_path: Path, decoded: list[str]) -> None:
    write_classes(tmp_path / "data", 900)
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(tmp_path / "data" / "a" / "plain.png")
    load(tmp_path / "data")
    load(tmp_path / "data")
    load(tmp_path / "data", bits=10)
    assert (len(decoded), decoded.count("plain.png")) == (25, 1)
    assert len(list((tmp_path / "cache" / "images").glob("*.npy"))) == 1


def test_a_picture_that_changes_between_the_two_times_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = decoding.decode

    def decode(path: Path, recipe: Recipe) -> tuple[np.ndarray, int | None]:
        if recipe.bits is not None:
            raise UnreadableError("cannot be opened: No such file or directory")
        return real(path, recipe)

    monkeypatch.setattr(decoding, "decode", decode)
    write_classes(tmp_path / "data", 900)
    with pytest.raises(Exception, match="has changed while it was read"):
        load(tmp_path / "data")
    assert not list((tmp_path / "cache" / "images").glob("*.npy"))


def test_a_run_keeps_the_bits_for_one_picture_alone(run_cli: Any, tmp_path: Path) -> None:
    write_classes(tmp_path / "data", 4000, count=20)
    run_dir = tmp_path / "run"
    ran = run_cli(
        "dataset=image_folder", f"dataset.root={tmp_path / 'data'}", "dataset.size=4", "dataset.channels=1",
        "model=mlp", "training=smoke", "device=cpu", f"run_dir={run_dir}",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.err
    shown = []
    dark = np.full((4, 4), 600)
    save_png(tmp_path / "dark.png", dark)
    Image.fromarray(np.full((4, 4), round(600 * 255 / 4095), np.uint8)).save(tmp_path / "same.png")
    for name in ("dark", "same"):
        done = run_cli("predict", str(run_dir), str(tmp_path / f"{name}.png"), "--json")
        assert done.exit_code == 0, done.err
        shown.append(done.out.replace(name, ""))
    assert shown[0] == shown[1]
    write_classes(tmp_path / "other", 900)  # alone, these would be 10 bits
    measured = run_cli("evaluate", str(run_dir), f"dataset.root={tmp_path / 'other'}")
    assert measured.exit_code == 0, measured.err
    assert "taken as 12 bits" in measured.err.replace(os.linesep, " ")
    save_png(tmp_path / "bright.png", np.full((4, 4), 9000))
    refused = run_cli("predict", str(run_dir), str(tmp_path / "bright.png"))
    assert "with bits=12 white is 4095" in refused.err.replace("\n", " ")
