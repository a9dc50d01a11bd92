"""The observer of a sweep: whoever wants to hear how it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnbench.sweeps.store import Sweep


class SweepObserver:
    """Hears how a sweep goes, and does nothing: override what matters.

    Attributes:
        shows_runs: let a run print to standard output where no other runs at the same time.
    """

    shows_runs = False

    def begun(self, sweep: Sweep, width: int) -> None:
        """Hear that runs are about to be made, so many at once."""

    def resumed(self, sweep: Sweep) -> None:
        """Hear that a sweep is taken up again; its statuses say how far it has come."""

    def run_died(self, sweep: Sweep, number: int, cause: str) -> None:
        """Hear that the process of a run has died, or was cut off."""

    def run_ended(self, sweep: Sweep, number: int) -> None:
        """Hear that a run has ended by itself, well or not."""
