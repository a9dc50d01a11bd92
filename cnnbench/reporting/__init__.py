"""All that a person reads: the terminal, tables, pictures, pages, trackers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
