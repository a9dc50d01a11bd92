"""The parts of pages that a notebook shows: HTML without scripts, with a style that stays inside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnbench.analysis import Comparison, Ranking
from cnnbench.reporting.columns import COSTS, ranking_columns
from cnnbench.reporting.figures import quality_against_cost, to_png
from cnnbench.reporting.page import comparison as comparisons
from cnnbench.reporting.page import run as runs
from cnnbench.reporting.page.render import render_part, small_data_uri
from cnnbench.reporting.tables import MOST_ROWS, answers, apart_lines
from cnnbench.runs import RunFolder

PICTURES = {
    "learning_curves": "Learning curves",
    "confusion_matrix": "Confusion matrix of the test split",
    "residuals": "Predictions and residuals of the test split",
}


def run_html(folder: RunFolder, metrics: Mapping[str, Any]) -> str:
    """Return a finished run as a fragment of HTML: key figures, final metrics, pictures of its folder.

    The fragment loads nothing, has no script, and styles nothing outside itself; it takes its colours from
    the notebook.

    Args:
        folder: of the run.
        metrics: the content of its `metrics.json`.
    """
    names, splits = runs.figures_table(metrics)
    return render_part(
        "run_part.html.j2",
        title=metrics["name"],
        subtitle=runs.subtitle(metrics, folder.environment),
        headline=runs.headline(metrics),
        metric_names=names,
        splits=splits,
        pictures=list(runs.pictures(folder, metrics, PICTURES, small_data_uri)),
    )


def comparison_html(comparison: Comparison) -> str:
    """Return a comparison as a fragment of HTML: key figures, the rankings, and quality against cost.

    The fragment is as self-contained as that of `run_html`.
    """
    return render_part(
        "comparison_part.html.j2",
        subtitle=comparisons.subtitle(comparison),
        headline=comparisons.headline(comparison),
        rankings=[_ranking(ranking, comparison.cost) for ranking in comparison.rankings],
        answers=answers(comparison),
        apart=apart_lines(comparison),
    )


def _ranking(ranking: Ranking, cost: str) -> dict[str, Any]:
    groups = ranking.by_rank
    shown = groups[:MOST_ROWS]
    columns = ranking_columns(shown)
    figure = quality_against_cost(groups, cost, COSTS[cost].label) if len(groups) > 1 else None
    return {
        "title": ranking.title,
        "columns": columns,
        "rows": [[column.text(group) for column in columns] for group in shown],
        "more": len(groups) - len(shown),
        "uri": small_data_uri(to_png(figure)) if figure else None,
        "alt": f"{ranking.objective} of each configuration against its cost ({COSTS[cost].label})",
    }
