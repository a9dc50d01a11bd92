"""The contract of the command line: what the first argument means, exit codes, and answers for programs.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed |
| 2 | wrong input: one line says what, the next what to type instead |
| 3 | done, and the answer is no: `verify`, `export`, `check-recipe`, `doctor --limit` |
| 128 + n | ended by signal n: 130 is Ctrl-C, 143 SIGTERM |
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeVar

from cnnbench import config, data, reporting, runs, sweeps, system
from cnnbench.cli.typed import existing, holds_folders, place
from cnnbench.errors import EXIT_DONE, CnnbenchError, nearest

SCHEMA = 1  # of what `--json` writes; a key that goes or changes its meaning makes it 2
STANDARD_OUTPUT = "-"
TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
JSON_FILE = re.compile(r".*\.jsonl?", re.IGNORECASE)
VERB = re.compile(r"[A-Za-z][A-Za-z-]*")
HYDRA_LINE = re.compile(r"-.*|[+~]{0,2}[\w./@:$-]+=.*|~[\w./@:$-]+", re.DOTALL)
WHOLE = "training.fine_tuning"  # a mapping that is null where it is not given, so it is given as one value
KEY = re.compile(r"[A-Za-z_][\w./@-]*")  # of a YAML file; + and ~ are for the line
NOT_FOR_FILES = re.compile(r"(plugins|hydra|sweep)\b.*|run_dir(_exists)?|.*\bcache_dir", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are wrong input like any other."""

    def error(self, message: str) -> NoReturn:
        """Refuse the line."""
        lacks_run = "required: " in message and re.search(r"\b(run|place)\b", message)
        latest = f"{self.prog} latest takes the newest run; " if lacks_run else ""
        raise CnnbenchError(message, f"{latest}{self.prog} --help shows what it takes")

    def print_help(self, file: Any = None) -> NoReturn:
        """Answer with the help instead of printing it, for whoever has asked for JSON."""
        raise HelpAsked(self.format_help())


class HelpAsked(Exception):  # noqa: N818  it is no error
    """Somebody wants the help of a verb, which is the message."""


# A mapping or a dataclass; `cnnbench schema` reads its type where a verb says what it returns.
Content = TypeVar("Content", covariant=True)


@dataclass(frozen=True)
class Answer(Generic[Content]):
    """What a verb, a run or a sweep answers.

    Attributes:
        content: for `--json`.
        code: the exit code.
    """

    content: Content
    code: int = EXIT_DONE


# Answers that come one after another; returned is the exit code.
Rows = Generator[Content, None, int]
ROWS = ("predict",)  # verbs that answer so; a row has no exit code


