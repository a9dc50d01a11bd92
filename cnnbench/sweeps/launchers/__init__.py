"""Where the runs of a sweep are made: processes of this machine, Ray, Slurm."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
