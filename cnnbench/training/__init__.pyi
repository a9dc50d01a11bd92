from . import run
from .build import Built, build_run, network
from .chunks import Engine, train_in_chunks
from .device import prepare_machine, strategy
from .diagnose import Diagnosis, examine
from .environment import describe_environment
from .features import cached_features, features_of
from .fit import compile_for_fine_tuning
from .measure import (
    Evaluation,
    count_flops,
    evaluation_batch,
    forward_graph,
    loss_batch,
    measure_latency,
    measure_split,
    predict_outputs,
)
from .model import can_cache
from .steps import choose_batch_size

__all__ = [
    "Built",
    "Diagnosis",
    "Engine",
    "Evaluation",
    "build_run",
    "cached_features",
    "can_cache",
    "choose_batch_size",
    "compile_for_fine_tuning",
    "count_flops",
    "describe_environment",
    "evaluation_batch",
    "examine",
    "features_of",
    "forward_graph",
    "loss_batch",
    "measure_latency",
    "measure_split",
    "network",
    "predict_outputs",
    "prepare_machine",
    "run",
    "strategy",
    "train_in_chunks",
]
