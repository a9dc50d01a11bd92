"""Importing TensorFlow once, and without its chatter."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("cnnbench")


def import_tensorflow() -> None:
    """Import it, and let it look for devices, with what its C++ side writes meanwhile in our log.

    Most of that is no news ("oneDNN custom operations are on", "could not find cuda drivers"). What
    TensorFlow says later reaches the user from the level of warnings on.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if "tensorflow" in sys.modules:
        return
    with _stderr_to_log():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextmanager
def _stderr_to_log() -> Iterator[None]:
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
