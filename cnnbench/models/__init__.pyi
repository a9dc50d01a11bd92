from . import catalogue, ensemble
from .transfer import FEATURES, check_layer, split_at_features, trained_blocks, unfreeze

__all__ = [
    "FEATURES",
    "catalogue",
    "check_layer",
    "ensemble",
    "split_at_features",
    "trained_blocks",
    "unfreeze",
]
