"""Verbs that take many runs, or what became of them: compare, report, resume."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.errors import CnnbenchError
from cnnbench.report import DONE, resumable, stdout

if TYPE_CHECKING:
    from cnnbench.compare import Comparison
    from cnnbench.results import RunFolder


def compare_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Rank runs: mean ± deviation over seeds, with what they cost."""
    from cnnbench.compare import compare
    from cnnbench.finding import find_runs

    parser.add_argument(
        "places", nargs="*", type=Path, default=[Path("outputs")], help="run or sweep folders"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write it as a page, too")
    given = parser.parse_args(arguments)
    comparison = compare(_some(find_runs(given.places)))
    show_comparison(comparison)
    if given.html is not None:
        _write_comparison(comparison, given.places, given.html)
    return DONE


def report_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Write one HTML page: of a run, or of all runs below a folder."""
    from cnnbench.compare import compare
    from cnnbench.finding import find_runs
    from cnnbench.page.of_run import run_page
    from cnnbench.results import DONE as RUN_DONE
    from cnnbench.results import REPORT, RunFolder
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


def show_comparison(comparison: Comparison) -> None:
    from cnnbench.report import rankings, unfinished

    for table in rankings(comparison):
        stdout().print(table)
    for line in unfinished(comparison):
        stdout().print(line, markup=False, highlight=False, soft_wrap=True, style="red")


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
    from cnnbench.results import DONE as RUN_DONE
    from cnnbench.results import RUNNING, RunFolder
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
