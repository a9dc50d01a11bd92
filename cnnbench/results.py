"""The run folder: the only module that knows its file names. Every file is whole or absent."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cnnbench.errors import CnnbenchError, FolderRefusedError
from cnnbench.files import atomic, damaged_file, plain, sha256, unwritable

DONE, FAILED, INTERRUPTED, UNFINISHED = "done", "failed", "interrupted", "unfinished"


@dataclass(frozen=True)
class RunFolder:
    """One run's files, for writing and for reading."""

    path: Path

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
        if not (path / "config.yaml").is_file():
            reason = "holds no run (no config.yaml)" if path.is_dir() else "does not exist"
            raise CnnbenchError(f"{path} {reason}", "give the folder of one run, e.g. one below outputs/")
        return cls(path)

    def discard_if_untrained(self) -> None:
        """Remove what a run has left that never began to train; anything else in the folder stays."""
        if not self.path.is_dir() or (self.path / "history.jsonl").exists():
            return
        for name in (
            "config.yaml",
            "overrides.yaml",
            "environment.json",
            "failure.json",
            "metrics.json",
            "cnnbench.log",
        ):
            (self.path / name).unlink(missing_ok=True)
        if not any(self.path.iterdir()) and self.path.resolve() != Path.cwd():
            self.path.rmdir()

    # -- writing -------------------------------------------------------------------------------

    def write_config(self, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
        for name, content in (("config.yaml", plain(config)), ("overrides.yaml", list(overrides))):
            with atomic(self.path / name) as file:
                yaml.safe_dump(content, file, sort_keys=False, allow_unicode=True)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        self._write_json("environment.json", environment)

    def append_history(self, entry: Mapping[str, float]) -> None:
        with (self.path / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain(entry)) + "\n")
        history = self.history
        # Columns may appear later than in the first epoch, so the table is written anew.
        columns = list(dict.fromkeys(key for row in history for key in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        with atomic(self.path / "history.csv") as file:
            file.write(table.getvalue())

    def write_best(self, save: Callable[[Path], object], info: Mapping[str, Any]) -> None:
        """Replace the best checkpoint.

        Args:
            save: writes a model to the path that it is given.
            info: goes into `best.json`, with the file's hash: whoever reads both can tell whether they
                belong together even if the machine died between the two writes.
        """
        temporary = self.path / f".best.{os.getpid()}.tmp.keras"  # Keras insists on the suffix
        try:
            save(temporary)
            digest = sha256(temporary)
            temporary.replace(self.best_model)
        finally:
            temporary.unlink(missing_ok=True)
        self._write_json("best.json", {**info, "sha256": digest})

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

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        self._write_json("failure.json", failure)

    def write_bad_step(self, save: Callable[[Path], object], x: np.ndarray, y: np.ndarray) -> None:
        """Keep what `replay` needs: the model before the step that broke the training, and its batch."""
        (self.path / "bad_step").mkdir(exist_ok=True)
        temporary = self.path / "bad_step" / ".before.tmp.keras"
        save(temporary)
        temporary.replace(self.path / "bad_step" / "before.keras")
        with atomic(self.path / "bad_step" / "batch.npz", "wb") as file:
            np.savez_compressed(file, x=x, y=y)

    def bad_step(self) -> tuple[Path, np.ndarray, np.ndarray]:
        """The model before the bad step, and its batch.

        Raises:
            CnnbenchError: the run has none.
        """
        model, batch = self.path / "bad_step" / "before.keras", self.path / "bad_step" / "batch.npz"
        if not (model.is_file() and batch.is_file()):
            raise CnnbenchError(
                f"{self.path} has no step to replay", "only a run whose loss turned NaN or infinite keeps one"
            )
        with np.load(batch, allow_pickle=False) as arrays:
            return model, arrays["x"], arrays["y"]

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Always the last file: where it says `done`, everything else is there."""
        self._write_json("metrics.json", metrics)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        with atomic(self.path / name) as file:
            json.dump(plain(content), file, indent=2, ensure_ascii=False)
            file.write("\n")

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Send our log, Python's warnings and TensorFlow's log to `cnnbench.log` for a while."""
        handler = logging.FileHandler(self.path / "cnnbench.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        loggers = [logging.getLogger(name) for name in ("cnnbench", "py.warnings", "absl", "tensorflow")]
        for logger in loggers:
            logger.addHandler(handler)
        own, level = loggers[0], loggers[0].level
        own.setLevel(min(own.getEffectiveLevel(), logging.INFO))  # from Python nobody else has set it
        try:
            yield
        finally:
            own.setLevel(level)
            for logger in loggers:
                logger.removeHandler(handler)
            handler.close()

    # -- reading -------------------------------------------------------------------------------

    @property
    def best_model(self) -> Path:
        return self.path / "best.keras"

    def export_path(self, name: str) -> Path:
        return self.path / "exports" / name

    @property
    def overrides(self) -> list[str]:
        """What the user typed; empty where that was not written down."""
        path = self.path / "overrides.yaml"
        loaded = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
        return [str(text) for text in loaded or []]

    @property
    def config(self) -> dict[str, Any]:
        path = self.path / "config.yaml"
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError) as error:
            raise damaged_file(path, error) from error
        if not isinstance(loaded, dict):
            raise damaged_file(path, "it holds no mapping")
        return loaded

    @property
    def history(self) -> list[dict[str, Any]]:
        path = self.path / "history.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise damaged_file(path, error) from error

    @property
    def best(self) -> dict[str, Any]:
        return self._read_json("best.json")

    @property
    def metrics(self) -> dict[str, Any]:
        return self._read_json("metrics.json")

    @property
    def failure(self) -> dict[str, Any]:
        return self._read_json("failure.json")

    @property
    def environment(self) -> dict[str, Any]:
        return self._read_json("environment.json")

    @property
    def status(self) -> str:
        """`done`, `failed`, `interrupted`, or `unfinished`: still running, or killed without a word."""
        return str(self.metrics.get("status", FAILED if self.failure else UNFINISHED))

    def _read_json(self, name: str) -> dict[str, Any]:
        """The file's content; empty where there is none."""
        path = self.path / name
        if not path.exists():
            return {}
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise damaged_file(path, error) from error
        return loaded if isinstance(loaded, dict) else {}


def find_runs(places: Sequence[Path]) -> list[RunFolder]:
    """Every run at or below `places`, each once, by name.

    Raises:
        CnnbenchError: a place does not exist.
    """
    found: dict[Path, RunFolder] = {}
    for place in places:
        if not place.is_dir():
            raise CnnbenchError(f"{place} does not exist or is not a folder")
        for config in sorted(place.rglob("config.yaml"), key=_natural):
            found[config.parent.resolve()] = RunFolder(config.parent)
    return list(found.values())


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]
