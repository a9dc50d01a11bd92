"""The verbs that keep a folder of runs in order: what lies there, tags and notes, what may go."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cnnbench import analysis, config, reporting, runs, sweeps, system
from cnnbench.cli.console import caches_table
from cnnbench.cli.contract import Answer
from cnnbench.cli.typed import OUTPUTS, made_place, run_place
from cnnbench.errors import CnnbenchError

if TYPE_CHECKING:
    from cnnbench.cli.answers import Cleaned, ListedRun, ListedRuns, Remarked


def list_runs(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[ListedRuns]:
    """List runs, the latest first: status, figure, tags and note."""
    parser.add_argument("places", nargs="*", type=made_place, help="run or sweep folders (default: outputs)")
    parser.add_argument("--tag", help="only runs with this tag")
    parser.add_argument("--status", help="only such as are done, failed, interrupted, running, …")
    given = parser.parse_intermixed_args(arguments)
    records = analysis.read_records(runs.find_runs(given.places or _outputs()))
    records = [
        record
        for record in records
        if given.status in (None, record.status) and given.tag in (None, *record.folder.remarks.tags)
    ]
    records.sort(key=lambda record: (record.folder.begun, record.folder.path.name), reverse=True)
    objectives = {record.objective for record in records if record.status == runs.DONE}
    heading = objectives.pop() if len(objectives) == 1 else ""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("run", "status", heading or "figure", "begun"):
        table.add_column(escape(name), no_wrap=True, justify="right" if name == heading else "left")
    for record in records:
        remarks = record.folder.remarks
        said = " ".join([*(f"#{tag}" for tag in remarks.tags), remarks.note]).strip()
        name = f"{record.folder.path}\n  {said}" if said else str(record.folder.path)
        figure = "" if record.status != runs.DONE else reporting.number(record.value)
        cells = (name, record.status, figure if heading else f"{record.objective} {figure}" if figure else "")
        begun = record.folder.begun
        is_today = begun.date() == datetime.now().astimezone().date()
        table.add_row(*map(escape, cells), f"{begun:%H:%M}" if is_today else f"{begun:%Y-%m-%d}")
    reporting.stdout().print(table)
    return Answer({"runs": [_as_json(record) for record in records]})


def _outputs() -> list[Path]:
    if not OUTPUTS.is_dir():
        raise CnnbenchError(
            "there is no folder outputs here", "name a folder with runs: cnnbench runs FOLDER"
        )
    return [OUTPUTS]


def _as_json(record: analysis.Record) -> ListedRun:
    is_done, remarks = record.status == runs.DONE, record.folder.remarks
    return {
        "folder": str(record.folder.path),
        "status": record.status,
        "reason": record.reason,
        "objective": record.objective if is_done else None,
        "value": record.value if is_done else None,
        "begun": record.folder.begun.isoformat(),
        "tags": list(remarks.tags),
        "note": remarks.note,
    }


def tag_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Remarked]:
    """Give a run tags, by which it is found again and kept from `clean`; --remove takes them away."""
    parser.add_argument("run", type=run_place, help="a run: its folder, a file in it, its name, or latest")
    parser.add_argument("tags", nargs="+", metavar="TAG")
    parser.add_argument("--remove", action="store_true", help="take these tags away")
    given = parser.parse_intermixed_args(arguments)
    folder = runs.RunFolder.open(given.run)
    remarks = folder.remarks
    if any(
        not tag.strip() or tag.startswith("-") or any(part.isspace() for part in tag) for tag in given.tags
    ):
        raise CnnbenchError("a tag is one word", "for more of them: cnnbench note RUN 'some words'")
    kept = [tag for tag in remarks.tags if tag not in given.tags]
    tags = tuple(kept if given.remove else [*kept, *dict.fromkeys(given.tags)])
    return _write(folder, runs.Remarks(tags, remarks.note))


def note_run(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Remarked]:
    """Write a note on a run, in the place of the one before; an empty one removes it."""
    parser.add_argument("run", type=run_place, help="a run: its folder, a file in it, its name, or latest")
    parser.add_argument("text", nargs="+")
    given = parser.parse_args(arguments)
    folder = runs.RunFolder.open(given.run)
    return _write(folder, runs.Remarks(folder.remarks.tags, " ".join(given.text).strip()))


def _write(folder: runs.RunFolder, remarks: runs.Remarks) -> Answer[Remarked]:
    config.refuse_links(folder.path)
    folder.write_remarks(remarks)
    said = " ".join([*(f"#{tag}" for tag in remarks.tags), remarks.note]).strip() or "no tag and no note"
    reporting.say(reporting.stdout(), f"{folder.path}: {said}")
    return Answer({"folder": str(folder.path), "tags": list(remarks.tags), "note": remarks.note})


# -- What may go -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A run or a sweep that nobody would miss.

    Attributes:
        path: its folder.
        size: in bytes.
        why: it may go.
    """

    path: Path
    size: int
    why: str


