from .local import RUNS_PER_PROCESS, describe_exit
from .settings import Launcher, launcher_settings

__all__ = [
    "RUNS_PER_PROCESS",
    "Launcher",
    "describe_exit",
    "launcher_settings",
]
