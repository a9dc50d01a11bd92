from . import losses, schedules
from .checkpoints import check_weights, load_checkpoint, require_registered
from .layers import Dirac, PatchWhitening, layers_of
from .losses import MixedAccuracy
from .test_time import TestTimeViews, with_test_time_augmentation

__all__ = [
    "Dirac",
    "MixedAccuracy",
    "PatchWhitening",
    "TestTimeViews",
    "check_weights",
    "layers_of",
    "load_checkpoint",
    "losses",
    "require_registered",
    "schedules",
    "with_test_time_augmentation",
]
