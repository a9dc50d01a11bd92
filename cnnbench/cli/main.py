"""The entry point: a verb, or else a line that makes runs. Only here is printed and exited."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cnnbench import __version__, config, runs, sweeps
from cnnbench.cli.console import SweepTerminal, help_text, hydra_help_text, show_sweep, train
from cnnbench.cli.verbs import VERBS, config_folder
from cnnbench.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_WRONG_INPUT,
    CnnbenchError,
    FolderRefusedError,
    PrunedRunError,
    first_line,
    nearest,
)
from cnnbench.reporting import explain, is_lost, resumable, stderr, stdout, unfailing_streams, write_lines

CHILDREN = (["launch"], ["rehearse"])  # how a sweep and a check start their processes
WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"


def main() -> int:
    """Run what the command line asks for.

    Returns:
        0 done, 1 failed, 2 wrong input, 130 after Ctrl-C, 143 after SIGTERM.
    """
    arguments = sys.argv[1:]
    with unfailing_streams() as printed:
        code = _main(arguments)
        # Of a run the result lies in its folder; of most verbs it is what is printed.
        is_told = bool(arguments) and arguments[0] in VERBS.keys() - {"resume", "check-recipe"}
        return EXIT_FAILED if is_lost(printed) and is_told and code == EXIT_DONE else code


def _main(arguments: Sequence[str]) -> int:
    try:
        if arguments[:1] in CHILDREN:
            make = _run_job if arguments[0] == "launch" else sweeps.rehearse_job
            sweeps.serve(Path(arguments[1]), make)
            return EXIT_DONE
        if arguments and re.fullmatch(r"[a-z][a-z-]*", arguments[0]):
            return _verb(arguments[0], arguments[1:])
        return _make_runs(arguments)
    except CnnbenchError as error:
        if WANTS_TRACEBACK:
            raise
        explain(error)
        return EXIT_WRONG_INPUT
    except KeyboardInterrupt as error:
        if arguments[:1] not in CHILDREN:  # whoever launched it says so
            stderr().print("interrupted", style="yellow")
        return 128 + getattr(error, "number", signal.SIGINT)
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        stderr().print(f"failed: {first_line(error)}", markup=False, style="red")
        stderr().print(
            "hint: failure.json and cnnbench.log in the run folder say where; HYDRA_FULL_ERROR=1 prints it"
        )
        return EXIT_FAILED


def _verb(name: str, arguments: Sequence[str]) -> int:
    verb = VERBS.get(name)
    if verb is None:
        raise CnnbenchError(f"there is no verb {name!r}", f"{nearest(name, VERBS)}; or key=value to run")
    return verb(argparse.ArgumentParser(f"cnnbench {name}", description=verb.__doc__), arguments)


# -- a line that makes runs ------------------------------------------------------------------------

# Flags of Hydra's that mean nothing here, and what to type instead.
REFUSED_FLAGS = {
    "config_path": ("--config-path", "add a folder of options with --config-dir FOLDER"),
    "config_name": ("--config-name", "choose a preset with experiment=…: cnnbench list experiment"),
    "run": ("--run", "leave it out: a line without -m is one run"),
    "shell_completion": ("--shell-completion", "cnnbench list shows every option"),
    "experimental_rerun": ("--experimental-rerun", "cnnbench resume RUN goes on with a run"),
    "info": ("--info", "--cfg job shows the config, cnnbench explain KEY where a value comes from"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CnnbenchError(message, "cnnbench --help lists the flags")


def _flags() -> argparse.ArgumentParser:
    parser = _Parser("cnnbench", add_help=False)
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


def _make_runs(arguments: Sequence[str]) -> int:
    # Intermixed: people write `model=mlp,cnn -m seed=0,1`.
    flags = _flags().parse_intermixed_args(list(arguments))
    for name, (flag, instead) in REFUSED_FLAGS.items():
        if getattr(flags, name):
            raise CnnbenchError(f"{flag} is not used here", instead)
    if flags.version:
        write_lines([f"cnnbench {__version__}"])
    elif flags.help:
        verbs = {name: (verb.__doc__ or "") for name, verb in VERBS.items()}
        stdout().print(help_text(config.options(flags.config_dir), verbs), soft_wrap=True, highlight=False)
    elif flags.hydra_help:
        stdout().print(hydra_help_text(), soft_wrap=True, highlight=False)
    elif flags.cfg:
        if flags.multirun:
            raise CnnbenchError("--cfg shows the config of one run", "leave out -m")
        composed = config.compose(flags.overrides, flags.config_dir)
        write_lines(config.as_yaml(composed, flags.cfg, flags.package, flags.resolve).splitlines())
    elif flags.multirun or sweeps.makes_sweep(flags.overrides):
        return show_sweep(sweeps.start_sweep(flags.overrides, flags.config_dir, SweepTerminal()))
    else:
        _run(flags.overrides, flags.config_dir)
    return EXIT_DONE


def _run(overrides: Sequence[str], config_dir: str | None) -> None:
    composed = config.compose(overrides, config_dir)
    spec = config.run_spec(composed, composed.hydra.runtime.choices, overrides)
    try:
        with resumable(spec.run_dir):
            train(spec)
    except FolderRefusedError:
        raise
    except CnnbenchError:
        runs.RunFolder(spec.run_dir).discard_if_untrained()  # the same run_dir works once it is mended
        raise


# -- inside a process that makes runs of a sweep ---------------------------------------------------


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
        train(spec, resume=folder.has_run, watcher=watcher)
    except CnnbenchError as error:
        explain(error)
    except PrunedRunError as error:
        stdout().print(f"stopped early: {error}", markup=False, highlight=False)
    except Exception as error:  # noqa: BLE001  the run has recorded it; the others go on
        stderr().print(f"failed: {first_line(error)}", markup=False, style="red")


if __name__ == "__main__":
    sys.exit(main())
