"""A run folder with anything in its files costs its own row, and no other."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_runs import write_failed, write_run
from rich.console import Console

from cnnbench import analysis, reporting, runs
from cnnbench.reporting import tables
from cnnbench.runs.folder import RunFolder

Cli = Callable[..., Outcome]

# -- what may be in a file -------------------------------------------------------------------------

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [10**400, -(10**400), 1e300, 1e308, float("inf"), float("nan"), -1, 0, "", "1e999", "0.5"]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["\ud800", "\x1b[31m", "[red]", "\u202e", "a\nb", "<script>"]),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers() | st.none(), max_size=3),
)
# Where in metrics.json, and in config.yaml.
METRICS = [
    (),
    ("status",),
    ("name",),
    ("seed",),
    ("objective",),
    ("value",),
    ("metrics",),
    ("metrics", "test"),
    ("metrics", "test", "accuracy"),
    ("metrics", "test", "odd"),
    ("best_epoch",),
    ("cost",),
    ("cost", "parameters"),
    ("cost", "seconds"),
    ("cost", "seconds", "fit"),
    ("reason",),
]
CONFIG = [
    (),
    ("seed",),
    ("model",),
    ("model", "_target_"),
    ("model", "dropout"),
    ("dataset",),
    ("optimizer",),
]
whole_files = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"[1, 2", b"null", b"5", b"{}", b"[" * 2000, b'{"a": ' * 2000, b"\xff\xfe", b"\0" * 50]
    ),
    st.sampled_from(
        [b"? {a: 1}\n: 2\n", b"2020-01-01: x\n1: y\nz: 3\n", b"!!binary aGk=: 1\na: 2\n", b"a: &b [*b]\n"]
    ),
)


def set_in(content: Any, place: tuple[str, ...], value: Any) -> Any:
    if not place:
        return value
    content = dict(content)
    content[place[0]] = set_in(content.get(place[0], {}), place[1:], value)
    return content


def without(content: Any, place: tuple[str, ...]) -> Any:
    content = dict(content)
    if len(place) > 1:
        content[place[0]] = without(content[place[0]], place[1:])
    else:
        content.pop(place[0], None)
    return content


@st.composite
def damages(draw: Any) -> Callable[[Path], object]:
    """Something done to one file of a run folder."""
    name = draw(
        st.sampled_from(["metrics.json", "config.yaml", "history.jsonl", "overrides.yaml", "failure.json"])
    )
    kind = draw(st.sampled_from(["value", "missing", "whole", "folder", "gone"]))
    places = {"metrics.json": METRICS, "config.yaml": CONFIG}.get(name, [])
    if kind in ("value", "missing") and places:
        place = draw(st.sampled_from(places if kind == "value" else places[1:]))
        value = draw(odd)

        def change(run: Path) -> None:
            load, dump = (
                (json.loads, json.dumps) if name == "metrics.json" else (yaml.safe_load, yaml.safe_dump)
            )
            content = load((run / name).read_text())
            if kind == "value":
                content = set_in(content, place, value)
            elif isinstance(content.get(place[0], None), dict) or len(place) == 1:
                content = without(content, place)
            (run / name).write_text(dump(content))  # type: ignore[operator]

        return change
    if kind == "folder":

        def make_folder(run: Path) -> None:
            (run / name).unlink(missing_ok=True)
            (run / name).mkdir()

        return make_folder
    content = draw(whole_files)
    return lambda run: (run / name).write_bytes(content)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    for seed in (0, 1):
        write_run(folder / f"good_{seed}", 0.75 + seed / 10, seed)
    write_run(folder / "odd", 0.5, 2, dropout=0.5)
    write_failed(folder / "failed", "no memory")
    return folder


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(damages(), min_size=1, max_size=2))
def test_whatever_one_run_holds_the_others_are_shown(
    damage: list[Callable[[Path], object]], pristine: Path, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    shutil.copytree(pristine, tmp_path / "runs")
    for change in damage:
        try:
            change(tmp_path / "runs" / "odd")
        except (ValueError, AttributeError, TypeError, OSError, RecursionError, yaml.YAMLError):
            continue  # the first has left nothing for the second to change
    found = runs.find_runs([tmp_path / "runs"])
    records = analysis.read_records(found)
    analysis.select_records(records, ["seed=0"])
    comparison = analysis.compare_records(records)
    ranked = {run.path.name for group in comparison.groups for run in group.runs}
    apart = {record.folder.path.name: record for record in comparison.apart}
    assert {"good_0", "good_1"} <= ranked
    assert ranked | set(apart) >= {"good_0", "good_1", "failed", "odd"}
    for width in (80, 200):
        for table in tables.ranking_tables(comparison, width):
            Console(file=io.StringIO(), width=width).print(table)
    lines = [*tables.apart_lines(comparison), *tables.answers(comparison)]
    if "odd" in apart and apart["odd"].status == runs.UNREADABLE:
        assert any(line.startswith("unreadable: ") and "odd" in line and len(line) < 1000 for line in lines)
    reporting.comparison_as_csv(comparison).encode()
    json.dumps(reporting.comparison_as_json(comparison), allow_nan=False).encode()
    page = reporting.comparison_page(comparison, "runs", tmp_path)
    assert "good_0" in page
    page.encode()


def test_half_a_character_in_a_file_leaves_a_page(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "good", 0.75, 0)
    write_failed(tmp_path / "runs" / "odd", "no memory")
    for file in (tmp_path / "runs" / "odd").glob("*.json"):
        file.write_text(file.read_text().replace("no memory", "no \\ud800"))
    comparison = analysis.compare_records(analysis.read_records(runs.find_runs([tmp_path / "runs"])))
    page = reporting.comparison_page(comparison, "runs", tmp_path)
    assert "no \\ud800" in page.encode().decode()


def is_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def is_too_large(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "value": 10**400}))


def is_of_another_type(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "metrics": {"test": 5}}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("metrics.json", is_a_folder),
        ("metrics.json", is_too_large),
        ("metrics.json", is_of_another_type),
        ("config.yaml", is_a_folder),
    ],
)
def test_compare_and_report_show_the_others_and_say_why(
    name: str, damage: Callable[[Path], object], pristine: Path, folder: Path, run_cli: Cli
) -> None:
    shutil.copytree(pristine, folder / "runs")
    damage(folder / "runs" / "odd" / name)
    outcome = run_cli("compare", "runs")
    assert outcome.exit_code == 0, outcome.err
    assert "val_accuracy 0.8" in outcome.out
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("unreadable: ")]
    assert "runs/odd" in line
    assert name in line
    outcome = run_cli("compare", "runs", "--json", "found.json")
    (apart,) = [
        one for one in json.loads((folder / "found.json").read_text())["apart"] if "odd" in one["path"]
    ]
    assert apart["status"] == "unreadable"
    assert run_cli("report", "runs").exit_code == 0
    page = (folder / "runs" / "report.html").read_text()
    assert "unreadable" in page
    assert "good_0" in page


def test_a_run_whose_history_cannot_be_read_is_ranked_and_told(pristine: Path, tmp_path: Path) -> None:
    shutil.copytree(pristine, tmp_path / "runs")
    (tmp_path / "runs" / "odd" / "history.jsonl").write_text('{"epoch": 1, "val_accuracy": "much"}\n')
    comparison = analysis.compare(runs.find_runs([tmp_path / "runs"]))
    assert len(comparison.groups) == 2
    page = reporting.comparison_page(comparison, "runs", tmp_path)
    assert "it has no curve" in page


def test_equal_runs_are_no_seeds_of_one_configuration(tmp_path: Path) -> None:
    for number in range(3):
        write_run(tmp_path / f"run_{number}", 0.75 + number / 1000, seed=0)
    comparison = analysis.compare([RunFolder(tmp_path / f"run_{number}") for number in range(3)])
    (group,) = comparison.groups
    assert len(group.by_seed) == 1
    assert tables.answers(comparison)[0].endswith("from one seed")
    assert (
        "±"
        not in reporting.comparison_page(comparison, "runs", tmp_path)
        .partition("<table")[2]
        .partition("</table>")[0]
    )
