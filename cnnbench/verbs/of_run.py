"""Verbs that take one run: measure, predict, draw, export, explain what broke it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.errors import CnnbenchError
from cnnbench.report import DONE, FAILED, stderr, stdout, write_lines

if TYPE_CHECKING:
    from cnnbench.results import RunFolder


def verify_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Evaluate best.keras of a run again and compare with the recorded figures: PASS or FAIL."""
    from cnnbench.report import differences_table
    from cnnbench.results import RunFolder
    from cnnbench.stored import stored_spec
    from cnnbench.verify import verify

    _takes_a_run(parser)
    given = parser.parse_args(arguments)
    folder = RunFolder.open(given.run)
    verdict = verify(folder, stored_spec(folder, given.trust_plugins))
    console = stdout()
    console.print(differences_table(verdict.rows))
    for complaint in verdict.complaints:
        console.print(complaint, markup=False)
    console.print("[green]PASS[/]" if verdict.passed else "[red]FAIL[/]")
    return DONE if verdict.passed else FAILED


def replay_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Repeat the step in which the loss of a run turned NaN or infinite, and show every tensor of it."""
    from cnnbench.report import diagnosis_table
    from cnnbench.results import RunFolder
    from cnnbench.startup import import_tensorflow
    from cnnbench.stored import stored_spec

    _takes_a_run(parser)
    given = parser.parse_args(arguments)
    folder = RunFolder.open(given.run)
    model_file, x, y = folder.bad_step.read()
    spec = stored_spec(folder, given.trust_plugins)
    import_tensorflow(spec.plugins)
    from cnnbench import engine
    from cnnbench.diagnose import examine

    engine.prepare(spec.seed, spec.deterministic, "auto", spec.training.precision)
    diagnosis = examine(engine.load(model_file), x, y)
    stdout().print(diagnosis_table(diagnosis))
    stdout().print(f"{diagnosis.sentence}\nWhat to do: {diagnosis.advice}", markup=False, highlight=False)
    return DONE


def evaluate_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Measure the best checkpoint of a run on a split of its data set, or of another."""
    from cnnbench import evaluate
    from cnnbench.config import compose, plain
    from cnnbench.grids import quoted
    from cnnbench.overrides import typed_values
    from cnnbench.stored import stored_spec

    _takes_a_run(parser)
    parser.add_argument("overrides", nargs="*", help="dataset=… dataset.key=…; default: the run's data set")
    parser.add_argument("--split", choices=evaluate.SPLITS, default="test")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--config-dir", help="a folder with options of your own, as the run had it")
    given = parser.parse_intermixed_args(arguments)
    folder = _finished(given.run)

    def changed(config: dict[str, Any]) -> dict[str, Any]:
        if not evaluate.chooses_dataset(given.overrides):
            return evaluate.with_keys(config, typed_values(given.overrides))
        place = config.get("data_dir")
        recorded = [f"data_dir={quoted(str(place))}"] if place is not None else []
        other = plain(compose([*recorded, *given.overrides], given.config_dir))
        return evaluate.with_dataset(config, other, folder.metrics["task"])

    spec = stored_spec(folder, given.trust_plugins, changed)
    evaluation = evaluate.evaluate_run(folder, spec, given.split)
    if given.json:
        write_lines([json.dumps(evaluate.as_json(evaluation), ensure_ascii=False)])
        return DONE
    stdout().print(evaluate.evaluation_table(evaluation))
    for note in evaluation.notes:
        stderr().print(note, markup=False, style="yellow")
    return DONE


def predict_files(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Classes and probabilities, or values, for pictures, arrays and tables of numbers."""
    from cnnbench.inputs import batches, items, picture_reader
    from cnnbench.predict import BATCH, Lines, json_line, predict
    from cnnbench.stored import stored_spec
    from cnnbench.trained import load_model

    _takes_a_run(parser)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="pictures, folders of pictures, .npy, .npz, .csv; - reads paths from standard input",
    )
    parser.add_argument("--top", type=_positive, default=3, help="how many classes to show (default: 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line for each input")
    given = parser.parse_intermixed_args(arguments)
    folder = _finished(given.run)
    recorded = folder.metrics
    names = recorded["class_names"]
    shape = recorded["input_shape"]
    source = items(given.files, sys.stdin, shape, picture_reader(shape, folder.config["dataset"]))
    model = load_model(folder, stored_spec(folder, given.trust_plugins))
    lines = Lines(names, given.top)
    answered = failed = 0
    for predictions in predict(model, recorded["task"], names, batches(source, BATCH)):
        if not write_lines(map(json_line, predictions) if given.json else lines.of(predictions)):
            return DONE
        errors = [f"{one.path}: {one.error}" for one in predictions if one.error is not None]
        for error in () if given.json else errors:
            stderr().print(error, markup=False, emoji=False, style="red")
        failed += len(errors)
        answered += len(predictions) - len(errors)
    if not answered and not failed:
        raise CnnbenchError(f"no inputs in {' '.join(given.files)}", "pictures, .npy, .npz or .csv")
    return FAILED if failed else DONE


def export_model(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Write the best checkpoint of a run in another format, and check that it computes the same."""
    from cnnbench.export import export_run, summary
    from cnnbench.formats import QUANTIZE, SUFFIXES
    from cnnbench.stored import stored_spec

    _takes_a_run(parser)
    parser.add_argument("--format", choices=list(SUFFIXES), required=True)
    parser.add_argument("--output", type=Path, help="file, or folder for it (default: exports/ in the run)")
    parser.add_argument("--quantize", choices=QUANTIZE, default="none", help="for tflite")
    given = parser.parse_args(arguments)
    folder = _finished(given.run)
    spec = stored_spec(folder, given.trust_plugins)
    result = export_run(folder, spec, given.format, given.output, given.quantize)
    for line in summary(result):
        stdout().print(line, markup=False, highlight=False, soft_wrap=True)
    stdout().print("[green]PASS[/]" if result.passed else "[red]FAIL[/]: nothing was kept")
    return DONE if result.passed else FAILED


def visualize_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Pictures of what the model sees: its filters, feature maps and class-activation maps."""
    from cnnbench.stored import stored_spec
    from cnnbench.visualize import visualize

    _takes_a_run(parser)
    parser.add_argument("files", nargs="*", metavar="FILE", help="pictures; default: from the test split")
    parser.add_argument("--layer", help="only this layer, e.g. conv_2")
    parser.add_argument("--examples", type=_positive, default=12, help="for class-activation maps (12)")
    parser.add_argument("--output", type=Path, help="folder for the pictures (default: figures/ in the run)")
    given = parser.parse_intermixed_args(arguments)
    folder = _finished(given.run)
    spec = stored_spec(folder, given.trust_plugins)
    for text in visualize(folder, spec, given.files, given.layer, given.examples, given.output):
        stdout().print(text, markup=False, highlight=False, soft_wrap=True)
    return DONE


def _takes_a_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--trust-plugins", action="store_true", help="run its plugins, made elsewhere")


def _finished(path: Path) -> RunFolder:
    from cnnbench.results import RunFolder
    from cnnbench.trained import require_finished

    folder = RunFolder.open(path)
    require_finished(folder)
    return folder


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)
