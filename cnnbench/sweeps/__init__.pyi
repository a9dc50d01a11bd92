from .forecast import forecast_line
from .launchers.local import PARENT, RESULTS, stop_with_parent
from .plan import makes_sweep
from .resume import resume_sweep, start_sweep
from .schema import Forecast
from .search import Reporter
from .store import Sweep

__all__ = [
    "PARENT",
    "RESULTS",
    "Forecast",
    "Reporter",
    "Sweep",
    "forecast_line",
    "makes_sweep",
    "resume_sweep",
    "start_sweep",
    "stop_with_parent",
]
