"""Mutations of the code, and which of them the tests notice: a table, one line for each.

    python -m pytest --cov --cov-context=test -n 2          # once: which test executes which line
    python benchmarks/mutations.py --coverage .coverage     # 40 mutations, always the same ones

A mutation is drawn from the lines that a test executes: another comparison, constant, operator or boolean, a
condition the other way round, a statement or a result left out. For each only the tests that execute its
line are run, those of its own room first, until one fails. `--commit` takes the lines from an earlier
commit, as far as they are unchanged here, so that two suites can be compared on the same mutations;
`--tree` is where the tests lie.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coverage import CoverageData

ROOMS = ("training", "runs", "data", "sweeps", "config")
COPIED = ("cnnbench", "conf", "tests", "docs", "examples", "pyproject.toml", "README.md", "CHANGELOG.md")
SURVIVED = "SURVIVED"
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{
        ast.Lt: ast.LtE,
        ast.LtE: ast.Lt,
        ast.Gt: ast.GtE,
        ast.GtE: ast.Gt,
        ast.Eq: ast.NotEq,
        ast.NotEq: ast.Eq,
    },
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
}


@dataclass(frozen=True)
class Mutation:
    """One change of one file; its place counts lines from 1 and bytes from 0, as `ast` does."""

    file: str
    first: tuple[int, int]
    last: tuple[int, int]
    new: str
    kind: str

    def apply(self, text: str, shift: int) -> str:
        """Return the changed file, in which the line stands `shift` lines further down."""
        lines = text.encode().splitlines(keepends=True)
        (first, begin), (last, end) = self.first, self.last
        head, tail = lines[first - 1 + shift][:begin], lines[last - 1 + shift][end:]
        lines[first - 1 + shift : last + shift] = [head + self.new.encode() + tail]
        return b"".join(lines).decode()


# -- What may be changed ---------------------------------------------------------------------------


def mutations(file: str, text: str) -> Iterator[Mutation]:
    """Yield every mutation of a file."""
    tree = ast.parse(text)
    skipped = {id(inner) for node in ast.walk(tree) for part in _unread(node) for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        for place, new, kind in _changes(node):
            assert place.end_lineno is not None
            assert place.end_col_offset is not None
            first, last = (place.lineno, place.col_offset), (place.end_lineno, place.end_col_offset)
            yield Mutation(file, first, last, new, kind)


def _unread(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts that do nothing as the code runs: annotations, decorators, what is only logged."""
    for name in ("annotation", "returns"):
        if isinstance(part := getattr(node, name, None), ast.AST):
            yield part
    yield from getattr(node, "decorator_list", ())
    if isinstance(node, ast.JoinedStr):
        yield node
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        function = ast.unparse(node.value.func)
        if function.startswith("log.") or function.endswith((".debug", ".info")):
            yield node
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        yield node


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:  # noqa: C901  a table
    """Yield what stands instead of a node: the place, the new text, and what kind of change it is."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in COMPARISONS:
            changed = copy.deepcopy(node)
            changed.ops = [COMPARISONS[type(operator)]()]
            yield node, f"({ast.unparse(changed)})", "comparison"
        case ast.BoolOp():
            changed = copy.deepcopy(node)
            changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield node, f"({ast.unparse(changed)})", "and, or"
        case ast.UnaryOp(op=ast.Not()):
            yield node, f"({ast.unparse(node.operand)})", "not left out"
        case ast.BinOp() if type(node.op) in OPERATORS:
            changed = copy.deepcopy(node)
            changed.op = OPERATORS[type(node.op)]()
            yield node, f"({ast.unparse(changed)})", "operator"
        case ast.Constant(value=bool(value)):
            yield node, repr(not value), "boolean"
        case ast.Constant(value=int(value)):
            yield node, repr(value + 1), "off by one"
        case ast.If() | ast.While() | ast.IfExp():
            yield node.test, f"(not ({ast.unparse(node.test)}))", "condition"
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield node, "return None", "result left out"
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            yield node, "pass", "statement left out"
        case ast.Continue() | ast.Break():
            yield node, "break" if isinstance(node, ast.Continue) else "continue", "continue, break"


# -- Which lines, and which tests ------------------------------------------------------------------


class Executed:
    """Which tests execute which line, by the coverage of an earlier run of them."""

    def __init__(self, path: Path) -> None:
        self._data = CoverageData(str(path))
        self._data.read()
        self._names = {_inside(name): name for name in self._data.measured_files()}

    def tests(self, file: str) -> dict[int, set[str]]:
        """Return the ids of the tests for each line of a file: those it is called in, or made ready."""
        found = self._data.contexts_by_lineno(self._names[file]) if file in self._names else {}
        return {
            line: ids
            for line, contexts in found.items()
            if (ids := {test for context in contexts if (test := _test(context))})
        }


def _inside(name: str) -> str:
    parts = Path(name).parts
    places = [at for at, part in enumerate(parts) if part == "cnnbench"]
    return "/".join(parts[places[-1] :]) if places else name


def _test(context: str) -> str:
    """Return the id in `tests/a.py::test|run`; of a process that it starts, in `tests/a.py::test (call)`."""
    found = re.match(r"(.+?)(\|(setup|run|teardown)| \((setup|call|teardown)\))$", context)
    return found[1] if found else ""


def drawn(arguments: argparse.Namespace, executed: Executed) -> list[tuple[Mutation, set[str]]]:
    """Draw the mutations, as many from each room, with the tests that execute each."""
    found: dict[str, list[tuple[Mutation, set[str]]]] = defaultdict(list)
    places = [f"cnnbench/{room}" for room in ROOMS]
    listed = _git("ls-tree", "-r", "--name-only", arguments.commit, *places).splitlines()
    for file in listed:
        if file.endswith(".py"):
            tests = executed.tests(file)
            for mutation in mutations(file, _git("show", f"{arguments.commit}:{file}")):
                if ids := tests.get(mutation.first[0]):
                    found[file.split("/")[1]].append((mutation, ids))
    chance = random.Random(arguments.seed)
    return [one for room in ROOMS for one in chance.sample(found[room], arguments.count // len(ROOMS))]


def shift(old: str, new: str, mutation: Mutation) -> int | None:
    """Return how many lines further down the lines of a mutation stand; None where they have changed."""
    first, last = mutation.first[0] - 1, mutation.last[0]
    matcher = difflib.SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False)
    for block in matcher.get_matching_blocks():
        if block.a <= first and last <= block.a + block.size:
            return block.b - block.a
    return None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


# -- Whether the tests notice ----------------------------------------------------------------------


class Suite:
    """A copy of the tests and of the code, in which one file at a time is changed."""

    def __init__(self, tree: Path, place: Path, seconds: float) -> None:
        self._place, self._seconds = place, seconds
        for name in COPIED:
            if (tree / name).is_dir():
                shutil.copytree(tree / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (tree / name).exists():
                shutil.copy(tree / name, place / name)
        listed = self._pytest("--collect-only", "-q", "--no-header")
        self._ids = {line for line in listed.stdout.splitlines() if "::" in line}

    def _pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self._place)}
        return subprocess.run(
            command, cwd=self._place, env=environment, capture_output=True, text=True, timeout=self._seconds,
            check=False,
        )  # fmt: skip

    def read(self, file: str) -> str | None:
        path = self._place / file
        return path.read_text(encoding="utf-8") if path.exists() else None

    def result(self, file: str, text: str, tests: set[str]) -> str:
        """Run tests until one fails with this text of a file, and return which, or that it survived."""
        path, room = self._place / file, f"tests/{file.split('/')[1]}/"
        ids = sorted(tests & self._ids, key=lambda test: (not test.startswith(room), test))
        if not ids:
            return "no test here executes the line"
        chosen, before = self._place / "chosen.txt", path.read_text(encoding="utf-8")
        chosen.write_text("\n".join(ids), encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        try:
            done = self._pytest("-x", "-q", "--tb=no", f"@{chosen}")
        except subprocess.TimeoutExpired:
            return "the time was up"
        finally:
            path.write_text(before, encoding="utf-8")
        if done.returncode == 0:
            return SURVIVED
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return f"killed by {failed[0].split()[1]}" if failed else f"killed at once: {done.stdout[-300:]!r}"


def report(suite: Suite, number: int, mutation: Mutation, tests: set[str], old: str) -> dict[str, Any]:
    """Run the tests of a mutation of the `old` file, and print and return its row of the table."""
    began, new = time.monotonic(), suite.read(mutation.file)
    down = shift(old, new, mutation) if new is not None else None
    if new is None or down is None:
        result = "the line has changed"
    else:
        result = suite.result(mutation.file, mutation.apply(new, down), tests)
    row = {**asdict(mutation), "line": old.splitlines()[mutation.first[0] - 1].strip(), "result": result}
    change = f"{mutation.kind}: {row['line'][:60]}  →  {mutation.new[:60]}"
    seconds = f"{len(tests)} tests, {time.monotonic() - began:.0f} s"
    print(f"{number:2d}  {mutation.file}:{mutation.first[0]}  {change}  [{seconds}]  {result}", flush=True)
    return {"number": number, "tests": len(tests), **row}


def main() -> int:
    """Print the table; the exit code is 1 where a mutation goes unnoticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--coverage", type=Path, required=True, help="data with one context for each test")
    parser.add_argument("--commit", default="HEAD", help="of the lines that are changed")
    parser.add_argument("--tree", type=Path, default=Path(), help="a checkout: its code and its tests")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="numbers of mutations, e.g. 3,17")
    parser.add_argument("--seconds", type=float, default=900, help="for the tests of one mutation")
    parser.add_argument("--json", type=Path, help="where the table is written as JSON, too")
    arguments = parser.parse_args()
    wanted = {int(number) for number in arguments.only.split(",") if number}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mutations") as place:
        suite = Suite(arguments.tree, Path(place), arguments.seconds)
        for number, (mutation, tests) in enumerate(drawn(arguments, Executed(arguments.coverage))):
            if not wanted or number in wanted:
                old = _git("show", f"{arguments.commit}:{mutation.file}")
                rows.append(report(suite, number, mutation, tests, old))
                if arguments.json:
                    arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    results = [row["result"] for row in rows]
    killed, survived = sum(result.startswith("killed") for result in results), results.count(SURVIVED)
    print(f"{len(rows)} mutations: {killed} killed, {survived} survived")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
