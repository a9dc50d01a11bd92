"""Runs as tasks of a Ray cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ray

from cnnbench.errors import CnnbenchError, one_line
from cnnbench.sweeps.launchers.local import Code, run_once

QUIET = {"log_to_driver": False, "logging_level": "warning", "include_dashboard": False}


class RayLauncher:
    """Tasks that have their CPUs and GPUs to themselves; each makes one run in a process of its own.

    Every node must see the folder of the sweep. Ray does not try a task again: the run would find its folder
    still held by the process that the dead task has left.

    Args:
        sweep: the folder.
        code: gives the copy of the code, for the nodes that see it; the others take the installed one.
        width, num_cpus, num_gpus, init: as of the settings.

    Raises:
        CnnbenchError: there is no such cluster, or no room for one run in it.
    """

    def __init__(
        self,
        sweep: Path,
        code: Code,
        width: int | None,
        num_cpus: float,
        num_gpus: float | None,
        init: Mapping[str, Any],
    ) -> None:
        try:
            ray.init(**{**QUIET, **init})
        except (ConnectionError, ValueError, TypeError) as error:
            reason = one_line(error)
            raise CnnbenchError(f"ray.init({dict(init)}): {reason}", "see hydra.launcher.init") from error
        there = ray.cluster_resources()
        if num_gpus is None:
            num_gpus = 1.0 if there.get("GPU", 0) >= 1 else 0.0
        needs = {"CPU": num_cpus, "GPU": num_gpus}
        room = min(there.get(kind, 0) / need for kind, need in needs.items() if need)
        if room < 1:
            ray.shutdown()
            raise CnnbenchError(
                f"a run needs {needs}, the cluster has {dict(there)}", "lower hydra.launcher.num_…"
            )
        self.width = width or math.floor(room)
        self._sweep, self._code = sweep, code
        self._threads = math.ceil(num_cpus)
        self._task = ray.remote(run_once).options(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0)
        self._running: dict[int, Any] = {}

    def submit(self, number: int) -> Future[str | None]:
        reference = self._task.remote(self._sweep, self._code(), number, self._threads)
        self._running[number] = reference
        found: Future[str | None] = reference.future()
        found.add_done_callback(lambda _: self._running.pop(number, None))
        return found

    def stop(self, signal_number: int) -> None:
        for reference in list(self._running.values()):
            ray.cancel(reference)  # KeyboardInterrupt in the task, which stops its run

    def close(self) -> None:
        ray.shutdown()
