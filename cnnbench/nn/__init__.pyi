from . import losses, schedules
from .checkpoints import check_weights, load_checkpoint, require_registered
from .folding import folded
from .layers import Dirac, PatchWhitening, layers_of, put_first
from .losses import LabelsF1, MixedAccuracy, TargetsRmse
from .rates import Rate, set_rates
from .tables import TableColumns
from .temperature import split_at_logits, with_temperature
from .test_time import TestTimeViews, with_test_time_augmentation

__all__ = [
    "Dirac",
    "LabelsF1",
    "MixedAccuracy",
    "PatchWhitening",
    "Rate",
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
    "set_rates",
    "split_at_logits",
    "with_temperature",
    "with_test_time_augmentation",
]
