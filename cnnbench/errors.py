"""The one exception for everything that the person at the keyboard can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_VALUE = 160  # characters
EXIT_DONE, EXIT_FAILED, EXIT_WRONG_INPUT = 0, 1, 2  # exit codes; 128 and a signal's number for that


class CnnbenchError(Exception):
    """Wrong input: shown as one line with a hint, exit code 2, no traceback.

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


class FolderRefusedError(CnnbenchError):
    """A run did not get its folder, so what is in there belongs to somebody else."""


class PrunedRunError(Exception):
    """A search has stopped this run early: others were better at the same epoch."""


def first_line(error: BaseException) -> str:
    """What it says, in one line; its type where it says nothing. The rest is for the log."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names what was probably meant, and what there is."""
    names = sorted(known)
    initials = [full for full in names if "".join(word[:1] for word in full.split("_")) == name]  # lr
    close = initials or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listing = f"there {'is' if len(names) == 1 else 'are'}: {', '.join(names)}" if names else "there are none"
    return f"did you mean {close[0]}? {listing}" if close else listing


def shown(value: object) -> str:
    """A value for a message: in one line, and not a page of it."""
    text = " ".join(str(value).split()) if value != "" else "''"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
