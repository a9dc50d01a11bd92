from . import catalogue
from .transfer import FEATURES, check_layer, split_at_features, unfreeze

__all__ = [
    "FEATURES",
    "catalogue",
    "check_layer",
    "split_at_features",
    "unfreeze",
]
