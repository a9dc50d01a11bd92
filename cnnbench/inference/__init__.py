"""A finished run taken up again: evaluated, verified, asked for predictions, exported, looked into."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
