"""A run on a table: raw rows and texts, `predict`, `evaluate`, exports, and the layer that takes rows."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import Outcome, call_main
from test_export import FORMATS

from cnnbench import nn
from cnnbench.api import open_run
from cnnbench.config import spec_from
from cnnbench.data.dataset import Split
from cnnbench.inference import formats
from cnnbench.inference.export import export_run
from cnnbench.nn import TableColumns, put_first
from cnnbench.training.build import adapt
from cnnbench.training.diagnose import examine

Cli = Callable[..., Outcome]
ROWS = 200
CITIES = ("Busan", "Jeju", "Seoul")


def cells(row: int) -> dict[str, str]:
    """A row of the table; one in ten has no area, one in seven no city."""
    area, city = 20 + row % 50, CITIES[row % 3]
    return {
        "id": str(row + 1),
        "city": "" if row % 7 == 0 else city,
        "area": "" if row % 10 == 0 else f"{area}.5",
        "rooms": str(row % 4),
        "price": str(area * 3 + 50 * (row % 3)),
        "dear": "yes" if row % 3 == 2 else "no",
    }


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0], delimiter=";")
        table.writeheader()
        table.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a regression on a table that is gone."""
    place = tmp_path_factory.mktemp("tables")
    table = write(place / "homes.csv", [cells(row) for row in range(ROWS)])
    line = ("dataset=table", f"dataset.file={table}", "dataset.target=price", "dataset.exclude=[dear]")
    more = ("training.epochs=3", "training.scale_targets=true", "device=cpu", f"run_dir={place / 'run'}")
    assert call_main(*line, *more) == 0
    table.rename(place / "moved.csv")
    return place / "run"


def test_the_stored_model_takes_raw_rows_and_predict_texts(
    trained: Path, run_cli: Cli, tmp_path: Path
) -> None:
    rows = [cells(row) for row in (0, 1, 2, 14, 70)]
    inputs = write(
        tmp_path / "new.csv", [{name: row[name] for name in ("area", "city", "rooms", "id")} for row in rows]
    )
    found = run_cli(
        "predict", str(trained), str(inputs), "--output", str(tmp_path / "out" / "new.csv"), "--json"
    )
    assert found.exit_code == 0
    values = [json.loads(line)["value"] for line in found.out.splitlines()]
    numbers = [
        [
            CITIES.index(row["city"]) if row["city"] else np.nan,
            float(row["area"] or "nan"),
            float(row["rooms"]),
        ]
        for row in rows
    ]
    np.save(tmp_path / "rows.npy", np.array(numbers, np.float32))
    code = (
        "import sys, keras, numpy, cnnbench.nn\n"
        "model = keras.models.load_model(sys.argv[1])\n"
        "numpy.save(sys.argv[2], model.predict(numpy.load(sys.argv[2]), verbose=0))\n"
    )
    model, file = str(trained / "best.keras"), str(tmp_path / "rows.npy")
    subprocess.run([sys.executable, "-c", code, model, file], check=True, capture_output=True)
    assert np.load(file)[:, 0] == pytest.approx(values, rel=1e-6)
    written = read(tmp_path / "out" / "new.csv")
    assert [row["id"] for row in written] == [row["id"] for row in rows]
    assert [row["city"] for row in written] == [row["city"] for row in rows]
    assert [float(row["predicted_price"]) for row in written] == pytest.approx(values)


def test_what_is_missing_is_what_training_rows_have_most(trained: Path, run_cli: Cli, tmp_path: Path) -> None:
    (note,) = [one for one in open_run(trained).files.environment["dataset"]["notes"] if "are filled" in one]
    assert "city with Busan" in note or "city with Jeju" in note or "city with Seoul" in note
    city = note.partition("city with ")[2].partition(" ")[0]
    area = note.partition("area with ")[2].partition(" ")[0]
    rows = [("", "", 1), (city, area, 1), ("Daegu", "nan", 1), ("Daegu", "x", 1)]
    names = ("city", "area", "rooms")
    inputs = write(tmp_path / "new.csv", [dict(zip(names, map(str, row), strict=True)) for row in rows])
    found = run_cli("predict", str(trained), str(inputs), "--json")
    assert found.exit_code == 1
    *same, wrong = [json.loads(line) for line in found.out.splitlines()]
    assert len({row["value"] for row in same}) == 1
    assert wrong["path"] == f"{inputs}:5"
    assert wrong["error"] == "area is 'x', not a number"
    assert found.err.count("categories that this run does not know count as missing: city=Daegu (2)") == 1


def test_a_table_without_a_column_and_a_wrong_output_are_one_line(
    trained: Path, run_cli: Cli, tmp_path: Path
) -> None:
    lacking = write(tmp_path / "new.csv", [{"city": "Jeju", "area": "30"}])
    found = run_cli("predict", str(trained), str(lacking))
    assert found.exit_code == 1
    assert "new.csv: lacks rooms, which the run was trained on; its columns: city, area" in " ".join(
        found.err.split()
    )
    for output, words in (("new.csv", "is an input"), ("new.xlsx", "as CSV")):
        found = run_cli("predict", str(trained), str(lacking), "--output", str(tmp_path / output))
        assert found.exit_code == 2
        assert words in found.err
    assert read(lacking) == [{"city;area": "Jeju;30"}]  # untouched


