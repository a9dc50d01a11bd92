"""The entry point: a verb, or else the Hydra program. Only here is printed and exited."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench.errors import CnnbenchError, FolderRefusedError, nearest
from cnnbench.report import BROKEN_PIPE, DONE, FAILED, INTERRUPTED, WRONG_INPUT, stderr, stdout
from cnnbench.verbs import VERBS

if TYPE_CHECKING:
    from rich.console import Console

    from cnnbench.spec import RunSpec

WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"


def main() -> int:
    """Run what the command line asks for.

    Returns:
        0 done, 1 failed, 2 wrong input, 130 interrupted.
    """
    arguments = sys.argv[1:]
    try:
        if arguments and re.fullmatch(r"[a-z][a-z-]*", arguments[0]):
            return _verb(arguments[0], arguments[1:])
        return _hydra_program(arguments)
    except CnnbenchError as error:
        return _explain(error)
    except KeyboardInterrupt:
        stderr().print("interrupted", style="yellow")
        return INTERRUPTED
    except BrokenPipeError:  # `cnnbench … | head`: nobody reads on, and that is no failure to report
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        stderr().print(f"failed: {error or type(error).__name__}", markup=False, style="red")
        stderr().print(
            "hint: failure.json and cnnbench.log in the run folder say where; HYDRA_FULL_ERROR=1 prints it"
        )
        return FAILED


def _verb(name: str, arguments: Sequence[str]) -> int:
    verb = VERBS.get(name)
    if verb is None:
        raise CnnbenchError(f"there is no verb {name!r}", f"{nearest(name, VERBS)}; or key=value to run")
    return verb(argparse.ArgumentParser(f"cnnbench {name}", description=verb.__doc__), arguments)


def _explain(error: CnnbenchError) -> int:
    if WANTS_TRACEBACK:
        raise error
    console = stderr()
    console.print(f"error: {error.message}", markup=False, style="red")
    if error.hint:
        console.print(f"hint: {error.hint}", markup=False)
    return WRONG_INPUT


# -- the Hydra program --------------------------------------------------------------------------


def _hydra_program(arguments: Sequence[str]) -> int:
    import hydra
    from hydra._internal.utils import get_args_parser

    from cnnbench import config
    from cnnbench.options import CONF_DIR, options
    from cnnbench.report import help_text

    # Hydra reads overrides on one side of the flags only; people write `model=mlp,cnn -m seed=0,1`.
    flags = get_args_parser().parse_intermixed_args(list(arguments))
    sys.argv[1:] = [text for text in arguments if text not in flags.overrides] + flags.overrides
    if flags.help:
        verbs = {name: (verb.__doc__ or "") for name, verb in VERBS.items()}
        stdout().print(help_text(options(flags.config_dir), verbs), soft_wrap=True, highlight=False)
        return DONE
    outcome = Outcome()
    if flags.config_path or flags.config_name:
        raise CnnbenchError("--config-path and --config-name are not used", "add a folder with --config-dir")
    if flags.config_dir:
        if not Path(flags.config_dir).is_dir():
            raise CnnbenchError(f"--config-dir {flags.config_dir} is no folder", f"looked from {Path.cwd()}")
        config.refuse_hydra_settings(flags.overrides, flags.config_dir)
    sweep: Path | None = None
    if flags.multirun and not (flags.cfg or flags.hydra_help or flags.info):
        sweep = _prepare_sweep(flags.overrides, flags.config_dir)
        sys.argv.append(f"hydra.sweep.dir={config.quoted(str(sweep.resolve()))}")
    # With this Hydra raises instead of printing its own message; whoever set it gets tracebacks from us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    program = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")
    with config.friendly(flags.overrides, flags.config_dir):
        program(outcome.job)()
    if outcome.error is not None:
        raise outcome.error
    return DONE if sweep is None else _compare_sweep(sweep)


def _prepare_sweep(overrides: Sequence[str], config_dir: str | None) -> Path:
    """Check every run of a sweep before the first one starts, and make the folder that they share."""
    from cnnbench import config
    from cnnbench.files import new_sweep_folder

    wanted: str | None = None
    for number, job in enumerate(config.sweep_jobs(overrides, config_dir)):
        try:
            composed = config.compose(job, config_dir)
            config.check_config(config.plain(composed))
        except CnnbenchError as error:
            where = f"run {number} of the sweep ({' '.join(job)})"
            raise CnnbenchError(f"{where}: {error.message}", error.hint) from error
        wanted = composed.run_dir
    return new_sweep_folder(wanted)


class Outcome:
    """What became of the runs of this process. Hydra prints a message of its own for what a job raises."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def job(self, cfg: Any) -> float | None:
        """One training. In a sweep a failure is recorded in its folder and the others go on."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        node = HydraConfig.get()
        try:
            if node.mode == RunMode.MULTIRUN:
                return _run_in_sweep(cfg, node)
            return _run_alone(cfg, node)
        except (Exception, KeyboardInterrupt) as error:
            self.error = error
            if isinstance(error, KeyboardInterrupt):
                raise  # the rest of a sweep must not start
        return None


def _run_alone(cfg: Any, node: Any) -> float:
    from cnnbench.config import run_spec
    from cnnbench.results import RunFolder

    spec = run_spec(cfg, node.runtime.choices, node.overrides.task)
    try:
        return _run(spec)
    except FolderRefusedError:
        raise
    except CnnbenchError:
        RunFolder(spec.run_dir).discard_if_untrained()  # so that the same run_dir works once it is mended
        raise


def _run_in_sweep(cfg: Any, node: Any) -> float | None:
    from cnnbench.config import run_spec

    number = int(node.job.num)
    spec = run_spec(cfg, node.runtime.choices, node.overrides.task, Path(node.sweep.dir), number)
    stdout().rule(f"run {number}: {' '.join(node.overrides.task)}", align="left")
    try:
        return _run(spec)
    except CnnbenchError as error:
        _explain(error)
    except Exception as error:  # noqa: BLE001  the run has recorded it; the others go on
        stderr().print(f"failed: {error}", markup=False, style="red")
    return None


def _run(spec: RunSpec) -> float:
    from cnnbench.run import run
    from cnnbench.terminal import Terminal

    console = stdout()
    _log_to(console)
    observer = Terminal(console)
    try:
        return run(spec, observer).value
    finally:
        observer.close()


def _log_to(console: Console) -> None:
    """Warnings of ours and of Python to the terminal, above the progress bar; all of it to the run's log."""
    from rich.logging import RichHandler

    log = logging.getLogger("cnnbench")
    log.setLevel(logging.DEBUG)
    if not log.handlers:
        logging.captureWarnings(True)
        handler = RichHandler(logging.INFO, console=console, show_time=False, show_path=False)
        handler.addFilter(_is_for_the_terminal)
        for name in ("cnnbench", "py.warnings"):
            logging.getLogger(name).addHandler(handler)


def _is_for_the_terminal(record: logging.LogRecord) -> bool:
    """Warnings, and what is marked as worth a line before a wait; a traceback is for the log file."""
    return not record.exc_info and (record.levelno >= logging.WARNING or getattr(record, "notice", False))


def _compare_sweep(folder: Path) -> int:
    from cnnbench.compare import compare
    from cnnbench.results import find_runs
    from cnnbench.verbs import show_comparison

    comparison = compare(find_runs([folder]))
    show_comparison(comparison)
    stdout().print(f"results: {folder}", markup=False, highlight=False, soft_wrap=True)
    return FAILED if comparison.others else DONE


if __name__ == "__main__":
    sys.exit(main())
