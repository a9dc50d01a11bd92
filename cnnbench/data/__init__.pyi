from .batches import Feed
from .dataset import Dataset, Examples, Split, Task
from .fetch import can_connect, fetching, keras_home, writable_home
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
    "can_connect",
    "class_weights",
    "decode",
    "fetching",
    "keras_home",
    "leaks",
    "pillow_warnings",
    "remarks",
    "unwrapped",
    "with_validation",
    "writable_home",
]
