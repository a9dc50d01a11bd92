"""`cnnbench predict`: files of every kind, broken ones among them, from arguments and from a pipe."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspection_runs import spec_of, trained
from PIL import Image

from cnnbench.inference import prediction
from cnnbench.inference.prediction import (
    Item,
    Lines,
    Prediction,
    answer,
    batches,
    predict,
    prediction_as_json,
)
from cnnbench.nn import checkpoints
from cnnbench.runs import Decision


def expected(kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Test examples of a run, and what Keras says about them."""
    folder = trained(kind)
    x = spec_of(folder).dataset().test.x[:count]
    return x, checkpoints.load_checkpoint(folder.best_model).predict(x.astype(np.float32), verbose=0)


def save(image: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path)
    return path


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def ask(run_cli: Any) -> Any:
    """`ask(kind, file, …)` → exit code, JSON objects."""

    def ask(kind: str, *files: object) -> tuple[int, list[dict[str, Any]]]:
        done = run_cli("predict", str(trained(kind).path), "--json", *map(str, files))
        return done.exit_code, objects(done.out)

    return ask


def test_pictures_give_the_models_probabilities(ask: Any, tmp_path: Path) -> None:
    x, outputs = expected("multiclass", 5)
    files = [save(image, tmp_path / f"{index}.png") for index, image in enumerate(x)]
    exit_code, found = ask("multiclass", *files)
    assert exit_code == 0
    assert [one["path"] for one in found] == [str(file) for file in files]
    for one, row in zip(found, outputs, strict=True):
        assert [one["probabilities"][f"class_{index}"] for index in range(3)] == pytest.approx(row, abs=1e-5)
        assert one["class"] == f"class_{row.argmax()}"
        assert one["probability"] == pytest.approx(row.max(), abs=1e-5)


def test_binary_has_the_probability_of_the_class_that_is_named(ask: Any, tmp_path: Path) -> None:
    x, outputs = expected("binary", 6)
    _, found = ask("binary", *(save(image, tmp_path / f"{index}.png") for index, image in enumerate(x)))
    for one, (positive,) in zip(found, outputs, strict=True):
        assert one["class"] == f"class_{int(positive > 0.5)}"
        assert one["probability"] == pytest.approx(max(positive, 1 - positive), abs=1e-5)
        assert sum(one["probabilities"].values()) == pytest.approx(1)
    assert {one["class"] for one in found} == {"class_0", "class_1"}


def test_arrays_give_what_pictures_give(ask: Any, tmp_path: Path) -> None:
    x, _ = expected("multiclass", 3)
    files = [save(image, tmp_path / f"{index}.png") for index, image in enumerate(x)]
    np.save(tmp_path / "batch.npy", x)
    np.save(tmp_path / "grey.npy", x[..., 0])
    np.savez(tmp_path / "named.npz", y=np.zeros(3), x=x)
    np.savez(tmp_path / "only.npz", whatever=x.astype(np.float64))
    _, pictures = ask("multiclass", *files)
    for name in ("batch.npy", "grey.npy", "named.npz", "only.npz"):
        exit_code, found = ask("multiclass", tmp_path / name)
        assert exit_code == 0
        assert [one["path"] for one in found] == [f"{tmp_path / name}[{index}]" for index in range(3)]
        for one, picture in zip(found, pictures, strict=True):
            assert one["probability"] == pytest.approx(picture["probability"], abs=1e-5)
    np.savez(tmp_path / "mnist.npz", train_images=x[:1], train_labels=[0], test_images=x, test_labels=[0] * 3)
    np.savez(tmp_path / "upper.npz", X=np.moveaxis(x, -1, 1), Y=np.zeros(3))
    for name in ("mnist.npz", "upper.npz"):
        exit_code, found = ask("multiclass", tmp_path / name)
        assert exit_code == 0
        assert [one["probability"] for one in found] == pytest.approx(
            [one["probability"] for one in pictures]
        )
    np.save(tmp_path / "one.npy", x[0])
    assert [one["path"] for one in ask("multiclass", tmp_path / "one.npy")[1]] == [f"{tmp_path}/one.npy[0]"]


@pytest.mark.parametrize(("delimiter", "heading"), [(",", ""), (",", "a,b,c\n"), (";", ""), ("\t", "")])
def test_rows_of_a_table_give_values(ask: Any, tmp_path: Path, delimiter: str, heading: str) -> None:
    x, outputs = expected("regression", 3)
    rows = [delimiter.join(repr(float(value)) for value in row) for row in x]
    (tmp_path / "rows.csv").write_text(heading + "\n".join(rows) + "\n", encoding="utf-8-sig")
    exit_code, found = ask("regression", tmp_path / "rows.csv")
    assert exit_code == 0
    assert [one["value"] for one in found] == pytest.approx(outputs[:, 0], abs=1e-4)
    first = 2 if heading else 1
    assert [one["path"] for one in found] == [f"{tmp_path}/rows.csv:{first + index}" for index in range(3)]


