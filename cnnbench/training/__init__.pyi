from . import run
from .device import prepare_machine
from .diagnose import Diagnosis, examine
from .measure import evaluate_outputs, evaluation_batch, forward_graph, predict_outputs

__all__ = [
    "Diagnosis",
    "evaluate_outputs",
    "evaluation_batch",
    "examine",
    "forward_graph",
    "predict_outputs",
    "prepare_machine",
    "run",
]
