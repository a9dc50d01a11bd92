"""What one run is: its spec, its folder and the files in it, its history, its final metrics."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
