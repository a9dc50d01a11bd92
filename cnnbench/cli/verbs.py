"""The verbs: each adds its arguments to a parser, does its work by the API and answers.

Heavy imports stay inside: `cnnbench list` must not wait for TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.markup import escape

from cnnbench import analysis, api, config, inference, models, reporting, runs, sweeps, system, training
from cnnbench.cli.completion import answer_shell
from cnnbench.cli.console import (
    SweepTerminal,
    backbones,
    backbones_table,
    diagnosis_table,
    differences_table,
    finished_content,
    forecast_table,
    gpu_lines,
    options_text,
    probe_lines,
    probe_table,
    rest_of_backbones,
    run_content,
    show_next,
    sweep_content,
    train,
)
from cnnbench.cli.contract import Answer, Rows
from cnnbench.cli.doctor import examine_data
from cnnbench.cli.housekeeping import clean, list_runs, note_run, tag_run
from cnnbench.cli.range_test import find_learning_rate
from cnnbench.cli.typed import made_place, positive, run_place
from cnnbench.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NO,
    EXIT_WRONG_INPUT,
    CnnbenchError,
    nearest,
)

if TYPE_CHECKING:
    from cnnbench.cli.answers import (
        Checked,
        Drawn,
        Explained,
        FinishedRun,
        Groups,
        Lines,
        ListedBackbones,
        OptionKeys,
        Recipe,
        Replayed,
        Reported,
        RunContent,
        SchemaDocument,
        SchemaNames,
        SweepContent,
        Verified,
    )

# One answer, or rows that are written as they come.
Verb = Callable[[argparse.ArgumentParser, Sequence[str]], Answer[Any] | Rows[Any]]


def _takes_options(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--config-dir", metavar="DIR", type=config_folder, help=text)


def config_folder(text: str) -> str:
    """Return what `--config-dir` is given, with the home for a `~` at its beginning."""
    return str(_path(text))


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _say(*lines: str) -> None:
    reporting.say(reporting.stdout(), *lines)


# -- Before a run ----------------------------------------------------------------------------------


def list_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Groups | OptionKeys]:
    """List every option of every config group, or of one; of one option every key."""
    parser.add_argument("group", nargs="?", help="model, dataset, optimizer, …; or model=cnn for its keys")
    group = parser.parse_args(arguments).group
    if group is not None and "=" in group:
        lines = list(config.keywords(group))
        _say(*lines)
        return Answer({"option": group, "lines": lines})
    found = config.options()
    if group is not None and group not in found:
        raise CnnbenchError(f"there is no group {group!r}", nearest(group, found))
    shown = found if group is None else {group: found[group]}
    reporting.stdout().print(options_text(shown), soft_wrap=True)
    return Answer({"groups": shown})


def list_backbones(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[ListedBackbones]:
    """List pretrained backbones: which are here, how good and how large they are, how to get the rest."""
    parser.add_argument("name", nargs="?", help="of one: which file it is, and where that belongs")
    name = parser.parse_args(arguments).name
    found = backbones(name)
    here = [row for row in found if row["path"] is not None]
    if name is not None or here:
        reporting.stdout().print(backbones_table(here if name is None else found))
    _say(*(f"{row['name']}: {row['path']}" for row in here))
    if name is not None:
        _say(*(f"{row['name']} is not here: {row['how']}" for row in found if row["path"] is None))
    else:
        rest = [row for row in found if row["path"] is None]
        _say(*rest_of_backbones(rest))
        reporting.stdout().print(backbones_table(rest))
        _say("the file of one of them, and its place: cnnbench backbones NAME")
    return Answer({"backbones": found, "folders": [str(folder) for folder in models.catalogue.folders()]})


def check(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Checked]:
    """Check everything about a run or a sweep short of training it: what would fail, hours and memory."""
    parser.add_argument("overrides", nargs="*", help="as for the run itself")
    parser.add_argument("-m", "--multirun", action="store_true", help="as for the run itself")
    _takes_options(parser, "add a folder with options of your own")
    given = parser.parse_intermixed_args(arguments)
    is_sweep = given.multirun or sweeps.makes_sweep(given.overrides)
    with reporting.stderr().status("composing") as status:
        forecasts = sweeps.forecast_line(
            given.overrides, is_sweep, given.config_dir, lambda text: status.update(escape(text))
        )
    hours = sum(forecast.seconds or 0.0 for forecast in forecasts) / 3600
    fails = [forecast for forecast in forecasts if forecast.error is not None]
    reporting.stdout().print(forecast_table(forecasts, is_sweep))
    _say(
        f"{len(forecasts) - len(fails)} of {len(forecasts)} would run: {hours:.2g} hours "
        f"({reporting.duration(3600 * hours)}) one after another, estimated from a few steps of each kind on "
        "this machine; early stopping ends some sooner"
    )
    for line in gpu_lines(forecasts):
        _say(line)
    lines = (f"run {forecast.number} would fail: {forecast.error}" for forecast in fails)
    reporting.say(reporting.stdout(), *lines, style="red")
    content: Checked = {"jobs": forecasts, "hours": hours, "fails": len(fails)}
    return Answer(content, EXIT_WRONG_INPUT if fails else EXIT_DONE)


def probe_backbones(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[sweeps.Probe]:
    """Rank the backbones that are here on your pictures, and say what more pictures would bring."""
    parser.description = (
        f"{probe_backbones.__doc__} Each is judged by a cross-validated linear model of its features on the "
        "training split; the test split stays unseen. backbones=[A,B] ranks only these, examples=N uses at "
        f"most so many pictures (default: {sweeps.PICTURES:,})."
    )
    parser.add_argument("overrides", nargs="*", help="a folder of pictures, or as for a run: dataset=…")
    _takes_options(parser, "add a folder with options of your own")
    given = parser.parse_intermixed_args(arguments)
    own: dict[str, str | None] = {"backbones": None, "examples": str(sweeps.PICTURES)}
    line = []
    for text in given.overrides:
        key, _, value = text.partition("=")
        if key in own:
            own[key] = value
        else:
            line.append(text)
    named, examples = own["backbones"], str(own["examples"])
    names = None
    if named is not None:
        names = [name.strip() for name in named.strip("[]()").split(",") if name.strip()]
    if not examples.isdecimal() or int(examples) < 1:
        raise CnnbenchError(f"examples={examples} is not a number from 1 on", "examples=1000")
    with reporting.stderr().status("composing") as status:
        found = api.probe(
            *line,
            backbones=names,
            examples=int(examples),
            config_dir=given.config_dir,
            tell=lambda text: status.update(escape(text)),
        )
    reporting.say(reporting.stderr(), *(f"note: {note}" for note in found.notes), style="yellow")
    reporting.stdout().print(probe_table(found))
    _say(*probe_lines(found))
    return Answer(found)


def explain_key(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Explained]:
    """Show the value of a config key, the file and line or override that set it, and what that replaced."""
    parser.add_argument("key", help="e.g. optimizer.learning_rate, model, seed")
    parser.add_argument("overrides", nargs="*", help="as for a run: experiment=…, key=value")
    _takes_options(parser, "a folder with options of your own")
    given = parser.parse_intermixed_args(arguments)
    lines = list(config.explain(given.key, given.overrides, given.config_dir))
    _say(*lines)
    return Answer({"key": given.key, "lines": lines})


def check_recipe(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Recipe]:
    """Run a preset and say whether this machine reproduces the score that it promises."""
    parser.add_argument("name", help="an experiment, e.g. notes/fashion_cnn (cnnbench list experiment)")
    parser.add_argument("overrides", nargs="*", help="key=value, e.g. seed=3")
    options = parser.parse_args(arguments)
    spec = api.compose(f"experiment={options.name}", *options.overrides)
    expected = config.check_config(spec.config).expected
    if expected is None:
        raise CnnbenchError(f"{options.name} promises no score", "see cnnbench list experiment")
    run = train(api.placed(spec))
    verdict = analysis.judge_recipe(expected, run.result)
    colour = "green" if verdict.reproduced else "red"
    reporting.stdout().print(
        f"[{colour}]{'REPRODUCED' if verdict.reproduced else 'NOT REPRODUCED'}[/] {verdict.sentence}"
    )
    content: Recipe = {
        **finished_content(run),
        "reproduced": verdict.reproduced,
        "sentence": verdict.sentence,
    }
    return Answer(content, EXIT_DONE if verdict.reproduced else EXIT_NO)


# -- Verbs of one run ------------------------------------------------------------------------------


def _takes_a_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=run_place, help="a run: its folder, a file in it, its name, or latest")
    _takes_trust(parser)


def _takes_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust-plugins", action="store_true", help="run its code, and write where it says")


def _takes_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "places", nargs="*", metavar="KEY=PLACE", help="where data lie now, e.g. dataset.root=FOLDER"
    )


def _open(given: argparse.Namespace) -> api.Run:
    return api.open_run(given.run, given.trust_plugins)


def verify_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Verified]:
    """Evaluate best.keras of a run again and compare with the recorded figures: PASS or FAIL."""
    _takes_a_run(parser)
    _takes_places(parser)
    given = parser.parse_intermixed_args(arguments)
    verdict = _open(given).verify(*given.places)
    console = reporting.stdout()
    console.print(differences_table(verdict.rows, verdict.positive))
    for line in (*verdict.notes, *verdict.complaints):
        console.print(line, markup=False)
    console.print("[green]PASS[/]" if verdict.passed else "[red]FAIL[/]")
    content: Verified = {
        "run": str(given.run),
        "passed": verdict.passed,
        "figures": [
            {"metric": metric, "recorded": recorded, "measured": measured, "agrees": agrees}
            for metric, recorded, measured, agrees in verdict.rows
        ],
        "notes": verdict.notes,
        "complaints": verdict.complaints,
    }
    return Answer(content, EXIT_DONE if verdict.passed else EXIT_NO)


def replay_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Replayed]:
    """Repeat the step in which the loss of a run turned NaN or infinite, and show every tensor of it."""
    _takes_a_run(parser)
    given = parser.parse_args(arguments)
    folder = runs.RunFolder.open(given.run)
    model_file, x, y = folder.bad_step.read()
    spec = inference.stored_spec(folder, given.trust_plugins)
    system.import_tensorflow(spec.plugins)
    from cnnbench.nn import load_checkpoint

    training.prepare_machine(spec.seed, spec.deterministic, "auto", spec.training.precision)
    diagnosis = training.examine(load_checkpoint(model_file), x, y)
    reporting.stdout().print(diagnosis_table(diagnosis))
    _say(diagnosis.sentence, f"What to do: {diagnosis.advice}")
    return Answer(cast("Replayed", {"run": str(given.run), **diagnosis.as_dict()}))


def evaluate_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[inference.Evaluation]:
    """Measure the best checkpoint of a run on a split of its data set, or of another."""
    _takes_a_run(parser)
    parser.add_argument(
        "overrides",
        nargs="*",
        help="dataset=… dataset.key=…; default: the run's data set; corruption=all or gaussian_noise,fog,… "
        "severity=1..5: how much corrupted pictures cost",
    )
    parser.add_argument("--split", choices=inference.SPLITS, default="test")
    _takes_options(parser, "a folder with options of your own, as the run had it")
    given = parser.parse_intermixed_args(arguments)
    with reporting.counted(reporting.stderr(), "corruptions") as told:
        found = _open(given).evaluate(
            *given.overrides, split=given.split, config_dir=given.config_dir, told=told
        )
    reporting.stdout().print(inference.evaluation_table(found))
    if found.by_output:
        reporting.stdout().print(reporting.output_table(found.by_output, f"each on the {found.split} split"))
    if found.calibration:
        reporting.say(reporting.stdout(), *reporting.calibration_in_words(found.calibration))
    if found.robustness:
        reporting.stdout().print(inference.robustness_table(found.robustness))
    if found.sets:
        reporting.say(reporting.stdout(), *reporting.sets_in_words(found.sets))
    for note in found.notes:
        reporting.stderr().print(note, markup=False, style="yellow")
    return Answer(found)


def predict_files(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Rows[inference.PredictionRow]:
    """Name classes or labels and probabilities, or values, for pictures, arrays and tables of numbers."""
    _takes_a_run(parser)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="pictures, folders of pictures, .npy, .npz, .csv; - reads paths from standard input",
    )
    parser.add_argument("--top", type=positive, default=3, help="how many classes to show (default: 3)")
    parser.add_argument(
        "--max-pixels", type=positive, help="of a picture that is decoded (default: the run's)"
    )
    parser.add_argument(
        "--output", type=_path, metavar="FILE.csv", help="write a table: its rows, with the prediction added"
    )
    given = parser.parse_intermixed_args(arguments)
    if given.output is not None:
        inference.check_output(given.output, given.files)
    run = _open(given).finished()
    decision = run.files.decision
    lines = inference.Lines(decision.task, decision.names, given.top, bool(decision.conformal))
    answered = failed = 0
    kept: list[inference.PredictionRow] = []
    for predictions in run.predictions(given.files, sys.stdin, given.max_pixels):
        if not reporting.stdout().quiet and not reporting.write_lines(lines.of(predictions)):
            return EXIT_DONE  # nobody reads on
        rows = [inference.prediction_as_json(one) for one in predictions]
        yield from rows
        kept += rows if given.output is not None else []
        errors = [f"{one.path}: {one.error}" for one in predictions if one.error is not None]
        for error in errors:
            reporting.stderr().print(error, markup=False, emoji=False, style="red")
        failed += len(errors)
        answered += len(predictions) - len(errors)
    if given.output is not None and kept:
        inference.write_predictions(given.output, given.files, kept, run.config["dataset"].get("target"))
        _say(f"written: {given.output}")
    if not answered and not failed:
        raise CnnbenchError(f"no inputs in {' '.join(given.files)}", "pictures, .npy, .npz or .csv")
    return EXIT_FAILED if failed else EXIT_DONE


def export_model(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[inference.Export]:
    """Write the best checkpoint in another format, measure it, and check that it computes the same."""
    _takes_a_run(parser)
    parser.add_argument("--format", choices=list(inference.SUFFIXES), required=True)
    parser.add_argument("--output", type=_path, help="file, or folder for it (default: exports/ in the run)")
    parser.add_argument(
        "--quantize", choices=inference.QUANTIZE, default="none", help="for tflite and openvino"
    )
    parser.add_argument(
        "--examples",
        type=positive,
        default=inference.EXAMPLES,
        help=f"of the test split to compute, at most ({inference.EXAMPLES})",
    )
    given = parser.parse_args(arguments)
    result = _open(given).export(given.format, given.output, given.quantize, given.examples)
    _say(*inference.summary(result))
    reporting.stdout().print("[green]PASS[/]" if result.passed else "[red]FAIL[/]: kept, for you to judge")
    return Answer(result, EXIT_DONE if result.passed else EXIT_NO)


def visualize_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Drawn]:
    """Draw what the model sees: its filters, feature maps and class-activation maps."""
    _takes_a_run(parser)
    parser.add_argument("files", nargs="*", metavar="FILE", help="pictures; default: from the test split")
    parser.add_argument("--layer", help="only this layer, e.g. conv_2")
    parser.add_argument("--examples", type=positive, default=12, help="for class-activation maps (12)")
    parser.add_argument("--output", type=_path, help="folder for the pictures (default: figures/ in the run)")
    given = parser.parse_intermixed_args(arguments)
    lines = _open(given).visualize(given.files, given.layer, given.examples, given.output)
    _say(*lines)
    return Answer({"run": str(given.run), "lines": lines})


# -- Verbs of many runs ----------------------------------------------------------------------------


def make_ensemble(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[FinishedRun]:
    """Make one model of several finished runs, the mean of their outputs, and measure it beside them."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", type=made_place, help="runs, or a sweep: its folder, or its name"
    )
    parser.add_argument(
        "--output", type=_path, metavar="DIR", help="folder of the ensemble (default: a new one in outputs/)"
    )
    _takes_trust(parser)
    given = parser.parse_intermixed_args(arguments)
    run = train(api.placed(api.compose_ensemble(given.runs, given.output, given.trust_plugins)))
    show_next(run)
    return Answer(finished_content(run))


