from . import run
from .chunks import Engine
from .device import prepare_machine
from .diagnose import Diagnosis, examine
from .environment import describe_environment
from .features import features_of
from .measure import (
    Evaluation,
    count_flops,
    evaluation_batch,
    forward_graph,
    loss_batch,
    measure_latency,
    predict_outputs,
)

__all__ = [
    "Diagnosis",
    "Engine",
    "Evaluation",
    "count_flops",
    "describe_environment",
    "evaluation_batch",
    "examine",
    "features_of",
    "forward_graph",
    "loss_batch",
    "measure_latency",
    "predict_outputs",
    "prepare_machine",
    "run",
]
