"""Builders of networks, one module a family: from an input shape to a model with raw outputs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
