"""From what was typed to a checked `RunSpec`: the only room that knows Hydra."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
