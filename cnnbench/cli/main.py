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
from cnnbench.cli.console import help_text, hydra_help_text, train
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
        if arguments and arguments[0] == "launch":
            return _launch(arguments[1:])
        if arguments and re.fullmatch(r"[a-z][a-z-]*", arguments[0]):
            return _verb(arguments[0], arguments[1:])
        return _make_runs(arguments)
    except CnnbenchError as error:
        if WANTS_TRACEBACK:
            raise
        explain(error)
        return EXIT_WRONG_INPUT
    except KeyboardInterrupt as error:
        if arguments[:1] != ["launch"]:  # whoever launched it says so
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
        return sweeps.start_sweep(flags.overrides, flags.config_dir)
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


def _launch(arguments: Sequence[str]) -> int:
    """Make runs of the stored sweep in a folder: their numbers come on standard input, and go when done."""
    sweeps.stop_with_parent()
    folder = Path(arguments[0])
    sweep = sweeps.Sweep.open(folder)
    with os.fdopen(int(os.environ.pop(sweeps.RESULTS)), "w") as results:
        for line in sys.stdin:
            if int(line) >= len(sweep.jobs):  # which a search has added since
                sweep = sweeps.Sweep.open(folder)
            _run_job(sweep, int(line))
            results.write(line)
            results.flush()
    return EXIT_DONE


def _run_job(sweep: sweeps.Sweep, number: int) -> None:
    """One run of a sweep; the others go on if it fails."""
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
    watcher = None
    if job.trial is not None:
        watcher = sweeps.Reporter(sweep, job)
    try:
        train(
            config.spec_from(job.config, folder.path, job.overrides), resume=folder.has_run, watcher=watcher
        )
    except CnnbenchError as error:
        explain(error)
    except PrunedRunError as error:
        stdout().print(f"stopped early: {error}", markup=False, highlight=False)
    except Exception as error:  # noqa: BLE001  the run has recorded it; the others go on
        stderr().print(f"failed: {first_line(error)}", markup=False, style="red")


if __name__ == "__main__":
    sys.exit(main())
