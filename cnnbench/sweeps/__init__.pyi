from .average import averaging
from .doctor import doctor_line, doctor_run
from .ensemble import ensemble_spec, is_ensemble
from .forecast import forecast_line, rehearse_job
from .launchers import is_supervised, serve
from .learning_rate import find_learning_rate
from .observer import SweepObserver
from .plan import makes_sweep
from .probe import PICTURES, probe_line
from .run import resume_sweep, start_sweep
from .schema import Doctor, Forecast, Probe, RangeTest
from .search import Reporter
from .store import Sweep

__all__ = [
    "PICTURES",
    "Doctor",
    "Forecast",
    "Probe",
    "RangeTest",
    "Reporter",
    "Sweep",
    "SweepObserver",
    "averaging",
    "doctor_line",
    "doctor_run",
    "ensemble_spec",
    "find_learning_rate",
    "forecast_line",
    "is_ensemble",
    "is_supervised",
    "makes_sweep",
    "probe_line",
    "rehearse_job",
    "resume_sweep",
    "serve",
    "start_sweep",
]