def compare_runs(
    parser: argparse.ArgumentParser, arguments: Sequence[str]
) -> Answer[analysis.ComparisonContent]:
    """Rank runs: mean ± deviation over seeds, which differences are real, and what they cost."""
    if any(re.fullmatch(r"(--)?objective(=.*)?", text) for text in arguments):
        raise CnnbenchError(
            "compare takes no objective: it is fixed when runs are made, by objective=… in their line",
            "cnnbench compare … --sort test_accuracy orders the rows by another figure",
        )
    parser.description = (
        f"{compare_runs.__doc__} Ranked and tested is the objective of the runs, which is fixed when "
        "they are made: objective=val_f1_macro in their line, by default val_accuracy, val_rmse of a "
        "regression, val_mean_average_precision of several labels."
    )
    parser.add_argument(
        "places", nargs="*", type=made_place, default=[Path("outputs")], help="run or sweep folders"
    )
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE[,VALUE…]",
        help="only runs whose config has one of these values: model=cnn,mlp; several filters must all hold",
    )
    parser.add_argument(
        "--sort",
        metavar="KEY",
        help="order the rows by another column: test_f1_macro, seconds, parameters, a config key; rank, "
        "tests and p stay those of the objective",
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
    parser.add_argument(
        "--classes", action="store_true", help="show the F1 of each class on the test split, too"
    )
    parser.add_argument("--csv", metavar="FILE", help="one row per group; - is standard output")
    parser.add_argument("--html", type=_path, metavar="FILE", help="as a page")
    given = parser.parse_intermixed_args(arguments)
    found = api.compare(given.places, where=given.filter, sort=given.sort, cost=given.cost)
    if given.csv == "-":
        reporting.write_lines(reporting.comparison_as_csv(found.analysis).splitlines())
    elif given.csv:
        system.write_text(_path(given.csv), reporting.comparison_as_csv(found.analysis))
    if given.html is not None:
        _write_comparison(found, given.html, named=True)
    if given.csv != "-":
        reporting.show_comparison(found.analysis, given.top, given.classes)
    return Answer(reporting.comparison_as_json(found.analysis))


def diff_runs(
    parser: argparse.ArgumentParser, arguments: Sequence[str]
) -> Answer[analysis.DifferenceContent]:
    """Find what differs between two runs: config, figures, environment, test examples that flipped."""
    parser.add_argument("first", type=run_place, help="a run: its folder, its name, or latest")
    parser.add_argument("second", type=run_place, help="another")
    given = parser.parse_args(arguments)
    found = api.diff(given.first, given.second)
    for table in reporting.difference_tables(found):
        reporting.stdout().print(table)
    _say(*reporting.difference_sentences(found))
    return Answer(reporting.difference_as_json(found))


def report_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Reported]:
    """Write one HTML page: of a run, or of all runs below a folder."""
    parser.add_argument("place", type=made_place, help="a run folder, or a folder with runs below it")
    parser.add_argument("--output", type=_path, metavar="FILE", help=f"default: {runs.REPORT} in that folder")
    given = parser.parse_args(arguments)
    output, named = given.output or given.place / runs.REPORT, given.output is not None
    system.remove_abandoned(given.place)
    if runs.RunFolder(given.place).has_run:
        run = api.open_run(given.place)
        config.refuse_links(run.folder)
        _write_page(run.page(), output, named)
    else:
        _write_comparison(api.compare(given.place), output, named)
    return Answer({"page": str(output)})


