"""The one exception for everything that the person at the keyboard can mend."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

LONGEST_VALUE = 160  # characters
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PLACE = re.compile(r"\s*File \".*\", line \d+")
TYPE = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt): ")
# Exit codes; EXIT_NO: all went well, and the answer is no. A signal gives 128 and its number.
EXIT_DONE, EXIT_FAILED, EXIT_WRONG_INPUT, EXIT_NO = range(4)


class CnnbenchError(Exception):
    """Wrong input: shown as one line with a hint, exit code 2, no traceback; in a notebook, too.

    Args:
        message: what is wrong, in one line, with the offending value in it.
        hint: what to type or do instead, in one line; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}  Hint: {self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows under a cell; `%debug` still knows where it was raised."""
        return [f"error: {self.message}", *([f"hint: {self.hint}"] if self.hint else [])]


class FolderRefusedError(CnnbenchError):
    """A run did not get its folder, so what is in there belongs to somebody else."""


class PrunedRunError(Exception):
    """A search has stopped this run early: others were better at the same epoch."""


def one_line(error: BaseException, most: int | None = None) -> str:
    """Return all that an error says in one line, cut after `most` characters; its type where it is silent."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line; its type where it says nothing. The rest is for the log.

    Where Keras or TensorFlow have wrapped another error in theirs, return what that one says.
    """
    text = COLOUR.sub("", str(error)).strip()
    while (inner := next(filter(None, (wrapper(text) for wrapper in _WRAPPERS)), text)) != text:
        text = inner
    return next(iter(text.splitlines()), type(error).__name__)


def _of_keras(text: str) -> str | None:
    """Take off `Exception encountered when calling NAME.` and what NAME was called with."""
    if not text.startswith("Exception encountered when calling"):
        return None
    inner = text.partition("\n")[2].strip()
    return inner.rpartition("\n\nArguments received by")[0].strip() or inner


def _of_shapes(text: str) -> str | None:
    """Take off what Keras says where a layer fails while its shapes are found out."""
    is_one = text.startswith("Could not automatically infer the output shape")
    return text.partition("Error encountered:")[2].strip() or None if is_one else None


def _of_autograph(text: str) -> str | None:
    """Take off `in user code:`, indented places in files, and the type in front of the error."""
    if not text.startswith("in user code:"):
        return None
    indented = [line[4:] if line.startswith("    ") else line for line in text.splitlines()[1:]]
    places = [number for number, line in enumerate(indented) if PLACE.match(line)]
    after = indented[places[-1] + 1 :] if places else indented
    said = next((number for number, line in enumerate(after) if line and not line.startswith(" ")), None)
    if said is None:
        return None
    return TYPE.sub("", "\n".join(after[said:]), count=1).strip() or None


def _of_graph(text: str) -> str | None:
    """Take off `Graph execution error:` and where the node was made."""
    if not text.startswith("Graph execution error:"):
        return None
    lines = text.splitlines()[1:]
    places = [number for number, line in enumerate(lines) if PLACE.match(line)]
    after = lines[places[-1] + 1 :] if places else lines
    kept = [line for line in after if line.strip() and not line.startswith((" ", "Detected at node"))]
    return "\n".join(kept).strip() or None


_WRAPPERS = (_of_keras, _of_shapes, _of_autograph, _of_graph)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names what was probably meant, and what there is."""
    names = sorted(known)
    initials = [full for full in names if "".join(word[:1] for word in full.split("_")) == name]  # lr
    close = initials or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listing = f"there {'is' if len(names) == 1 else 'are'}: {', '.join(names)}" if names else "there are none"
    return f"did you mean {close[0]}? {listing}" if close else listing


def shown(value: object) -> str:
    """Return a value for a message: in one line, and not a page of it."""
    text = " ".join(str(value).split()) if value != "" else "''"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
