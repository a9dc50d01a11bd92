"""Config-driven experiments with convolutional networks."""

import sys
from types import ModuleType

from cnnbench.renamed import register_former_modules

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """Give a module of an earlier version that was imported by its whole name."""
    if f"{__name__}.{name}" in sys.modules:
        return sys.modules[f"{__name__}.{name}"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_former_modules()
