"""`cnnbench doctor` on pictures in which everything was planted, and the runs that its fixes go into."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome
from PIL import Image

import cnnbench
from cnnbench import analysis, data, system
from cnnbench.data.dataset import Dataset, Split
from cnnbench.errors import CnnbenchError
from cnnbench.sweeps import doctor
from cnnbench.sweeps.doctor import Examination, Pool

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
    """60 + 20 pictures of two classes: 3 in the wrong one, 3 of test again, one blank, one tiny."""
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
    shutil.copy(root / "test" / "left" / "4.png", root / "train" / "left" / "equal.png")
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
    assert kinds["leak"] == {
        f"train/{name}" for name in ("left/again0.jpg", "right/again1.jpg", "left/equal.png")
    }
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
    second = cnnbench.doctor(
        "dataset=image_folder", f"dataset.root={planted}", f"dataset.size={SIDE}",
        "dataset.fixes=checked/fixes.csv", output="again",
    )  # fmt: skip
    assert second.examples == {"train": 65 - 7, "test": 20}
    assert {"leak", "blank", "wrong label"}.isdisjoint(second.counts)
    assert data.read_fixes(folder / "again" / "fixes.csv")[: len(rows)] == data.read_fixes(
        folder / "checked" / "fixes.csv"
    )
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


# -- Fixes of a few pictures, planted row by row ----------------------------------------------------


def small_pool(equal: Sequence[Sequence[int]]) -> Pool:
    """Return 16 training, 6 validation and 6 test pictures of two classes; rows of a list are equal."""
    x = np.random.default_rng(0).integers(0, 255, (28, 20, 20, 1)).astype(np.uint8)
    y = np.arange(28) % 2
    for first, *others in equal:
        x[others] = x[first]
    train, val, test = (Split(x[part], y[part]) for part in (slice(16), slice(16, 22), slice(22, 28)))
    return Pool(Dataset("d", "binary", train, test, val, class_names=("a", "b")))


def fixes_of(
    pool: Pool,
    pairs: Sequence[tuple[int, int, float]] | None = None,
    doubted: Sequence[int] = (),
    likely: float = 0.5,
    before: Sequence[data.Fix] = (),
) -> list[tuple[str, str, str, str]]:
    """Return split, example, action and value of each fix, where `likely` is the probability of class b."""
    pairs = [(*pair, 0.0) for pair in pool.equal_pairs] if pairs is None else pairs
    issues = [analysis.LabelIssue(row, 0.01, (1 - int(pool.y[row]),)) for row in doubted]
    trust = doctor._trust(pool, np.full((len(pool), 1), likely), issues)
    findings = [doctor._wrong_label(pool, one) for one in issues]
    findings += doctor._of_pairs(pool, pairs, trust)
    cluster = doctor._clusters(len(pool), pairs)
    examination = Examination(pool, "p", 0.0, cluster, trust, findings, [], [], [], before)
    return [(one.split, one.example, one.action, one.value) for one in examination.fixes()]


def test_of_equal_pictures_the_likely_label_stays() -> None:
    pool = small_pool([(0, 1)])  # of the classes a and b
    assert fixes_of(pool, likely=0.2) == [("train", "row 1", "exclude", "")]
    assert fixes_of(pool, likely=0.8) == [("train", "row 0", "exclude", "")]
    assert fixes_of(pool, doubted=[0]) == [("train", "row 0", "exclude", "")]
    assert fixes_of(pool, doubted=[1], likely=0.8) == [("train", "row 1", "exclude", "")]
    both = [("train", "row 0", "exclude", ""), ("train", "row 1", "exclude", "")]
    assert sorted(fixes_of(pool, doubted=[0, 1])) == both


def test_what_is_in_three_splits_stays_in_test_alone() -> None:
    found = fixes_of(small_pool([(10, 12, 20, 24)]))
    assert sorted(found) == [
        ("train", "row 10", "exclude", ""),
        ("train", "row 12", "exclude", ""),
        ("val", "row 4", "exclude", ""),
    ]


def test_groups_are_of_one_split_and_have_every_member() -> None:
    pool = small_pool([])
    assert {row[:3] for row in fixes_of(pool, [(2, 4, 0.3), (3, 4, 0.4)])} == {
        ("train", f"row {row}", "group") for row in (2, 3, 4)
    }
    # 14 is near 15, 15 near a picture of val, and that near another one.
    found = fixes_of(pool, [(14, 15, 0.3), (15, 16, 0.3), (16, 17, 0.3)])
    assert {row[:3] for row in found} == {
        ("train", "row 15", "exclude"), ("val", "row 0", "group"), ("val", "row 1", "group")
    }  # fmt: skip
    assert all(value.startswith("same val ") for *_, action, value in found if action == "group")
    both = fixes_of(pool, [(13, 14, 0.3), (14, 15, 0.3), (13, 16, 0.5), (16, 17, 0.3)])
    assert {value.rpartition(" ")[0] for *_, action, value in both if action == "group"} == {
        "same train", "same val"
    }  # fmt: skip


def test_a_table_keeps_the_fixes_that_the_data_have_already() -> None:
    pool = small_pool([(0, 1)])
    before = [
        data.Fix("train", "row 70", "exclude"),
        data.Fix("train", "row 1", "relabel", "a", "b"),
        data.Fix("train", "row 5", "relabel", "b", "a"),
        data.Fix("train", "row 3", "group", "mine"),
        data.Fix("train", "row 8", "group", "yours"),
    ]
    found = fixes_of(pool, [(0, 1, 0.0), (2, 3, 0.3), (3, 8, 0.3)], likely=0.2, before=before)
    assert found == [
        ("train", "row 70", "exclude", ""),
        ("train", "row 5", "relabel", "b"),
        ("train", "row 3", "group", found[-1][-1]),
        ("train", "row 8", "group", found[-1][-1]),
        ("train", "row 1", "exclude", ""),
        ("train", "row 2", "group", found[-1][-1]),
    ]


def test_the_lines_that_follow_keep_the_folder_of_options(folder: Path) -> None:
    sweep, _ = doctor._worth(["dataset=digits"], folder, "multiclass", "my conf")
    assert sweep.startswith("cnnbench -m --config-dir 'my conf' dataset=digits ")
