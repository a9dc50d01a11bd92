from . import fetch
from .batches import Feed
from .dataset import Column, Dataset, Examples, Split, Task
from .images.decoding import Recipe, TooLargeError, UnreadableError, decode, pillow_warnings, size_of
from .images.layout import IMAGE_SUFFIXES, is_system_folder
from .reading import special_file, unwrapped
from .splits import class_weights, fold_numbers, leaks, of_fold, remarks, with_validation

__all__ = [
    "IMAGE_SUFFIXES",
    "Column",
    "Dataset",
    "Examples",
    "Feed",
    "Recipe",
    "Split",
    "Task",
    "TooLargeError",
    "UnreadableError",
    "class_weights",
    "decode",
    "fetch",
    "fold_numbers",
    "is_system_folder",
    "leaks",
    "of_fold",
    "pillow_warnings",
    "remarks",
    "size_of",
    "special_file",
    "unwrapped",
    "with_validation",
]
