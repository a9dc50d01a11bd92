from . import losses, schedules
from .checkpoints import check_weights, load_checkpoint, require_registered
from .folding import folded
from .layers import Dirac, PatchWhitening, layers_of, put_first
from .losses import LabelsF1, MixedAccuracy, TargetsRmse
from .tables import TableColumns
from .test_time import TestTimeViews, with_test_time_augmentation

__all__ = [
    "Dirac",
    "LabelsF1",
    "MixedAccuracy",
    "PatchWhitening",
    "TableColumns",
    "TargetsRmse",
    "TestTimeViews",
    "check_weights",
    "folded",
    "layers_of",
    "load_checkpoint",
    "losses",
    "put_first",
    "require_registered",
    "schedules",
    "with_test_time_augmentation",
]
