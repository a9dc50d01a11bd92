"""Verbs that take many runs, or what became of them: compare, resume."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.errors import CnnbenchError
from cnnbench.report import DONE, resumable, stdout

if TYPE_CHECKING:
    from cnnbench.compare import Comparison


def compare_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Rank runs: mean ± deviation over seeds, with what they cost."""
    from cnnbench.compare import compare
    from cnnbench.finding import find_runs

    parser.add_argument(
        "places", nargs="*", type=Path, default=[Path("outputs")], help="run or sweep folders"
    )
    runs = find_runs(parser.parse_args(arguments).places)
    if not runs:
        raise CnnbenchError("there are no runs", "give a folder with runs, or make one: cnnbench")
    show_comparison(compare(runs))
    return DONE


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
