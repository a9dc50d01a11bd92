"""What a run or a sweep would take and what of it would fail, found out without running it."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cnnbench import system
from cnnbench.config import axes, spec_from
from cnnbench.errors import CnnbenchError, first_line
from cnnbench.sweeps.launchers import RUNS_PER_PROCESS, describe_exit
from cnnbench.sweeps.plan import Line
from cnnbench.sweeps.schema import Forecast, Plan, Rehearsal
from cnnbench.sweeps.store import Job

# Two jobs that differ in nothing else take the same and fail alike.
NOT_DISTINCT = ("seed", "name", "run_dir", "objective", "expected")


def forecast_line(
    line: Sequence[str], is_sweep: bool, config_dir: str | None, tell: Callable[[str], object]
) -> list[Forecast]:
    """Compose every job and rehearse each distinct one; what one of them does harms no other.

    Args:
        line: the overrides.
        is_sweep: whether they make several jobs. Of a search it is one for each combination of options of
            groups: what else it chooses is known only when it runs.
        config_dir: the user's own options.
        tell: is told what is tried next.
    """
    jobs: dict[int, Job] = {}
    errors: dict[int, str] = {}
    lines: dict[int, Sequence[str]] = {}
    read = Line.read(line, config_dir) if is_sweep else Line(axes(line, config_dir), Plan(), {}, None)
    bases = read.bases(config_dir) if read.search else []
    for overrides in [base["overrides"] for base in bases] if bases else read.combinations:
        number = len(lines)
        try:
            job = read.job(number, overrides, config_dir)
        except CnnbenchError as error:
            errors[number] = str(error)
        else:
            if job is None:
                continue
            jobs[number] = job
        lines[number] = overrides
    distinct: dict[str, list[Job]] = {}
    for job in jobs.values():
        distinct.setdefault(_kind(job), []).append(job)
    found: dict[int, Rehearsal | str] = dict(errors)
    with _Rehearsals() as rehearsals:
        for position, alike in enumerate(distinct.values(), start=1):
            tell(f"trying {position} of {len(distinct)}: {' '.join(alike[0].overrides) or 'the defaults'}")
            result = rehearsals.of(alike[0])
            found.update((job.number, result) for job in alike)
    return [_forecast(number, line, jobs.get(number), found[number]) for number, line in lines.items()]


def _kind(job: Job) -> str:
    kept = {key: value for key, value in job.config.items() if key not in NOT_DISTINCT}
    training = {key: value for key, value in kept["training"].items() if key != "epochs"}
    return json.dumps({**kept, "training": training}, sort_keys=True)


def _forecast(number: int, line: Sequence[str], job: Job | None, found: Rehearsal | str) -> Forecast:
    if job is None or isinstance(found, str):
        return Forecast(number, line, job.folder if job else None, error=str(found))
    training = job.config["training"]
    epochs = [training["epochs"], (training["fine_tuning"] or {}).get("epochs", 0)]
    spent = [count * seconds for count, seconds in zip(epochs, found.epoch_seconds, strict=False)]
    return Forecast(
        number,
        line,
        job.folder,
        parameters=found.parameters,
        flops=found.flops,
        epoch_seconds=found.epoch_seconds[0],
        seconds=found.once_seconds + sum(spent),
        peak_memory_bytes=found.peak_memory_bytes,
    )


class _Rehearsals:
    """A process that rehearses one job after another; what kills it costs the result of one."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")  # a fork would copy TensorFlow's threads' locks
        self._process: Any = None
        self._made = 0

    def __enter__(self) -> _Rehearsals:
        self._scratch = tempfile.TemporaryDirectory(prefix="cnnbench-check-")
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop()
        self._scratch.cleanup()

    def of(self, job: Job) -> Rehearsal | str:
        """What the job takes, or why it fails."""
        if self._process is None:
            self._start()
        self._connection.send((job.config, str(Path(self._scratch.name) / job.folder)))
        try:
            result: Rehearsal | str = self._connection.recv()
        except EOFError:
            self._process.join()
            code, self._process = self._process.exitcode, None
            return describe_exit(code)
        self._made += 1
        if self._made % RUNS_PER_PROCESS == 0:
            self._stop()
        return result

    def _start(self) -> None:
        self._connection, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(connection: Connection) -> None:
    """In the child: rehearse what comes, until nothing does."""
    os.setsid()  # Ctrl-C is for the parent, which ends this process
    os.dup2(2, 1)  # a download's progress is no part of the answer
    logging.getLogger("cnnbench").addHandler(logging.NullHandler())  # remarks are for the run itself
    while True:
        try:
            job_config, folder = connection.recv()
        except EOFError:
            return
        connection.send(_rehearse(job_config, Path(folder)))


def _rehearse(job_config: dict[str, Any], folder: Path) -> Rehearsal | str:
    try:
        spec = spec_from(job_config, folder)

        system.import_tensorflow(spec.plugins)
        from cnnbench.sweeps.rehearsal import rehearse

        return rehearse(spec, folder)
    except Exception as error:  # noqa: BLE001  whatever it is, the run would fail with it
        return first_line(error)
