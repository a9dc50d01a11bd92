"""The walls of the house, read from the syntax trees: who imports whom, who prints, who knows file names."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cnnbench"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
EDGE = {"cnnbench.cli", "cnnbench.config", "cnnbench.overrides"}  # the only ones that know Hydra
ENTRY = EDGE | {
    f"cnnbench.{name}" for name in ("__main__", "checking", "origins", "planning", "stored", "sweeping")
}
ENTRY |= {module for module in MODULES if module.startswith("cnnbench.verbs")}
HEAVY = {"keras", "tensorflow", "torch", "jax"}
# What the leaves may import beside the standard library, numpy, `cnnbench.errors` and their own package.
LEAVES = {
    "augmentation": {"pydantic", "scipy", "tensorflow"},
    "callbacks": {
        "pydantic",
        "keras",
        "cnnbench.diagnose",
        "cnnbench.feed",
    },  # to find the step that diverged
    "datasets": {"pydantic", "sklearn", "PIL", "cnnbench.memory"},
    "layers": {"pydantic", "keras"},
    "losses": {"pydantic", "keras"},
    "metrics": {"sklearn"},
    "models": {
        "pydantic",
        "keras",
        "cnnbench.checkpoints",  # a file of weights may come from a stranger
        "cnnbench.layers",
        "cnnbench.datasets.downloads",  # weights are fetched as data sets are
        "cnnbench.datasets.files",  # is there a network
    },
    "optimizers": {"pydantic", "keras"},
    "schedules": {"pydantic", "keras"},
    "views": {"keras"},
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module: str, *, at_import_only: bool = False) -> set[str]:
    """Modules that it imports: ours as dotted paths, others by their first name."""
    nodes = at_import(tree(module).body) if at_import_only else ast.walk(tree(module))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & set(MODULES)) or {str(node.module)}
    return {name if name.startswith("cnnbench") else name.partition(".")[0] for name in found}


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What runs when a module is imported: not functions, and not what is for type checkers."""
    for statement in body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        yield statement
        for inside in ("body", "orelse", "finalbody"):
            if not isinstance(statement, ast.FunctionDef):
                yield from at_import(getattr(statement, inside, []))


def calls(module: str, name: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (name, f"hydra.utils.{name}")
    ]


def strings(module: str) -> set[str]:
    """Every string that is not documentation."""
    documentation = {
        id(node.value)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return {
        node.value
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    }


@pytest.mark.parametrize("module", MODULES)
def test_only_the_edge_imports_hydra(module: str) -> None:
    assert not imports(module) & {"hydra", "omegaconf"} or module in EDGE


@pytest.mark.parametrize("module", sorted(set(MODULES) - ENTRY))
def test_the_library_does_not_know_its_command_line(module: str) -> None:
    assert not imports(module) & ENTRY


@pytest.mark.parametrize("module", [m for m in MODULES if m.count(".") and m.split(".")[1] in LEAVES])
def test_a_leaf_imports_only_what_it_may(module: str) -> None:
    leaf = module.split(".")[1]
    own = {name for name in MODULES if name == f"cnnbench.{leaf}" or name.startswith(f"cnnbench.{leaf}.")}
    allowed = LEAVES[leaf] | own | {"numpy", "cnnbench.errors"} | set(sys.stdlib_module_names)
    assert imports(module) - allowed == set()


def test_every_leaf_exists() -> None:
    assert set(LEAVES) <= {module.split(".")[1] for module in MODULES if "." in module}


@pytest.mark.parametrize(
    "module",
    [
        *(
            "cli",
            "verbs",
            "config",
            "checks",
            "signatures",
            "spec",
            "report",
            "results",
            "comparison.compare",
            "run",
        ),
        *(name.removeprefix("cnnbench.") for name in MODULES if name.startswith("cnnbench.datasets")),
    ],
)
def test_importing_it_imports_no_tensorflow(module: str) -> None:
    """Neither itself nor anything that it imports on the way; `import` inside a function is later."""
    waiting, seen = [f"cnnbench.{module}"], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        found = imports(name, at_import_only=True)
        assert not found & HEAVY, name
        waiting += [other for other in found if other in MODULES]


def test_there_is_one_instantiate_and_it_converts_everything() -> None:
    found = [(module, call) for module in MODULES for call in calls(module, "instantiate")]
    assert [module for module, _ in found] == ["cnnbench.config"]
    keywords = {k.arg: ast.unparse(k.value) for k in found[0][1].keywords}
    assert keywords == {"_partial_": "True", "_convert_": "'all'"}


def test_nothing_is_printed_past_the_console() -> None:
    assert [module for module in MODULES if calls(module, "print")] == []
    assert {module for module in MODULES if calls(module, "Console")} <= {"cnnbench.report"}


def test_only_the_entry_point_exits() -> None:
    for name in ("sys.exit", "exit", "quit", "os._exit"):
        assert {module for module in MODULES if calls(module, name)} <= {"cnnbench.__main__", "cnnbench.cli"}
    raised = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Raise) and node.exc and "SystemExit" in ast.unparse(node.exc)
    }
    assert raised == set()


def test_only_results_knows_the_file_names_of_a_run_folder() -> None:
    """As paths; a message may mention one."""
    name = re.compile(r"[\w-]+\.(json|jsonl|csv|yaml|keras|npz|log|html)")
    places = {"cnnbench.results", "cnnbench.run_files"}
    known = {text for module in places for text in strings(module) if name.fullmatch(text)}
    assert {
        "metrics.json",
        "best.keras",
        "best.json",
        "history.jsonl",
        "config.yaml",
        "cnnbench.log",
    } <= known
    for module in set(MODULES) - places:
        paths = {text for text in strings(module) if " " not in text}
        assert not {path for path in paths if path.rpartition("/")[2] in known}, module


def test_nothing_of_keras_is_forked_a_second_training_loop() -> None:
    """`fit` stays the only loop: nobody else applies gradients."""
    for module in MODULES:
        for node in ast.walk(tree(module)):
            assert not (
                isinstance(node, ast.Attribute) and node.attr in ("apply_gradients", "train_on_batch")
            )


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short(module: str) -> None:
    """A file that grows beyond this holds two ideas: split it."""
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_for(module: str) -> None:
    assert (ast.get_docstring(tree(module)) or "").strip()


def test_no_path_of_one_machine_is_in_the_repository() -> None:
    """A path below somebody's home or project folder works for nobody else."""
    machine = re.compile(r"(?<![\w.])/(home|Users|root|work)/\w")
    for folder, pattern in ((PACKAGE, "*.py"), (ROOT / "conf", "*.yaml"), (ROOT / "tests", "*.py")):
        for path in folder.rglob(pattern):
            assert not machine.search(path.read_text(encoding="utf-8")), path
