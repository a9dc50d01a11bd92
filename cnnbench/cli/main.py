"""The entry point: a verb, or else a line that makes runs. Only here is printed and exited."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench import __version__, api, config, reporting, runs, sweeps
from cnnbench.cli import rerun
from cnnbench.cli.console import (
    SweepTerminal,
    help_text,
    hydra_help_text,
    run_content,
    show_next,
    show_run,
    sweep_content,
    train,
)
from cnnbench.cli.contract import Answer, HelpAsked, Meaning, Output, Parser, meaning, read_output
from cnnbench.cli.typed import UnclearRunError, reading, understood
from cnnbench.cli.verbs import VERBS, config_folder
from cnnbench.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_WRONG_INPUT,
    CnnbenchError,
    PrunedRunError,
    first_line,
)
from cnnbench.reporting import explain, is_lost, resumable, stderr, stdout, unfailing_streams, write_lines

if TYPE_CHECKING:
    from cnnbench import analysis
    from cnnbench.cli.answers import Composed, Overview, RunContent, Versions

CHILDREN = (["launch"], ["rehearse"])  # how a sweep and a check start their processes
MAKE_RUNS = ("run", "resume", "ensemble", "check-recipe")  # what a failure of theirs is written down for
WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"


def main() -> int:
    """Run what the command line asks for.

    Returns:
        The exit code; `cli.contract` says what each means.
    """
    with unfailing_streams() as printed:
        if sys.argv[1:2] in CHILDREN:
            return _guarded(sys.argv[1], Output(), lambda: _serve(*sys.argv[1:3]))
        try:
            output, arguments = read_output(sys.argv[1:])
        except CnnbenchError as error:
            explain(error)
            return EXIT_WRONG_INPUT
        name = arguments[0] if arguments and arguments[0] in VERBS else "run"
        with reporting.output_as(output.is_silent, output.verbose):
            code = _guarded(name, output, lambda: _answer(arguments, output))
        # Of a run the result lies in its folder; of most verbs it is what is printed.
        is_told = output.json is not None or name not in MAKE_RUNS
        return EXIT_FAILED if is_lost(printed) and is_told and code == EXIT_DONE else code


def _guarded(name: str, output: Output, answer: Callable[[], int]) -> int:
    """Do what is asked, and turn what goes wrong into a line and an exit code."""
    try:
        return answer()
    except CnnbenchError as error:
        if WANTS_TRACEBACK:
            raise
        explain(error)
        told, code = {"error": error.message, "hint": error.hint}, EXIT_WRONG_INPUT
    except KeyboardInterrupt as error:
        if [name] not in CHILDREN:  # whoever launched it says so
            stderr().print("interrupted", style="yellow")
        told, code = {"error": "interrupted"}, 128 + getattr(error, "number", signal.SIGINT)
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        stderr().print(f"failed: {first_line(error)}", markup=False, style="red")
        where = "failure.json and cnnbench.log in the run folder say where; " if name in MAKE_RUNS else ""
        stderr().print(f"hint: {where}HYDRA_FULL_ERROR=1 prints {'it' if where else 'where'}")
        told, code = {"error": first_line(error)}, EXIT_FAILED
    try:
        output.write(name, told, code)
    except CnnbenchError as error:  # what has ended the command is the news
        explain(error)
    return code


def _answer(arguments: Sequence[str], output: Output) -> int:
    """Answer one line, and write what programs get of it; the exit code."""
    line = list(arguments)
    try:
        line = understood(line, VERBS)
        return _answer_understood(arguments, line, output)
    except UnclearRunError as error:
        raise error.in_line(line) from None


def _answer_understood(arguments: Sequence[str], line: Sequence[str], output: Output) -> int:
    if (said := reading(arguments, line)) is not None:
        stderr().print(said, markup=False, highlight=False, soft_wrap=True)
    asked = meaning(line, VERBS)
    name = asked.name or asked.kind
    try:
        if asked.kind == "verb":
            verb = VERBS[name]
            parser = Parser(f"cnnbench {name}", description=verb.__doc__, epilog=EVERYWHERE)
            answer = verb(parser, asked.arguments)
        elif asked.place is not None:
            answer = _show(asked, asked.place)
        else:
            name, answer = _make_runs(asked.arguments)
        if not isinstance(answer, Answer):
            return output.write_rows(name, answer)
    except HelpAsked as help_asked:
        stdout().print(str(help_asked), end="", markup=False, highlight=False, soft_wrap=True)
        answer = Answer({"help": str(help_asked)})
    output.write(name, answer.content, answer.code)
    return answer.code


def _show(asked: Meaning, place: Path) -> Answer[RunContent | analysis.ComparisonContent]:
    """Show the folder of a run, or what lies below the folder of a sweep."""
    if asked.kind == "run":
        run = api.open_run(place)
        show_run(run)
        return Answer(run_content(run))
    found = api.compare(place)
    reporting.show_comparison(found.analysis)
    return Answer(reporting.comparison_as_json(found.analysis))


# -- a line that makes runs ------------------------------------------------------------------------

EVERYWHERE = (
    "everywhere: --json [FILE.json] writes the answer for programs, --quiet keeps standard output empty, "
    "--verbose prints the log"
)
# Flags of Hydra's that mean nothing here, and what to type instead.
REFUSED_FLAGS = {
    "config_path": ("--config-path", "add a folder of options with --config-dir FOLDER"),
    "config_name": ("--config-name", "choose a preset with experiment=…: cnnbench list experiment"),
    "run": ("--run", "leave it out: a line without -m is one run"),
    "shell_completion": ("--shell-completion", "cnnbench list shows every option"),
    "experimental_rerun": ("--experimental-rerun", "cnnbench resume RUN goes on with a run"),
    "info": ("--info", "--cfg job shows the config, cnnbench explain KEY where a value comes from"),
}


def _flags() -> argparse.ArgumentParser:
    parser = Parser("cnnbench", add_help=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--package", "-p")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--config-dir", "-cd", type=config_folder)
    for name, short in (("run", "-r"), ("shell-completion", "-sc")):
        parser.add_argument(f"--{name}", short, action="store_true")
    for name, short in (("config-path", "-cp"), ("config-name", "-cn")):
        parser.add_argument(f"--{name}", short)
    parser.add_argument("--experimental-rerun")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    return parser


def _make_runs(arguments: Sequence[str]) -> tuple[str, Answer[Any]]:
    """Answer a line that has no verb, and name what it was: a run, a sweep or a question."""
    # Intermixed: people write `model=mlp,cnn -m seed=0,1`.
    flags = _flags().parse_intermixed_args(list(arguments))
    for name, (flag, instead) in REFUSED_FLAGS.items():
        if getattr(flags, name):
            raise CnnbenchError(f"{flag} is not used here", instead)
    if flags.version:
        return "version", _versions()
    if flags.help:
        verbs = {name: (verb.__doc__ or "") for name, verb in VERBS.items()}
        groups = config.options(flags.config_dir)
        overview: Overview = {"verbs": verbs, "groups": groups}
        stdout().print(help_text(groups, verbs), soft_wrap=True, highlight=False)
        return "help", Answer(overview)
    if flags.hydra_help:
        from rich.text import Text

        text = hydra_help_text()
        stdout().print(text, soft_wrap=True, highlight=False)
        return "help", Answer({"help": Text.from_markup(text).plain})
    if flags.cfg:
        return "config", _config(flags)
    exists = rerun.choice(flags.overrides)
    if flags.multirun or sweeps.makes_sweep(flags.overrides):
        line = rerun.sweep_again(flags.overrides, exists)
        with closing(SweepTerminal()) as terminal:
            sweep = sweeps.start_sweep(line, flags.config_dir, terminal)
            terminal.finished(sweep)
        return "sweep", Answer(sweep_content(sweep), sweep.exit_code)
    spec = api.compose(*flags.overrides, config_dir=flags.config_dir)
    with resumable(Path(spec.run_dir or "outputs")):
        known = rerun.run_again(spec, exists)
    if known is not None:
        return "run", Answer(run_content(known))
    spec = api.placed(spec)
    with resumable(spec.folder):
        run = train(spec)
    show_next(run)
    return "run", Answer(run_content(run))


def _versions() -> Answer[Versions]:
    versions: Versions = {
        "cnnbench": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "tensorflow": metadata.version("tensorflow"),
        "keras": metadata.version("keras"),
    }
    lines = [f"{name} {version}" for name, version in versions.items()]
    stdout().print("\n".join(lines), highlight=False)
    return Answer(versions)


def _config(flags: argparse.Namespace) -> Answer[Composed]:
    if flags.multirun:
        raise CnnbenchError("--cfg shows the config of one run", "leave out -m")
    composed = config.compose(flags.overrides, flags.config_dir)
    text = config.as_yaml(composed, flags.cfg, flags.package, flags.resolve)
    if not stdout().quiet:
        write_lines(text.splitlines())
    return Answer({"yaml": text})


# -- inside a process that makes runs of a sweep ---------------------------------------------------


def _serve(kind: str, place: str) -> int:
    sweeps.serve(Path(place), _run_job if kind == "launch" else sweeps.rehearse_job)
    return EXIT_DONE


def _run_job(sweep: sweeps.Sweep, number: int) -> None:
    """Make one run of a sweep; the others go on if it fails."""
    from rich.markup import escape

    job = sweep.jobs[number]
    stdout().rule(f"run {number}: {escape(sweep.varied(number))}", align="left")
    folder = sweep.run_folder(number)
    if folder.status == runs.RUNNING:
        stdout().print("another process is at work in its folder: waiting", highlight=False)
        folder.wait_until_free()
    if sweep.is_settled(number):  # meanwhile
        return
    if not folder.has_run:
        folder.discard_if_untrained()  # killed before its config was written
    try:
        watcher = sweeps.Reporter(sweep, job) if job.trial is not None else None
        spec = config.spec_from(job.config, folder.path, job.overrides)
        spec = replace(spec, ends_at=sweep.timing.get("stop_at"))
        train(spec, watcher, resume=folder.has_run, alone=False)
    except CnnbenchError as error:
        explain(error)
    except PrunedRunError as error:
        stdout().print(f"stopped early: {error}", markup=False, highlight=False)
    except Exception as error:  # noqa: BLE001  the run has recorded it; the others go on
        stderr().print(f"failed: {first_line(error)}", markup=False, style="red")


if __name__ == "__main__":
    sys.exit(main())