@dataclass(frozen=True)
class Output:
    """What is asked of every command, wherever it stands in the line.

    Attributes:
        json: the file that gets the answer, `-` for standard output; None for none.
        quiet: print nothing to standard output.
        verbose: print the log to standard error.
    """

    json: str | None = None
    quiet: bool = False
    verbose: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether standard output is kept free of what a person reads."""
        return self.quiet or self.json == STANDARD_OUTPUT

    def write(self, verb: str, content: Any, code: int) -> None:
        """Write one answer as one JSON object, if it is asked for.

        Raises:
            CnnbenchError: the file cannot be written.
        """
        if self.json == STANDARD_OUTPUT:
            reporting.write_lines([_json(verb, content, code)])
        elif self.json is not None:
            system.write_text(Path(self.json).expanduser(), f"{_json(verb, content, code, indent=2)}\n")

    def write_rows(self, verb: str, rows: Rows[Any]) -> int:
        """Write one JSON object a line, as the rows come; a file is written when all have come.

        Returns:
            The exit code.

        Raises:
            CnnbenchError: the file cannot be written.
        """
        lines: list[str] = []
        while True:
            try:
                content = next(rows)
            except StopIteration as end:
                code: int = end.value
                break
            if self.json == STANDARD_OUTPUT:
                if not reporting.write_lines([_json(verb, content)]):
                    return EXIT_DONE  # nobody reads on
            elif self.json is not None:
                lines.append(f"{_json(verb, content)}\n")
        if self.json not in (None, STANDARD_OUTPUT):
            system.write_text(Path(str(self.json)).expanduser(), "".join(lines))
        return code


def _json(verb: str, content: Any, code: int | None = None, indent: int | None = None) -> str:
    of_all = {} if code is None else {"exit_code": code}
    told = {"schema": SCHEMA, "verb": verb, **of_all, **system.plain(content)}
    text = json.dumps(told, indent=indent, ensure_ascii=False, allow_nan=False)
    return reporting.encodable(text, "utf-8")  # a file name may be no text


def read_output(arguments: Iterable[str]) -> tuple[Output, list[str]]:
    """Take `--json [FILE]`, `--quiet`/`-q` and `--verbose`/`-v` out of a line.

    FILE ends in `.json` or `.jsonl`, or is `-`; anything else after `--json` is the next argument. After
    `--` nothing is taken.

    Returns:
        What was taken, and the rest.

    Raises:
        CnnbenchError: FILE is a folder, or lies in none that exists.
    """
    given: dict[str, Any] = {}
    rest: list[str] = []
    waiting = [*arguments]
    while waiting:
        text = waiting.pop(0)
        if text == "--":
            rest += [text, *waiting]
            break
        if text in ("--quiet", "-q"):
            given["quiet"] = True
        elif text in ("--verbose", "-v"):
            given["verbose"] = True
        elif text.startswith("--json="):
            given["json"] = text.removeprefix("--json=") or STANDARD_OUTPUT
        elif text == "--json":
            is_file = waiting and (waiting[0] == STANDARD_OUTPUT or JSON_FILE.fullmatch(waiting[0]))
            given["json"] = waiting.pop(0) if is_file else STANDARD_OUTPUT
        else:
            rest.append(text)
    output = Output(**given)
    if output.json not in (None, STANDARD_OUTPUT):
        file = Path(str(output.json)).expanduser()
        if file.is_dir() or not file.parent.is_dir():
            raise CnnbenchError(
                f"--json {file}: no file can be written there", "name a file in a folder that exists"
            )
    return output, rest


# -- The first argument ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Meaning:
    """What a line asks for.

    Attributes:
        kind: a verb, a line that makes runs, or the folder of a run or of a sweep to be shown.
        name: of the verb.
        arguments: of the verb or the line.
        place: the folder.
    """

    kind: Literal["verb", "line", "run", "sweep"]
    name: str = ""
    arguments: tuple[str, ...] = ()
    place: Path | None = None


def meaning(arguments: Sequence[str], verbs: Iterable[str]) -> Meaning:
    """Find out what a line asks for, by its first argument.

    In this order: a verb; a path that exists (a YAML file runs, a folder of pictures starts a run on it, the
    folder of a run or sweep is shown; `./compare` where a folder has a verb's name); `key=value` and flags.

    Raises:
        CnnbenchError: it is none of these, or a path that nothing can be done with.
    """
    if not arguments:
        return Meaning("line")
    first, *rest = arguments
    if first in verbs:
        return Meaning("verb", first, tuple(rest))
    path = existing(first)
    if path is None and first:
        path = existing(str(place(first)))  # a run by its name, or the latest
    if path is not None:
        return _of_path(path, rest)
    if HYDRA_LINE.fullmatch(first):
        return Meaning("line", arguments=tuple(arguments))
    if VERB.fullmatch(first):
        text = f"there is no verb {first!r}, and nothing of that name here"
        raise CnnbenchError(text, f"{nearest(first.lower(), verbs)}; or key=value to run")
    raise CnnbenchError(
        f"{first!r} is no verb, no file or folder that exists, and no key=value",
        "cnnbench --help shows what can be typed",
    )


def _of_path(path: Path, rest: Sequence[str]) -> Meaning:
    if not runs.RunFolder(path).has_run and data.holds_arrays(path):
        file = config.override("dataset.file", str(path.absolute()))
        return Meaning("line", arguments=("dataset=arrays", file, *rest))
    if path.is_file():
        return _of_file(path, rest)
    if runs.RunFolder(path).has_run:
        return _shown("run", path, rest)
    if sweeps.Sweep.is_one(path) or runs.find_runs([path]):
        return _shown("sweep", path, rest)
    if data.holds_manifest(path):
        return _manifest(path, rest)
    if holds_folders(path):
        root = config.override("dataset.root", str(path.absolute()))
        return Meaning("line", arguments=("dataset=image_folder", root, *rest))
    raise CnnbenchError(
        f"{path} holds neither a run nor a folder of pictures for each class",
        f"pictures belong in {path}/CLASS/*.jpg",
    )


def _of_file(path: Path, rest: Sequence[str]) -> Meaning:
    if data.holds_manifest(path):
        return _manifest(path, rest)
    if path.suffix.lower() in (".yaml", ".yml"):
        return Meaning("line", arguments=(*line_of_file(path), *rest))
    if path.suffix.lower() in data.IMAGE_SUFFIXES:
        text = f"{path} is one picture, and a run needs a folder of them for each class"
        raise CnnbenchError(text, f"for its class: cnnbench predict RUN {path}")
    if path.suffix.lower() in TABLES:
        text = f"{path} is a table without a column that is known to name pictures"
        named = f"dataset=manifest dataset.file={path} dataset.image=COLUMN"
        rows = f"dataset=table dataset.file={path} dataset.target=COLUMN"
        raise CnnbenchError(text, f"to learn from its rows: {rows}; of pictures: {named}")
    text = f"{path} is no YAML file, and nothing else can be run by its name"
    raise CnnbenchError(text, "cnnbench list dataset shows which data can be read")


def _manifest(path: Path, rest: Sequence[str]) -> Meaning:
    file = config.override("dataset.file", str(path.absolute()))
    return Meaning("line", arguments=("dataset=manifest", file, *rest))


def _shown(kind: Literal["run", "sweep"], path: Path, rest: Sequence[str]) -> Meaning:
    if rest:
        verb = {"run": "evaluate, predict, verify, resume", "sweep": "compare, resume, report"}[kind]
        text = f"{path} is the folder of a {kind}, which takes no {rest[0]!r}"
        raise CnnbenchError(text, f"first a verb, such as {verb}: cnnbench {verb.partition(',')[0]} {path}")
    return Meaning(kind, place=path)


def line_of_file(path: Path) -> list[str]:
    """Return the overrides that a YAML file stands for, its paths relative to the file.

    The file is a mapping of what is typed on the command line: `dataset: image_folder`,
    `dataset.root: pics`, or `training: {epochs: 3}`. It may be a stranger's, so it names neither plugins nor
    anything of Hydra's, nor where a run goes.

    Raises:
        CnnbenchError: it cannot be read, is no such mapping, or names what only a line may.
    """
    content = system.read_yaml(path)
    if not isinstance(content, Mapping):
        raise CnnbenchError(f"{path} is no mapping", "write lines such as dataset: image_folder")
    if path.name == runs.CONFIG and runs.RunFolder(path.parent).has_run:
        raise CnnbenchError(f"{path} is the record of a run", f"cnnbench resume {path.parent}")
    _refuse_odd_text(content, path)
    line = []
    for key, value in _keys(content):
        if NOT_FOR_FILES.fullmatch(key):
            text = f"{path}: {key} is for the command line alone, since a file may be a stranger's"
            raise CnnbenchError(text, f"leave it out, and type {key}=… after {path}")
        line.append(config.override(key, _from_file(path, key, value)))
    return line


def _refuse_odd_text(node: Any, path: Path) -> None:
    """Refuse, at any depth, keys that would be more than keys in a line, and `${…}`, however it is spelt."""
    for key, value in node.items() if isinstance(node, Mapping) else ():
        if not KEY.fullmatch(str(key)):
            text = f"{path}: {str(key)!r} is no key of a config"
            raise CnnbenchError(
                text, "write lines such as dataset.root: pics; + and ~ are for the command line"
            )
        _refuse_odd_text(value, path)
    for value in node if isinstance(node, list) else ():
        _refuse_odd_text(value, path)
    if isinstance(node, str) and "$" in node and "{" in node:
        raise CnnbenchError(f"{path}: {node!r} is not resolved", "write the value itself")


def _keys(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value and "_target_" not in value and key != WHOLE:
            yield from _keys(value, f"{key}.")
        else:
            yield key, value


def _from_file(path: Path, key: str, value: Any) -> Any:
    """Make a place absolute that is relative to the file."""
    if not isinstance(value, str) or not runs.is_place(key, value) or value.startswith("~"):
        return value
    return str((path.parent / value).absolute())
