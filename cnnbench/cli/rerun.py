"""A line typed again for the same `run_dir`, as in CI: what becomes of the run or the sweep that is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnnbench import api, config, reporting, runs, sweeps
from cnnbench.cli.console import show_run, train
from cnnbench.cli.housekeeping import remove
from cnnbench.errors import CnnbenchError, nearest

KEY = "run_dir_exists"
ERROR, RESUME, REPLACE = CHOICES = ("error", "resume", "replace")


def choice(overrides: Sequence[str]) -> str:
    """Return what a line says about a `run_dir` that holds something: one of `CHOICES`.

    Raises:
        CnnbenchError: it says something else.
    """
    typed = config.typed_values([text for text in overrides if text.startswith(f"{KEY}=")], resolve=False)
    found = str(typed.get(KEY, ERROR))
    if found not in CHOICES:
        raise CnnbenchError(f"{KEY}={found} is none of its choices", nearest(found, CHOICES))
    return found


def run_again(spec: runs.RunSpec, chosen: str) -> api.Run | None:
    """Go on with the run that is in the folder of a spec, or remove it.

    Returns:
        the finished run; None where the folder is free now.

    Raises:
        CnnbenchError: what is there is no run, is at work, or was made by another config.
    """
    if chosen == ERROR or spec.run_dir is None or not _holds_something(spec.folder):
        return None
    if not runs.RunFolder(spec.folder).has_run:
        raise CnnbenchError(f"{spec.folder} is not empty, and holds no run", "choose another run_dir")
    run = api.open_run(spec.folder)
    if chosen == REPLACE:
        _replace(spec.folder)
        return None
    stored = config.with_keywords(run.config)
    if changed := runs.differing(stored, spec.config):
        was, now = next(iter(changed.values()))
        raise CnnbenchError(
            f"the run in {spec.folder} was made with another {', '.join(changed)} ({was}, now {now})",
            f"{KEY}={REPLACE} removes it and begins anew",
        )
    if run.status == runs.DONE:
        reporting.say(reporting.stdout(), f"{spec.folder} is done already")
        show_run(run)
        return run
    return train(run.spec_to_resume(), resume=True)


def sweep_again(overrides: Sequence[str], chosen: str) -> list[str]:
    """Return the line that goes on with the sweep in its `run_dir`; or remove the sweep.

    Raises:
        CnnbenchError: a run of it is at work.
    """
    line = list(overrides)
    wanted = config.typed_values([text for text in line if text.startswith("run_dir=")]).get("run_dir")
    if chosen == ERROR or wanted is None or not sweeps.Sweep.is_one(Path(str(wanted))):
        return line
    if chosen == RESUME:
        return [*line, config.override("sweep.resume", str(wanted))]
    _replace(Path(str(wanted)))
    return line


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _replace(folder: Path) -> None:
    remove(folder)
    reporting.say(reporting.stdout(), f"{folder} held a run already, which is removed: {KEY}={REPLACE}")