def test_every_label_has_a_probability_and_those_above_a_half_are_given(ask: Any, tmp_path: Path) -> None:
    x, outputs = expected("multilabel", 8)
    np.save(tmp_path / "x.npy", x)
    _, found = ask("multilabel", tmp_path / "x.npy")
    names = trained("multilabel").metrics["class_names"]
    for one, probabilities in zip(found, outputs, strict=True):
        assert one.keys() - {"schema", "verb"} == {"path", "labels", "probabilities"}
        assert [one["probabilities"][name] for name in names] == pytest.approx(probabilities, abs=1e-5)
        assert {*one["labels"]} == {name for name, p in zip(names, probabilities, strict=True) if p > 0.5}
        assert [*one["probabilities"].values()] == sorted(one["probabilities"].values(), reverse=True)
    counts = {len(one["labels"]) for one in found}
    assert len(counts) > 1


def test_every_target_has_a_value_by_its_name(ask: Any, run_cli: Any, tmp_path: Path) -> None:
    x, outputs = expected("targets", 3)
    np.save(tmp_path / "x.npy", x)
    _, found = ask("targets", tmp_path / "x.npy")
    for one, values in zip(found, outputs, strict=True):
        assert list(one["values"]) == ["row", "column", "radius"]
        assert [*one["values"].values()] == pytest.approx(values, abs=1e-4)
    lines = run_cli("predict", str(trained("targets").path), str(tmp_path / "x.npy")).out.splitlines()
    assert lines[0].split() == ["file", "row", "column", "radius"]
    assert len({len(line) for line in lines}) == 1  # aligned at the right


def test_labels_stand_before_what_else_is_probable() -> None:
    lines = Lines("multilabel", ["a", "b", "c"], top=2)
    answers = [
        answer("x", Decision("multilabel", tuple("abc")), np.array(one))
        for one in ([0.1, 0.9, 0.6], [0.1, 0.2, 0.0])
    ]
    assert lines.of(answers) == [
        "file  labels              then",
        "x     b 90.00%, c 60.00%",
        "x     none                b 20.00%, a 10.00%",
    ]


def test_folder_gives_its_pictures_only(ask: Any, tmp_path: Path) -> None:
    x, _ = expected("multiclass", 1)
    for name in ("b.png", "a.PNG", "deep/er/사진.png", ".hidden.png", "._b.png", ".cache/c.png"):
        save(x[0], tmp_path / "pictures" / name)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    exit_code, found = ask("multiclass", tmp_path / "pictures")
    assert exit_code == 0
    names = [Path(one["path"]).relative_to(tmp_path / "pictures").as_posix() for one in found]
    assert names == ["a.PNG", "b.png", "deep/er/사진.png"]


def test_unreadable_files_are_reported_and_the_rest_goes_on(run_cli: Any, tmp_path: Path) -> None:
    x, _ = expected("multiclass", 2)
    good = [save(image, tmp_path / f"{index}.png") for index, image in enumerate(x)]
    (tmp_path / "broken.png").write_bytes(good[0].read_bytes()[:60])
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "two.npz", a=x, b=x)
    np.save(tmp_path / "wide.npy", np.zeros((2, 9, 8, 1)))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    (tmp_path / "rows.csv").write_text("1,2\n" + ",".join(["x"] * 64) + "\n")
    bad = ["broken.png", "missing.png", "empty.npy", "two.npz", "wide.npy", "text.npy", "rows.csv"]
    files = [str(path) for path in (good[0], *(tmp_path / name for name in bad), good[1])]
    run = str(trained("multiclass").path)

    done = run_cli("predict", run, "--json", *files)
    assert done.exit_code == 1
    assert len(done.err.splitlines()) == 8  # and standard output has JSON alone
    found = objects(done.out)
    assert ["class" in one for one in found] == [True, *[False] * 8, True]
    assert all(one["error"] for one in found[1:-1])
    assert [one["path"].rpartition("/")[2] for one in found[-3:-1]] == ["rows.csv:1", "rows.csv:2"]

    done = run_cli("predict", run, *files)
    assert done.exit_code == 1
    assert len(done.out.splitlines()) == 3  # the heading and two pictures
    assert len(done.err.splitlines()) == 8
    assert "No such file" in done.err


