from .evaluation import (
    SPLITS,
    Evaluation,
    chooses_dataset,
    evaluate_checkpoint,
    evaluation_as_json,
    evaluation_table,
    with_dataset,
    with_keys,
)
from .export import QUANTIZE, SUFFIXES, Export, Format, Quantize, export_run, summary
from .load import load_model, require_finished, stored_spec, with_places
from .prediction import (
    BATCH,
    Lines,
    Prediction,
    PredictionRow,
    batches,
    items,
    picture_reader,
    predict,
    prediction_as_json,
)
from .verification import Verdict, verify
from .visualization import visualize

__all__ = [
    "BATCH",
    "QUANTIZE",
    "SPLITS",
    "SUFFIXES",
    "Evaluation",
    "Export",
    "Format",
    "Lines",
    "Prediction",
    "PredictionRow",
    "Quantize",
    "Verdict",
    "batches",
    "chooses_dataset",
    "evaluate_checkpoint",
    "evaluation_as_json",
    "evaluation_table",
    "export_run",
    "items",
    "load_model",
    "picture_reader",
    "predict",
    "prediction_as_json",
    "require_finished",
    "stored_spec",
    "summary",
    "verify",
    "visualize",
    "with_dataset",
    "with_keys",
    "with_places",
]
