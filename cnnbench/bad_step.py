"""What a run whose loss turned NaN or infinite leaves behind, for `replay`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from cnnbench.errors import CnnbenchError
from cnnbench.files import atomic, damaged_file, save_whole


@dataclass(frozen=True)
class BadStepFiles:
    """A folder with the model before the step that broke the training, and the step's batch."""

    path: Path

    def write(self, save: Callable[[Path], object], x: np.ndarray, y: np.ndarray) -> None:
        """Keep both; `save` writes a model to the path that it is given."""
        self.path.mkdir(exist_ok=True)
        save_whole(self._model, save)
        with atomic(self._batch, "wb") as file:
            np.savez_compressed(file, x=x, y=y)

    def read(self) -> tuple[Path, np.ndarray, np.ndarray]:
        """The model's file, and the batch's inputs and targets.

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
            raise damaged_file(self._batch, error) from error

    @property
    def _model(self) -> Path:
        return self.path / "before.keras"

    @property
    def _batch(self) -> Path:
        return self.path / "batch.npz"
