"""The verbs: each adds its arguments to a parser, does its work and returns an exit code.

Heavy imports stay inside: `cnnbench list` must not wait for TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.markup import escape

from cnnbench import analysis, config, inference, nn, reporting, runs, sweeps, system, training
from cnnbench.cli.console import diagnosis_table, differences_table, options_text, train
from cnnbench.errors import EXIT_DONE, EXIT_FAILED, EXIT_WRONG_INPUT, CnnbenchError, nearest

if TYPE_CHECKING:
    from rich.table import Table


def _takes_options(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--config-dir", metavar="DIR", type=config_folder, help=text)


def config_folder(text: str) -> str:
    """What `--config-dir` is given, with the home for a `~` at its beginning, as in `--config-dir=~/conf`."""
    return str(_path(text))


def _path(text: str) -> Path:
    return Path(text).expanduser()


def list_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Every option of every config group, or of one, in one line."""
    parser.add_argument("group", nargs="?", help="model, dataset, optimizer, …")
    group = parser.parse_args(arguments).group
    found = config.options()
    if group is not None and group not in found:
        raise CnnbenchError(f"there is no group {group!r}", nearest(group, found))
    reporting.stdout().print(options_text(found if group is None else {group: found[group]}), soft_wrap=True)
    return EXIT_DONE


