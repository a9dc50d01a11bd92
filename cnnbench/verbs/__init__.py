"""The verbs: each adds its arguments to a parser, does its work and returns an exit code.

Heavy imports stay inside: `cnnbench list` must not wait for TensorFlow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from cnnbench.verbs import of_config, of_run, of_runs

VERBS: dict[str, Callable[[argparse.ArgumentParser, Sequence[str]], int]] = {
    "list": of_config.list_options,
    "explain": of_config.explain_key,
    "check": of_config.check,
    "resume": of_runs.resume,
    "compare": of_runs.compare_runs,
    "report": of_runs.report_runs,
    "diff": of_runs.diff_runs,
    "verify": of_run.verify_run,
    "evaluate": of_run.evaluate_run,
    "predict": of_run.predict_files,
    "export": of_run.export_model,
    "visualize": of_run.visualize_run,
    "replay": of_run.replay_run,
    "check-recipe": of_config.check_recipe,
}
