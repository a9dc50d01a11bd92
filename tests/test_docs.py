"""The lists in `docs/` say nothing that no test looks after."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [line for line in (ROOT / "docs" / "faults.md").read_text().splitlines() if line.startswith("| ")]
PROMISES = [line for line in ROWS if not re.match(r"\| (---|fault or attack) \|", line)]


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row.split("|")[1].strip())
def test_a_promise_has_its_test(row: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row.rsplit("|", 2)[1])
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text()


def test_the_list_is_read() -> None:
    assert len(PROMISES) > 40
