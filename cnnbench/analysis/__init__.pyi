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
from .duplicates import NEIGHBOUR_AXES, Neighbours, near_duplicates, outliers
from .label_issues import (
    LabelIssue,
    Overlap,
    find_label_issues,
    largest_axes,
    of_classes,
    overlapping_classes,
)
from .learning_curve import LearningCurve, Point, errors_of, measure_curve
from .linear_probe import Axes, blocks_of, cross_validate, interval, score, values_of_blocks
from .paired import Paired, paired_accuracies, paired_runs
from .recipes import judge_recipe
from .records import COSTS, Record, is_number, number, read_records, short
from .schema import ComparisonContent, DifferenceContent, GroupRow
from .shortcuts import MOST_SHORTCUT_EXAMPLES, Shortcut, border_of, colour_of, find_shortcuts
from .significance import LEVEL, judge

__all__ = [
    "COSTS",
    "LEVEL",
    "MOST_SHORTCUT_EXAMPLES",
    "NEIGHBOUR_AXES",
    "Axes",
    "Comparison",
    "ComparisonContent",
    "Difference",
    "DifferenceContent",
    "Errors",
    "Flips",
    "Group",
    "GroupRow",
    "LabelIssue",
    "LearningCurve",
    "Neighbours",
    "Overlap",
    "Paired",
    "Pairs",
    "Point",
    "Ranking",
    "Record",
    "Shortcut",
    "blocks_of",
    "border_of",
    "colour_of",
    "compare",
    "compare_records",
    "comparison_rows",
    "cross_validate",
    "difference",
    "errors_of",
    "find_label_issues",
    "find_shortcuts",
    "interval",
    "is_number",
    "judge",
    "judge_recipe",
    "largest_axes",
    "measure_curve",
    "near_duplicates",
    "number",
    "of_classes",
    "order_groups",
    "outliers",
    "overlapping_classes",
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