def test_a_column_of_the_input_keeps_its_name_beside_the_prediction(
    trained: Path, run_cli: Cli, tmp_path: Path
) -> None:
    inputs = write(
        tmp_path / "new.csv",
        [{**cells(row), "predicted_price": "7", "area": area} for row, area in ((1, "30"), (2, "1e40"))],
    )
    output = tmp_path / "out.csv"
    found = run_cli("predict", str(trained), str(inputs), "--output", str(output))
    assert found.exit_code == 1
    assert "area is 1e40, no finite number in 32 bits" in found.err
    assert "RuntimeWarning" not in found.err
    assert "the new one is predicted_price_2" in " ".join(found.err.split())
    first, second = read(output)
    assert (first["predicted_price"], second["predicted_price"]) == ("7", "7")
    assert float(first["predicted_price_2"])
    assert second["predicted_price_2"] == ""


def test_evaluate_reads_another_table_with_the_codes_of_the_run(
    trained: Path, run_cli: Cli, tmp_path: Path
) -> None:
    moved = trained.parent / "moved.csv"
    own = run_cli("evaluate", str(trained), f"dataset.file={moved}", "--json", "--quiet")
    assert own.exit_code == 0
    rows = [
        {**row, "city": row["city"] and {"Busan": "Busan"}.get(row["city"], "Seoul")}
        for row in read_semicolon(moved)
    ]
    fewer = write(
        tmp_path / "fewer.csv", [{**row, "split": "test" if int(row["id"]) % 2 else "train"} for row in rows]
    )
    found = run_cli("evaluate", str(trained), f"dataset.file={fewer}", "--json", "--quiet")
    assert found.exit_code == 0
    told = json.loads(found.out)
    run, columns = open_run(trained), run_columns(trained)
    assert columns == [("city", list(CITIES)), ("area", []), ("rooms", [])]
    tested = [row for row in rows if int(row["id"]) % 2]
    file = write(tmp_path / "tested.csv", tested)
    said = [one.value for batch in run.predictions([str(file)]) for one in batch]
    errors = np.array(said) - np.array([float(row["price"]) for row in tested])
    assert told["metrics"]["rmse"] == pytest.approx(float(np.sqrt(np.mean(errors**2))), rel=1e-4)


def read_semicolon(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=";"))


def run_columns(run: Path) -> list[tuple[str, list[str]]]:
    stored = open_run(run).files.environment["dataset"]["columns"]
    return [(column["name"], column["categories"]) for column in stored]


def test_evaluate_knows_categories_that_no_training_row_of_another_table_has(
    trained: Path, run_cli: Cli, tmp_path: Path
) -> None:
    rows = [{**cells(row), "split": "test" if row % 3 == 1 else "train"} for row in range(60)]
    rows = [{key: value for key, value in row.items() if key not in ("id", "dear")} for row in rows]
    rows[0]["area"] = ""
    file = write(tmp_path / "other.csv", rows)
    found = run_cli("evaluate", str(trained), f"dataset.file={file}", "--json", "--quiet")
    assert found.exit_code == 0, found.err
    tested = [row for row in rows if row["split"] == "test"]  # the only ones of Jeju
    inputs = str(write(tmp_path / "tested.csv", tested))
    said = [one.value for batch in open_run(trained).predictions([inputs]) for one in batch]
    errors = np.array(said) - np.array([float(row["price"]) for row in tested])
    rmse = float(np.sqrt(np.mean(errors**2)))
    assert json.loads(found.out)["metrics"]["rmse"] == pytest.approx(rmse, rel=1e-4)


def test_classes_of_another_table_are_those_of_the_run_by_name(run_cli: Cli, tmp_path: Path) -> None:
    names = ("no", "perhaps", "yes")

    def rows(numbers: Any, seen: tuple[str, ...] = names) -> list[dict[str, str]]:
        made = [
            {"area": f"{row % 7 + 30 * (row % 3)}.5", "rooms": str(row % 5), "dear": names[row % 3]}
            for row in numbers
        ]
        return [row for row in made if row["dear"] in seen]

    table = write(tmp_path / "own.csv", rows(range(150)))
    run = str(tmp_path / "run")
    line = ("dataset=table", f"dataset.file={table}", "dataset.target=dear", "device=cpu", f"run_dir={run}")
    assert call_main(*line, "training.epochs=15") == 0
    two = write(tmp_path / "two.csv", rows(range(60), ("perhaps", "yes")))
    found = run_cli("evaluate", run, f"dataset.file={two}", "--json", "--quiet")
    assert found.exit_code == 0, found.err
    assert json.loads(found.out)["metrics"]["accuracy"] > 0.9
    odd = write(
        tmp_path / "odd.csv", [*rows(range(60)), *[{"area": "3.5", "rooms": "1", "dear": "never"}] * 5]
    )
    found = run_cli("evaluate", run, f"dataset.file={odd}")
    assert found.exit_code == 2
    assert "never is none of the classes no, perhaps, yes" in found.err


