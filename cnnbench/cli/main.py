"""The entry point: a verb, or else the Hydra program. Only here is printed and exited."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cnnbench import config, runs, sweeps
from cnnbench.cli.console import help_text, train
from cnnbench.cli.verbs import VERBS
from cnnbench.errors import (
    EXIT_BROKEN_PIPE,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_WRONG_INPUT,
    CnnbenchError,
    FolderRefusedError,
    PrunedRunError,
    first_line,
    nearest,
)
from cnnbench.reporting import explain, resumable, stderr, stdout

WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"


def main() -> int:
    """Run what the command line asks for.

    Returns:
        0 done, 1 failed, 2 wrong input, 130 after Ctrl-C, 143 after SIGTERM.
    """
    arguments = sys.argv[1:]
    try:
        if arguments and arguments[0] == "launch":
            return _launch(arguments[1:])
        if arguments and re.fullmatch(r"[a-z][a-z-]*", arguments[0]):
            return _verb(arguments[0], arguments[1:])
        return _hydra_program(arguments)
    except CnnbenchError as error:
        if WANTS_TRACEBACK:
            raise
        explain(error)
        return EXIT_WRONG_INPUT
    except KeyboardInterrupt as error:
        if arguments[:1] != ["launch"]:  # whoever launched it says so
            stderr().print("interrupted", style="yellow")
        return 128 + getattr(error, "number", signal.SIGINT)
    except BrokenPipeError:  # `cnnbench … | head`: nobody reads on, and that is no failure to report
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
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


# -- the Hydra program --------------------------------------------------------------------------


def _hydra_program(arguments: Sequence[str]) -> int:
    from hydra._internal.utils import get_args_parser

    # Hydra reads overrides on one side of the flags only; people write `model=mlp,cnn -m seed=0,1`.
    flags = get_args_parser().parse_intermixed_args(list(arguments))
    sys.argv[1:] = [text for text in arguments if text not in flags.overrides] + flags.overrides
    if flags.help:
        verbs = {name: (verb.__doc__ or "") for name, verb in VERBS.items()}
        stdout().print(help_text(config.options(flags.config_dir), verbs), soft_wrap=True, highlight=False)
        return EXIT_DONE
    if flags.config_path or flags.config_name:
        raise CnnbenchError("--config-path and --config-name are not used", "add a folder with --config-dir")
    if flags.config_dir:
        config.refuse_hydra_settings(flags.overrides, flags.config_dir)
    if (flags.multirun or sweeps.makes_sweep(flags.overrides)) and not (
        flags.cfg or flags.hydra_help or flags.info
    ):
        return sweeps.start_sweep(flags.overrides, flags.config_dir)
    outcome = Outcome()
    config.forget_other_launchers()
    with config.friendly(flags.overrides, flags.config_dir):
        _hydra_main(outcome.job, str(config.CONF_DIR))
    if outcome.error is not None:
        raise outcome.error
    return EXIT_DONE


def _hydra_main(job: Callable[[Any], object], config_path: str) -> None:
    import hydra

    # With this Hydra raises instead of printing its own message; whoever set it gets tracebacks from us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    hydra.main(version_base="1.3", config_path=config_path, config_name="config")(job)()


class Outcome:
    """What became of the run. Hydra prints a message of its own for what a job raises."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def job(self, cfg: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        try:
            node = HydraConfig.get()
            spec = config.run_spec(cfg, node.runtime.choices, node.overrides.task)
            try:
                with resumable(spec.run_dir):
                    train(spec)
            except FolderRefusedError:
                raise
            except CnnbenchError:
                runs.RunFolder(
                    spec.run_dir
                ).discard_if_untrained()  # the same run_dir works once it is mended
                raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  raised by the caller
            self.error = error


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
