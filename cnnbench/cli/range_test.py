"""The verb `lr-find`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from cnnbench import api, reporting, runs, sweeps, system
from cnnbench.cli.contract import Answer
from cnnbench.cli.typed import positive
from cnnbench.errors import EXIT_DONE, EXIT_NO, CnnbenchError
from cnnbench.reporting import say

if TYPE_CHECKING:
    from cnnbench.cli.answers import FoundRate

PHASES = ("training", "fine_tuning")


def find_learning_rate(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[FoundRate]:
    """Find a learning rate for a run: it rises with every step until the loss diverges. No run is made."""
    parser.add_argument(
        "overrides", nargs="*", help="as for the run itself; phase=fine_tuning tests that phase"
    )
    parser.add_argument(
        "--seeds", type=positive, default=1, help="how many to test, from that of the run on (1)"
    )
    parser.add_argument(
        "--output",
        type=lambda text: Path(text).expanduser(),
        metavar="FILE.png",
        help="the curve (default: lr_find_NAME.png)",
    )
    parser.add_argument("--config-dir", metavar="DIR", help="add a folder with options of your own")
    given = parser.parse_intermixed_args(arguments)
    phases = [text.partition("=")[2] for text in given.overrides if text.startswith("phase=")]
    overrides = [text for text in given.overrides if not text.startswith("phase=")]
    phase = phases[-1] if phases else "training"
    if phase not in PHASES:
        raise CnnbenchError(f"phase={phase} is no phase", "phase=training or phase=fine_tuning")
    spec = api.compose(*overrides, config_dir=given.config_dir)
    if phase == "fine_tuning" and spec.training.fine_tuning is None:
        raise CnnbenchError(
            "this run has no fine-tuning", "give it training.fine_tuning={…}, or leave phase out"
        )
    with reporting.stderr().status("importing TensorFlow") as status:
        system.import_tensorflow(spec.plugins)
        test = sweeps.find_learning_rate(spec, phase, given.seeds, lambda text: status.update(escape(text)))
    output = given.output or Path(f"lr_find_{spec.name}.png")
    marks = {
        "suggested": test.suggestion,
        "falls the fastest": test.steepest,
        "lowest loss": test.lowest,
        "diverges": test.diverged,
    }
    figure = reporting.range_test_figure(
        test.rates, test.losses, marks, f"{spec.name}: {phase.replace('_', '-')}"
    )
    try:
        with system.atomic(output, "wb") as file:
            file.write(reporting.to_png(figure))
    except OSError as error:
        raise system.unwritable(output, error) from error
    say(
        reporting.stdout(),
        *reporting.range_test_lines(test.rates, test.losses, test.suggestion),
        f"curve: {output}",
    )
    line = "" if test.suggestion is None else _line_with_rate(spec, overrides, phase, test.suggestion)
    if test.suggestion is None:
        text = (
            "no learning rate is suggested: the loss falls at none, or is not finite from the first steps on"
        )
        say(reporting.stdout(), text, style="yellow")
    else:
        several = f" ({', '.join(f'{one:g}' for one in test.suggestions)})" if given.seeds > 1 else ""
        diverged = "not in this range" if test.diverged is None else f"{test.diverged:.2g}"
        say(
            reporting.stdout(),
            f"learning rate {test.suggestion:g}{several}: a tenth of that with the lowest loss,",
            "since what is borne for a few steps is too high for a whole training",
            f"  lowest loss     {test.lowest:.2g}",
            f"  steepest fall   {test.steepest:.2g}",
            f"  diverges        {diverged}",
            f"next: {line}",
        )
    content: FoundRate = {"test": test, "line": line, "picture": str(output)}
    return Answer(content, EXIT_NO if test.suggestion is None else EXIT_DONE)


def _line_with_rate(spec: runs.RunSpec, overrides: Sequence[str], phase: str, rate: float) -> str:
    """Return the line of the run with a learning rate."""
    if phase == "fine_tuning":
        key = "training.fine_tuning.learning_rate"
    else:
        node = spec.config["optimizer"]["learning_rate"]
        is_schedule = isinstance(node, dict) and not str(node.get("_target_")).endswith(".constant")
        key = "optimizer.learning_rate" + (".initial_learning_rate" if is_schedule else "")
    kept = [text for text in overrides if text.partition("=")[0].lstrip("+") != key]
    return shlex.join(["cnnbench", *kept, f"{key}={rate:g}"])