def check(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Everything about a run or a sweep short of training it: what would fail, hours and memory."""
    parser.add_argument("overrides", nargs="*", help="as for the run itself")
    parser.add_argument("-m", "--multirun", action="store_true", help="as for the run itself")
    _takes_options(parser, "add a folder with options of your own")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_intermixed_args(arguments)
    is_sweep = given.multirun or sweeps.makes_sweep(given.overrides)
    with reporting.stderr().status("composing") as status:
        forecasts = sweeps.forecast_line(
            given.overrides, is_sweep, given.config_dir, lambda text: status.update(escape(text))
        )
    hours = sum(forecast.seconds or 0.0 for forecast in forecasts) / 3600
    fails = [forecast for forecast in forecasts if forecast.error is not None]
    if given.json:
        rows = [asdict(forecast) for forecast in forecasts]
        content = {"jobs": rows, "hours": hours, "fails": len(fails)}
        reporting.write_lines(json.dumps(content, indent=2, ensure_ascii=False).splitlines())
        return EXIT_WRONG_INPUT if fails else EXIT_DONE
    console = reporting.stdout()
    console.print(_forecast_table(forecasts, is_sweep))
    ready = len(forecasts) - len(fails)
    console.print(
        f"{ready} of {len(forecasts)} would run: {hours:.2g} hours ({reporting.duration(3600 * hours)}) one "
        "after another, estimated from a few steps of each kind on this machine; early stopping ends some "
        "sooner",
        highlight=False,
        soft_wrap=True,
    )
    for forecast in fails:
        text = f"run {forecast.number} would fail: {forecast.error}"
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    return EXIT_WRONG_INPUT if fails else EXIT_DONE


def _forecast_table(forecasts: Sequence[sweeps.Forecast], is_sweep: bool) -> Table:
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
                reporting.count(row.parameters or 0),
                reporting.count(row.flops),
                reporting.duration(row.epoch_seconds or 0),
                reporting.duration(row.seconds or 0),
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
    parser.add_argument("key", help="e.g. optimizer.learning_rate, model, seed")
    parser.add_argument("overrides", nargs="*", help="as for a run: experiment=…, key=value")
    _takes_options(parser, "a folder with options of your own")
    given = parser.parse_intermixed_args(arguments)
    for line in config.explain(given.key, given.overrides, given.config_dir):
        reporting.stdout().print(line, markup=False, highlight=False, soft_wrap=True)
    return EXIT_DONE


def check_recipe(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Run a preset and say whether this machine reproduces the score that it promises."""
    parser.add_argument("name", help="an experiment, e.g. notes/fashion_cnn (cnnbench list experiment)")
    parser.add_argument("overrides", nargs="*", help="key=value, e.g. seed=3")
    options = parser.parse_args(arguments)
    overrides = [f"experiment={options.name}", *options.overrides]
    composed = config.compose(overrides)
    expected = config.check_config(config.plain_config(composed)).expected
    if expected is None:
        raise CnnbenchError(f"{options.name} promises no score", "see cnnbench list experiment")
    result = train(config.run_spec(composed, composed.hydra.runtime.choices, overrides))
    verdict = analysis.judge_recipe(expected, result.metrics)
    colour = "green" if verdict.reproduced else "red"
    reporting.stdout().print(
        f"[{colour}]{'REPRODUCED' if verdict.reproduced else 'NOT REPRODUCED'}[/] {verdict.sentence}"
    )
    return EXIT_DONE if verdict.reproduced else EXIT_FAILED


# -- Verbs of one run ------------------------------------------------------------------------------


def verify_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Evaluate best.keras of a run again and compare with the recorded figures: PASS or FAIL."""
    _takes_a_run(parser)
    _takes_places(parser)
    given = parser.parse_intermixed_args(arguments)
    folder = runs.RunFolder.open(given.run)
    spec = inference.stored_spec(
        folder, given.trust_plugins, lambda own: inference.with_places(own, given.places), verb="verify"
    )
    verdict = inference.verify(folder, spec)
    console = reporting.stdout()
    console.print(differences_table(verdict.rows))
    for line in (*verdict.notes, *verdict.complaints):
        console.print(line, markup=False)
    console.print("[green]PASS[/]" if verdict.passed else "[red]FAIL[/]")
    return EXIT_DONE if verdict.passed else EXIT_FAILED


def replay_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Repeat the step in which the loss of a run turned NaN or infinite, and show every tensor of it."""
    _takes_a_run(parser)
    given = parser.parse_args(arguments)
    folder = runs.RunFolder.open(given.run)
    model_file, x, y = folder.bad_step.read()
    spec = inference.stored_spec(folder, given.trust_plugins)
    system.import_tensorflow(spec.plugins)

    training.prepare_machine(spec.seed, spec.deterministic, "auto", spec.training.precision)
    diagnosis = training.examine(nn.load_checkpoint(model_file), x, y)
    reporting.stdout().print(diagnosis_table(diagnosis))
    reporting.stdout().print(
        f"{diagnosis.sentence}\nWhat to do: {diagnosis.advice}", markup=False, highlight=False
    )
    return EXIT_DONE


def evaluate_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Measure the best checkpoint of a run on a split of its data set, or of another."""
    _takes_a_run(parser)
    parser.add_argument("overrides", nargs="*", help="dataset=… dataset.key=…; default: the run's data set")
    parser.add_argument("--split", choices=inference.SPLITS, default="test")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    _takes_options(parser, "a folder with options of your own, as the run had it")
    given = parser.parse_intermixed_args(arguments)
    folder = _finished(given.run)

    def changed(own: dict[str, Any]) -> dict[str, Any]:
        if not inference.chooses_dataset(given.overrides):
            typed = inference.with_keys(own, config.typed_values(given.overrides))
            return runs.with_absolute_places(typed) if given.overrides else typed
        place = own.get("data_dir")
        recorded = [f"data_dir={config.quoted(str(place))}"] if place is not None else []
        other = config.plain_config(config.compose([*recorded, *given.overrides], given.config_dir))
        return inference.with_dataset(own, other, folder.metrics["task"])

    spec = inference.stored_spec(folder, given.trust_plugins, changed, verb="evaluate")
    is_other = inference.chooses_dataset(given.overrides)
    own_data: Literal["must", "may", "no"] = "no" if is_other else "may" if given.overrides else "must"
    evaluation = inference.evaluate_checkpoint(folder, spec, given.split, own_data)
    if given.json:
        reporting.write_lines([json.dumps(inference.evaluation_as_json(evaluation), ensure_ascii=False)])
        return EXIT_DONE
    reporting.stdout().print(inference.evaluation_table(evaluation))
    for note in evaluation.notes:
        reporting.stderr().print(note, markup=False, style="yellow")
    return EXIT_DONE


def predict_files(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Classes and probabilities, or values, for pictures, arrays and tables of numbers."""
    _takes_a_run(parser)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="pictures, folders of pictures, .npy, .npz, .csv; - reads paths from standard input",
    )
    parser.add_argument("--top", type=_positive, default=3, help="how many classes to show (default: 3)")
    parser.add_argument(
        "--max-pixels", type=_positive, help="of a picture that is decoded (default: the run's)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line for each input")
    given = parser.parse_intermixed_args(arguments)
    folder = _finished(given.run)
    recorded = folder.metrics
    names = recorded["class_names"]
    shape = recorded["input_shape"]
    spec = inference.stored_spec(folder, given.trust_plugins)
    dataset = {**spec.config["dataset"], **({"max_pixels": given.max_pixels} if given.max_pixels else {})}
    source = inference.items(given.files, sys.stdin, shape, inference.picture_reader(shape, dataset))
    model = inference.load_model(folder, spec)
    lines = inference.Lines(names, given.top)
    answered = failed = 0
    for predictions in inference.predict(
        model, recorded["task"], names, inference.batches(source, inference.BATCH)
    ):
        if not reporting.write_lines(
            map(inference.json_line, predictions) if given.json else lines.of(predictions)
        ):
            return EXIT_DONE
        errors = [f"{one.path}: {one.error}" for one in predictions if one.error is not None]
        for error in () if given.json else errors:
            reporting.stderr().print(error, markup=False, emoji=False, style="red")
        failed += len(errors)
        answered += len(predictions) - len(errors)
    if not answered and not failed:
        raise CnnbenchError(f"no inputs in {' '.join(given.files)}", "pictures, .npy, .npz or .csv")
    return EXIT_FAILED if failed else EXIT_DONE


