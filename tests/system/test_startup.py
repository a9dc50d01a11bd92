"""What is set before TensorFlow starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnbench.system import startup

FLAG = "--tf_xla_persistent_cache_directory="


@pytest.mark.parametrize("given", ["", "--tf_xla_enable_lazy_compilation=false"])
def test_programs_for_a_gpu_are_kept_in_the_cache(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_XLA_FLAGS", given)
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(startup, "gpus", list)
    startup._keep_programs()
    assert os.environ["TF_XLA_FLAGS"] == given  # on a CPU they would be wrong elsewhere
    monkeypatch.setattr(startup, "gpus", lambda: ["0"])
    startup._keep_programs()
    assert os.environ["TF_XLA_FLAGS"].split() == [*given.split(), f"{FLAG}{tmp_path / 'xla'}"]
    assert (tmp_path / "xla").is_dir()


def test_a_place_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_XLA_FLAGS", f"{FLAG}/mine")
    monkeypatch.setattr(startup, "gpus", lambda: ["0"])
    startup._keep_programs()
    assert os.environ["TF_XLA_FLAGS"] == f"{FLAG}/mine"
