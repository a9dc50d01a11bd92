"""Verbs that take many runs, or what became of them: compare, diff, report, resume."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.errors import CnnbenchError
from cnnbench.report import DONE, resumable, stdout, write_lines

if TYPE_CHECKING:
    from cnnbench.comparison.compare import Comparison
    from cnnbench.results import RunFolder


def compare_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Rank runs: mean ± deviation over seeds, which differences are real, and what they cost."""
    from cnnbench.comparison.compare import compare_records
    from cnnbench.comparison.files import as_csv, as_json
    from cnnbench.comparison.records import COSTS, read_records
    from cnnbench.comparison.selecting import order, select
    from cnnbench.comparison.tables import MOST_ROWS
    from cnnbench.files import write_text
    from cnnbench.finding import find_runs
    from cnnbench.run_files import DAMAGED

    parser.add_argument(
        "places", nargs="*", type=Path, default=[Path("outputs")], help="run or sweep folders"
    )
    parser.add_argument("--filter", action="append", default=[], metavar="KEY=VALUE[,VALUE…]")
    parser.add_argument(
        "--sort", metavar="KEY", help="objective, test metric (test_f1_macro), cost, config key"
    )
    parser.add_argument(
        "--cost",
        choices=[name for name in COSTS if name != "examples_per_second"],
        default="seconds",
        help="for the front of quality against cost (default: seconds of training)",
    )
    parser.add_argument("--top", type=int, default=MOST_ROWS, help=f"groups to show (default: {MOST_ROWS})")
    parser.add_argument("--csv", metavar="FILE", help="one row per group; - is standard output")
    parser.add_argument("--json", metavar="FILE", help="everything, with each run; - is standard output")
    parser.add_argument("--html", type=Path, metavar="FILE", help="as a page")
    given = parser.parse_intermixed_args(arguments)
    records = select(read_records(_some(find_runs(given.places))), given.filter)
    if all(record.status == DAMAGED for record in records):
        raise CnnbenchError(records[0].reason, f"none of the runs can be read ({len(records)})")
    comparison = compare_records(records, given.cost)
    if given.sort:
        comparison = order(comparison, given.sort)
    written = {"csv": (given.csv, as_csv), "json": (given.json, as_json)}
    for place, text in written.values():
        if place == "-":
            write_lines(text(comparison).splitlines())
        elif place:
            write_text(Path(place), text(comparison))
    if given.html is not None:
        _write_comparison(comparison, given.places, given.html)
    if "-" not in (given.csv, given.json):
        show_comparison(comparison, given.top)
    return DONE


def show_comparison(comparison: Comparison, most: int | None = None) -> None:
    """Its tables, the runs without figures, and last the answer."""
    from cnnbench.comparison.tables import MOST_ROWS, answers, apart, rankings

    for table in rankings(comparison, stdout().width, MOST_ROWS if most is None else most):
        stdout().print(table)
    for line in apart(comparison):
        stdout().print(line, markup=False, highlight=False, soft_wrap=True, style="red")
    for line in answers(comparison):
        stdout().print(line, markup=False, highlight=False, soft_wrap=True)


def diff_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """What differs between two runs: config, figures, environment, and the test examples that flipped."""
    from cnnbench.comparison.differences import difference
    from cnnbench.comparison.side_by_side import as_json, sentences, tables
    from cnnbench.results import RunFolder

    parser.add_argument("first", type=Path, help="a run folder")
    parser.add_argument("second", type=Path, help="another")
    parser.add_argument("--json", action="store_true", help="everything, for other programs")
    given = parser.parse_args(arguments)
    found = difference(RunFolder.open(given.first), RunFolder.open(given.second))
    if given.json:
        write_lines(as_json(found).splitlines())
        return DONE
    for table in tables(found):
        stdout().print(table)
    for line in sentences(found):
        stdout().print(line, markup=False, highlight=False, soft_wrap=True)
    return DONE


def report_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Write one HTML page: of a run, or of all runs below a folder."""
    from cnnbench.comparison.compare import compare
    from cnnbench.finding import find_runs
    from cnnbench.page.of_run import run_page
    from cnnbench.results import RunFolder
    from cnnbench.run_files import DONE as RUN_DONE
    from cnnbench.run_files import REPORT
    from cnnbench.trust import refuse_links

    parser.add_argument("place", type=Path, help="a run folder, or a folder with runs below it")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: {REPORT} in that folder")
    given = parser.parse_args(arguments)
    output = given.output or given.place / REPORT
    folder = RunFolder(given.place)
    if not folder.has_run:
        _write_comparison(compare(_some(find_runs([given.place]))), [given.place], output)
        return DONE
    if folder.status != RUN_DONE:
        raise CnnbenchError(f"{folder.path} has no finished run (status: {folder.status})")
    refuse_links(folder.path)
    _write_page(run_page(folder, folder.metrics), output)
    return DONE


def _some(runs: list[RunFolder]) -> list[RunFolder]:
    if not runs:
        raise CnnbenchError("there are no runs", "give a folder with runs, or make one: cnnbench")
    return runs


def _write_comparison(comparison: Comparison, places: Sequence[Path], output: Path) -> None:
    from cnnbench.page.of_comparison import comparison_page
    from cnnbench.sweeps import Sweep

    command = None
    if len(places) == 1 and Sweep.is_one(places[0]):
        command = shlex.join(["cnnbench", "-m", *Sweep.open(places[0]).overrides])
    title = ", ".join(place.resolve().name for place in places)
    _write_page(comparison_page(comparison, title, output.parent, command), output)


def _write_page(page: str, output: Path) -> None:
    from cnnbench.files import atomic, unwritable

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic(output) as file:
            file.write(page)
    except OSError as error:
        raise unwritable(output, error) from error
    stdout().print(f"page: {output}", markup=False, highlight=False, soft_wrap=True)


def resume(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Go on with a run or a sweep that was interrupted, failed or killed, to the result it would have had."""
    from cnnbench.sweeps import Sweep

    parser.add_argument("place", type=Path, help="the folder of a run or of a sweep")
    parser.add_argument("--trust-plugins", action="store_true", help="run the code that it names")
    given = parser.parse_args(arguments)
    place, trusted = given.place, given.trust_plugins
    if Sweep.is_one(place):
        from cnnbench.sweeping import go_on

        return go_on(Sweep.open(place.resolve()), trusted)
    return _resume_run(place, trusted)


def _resume_run(place: Path, trusted: bool) -> int:
    from cnnbench.results import RunFolder
    from cnnbench.run_files import DONE as RUN_DONE
    from cnnbench.run_files import RUNNING
    from cnnbench.stored import stored_spec
    from cnnbench.terminal import train

    folder = RunFolder.open(place)
    if folder.status == RUN_DONE:
        stdout().print(f"{place} is done already", markup=False, highlight=False)
        return DONE
    if folder.status == RUNNING:
        raise CnnbenchError(f"another process is at work in {place}", "wait for it, or stop it first")
    spec = stored_spec(folder, trusted)
    with resumable(place):
        train(spec, resume=True)
    return DONE
