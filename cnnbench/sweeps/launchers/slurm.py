"""Runs as jobs of Slurm."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import submitit

from cnnbench.sweeps.launchers.local import Code, run_once


class SubmititLauncher:
    """Jobs that each make one run, with what they ask for of a node to themselves.

    Every node must see the folder of the sweep. What the jobs print lies in `submitit/` there.

    Args:
        sweep: the folder.
        code: gives the copy of the code, for the nodes that see it; the others take the installed one.
        cluster: `slurm`, or `local` for processes of this machine.
        width, parameters: as of the settings.
    """

    def __init__(
        self, sweep: Path, code: Code, cluster: str, width: int, parameters: Mapping[str, Any]
    ) -> None:
        self.width = width
        self._executor = submitit.AutoExecutor(folder=sweep / "submitit", cluster=cluster)
        self._executor.update_parameters(**parameters)
        self._sweep, self._code = sweep, code
        self._cores = int(parameters.get("cpus_per_task", 1))
        self._threads = ThreadPoolExecutor(width, thread_name_prefix="launcher")
        self._running: dict[int, Any] = {}

    def submit(self, number: int) -> Future[str | None]:
        job = self._executor.submit(run_once, self._sweep, self._code(), number, self._cores)
        self._running[number] = job
        return self._threads.submit(self._wait, number, job)

    def _wait(self, number: int, job: Any) -> str | None:
        try:
            result: str | None = job.result()
        finally:
            self._running.pop(number)
        return result

    def stop(self, signal_number: int) -> None:
        for job in list(self._running.values()):
            job.cancel()

    def close(self) -> None:
        self._threads.shutdown(wait=True)
