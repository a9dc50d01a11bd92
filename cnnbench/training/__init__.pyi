from . import run
from .chunks import Engine
from .device import prepare_machine
from .diagnose import Diagnosis, examine
from .measure import Evaluation, evaluation_batch, forward_graph, loss_batch, predict_outputs

__all__ = [
    "Diagnosis",
    "Engine",
    "Evaluation",
    "evaluation_batch",
    "examine",
    "forward_graph",
    "loss_batch",
    "predict_outputs",
    "prepare_machine",
    "run",
]
