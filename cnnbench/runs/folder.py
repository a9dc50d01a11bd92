"""The run folder: the only module that knows its file names. Every file is whole or absent."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import yaml

from cnnbench import system
from cnnbench.errors import CnnbenchError, FolderRefusedError, shown
from cnnbench.runs.decision import Decision, save_decision, stored_decision
from cnnbench.runs.history import NO_METRICS, History
from cnnbench.runs.identity import Identity
from cnnbench.runs.predictions import Predictions
from cnnbench.runs.states import LastStates, Stored

log = logging.getLogger("cnnbench")
DONE, FAILED, INTERRUPTED, PRUNED = "done", "failed", "interrupted", "pruned"
CONFIG = "config.yaml"  # a folder with this file holds a run
QUICK_CONFIG = "config.json"
LONGEST = 72  # characters that the longest name in a run folder adds to its path
LOG = "cnnbench.log"
REPORT = "report.html"
PREDICTIONS, MISTAKES = "predictions.csv", "mistakes.csv"
REMARKS = "remarks.json"  # tags and note
PACKAGES, CODE_DIFF = "packages.txt", "code.diff"
METRICS = "metrics.json"
UNTRAINED = (
    *(QUICK_CONFIG, "overrides.yaml", "environment.json", "identity.json"),
    *("failure.json", METRICS, PACKAGES, CODE_DIFF, REPORT, LOG, f"{LOG}.holder"),
)
RUNNING, UNFINISHED, UNREADABLE = "running", "unfinished", "unreadable"
LAST_BYTES = 2**16
FATAL = re.compile(r"(?m)^Fatal Python error: (.*)$")  # Python's, to a signal that ends it
CHECK = re.compile(r"(?m)^F\d{4} [\d:.]+ +\d+ [^\]\n]*\] (.*)$")  # of C++, before it aborts
PATIENCE_SECONDS = 60.0  # a process that was asked to stop ends its step, and saves


@dataclass(frozen=True)
class Remarks:
    """What a person says of a run.

    Attributes:
        tags: words by which it is found again.
        note: a line.
    """

    tags: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class RunFolder:
    """One run's files, for writing and for reading.

    Attributes:
        path: the folder.
    """

    path: Path

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Take an empty or missing folder for one run.

        Raises:
            CnnbenchError: it holds something already, or cannot be written.
        """
        try:
            system.require_short_path(path, LONGEST)
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise FolderRefusedError(
                    f"{path} is not empty; a run never overwrites another",
                    "choose a new run_dir, or add run_dir_exists=resume or run_dir_exists=replace",
                )
            with (path / LOG).open("x"):  # of two processes that see it empty, one succeeds
                pass
        except FileExistsError as error:
            raise FolderRefusedError(
                f"{path} was just taken by another run, or is a file", "choose a new run_dir"
            ) from error
        except OSError as error:
            refused = system.unwritable(path, error)
            raise FolderRefusedError(refused.message, refused.hint) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Open a folder that a run has written.

        Raises:
            CnnbenchError: there is no run in it.
        """
        path = Path(path)
        if not (path / CONFIG).is_file():
            reason = "holds no run (no config.yaml)" if path.is_dir() else "does not exist"
            raise CnnbenchError(f"{path} {reason}", "give the folder of one run, e.g. one below outputs/")
        system.remove_abandoned(path)
        return cls(path)

    def reopen(self) -> None:
        """Take back what says that the run has ended, and what was half written when it did."""
        for name in ("failure.json", METRICS):
            (self.path / name).unlink(missing_ok=True)
        for name in (
            "environment.json",
            "identity.json",
            "best.json",
        ):  # cut short by a power failure: made anew
            with suppress(CnnbenchError):
                system.read_json(self.path / name)
                continue
            (self.path / name).unlink()
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for leftover in system.temporary_files(self.path):
            system.remove(leftover)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process out of the folder; the system gives it back when this one dies.

        Raises:
            FolderRefusedError: another process is at work in it.
        """
        with system.hold(self.path / LOG) as mine:
            if not mine:
                raise FolderRefusedError(
                    f"another process is at work in {self.path}", "wait for it, or stop it first"
                )
            yield

    def wait_until_free(self) -> None:
        """Wait for a process whose parent was killed and that is about to stop, but not for ever."""
        until = time.monotonic() + PATIENCE_SECONDS
        while system.is_held(self.path / LOG) and time.monotonic() < until:
            time.sleep(0.1)

    def discard_if_untrained(self) -> None:
        """Remove what a run has left that never began to train; anything else in the folder stays."""
        if not self.path.is_dir() or (self.path / "history.jsonl").exists():
            return
        for name in (CONFIG, *UNTRAINED):
            (self.path / name).unlink(missing_ok=True)
        self._remove_leftovers()
        if not any(self.path.iterdir()) and self.path.resolve() != Path.cwd():
            self.path.rmdir()

    # -- writing -------------------------------------------------------------------------------

    def write_config(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        for name, content in ((CONFIG, system.plain(config)), ("overrides.yaml", list(overrides))):
            with system.atomic(self.path / name) as file:
                yaml.safe_dump(content, file, sort_keys=False, allow_unicode=True)
        self._write_quick_config(system.sha256(self.path / CONFIG))

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        system.write_json(self.path / "environment.json", environment)

    def write_code(self, packages: Sequence[str], diff: str) -> None:
        """Keep what the run was made with: every installed package, and what differs from the git commit."""
        for name, text in ((PACKAGES, "".join(f"{line}\n" for line in packages)), (CODE_DIFF, diff)):
            if text:
                with system.atomic(self.path / name) as file:
                    file.write(text)

    def write_identity(self, identity: Identity) -> None:
        system.write_json(self.path / "identity.json", identity.as_dict())

    def write_remarks(self, remarks: Remarks) -> None:
        """Keep tags and note, which change nothing about the run."""
        system.write_json(self.path / REMARKS, asdict(remarks))

    def append_history(self, entry: Mapping[str, float]) -> None:
        self._history.append(system.plain(entry))

    def write_best(self, save: Callable[[Path], object], info: Mapping[str, Any]) -> None:
        """Replace the best checkpoint.

        Args:
            save: writes a model to the path that it is given.
            info: goes into `best.json`, with the file's hash: whoever reads both can tell whether they
                belong together even if the machine died between the two writes.
        """
        system.save_whole(self.best_model, save)
        system.write_json(self.path / "best.json", {**info, "sha256": system.sha256(self.best_model)})

    def replace_best(self, save: Callable[[Path], object]) -> None:
        """Replace the file of the best checkpoint; whatever else is known of that stays."""
        self.write_best(save, {key: value for key, value in self.best.items() if key != "sha256"})

    def write_decision(self, decision: Decision) -> None:
        """Store in the best checkpoint how its outputs become answers."""
        self.replace_best(partial(save_decision, self.best_model, decision))

    @property
    def decision(self) -> Decision:
        """How the best checkpoint's outputs become answers; the file of an earlier version does not say.

        Raises:
            CnnbenchError: the file is damaged, or is not this run's.
        """
        found, result = stored_decision(self.best_model), self.metrics
        if found is not None and "task" not in result:  # of a run under way
            return found
        recorded = Decision.of_result(result)
        if found is None:
            return recorded
        if found.names != recorded.names or found.task != recorded.task:
            raise CnnbenchError(
                f"{self.best_model}: its decision is for other classes than metrics.json has",
                "the file is not this run's: restore it, or run again",
            )
        return found

    def write_predictions(self, **arrays: Any) -> None:
        with system.atomic(self.path / "predictions.npz", "wb") as file:
            np.savez_compressed(file, **arrays)

    def write_prediction_tables(self, predictions: Predictions) -> None:
        """Write the predictions as tables: of every example, and of the mistakes, the worst first."""
        for name, of_mistakes in ((PREDICTIONS, False), (MISTAKES, True)):
            with system.atomic(self.path / name) as file:
                predictions.write(file, of_mistakes)

    def write_out_of_fold(self, **arrays: Any) -> None:
        """Keep what the fold models say of the examples that they have not seen."""
        with system.atomic(self.path / "out_of_fold.npz", "wb") as file:
            np.savez_compressed(file, **arrays)

    def write_figure(self, name: str, png: bytes, directory: Path | None = None) -> Path:
        """Write a picture to `figures/`, or to another directory.

        Returns:
            its path.
        """
        directory = directory or self.path / "figures"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise system.unwritable(directory, error) from error
        path = directory / f"{name}.png"
        with system.atomic(path, "wb") as file:
            file.write(png)
        return path

    def write_report(self, page: str) -> None:
        with system.atomic(self.report) as file:
            file.write(page)

    def write_state(self, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a state of the training, with the checkpoint that is the best now."""
        self._last.write(content, arrays, self.best_model, self.best)

    def take_up(self, epochs: int, stored: Stored | None) -> None:
        """Put the history and the best checkpoint back to a state; without one, to the beginning.

        An epoch after the state may have left its row or its checkpoint already: trained once more on a
        machine that does not add in the same order twice, it may come out otherwise.
        """
        self._history.cut(epochs)
        info = stored.best_info if stored else {}
        present = system.sha256(self.best_model) if self.best_model.exists() else None
        if info == self.best and info.get("sha256") == present:
            return
        if stored is not None and stored.best is not None:
            self.write_best(partial(shutil.copyfile, stored.best), info)
        else:
            (self.path / "best.json").unlink(missing_ok=True)
            self.best_model.unlink(missing_ok=True)

    def stored_state(self) -> Stored | None:
        """Return the last whole state of the training; None where there is none."""
        return self._last.read()

    def clear_states(self) -> None:
        """They take three times the room of the model, and a finished run needs none."""
        self._last.clear()

    @property
    def _last(self) -> LastStates:
        return LastStates(self.path / "last")

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        system.write_json(self.path / "failure.json", failure)

    def write_end(self, name: str, seed: int, failure: Mapping[str, Any]) -> None:
        """Record that the run ended without a result: `failure` says its `status` and `cause`, and more."""
        self.write_failure(failure)
        ended = {"status": failure["status"], "reason": failure["cause"], "finished": system.now()}
        self.write_metrics({**ended, "name": name, "seed": seed})

    @property
    def bad_step(self) -> BadStepFiles:
        return BadStepFiles(self.path / "bad_step")

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write the last of all files: where it says `done`, everything else is there."""
        system.write_json(self.path / METRICS, metrics)

    def logging(self) -> AbstractContextManager[None]:
        """Send our log, Python's warnings and what TensorFlow says to `cnnbench.log` for a while."""
        return system.logging_to(self.path / LOG)

    # -- reading -------------------------------------------------------------------------------

    @property
    def has_run(self) -> bool:
        """Whether a run has begun here, or was recorded as one that could not."""
        return any((self.path / name).is_file() for name in (CONFIG, METRICS))

    @property
    def best_model(self) -> Path:
        return self.path / "best.keras"

    @property
    def report(self) -> Path:
        return self.path / REPORT

    @property
    def figures(self) -> dict[str, Path]:
        """The pictures, by name."""
        return {path.stem: path for path in sorted((self.path / "figures").glob("*.png"))}

    @property
    def events(self) -> Path:
        """Where TensorBoard looks for curves."""
        return self.path / "tensorboard"

    @property
    def tracked(self) -> Path:
        """What MLflow calls this run."""
        return self.path / "mlflow.json"

    def export_path(self, name: str) -> Path:
        return self.path / "exports" / name

    @property
    def overrides(self) -> list[str]:
        """What the user typed; empty where that was not written down."""
        path = self.path / "overrides.yaml"
        loaded = system.read_yaml(path) if path.is_file() else None
        if not isinstance(loaded, list | None):
            raise system.damaged_file(path, "it holds no list")
        return [str(text) for text in loaded or []]

    @property
    def config(self) -> dict[str, Any]:
        """The config as the record, `config.yaml`, has it.

        Raises:
            CnnbenchError: the file is damaged.
        """
        path = self.path / CONFIG
        loaded = system.read_yaml(path)
        if not isinstance(loaded, dict):
            raise system.damaged_file(path, "it holds no mapping")
        return loaded

    @property
    def quick_config(self) -> dict[str, Any]:
        """The same from `config.json`, which is read faster and made anew where its hash differs.

        The hash tells a stale file, not a forged one. So this is for tables of many runs alone: whatever
        imports, builds or measures what a config names reads `config`.
        """
        try:
            digest = system.sha256(self.path / CONFIG)
        except OSError as error:
            raise system.unreadable_file(self.path / CONFIG, error) from error
        with suppress(CnnbenchError):  # damaged, as by a power failure
            known = system.read_json(self.path / QUICK_CONFIG)
            if known.get("sha256") == digest and isinstance(known.get("config"), dict):
                return dict(known["config"])
        return self._write_quick_config(digest)

    def _write_quick_config(self, digest: str) -> dict[str, Any]:
        """Write `config.json` from `config.yaml` with that digest, where it can be, and return the config."""
        config = self.config
        try:
            text = json.dumps({"schema": 1, "sha256": digest, "config": config}, ensure_ascii=False)
            if json.loads(text)["config"] == config:  # not with NaN, dates or numbers as keys
                with system.atomic(self.path / QUICK_CONFIG, lasting=False) as file:
                    file.write(text)
        except (OSError, TypeError, ValueError, RecursionError) as error:  # read-only, or beyond JSON
            log.debug("%s is not written: %s", self.path / QUICK_CONFIG, error)
        return config

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """`y_true` and `outputs` of the test split; empty where there are none."""
        return system.read_arrays(self.path / "predictions.npz")

    @property
    def prediction_tables(self) -> dict[str, str]:
        """The names of the tables of predictions that are here, and what each holds."""
        held = {PREDICTIONS: "all", MISTAKES: "mistakes alone, the worst first"}
        return {name: what for name, what in held.items() if (self.path / name).is_file()}

    @property
    def best(self) -> dict[str, Any]:
        return system.read_json(self.path / "best.json")

    @property
    def metrics(self) -> dict[str, Any]:
        return system.read_json(self.path / METRICS)

    @property
    def failure(self) -> dict[str, Any]:
        return system.read_json(self.path / "failure.json")

    @property
    def remarks(self) -> Remarks:
        """Tags and note; those of a damaged file are none."""
        try:
            told = system.read_json(self.path / REMARKS)
        except CnnbenchError:
            told = {}
        tags = told.get("tags")
        listed = tuple(str(tag) for tag in tags) if isinstance(tags, list) else ()
        return Remarks(listed, str(told.get("note") or ""))

    @property
    def begun(self) -> datetime:
        """When its config was written, by the clock of this place."""
        return datetime.fromtimestamp((self.path / CONFIG).stat().st_mtime).astimezone()

    @property
    def environment(self) -> dict[str, Any]:
        return system.read_json(self.path / "environment.json")

    @property
    def identity(self) -> Identity | None:
        """What the run was begun with; None where it has not begun, or version 0.1.0 has begun it.

        Raises:
            CnnbenchError: the file is damaged.
        """
        path = self.path / "identity.json"
        content = system.read_json(path)
        return Identity.from_dict(content, path) if content else None

    @property
    def ended(self) -> bool:
        """Whether the run has said how it ended."""
        return any((self.path / name).is_file() for name in (METRICS, "failure.json"))

    @property
    def reason(self) -> str:
        """Why the run is not done, in one line, as far as that is known."""
        if self.status == RUNNING:
            return self._latest
        return str(self.metrics.get("reason") or self.failure.get("cause") or self.last_words)

    @property
    def _latest(self) -> str:
        """How far a run under way has come, with the figures of its last epoch."""
        history = self.history
        if not history:
            return "it is under way, in its first epoch"
        figures = [f"{name} {value:.4g}" for name, value in history[-1].items() if name not in NO_METRICS]
        done = f"{len(history)} epoch{'s' if len(history) > 1 else ''} done"
        return f"it is under way, {done}: {', '.join(figures)}"

    @property
    def last_words(self) -> str:
        """Why a run died that has not said how it ended, in one line, as far as its log knows."""
        said = ""
        with suppress(FileNotFoundError), (self.path / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
            said = file.read().decode(errors="replace")
        found = [(pattern.findall(said) or [""])[-1].strip() for pattern in (FATAL, CHECK)]
        words = ": ".join(shown(text) for text in found if text)
        epochs = len(self.history)
        when = f"after epoch {epochs}" if epochs else "before the end of the first epoch"
        if not words:
            return f"its process died without a word {when}, as by kill -9 or on a machine out of memory"
        advice = system.advice_on_memory(said)
        return f"its process died {when}: {words}{f'; {advice}' if advice else ''}"

    @property
    def status(self) -> str:
        """What became of the run.

        `done`, `failed`, `interrupted`, `pruned`, `running`, `unfinished` (killed without a word) or
        `unreadable`.
        """
        try:
            ended = self.metrics or self.failure  # the failure is written first, with the same status
            status = ended.get("status", FAILED) if ended else None
        except CnnbenchError:  # one such run must not hide the others
            return UNREADABLE
        # One that is taken up again has ended before, and says so until its data are there.
        if status != DONE and system.is_held(self.path / LOG):
            return RUNNING
        return UNFINISHED if status is None else str(status)

    @property
    def history(self) -> list[dict[str, Any]]:
        return self._history.read()

    @property
    def _history(self) -> History:
        return History(self.path / "history.jsonl", self.path / "history.csv")


@dataclass(frozen=True)
class BadStepFiles:
    """A folder with the model before the step that broke the training, and the step's batch."""

    path: Path

    def write(self, save: Callable[[Path], object], x: np.ndarray, y: np.ndarray) -> None:
        """Keep both; `save` writes a model to the path that it is given."""
        self.path.mkdir(exist_ok=True)
        system.save_whole(self._model, save)
        with system.atomic(self._batch, "wb") as file:
            np.savez_compressed(file, x=x, y=y)

    def read(self) -> tuple[Path, np.ndarray, np.ndarray]:
        """Return the model's file, and the batch's inputs and targets.

        Raises:
            CnnbenchError: the run has none, or its batch is damaged.
        """
        if not (self._model.is_file() and self._batch.is_file()):
            raise CnnbenchError(
                f"{self.path.parent} has no step to replay",
                "only a run whose loss turned NaN or infinite keeps one",
            )
        try:
            with np.load(self._batch, allow_pickle=False) as arrays:
                return self._model, arrays["x"], arrays["y"]
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise system.damaged_file(self._batch, error) from error

    @property
    def _model(self) -> Path:
        return self.path / "before.keras"

    @property
    def _batch(self) -> Path:
        return self.path / "batch.npz"


# -- Folders of runs -------------------------------------------------------------------------------


def new_folder(parent: Path, name: str) -> Path:
    """Make `<parent>/<date>_<time>_<name>[_n]`; no two processes ever get the same one."""
    stamped = system.portable_name(f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}")
    suffix = 0
    while True:
        path = parent / (f"{stamped}_{suffix}" if suffix else stamped)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()  # atomic: fails for the second of two that try
        except FileExistsError as error:
            if not parent.is_dir():
                raise CnnbenchError(f"{parent} is a file, not a folder", "choose another run_dir") from error
            suffix += 1
        except OSError as error:
            raise system.unwritable(parent, error) from error
        else:
            return path


def new_sweep_folder(wanted: str | None) -> Path:
    """Make the folder that the runs of one sweep share: `wanted`, or a new one below outputs/.

    Raises:
        CnnbenchError: `wanted` holds something already.
    """
    if wanted is None:
        return new_folder(Path("outputs"), "sweep")
    path = Path(wanted)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise CnnbenchError(
                f"{path} is not empty; a sweep never overwrites another",
                "choose a new run_dir, or add run_dir_exists=resume or run_dir_exists=replace",
            )
    except OSError as error:
        raise system.unwritable(path, error) from error
    return path


def find_runs(places: Sequence[Path]) -> list[RunFolder]:
    """Find every run at or below `places`, each once, sorted by name.

    Raises:
        CnnbenchError: a place does not exist.
    """
    found: dict[Path, RunFolder] = {}
    for place in places:
        if not place.is_dir():
            raise CnnbenchError(f"{place} does not exist or is not a folder")
        for config in sorted(place.rglob(CONFIG), key=_natural):
            found[config.parent.resolve()] = RunFolder(config.parent)
    return list(found.values())


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]
