"""One module per family of networks; a builder goes from an input shape to raw outputs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
