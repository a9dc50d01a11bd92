"""The pictures of a run folder, as matplotlib figures that nobody else holds.

Every function takes plain arrays and returns a ``matplotlib.figure.Figure``; ``to_png`` turns one into
bytes. Only matplotlib's object interface is used, never pyplot: runs may be threaded and have no screen.
"""

from __future__ import annotations

from cnnbench.figures.canvas import to_png
from cnnbench.figures.charts import confusion_matrix, residuals
from cnnbench.figures.curves import learning_curves
from cnnbench.figures.mistakes import largest_errors, worst_mistakes
from cnnbench.figures.pictures import augmentation_grid, sample_grid
from cnnbench.figures.tables import feature_histograms

__all__ = [
    "augmentation_grid",
    "confusion_matrix",
    "feature_histograms",
    "largest_errors",
    "learning_curves",
    "residuals",
    "sample_grid",
    "to_png",
    "worst_mistakes",
]
