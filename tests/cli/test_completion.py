"""What a shell offers while a line is typed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome

from cnnbench.cli.completion import SCRIPTS, words
from cnnbench.cli.verbs import VERBS

Cli = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("cnnbench ver", ["verify"], ["resume", "model="]),
        ("cnnbench ", ["verify", "model=", "training.epochs="], []),
        ("cnnbench mod", ["model=", "model.filters="], ["mode"]),
        ("cnnbench model=", ["model=cnn", "model=mlp"], ["model=adam"]),
        ("cnnbench -m model=mlp,c", ["model=mlp,cnn"], ["model=cnn"]),
        ("cnnbench model=mlp model.", ["model.units="], ["model.filters="]),
        ("cnnbench training.ep", ["training.epochs="], ["seed="]),
        ("cnnbench optimizer/learning_rate=co", ["optimizer/learning_rate=cosine"], []),
        ("cnnbench device=", ["device=gpu"], []),
        ("cnnbench verify ", ["latest", "outputs/done"], ["model="]),
        ("cnnbench verify outputs/d", ["outputs/done"], ["latest"]),
        ("cnnbench check optimizer=ad", ["optimizer=adam", "optimizer=adamw"], []),
        ("cnnbench completion ", ["bash", "zsh", "fish"], ["words"]),
        ("cnnbench nothing=x=y mo", ["model="], []),
    ],
)
def test_what_fits_is_offered(
    line: str, offered: list[str], not_offered: list[str], folder: Path, finished_run: Path
) -> None:
    shutil.copytree(finished_run, folder / "outputs" / "done")
    found = list(words(line, VERBS))
    assert set(offered) <= set(found)
    assert not set(not_offered) & set(found)
    assert all(text.startswith(line.split(" ")[-1]) for text in found)


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
@pytest.mark.parametrize(
    ("line", "reply"),
    [("cnnbench verif", "verify"), ("cnnbench model=ml", "mlp"), ("cnnbench augmentat", "")],
)
def test_bash_completes(line: str, reply: str, folder: Path) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "cnnbench").write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m cnnbench "$@"\n')
    (folder / "bin" / "cnnbench").chmod(0o755)
    script = (
        f'PATH={folder}/bin:$PATH; compopt() {{ :; }}; eval "$(cnnbench completion bash)"; '
        f"COMP_LINE={line!r}; COMP_POINT={len(line)}; _cnnbench; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    if reply:
        assert done.stdout.split() == [reply]
    else:
        assert "augmentation=" in done.stdout.split()


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_one_that_its_shell_reads(shell: str, run_cli: Cli) -> None:
    script = run_cli("completion", shell).out
    assert "cnnbench completion words" in script
    if shutil.which(shell):
        flag = "--no-execute" if shell == "fish" else "-n"
        subprocess.run([shell, flag], input=script, text=True, check=True)
