"""`cnnbench doctor` on pictures in which everything was planted, and the runs that its fixes go into."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome
from PIL import Image

import cnnbench
from cnnbench import system
from cnnbench.errors import CnnbenchError

Cli = Callable[..., Outcome]
SIDE = 48


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No backbone of this machine, and features of this test alone."""
    monkeypatch.setenv("CNNBENCH_BACKBONES", "none")
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))


def drawn(rng: np.random.Generator, bright_left: bool) -> Image.Image:
    """Return a picture of blobs that is brighter on one side."""
    small = rng.integers(0, 120, (6, 6, 3))
    small[:, :3] += 120 * bright_left
    small[:, 3:] += 120 * (not bright_left)
    return Image.fromarray(small.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


@pytest.fixture
def planted(folder: Path) -> Path:
    """60 + 20 pictures of two classes: 3 in the wrong one, 2 of test again in train, one blank, one tiny."""
    rng, root = np.random.default_rng(0), folder / "planted"
    for split, count in (("train", 60), ("test", 20)):
        for number in range(count):
            label = number % 2
            wrong = split == "train" and number < 3
            place = root / split / ("left", "right")[label ^ wrong] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            drawn(rng, label == 0).save(place)
    for number in (0, 1):
        again = Image.open(root / "test" / ("left", "right")[number] / f"{number}.png")
        again.resize((40, 40)).save(
            root / "train" / ("left", "right")[number] / f"again{number}.jpg", quality=80
        )
    Image.new("RGB", (SIDE, SIDE), (90, 90, 90)).save(root / "train" / "left" / "blank.png")
    drawn(rng, True).resize((8, 8)).save(root / "train" / "left" / "tiny.png")
    return root


def test_what_was_planted_is_found_and_fixed(planted: Path, run_cli: Cli, folder: Path) -> None:
    before = {path: path.read_bytes() for path in planted.rglob("*.*")}
    line = (str(planted), f"dataset.size={SIDE}", "device=cpu")
    outcome = run_cli("doctor", *line, "--output", "checked", "--limit", "1%", "--json")
    told = json.loads(outcome.out)
    assert (outcome.exit_code, told["passed"], told["features"]) == (3, False, "pixels")
    kinds: dict[str, set[str]] = {}
    for one in told["findings"]:
        kinds.setdefault(one["kind"], set()).add(one["example"])
    assert kinds["leak"] == {"train/left/again0.jpg", "train/right/again1.jpg"}
    assert kinds["blank"] == {"train/left/blank.png"}
    assert kinds["tiny"] == {"train/left/tiny.png"}
    assert kinds["wrong label"] == {"train/right/0.png", "train/left/1.png", "train/right/2.png"}
    with (folder / "checked" / "fixes.csv").open() as file:
        rows = {row["example"]: row for row in csv.DictReader(file)}
    assert {name for name, row in rows.items() if row["action"] == "exclude"} >= {
        *kinds["leak"], *kinds["blank"], *kinds["wrong label"]
    }  # fmt: skip
    assert not any(row["split"] == "test" and row["action"] == "exclude" for row in rows.values())
    page = (folder / "checked" / "doctor.html").read_text()
    assert page.count("data:image/jpeg") >= 8
    assert "train/right/0.png" in page
    assert before == {path: path.read_bytes() for path in planted.rglob("*.*")}
    # The doctor sees its own fixes, and they go into a run.
    again = cnnbench.doctor(
        "dataset=image_folder", f"dataset.root={planted}", f"dataset.size={SIDE}",
        "dataset.fixes=checked/fixes.csv", output="again",
    )  # fmt: skip
    assert again.examples == {"train": 64 - 6, "test": 20}
    assert {"leak", "blank", "wrong label"}.isdisjoint(again.counts)
    with pytest.raises(CnnbenchError, match="is there already"):
        cnnbench.doctor("dataset=digits", output="checked")


def test_the_lines_that_it_gives_run(run_cli: Cli, folder: Path) -> None:
    found = cnnbench.doctor(
        "dataset=digits", "training.epochs=1", "training.examples=60", "device=cpu", output="d"
    )
    sweep, compare = found.next
    assert "seed=0,1,2" in sweep
    assert run_cli(*sweep.replace("seed=0,1,2", "seed=0").split()[1:]).exit_code == 0
    told = json.loads(run_cli(*compare.split()[1:], "--json").out)
    (ranking,) = told["rankings"]
    assert [len(group["runs"]) for group in ranking["groups"]] == [1, 1]


def test_a_run_is_looked_at_by_its_data(finished_run: Path, run_cli: Cli) -> None:
    told = json.loads(run_cli("doctor", str(finished_run), "--json").out)
    assert told["features"] == "pixels"
    assert Path(told["page"]).is_file()
    assert run_cli("doctor", str(finished_run), "dataset=digits").exit_code == 2


def test_tables_are_judged_by_their_columns(folder: Path) -> None:
    rng = np.random.default_rng(0)
    size = rng.normal(size=200)
    price = 3 * size + rng.normal(scale=0.1, size=200)
    price[5] += 50
    city = np.where(size > 0, "Seoul", "Jeju")
    rows = [f"{size[row]},{city[row]},{price[row]}" for row in range(200)]
    (folder / "houses.csv").write_text("\n".join(["size,city,price", *rows]))
    found = cnnbench.doctor("dataset=table", "dataset.file=houses.csv", "dataset.target=price")
    assert found.features == "columns"
    (one,) = (one for one in found.findings if one.kind == "wrong label")
    assert float(one.label) == pytest.approx(price[5], rel=1e-3)


def test_the_lacking_package_is_named(monkeypatch: pytest.MonkeyPatch, run_cli: Cli) -> None:
    real = system.startup.find_spec
    monkeypatch.setattr(system.startup, "find_spec", lambda name: None if name == "cleanlab" else real(name))
    outcome = run_cli("doctor", "dataset=digits")
    assert outcome.exit_code == 2
    assert "cnnbench[doctor]" in outcome.err


@pytest.mark.parametrize("limit", ["much", "1.5", "-1"])
def test_a_limit_is_a_share(limit: str, run_cli: Cli) -> None:
    outcome = run_cli("doctor", "dataset=digits", f"--limit={limit}")
    assert outcome.exit_code == 2
    assert "--limit 2%" in outcome.err
