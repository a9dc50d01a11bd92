from .evaluation import (
    SPLITS,
    chooses_dataset,
    evaluate_checkpoint,
    evaluation_as_json,
    evaluation_table,
    with_dataset,
    with_keys,
)
from .export import QUANTIZE, SUFFIXES, export_run, summary
from .load import load_model, require_finished, stored_spec, with_places
from .prediction import BATCH, Lines, batches, items, json_line, picture_reader, predict
from .verification import verify
from .visualization import visualize

__all__ = [
    "BATCH",
    "QUANTIZE",
    "SPLITS",
    "SUFFIXES",
    "Lines",
    "batches",
    "chooses_dataset",
    "evaluate_checkpoint",
    "evaluation_as_json",
    "evaluation_table",
    "export_run",
    "items",
    "json_line",
    "load_model",
    "picture_reader",
    "predict",
    "require_finished",
    "stored_spec",
    "summary",
    "verify",
    "visualize",
    "with_dataset",
    "with_keys",
    "with_places",
]
