"""The verb `resume`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cnnbench.errors import CnnbenchError
from cnnbench.report import DONE, resumable, stdout


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
