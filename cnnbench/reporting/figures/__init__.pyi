from .canvas import to_png
from .charts import quality_against_cost
from .run import read_png

__all__ = ["quality_against_cost", "read_png", "to_png"]
