"""Fixtures of the tests of picture folders: a cache of their own, and which files were decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnbench.data.images import decoding
from cnnbench.data.images.decoding import Recipe


@pytest.fixture
def own_cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own cache, and no data of this machine except where a test is about them."""
    if "real_data" not in request.keywords:
        request.getfixturevalue("folder")
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))


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