def test_nothing_to_predict_is_wrong_input(run_cli: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run_cli("predict", str(trained("multiclass").path), str(tmp_path / "empty"))
    assert done.exit_code == 2
    assert done.err.splitlines()[0] == f"error: no inputs in {tmp_path / 'empty'}"


def test_pictures_for_a_model_of_rows_are_refused_one_by_one(ask: Any, tmp_path: Path) -> None:
    exit_code, found = ask("regression", save(np.zeros((4, 4, 1), np.uint8), tmp_path / "a.png"))
    assert exit_code == 1
    assert "takes 10, which no picture has" in found[0]["error"]


def test_paths_from_standard_input(ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = expected("multiclass", 2)
    first, second = (save(image, tmp_path / f"{index} a.png") for index, image in enumerate(x))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{second}\r\n\n{first}"))
    exit_code, found = ask("multiclass", first, "-")
    assert exit_code == 0
    assert [one["path"] for one in found] == [str(first), str(second), str(first)]


def test_pictures_are_turned_sized_and_coloured_as_the_data_set_does(ask: Any, tmp_path: Path) -> None:
    x, _ = expected("multiclass", 1)
    upright = Image.fromarray(x[0, ..., 0])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270°
    upright.save(tmp_path / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.convert("RGB").save(tmp_path / "colour.png")
    upright.resize((32, 32), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    names = ("upright", "turned", "colour", "large")
    exit_code, found = ask("multiclass", *(tmp_path / f"{name}.png" for name in names))
    assert exit_code == 0
    probabilities = [one["probabilities"]["class_0"] for one in found]
    assert probabilities[1:3] == pytest.approx([probabilities[0]] * 2, abs=1e-6)
    assert probabilities[3] == pytest.approx(probabilities[0], abs=0.05)


def test_resize_of_the_runs_config_is_used(tmp_path: Path) -> None:
    wide = np.zeros((8, 16, 1), np.uint8)
    wide[:, 4:12] = 255
    path = save(wide, tmp_path / "wide.png")
    shape = (8, 8, 1)
    assert prediction.picture_reader(shape, {"resize": "crop"})(path).min() == 255
    assert prediction.picture_reader(shape, {})(path).min() == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_are_named_and_not_waited_for(ask: Any, tmp_path: Path) -> None:
    files = [tmp_path / f"pipe.{ending}" for ending in ("png", "csv", "npy", "npz")]
    for path in files:
        os.mkfifo(path)
    exit_code, found = ask("multiclass", *files)
    assert exit_code == 1
    assert [one["error"] for one in found] == ["a named pipe, not a file"] * 4


def test_pictures_unlike_those_of_the_training_are_counted_in_one_line(run_cli: Any, tmp_path: Path) -> None:
    x, _ = expected("multiclass", 1)
    for name in ("a.png", "b.png"):
        save(np.zeros((24, 32, 3), np.uint8), tmp_path / "odd" / name)
    save(x[0], tmp_path / "like.png")
    run = str(trained("multiclass").path)
    outcome = run_cli("predict", run, str(tmp_path / "like.png"), str(tmp_path / "odd"))
    (line,) = [line for line in outcome.err.splitlines() if "shrunk" in line]
    size = "32×24 colour, shrunk to 8×8 grey"
    assert f"odd/a.png: {size}: this run was trained on synthetic; 1 more like it" in line
    assert "shrunk" not in run_cli("predict", run, str(tmp_path / "like.png")).err


def test_the_figures_of_a_run_are_no_inputs(ask: Any, tmp_path: Path) -> None:
    x, _ = expected("multiclass", 1)
    save(x[0], tmp_path / "picture.png")
    save(x[0], tmp_path / "run" / "figures" / "curves.png")
    (tmp_path / "run" / "config.yaml").touch()
    exit_code, (picture, run) = ask("multiclass", tmp_path)
    assert exit_code == 1
    assert picture["path"] == str(tmp_path / "picture.png")
    assert run["path"] == f"{tmp_path}/run"
    assert run["error"] == "the folder of a run, whose figures are no inputs"


def test_large_pictures(run_cli: Any, tmp_path: Path) -> None:
    Image.new("L", (12000, 9000), 90).save(tmp_path / "photo.jpg")
    Image.new("1", (10000, 9000)).save(tmp_path / "scan.png")
    run = str(trained("multiclass").path)
    done = run_cli("predict", run, str(tmp_path / "photo.jpg"), str(tmp_path / "scan.png"))
    assert done.exit_code == 1
    assert "photo.jpg" in done.out
    assert "--max-pixels=90000000 allows it" in done.err.replace("\n", " ")
    allowed = run_cli("predict", run, "--max-pixels=90000000", str(tmp_path / "scan.png"))
    assert allowed.exit_code == 0, allowed.err


def test_what_systems_leave_in_a_folder_is_no_input(ask: Any, tmp_path: Path) -> None:
    x, _ = expected("multiclass", 1)
    for name in ("a.png", "@eaDir/a.png/thumb.png", "#recycle/old.png", ".trash/old.png"):
        save(x[0], tmp_path / "in" / name)
    (tmp_path / "in" / "b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    _, found = ask("multiclass", tmp_path / "in")
    assert [Path(one["path"]).name for one in found] == ["a.png", "b.heic"]
    assert "pip install pillow-heif" in found[1]["error"]


@pytest.mark.parametrize(("top", "shown"), [(1, 0), (2, 1), (3, 2), (99, 2)])
def test_top(run_cli: Any, tmp_path: Path, top: int, shown: int) -> None:
    x, _ = expected("multiclass", 1)
    path = save(x[0], tmp_path / "a.png")
    done = run_cli("predict", str(trained("multiclass").path), str(path), "--top", str(top))
    assert done.exit_code == 0
    assert done.out.splitlines()[1].count("class_") == 1 + shown


def test_columns_stay_aligned_with_korean_names() -> None:
    lines = Lines("binary", ["고양이", "dog"], 2)
    said = [Prediction(path, "dog", 0.9, {"dog": 0.9, "고양이": 0.1}) for path in ("사진.png", "photo.png")]
    heading, korean, latin = lines.of(said)
    assert heading.split() == ["file", "class", "probability", "then"]
    assert latin.index("dog") == korean.index("dog") + 2  # each of two letters is two columns wide
    assert lines.of(said[:1]) == [korean]  # later batches have no heading


def test_what_is_decided_stands_beside_the_most_probable_others() -> None:
    two = Decision("binary", ("cat", "dog"), (0.3,))
    said = answer("a", two, np.array([0.4]))
    assert Lines("binary", two.names, 3).of([said])[1].split() == ["a", "dog", "40.00%", "cat", "60.00%"]
    many = Decision("multilabel", ("A", "B", "C"), (0.8, 0.2, 0.5))
    said = answer("a", many, np.array([0.7, 0.4, 0.1]))
    assert Lines("multilabel", many.names, 2).of([said])[1].split() == ["a", "B", "40.00%", "A", "70.00%"]


def test_a_set_of_the_class_that_a_threshold_decides_against_abstains() -> None:
    conformal = {"coverage": 0.9, "score": "1 - probability", "quantile": 0.42, "examples": 38}
    two = Decision("binary", ("cat", "dog"), (0.4,), conformal=conformal)
    rows: Any = [prediction_as_json(answer("a", two, np.array([one]))) for one in (0.41, 0.7, 0.5)]
    assert [row["class"] for row in rows] == ["dog", "dog", "dog"]
    assert [row["set"] for row in rows] == [["cat"], ["dog"], []]
    assert [row["abstains"] for row in rows] == [True, False, True]


def test_an_output_that_is_no_number_is_an_error() -> None:
    class Broken:
        def predict_on_batch(self, x: np.ndarray) -> np.ndarray:
            return np.full((len(x), 2), np.nan, np.float32)

    item = Item("a", lambda: np.zeros(3))
    ((only,),) = predict(Broken(), Decision("multiclass", ("a", "b")), [[item]])
    assert only.error == "the model's output is NaN or infinite"


def test_a_slow_pipe_gets_its_answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "IDLE_SECONDS", 0.2)
    answered = threading.Event()

    def slow() -> Iterator[Item]:
        yield Item("a", np.zeros)
        yield Item("b", np.zeros)
        assert answered.wait(60), "no answer before the next item"
        yield Item("c", np.zeros)

    found = []
    for batch in batches(slow(), 64):
        found.append([item.name for item in batch])
        answered.set()
    assert found == [["a", "b"], ["c"]]


def test_batches_are_full_and_never_far_ahead() -> None:
    taken = 0

    def endless() -> Iterator[Item]:
        nonlocal taken
        while True:
            taken += 1
            yield Item(str(taken), np.zeros)

    source = batches(endless(), 8)
    assert [len(next(source)) for _ in range(3)] == [8, 8, 8]
    assert taken <= 3 * 8 + 8 + 2


def test_an_error_while_looking_for_files_is_not_lost() -> None:
    def failing() -> Iterator[Item]:
        yield Item("a", np.zeros)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(batches(failing(), 2))
