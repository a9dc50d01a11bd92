"""The reference of the documentation, written anew at each build: from the YAML files, and the signatures."""

from __future__ import annotations

import ast
import html
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

from cnnbench import runs
from cnnbench.config import CONF_DIR, compose, options, unresolved
from cnnbench.config.checks import RunConfig
from cnnbench.config.components import objects_in
from cnnbench.config.signatures import UNKNOWN, signature
from cnnbench.errors import CnnbenchError

ROOT = Path(__file__).resolve().parents[1]
API = (
    *("run", "sweep", "probe", "compare", "diff", "ensemble", "open_run", "compose"),
    *("Run", "Comparison"),
)
MEANING = re.compile(r"^ {4,8}(\w+(?:, \w+)*): (.*(?:\n {9,}.*)*)", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the start page, which is the README."""
    start = (
        (ROOT / "README.md")
        .read_text()
        .replace("](docs/", "](")
        .replace("](CONTRIBUTING.md)", "](extending.md)")
        .replace(".ipynb)", ".md)")
    )
    for name, content in (
        ("index.md", start),
        ("reference/options.md", options_page()),
        ("reference/api.md", api_page()),
    ):
        files.append(File.generated(config, name, content=content))
    return files


def api_page() -> str:
    """Return the page of the public API; its text comes from the docstrings."""
    parts = ["# Python", "Everything here is `cnnbench.NAME`; nothing is imported until it is used."]
    places = {name: f"cnnbench.api.{name}" for name in API}
    places |= {"RunSpec": "cnnbench.runs.spec.RunSpec", "Dataset": "cnnbench.data.dataset.Dataset"}
    parts += [
        f'::: {place}\n    options:\n      heading: "cnnbench.{name}"\n      toc_label: "{name}"'
        for name, place in places.items()
    ]
    return "\n\n".join(parts) + "\n"


def options_page() -> str:
    """Return the page of every group, option and key: its default, type and meaning."""
    parts = [
        "# Options and keys",
        "`group=option` chooses, `key=value` changes; `cnnbench list model=cnn` prints the same, with the "
        "file and line that set each.",
        "## Keys of a run",
        _table(_run_keys()),
    ]
    for group, members in options().items():
        if group == "experiment":
            parts.append("## experiment\n\nPresets: options and values under a name.")
            parts.append(
                _rows(("option", "what it is"), [(f"`{name}`", text) for name, text in members.items()])
            )
            continue
        parts.append(f"## {group}")
        for name, text in members.items():
            parts += [f"### {group}={name}", text or "–", _table(_option_keys(group, name))]
    return "\n\n".join(filter(None, parts)) + "\n"


Row = tuple[str, str, str, str]


def _table(rows: Iterator[Row]) -> str:
    listed = list(rows)
    return _rows(("key", "default", "type", "meaning"), listed) if listed else ""


def _rows(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *(tuple(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return a text of which nothing is read as Markdown but what stands between backticks."""
    return "".join(
        part if part.startswith("`") else re.sub(r"([|_*])", r"\\\1", html.escape(part, quote=False))
        for part in re.split(r"(`[^`]*`)", text)
    )


def _run_keys() -> Iterator[Row]:
    text = (CONF_DIR / "config.yaml").read_text()
    for key, value, comment in re.findall(r"(?m)^(\w+): +(\S+) +# (.*)$", text):
        yield f"`{key}`", f"`{value}`", _type_of_field(RunConfig, key), comment


def _type_of_field(model: type[BaseModel], name: str) -> str:
    source = ast.parse(inspect.getsource(model))
    for node in ast.walk(source):
        if isinstance(node, ast.ClassDef) and node.name == model.__name__:
            for one in node.body:
                if (
                    isinstance(one, ast.AnnAssign)
                    and isinstance(one.target, ast.Name)
                    and one.target.id == name
                ):
                    return _readable(one.annotation)
    return ""


def _readable(annotation: ast.expr | None) -> str:
    if annotation is None:
        return ""
    text = ast.unparse(annotation)
    text = re.sub(r"Annotated\[(.*?), Field\((.*?)\)\]", r"\1 (\2)", text)
    text = re.sub(r"Literal\[(.*?)\]", r"\1", text)
    return f"`{text}`"


def _option_keys(group: str, option: str) -> Iterator[Row]:
    """Yield the keys of an option, those of its signatures too."""
    line = [f"{group}=[{option}]" if group == "callbacks" else f"{group}={option}"]
    key = group.replace("/", ".")
    if group.startswith("hydra/") or group == "sweep":
        return
    try:
        composed = unresolved(compose(line))
    except CnnbenchError:  # an option that needs another one beside it
        return
    node: Any = composed
    for part in key.split("."):
        node = node[part] if isinstance(node, Mapping) else {}
    if not isinstance(node, Mapping):
        return
    told = dict(_told(composed, key))
    if group == "training":
        told |= {
            f"training.{name}": (_type_of_field(runs.Training, name), meaning)
            for name, meaning in _meanings(runs.Training.__doc__ or "").items()
        }
    for name, value in runs.flatten(node, f"{key}.").items():
        if name.endswith("_target_"):
            continue
        kind, meaning = told.get(name, ("", ""))
        yield f"`{name}`", f"`{json.dumps(value, ensure_ascii=False)}`", kind, meaning


def _told(composed: Mapping[str, Any], key: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield type and meaning of each keyword of the objects at and below a key, from their source."""
    for place, node in objects_in(composed):
        if place != key and not place.startswith(f"{key}."):
            continue
        try:
            found = signature(str(node["_target_"]))
        except CnnbenchError:
            continue
        meanings = _meanings(_docstring(found.path))
        for name, parameter in found.parameters.items():
            kind = (
                ""
                if parameter.annotation is UNKNOWN and not parameter.argument.annotation
                else _readable(parameter.argument.annotation)
            )
            yield f"{place}.{name}", (kind, meanings.get(name, ""))


def _docstring(path: str) -> str:
    module, _, name = path.rpartition(".")
    file = ROOT / f"{module.replace('.', '/')}.py"
    if not module.startswith("cnnbench.") or not file.is_file():
        return ""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node, clean=False) or ""
    return ""


def _meanings(docstring: str) -> dict[str, str]:
    found = {}
    for names, text in MEANING.findall(docstring):
        for name in names.split(", "):
            found[name] = " ".join(text.split())
    return found
