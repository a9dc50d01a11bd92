from . import fetch
from .batches import Feed
from .dataset import CALIBRATION, Column, Dataset, Examples, Fact, Rows, Split, Task, listed
from .fixes import Fix, excluded, fixed, label_of, names_of, read_fixes, write_fixes
from .hashes import alike, perceptual_hashes
from .images.corruptions import CORRUPTIONS, SEVERITIES, check_corruption, corrupted
from .images.decoding import Recipe, TooLargeError, UnreadableError, decode, pillow_warnings, size_of
from .images.layout import IMAGE_SUFFIXES, is_system_folder
from .images.parts import sharing
from .images.rows import holds_manifest
from .labels import infer_task, with_positive
from .partition import TooFewError, draw, folds
from .reading import special_file, unwrapped
from .sources.arrays import holds_arrays, inputs_among
from .sources.table_file import Trained, encode_rows, is_table
from .splits import (
    example_weights,
    fold_numbers,
    label_weights,
    leaks,
    of_fold,
    remarks,
    task_in_words,
    with_calibration,
    with_validation,
)
from .tabular import read_table, row_number

__all__ = [
    "CALIBRATION",
    "CORRUPTIONS",
    "IMAGE_SUFFIXES",
    "SEVERITIES",
    "Column",
    "Dataset",
    "Examples",
    "Fact",
    "Feed",
    "Fix",
    "Recipe",
    "Rows",
    "Split",
    "Task",
    "TooFewError",
    "TooLargeError",
    "Trained",
    "UnreadableError",
    "alike",
    "check_corruption",
    "corrupted",
    "decode",
    "draw",
    "encode_rows",
    "example_weights",
    "excluded",
    "fetch",
    "fixed",
    "fold_numbers",
    "folds",
    "holds_arrays",
    "holds_manifest",
    "infer_task",
    "inputs_among",
    "is_system_folder",
    "is_table",
    "label_of",
    "label_weights",
    "leaks",
    "listed",
    "names_of",
    "of_fold",
    "perceptual_hashes",
    "pillow_warnings",
    "read_fixes",
    "read_table",
    "remarks",
    "row_number",
    "sharing",
    "size_of",
    "special_file",
    "task_in_words",
    "unwrapped",
    "with_calibration",
    "with_positive",
    "with_validation",
    "write_fixes",
]
