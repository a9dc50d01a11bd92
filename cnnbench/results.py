"""The run folder: the only module that knows its file names. Every file is whole or absent."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cnnbench.bad_step import BadStepFiles
from cnnbench.datasets.locking import hold, is_held
from cnnbench.errors import CnnbenchError, FolderRefusedError
from cnnbench.files import (
    atomic,
    now,
    plain,
    read_json,
    save_whole,
    sha256,
    unwritable,
    write_json,
)
from cnnbench.last import LastStates, Stored
from cnnbench.logs import logging_to
from cnnbench.run_files import CONFIG, UNTRAINED, RunFiles

PATIENCE_SECONDS = 60.0  # a process that was asked to stop ends its step, and saves


@dataclass(frozen=True)
class RunFolder(RunFiles):
    """One run's files, for writing and for reading."""

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Take an empty or missing folder for one run.

        Raises:
            CnnbenchError: it holds something already, or cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise FolderRefusedError(
                    f"{path} is not empty; a run never overwrites another", "choose a new run_dir"
                )
            with (path / "cnnbench.log").open("x"):  # of two processes that see it empty, one succeeds
                pass
        except FileExistsError as error:
            raise FolderRefusedError(
                f"{path} was just taken by another run, or is a file", "choose a new run_dir"
            ) from error
        except OSError as error:
            refused = unwritable(path, error)
            raise FolderRefusedError(refused.message, refused.hint) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """A folder that a run has written.

        Raises:
            CnnbenchError: there is no run in it.
        """
        path = Path(path)
        if not (path / CONFIG).is_file():
            reason = "holds no run (no config.yaml)" if path.is_dir() else "does not exist"
            raise CnnbenchError(f"{path} {reason}", "give the folder of one run, e.g. one below outputs/")
        return cls(path)

    def reopen(self) -> None:
        """Take back what says that the run has ended, and what was half written when it did."""
        for name in ("failure.json", "metrics.json"):
            (self.path / name).unlink(missing_ok=True)
        for name in ("environment.json", "best.json"):  # cut short by a power failure: made anew
            with suppress(CnnbenchError):
                read_json(self.path / name)
                continue
            (self.path / name).unlink()
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for leftover in self.path.glob(".*.tmp*"):
            leftover.unlink()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process out of the folder; the system gives it back when this one dies.

        Raises:
            FolderRefusedError: another process is at work in it.
        """
        with hold(self.path / "cnnbench.log") as mine:
            if not mine:
                raise FolderRefusedError(
                    f"another process is at work in {self.path}", "wait for it, or stop it first"
                )
            yield

    def wait_until_free(self) -> None:
        """Wait for a process whose parent was killed and that is about to stop, but not for ever."""
        until = time.monotonic() + PATIENCE_SECONDS
        while is_held(self.path / "cnnbench.log") and time.monotonic() < until:
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
        for name, content in ((CONFIG, plain(config)), ("overrides.yaml", list(overrides))):
            with atomic(self.path / name) as file:
                yaml.safe_dump(content, file, sort_keys=False, allow_unicode=True)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        write_json(self.path / "environment.json", environment)

    def append_history(self, entry: Mapping[str, float]) -> None:
        self._history.append(plain(entry))

    def write_best(self, save: Callable[[Path], object], info: Mapping[str, Any]) -> None:
        """Replace the best checkpoint.

        Args:
            save: writes a model to the path that it is given.
            info: goes into `best.json`, with the file's hash: whoever reads both can tell whether they
                belong together even if the machine died between the two writes.
        """
        save_whole(self.best_model, save)
        write_json(self.path / "best.json", {**info, "sha256": sha256(self.best_model)})

    def write_predictions(self, **arrays: Any) -> None:
        with atomic(self.path / "predictions.npz", "wb") as file:
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
            raise unwritable(directory, error) from error
        path = directory / f"{name}.png"
        with atomic(path, "wb") as file:
            file.write(png)
        return path

    def write_report(self, page: str) -> None:
        with atomic(self.report) as file:
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
        present = sha256(self.best_model) if self.best_model.exists() else None
        if info == self.best and info.get("sha256") == present:
            return
        if stored is not None and stored.best is not None:
            self.write_best(partial(shutil.copyfile, stored.best), info)
        else:
            (self.path / "best.json").unlink(missing_ok=True)
            self.best_model.unlink(missing_ok=True)

    def stored_state(self) -> Stored | None:
        """The last whole state of the training; None where there is none."""
        return self._last.read()

    def clear_states(self) -> None:
        """They take three times the room of the model, and a finished run needs none."""
        self._last.clear()

    @property
    def _last(self) -> LastStates:
        return LastStates(self.path / "last")

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        write_json(self.path / "failure.json", failure)

    def write_end(self, name: str, seed: int, failure: Mapping[str, Any]) -> None:
        """Record that the run ended without a result: `failure` says its `status` and `cause`, and more."""
        self.write_failure(failure)
        ended = {"status": failure["status"], "reason": failure["cause"], "finished": now()}
        self.write_metrics({**ended, "name": name, "seed": seed})

    @property
    def bad_step(self) -> BadStepFiles:
        return BadStepFiles(self.path / "bad_step")

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Always the last file: where it says `done`, everything else is there."""
        write_json(self.path / "metrics.json", metrics)

    def logging(self) -> AbstractContextManager[None]:
        """Send our log, Python's warnings and TensorFlow's log to `cnnbench.log` for a while."""
        return logging_to(self.path / "cnnbench.log")
