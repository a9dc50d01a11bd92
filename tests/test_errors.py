"""What people read of an exception."""

from __future__ import annotations

import pytest

from cnnbench.errors import first_line, shown


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n one\ntwo"), "one"),
        (ValueError("one"), "one"),
        (ValueError(), "ValueError"),
        (MemoryError("  "), "MemoryError"),
    ],
)
def test_the_first_line_of_an_exception(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_a_value_in_a_message_is_one_short_line() -> None:
    assert shown("") == "''"
    assert shown("a\nb") == "a b"
    assert shown(["x", 1]) == "['x', 1]"
    assert len(shown("x" * 1000)) == 160
