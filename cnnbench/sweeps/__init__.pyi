from .average import average_folds
from .forecast import forecast_line, rehearse_job
from .launchers import is_supervised, serve
from .learning_rate import find_learning_rate
from .observer import SweepObserver
from .plan import makes_sweep
from .run import resume_sweep, start_sweep
from .schema import Forecast, RangeTest
from .search import Reporter
from .store import Sweep

__all__ = [
    "Forecast",
    "RangeTest",
    "Reporter",
    "Sweep",
    "SweepObserver",
    "average_folds",
    "find_learning_rate",
    "forecast_line",
    "is_supervised",
    "makes_sweep",
    "rehearse_job",
    "resume_sweep",
    "serve",
    "start_sweep",
]
