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
from .export import EXAMPLES, Export, export_run, summary
from .formats import SUFFIXES, Format
from .load import load_model, require_finished, stored_spec, with_places
from .prediction import (
    BATCH,
    Lines,
    Prediction,
    PredictionRow,
    Shrunk,
    batches,
    items,
    picture_reader,
    predict,
    prediction_as_json,
    remarked,
)
from .quantization import QUANTIZE, Quantize
from .robustness import Asked, Robustness, asked, robustness_table
from .tables import Rows, check_output, columns_of, write_predictions
from .verification import Verdict, verify
from .visualization import visualize

__all__ = [
    "BATCH",
    "EXAMPLES",
    "QUANTIZE",
    "SPLITS",
    "SUFFIXES",
    "Asked",
    "Evaluation",
    "Export",
    "Format",
    "Lines",
    "Prediction",
    "PredictionRow",
    "Quantize",
    "Robustness",
    "Rows",
    "Shrunk",
    "Verdict",
    "asked",
    "batches",
    "check_output",
    "chooses_dataset",
    "columns_of",
    "evaluate_checkpoint",
    "evaluation_as_json",
    "evaluation_table",
    "export_run",
    "items",
    "load_model",
    "picture_reader",
    "predict",
    "prediction_as_json",
    "remarked",
    "require_finished",
    "robustness_table",
    "stored_spec",
    "summary",
    "verify",
    "visualize",
    "with_dataset",
    "with_keys",
    "with_places",
    "write_predictions",
]
