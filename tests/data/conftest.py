"""Shared by the tests of images: which files are decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnbench.data.images import decoding
from cnnbench.data.images.decoding import Recipe


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded, in no particular order."""
    names: list[str] = []
    real = decoding.decode

    def decode(path: Path, recipe: Recipe) -> tuple[np.ndarray, int | None]:
        names.append(path.name)
        return real(path, recipe)

    monkeypatch.setattr(decoding, "decode", decode)
    return names
