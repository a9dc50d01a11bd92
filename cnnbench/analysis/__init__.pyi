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
from .recipes import judge_recipe
from .records import COSTS, Record, is_number, number, read_records, short
from .schema import ComparisonContent, DifferenceContent, GroupRow
from .significance import LEVEL

__all__ = [
    "COSTS",
    "LEVEL",
    "Comparison",
    "ComparisonContent",
    "Difference",
    "DifferenceContent",
    "Errors",
    "Flips",
    "Group",
    "GroupRow",
    "Pairs",
    "Ranking",
    "Record",
    "compare",
    "compare_records",
    "comparison_rows",
    "difference",
    "is_number",
    "judge_recipe",
    "number",
    "order_groups",
    "pareto_front",
    "read_records",
    "select_records",
    "short",
    "verdict_row",
]