def clean(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer[Cleaned]:
    """Show runs that may go and what the caches hold; --runs removes those, --caches empties these."""
    parser.add_argument("places", nargs="*", type=made_place, help="where runs lie (default: outputs)")
    parser.add_argument("--runs", action="store_true", help="remove the runs that are listed")
    parser.add_argument("--caches", action="store_true", help="empty them; what is in use stays")
    given = parser.parse_intermixed_args(arguments)
    from rich import filesize

    places = given.places or ([OUTPUTS] if OUTPUTS.is_dir() else [])
    candidates = list(_candidates(places))
    if candidates:
        reporting.stdout().print(_candidates_table(candidates))
    elif places:
        reporting.say(reporting.stdout(), "no run may go: all are the best of their kind, tagged or at work")
    for candidate in candidates if given.runs else ():
        remove(candidate.path)
    freed = system.clear_caches() if given.caches else None
    found = system.list_caches()
    reporting.stdout().print(caches_table(found))
    sizes = sum(candidate.size for candidate in candidates)
    lines = []
    if candidates:
        what = f"{len(candidates)} folders of runs, {filesize.decimal(sizes)}"
        lines.append(f"{what}: removed" if given.runs else f"{what}: --runs removes them, tag RUN keeps one")
    if freed is not None:
        lines.append(f"{filesize.decimal(freed)} of caches freed")
    if not given.runs and not given.caches:
        lines.append(
            "nothing was removed: --runs removes the runs that are listed, --caches empties the caches"
        )
    reporting.say(reporting.stdout(), *lines)
    return Answer(
        {
            "runs": [{"path": str(one.path), "size": one.size, "why": one.why} for one in candidates],
            "removed": given.runs,
            "caches": found,
            "freed": freed,
        }
    )


def remove(folder: Path) -> None:
    """Remove the folder of a run or a sweep.

    Raises:
        CnnbenchError: a process is at work in it, or it holds links.
    """
    busy = next((run.path for run in runs.find_runs([folder]) if run.status == runs.RUNNING), None)
    if busy is not None:
        raise CnnbenchError(f"another process is at work in {busy}", "wait for it, or stop it first")
    config.refuse_links(folder)
    shutil.rmtree(folder)


def _candidates(places: Sequence[Path]) -> Iterator[Candidate]:
    """Yield what may go: neither the best of its kind nor tagged nor to go on with; a sweep goes whole."""
    if not places:
        return
    records = analysis.read_records(runs.find_runs(places))
    rankings = analysis.compare_records(records).rankings
    best = {run.path for ranking in rankings for run in ranking.groups[0].runs}
    kept = {
        record.folder.path
        for record in records
        if record.folder.path in best
        or not {record.status, record.folder.status} <= {runs.DONE, runs.FAILED, runs.PRUNED}
        or record.folder.remarks.tags
    }
    by_sweep: dict[Path, list[analysis.Record]] = {}
    for record in records:
        parent = record.folder.path.parent
        whole = parent if sweeps.Sweep.is_one(parent) else record.folder.path
        by_sweep.setdefault(whole, []).append(record)
    for path, members in by_sweep.items():
        if any(member.folder.path in kept for member in members):
            continue
        statuses = ", ".join(dict.fromkeys(member.status for member in members))
        better = (
            "others are better"
            if any(member.status == runs.DONE for member in members)
            else "it has no result"
        )
        size = sum(file.lstat().st_size for file in path.rglob("*"))
        yield Candidate(path, size, f"{statuses}; {better}")


def _candidates_table(candidates: Sequence[Candidate]) -> Table:
    from rich import filesize

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("may go", "size", "why"):
        is_size = heading == "size"
        table.add_column(heading, justify="right" if is_size else "left", overflow="fold", no_wrap=is_size)
    for one in candidates:
        table.add_row(escape(str(one.path)), filesize.decimal(one.size), escape(one.why))
    return table
