"""How far a run came, and what is written down of one that ends without a result."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from cnnbench.errors import CnnbenchError, PrunedRunError, first_line
from cnnbench.results import RunFolder
from cnnbench.run_files import FAILED, INTERRUPTED, PRUNED
from cnnbench.spec import Observer, RunSpec

log = logging.getLogger("cnnbench")


class Phases:
    """Seconds per phase, and which one is under way."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.current = "start"

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.current = name
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start


def record_failure(
    spec: RunSpec, folder: RunFolder, phases: Phases, observer: Observer, error: BaseException
) -> NoReturn:
    """Write down what ended a run, and raise it again."""
    status = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
    if isinstance(error, PrunedRunError):
        status = PRUNED
        folder.clear_states()  # nobody goes on with it
    log.error("%s during %s: %s", status, phases.current, error, exc_info=error)
    try:
        folder.write_end(
            spec.name,
            spec.seed,
            {
                "status": status,
                "stage": phases.current,
                "type": type(error).__name__,
                "cause": first_line(error),
                "traceback": traceback.format_exception(error),
                "diagnosis": getattr(error, "diagnosis", None),
                "last_metrics": folder.history[-1] if folder.history else {},
                "command": " ".join(["cnnbench", *spec.overrides]),
            },
        )
    except (OSError, CnnbenchError):  # the disk may be what has failed; the first error is the news
        log.exception("and the failure could not be recorded")
    observer.failed(status)
    raise error
