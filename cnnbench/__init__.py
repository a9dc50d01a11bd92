"""Config-driven experiments with convolutional networks."""

import sys
from typing import Any

import lazy_loader

from cnnbench.renamed import register_former_modules

__version__ = "0.2.0"

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Give what is public, or a module of an earlier version that was imported by its whole name."""
    former = sys.modules.get(f"{__name__}.{name}")
    return _public(name) if name in __all__ or former is None else former


register_former_modules()
