"""From the line of a sweep to its runs and their comparison; see `sweeps` and `supervise`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench import config
from cnnbench.launchers.settings import launcher_settings
from cnnbench.planning import plan, studies
from cnnbench.report import DONE, FAILED, resumable, stderr, stdout
from cnnbench.sweeps import Job, Sweep
from cnnbench.trust import refuse_links, remember, require_own


def start(line: Sequence[str], config_dir: str | None) -> int:
    """Compose, check and store every run of a sweep, then run them; or go on with the same sweep.

    Args:
        line: the overrides.
        config_dir: the user's own options.

    Returns:
        the exit code.
    """
    from cnnbench.files import new_sweep_folder

    planned = plan(line, config_dir)
    if planned.resume is not None:
        sweep = Sweep.open(Path(planned.resume))
        sweep.refuse_other_plan([job.config for job in planned.jobs], planned.search)
        return go_on(sweep)

    from cnnbench import code
    from cnnbench.datasets.image_cache import default_cache_dir

    copy = code.store(_plugins(planned.jobs, planned.search), default_cache_dir())
    folder = new_sweep_folder(planned.run_dir).resolve()
    sweep = Sweep(folder, list(line), planned.launcher, copy.name, planned.jobs, planned.search)
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
    if copy is None and sweep.code != code.fingerprint(_plugins(sweep.jobs, sweep.search)):
        stderr().print("the code has changed since the sweep began, and no copy is left", style="yellow")
    done = len(sweep.jobs) - len(sweep.left())
    of = sweep.search["settings"]["trials"] if sweep.search else len(sweep.jobs)
    stdout().print(f"{done} of {of} runs are done", highlight=False)
    return _run(sweep, copy)


# -- code and trust ------------------------------------------------------------------------------


def _settings(sweep: Sweep) -> dict[str, Any]:
    """What a cluster is asked to run: maybe commands, so named and treated like plugins."""
    is_elsewhere = sweep.launcher["name"] not in ("basic", "joblib")
    made = sweep.search["bases"] if sweep.search else [job.config for job in sweep.jobs]
    return {"plugins": sweep.launcher if is_elsewhere else {}, "made": made}


def _check(made: Mapping[str, Any]) -> None:
    """Of a config that a search has put together."""
    config.check_config(made)
    remember(made)


def _plugins(jobs: Sequence[Job], search: Mapping[str, Any] | None) -> list[str]:
    configs = [job.config for job in jobs] + [base["config"] for base in (search or {}).get("bases", [])]
    return sorted({plugin for one in configs for plugin in one["plugins"]})


# -- running --------------------------------------------------------------------------------------


def _run(sweep: Sweep, copy: Path | None) -> int:
    from cnnbench.comparison.compare import compare
    from cnnbench.finding import find_runs
    from cnnbench.supervise import supervise
    from cnnbench.verbs.of_runs import show_comparison

    launcher = launcher_settings(sweep.launcher).open(sweep, copy)
    study = studies().Study(sweep, _check) if sweep.search else None

    def ended(number: int, how: str | None) -> None:
        if how is not None:
            stderr().print(f"run {number}: {how}", markup=False, style="red")
        elif launcher.width > 1:
            _tell(sweep, number)
        if study is not None:
            study.ended(number)

    shown = _shown(sweep.path)
    try:
        with resumable(shown):
            supervise(sweep, launcher, study.numbers() if study else iter(sweep.left()), ended)
    finally:
        launcher.close()
    show_comparison(compare(find_runs([shown])))
    stdout().print(f"results: {shown}", markup=False, highlight=False, soft_wrap=True)
    return FAILED if sweep.left() else DONE


def _tell(sweep: Sweep, number: int) -> None:
    """One line for a run that could not speak for itself, since several are under way."""
    metrics = sweep.run_folder(number).metrics
    value = metrics.get("value")
    result = f"{metrics['objective']} {value:.4g}" if value is not None else metrics.get("reason", "")
    text = f"run {number} {metrics.get('status')}: {sweep.varied(number)}  {result}"
    stdout().print(text, markup=False, highlight=False, soft_wrap=True)


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
