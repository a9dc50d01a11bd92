"""A sweep on disk: every job of it, composed before the first one starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnbench.errors import CnnbenchError
from cnnbench.files import append_row, damaged_file, now, read_json, read_rows, write_json
from cnnbench.results import DONE, UNFINISHED, RunFolder

WAITING = "waiting"


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        number: its place in the sweep.
        folder: its name in the sweep's folder.
        overrides: what was typed, for this job.
        config: resolved and checked.
    """

    number: int
    folder: str
    overrides: list[str]
    config: dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """The jobs in a folder.

    Attributes:
        path: the folder, with the runs in it.
        overrides: the whole line.
        settings: those of it that are Hydra's own, e.g. `hydra/launcher=joblib`.
        code: the fingerprint of the code that made it.
        jobs: in their order.
    """

    path: Path
    overrides: list[str]
    settings: list[str]
    code: str
    jobs: list[Job]

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
            sweep = cls(path, content["overrides"], content["settings"], content["code"], jobs)
        except (KeyError, TypeError) as error:
            raise damaged_file(path / "sweep.json", error) from error
        if any(Path(job.folder).name != job.folder or job.folder == ".." for job in jobs):
            raise damaged_file(path / "sweep.json", "a job lies outside the sweep")
        return sweep

    def write(self) -> None:
        jobs = [asdict(job) for job in self.jobs]
        content = {"overrides": self.overrides, "settings": self.settings, "code": self.code, "made": now()}
        write_json(self.path / "sweep.json", {**content, "jobs": jobs})

    def run_folder(self, number: int) -> RunFolder:
        return RunFolder(self.path / self.jobs[number].folder)

    def status(self, number: int) -> str:
        """As of the run; `waiting` where it has not begun."""
        folder = self.run_folder(number)
        return folder.status if folder.has_run else WAITING

    def left(self) -> list[int]:
        """The numbers of the jobs that are not done."""
        return [job.number for job in self.jobs if self.status(job.number) != DONE]

    def note_start(self, number: int, session: str) -> None:
        """Leave word that a job begins, before anything of it can fail."""
        append_row(self.path / "started.jsonl", {"job": number, "session": session})

    def started(self, session: str) -> list[int]:
        """The numbers of the jobs that began in a session, once for each time."""
        rows = read_rows(self.path / "started.jsonl")
        return [row["job"] for row in rows if row["session"] == session]

    def suspects(self, session: str) -> list[int]:
        """The jobs that began and came to no end: one of them has killed the process, or died with it."""
        begun = sorted(set(self.started(session)))
        return [number for number in begun if self.status(number) in (UNFINISHED, WAITING)]

    def refuse_other_grid(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Compare with the configs that the same line makes now.

        Raises:
            CnnbenchError: they differ.
        """
        if len(jobs) != len(self.jobs):
            raise CnnbenchError(
                f"the sweep in {self.path} has {len(self.jobs)} runs, this line makes {len(jobs)}",
                f"repeat the line that made it, or: cnnbench resume {self.path}",
            )
        for job, config in zip(self.jobs, jobs, strict=True):
            if job.config != config:
                keys = ", ".join(_differing(job.config, config))
                raise CnnbenchError(
                    f"run {job.number} of the sweep in {self.path} has another {keys} now",
                    f"to go on with the stored configs: cnnbench resume {self.path}",
                )


def _differing(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in {**first, **second}:
        one, other = first.get(key), second.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differing(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append(f"{prefix}{key}")
    return found


def quoted(text: str) -> str:
    """A value that Hydra's override grammar reads back as this text."""
    # Backslashes mean themselves there, except before a quote.
    escaped = re.sub(r"(\\+)(?='|\Z)", r"\1\1", text).replace("'", "\\'")
    return f"'{escaped}'"
