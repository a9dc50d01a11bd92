"""README and docs: their lines are right, their lists say nothing that no test looks after."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Outcome
from PIL import Image

from cnnbench import api, sweeps
from cnnbench.cli.contract import meaning, read_output
from cnnbench.cli.typed import understood
from cnnbench.cli.verbs import VERBS
from cnnbench.errors import CnnbenchError
from cnnbench.sweeps.plan import plan

Cli = Callable[..., Outcome]

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROWS = [line for line in (ROOT / "docs" / "faults.md").read_text().splitlines() if line.startswith("| ")]
PROMISES = [line for line in ROWS if not re.match(r"\| (---|fault or attack) \|", line)]
BLOCK = re.compile(r"^```(?:bash|yaml|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What an example names that is not there: a run, a folder, an option of one's own, an address.
PLACEHOLDER = re.compile(r"RUN|SWEEP|NAME|FILE|my_conf|model=mine|plugins=|…|2026-01-31|pics\b|photo|auto_")
# What makes a documented run short, where it says nothing else of that.
SHORT = ("training.epochs=1", "training.examples=40", "device=cpu")


def lines_of(page: Path) -> Iterator[str]:
    """Yield the lines of a page that call the command, without prompt and comment."""
    for block in BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"\s*(?:- run: |\$ |\.venv/bin/)?(cnnbench\b.*)", line)
            if found:
                yield shlex.join(shlex.split(found[1], comments=True))


LINES = [(page.name, line) for page in PAGES for line in lines_of(page)]


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row.split("|")[1].strip())
def test_a_promise_has_its_test(row: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row.rsplit("|", 2)[1])
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text()


def test_the_lists_are_read() -> None:
    assert len(PROMISES) > 40
    assert len(LINES) > 30
    assert {name for name, _ in LINES} >= {"README.md", "sweeps.md", "command-line.md", "ci.md"}


def test_the_korean_pages_name_the_presets_and_figures_of_the_english_ones() -> None:
    english, korean = ((ROOT / "docs" / place / "notes.md").read_text() for place in ("", "ko"))
    rows = [
        re.findall(r"^\| (N\d+) \| (`\S+`) .*?(\d\.\d+ ± \d\.\d+)?", text, re.MULTILINE)
        for text in (english, korean)
    ]
    assert len(rows[0]) == 10
    assert rows[0] == rows[1]
    assert set(re.findall(r"\d\.\d{3} ± \d\.\d{3}", korean)) <= set(
        re.findall(r"\d\.\d{3} ± \d\.\d{3}", english)
    )


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).is_file(), link


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}: {line}" for page, line in LINES])
def test_a_documented_line_is_one_that_runs(page: str, line: str, folder: Path, run_cli: Cli) -> None:
    """Compose and check what it would run; of a verb look whether it has these flags."""
    _, arguments = read_output(shlex.split(line)[1:])
    if arguments[:1] == ["modle=cnn"]:
        with pytest.raises(CnnbenchError, match="did you mean model"):
            api.compose(*arguments)
        return
    verb = arguments[0] if arguments and arguments[0] in VERBS else None
    if verb is not None:
        known = run_cli(verb, "--help").out
        for flag in (text.partition("=")[0] for text in arguments if text.startswith("--")):
            assert flag in known
        if verb not in ("check", "explain", "list"):
            return
        arguments = arguments[1:] if verb == "check" else []
    if PLACEHOLDER.search(" ".join(arguments)) or {"--help", "--version"} & set(arguments):
        return
    asked = meaning(understood(arguments, VERBS), VERBS) if arguments else None
    assert asked is None or asked.kind == "line"
    overrides = [text for text in arguments if not text.startswith("-") and text != "job"]
    if "-m" in arguments or sweeps.makes_sweep(overrides):
        planned = plan(overrides, None)
        assert planned.jobs or planned.search
    else:
        assert api.compose(*overrides).config


def test_the_example_of_parts_of_ones_own_runs_as_it_stands(
    folder: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "extending.md").read_text()
    files = re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
    assert len(files) == 6
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    lines = [shlex.split(line)[1:] for line in lines_of(ROOT / "docs" / "extending.md")]
    assert len(lines) == 2
    used = " ".join(text for line in lines for text in line)
    for name, _ in files[1:]:
        assert Path(name).stem in used
    for line in lines:
        outcome = run_cli(*line, *SHORT)
        assert outcome.exit_code == 0, outcome.err
    assert run_cli("verify", "latest").exit_code == 0


def test_the_readme_is_a_journey_that_can_be_made(folder: Path, run_cli: Cli) -> None:
    """Every command of the README after the installation, in its order, in one folder, shortened."""
    for name in ("cat", "dog"):
        (folder / "pics" / name).mkdir(parents=True)
        for number in range(20):
            colour = (200 if name == "cat" else 40, 5 * number, 100)
            Image.new("RGB", (16, 16), colour).save(folder / "pics" / name / f"{number}.png")
    (folder / "some").mkdir()
    Image.new("RGB", (20, 30), (190, 9, 100)).save(folder / "some" / "photo.jpg")
    made = 0
    for line in lines_of(ROOT / "README.md"):
        arguments = shlex.split(line)[1:]
        expected = 2 if arguments == ["modle=cnn"] else 0
        if any("cifar10" in text for text in arguments):
            continue  # no data here; composed and checked by the test above
        if not arguments or "pics" in arguments or "-m" in arguments:
            arguments += SHORT if "check" not in arguments else ()
            made += 1
        outcome = run_cli(*arguments)
        assert outcome.exit_code == expected, (line, outcome.err)
    assert made >= 3
    assert (folder / "answer.html").is_file()


def test_the_python_of_the_readme_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (folder / "some" / "pictures").mkdir(parents=True)
    Image.new("L", (8, 8)).save(folder / "some" / "pictures" / "1.png")
    real = api.compose

    def short(*overrides: str, **others: object) -> object:
        return real(*overrides, *SHORT, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(api, "compose", short)
    code = code.replace('"seed=0,1,2"', ", ".join(map(repr, ("seed=0,1", *SHORT))))
    exec(compile(code, "README.md", "exec"), {})
