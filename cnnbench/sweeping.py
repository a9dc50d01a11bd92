"""From the line of a sweep to its runs and their comparison; see `sweeps` and `supervise`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench import config
from cnnbench.errors import CnnbenchError
from cnnbench.report import DONE, FAILED, resumable, stderr, stdout
from cnnbench.sweeps import Job, Sweep
from cnnbench.trust import refuse_links, remember, require_own

RESUME = "sweep.resume="


def start(line: Sequence[str], config_dir: str | None) -> int:
    """Compose, check and store every run of a sweep, then run them; or go on with the same sweep.

    Args:
        line: the overrides.
        config_dir: the user's own options.

    Returns:
        the exit code.
    """
    from cnnbench.files import new_sweep_folder

    resumed = [text.removeprefix(RESUME) for text in line if text.startswith(RESUME)]
    overrides = [text for text in line if not text.startswith(RESUME)]
    settings = [text for text in overrides if text.lstrip("+~").startswith(("hydra/", "hydra."))]
    for text in settings:
        if text.lstrip("+~").startswith(("hydra/sweeper", "hydra.sweep")):
            raise CnnbenchError(
                f"{text}: the runs of a sweep are listed and stored before the first one starts",
                "choose the folder with run_dir=…, and the launcher with hydra/launcher=…",
            )
    jobs, wanted = _jobs([text for text in overrides if text not in settings], config_dir)
    if resumed:
        sweep = Sweep.open(Path(resumed[-1]))
        sweep.refuse_other_grid([job.config for job in jobs])
        return go_on(sweep)

    from cnnbench import code
    from cnnbench.datasets.image_cache import default_cache_dir

    copy = code.store(_plugins(jobs), default_cache_dir())
    sweep = Sweep(new_sweep_folder(wanted).resolve(), overrides, settings, copy.name, jobs)
    remember(_settings(sweep))
    sweep.write()
    return _run(sweep, copy)


def go_on(sweep: Sweep, trusted: bool = False) -> int:
    """Run what is not done in a sweep, half trained runs from where they were; the exit code."""
    from cnnbench import code
    from cnnbench.datasets.image_cache import default_cache_dir

    refuse_links(sweep.path)
    for typed in () if trusted else (_settings(sweep), *(job.config for job in sweep.jobs)):
        require_own(typed, sweep.path)
    copy = code.stored(sweep.code, default_cache_dir())
    if copy is None and sweep.code != code.fingerprint(_plugins(sweep.jobs)):
        stderr().print("the code has changed since the sweep began, and no copy is left", style="yellow")
    left = sweep.left()
    stdout().print(f"{len(sweep.jobs) - len(left)} of {len(sweep.jobs)} runs are done", highlight=False)
    return _run(sweep, copy)


def _jobs(overrides: Sequence[str], config_dir: str | None) -> tuple[list[Job], str | None]:
    """Every run, and the folder that the line asks for."""
    jobs: list[Job] = []
    wanted: str | None = None
    for number, line in enumerate(config.sweep_jobs(overrides, config_dir)):
        try:
            job = compose_job(number, line, config_dir)
        except CnnbenchError as error:
            where = f"run {number} of the sweep ({' '.join(line)})"
            raise CnnbenchError(f"{where}: {error.message}", error.hint) from error
        wanted = job.config["run_dir"]
        jobs.append(job)
    return jobs, wanted


def compose_job(number: int, line: Sequence[str], config_dir: str | None) -> Job:
    """One run of a sweep from its overrides.

    Raises:
        CnnbenchError: anything in it is wrong.
    """
    composed = config.compose(line, config_dir)
    made = config.named(composed, composed.hydra.runtime.choices)
    return Job(number, f"{number:03d}_{made['name']}_seed{made['seed']}", list(line), made)


def _settings(sweep: Sweep) -> dict[str, Any]:
    """Of Hydra, which makes and runs what they name before any check of ours."""
    return {"plugins": sweep.settings, "jobs": [job.config for job in sweep.jobs]}


def _plugins(jobs: Sequence[Job]) -> list[str]:
    return sorted({plugin for job in jobs for plugin in job.config["plugins"]})


def _run(sweep: Sweep, copy: Path | None) -> int:
    from cnnbench.compare import compare
    from cnnbench.finding import find_runs
    from cnnbench.supervise import supervise
    from cnnbench.verbs.of_runs import show_comparison

    def warn(text: str) -> None:
        stderr().print(text, markup=False, style="red")

    shown = _shown(sweep.path)
    with resumable(shown):
        supervise(sweep, copy, warn)
    comparison = compare(find_runs([shown]))
    show_comparison(comparison)
    stdout().print(f"results: {shown}", markup=False, highlight=False, soft_wrap=True)
    return FAILED if sweep.left() else DONE


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
