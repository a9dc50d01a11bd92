"""Many YAML files read at once give what each gives by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.analysis.records import AlikeFiles
from cnnbench.errors import CnnbenchError
from cnnbench.system.files import read_yaml

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=100)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)
PAGES = st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), VALUES, max_size=4) | st.lists(VALUES)


@given(st.lists(PAGES, min_size=1, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, pages: list[object]) -> None:
    files, path = AlikeFiles(), tmp_path_factory.getbasetemp() / "page.yaml"
    for page in pages:
        path.write_text(
            yaml.safe_dump(page, sort_keys=False, allow_unicode=True), encoding="utf-8", newline=""
        )
        assert files.read(path) == read_yaml(path)


@pytest.mark.parametrize(
    "text",
    [
        "a:\n  b: 1\n  c:\n  - 1\n  - 2\nd: x\n",
        "# first\na: 1\n# between\nb:\n# inside\n  c: 1\n",
        "a:\n  one text\n  of two lines\nb: 1\n",
        "a: |\n  b: 1\n  c: 2\nd: 1\n",
        "a:\n  b: |+\n    c: 1\n\n\n  d: 1\n",
        "a: 'one\n  b: 2'\nc: 1\n",
        "a: {b: 1,\n  c: 2}\nd: [1,\n  2]\n",
        "---\na: 1\nb: 2\n",
        "a: 1\nb: 2",
        '"a": 1\nb: 2\n"c": 3\n',
        "1:\n  a: 2\nyes:\n  b: 1\nnull:\n  c: 1\n",
        "? a\n: 1\n",
        "- a: 1\n  b: 2\n- - 1\n  - 2\n",
        "a: 1\na: 2\n",
        "",
        "just text\n",
    ],
)
def test_files_written_by_hand_are_read_the_same(text: str, tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"
    path.write_text(text)
    assert AlikeFiles().read(path) == read_yaml(path)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2\nb: 1\n",
        "a: 'x\nb: 1\n",
        "a: &x 1\nb: *x\n",
        "a: 1\n b: 2\n",
        "a: !!python/name:os.system\n",
    ],
)
def test_a_damaged_file_is_told_as_ever(text: str, tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"
    path.write_text(text)
    with pytest.raises(CnnbenchError) as alone:
        read_yaml(path)
    with pytest.raises(CnnbenchError) as alike:
        AlikeFiles().read(path)
    assert str(alike.value) == str(alone.value)