def export_model(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Write the best checkpoint of a run in another format, and check that it computes the same."""
    _takes_a_run(parser)
    parser.add_argument("--format", choices=list(inference.SUFFIXES), required=True)
    parser.add_argument("--output", type=_path, help="file, or folder for it (default: exports/ in the run)")
    parser.add_argument("--quantize", choices=inference.QUANTIZE, default="none", help="for tflite")
    given = parser.parse_args(arguments)
    folder = _finished(given.run)
    spec = inference.stored_spec(folder, given.trust_plugins)
    result = inference.export_run(folder, spec, given.format, given.output, given.quantize)
    for line in inference.summary(result):
        reporting.stdout().print(line, markup=False, highlight=False, soft_wrap=True)
    reporting.stdout().print("[green]PASS[/]" if result.passed else "[red]FAIL[/]: kept, for you to judge")
    return EXIT_DONE if result.passed else EXIT_FAILED


def visualize_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Pictures of what the model sees: its filters, feature maps and class-activation maps."""
    _takes_a_run(parser)
    parser.add_argument("files", nargs="*", metavar="FILE", help="pictures; default: from the test split")
    parser.add_argument("--layer", help="only this layer, e.g. conv_2")
    parser.add_argument("--examples", type=_positive, default=12, help="for class-activation maps (12)")
    parser.add_argument("--output", type=_path, help="folder for the pictures (default: figures/ in the run)")
    given = parser.parse_intermixed_args(arguments)
    folder = _finished(given.run)
    spec = inference.stored_spec(folder, given.trust_plugins)
    for text in inference.visualize(folder, spec, given.files, given.layer, given.examples, given.output):
        reporting.stdout().print(text, markup=False, highlight=False, soft_wrap=True)
    return EXIT_DONE


def _takes_a_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=_path, help="a run folder")
    parser.add_argument(
        "--trust-plugins",
        action="store_true",
        help="run its code, and write where it says",
    )


def _takes_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "places", nargs="*", metavar="KEY=PLACE", help="where data lie now, e.g. dataset.root=FOLDER"
    )


def _finished(path: Path) -> runs.RunFolder:
    folder = runs.RunFolder.open(path)
    inference.require_finished(folder)
    return folder


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


# -- Verbs of many runs ----------------------------------------------------------------------------


def compare_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Rank runs: mean ± deviation over seeds, which differences are real, and what they cost."""
    parser.add_argument(
        "places", nargs="*", type=_path, default=[Path("outputs")], help="run or sweep folders"
    )
    parser.add_argument("--filter", action="append", default=[], metavar="KEY=VALUE[,VALUE…]")
    parser.add_argument(
        "--sort", metavar="KEY", help="objective, test metric (test_f1_macro), cost, config key"
    )
    parser.add_argument(
        "--cost",
        choices=[name for name in analysis.COSTS if name != "examples_per_second"],
        default="seconds",
        help="for the front of quality against cost (default: seconds of training)",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=reporting.MOST_ROWS,
        help=f"groups to show (default: {reporting.MOST_ROWS})",
    )
    parser.add_argument("--csv", metavar="FILE", help="one row per group; - is standard output")
    parser.add_argument("--json", metavar="FILE", help="everything, with each run; - is standard output")
    parser.add_argument("--html", type=_path, metavar="FILE", help="as a page")
    given = parser.parse_intermixed_args(arguments)
    records = analysis.select_records(
        analysis.read_records(_some(runs.find_runs(given.places))), given.filter
    )
    if all(record.status == runs.UNREADABLE for record in records):
        raise CnnbenchError(records[0].reason, f"none of the runs can be read ({len(records)})")
    comparison = analysis.compare_records(records, given.cost)
    if given.sort:
        comparison = analysis.order_groups(comparison, given.sort)
    written = {
        "csv": (given.csv, reporting.comparison_as_csv),
        "json": (given.json, lambda found: _as_text(reporting.comparison_as_json(found))),
    }
    for place, text in written.values():
        if place == "-":
            reporting.write_lines(text(comparison).splitlines())
        elif place:
            system.write_text(Path(place), text(comparison))
    if given.html is not None:
        _write_comparison(comparison, given.places, given.html, named=True)
    if "-" not in (given.csv, given.json):
        reporting.show_comparison(comparison, given.top)
    return EXIT_DONE


def _as_text(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def diff_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """What differs between two runs: config, figures, environment, and the test examples that flipped."""
    parser.add_argument("first", type=_path, help="a run folder")
    parser.add_argument("second", type=_path, help="another")
    parser.add_argument("--json", action="store_true", help="everything, for other programs")
    given = parser.parse_args(arguments)
    found = analysis.difference(runs.RunFolder.open(given.first), runs.RunFolder.open(given.second))
    if given.json:
        reporting.write_lines(_as_text(reporting.difference_as_json(found)).splitlines())
        return EXIT_DONE
    for table in reporting.difference_tables(found):
        reporting.stdout().print(table)
    for line in reporting.difference_sentences(found):
        reporting.stdout().print(line, markup=False, highlight=False, soft_wrap=True)
    return EXIT_DONE


def report_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Write one HTML page: of a run, or of all runs below a folder."""
    parser.add_argument("place", type=_path, help="a run folder, or a folder with runs below it")
    parser.add_argument("--output", type=_path, metavar="FILE", help=f"default: {runs.REPORT} in that folder")
    given = parser.parse_args(arguments)
    output, named = given.output or given.place / runs.REPORT, given.output is not None
    system.remove_abandoned(given.place)
    folder = runs.RunFolder(given.place)
    if not folder.has_run:
        found = analysis.compare(_some(runs.find_runs([given.place])))
        _write_comparison(found, [given.place], output, named)
        return EXIT_DONE
    if folder.status != runs.DONE:
        raise CnnbenchError(f"{folder.path} has no finished run ({folder.status}: {folder.reason})")
    config.refuse_links(folder.path)
    _write_page(reporting.run_page(folder, folder.metrics), output, named)
    return EXIT_DONE


