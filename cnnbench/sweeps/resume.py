"""A sweep begun, or taken up again after whatever ended it: a kill, a crash, Ctrl-C, a full disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench import config, reporting, runs, system
from cnnbench.sweeps.plan import plan
from cnnbench.sweeps.run import run_sweep
from cnnbench.sweeps.store import Job, Sweep


def start_sweep(line: Sequence[str], config_dir: str | None) -> int:
    """Compose, check and store every run of a sweep, then run them; or go on with the same sweep.

    Args:
        line: the overrides.
        config_dir: the user's own options.

    Returns:
        the exit code.
    """
    planned = plan(line, config_dir)
    if planned.resume is not None:
        sweep = Sweep.open(Path(planned.resume))
        sweep.refuse_other_plan([job.config for job in planned.jobs], planned.search)
        return resume_sweep(sweep)

    plugins = _plugins(planned.jobs, planned.search)
    copy = config.code.Copy(config.code.fingerprint(plugins), plugins)
    copy.path()  # made now, whatever becomes of the code before the first run
    folder = runs.new_sweep_folder(planned.run_dir).resolve()
    sweep = Sweep(folder, list(line), planned.launcher, copy.code, planned.jobs, planned.search)
    config.remember(_settings(sweep))
    sweep.write()
    return run_sweep(sweep, copy)


def resume_sweep(sweep: Sweep, trusted: bool = False) -> int:
    """Run what is not done in a sweep, half trained runs from where they were; the exit code."""
    config.refuse_links(sweep.path)
    system.remove_abandoned(sweep.path)
    bases = [base["config"] for base in (sweep.search or {}).get("bases", [])]  # what new runs are made from
    for typed in () if trusted else (_settings(sweep), *bases, *(job.config for job in sweep.jobs)):
        config.require_own(typed, sweep.path)
        config.require_own_cache(typed, sweep.path)
    copy = config.code.Copy(sweep.code, _plugins(sweep.jobs, sweep.search))
    done = len(sweep.jobs) - len(sweep.left())
    of = sweep.search["settings"]["trials"] if sweep.search else len(sweep.jobs)
    reporting.stdout().print(f"{done} of {of} runs are done", highlight=False)
    return run_sweep(sweep, copy)


# -- code and trust ------------------------------------------------------------------------------


def _settings(sweep: Sweep) -> dict[str, Any]:
    """What a cluster is asked to run: maybe commands, so named and treated like plugins."""
    is_elsewhere = sweep.launcher["name"] not in ("basic", "joblib")
    made = sweep.search["bases"] if sweep.search else [job.config for job in sweep.jobs]
    return {"plugins": sweep.launcher if is_elsewhere else {}, "made": made}


def _plugins(jobs: Sequence[Job], search: Mapping[str, Any] | None) -> list[str]:
    configs = [job.config for job in jobs] + [base["config"] for base in (search or {}).get("bases", [])]
    return sorted({plugin for one in configs for plugin in one["plugins"]})
