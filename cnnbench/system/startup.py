"""TensorFlow imported once and without its chatter; log lines sent where they belong."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from cnnbench.errors import CnnbenchError
from cnnbench.system.files import cache_folder
from cnnbench.system.hardware import gpus

log = logging.getLogger("cnnbench")
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # not tab and line end


def import_tensorflow(plugins: Sequence[str] = ()) -> None:
    """Import it, and let it look for devices, with what its C++ side writes meanwhile in our log.

    Afterwards `plugins`, the user's own modules, whose layers and losses register themselves with Keras.

    Most of that is no news ("oneDNN custom operations are on", "could not find cuda drivers"). What
    TensorFlow says later reaches the user from the level of warnings on.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    _keep_programs()
    if "tensorflow" not in sys.modules:
        # What lives as long as the process need not be searched for garbage: not while there is more and more
        # of it, which takes a sixth of the import, and not by every run of a sweep, for 0.2 s.
        gc.disable()
        try:
            with stderr_to_log():
                import tensorflow as tf

                tf.config.list_physical_devices()
            gc.freeze()
        finally:
            gc.enable()
        # Each run of a sweep has a model of its own, so tracing anew is no mistake.
        logging.getLogger("tensorflow").addFilter(lambda record: "retracing" not in record.getMessage())
    for plugin in plugins:
        import_module(module_name(plugin))


def _keep_programs() -> None:
    """Let XLA keep what it compiles for a GPU, for the runs and processes that come after."""
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if gpus() and "persistent_cache" not in flags and (folder := cache_folder("xla")) is not None:
        os.environ["TF_XLA_FLAGS"] = f"{flags} --tf_xla_persistent_cache_directory={folder}".strip()


def module_name(plugin: str) -> str:
    """Return `my_models` for `my_models`, `my_models.py` and `/some/where/my_models.py`."""
    return Path(plugin).name.removesuffix(".py")


@contextmanager
def stderr_to_log() -> Iterator[None]:
    # C++ writes to the file descriptor, past sys.stderr.
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            captured.seek(0)
            for line in captured.read().decode(errors="replace").splitlines():
                log.debug("TensorFlow: %s", line)


@contextmanager
def native_stderr_to(path: Path) -> Iterator[None]:
    """Append what C++ writes past `sys.stderr` to a file; what Python says still reaches the terminal.

    A GPU without memory fills pages, which belong in the log. A file, and not memory: it must outlive an
    abort of the process, of which Python leaves a last line there.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # closed: nobody reads it
        yield
        return
    former = sys.stderr
    tells_why = not faulthandler.is_enabled()
    is_terminal = former is not None and _descriptor(former) == 2
    try:
        with path.open("ab") as file:
            os.dup2(file.fileno(), 2)
        if tells_why:
            faulthandler.enable(2, all_threads=False)
        if is_terminal:
            former.flush()
            sys.stderr = open(  # noqa: PTH123, SIM115  of a descriptor
                os.dup(terminal), "w", buffering=1, encoding=former.encoding, errors=former.errors
            )
        yield
    finally:
        if tells_why:
            faulthandler.disable()
        if is_terminal and sys.stderr is not former:
            with suppress(OSError):  # whoever read it has left
                sys.stderr.close()
            sys.stderr = former
        os.dup2(terminal, 2)
        os.close(terminal)


def _descriptor(stream: IO[str]) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a notebook's, a test's
        return None


def require_package(what: str, module: str, extra: str, package: str = "") -> None:
    """Look for what an extra of this package brings, or a `package` by itself.

    Raises:
        CnnbenchError: `what` needs `module`, and it is not installed.
    """
    if find_spec(module) is None:
        raise CnnbenchError(
            f"{what} needs {module}, which is not installed",
            f"pip install {package}" if package else f"pip install 'cnnbench[{extra}]'",
        )


# -- Log lines -------------------------------------------------------------------------------------


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Say nothing: a full disk ends the run where it matters, and tracebacks would bury the reason."""


def neutral(text: str) -> str:
    """Spell out what would steer a terminal or turn the direction of reading; JSON still means the same."""
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Neutral(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Format a record so that a file name in it cannot steer the terminal of who reads the log."""
        return neutral(super().format(record))


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send our log, Python's warnings and TensorFlow's log to a file for a while."""
    handler = _File(path, encoding="utf-8")  # beside what C++ writes there; see `native_stderr_to`
    handler.setFormatter(_Neutral("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("cnnbench", "py.warnings", "absl", "tensorflow")]
    for logger in loggers:
        logger.addHandler(handler)
    own, level = loggers[0], loggers[0].level
    own.setLevel(min(own.getEffectiveLevel(), logging.INFO))  # from Python nobody else has set it
    try:
        with native_stderr_to(path):
            yield
    finally:
        own.setLevel(level)
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