def _write_comparison(comparison: api.Comparison, output: Path, named: bool) -> None:
    command = None
    if len(comparison.places) == 1 and sweeps.Sweep.is_one(comparison.places[0]):
        command = shlex.join(["cnnbench", "-m", *sweeps.Sweep.open(comparison.places[0]).overrides])
    _write_page(comparison.page(output.parent, command), output, named)


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
    _say(f"page: {output}")


def resume(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[RunContent | SweepContent]:
    """Go on with a run or a sweep that was interrupted, failed or killed, to the result it would have had."""
    parser.add_argument(
        "run", metavar="place", type=made_place, help="a run or a sweep: its folder, its name, or latest"
    )
    _takes_places(parser)
    _takes_trust(parser)
    parser.add_argument(
        "--with-changes", action="store_true", help="go on with a run whose config, data or plugins changed"
    )
    given = parser.parse_intermixed_args(arguments)
    if not sweeps.Sweep.is_one(given.run):
        return Answer(run_content(_resume_run(given)))
    if given.places or given.with_changes:
        raise CnnbenchError(
            "other places and --with-changes are for one run, and this is a sweep",
            f"cnnbench resume {given.run}/RUN …; then the sweep",
        )
    with closing(SweepTerminal()) as terminal:
        sweep = sweeps.resume_sweep(sweeps.Sweep.open(given.run), given.trust_plugins, terminal)
        terminal.finished(sweep)
    return Answer(sweep_content(sweep), sweep.exit_code)


def _resume_run(given: argparse.Namespace) -> api.Run:
    run = _open(given)
    if run.status == runs.DONE:
        _say(f"{given.run} is done already")
        return run
    spec = run.spec_to_resume(*given.places)
    if run.status == runs.UNFINISHED:
        reporting.stderr().print(run.files.last_words, markup=False, style="yellow")
    with reporting.resumable(given.run):
        return train(spec, resume=True, with_changes=given.with_changes)


def complete(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Lines]:
    """Print a script that lets a shell complete verbs, groups, options, keys and run folders."""
    return answer_shell(parser, arguments, VERBS)


def print_schema(
    parser: argparse.ArgumentParser, arguments: Sequence[str]
) -> Answer[SchemaNames | SchemaDocument]:
    """Print the JSON Schema of what --json answers, or of metrics.json; without a name, which there are."""
    parser.add_argument("name", nargs="?", help="a verb, run, sweep, config, help, version, metrics.json")
    name = parser.parse_args(arguments).name
    from cnnbench.cli import schemas

    if name is None:
        names = schemas.names(VERBS)
        _say(*names)
        return Answer({"names": names})
    document = schemas.document(name, VERBS)
    if not reporting.stdout().quiet:
        reporting.write_lines(json.dumps(document, indent=2, ensure_ascii=False).splitlines())
    return Answer({"name": name, "document": document})


# -- The table -------------------------------------------------------------------------------------

VERBS: dict[str, Verb] = {
    "list": list_options,
    "backbones": list_backbones,
    "explain": explain_key,
    "check": check,
    "lr-find": find_learning_rate,
    "doctor": examine_data,
    "probe": probe_backbones,
    "resume": resume,
    "ensemble": make_ensemble,
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
    "runs": list_runs,
    "tag": tag_run,
    "note": note_run,
    "clean": clean,
    "completion": complete,
    "schema": print_schema,
}
