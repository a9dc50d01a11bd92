"""The verbs: each adds its arguments to a parser, does its work and returns an exit code.

Heavy imports stay inside: `cnnbench list` must not wait for TensorFlow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.errors import CnnbenchError, nearest
from cnnbench.report import DONE, FAILED, stdout

if TYPE_CHECKING:
    from cnnbench.compare import Comparison


def list_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Every option of every config group, or of one, in one line."""
    from cnnbench.config import options
    from cnnbench.report import options_text

    parser.add_argument("group", nargs="?", help="model, dataset, optimizer, …")
    group = parser.parse_args(arguments).group
    found = options()
    if group is not None and group not in found:
        raise CnnbenchError(f"there is no group {group!r}", nearest(group, found))
    stdout().print(options_text(found if group is None else {group: found[group]}), soft_wrap=True)
    return DONE


def compare_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Rank runs: mean ± deviation over seeds, with what they cost."""
    from cnnbench.compare import compare
    from cnnbench.results import find_runs

    parser.add_argument(
        "places", nargs="*", type=Path, default=[Path("outputs")], help="run or sweep folders"
    )
    runs = find_runs(parser.parse_args(arguments).places)
    if not runs:
        raise CnnbenchError("there are no runs", "give a folder with runs, or make one: cnnbench")
    show_comparison(compare(runs))
    return DONE


def show_comparison(comparison: Comparison) -> None:
    from cnnbench.report import ranking, unfinished

    if comparison.groups:
        stdout().print(ranking(comparison))
    for line in unfinished(comparison):
        stdout().print(line, markup=False, highlight=False, soft_wrap=True, style="red")


def verify_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Evaluate best.keras of a run again and compare with the recorded figures: PASS or FAIL."""
    from cnnbench.config import spec_from
    from cnnbench.report import differences_table
    from cnnbench.results import RunFolder
    from cnnbench.verify import verify

    parser.add_argument("run", type=Path, help="a run folder")
    folder = RunFolder.open(parser.parse_args(arguments).run)
    verdict = verify(folder, spec_from(folder.config, folder.path.name, folder.path))
    console = stdout()
    console.print(differences_table(verdict.rows))
    for complaint in verdict.complaints:
        console.print(complaint, markup=False)
    console.print("[green]PASS[/]" if verdict.passed else "[red]FAIL[/]")
    return DONE if verdict.passed else FAILED


def replay_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Repeat the step in which the loss of a run turned NaN or infinite, and show every tensor of it."""
    from cnnbench.config import spec_from
    from cnnbench.report import diagnosis_table
    from cnnbench.results import RunFolder
    from cnnbench.startup import import_tensorflow

    parser.add_argument("run", type=Path, help="a run folder")
    folder = RunFolder.open(parser.parse_args(arguments).run)
    model_file, x, y = folder.bad_step()
    spec = spec_from(folder.config, folder.path.name, folder.path)
    import_tensorflow(spec.plugins)
    from cnnbench import engine
    from cnnbench.diagnose import examine

    engine.prepare(spec.seed, spec.deterministic, "auto", spec.training.precision)
    diagnosis = examine(engine.load(model_file), x, y)
    stdout().print(diagnosis_table(diagnosis))
    stdout().print(f"{diagnosis.sentence}\nWhat to do: {diagnosis.advice}", markup=False, highlight=False)
    return DONE


VERBS: dict[str, Callable[[argparse.ArgumentParser, Sequence[str]], int]] = {
    "list": list_options,
    "compare": compare_runs,
    "verify": verify_run,
    "replay": replay_run,
}
