"""Verbs that read or run a config: list, explain, check-recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cnnbench.errors import CnnbenchError, nearest
from cnnbench.report import DONE, FAILED, stdout


def list_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Every option of every config group, or of one, in one line."""
    from cnnbench.options import options
    from cnnbench.report import options_text

    parser.add_argument("group", nargs="?", help="model, dataset, optimizer, …")
    group = parser.parse_args(arguments).group
    found = options()
    if group is not None and group not in found:
        raise CnnbenchError(f"there is no group {group!r}", nearest(group, found))
    stdout().print(options_text(found if group is None else {group: found[group]}), soft_wrap=True)
    return DONE


def explain_key(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """The value of a config key, the file and line or override that set it, and what that replaced."""
    from cnnbench.origins import explain

    parser.add_argument("key", help="e.g. optimizer.learning_rate, model, seed")
    parser.add_argument("overrides", nargs="*", help="as for a run: experiment=…, key=value")
    parser.add_argument("--config-dir", help="a folder with options of your own")
    given = parser.parse_intermixed_args(arguments)
    for line in explain(given.key, given.overrides, given.config_dir):
        stdout().print(line, markup=False, highlight=False, soft_wrap=True)
    return DONE


def check_recipe(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Run a preset and say whether this machine reproduces the score that it promises."""
    from cnnbench import config
    from cnnbench.recipes import judge
    from cnnbench.terminal import train

    parser.add_argument("name", help="an experiment, e.g. notes/fashion_cnn (cnnbench list experiment)")
    parser.add_argument("overrides", nargs="*", help="key=value, e.g. seed=3")
    options = parser.parse_args(arguments)
    overrides = [f"experiment={options.name}", *options.overrides]
    composed = config.compose(overrides)
    expected = config.check_config(config.plain(composed)).expected
    if expected is None:
        raise CnnbenchError(f"{options.name} promises no score", "see cnnbench list experiment")
    result = train(config.run_spec(composed, composed.hydra.runtime.choices, overrides))
    verdict = judge(expected, result.metrics)
    colour = "green" if verdict.reproduced else "red"
    stdout().print(
        f"[{colour}]{'REPRODUCED' if verdict.reproduced else 'NOT REPRODUCED'}[/] {verdict.sentence}"
    )
    return DONE if verdict.reproduced else FAILED
