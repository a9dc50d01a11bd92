from .local import RUNS_PER_PROCESS, LocalLauncher, is_supervised, serve
from .settings import Launcher, launcher_settings

__all__ = [
    "RUNS_PER_PROCESS",
    "Launcher",
    "LocalLauncher",
    "is_supervised",
    "launcher_settings",
    "serve",
]
