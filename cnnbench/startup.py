"""Importing TensorFlow once, without its chatter, and the user's own modules."""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cnnbench.errors import CnnbenchError

log = logging.getLogger("cnnbench")


def import_tensorflow(plugins: Sequence[str] = ()) -> None:
    """Import it, and let it look for devices, with what its C++ side writes meanwhile in our log.

    Afterwards `plugins`, the user's own modules, whose layers and losses register themselves with Keras.

    Most of that is no news ("oneDNN custom operations are on", "could not find cuda drivers"). What
    TensorFlow says later reaches the user from the level of warnings on.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
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


def module_name(plugin: str) -> str:
    """`my_models` of `my_models`, `my_models.py` and `/some/where/my_models.py`."""
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


def require(what: str, module: str, extra: str) -> None:
    """Look for what an extra of this package brings.

    Raises:
        CnnbenchError: `what` needs `module`, and it is not installed.
    """
    if find_spec(module) is None:
        raise CnnbenchError(
            f"{what} needs {module}, which is not installed", f"pip install 'cnnbench[{extra}]'"
        )


def find_plugins(plugins: Any) -> Any:
    """Make the user's modules importable: by name from the working folder, or a path to a .py file.

    Returns:
        those found as files as absolute paths, so that a run can be read from another folder; anything but
        a list of texts as it came.

    Raises:
        CnnbenchError: there is no such file or module.
    """
    if not isinstance(plugins, list) or not all(isinstance(plugin, str) for plugin in plugins):
        return plugins  # the check of the config says what is wrong with it
    found = []
    for plugin in plugins:
        top = module_name(plugin).partition(".")[0]
        if top in (*sys.stdlib_module_names, "__main__"):
            raise CnnbenchError(f"plugins: {plugin} is part of Python, not of yours", "name your own module")
        if top in ("keras", "cnnbench"):  # all of it would be allowed, and not only what belongs in a config
            raise CnnbenchError(f"plugins: {plugin} needs no plugin", "name your own module")
        path = Path(plugin if plugin.endswith(".py") else f"{plugin}.py").resolve()
        folder = str(path.parent)
        if folder not in sys.path:
            sys.path.append(folder)  # last, so that it hides nothing
        if not path.is_file() and (plugin.endswith(".py") or find_spec(plugin.partition(".")[0]) is None):
            raise CnnbenchError(f"plugins: there is no {plugin}", f"looked in {Path.cwd()}")
        found.append(str(path) if path.is_file() else plugin)
    return found
