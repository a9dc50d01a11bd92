"""The walls of the house that a linter of imports cannot see; who imports whom `make lint` checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cnnbench"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
ROOMS = sorted(module for module, path in MODULES.items() if path.name == "__init__.py" and "." in module)
HEAVY = {"keras", "tensorflow", "torch", "jax"}
MOST_NAMES = 15  # of modules and packages in a folder
# Where a run says what it is before TensorFlow is there, and what the command line needs to start.
LIGHT = (
    "analysis.comparison", "analysis.diff", "cli.main", "config.composition", "config.checks", "data.dataset",
    "data.fetch", "data.splits", "models.catalogue", "reporting.output", "reporting.tables",
    "reporting.terminal", "runs.folder", "runs.spec", "sweeps.forecast", "sweeps.plan", "sweeps.run",
    "system.files", "training.run",
)  # fmt: skip


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def door(room: str) -> dict[str, str]:
    """What a room offers, and the module that each name comes from."""
    stub = MODULES[room].with_suffix(".pyi")
    if not stub.exists():
        return {}
    return {
        alias.name: f"{room}.{node.module or alias.name}"
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def imports(module: str) -> set[tuple[str, str]]:
    """Module and name of each `from module import name` of ours."""
    found: set[tuple[str, str]] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full"
            found |= {(str(node.module), alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("cnnbench") for alias in node.names), module
    return {(source, name) for source, name in found if source.startswith("cnnbench.")}


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


# -- Rooms and doors ---------------------------------------------------------------------------------


def test_a_folder_shows_few_names() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        names = [
            path.name
            for path in folder.iterdir()
            if path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists())
        ]
        assert len(set(names) - {"__init__.py", "__main__.py"}) <= MOST_NAMES, folder


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_gives_what_its_door_says(room: str) -> None:
    """Every name of the stub exists, and none of them is hidden by a module of the same name."""
    package = __import__(room, fromlist=["__all__"])
    offered = door(room)
    assert sorted(getattr(package, "__all__", [])) == sorted(offered)
    for name, module in offered.items():
        found = getattr(package, name)
        if module == f"{room}.{name}" and module in MODULES:
            assert found.__name__ == module
        else:
            assert found is getattr(__import__(module, fromlist=[name]), name), name
            assert f"{room}.{name}" not in MODULES, f"{name} is a module of the room, too"


def test_nobody_comes_in_but_by_the_door() -> None:
    for module, path in MODULES.items():
        inside = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for source, name in imports(module):
            strange = [
                room
                for room in ROOMS
                if f"{source}.".startswith(f"{room}.") and not f"{inside}.".startswith(f"{room}.")
            ]
            if strange and module != "cnnbench.__main__":
                room = min(strange, key=len)
                assert source == room, f"{module}: from {source} import {name}, which is inside {room}"
                assert name in door(room), f"{module}: {room} does not offer {name}"


def test_every_module_says_what_it_is_for() -> None:
    for module in MODULES:
        assert (ast.get_docstring(tree(module)) or "").strip(), module


def test_what_is_needed_before_a_training_imports_no_tensorflow(run_python: Callable[..., Any]) -> None:
    code = f"""if True:
        import sys
        from importlib import import_module
        for module in {LIGHT}:
            import_module(f"cnnbench.{{module}}")
            assert not {sorted(HEAVY)} & sys.modules.keys(), module
    """.replace("[", "{").replace("]", "}")
    outcome = run_python(code)
    assert outcome.exit_code == 0, outcome.err


# -- One place for each thing --------------------------------------------------------------------------


def test_there_is_one_instantiate_and_it_converts_everything() -> None:
    found = [(module, call) for module in MODULES for call in calls(module, "instantiate")]
    assert [module for module, _ in found] == ["cnnbench.config.composition"]
    keywords = {k.arg: ast.unparse(k.value) for k in found[0][1].keywords}
    assert keywords == {"_partial_": "True", "_convert_": "'all'"}


def test_nothing_is_printed_past_the_console() -> None:
    assert [module for module in MODULES if calls(module, "print")] == []
    assert [module for module in MODULES if calls(module, "Console")] == []


def test_only_the_entry_point_exits() -> None:
    for name in ("sys.exit", "exit", "quit", "os._exit"):
        exits = {module for module in MODULES if calls(module, name)}
        own_process = {"cnnbench.cli.watch"} if name == "os._exit" else set()  # a fork must not go on
        assert exits <= {"cnnbench.__main__", "cnnbench.cli.main", *own_process}
    raised = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Raise) and node.exc and "SystemExit" in ast.unparse(node.exc)
    }
    assert raised == set()


def test_only_the_run_folder_knows_its_file_names() -> None:
    """As paths; a message may mention one."""
    name = re.compile(r"[\w-]+\.(json|jsonl|csv|yaml|keras|npz|log|html)")
    place = "cnnbench.runs.folder"
    known = {text for text in strings(place) if name.fullmatch(text)}
    assert {
        "metrics.json",
        "best.keras",
        "best.json",
        "history.jsonl",
        "config.yaml",
        "cnnbench.log",
    } <= known
    for module in set(MODULES) - {place}:
        paths = {text for text in strings(module) if " " not in text}
        if module in ("cnnbench.nn.checkpoints", "cnnbench.models.stored"):
            paths -= {"config.json"}  # a part of what Keras stores, not of the run folder
        assert not {path for path in paths if path.rpartition("/")[2] in known}, module


def test_nothing_of_keras_is_forked_a_second_training_loop() -> None:
    """`fit` stays the only loop: nobody else applies gradients."""
    for module in MODULES:
        for node in ast.walk(tree(module)):
            assert not (
                isinstance(node, ast.Attribute) and node.attr in ("apply_gradients", "train_on_batch")
            )


def test_the_program_is_read_in_one_sitting() -> None:
    """Prepare, fit, measure, write: each of them on one screen."""
    functions = {
        node.name: node.end_lineno - node.lineno + 1  # type: ignore[operator]
        for node in tree("cnnbench.training.run").body
        if isinstance(node, ast.FunctionDef)
    }
    assert {"run", "prepare", "fit", "measure", "write"} <= set(functions)
    assert max(functions.values()) <= 60


def test_no_path_of_one_machine_is_in_the_repository() -> None:
    """A path below somebody's home or project folder works for nobody else."""
    machine = re.compile(r"(?<![\w.])/(home|Users|root|work)/\w")
    for folder, pattern in ((PACKAGE, "*.py"), (ROOT / "conf", "*.yaml"), (ROOT / "tests", "*.py")):
        for path in folder.rglob(pattern):
            assert not machine.search(path.read_text(encoding="utf-8")), path


# -- Words ---------------------------------------------------------------------------------------------

# How a fragment begins that is no sentence in the imperative.
FRAGMENT = re.compile(
    r"(A|All|An|And|As|At|Because|By|Each|Every|Everything|For|From|Half|How|If|In|Is|It|Its|Just|Many|No|Nobody|"
    r"None|Not|Nothing|Numbers|Of|On|One|Only|Or|Our|Several|Since|So|Some|Such|That|The|Their|These|This|Those|"
    r"Three|To|Two|Until|Up|What|When|Where|Whether|Which|Who|Whose|Why|With|Within|Without|[^A-Z].*|\w*ing)\W?"
)


def test_a_function_says_what_it_does_in_the_imperative() -> None:
    fragments = []
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            is_property = any("property" in ast.unparse(one) for one in node.decorator_list)
            first = (ast.get_docstring(node) or "Say").split()[0]
            if not is_property and FRAGMENT.fullmatch(first):
                fragments.append(f"{module}.{node.name}: {first} …")
    assert not fragments, "\n".join(fragments)