def test_a_regression_is_measured_on_targets_that_are_whole(
    trained: Path, run_cli: Cli, tmp_path: Path
) -> None:
    rows = [{**cells(row), "price": str(100 + row % 4)} for row in range(60)]
    file = write(tmp_path / "whole.csv", rows)
    found = run_cli("evaluate", str(trained), f"dataset.file={file}", "--json", "--quiet")
    assert found.exit_code == 0, found.err


def test_the_average_of_folds_takes_columns_by_name(run_cli: Cli, tmp_path: Path) -> None:
    table = write(tmp_path / "homes.csv", [cells(row) for row in range(90)])
    line = ("dataset=table", f"dataset.file={table}", "dataset.target=price", "dataset.exclude=[dear]")
    place = tmp_path / "runs"
    more = ("training.folds=3", "training.epochs=1", "device=cpu", f"run_dir={place}", "--quiet")
    assert call_main(*line, *more) == 0
    (average,) = {
        path.parent for path in tmp_path.rglob("best.keras") if path.parent.name.endswith("average")
    }
    order = ("rooms", "area", "dear", "city")
    rows = [{name: cells(row)[name] for name in order} for row in (0, 1, 2, 10)]
    said = [
        [one.value for batch in open_run(average).predictions([str(file)]) for one in batch]
        for file in (
            write(tmp_path / "turned.csv", rows),
            write(tmp_path / "same.csv", [{name: row[name] for name in sorted(order)} for row in rows]),
        )
    ]
    assert None not in said[0]
    assert said[0] == said[1]
    own = run_cli("evaluate", str(average), "--json", "--quiet")
    assert own.exit_code == 0, own.err
    told = json.loads(own.out)
    assert told["metrics"]["rmse"] == pytest.approx(told["recorded"]["rmse"], rel=1e-4)


@pytest.mark.parametrize("to", FORMATS)
def test_an_export_takes_raw_rows(trained: Path, to: Any, tmp_path: Path) -> None:
    run = open_run(trained)
    config = {**run.config, "dataset": {**run.config["dataset"], "file": str(trained.parent / "moved.csv")}}
    result = export_run(run.files, spec_from(config, trained), to, tmp_path)
    assert result.passed
    x = np.array([[2, 40.5, 1], [np.nan, np.nan, 3], [7, 40.5, 1], [-1, 10, np.nan]], np.float32)
    expected = keras.models.load_model(run.files.best_model).predict(x, verbose=0)
    with formats.quiet():
        assert formats.RUNNERS[to](result.path)(x) == pytest.approx(expected, rel=1e-4)


# ---------------------------------------------------------------- the layer


def rows() -> np.ndarray:
    nan = np.nan
    return np.array([[1, 10, 0], [nan, 20, 2], [3, nan, 2], [8, 40, nan]], np.float32)


def columns() -> TableColumns:
    return TableColumns(["a", "b", "c"], [[], [], ["x", "y", "z"]], name="columns")


def test_the_layer_fills_and_gives_each_category_a_value() -> None:
    layer = columns()
    layer.build((None, 3))
    (note,) = layer.adapt(rows())
    assert "a with 3 (1 of 4 train rows lack it)" in note
    assert "c with z" in note
    expected = [[1, 10, 1, 0, 0], [3, 20, 0, 0, 1], [3, 20, 0, 0, 1], [8, 40, 0, 0, 1]]
    assert np.array_equal(layer(rows()), expected)
    again = TableColumns.from_config(layer.get_config())
    again.build((None, 3))
    again.set_weights(layer.get_weights())
    assert np.array_equal(again(rows()), expected)
    assert layer.adapt(rows()[:1]) == []


def test_layers_after_it_are_adapted_to_what_it_gives() -> None:
    inner = keras.Sequential([keras.Input((5,)), keras.layers.Normalization(), keras.layers.Dense(1)])
    before = [weight.numpy() for weight in inner.layers[-1].weights]
    model = put_first(inner, columns(), (None, 3))
    assert model.input_shape == (None, 3)
    remarks = adapt(model, Split(rows(), np.arange(4, dtype=np.float32)))
    assert "missing values" in remarks[0]
    scaled = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    assert np.asarray(scaled.mean).reshape(-1) == pytest.approx([3.75, 22.5, 0.25, 0, 0.75])
    for weight, old in zip(model.layers[-1].weights, before, strict=True):
        assert np.array_equal(weight.numpy(), old)
    assert np.isfinite(model(rows())).all()


def test_an_empty_cell_is_not_blamed_for_a_loss_that_is_nan() -> None:
    inner = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, activation=nn.layers.soft_relu_naive)])
    model = put_first(inner, columns(), (None, 3))
    model.compile("sgd", "mse")
    model.layers[-1].kernel.assign(np.full((5, 1), 100.0))
    diagnosis = examine(model, rows(), np.zeros((4, 1), np.float32))
    assert diagnosis.first is not None
    assert diagnosis.first.kind == "layer"
