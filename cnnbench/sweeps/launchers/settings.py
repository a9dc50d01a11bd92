"""The settings of the group `hydra/launcher`, each of which opens its launcher."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from cnnbench.config import validated
from cnnbench.errors import CnnbenchError, nearest
from cnnbench.sweeps.launchers.local import RUNS_PER_PROCESS, Code, LocalLauncher
from cnnbench.sweeps.store import Sweep
from cnnbench.system import gpus, require_package

Count = Annotated[int, Field(ge=1)]


class Launcher(Protocol):
    """Whatever makes runs of a sweep.

    Attributes:
        width: the number of runs at once.
    """

    @property
    def width(self) -> int: ...

    def submit(self, number: int) -> Future[str | None]:
        """Make one run.

        Returns:
            why its process died; None where it came to an end by itself, good or bad.
        """

    def stop(self, signal_number: int) -> None:
        """Hand a signal to every run under way: they save and end."""

    def close(self) -> None:
        """Wait for the runs under way, and give back what it holds."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Basic(_Settings):
    """One run after another in one process.

    Attributes:
        runs_per_process: the process is renewed after so many, for the sake of memory.
    """

    name: Literal["basic"] = "basic"
    runs_per_process: Count = RUNS_PER_PROCESS

    def open(self, sweep: Sweep, code: Code, quiet: bool) -> Launcher:
        return LocalLauncher(sweep.path, code, 1, self.runs_per_process, quiet)


class Joblib(_Settings):
    """Several runs at once on this machine, each with its share of the cores and a GPU of its own.

    Attributes:
        n_jobs: the number at once; -1 for one per GPU, or without GPUs one per core.
        runs_per_process: as of `Basic`.
    """

    name: Literal["joblib"]
    n_jobs: Annotated[int, Field(ge=-1)] = -1
    runs_per_process: Count = RUNS_PER_PROCESS

    def open(self, sweep: Sweep, code: Code, quiet: bool) -> Launcher:
        from joblib import cpu_count

        width = self.n_jobs if self.n_jobs > 0 else len(gpus()) or cpu_count()
        return LocalLauncher(sweep.path, code, width, self.runs_per_process, quiet or width > 1)


class Ray(_Settings):
    """Tasks on a Ray cluster.

    Attributes:
        n_jobs: the number at once; None for as many as there is room for when the sweep starts.
        num_cpus: the CPUs of each run, which uses so many threads.
        num_gpus: the GPUs of each run; None for 1 where the cluster has GPUs.
        init: arguments of `ray.init`; `address: auto` joins the cluster that this machine belongs to.
    """

    name: Literal["ray"]
    n_jobs: Count | None = None
    num_cpus: Annotated[float, Field(gt=0)] = 1
    num_gpus: Annotated[float, Field(ge=0)] | None = None
    init: dict[str, Any] = {}

    def open(self, sweep: Sweep, code: Code, quiet: bool) -> Launcher:
        from cnnbench.sweeps.launchers.ray import RayLauncher

        return RayLauncher(sweep.path, code, self.n_jobs, self.num_cpus, self.num_gpus, self.init)


class Submitit(_Settings):
    """Jobs of Slurm, or with `submitit_local` the same without Slurm.

    Attributes:
        n_jobs: the number in the queue at once.
        timeout_min: the most minutes of one run; a run that is cut off saves, and `resume` goes on with it.
        cpus_per_task, gpus_per_node, mem_gb: what each job asks for.
        parameters: others of `submitit`, e.g. `slurm_partition`.
    """

    name: Literal["submitit_local", "submitit_slurm"]
    n_jobs: Count = 100
    timeout_min: Count = 60
    cpus_per_task: Count = 1
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    mem_gb: Annotated[float, Field(gt=0)] | None = None
    parameters: dict[str, Any] = {}

    def open(self, sweep: Sweep, code: Code, quiet: bool) -> Launcher:
        from cnnbench.sweeps.launchers.slurm import SubmititLauncher

        cluster = self.name.removeprefix("submitit_")
        asked = self.model_dump(exclude={"name", "n_jobs", "parameters"}, exclude_none=True)
        return SubmititLauncher(sweep.path, code, cluster, self.n_jobs, {**asked, **self.parameters})


Settings = Basic | Joblib | Ray | Submitit
KINDS: dict[str, type[Settings]] = {
    "basic": Basic,
    "joblib": Joblib,
    "ray": Ray,
    "submitit_local": Submitit,
    "submitit_slurm": Submitit,
}
EXTRAS = {Ray: ("ray", "ray"), Submitit: ("submitit", "slurm")}  # the module, and the extra that brings it


def launcher_settings(node: Mapping[str, Any]) -> Settings:
    """Check the node `hydra.launcher` of a composed config.

    Raises:
        CnnbenchError: it is no launcher of ours, a value is wrong, or what it needs is not installed.
    """
    if str(node.get("_target_", "")).endswith(".BasicLauncher"):
        node = {"name": "basic", **{key: value for key, value in node.items() if key != "_target_"}}
    name = str(node.get("name", node.get("_target_")))
    if name not in KINDS:
        raise CnnbenchError(f"hydra/launcher: {name} is none of the launchers here", nearest(name, KINDS))
    kind = KINDS[name]
    if kind in EXTRAS:
        require_package("this launcher", *EXTRAS[kind])
    found: Settings = validated(kind, node, "hydra.launcher")
    return found
