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

from cnnbench.errors import CnnbenchError, FolderRefusedError, first_line, nearest
from cnnbench.report import BROKEN_PIPE, DONE, FAILED, WRONG_INPUT, explain, resumable, stderr, stdout
from cnnbench.verbs import VERBS

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
        return WRONG_INPUT
    except KeyboardInterrupt as error:
        stderr().print("interrupted", style="yellow")
        return 128 + getattr(error, "number", signal.SIGINT)
    except BrokenPipeError:  # `cnnbench … | head`: nobody reads on, and that is no failure to report
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        stderr().print(f"failed: {first_line(error)}", markup=False, style="red")
        stderr().print(
            "hint: failure.json and cnnbench.log in the run folder say where; HYDRA_FULL_ERROR=1 prints it"
        )
        return FAILED


def _verb(name: str, arguments: Sequence[str]) -> int:
    verb = VERBS.get(name)
    if verb is None:
        raise CnnbenchError(f"there is no verb {name!r}", f"{nearest(name, VERBS)}; or key=value to run")
    return verb(argparse.ArgumentParser(f"cnnbench {name}", description=verb.__doc__), arguments)


# -- the Hydra program --------------------------------------------------------------------------


def _hydra_program(arguments: Sequence[str]) -> int:
    from hydra._internal.utils import get_args_parser

    from cnnbench import config, sweeping
    from cnnbench.options import CONF_DIR, options
    from cnnbench.overrides import friendly
    from cnnbench.report import help_text

    # Hydra reads overrides on one side of the flags only; people write `model=mlp,cnn -m seed=0,1`.
    flags = get_args_parser().parse_intermixed_args(list(arguments))
    sys.argv[1:] = [text for text in arguments if text not in flags.overrides] + flags.overrides
    if flags.help:
        verbs = {name: (verb.__doc__ or "") for name, verb in VERBS.items()}
        stdout().print(help_text(options(flags.config_dir), verbs), soft_wrap=True, highlight=False)
        return DONE
    if flags.config_path or flags.config_name:
        raise CnnbenchError("--config-path and --config-name are not used", "add a folder with --config-dir")
    if flags.config_dir:
        if not Path(flags.config_dir).is_dir():
            raise CnnbenchError(f"--config-dir {flags.config_dir} is no folder", f"looked from {Path.cwd()}")
        config.refuse_hydra_settings(flags.overrides, flags.config_dir)
    if flags.multirun and not (flags.cfg or flags.hydra_help or flags.info):
        return sweeping.start(flags.overrides, flags.config_dir)
    outcome = Outcome()
    with friendly(flags.overrides, flags.config_dir):
        _hydra_main("config", outcome.job, str(CONF_DIR))
    if outcome.error is not None:
        raise outcome.error
    return DONE


def _hydra_main(config_name: str, job: Callable[[Any], object], config_path: str | None = None) -> None:
    import hydra

    # With this Hydra raises instead of printing its own message; whoever set it gets tracebacks from us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    hydra.main(version_base="1.3", config_path=config_path, config_name=config_name)(job)()


class Outcome:
    """What became of the run. Hydra prints a message of its own for what a job raises."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def job(self, cfg: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        from cnnbench.config import run_spec
        from cnnbench.results import RunFolder
        from cnnbench.terminal import train

        try:
            node = HydraConfig.get()
            spec = run_spec(cfg, node.runtime.choices, node.overrides.task)
            try:
                with resumable(spec.run_dir):
                    train(spec)
            except FolderRefusedError:
                raise
            except CnnbenchError:
                RunFolder(spec.run_dir).discard_if_untrained()  # the same run_dir works once it is mended
                raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  raised by the caller
            self.error = error


# -- inside the process that runs a sweep ---------------------------------------------------------


def _launch(arguments: Sequence[str]) -> int:
    """Run some jobs of a stored sweep by Hydra's launcher: the folder, their numbers, Hydra's settings."""
    from hydra.core.config_store import ConfigStore

    from cnnbench.supervise import stop_with_parent
    from cnnbench.sweeps import quoted

    folder, numbers, *settings = arguments
    stop_with_parent()
    quiet = [{f"override hydra/{log}": "none"} for log in ("job_logging", "hydra_logging")]
    here = {"output_subdir": None, "run": {"dir": "."}, "sweep": {"dir": folder, "subdir": "."}}
    ConfigStore.instance().store(
        "launch", {"defaults": ["_self_", *quiet], "sweep": "", "job": 0, "hydra": here}
    )
    sys.argv[1:] = ["--multirun", *settings, f"sweep={quoted(folder)}", f"job={numbers}"]
    _hydra_main("launch", run_job)
    return DONE


def run_job(cfg: Any) -> float | None:
    """One run of a sweep, in whatever process the launcher has chosen; the others go on if it fails.

    Returns:
        its objective; None where it failed, which its folder says too.
    """
    from cnnbench.config import spec_from
    from cnnbench.supervise import SESSION
    from cnnbench.sweeps import Sweep
    from cnnbench.terminal import train

    sweep = Sweep.open(Path(cfg.sweep))
    job = sweep.jobs[int(cfg.job)]
    sweep.note_start(job.number, os.environ[SESSION])
    stdout().rule(f"run {job.number}: {' '.join(job.overrides)}", align="left")
    folder = sweep.run_folder(job.number)
    try:
        spec = spec_from(job.config, folder.path, job.overrides)
        return train(spec, resume=folder.has_run).value
    except CnnbenchError as error:
        explain(error)
    except Exception as error:  # noqa: BLE001  the run has recorded it; the others go on
        stderr().print(f"failed: {first_line(error)}", markup=False, style="red")
    return None


if __name__ == "__main__":
    sys.exit(main())
