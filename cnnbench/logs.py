"""Where log lines go."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # not tab and line end


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """A full disk ends the run where it matters; a traceback for each log line would bury the reason."""


def neutral(text: str) -> str:
    """Letters for what would steer a terminal or turn the direction of reading; JSON still means the same."""
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Neutral(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """A file name must not steer the terminal of who reads the log."""
        return neutral(super().format(record))


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send our log, Python's warnings and TensorFlow's log to a file for a while."""
    handler = _File(path, encoding="utf-8")
    handler.setFormatter(_Neutral("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("cnnbench", "py.warnings", "absl", "tensorflow")]
    for logger in loggers:
        logger.addHandler(handler)
    own, level = loggers[0], loggers[0].level
    own.setLevel(min(own.getEffectiveLevel(), logging.INFO))  # from Python nobody else has set it
    try:
        yield
    finally:
        own.setLevel(level)
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
