from .figures.canvas import GREEN, INK, ORANGE, to_png
from .figures.inside import Stage, class_activation_maps, feature_maps, filters, layer_chain
from .figures.range_test import range_test_figure, range_test_lines
from .figures.run import figures_of_run, run_figures
from .output import (
    counted,
    encodable,
    explain,
    how_to_resume,
    is_lost,
    is_verbose,
    output_as,
    resumable,
    say,
    stderr,
    stdout,
    unfailing_streams,
    write_lines,
)
from .page.comparison import comparison_page
from .page.doctor import Case, Cases, Shown, doctor_page, picture_uri
from .page.notebook import comparison_html, run_html
from .page.progress import MOST_COST, REFRESH_SECONDS, SHORTEST_SECONDS, LivePage, progress_page
from .page.run import run_page
from .steps import after_run
from .tables import (
    MOST_ROWS,
    answers,
    comparison_as_csv,
    comparison_as_json,
    difference_as_json,
    difference_sentences,
    difference_tables,
    output_table,
    show_comparison,
)
from .terminal import Terminal
from .text import between, calibration_in_words, count, duration, number, sets_in_words
from .trackers import Tracked, trackings

__all__ = [
    "GREEN",
    "INK",
    "MOST_COST",
    "MOST_ROWS",
    "ORANGE",
    "REFRESH_SECONDS",
    "SHORTEST_SECONDS",
    "Case",
    "Cases",
    "LivePage",
    "Shown",
    "Stage",
    "Terminal",
    "Tracked",
    "after_run",
    "answers",
    "between",
    "calibration_in_words",
    "class_activation_maps",
    "comparison_as_csv",
    "comparison_as_json",
    "comparison_html",
    "comparison_page",
    "count",
    "counted",
    "difference_as_json",
    "difference_sentences",
    "difference_tables",
    "doctor_page",
    "duration",
    "encodable",
    "explain",
    "feature_maps",
    "figures_of_run",
    "filters",
    "how_to_resume",
    "is_lost",
    "is_verbose",
    "layer_chain",
    "number",
    "output_as",
    "output_table",
    "picture_uri",
    "progress_page",
    "range_test_figure",
    "range_test_lines",
    "resumable",
    "run_figures",
    "run_html",
    "run_page",
    "say",
    "sets_in_words",
    "show_comparison",
    "stderr",
    "stdout",
    "to_png",
    "trackings",
    "unfailing_streams",
    "write_lines",
]