def _some(found: list[runs.RunFolder]) -> list[runs.RunFolder]:
    if not found:
        raise CnnbenchError("there are no runs", "give a folder with runs, or make one: cnnbench")
    return found


def _write_comparison(
    comparison: analysis.Comparison, places: Sequence[Path], output: Path, named: bool
) -> None:
    command = None
    if len(places) == 1 and sweeps.Sweep.is_one(places[0]):
        command = shlex.join(["cnnbench", "-m", *sweeps.Sweep.open(places[0]).overrides])
    title = ", ".join(place.resolve().name for place in places)
    _write_page(reporting.comparison_page(comparison, title, output.parent, command), output, named)


def _write_page(page: str, output: Path, named: bool) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if named:
            system.write_text(output, page)
        else:  # a link in a folder from elsewhere is replaced, not followed
            with system.atomic(output) as file:
                file.write(page)
    except OSError as error:
        raise system.unwritable(output, error) from error
    reporting.stdout().print(f"page: {output}", markup=False, highlight=False, soft_wrap=True)


def resume(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Go on with a run or a sweep that was interrupted, failed or killed, to the result it would have had."""
    parser.add_argument("place", type=_path, help="the folder of a run or of a sweep")
    _takes_places(parser)
    parser.add_argument("--trust-plugins", action="store_true", help="run the code that it names")
    parser.add_argument(
        "--with-changes", action="store_true", help="go on with a run whose config, data or plugins changed"
    )
    given = parser.parse_intermixed_args(arguments)
    place, trusted = given.place, given.trust_plugins
    if sweeps.Sweep.is_one(place):
        if given.places or given.with_changes:
            raise CnnbenchError(
                "other places and --with-changes are for one run, and this is a sweep",
                f"cnnbench resume {place}/RUN …; then the sweep",
            )
        return sweeps.resume_sweep(sweeps.Sweep.open(place.resolve()), trusted)
    return _resume_run(place, trusted, given.places, given.with_changes)


def _resume_run(place: Path, trusted: bool, places: Sequence[str], with_changes: bool) -> int:
    folder = runs.RunFolder.open(place)
    if folder.status == runs.DONE:
        reporting.stdout().print(f"{place} is done already", markup=False, highlight=False)
        return EXIT_DONE
    if folder.status == runs.RUNNING:
        raise CnnbenchError(f"another process is at work in {place}", "wait for it, or stop it first")
    spec = inference.stored_spec(
        folder, trusted, lambda own: inference.with_places(own, places), verb="resume"
    )
    if places:
        config.remember(spec.config)
    if folder.status == runs.UNFINISHED:
        reporting.stderr().print(folder.last_words, markup=False, style="yellow")
    with reporting.resumable(place):
        train(spec, resume=True, with_changes=with_changes)
    return EXIT_DONE


# -- The table -------------------------------------------------------------------------------------

VERBS: dict[str, Callable[[argparse.ArgumentParser, Sequence[str]], int]] = {
    "list": list_options,
    "explain": explain_key,
    "check": check,
    "resume": resume,
    "compare": compare_runs,
    "report": report_runs,
    "diff": diff_runs,
    "verify": verify_run,
    "evaluate": evaluate_run,
    "predict": predict_files,
    "export": export_model,
    "visualize": visualize_run,
    "replay": replay_run,
    "check-recipe": check_recipe,
}
