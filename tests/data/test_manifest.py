# ruff: noqa: E501  a fault, and what is said of it, is one line
"""Pictures that a table names, or in archives, Parquet files and shards: the same as those of a folder."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Outcome
from PIL import Image

from cnnbench.data.dataset import Dataset
from cnnbench.data.images.folder import image_folder
from cnnbench.data.images.manifest import manifest
from cnnbench.data.images.rows import holds_manifest
from cnnbench.errors import CnnbenchError

Cli = Callable[..., Outcome]

pytest_plugins = ["picture_folders"]
pytestmark = pytest.mark.usefixtures("own_cache")


def noise(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8 + seed % 3, 8, 3), np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(noise(seed))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """`pictures/{train,test}/{cats,dogs}/N.png`, all different."""
    root = tmp_path / "pictures"
    for seed in range(24):
        split = "test" if seed % 4 == 0 else "train"
        write(root / split / ("cats", "dogs")[seed % 8 > 3] / f"{seed:02d}.png", seed)
    return root


def listed(root: Path) -> list[tuple[str, str, str]]:
    """Path, class and split of each picture, in the order of a folder."""
    paths = [path for split in ("train", "test") for path in sorted((root / split).rglob("*.png"))]
    return [(path.relative_to(root).as_posix(), path.parent.name, path.parts[-3]) for path in paths]


def as_csv(root: Path) -> Path:
    rows = [",".join(row) for row in listed(root)]
    path = root / "labels.csv"
    path.write_text("\n".join(["image,label,split", *rows]), encoding="utf-8")
    return path


def as_windows_csv(root: Path) -> Path:
    rows = [
        f"D:\\data\\pets\\{path}\t{label}\t{split}".replace("/", "\\") for path, label, split in listed(root)
    ]
    path = root / "labels.txt"
    path.write_bytes("\r\n".join(["filename\tclass\tset", *rows]).encode("utf-16"))
    return path


def as_jsonl(root: Path) -> Path:
    rows = [json.dumps(dict(zip(("file_name", "label", "split"), row, strict=True))) for row in listed(root)]
    path = root / "metadata.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def as_zip(root: Path) -> Path:
    path = root.parent / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, _, _ in reversed(listed(root)):
            archive.write(root / name, f"pets/{name}")
        archive.writestr("__MACOSX/pets/train/._0.png", b"no picture")
    return path


def as_zip_with_table(root: Path) -> Path:
    path = root.parent / "kaggle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        rows = [f"{index}.png;{label};{split}" for index, (_, label, split) in enumerate(listed(root))]
        archive.writestr("set/labels.csv", "\n".join(["image;label;split", *rows]))
        for index, (name, _, _) in enumerate(listed(root)):
            archive.write(root / name, f"set/images/{index}.png")
    return path


def as_tar(root: Path) -> Path:
    path = root.parent / "pictures.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(root, ".")
    return path


def as_tar_gz(root: Path) -> Path:
    path = root.parent / "pictures.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(root, "pets")
    return path


def as_parquet(root: Path) -> Path:
    """As the library `datasets` writes it, in several row groups and files."""
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cats", "dogs"]}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    folder = root.parent / "hub" / "data"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        rows = [(path, label) for path, label, of in listed(root) if of == split]
        cells = [{"bytes": (root / path).read_bytes(), "path": path} for path, _ in rows]
        table = pa.table({"image": cells, "label": [int(label == "dogs") for _, label in rows]})
        path = folder / f"{split}-00000-of-00001.parquet"
        pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=5)
    return folder.parent


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def as_shards(root: Path) -> Path:
    folder = root.parent / "shards"
    folder.mkdir()
    for split in ("train", "test"):
        with tarfile.open(folder / f"{split}-000000.tar", "w") as archive:
            for index, (name, label, of) in enumerate(listed(root)):
                if of == split:
                    add(archive, f"{index:06d}.png", (root / name).read_bytes())
                    add(archive, f"{index:06d}.cls", label.encode())
    return folder


WAYS = [
    as_csv, as_windows_csv, as_jsonl, as_zip, as_zip_with_table, as_tar, as_tar_gz, as_parquet, as_shards,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_same_pictures_are_the_same_examples_in_the_same_order(
    pictures: Path, way: Callable[[Path], Path]
) -> None:
    of_folder = image_folder(str(pictures), size=8)
    path = way(pictures)
    for _ in range(2):  # decoded, and from the cache
        found = manifest(str(path), size=8)
        assert found.class_names == of_folder.class_names
        assert found.task == "binary"
        for name, split in of_folder.splits.items():
            assert np.array_equal(split.x[:], found.splits[name].x[:])
            assert np.array_equal(split.y, found.splits[name].y)
            assert split.fingerprint == found.splits[name].fingerprint


def test_the_same_pictures_train_to_the_same_weights(pictures: Path, tmp_path: Path, run_cli: Cli) -> None:
    import keras

    short = ("dataset.size=8", "training.epochs=1", "model=mlp", "model.units=[4]", "device=cpu")
    lines = {"folder": ["dataset=image_folder", f"dataset.root={pictures}"]}
    lines |= {way.__name__: [str(way(pictures))] for way in (as_csv, as_zip, as_parquet, as_shards)}
    weights = {}
    for name, line in lines.items():
        outcome = run_cli(*line, *short, f"run_dir={tmp_path / name}")
        assert outcome.exit_code == 0, outcome.err
        weights[name] = keras.models.load_model(tmp_path / name / "best.keras", compile=False).get_weights()
    for name, found in weights.items():
        assert all(map(np.array_equal, found, weights["folder"])), name


def test_a_drawn_split_is_that_of_a_folder(tmp_path: Path) -> None:
    for seed in range(20):
        write(tmp_path / "pics" / "ab"[seed % 2] / f"{seed:02d}.png", seed)
    rows = [
        f"{path.parent.name}/{path.name},{path.parent.name}"
        for path in sorted((tmp_path / "pics").rglob("*.png"))
    ]
    (tmp_path / "pics" / "labels.csv").write_text("\n".join(["path,label", *rows]))
    one = image_folder(str(tmp_path / "pics"), size=8)
    other = manifest(str(tmp_path / "pics" / "labels.csv"), size=8)
    assert {name: split.fingerprint for name, split in one.splits.items()} == {
        name: split.fingerprint for name, split in other.splits.items()
    }


# ---------------------------------------------------------------- one table, many faults


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """`flat/0.png` to `flat/11.png`, a folder in it that is called `folder.png`, and a file that is none."""
    root = tmp_path / "flat"
    for seed in range(12):
        write(root / f"{seed}.png", seed)
    (root / "folder.png").mkdir()
    (root / "text.png").write_text("no picture")
    return root


def load(folder: Path, rows: str, **arguments: Any) -> Dataset:
    """Load a table; `rows` has a header, and `…` stands for pictures 0 to 9, cat and dog in turn."""
    usual = "\n".join(f"{seed}.png,{('cat', 'dog')[seed % 2]}" for seed in range(10))
    (folder / "labels.csv").write_text(rows.replace("…", usual), encoding="utf-8")
    return manifest(str(folder / "labels.csv"), **{"size": 8, **arguments})


FAULTS = {
    "no image column": ("a,b\n1,2\n", {}, "no column that is known to name pictures", "dataset.image=COLUMN"),
    "no header": ("0.png,cat\n1.png,dog\n", {}, "no column that is known to name pictures", "write a header"),
    "no label column": ("image,a,b\n0.png,x,y\n", {}, "no column that is known as a label", "dataset.label="),
    "missing column": ("image,label\n…", {"label": "lable"}, "has no column lable", "label"),
    "empty label": ("image,label\n…\n10.png,\n", {}, "row 12: label is empty", "remove the row"),
    "empty path": ("image,label\n…\n,cat\n", {}, "row 12: image is empty", "remove the row"),
    "two labels": ("image,label\n…\n0.png,dog\n", {}, "row 12: 0.png is named in row 2 too, with another", "one"),
    "one class": ("image,label\n0.png,cat\n1.png,cat\n", {}, "all labels are cat", "two classes"),
    "few": ("image,label\n…\n10.png,cow\n", {}, "cow is in 1 of the pictures (", "add pictures"),
    "one group": ("image,label,patient\n0.png,cat,1\n1.png,dog,1\n", {}, "cat is in 1 of the groups", "add groups"),
    "empty time": ("image,label,day\n0.png,cat,2024-01-01\n1.png,dog,\n", {"order": "day"}, "row 3: day is empty", "mend"),
    "no time": ("image,label,day\n0.png,cat,2024-01-01\n1.png,dog,soon\n", {"order": "day"}, "row 2: day is", "mend"),
    "outside": ("image,label\n…\n../x.png,cat\n", {}, "row 12: ../x.png lies outside", "dataset.root="),
    "address": ("image,label\n…\nhttps://a/b.png,cat\n", {}, "row 12: image is an address", "fetch"),
    "most missing": ("image,label\na.png,cat\nb.png,dog\n", {}, "2 of 2 pictures are missing: row 2: a.png is not there", "dataset.root="),
    "strict": ("image,label\n…\nx.png,cat\n", {"strict": True}, "row 12: x.png is not there", "strict=false"),
    "directory": ("image,label\n…\nfolder.png,cat\n", {"strict": True}, "folder.png is a folder", "strict=false"),
    "unreadable": ("image,label\n…\ntext.png,cat\n", {"strict": True}, "row 12, text.png: not an image", "mend"),
    "accidental float": ("image,label\n0.png,0\n1.png,1\n2.png,0\n3.png,1\n4.png,0.5\n", {}, "row 6: label is 0.5", "regression"),
    "text for a number": ("image,label\n…", {"task": "regression"}, "row 2: label is 'cat', not a number", "mend"),
    "NaN target": ("image,y\n0.png,1.5\n1.png,nan\n", {"task": "regression"}, "row 3: y is empty", "label"),
    "infinite": ("image,y\n0.png,1.5\n1.png,inf\n", {"task": "regression"}, "row 3: y is inf", "label"),
    "not 0 or 1": ("image,a,b\n0.png,1,0\n1.png,0,2\n", {"label": ("a", "b"), "task": "multilabel"}, "row 3: b is 2", "regression"),
    "two of one": ("image,a,b\n0.png,1,1\n1.png,0,1\n", {"label": ("a", "b"), "task": "multiclass"}, "row 2: 2 of the label", "multilabel"),
    "too many classes": ("image,label\n…\n10.png,cow\n11.png,cow\n", {"task": "binary"}, "needs two classes", "multiclass"),
    "unknown positive": ("image,label\n…", {"positive": "dgo"}, "dataset.positive=dgo", "dog"),
    "unknown split": ("image,label,split\n0.png,cat,train\n1.png,dog,tarin\n", {}, "row 3: split is 'tarin'", "train"),
    "odd set": ("image,label,set\n0.png,cat,train\n1.png,dog,tset\n", {}, "row 3: set is 'tset', which is no split", "dataset.split=none"),
    "empty split": ("image,label,split\n0.png,cat,train\n1.png,dog,\n", {}, "row 3: split is empty", "dataset.split=none"),
    "no train": ("image,label,split\n0.png,cat,test\n1.png,dog,test\n", {}, "no row has train", "dataset.split=none"),
    "in two splits": ("image,label,split\n0.png,cat,train\n1.png,dog,train\n0.png,cat,test\n", {}, "row 4: 0.png is named in row 2 too, for train", "keep one"),
    "torn group": ("image,label,split,patient\n0.png,cat,train,7\n1.png,dog,test,7\n", {}, "row 3 is in test", "dataset.group=none"),
    "empty group": ("image,label,group\n0.png,cat,1\n1.png,dog,\n", {}, "row 3: group is empty", "dataset.group=none"),
    "bad weight": ("image,label,weight\n0.png,cat,1\n1.png,dog,-1\n", {}, "row 3: weight is -1", "dataset.weight=none"),
    "separator for one": ("image,label\n…", {"separator": "|", "task": "binary"}, "dataset.separator=|", "one of the two"),
    "no such root": ("image,label\n…", {"root": "nowhere"}, "dataset.root=nowhere", "where"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_with_its_row_and_what_to_do(flat: Path, fault: str) -> None:
    rows, arguments, message, hint = FAULTS[fault]
    with pytest.raises(CnnbenchError) as error:
        load(flat, rows, **arguments)
    assert message in error.value.message
    assert hint in error.value.hint
    assert "\n" not in str(error.value)


def test_what_is_left_out_is_noted_with_its_row(flat: Path) -> None:
    found = load(flat, "image,label\n…\nx.png,cat\ntext.png,dog\n0.png,cat\n")
    assert len(found.train) + len(found.test) == 10
    notes = "\n".join(found.notes)
    assert "row 12: x.png is not there" in notes
    assert "row 13, text.png: not an image" in notes
    assert "row 14 = row 2" in notes


# ---------------------------------------------------------------- labels


def test_several_labels_in_a_cell_and_in_columns_are_the_same(flat: Path) -> None:
    cells = ["sun", "sun|sea", "sea|fog", "fog", "sun|fog", "sea"]
    flags = [[int(name in cell) for name in ("fog", "sea", "sun")] for cell in cells]
    one = load(flat, "image,label\n" + "\n".join(f"{i}.png,{cell}" for i, cell in enumerate(cells)))
    rows = "\n".join(f"{i}.png,{','.join(map(str, row))}" for i, row in enumerate(flags))
    other = load(flat, "image,fog,sea,sun\n" + rows)
    for found in (one, other):
        assert (found.task, found.class_names) == ("multilabel", ("fog", "sea", "sun"))
        y = {
            name: row
            for part in found.splits.values()
            for name, row in zip(part.names or (), part.y.tolist(), strict=True)
        }
        assert [y[f"{i}.png"] for i in range(6)] == flags


def test_a_comma_in_names_of_classes_is_no_separator(flat: Path) -> None:
    rows = "\n".join(f'{i}.png,"{("tench, fish", "cat, pet")[i % 2]}"' for i in range(8))
    assert load(flat, f"image,label\n{rows}").class_names == ("cat, pet", "tench, fish")


def test_numbers_are_regressed_and_few_whole_ones_are_classes(flat: Path) -> None:
    rows = "\n".join(f"{i}.png,{i + 0.5},{i}" for i in range(10))
    found = load(flat, f"image,x,y\n{rows}", label=("x", "y"))
    assert (found.task, found.target_names, found.train.y.shape) == ("regression", ("x", "y"), (8, 2))
    assert load(flat, f"image,x,y\n{rows}", label="x").train.y.dtype == np.float32
    ages = "\n".join(f"{i}.png,{(2, 10)[i % 2]}.0" for i in range(10))
    assert load(flat, f"image,label\n{ages}").class_names == ("2", "10")


def test_the_positive_class_is_the_second(flat: Path) -> None:
    found = load(flat, "image,label\n…", positive="cat")
    assert found.class_names == ("dog", "cat")
    names = dict(zip(found.test.names or (), found.test.y.tolist(), strict=True))
    assert all(names[name] == (int(name[0]) % 2 == 0) for name in names)


def test_groups_and_weights_follow_their_pictures(flat: Path) -> None:
    rows = "\n".join(f"{i}.png,{'ab'[i % 2]},{'train' if i < 8 else 'test'},p{i // 2},{i}" for i in range(10))
    found = load(flat, f"image,label,split,patient,weight\n{rows}")
    assert found.train.weights is not None
    assert found.train.weights.tolist() == list(range(8))
    assert found.train.groups is not None
    assert found.train.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_group_is_never_in_two_splits(flat: Path) -> None:
    rows = "\n".join(f"{i}.png,{'ab'[i % 2]},p{i // 2}" for i in range(12))
    found = load(flat, f"image,label,patient\n{rows}", test_fraction=0.34)
    assert found.train.groups is not None
    assert found.test.groups is not None
    assert not set(found.train.groups) & set(found.test.groups)
    assert len(found.test) == 4


def test_the_last_by_time_are_held_out(flat: Path) -> None:
    rows = "\n".join(f"{i}.png,{'ab'[i % 2]},2024-01-{20 - i:02d}" for i in range(10))
    found = load(flat, f"image,label,day\n{rows}", order="day")
    assert found.test.names == ["0.png", "1.png"]
    assert found.train.order is not None


@pytest.mark.parametrize("words", [("Training", "PublicTest", "PrivateTest"), ("tr", "eval", "Test set")])
def test_splits_are_known_by_what_people_call_them(flat: Path, words: tuple[str, ...]) -> None:
    rows = "\n".join(f"{i}.png,{'ab'[i % 2]},{words[(i > 5) + (i > 7)]}" for i in range(10))
    found = load(flat, f"image,label,Usage\n{rows}")
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 6, "val": 2, "test": 2}


# ---------------------------------------------------------------- where pictures are


@pytest.mark.parametrize(
    "written",
    ["{}.PNG", "{}", "./{}.png", "a/../{}.png", "/mnt/old/flat/{}.png", "C:\\pics\\{}.png", "flat/{}.png"],
)
def test_paths_of_other_machines_and_without_endings_are_found(flat: Path, written: str) -> None:
    rows = "\n".join(f"{written.format(i)},{'ab'[i % 2]}" for i in range(10))
    found = load(flat, f"image,label\n{rows}")
    assert sorted(found.files) == [f"{i}.png" for i in range(10)]


def test_a_root_and_whole_paths(flat: Path, tmp_path: Path) -> None:
    table = tmp_path / "elsewhere.csv"
    table.write_text("image,label\n" + "\n".join(f"{i}.png,{'ab'[i % 2]}" for i in range(10)))
    assert len(manifest(str(table), root=str(flat), size=8).files) == 10
    table.write_text("image,label\n" + "\n".join(f"{flat}/{i}.png,{'ab'[i % 2]}" for i in range(10)))
    assert len(manifest(str(table), size=8).files) == 10


def test_one_missing_picture_is_not_replaced_by_another_of_its_name(flat: Path) -> None:
    write(flat / "other" / "x.png", 99)
    found = load(flat, "image,label\n…\nx.png,cat\n")
    assert "other/x.png" not in found.files


# ---------------------------------------------------------------- archives that are not to be trusted


def test_members_that_are_no_files_are_not_read(pictures: Path) -> None:
    path = as_tar(pictures)
    with tarfile.open(path, "a") as archive:
        for kind, name in ((tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "hard"), (tarfile.CHRTYPE, "device")):
            info = tarfile.TarInfo(f"train/cats/{name}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    notes = "\n".join(manifest(str(path), size=8).notes)
    assert "3 of 21 files are not used" in notes
    assert "link.png: a link, not a file" in notes
    assert "device.png: a device or another special file" in notes


def test_a_size_that_no_picture_has_is_not_unpacked(pictures: Path) -> None:
    path = as_zip(pictures)
    content = path.read_bytes()
    place = content.rindex(b"PK\x01\x02", 0, content.index(b"pets/train/cats", content.index(b"PK\x01\x02")))
    size = struct.pack("<I", 2**31)
    path.write_bytes(content[: place + 24] + size + content[place + 28 :])
    notes = "\n".join(manifest(str(path), size=8).notes)
    assert "its size is said to be 2,147,483,648 bytes" in notes


def test_a_damaged_archive_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar", "a.tar.gz"):
        (tmp_path / name).write_bytes(b"no archive at all" * 100)
        with pytest.raises(CnnbenchError, match=name):
            manifest(str(tmp_path / name))


def test_a_damaged_member_is_named(pictures: Path) -> None:
    path = as_zip(pictures)
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT")
    content[place + 20] ^= 0xFF
    path.write_bytes(content)
    assert "1 of " in "\n".join(manifest(str(path), size=8).notes)


# ---------------------------------------------------------------- what is a manifest


def test_what_is_taken_for_a_manifest(pictures: Path, flat: Path, tmp_path: Path) -> None:
    assert not holds_manifest(pictures)
    assert not holds_manifest(flat)
    (flat / "labels.csv").write_text("image,label\n0.png,a\n1.png,b\n")
    assert holds_manifest(flat)
    assert holds_manifest(flat / "labels.csv")
    assert holds_manifest(as_zip(pictures))
    assert holds_manifest(as_parquet(pictures))
    assert holds_manifest(as_shards(pictures))
    (tmp_path / "houses.csv").write_text("rooms,price\n1,2\n3,4\n")
    assert not holds_manifest(tmp_path / "houses.csv")
    (tmp_path / "houses.csv").write_text("id,price\n1,2\n33,4\n")
    assert not holds_manifest(tmp_path / "houses.csv")
    (flat / "train.csv").write_text("id,breed\n1,2\n3,4\n")
    assert holds_manifest(flat / "train.csv")


def test_a_root_is_not_ignored_where_it_says_nothing(pictures: Path) -> None:
    with pytest.raises(CnnbenchError, match="holds the pictures itself"):
        manifest(str(as_zip(pictures)), root=str(pictures))


def test_a_folder_of_two_tables_asks_which(flat: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (flat / name).write_text("image,label\n0.png,a\n1.png,b\n")
    assert holds_manifest(flat)
    with pytest.raises(CnnbenchError, match="2 tables that name pictures") as error:
        manifest(str(flat))
    assert f"dataset.file={flat}/a.csv" in error.value.hint


def test_tables_of_the_splits_in_folders_of_their_own(pictures: Path) -> None:
    for number, split in enumerate(("train", "test")):
        folder = pictures.parent / "set" / split
        for seed in range(8):
            write(folder / f"{seed}.png", 100 * number + seed)  # the same names
        (folder / f"{split}.csv").write_text(
            "image,label\n" + "\n".join(f"{i}.png,{i % 2}" for i in range(8))
        )
    found = manifest(f"{pictures.parent}/set/*/*.csv", size=8)
    assert (len(found.train), len(found.test), len(found.files)) == (8, 8, 16)


def test_a_folder_without_class_folders_says_what_to_type(flat: Path) -> None:
    (flat / "labels.csv").write_text("image,label\n0.png,a\n1.png,b\n")
    with pytest.raises(CnnbenchError) as error:
        image_folder(str(flat))
    assert f"dataset=manifest dataset.file={flat}" in error.value.hint
