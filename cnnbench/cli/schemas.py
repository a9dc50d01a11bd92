"""JSON Schemas of what programs get, made from the types that the verbs return."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from cnnbench import analysis, runs
from cnnbench.cli import answers
from cnnbench.cli.contract import ROWS, SCHEMA
from cnnbench.errors import CnnbenchError, nearest

# Answers to lines that have no verb: what `verb` says then.
NO_VERBS: dict[str, Any] = {
    "run": answers.RunContent,
    "sweep": answers.SweepContent | analysis.ComparisonContent,  # of one that is run, or shown
    "config": answers.Composed,
    "help": answers.Overview,
    "version": answers.Versions,
}
EXIT_CODES = (
    "0 done; 1 failed; 2 wrong input; 3 done, and the answer is no; 128 + n ended by signal n (130 Ctrl-C). "
    "A row of `predict` has none."
)
NOTE = (
    "Keys that are not described may be added without a new number of `schema`, so ignore what you do not "
    "know. A number is null where it is NaN or infinite."
)
ATTRIBUTE = re.compile(r"^    (\w[\w, ]*): (.+(?:\n     +.+)*)", re.MULTILINE)


def names(verbs: Mapping[str, Callable[..., Any]]) -> list[str]:
    """Return everything that has a schema."""
    return [*verbs, *NO_VERBS, runs.METRICS]


def document(name: str, verbs: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """Return the schema of every answer of one name: what was asked for, help, or an error.

    Args:
        name: of a verb, of what a line without a verb answers, or `metrics.json`.
        verbs: the functions, whose return types say what they answer.

    Raises:
        CnnbenchError: there is no schema of that name.
    """
    if name not in names(verbs):
        raise CnnbenchError(f"there is no schema of {name!r}", nearest(name, names(verbs)))
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": f"cnnbench: {name}", "description": NOTE}
    if name == runs.METRICS:
        return {**head, **_schema(runs.RunMetrics | runs.EndedMetrics)}
    if name in NO_VERBS:
        content = NO_VERBS[name]
    else:
        content = get_args(get_type_hints(verbs[name], localns=vars(answers))["return"])[0]
    whole = _schema(content | answers.Help | answers.Failure)
    properties = {
        "schema": {"const": SCHEMA},
        "verb": {"enum": list(dict.fromkeys((name, "run"))), "description": "`run` where a line has no verb"},
        "exit_code": {"type": "integer", "description": EXIT_CODES},
    }
    required = [key for key in properties if key != "exit_code" or name not in ROWS]
    return {**head, "type": "object", "properties": properties, "required": required, **whole}


def _schema(content: Any) -> dict[str, Any]:
    return TypeAdapter(content).json_schema(mode="serialization", schema_generator=_Generator)


class _Generator(GenerateJsonSchema):
    """Pydantic's, for what `system.plain` writes, with the descriptions of our docstrings."""

    def float_schema(self, schema: Any) -> JsonSchemaValue:
        return {"type": ["number", "null"]}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        # Of a dataclass, what has a default is written, too.
        return bool(field.get("required", total)) if field["type"] == "typed-dict-field" else True

    def typed_dict_schema(self, schema: Any) -> JsonSchemaValue:
        return _described(super().typed_dict_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        return _described(super().dataclass_schema(schema), schema["cls"])

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])  # a default is for whoever writes


def _described(found: JsonSchemaValue, kind: type) -> JsonSchemaValue:
    found["description"] = (inspect.getdoc(kind) or "").partition("\n")[0]
    found.pop("additionalProperties", None)  # new keys may come
    for owner in (*reversed(getattr(kind, "__orig_bases__", ())), *reversed(kind.__mro__)):
        for listed, text in ATTRIBUTE.findall(inspect.cleandoc(owner.__doc__ or "")):
            for name in listed.split(", "):
                if name in found["properties"]:
                    found["properties"][name]["description"] = " ".join(text.split())
    return found
