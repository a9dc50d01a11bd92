"""What Keras lacks, registered as serialisable, and how models are stored and read."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
