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


KERAS = """Exception encountered when calling {}.

\x1b[1m{}\x1b[0m

Arguments received by {}:
  • args=('<KerasTensor shape=(None, 4)>',)"""
AUTOGRAPH = """in user code:

    File "mine.py", line 3, in call  *
        return helper(x)
    File "mine.py", line 7, in helper  *
        x.value

    AttributeError: {}
"""
GRAPH = """Graph execution error:

Detected at node add defined at (most recent call last):
  File "mine.py", line 22, in <module>

  File "trainer.py", line 399, in fit

{}
\t [[{{node add}}]] [Op:__inference_multi_step_on_iterator_12]"""
SHAPES = "Could not automatically infer the output shape / dtype of 'l'. Error encountered:\n\n{}"


@pytest.mark.parametrize(
    "text",
    [
        KERAS.format("L.call()", "the cause", "L.call()"),
        KERAS.format("M.call()", KERAS.format("L.call()", "the cause", "L.call()"), "M.call()"),
        KERAS.format("L.call()", SHAPES.format("the cause"), "L.call()"),
        AUTOGRAPH.format("the cause"),
        AUTOGRAPH.format(KERAS.format("L.call()", "the cause\nmore", "L.call()").replace("\n", "\n    ")),
        GRAPH.format("the cause"),
    ],
)
def test_the_innermost_error_is_what_is_said(text: str) -> None:
    assert first_line(ValueError(text)) == "the cause"


def test_a_wrapper_of_nothing_is_shown_as_it_is() -> None:
    for text in ("in user code:", "Graph execution error:", "Exception encountered when calling L.call()."):
        assert first_line(ValueError(text)) == text


def test_a_value_in_a_message_is_one_short_line() -> None:
    assert shown("") == "''"
    assert shown("a\nb") == "a b"
    assert shown(["x", 1]) == "['x', 1]"
    assert len(shown("x" * 1000)) == 160
