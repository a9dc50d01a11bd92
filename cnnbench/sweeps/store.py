"""A sweep on disk: every job of it, composed before the first one starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cnnbench.config import validated, with_keywords
from cnnbench.errors import EXIT_DONE, EXIT_FAILED, CnnbenchError
from cnnbench.renamed import stored_config, with_current_targets
from cnnbench.runs import AVERAGE, DONE, PRUNED, RunFolder, differing, with_absolute_places
from cnnbench.sweeps.schema import StoredSearch
from cnnbench.system import damaged_file, now, read_json, write_json

WAITING = "waiting"
FILE = "sweep.json"


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        number: its place in the sweep.
        folder: its name in the sweep's folder.
        overrides: what was typed for this job.
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
        """Return the job whose folder is named after number, config, seed and fold."""
        folder = f"{number:03d}_{config['name']}_seed{config['seed']}"
        fold = config.get("training", {}).get("fold")
        if fold is not None:
            folder += f"_{fold}" if fold == AVERAGE else f"_fold{fold}"
        return cls(number, folder, list(overrides), config, trial)

    @property
    def is_average(self) -> bool:
        """Whether it is made of the models of other jobs, the folds."""
        return bool(self.config.get("training", {}).get("fold") == AVERAGE)

    @property
    def without_fold(self) -> dict[str, Any]:
        """The config that all folds share."""
        return {**self.config, "training": {**self.config.get("training", {}), "fold": None}}


@dataclass(frozen=True)
class Sweep:
    """The jobs in a folder, and how far they have come.

    Attributes:
        path: the folder, with the runs in it.
        overrides: the whole line.
        launcher: its settings: where the runs are made, and how many at once.
        code: the fingerprint of the code that made it.
        jobs: in their order. A search adds to them.
        search: the content of a `StoredSearch`; None for a grid.
        params: the values that a search has proposed as Optuna keeps them, by the folder of the job.
        timing: of a search whose minutes are limited: `seconds` that it has taken, and when runs stop,
            `stop_at`, and it is over, `ends_at`, in seconds since 1970.
        stopped_by: the number of the signal that ended the last attempt to run it; it is not stored.
    """

    path: Path
    overrides: list[str]
    launcher: dict[str, Any]
    code: str
    jobs: list[Job]
    search: dict[str, Any] | None = None
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    stopped_by: int | None = field(default=None, compare=False)

    @classmethod
    def is_one(cls, path: Path) -> bool:
        """Tell whether a sweep is stored in `path`."""
        return (path / FILE).is_file()

    @classmethod
    def open(cls, path: Path) -> Sweep:
        """Read a stored sweep.

        Raises:
            CnnbenchError: there is none, or its file is damaged.
        """
        if not cls.is_one(path):
            raise CnnbenchError(f"{path} holds no sweep (no {FILE})", "give the folder of a sweep")
        content = {**read_json(path / FILE), "path": path, "stopped_by": None}
        try:
            sweep: Sweep = validated(TypeAdapter(cls), content, "")
        except CnnbenchError as error:
            raise damaged_file(path / FILE, error.message) from error
        if any(Path(job.folder).name != job.folder or job.folder == ".." for job in sweep.jobs):
            raise damaged_file(path / FILE, "a job lies outside the sweep")
        return sweep

    def write(self) -> None:
        """Store it in its folder."""
        content = {**asdict(self), "written": now()}
        del content["path"], content["stopped_by"]  # the folder may move
        write_json(self.path / FILE, content)

    # -- how far it has come -------------------------------------------------------------------

    def run_folder(self, number: int) -> RunFolder:
        """Return the folder of one run, which may not be there yet."""
        return RunFolder(self.path / self.jobs[number].folder)

    @property
    def run_folders(self) -> list[RunFolder]:
        """The folders of all runs, in the order of the jobs; those of waiting runs may not be there yet."""
        return [self.run_folder(job.number) for job in self.jobs]

    @property
    def total(self) -> int:
        """The number of runs, those that a search has not proposed yet included."""
        return self.stored_search.settings.trials if self.search is not None else len(self.jobs)

    @property
    def stored_search(self) -> StoredSearch:
        """What is stored of a search.

        Raises:
            CnnbenchError: it is damaged.
        """
        stored: StoredSearch = validated(StoredSearch, self.search, f"{self.path / FILE}: search")
        return stored

    def status(self, number: int) -> str:
        """Return the status of a run; `waiting` where it has not begun."""
        folder = self.run_folder(number)
        return folder.status if folder.has_run else WAITING

    @property
    def statuses(self) -> list[str]:
        """The status of each run, in the order of the jobs."""
        return [self.status(job.number) for job in self.jobs]

    def is_settled(self, number: int) -> bool:
        """Tell whether a run is done, or was stopped early by the search."""
        return self.status(number) in (DONE, PRUNED)

    def left(self) -> list[int]:
        """Return the numbers of the jobs that are still to be done."""
        return [job.number for job in self.jobs if not self.is_settled(job.number)]

    def averages(self) -> list[int]:
        """Return the jobs left whose folds are done, of which they are the averages."""
        left = [self.jobs[number] for number in self.left()]
        waiting = [job.without_fold for job in left if not job.is_average]
        return [job.number for job in left if job.is_average and job.without_fold not in waiting]

    @property
    def exit_code(self) -> int:
        """0 where all runs are done, 1 where one is not, 128 + n after signal n."""
        if self.stopped_by is not None:
            return 128 + self.stopped_by
        return EXIT_FAILED if self.left() else EXIT_DONE

    def varied(self, number: int) -> str:
        """Return the overrides that tell a run from the others; its seed where none does."""
        jobs = [set(job.overrides) for job in self.jobs]
        common = set.intersection(*jobs) if len(jobs) > 1 else set()
        job = self.jobs[number]
        return " ".join(text for text in job.overrides if text not in common) or f"seed={job.config['seed']}"

    # -- the same sweep again ------------------------------------------------------------------

    def refuse_other_plan(self, jobs: Sequence[Job], search: Mapping[str, Any] | None) -> None:
        """Compare with the jobs, or the search, that the same line makes now.

        Raises:
            CnnbenchError: they differ.
        """
        if search is not None or self.search is not None:
            # As its model says it: an earlier version had fewer settings.
            stored = None if self.search is None else self.stored_search.model_dump()
            if search != with_current_targets(stored):
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
        signatures: dict[str, Any] = {}
        for job, new in zip(self.jobs, jobs, strict=True):
            # The stored run folder stays; earlier versions have stored places as they were typed.
            known = with_keywords(stored_config(job.config), signatures)  # an earlier version had fewer
            stored = {**with_absolute_places(known), "run_dir": new.config.get("run_dir")}
            if stored != new.config:
                keys = ", ".join(differing(stored, new.config))
                raise CnnbenchError(
                    f"run {job.number} of the sweep in {self.path} has another {keys} now",
                    f"to go on with the stored configs: cnnbench resume {self.path}",
                )
