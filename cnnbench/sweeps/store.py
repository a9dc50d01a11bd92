"""A sweep on disk: every job of it, composed before the first one starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnbench.config import with_keywords
from cnnbench.errors import CnnbenchError
from cnnbench.renamed import stored_config, with_current_targets
from cnnbench.runs import DONE, PRUNED, RunFolder, differing, with_absolute_places
from cnnbench.system import damaged_file, now, read_json, write_json

WAITING = "waiting"


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        number: its place in the sweep.
        folder: its name in the sweep's folder.
        overrides: what was typed, for this job.
        config: resolved and checked.
        trial: its number in the study, where a search has proposed it.
    """

    number: int
    folder: str
    overrides: list[str]
    config: dict[str, Any]
    trial: int | None = None

    @classmethod
    def of(
        cls, number: int, overrides: Sequence[str], config: dict[str, Any], trial: int | None = None
    ) -> Job:
        """With a folder named after place, config and seed."""
        folder = f"{number:03d}_{config['name']}_seed{config['seed']}"
        return cls(number, folder, list(overrides), config, trial)


@dataclass(frozen=True)
class Sweep:
    """The jobs in a folder.

    Attributes:
        path: the folder, with the runs in it.
        overrides: the whole line.
        launcher: its settings: where the runs go, and how many at once.
        code: the fingerprint of the code that made it.
        jobs: in their order. A search adds to them.
        search: what Optuna is asked for, and the configs that its values go into; None for a grid.
    """

    path: Path
    overrides: list[str]
    launcher: dict[str, Any]
    code: str
    jobs: list[Job]
    search: dict[str, Any] | None = None

    @classmethod
    def is_one(cls, path: Path) -> bool:
        return (path / "sweep.json").is_file()

    @classmethod
    def open(cls, path: Path) -> Sweep:
        """A sweep that was stored.

        Raises:
            CnnbenchError: there is none, or its file is damaged.
        """
        if not cls.is_one(path):
            raise CnnbenchError(f"{path} holds no sweep (no sweep.json)", "give the folder of a sweep")
        content = read_json(path / "sweep.json")
        try:
            jobs = [Job(**job) for job in content["jobs"]]
            kept = {name: content[name] for name in ("overrides", "launcher", "code")}
            sweep = cls(path=path, jobs=jobs, search=content.get("search"), **kept)
        except (KeyError, TypeError) as error:
            raise damaged_file(path / "sweep.json", error) from error
        if any(Path(job.folder).name != job.folder or job.folder == ".." for job in jobs):
            raise damaged_file(path / "sweep.json", "a job lies outside the sweep")
        return sweep

    def write(self) -> None:
        content = {**asdict(self), "written": now()}
        del content["path"]  # the folder may move
        write_json(self.path / "sweep.json", content)

    def run_folder(self, number: int) -> RunFolder:
        return RunFolder(self.path / self.jobs[number].folder)

    def varied(self, number: int) -> str:
        """What tells a run from the others, as it was typed; its seed where nothing does."""
        jobs = [set(job.overrides) for job in self.jobs]
        common = set.intersection(*jobs) if len(jobs) > 1 else set()
        job = self.jobs[number]
        return " ".join(text for text in job.overrides if text not in common) or f"seed={job.config['seed']}"

    def status(self, number: int) -> str:
        """As of the run; `waiting` where it has not begun."""
        folder = self.run_folder(number)
        return folder.status if folder.has_run else WAITING

    def is_settled(self, number: int) -> bool:
        """Whether a run is done, or was stopped early by the search."""
        return self.status(number) in (DONE, PRUNED)

    def left(self) -> list[int]:
        """The numbers of the jobs that are still to be done."""
        return [job.number for job in self.jobs if not self.is_settled(job.number)]

    def refuse_other_plan(self, jobs: Sequence[Mapping[str, Any]], search: Mapping[str, Any] | None) -> None:
        """Compare with the configs, or the search, that the same line makes now.

        Raises:
            CnnbenchError: they differ.
        """
        if search is not None or self.search is not None:
            if search != with_current_targets(self.search):
                raise CnnbenchError(
                    f"the sweep in {self.path} searches another space, or by other settings",
                    f"to go on with the stored ones: cnnbench resume {self.path}",
                )
            return
        if len(jobs) != len(self.jobs):
            raise CnnbenchError(
                f"the sweep in {self.path} has {len(self.jobs)} runs, this line makes {len(jobs)}",
                f"repeat the line that made it, or: cnnbench resume {self.path}",
            )
        for job, config in zip(self.jobs, jobs, strict=True):
            # Its folder is the one to go on in; earlier versions have stored places as they were typed.
            known = with_keywords(stored_config(job.config))  # an earlier version may have had fewer
            stored = {**with_absolute_places(known), "run_dir": config.get("run_dir")}
            if stored != config:
                keys = ", ".join(differing(stored, config))
                raise CnnbenchError(
                    f"run {job.number} of the sweep in {self.path} has another {keys} now",
                    f"to go on with the stored configs: cnnbench resume {self.path}",
                )
