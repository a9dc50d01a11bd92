from .comparison import (
    Comparison,
    Group,
    Ranking,
    compare,
    compare_records,
    comparison_rows,
    order_groups,
    pareto_front,
    select_records,
    verdict_row,
)
from .diff import Difference, Errors, Flips, Pairs, difference
from .learning_curve import LearningCurve, Point, errors_of, measure_curve
from .linear_probe import Axes, blocks_of, cross_validate, interval, score, values_of_blocks
from .paired import Paired, paired_accuracies, paired_runs
from .recipes import judge_recipe
from .records import COSTS, Record, is_number, number, read_records, short
from .schema import ComparisonContent, DifferenceContent, GroupRow
from .significance import LEVEL, judge

__all__ = [
    "COSTS",
    "LEVEL",
    "Axes",
    "Comparison",
    "ComparisonContent",
    "Difference",
    "DifferenceContent",
    "Errors",
    "Flips",
    "Group",
    "GroupRow",
    "LearningCurve",
    "Paired",
    "Pairs",
    "Point",
    "Ranking",
    "Record",
    "blocks_of",
    "compare",
    "compare_records",
    "comparison_rows",
    "cross_validate",
    "difference",
    "errors_of",
    "interval",
    "is_number",
    "judge",
    "judge_recipe",
    "measure_curve",
    "number",
    "order_groups",
    "paired_accuracies",
    "paired_runs",
    "pareto_front",
    "read_records",
    "score",
    "select_records",
    "short",
    "values_of_blocks",
    "verdict_row",
]
