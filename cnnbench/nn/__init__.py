"""Parts of networks that Keras lacks; importing this registers them, so that stored models load."""

import lazy_loader

from cnnbench.nn import layers as layers  # what is registered
from cnnbench.nn import losses as losses
from cnnbench.nn import optimizers as optimizers
from cnnbench.nn import schedules as schedules
from cnnbench.nn import tables as tables
from cnnbench.nn import test_time as test_time

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
