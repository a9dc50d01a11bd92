"""What the operating system gives or refuses: cores, memory, GPUs, files, locks, signals."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
