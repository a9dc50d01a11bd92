"""Verbs that read or run a config: list, check, explain, check-recipe."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.markup import escape

from cnnbench.errors import CnnbenchError, nearest
from cnnbench.report import DONE, FAILED, WRONG_INPUT, count, duration, stderr, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from cnnbench.forecast import Forecast


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


def check(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Everything about a run or a sweep short of training it: what would fail, hours and memory."""
    from cnnbench import checking, config, planning

    parser.add_argument("overrides", nargs="*", help="as for the run itself")
    parser.add_argument("-m", "--multirun", action="store_true", help="as for the run itself")
    parser.add_argument("--config-dir", metavar="DIR", help="add a folder with options of your own")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_intermixed_args(arguments)
    if given.config_dir is not None:
        config.refuse_hydra_settings(given.overrides, given.config_dir)
    is_sweep = given.multirun or planning.is_sweep(given.overrides)
    with stderr().status("composing") as status:
        forecasts = checking.check(
            given.overrides, is_sweep, given.config_dir, lambda text: status.update(escape(text))
        )
    hours = sum(forecast.seconds or 0.0 for forecast in forecasts) / 3600
    fails = [forecast for forecast in forecasts if forecast.error is not None]
    if given.json:
        rows = [asdict(forecast) for forecast in forecasts]
        stdout().print_json(json.dumps({"jobs": rows, "hours": hours, "fails": len(fails)}))
        return WRONG_INPUT if fails else DONE
    console = stdout()
    console.print(_forecast_table(forecasts, is_sweep))
    ready = len(forecasts) - len(fails)
    console.print(
        f"{ready} of {len(forecasts)} would run: {hours:.2g} hours ({duration(3600 * hours)}) one after "
        "another, estimated from a few steps of each kind on this machine; early stopping ends some sooner",
        highlight=False,
        soft_wrap=True,
    )
    for forecast in fails:
        text = f"run {forecast.number} would fail: {forecast.error}"
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    return WRONG_INPUT if fails else DONE


def _forecast_table(forecasts: Sequence[Forecast], is_sweep: bool) -> Table:
    """One row for each job; of what was typed that which tells it from the others."""
    from rich.table import Table

    table = Table()
    left = ("overrides", "folder") if is_sweep else ("overrides",)  # only a sweep's are known before
    for column in ("#", *left, "parameters", "FLOPs", "epoch", "whole run", "peak memory"):
        table.add_column(
            column, justify="left" if column in left else "right", overflow="fold", no_wrap=column not in left
        )
    common = set.intersection(*(set(row.overrides) for row in forecasts)) if is_sweep else set()
    for row in forecasts:
        if row.error is None and row.flops is not None:
            figures = [
                count(row.parameters or 0),
                count(row.flops),
                duration(row.epoch_seconds or 0),
                duration(row.seconds or 0),
                f"{(row.peak_memory_bytes or 0) / 1e9:.2f} GB",
            ]
        else:
            figures = ["[red]fails[/]", "", "", "", ""]
        typed = " ".join(text for text in row.overrides if text not in common)
        names = [escape(typed), escape(row.folder or "")][: len(left)]
        table.add_row(str(row.number), *names, *figures)
    return table


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
