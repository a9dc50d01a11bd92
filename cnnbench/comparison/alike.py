"""Many YAML files that have most lines in common, e.g. the configs of a thousand runs, read fast."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from cnnbench.files import load_yaml, parsed_yaml


class AlikeFiles:
    """A reader that parses once what occurs in several files.

    A block mapping is cut into its entries and these into theirs, a list into its items. What is cut off
    must be one entry by itself, else the whole is parsed as it stands. Values are shared between files, so
    they are not to be changed.
    """

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def read(self, path: Path) -> Any:
        """The file's content.

        Raises:
            CnnbenchError: it is damaged, or names Python objects.
        """
        return parsed_yaml(path, self._parse)

    def _parse(self, text: str) -> Any:
        if text not in self._known:
            self._known[text] = self._in_parts(text)
        return self._known[text]

    def _in_parts(self, text: str) -> Any:
        nested = re.fullmatch(r"(\w+):\n((?:  .*\n)+)", text)
        if nested:
            inside = self._parse(re.sub(r"(?m)^  ", "", nested[2]))
            # Anything but a mapping could be a text of several lines, which cutting has changed.
            return {self._parse(nested[1]): inside} if isinstance(inside, dict) else load_yaml(text)
        if text.startswith("- "):
            items = self._parts(re.split(r"(?m)^(?=- )", text)[1:], list)
            return [item for part in items for item in part] or load_yaml(text)
        entries = self._parts(re.split(r"(?m)^(?=\w)", text), dict)
        return {key: value for part in entries for key, value in part.items()} or load_yaml(text)

    def _parts(self, parts: list[str], kind: type[list[Any]] | type[dict[str, Any]]) -> list[Any]:
        """What each part is, by itself one entry of a `kind`; nothing if that is not so."""
        if parts and not parts[0]:
            parts = parts[1:]
        if len(parts) < 2:
            return []
        try:
            values = [self._parse(part) for part in parts]
        except yaml.YAMLError:
            return []
        return values if all(isinstance(value, kind) and len(value) == 1 for value in values) else []
