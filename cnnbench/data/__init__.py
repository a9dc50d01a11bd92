"""Data sets and their splits, wherever they come from, and the batches that a model is fed with."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
