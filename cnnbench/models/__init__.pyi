from .transfer import FEATURES, check_layer, split_at_features, unfreeze

__all__ = [
    "FEATURES",
    "check_layer",
    "split_at_features",
    "unfreeze",
]
