"""What is shipped: the wheel and the source archive, file by file and installed; locks and the Dockerfile."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cnnbench

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CODE = (".py", ".pyi", ".typed", ".j2", ".css", ".js")
NAMED = f"cnnbench-{cnnbench.__version__}"


def files(folder: str, *suffixes: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts
    }


def build(source: Path, place: Path, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place), *arguments, str(source)],
        check=True,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source archive, and the wheel that was built from it."""
    place = tmp_path_factory.mktemp("dist")
    build(ROOT, place)
    return place


@pytest.fixture(scope="session")
def wheel(shipped: Path) -> Path:
    return shipped / f"{NAMED}-py3-none-any.whl"


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked, as an installer would."""
    place = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"{NAMED}.dist-info/{name}").decode()


def test_the_wheel_holds_the_package_and_every_yaml_and_nothing_else(wheel: Path) -> None:
    """A wrong path in pyproject.toml builds a wheel without a single YAML, and says nothing."""
    yamls = {f"cnnbench/{name}" for name in files("conf", ".yaml")}
    assert len(yamls) > 20
    information = {
        f"{NAMED}.dist-info/{name}"
        for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    assert contents(wheel) == files("cnnbench", *CODE) | yamls | information


def test_the_wheel_from_the_checkout_is_the_one_from_the_source_archive(wheel: Path, tmp_path: Path) -> None:
    build(ROOT, tmp_path, "--wheel")
    (direct,) = tmp_path.iterdir()
    assert direct.name == wheel.name
    assert contents(direct) == contents(wheel)


def test_the_source_archive_holds_what_is_needed_to_build_and_test(shipped: Path) -> None:
    with tarfile.open(shipped / f"{NAMED}.tar.gz") as archive:
        found = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    beside = (
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "mkdocs.yml",
        "LICENSE",
        "Makefile",
        "requirements.lock",
        "pyproject.toml",
    )
    present = {name for name in beside if (ROOT / name).exists()}
    made = {"PKG-INFO", ".gitignore"}
    tests = files("tests", ".py", ".yaml", ".json", ".jsonl", ".csv", ".keras", ".npz")
    docs = files("docs", ".md", ".py", ".css", ".png", ".svg")
    others = files("benchmarks", ".md", ".py", ".txt") | files("docker", "", ".lock")
    others |= files("examples", ".ipynb", ".py")
    assert found - made == files("cnnbench", *CODE) | files("conf", ".yaml") | tests | docs | others | present


def test_the_command_is_there_and_leads_to_main(wheel: Path) -> None:
    assert "[console_scripts]\ncnnbench = cnnbench.cli.main:main" in metadata(wheel, "entry_points.txt")


def test_the_metadata_is_valid_and_that_of_the_project(wheel: Path) -> None:
    described = Metadata.from_email(metadata(wheel, "METADATA"))  # refuses what an index would refuse
    assert (described.name, str(described.version)) == ("cnnbench", cnnbench.__version__)
    assert described.license_expression == "MIT"
    required = {canonicalize_name(one.name) for one in described.requires_dist or ()}
    assert required >= {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}


def test_every_place_that_names_the_version_names_this_one() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == cnnbench.__version__
    heading, released = re.findall(r"^## (.+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[:2]
    assert heading == "Unreleased"
    assert re.fullmatch(rf"{re.escape(cnnbench.__version__)} — \d{{4}}-\d\d-\d\d", released)


@pytest.mark.parametrize("archive", [f"{NAMED}-py3-none-any.whl", f"{NAMED}.tar.gz"])
def test_an_archive_installs_and_runs_from_any_folder(archive: str, shipped: Path, tmp_path: Path) -> None:
    """In an environment of its own, which sees the dependencies of this one and not the checkout."""
    venv.create(tmp_path / "venv")
    place = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    python = Path(sysconfig.get_path("scripts", "venv", place)) / "python"
    library = Path(sysconfig.get_path("purelib", "venv", place))
    (library / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    flags = ("--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed", "--quiet")
    pip = [sys.executable, "-m", "pip", f"--python={python}", "install", *flags, str(shipped / archive)]
    subprocess.run(pip, check=True, capture_output=True)
    hidden = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def answer(*arguments: str) -> dict[str, object]:
        command = [str(python.with_name("cnnbench")), *arguments, "--json"]
        done = subprocess.run(command, cwd="/", env=hidden, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    assert answer("--version")["cnnbench"] == cnnbench.__version__
    assert answer("list")["groups"] == answer_of_checkout()
    run = answer("dataset=digits", "training=smoke", "device=cpu", f"run_dir={tmp_path / 'run'}")
    assert (run["status"], run["epochs"]) == ("done", 1)
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["versions"]["cnnbench"] == cnnbench.__version__


def answer_of_checkout() -> dict[str, dict[str, str]]:
    from cnnbench import config

    return config.options()


@pytest.mark.parametrize("typed", ["--cfg job", "list", "--help"])
def test_an_installed_wheel_finds_its_config_from_any_folder(typed: str, installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cnnbench.cli.main", *typed.split()],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = {"--cfg job": "_target_: cnnbench.models.cnn.cnn", "list": "cifar10", "--help": "cifar10"}
    assert expected[typed] in done.stdout


def test_the_config_folder_of_an_installed_wheel_is_inside_the_package(installed: Path) -> None:
    code = "import cnnbench.config.groups as o; print(o.__file__, o.CONF_DIR, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        str(installed / "cnnbench" / "config" / "groups.py"),
        str(installed / "cnnbench" / "conf"),
    ]


def test_a_wheel_without_its_yaml_would_be_noticed(tmp_path: Path) -> None:
    """The comparison above can fail: with a mistyped folder the build succeeds, and lacks them all."""
    for name in ("cnnbench", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    mistyped = text.replace('only-include = ["cnnbench", "conf"]', 'only-include = ["cnnbench", "config"]')
    assert mistyped != text
    (tmp_path / "pyproject.toml").write_text(mistyped, encoding="utf-8")
    build(tmp_path, tmp_path / "dist", "--wheel")
    (broken,) = (tmp_path / "dist").iterdir()
    assert [name for name in contents(broken) if name.endswith(".yaml")] == []


# ---------------------------------------------------------------- locks, and the containers made of them

LOCKS = ("requirements.lock", "docker/cpu.lock", "docker/cuda.lock")


def pins(lock: str = "requirements.lock") -> dict[str, list[tuple[str, int]]]:
    """By name: each pinned version with the number of its hashes (a version may depend on the platform)."""
    found: dict[str, list[tuple[str, int]]] = {}
    for block in re.split(r"\n(?=\S)", (ROOT / lock).read_text(encoding="utf-8").strip()):
        pinned = re.match(r"([\w.-]+)(?:\[[^]]*\])?==(\S+)", block)
        assert pinned, block.splitlines()[0]
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)
        found.setdefault(canonicalize_name(pinned[1]), []).append((pinned[2], len(hashes)))
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "http" not in text
    assert "--index" not in text
    assert "@ file" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    assert [name for name, versions in pins(lock).items() if not all(count for _, count in versions)] == []


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
def test_every_requirement_is_pinned_to_a_version_that_fits(text: str) -> None:
    required = Requirement(text)
    versions = [version for version, _ in pins().get(canonicalize_name(required.name), [])]
    assert versions, "run `make lock`"
    assert all(required.specifier.contains(version) for version in versions)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_container_has_what_the_package_needs_in_the_tested_versions(device: str) -> None:
    pinned, tested = pins(f"docker/{device}.lock"), pins()
    needed = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert pinned.keys() >= needed | {"hatchling"}, "run `make lock`"
    assert {name for name in pinned if name not in tested} == {name for name in pinned if "nvidia" in name}
    for name in pinned.keys() & tested.keys():
        assert pinned[name] == tested[name], "run `make lock`"
    assert any("nvidia" in name for name in pinned) == (device == "cuda")


def test_the_dockerfile_copies_what_the_build_needs_and_ignores_the_rest() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    copied = {
        source.replace("${DEVICE}", device)
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
        for source in line.split()
        for device in ("cpu", "cuda")
    }
    assert copied == {
        "docker/cpu.lock",
        "docker/cuda.lock",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "cnnbench",
        "conf",
    }
    assert all((ROOT / name).exists() for name in copied)
    first, *kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] in "*!"]
    assert first == "*"
    assert {
        name for pattern in kept if pattern[0] == "!" for name in copied if Path(name).match(pattern[1:])
    } == copied
