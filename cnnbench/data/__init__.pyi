from . import fetch
from .batches import Feed
from .dataset import Dataset, Examples, Split, Task
from .images.decoding import Recipe, UnreadableError, decode, pillow_warnings
from .images.layout import IMAGE_SUFFIXES
from .reading import unwrapped
from .splits import class_weights, leaks, remarks, with_validation

__all__ = [
    "IMAGE_SUFFIXES",
    "Dataset",
    "Examples",
    "Feed",
    "Recipe",
    "Split",
    "Task",
    "UnreadableError",
    "class_weights",
    "decode",
    "fetch",
    "leaks",
    "pillow_warnings",
    "remarks",
    "unwrapped",
    "with_validation",
]
