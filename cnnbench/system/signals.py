"""Ctrl-C and SIGTERM: a training finishes its step and saves; anything else stops at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MESSAGE = b"\nfinishing the step and saving it; once more stops at once\n"
FINISHING = b"\nthe training is over: measuring the model and writing it down; once more stops at once\n"


def _terminal() -> int:
    try:
        return sys.stderr.fileno()  # during a run not 2; see `startup.native_stderr_to`
    except (AttributeError, OSError, ValueError):
        return 2


class InterruptedRunError(KeyboardInterrupt):
    """Somebody asked the run to stop.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Interruption:
    """Whether somebody has asked to stop.

    Attributes:
        requested: the signal's number, while a training is still to see it.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._patient, self._message = False, MESSAGE

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Answer the signals inside. Only the main thread of a process gets them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._asked) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def patient(self, message: bytes = MESSAGE) -> Iterator[None]:
        """Inside, a first signal is only noted, with this message: whoever trains looks with `check`."""
        self._patient, self._message = True, message
        try:
            yield
        finally:
            self._patient = False

    def check(self) -> None:
        """Stop here if somebody has asked for it.

        Raises:
            InterruptedRunError: somebody has.
        """
        if self.requested is not None:
            raise InterruptedRunError(self.requested)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if not self._patient:
            raise InterruptedRunError(number)
        if self.requested is None:
            self.requested = number
            # Past `print`, which the signal may have found in the middle of a line.
            os.write(_terminal(), self._message)
            for again in SIGNALS:
                signal.signal(again, signal.SIG_DFL)
