"""Shared by the tests of picture folders: a cache of their own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def own_cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own cache, and no data of this machine except where a test is about them."""
    if "real_data" not in request.keywords:
        request.getfixturevalue("folder")
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
