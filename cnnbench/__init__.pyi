from .api import Comparison, Run, compare, compose, diff, doctor, ensemble, open_run, probe, run, sweep
from .data import Dataset
from .runs import RunSpec

__all__ = [
    "Comparison",
    "Dataset",
    "Run",
    "RunSpec",
    "compare",
    "compose",
    "diff",
    "doctor",
    "ensemble",
    "open_run",
    "probe",
    "run",
    "sweep",
]
__version__: str
