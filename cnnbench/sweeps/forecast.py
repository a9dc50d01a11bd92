"""The forecast of a run or a sweep: what would fail and what it would take, found without running it."""

from __future__ import annotations

import json
import logging
import operator
import signal
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from cnnbench import system
from cnnbench.config import axes, spec_from
from cnnbench.errors import CnnbenchError, first_line
from cnnbench.runs import AVERAGE, Training, length
from cnnbench.sweeps.launchers import RUNS_PER_PROCESS, LocalLauncher
from cnnbench.sweeps.plan import Line
from cnnbench.sweeps.schema import Forecast, Plan, Rehearsal
from cnnbench.sweeps.store import Job, Sweep

# Two jobs that differ in nothing else take the same and fail alike.
NOT_DISTINCT = ("seed", "name", "run_dir", "objective", "expected")


def forecast_line(
    line: Sequence[str], is_sweep: bool, config_dir: str | None, tell: Callable[[str], object]
) -> list[Forecast]:
    """Compose every job and rehearse each distinct one; what one of them does harms no other.

    Args:
        line: the overrides.
        is_sweep: whether they make several jobs. A search makes one for each combination of options of
            groups: what else it chooses is known only when it runs.
        config_dir: a folder with the user's own options.
        tell: is told what is tried next.

    Returns:
        one for each job that is not left out, in their order.

    Raises:
        CnnbenchError: the sweep itself is wrong.
    """
    read = Line.read(line, config_dir) if is_sweep else Line(axes(line, config_dir), Plan(), {}, None)
    lines: Sequence[Sequence[str]] = read.combinations
    if is_sweep and read.search is None:  # the average of folds takes no training
        every = (one for each in read.combinations for one in read.with_folds(each, config_dir))
        lines = [one for one in every if one[-1:] != (f"training.fold={AVERAGE}",)]
    if read.search is not None:
        lines = [base.overrides for base in read.bases(config_dir)]
    forecasts: dict[int, Forecast] = {}
    alike: dict[str, list[Job]] = {}
    for overrides in lines:
        number = len(forecasts)
        try:
            job = read.job(number, overrides, config_dir)
        except CnnbenchError as error:
            forecasts[number] = Forecast(number, overrides, error=str(error))
            continue
        if job is not None:
            forecasts[number] = Forecast(number, overrides, job.folder)
            alike.setdefault(_kind(job), []).append(job)
    free = system.gpu_memory_free()  # TensorFlow keeps what it has taken
    for jobs, found in zip(
        alike.values(), _rehearsed([jobs[0] for jobs in alike.values()], tell), strict=True
    ):
        forecasts.update((job.number, _forecast(job, found, free)) for job in jobs)
    return list(forecasts.values())


def _kind(job: Job) -> str:
    kept = {key: value for key, value in job.config.items() if key not in NOT_DISTINCT}
    training = {key: value for key, value in kept["training"].items() if key not in ("epochs", "fold")}
    return json.dumps({**kept, "training": training}, sort_keys=True)


def _forecast(job: Job, found: Rehearsal | str, free: int | None) -> Forecast:
    if isinstance(found, str):
        return Forecast(job.number, job.overrides, job.folder, error=found)
    training = Training.model_validate(job.config["training"])
    phases = [one for one in (training, training.fine_tuning) if one is not None]
    epochs = [length(one.epochs, one.max_steps, found.steps) for one in phases]
    seconds = found.once_seconds + sum(map(operator.mul, epochs, found.epoch_seconds))
    if training.max_minutes is not None:
        seconds = min(seconds, 60 * training.max_minutes)
    return Forecast(
        job.number,
        job.overrides,
        job.folder,
        parameters=found.parameters,
        flops=found.flops,
        epoch_seconds=found.epoch_seconds[0],
        seconds=seconds,
        peak_memory_bytes=found.peak_memory_bytes,
        device=found.device,
        engine=found.engine,
        peak_gpu_memory_bytes=found.peak_gpu_memory_bytes,
        free_gpu_memory_bytes=None if found.device is None else free,
    )


# -- Rehearsals, in a process of their own -----------------------------------------------------------


def _rehearsed(jobs: Sequence[Job], tell: Callable[[str], object]) -> Iterable[Rehearsal | str]:
    """Yield what each job takes, or why it fails; a job that kills its process costs one result."""
    with tempfile.TemporaryDirectory(prefix="cnnbench-check-") as scratch:
        sweep = Sweep(Path(scratch), [], {}, "", list(jobs))
        sweep.write()
        launcher = LocalLauncher(sweep.path, lambda: None, 1, RUNS_PER_PROCESS, quiet=True, verb="rehearse")
        try:
            for place, job in enumerate(jobs):
                tell(f"trying {place + 1} of {len(jobs)}: {' '.join(job.overrides) or 'the defaults'}")
                death = launcher.submit(place).result()
                if death is not None:
                    yield death
                    continue
                found = system.read_json(_result(sweep, place))
                yield found["error"] if "error" in found else Rehearsal(**found)
        finally:
            launcher.stop(signal.SIGKILL)  # somebody may have stopped us
            launcher.close()


def rehearse_job(sweep: Sweep, number: int) -> None:
    """Rehearse a job of a stored sweep, and write down what it takes, or why it fails."""
    logging.getLogger("cnnbench").addHandler(logging.NullHandler())  # remarks are for the run itself
    folder = sweep.run_folder(number).path
    try:
        spec = spec_from(sweep.jobs[number].config, folder)
        system.import_tensorflow(spec.plugins)
        from cnnbench.sweeps.rehearsal import rehearse

        found = asdict(rehearse(spec, folder))
    except Exception as error:  # noqa: BLE001  whatever it is, the run would fail with it
        found = {"error": first_line(error)}
    system.write_json(_result(sweep, number), found)


def _result(sweep: Sweep, number: int) -> Path:
    return sweep.path / f"{number}.json"
