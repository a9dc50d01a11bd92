from . import losses
from .checkpoints import check_weights, load_checkpoint
from .layers import Dirac, PatchWhitening, ReverseChannels
from .losses import MixedAccuracy
from .test_time import TestTimeViews, with_views

__all__ = [
    "Dirac",
    "MixedAccuracy",
    "PatchWhitening",
    "ReverseChannels",
    "TestTimeViews",
    "check_weights",
    "load_checkpoint",
    "losses",
    "with_views",
]
